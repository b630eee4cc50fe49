// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/control/paths.hpp>

#include <string>

/// The count that maxloop looks at, as text of automaton::LoopGuard: the host writes it, and steadd when a host died.
/// It lies below /var and outlives a reboot. While that takes no writes it lies below /run: an application that fails
/// because the disk is full must not be restarted for ever.
namespace stead::control {

/// Errors: not_found, io.
[[nodiscard]] Result<std::string> read_loop_count(const Paths& paths, const std::string& module);
/// Errors: io, when neither place takes it.
[[nodiscard]] Result<void> write_loop_count(const Paths& paths, const std::string& module, const std::string& text);
void remove_loop_count(const Paths& paths, const std::string& module);

} // namespace stead::control
