// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "registry.hpp"

#include <stead/control/paths.hpp>

#include <string>
#include <vector>

namespace stead::host {

/// Asks each plugin of the module to remove what a dead host left (addresses, filters). Returns the exit code.
[[nodiscard]] int cleanup_module(const std::string& module, const Registry& registry, const control::Paths& paths);

/// Runs one hook outside of a module's life (config, postconfig, deconfig, confcheck, level, …); its output goes to
/// stdout. Returns the hook's exit code, 0 when there is no such hook.
[[nodiscard]] int run_one_hook(const std::string& module, const std::string& hook,
                               const std::vector<std::string>& arguments, const Registry& registry,
                               const control::Paths& paths);

} // namespace stead::host
