// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/control/command.hpp>
#include <stead/control/paths.hpp>

/// The parts of the program `stead`. Each prints for a person and returns an exit code of control/command.hpp.
namespace stead::cli {

/// Makes cluster.key: 32 random bytes, mode 0600. An existing key is replaced only with --force.
[[nodiscard]] int generate_key(const control::Invocation& invocation, const control::Paths& paths);

/// Sends the command to steadd and prints what comes back.
[[nodiscard]] int ask_daemon(const control::Invocation& invocation, const control::Paths& paths);

/// Prints a log as it grows, until interrupted.
[[nodiscard]] int view_log(const control::Invocation& invocation, const control::Paths& paths);

} // namespace stead::cli
