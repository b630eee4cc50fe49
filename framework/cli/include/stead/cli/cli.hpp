// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/control/command.hpp>
#include <stead/control/paths.hpp>

#include <string_view>

/// The parts of the program `stead`. Each prints for a person, or with --json for a program, and returns an exit code
/// of control/command.hpp.
namespace stead::cli {

/// Makes cluster.key: 32 random bytes, mode 0600. An existing key is replaced only with --force.
[[nodiscard]] int generate_key(const control::Invocation& invocation, const control::Paths& paths);

/// Removes cluster.key. Refused while the node belongs to a cluster.
[[nodiscard]] int delete_key(const control::Invocation& invocation, const control::Paths& paths);

/// Sends the command to steadd and prints what comes back.
[[nodiscard]] int ask_daemon(const control::Invocation& invocation, const control::Paths& paths);

/// Prints a log as it grows, until interrupted.
[[nodiscard]] int view_log(const control::Invocation& invocation, const control::Paths& paths);

/// Every error goes through here: "stead: MESSAGE" on stderr, or {"error":MESSAGE,"exit":CODE} on stdout.
/// Returns the exit code.
int fail(bool as_json, int code, std::string_view message);
int fail(bool as_json, const Error& error);

/// `text` on stdout with a newline at its end, or {NAME:text}.
void print_text(bool as_json, std::string_view name, std::string_view text);

} // namespace stead::cli
