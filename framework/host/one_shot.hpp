// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "registry.hpp"

#include <stead/control/paths.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace stead::host {

/// Asks each plugin of the module to remove what a dead host left (addresses, filters). Returns the exit code.
[[nodiscard]] int cleanup_module(const std::string& module, const Registry& registry, const control::Paths& paths);

/// Where a hook runs outside of a module's life.
struct HookPlace {
    std::string module;
    std::string node;             ///< as steadd knows it; "" before there is a cluster
    std::filesystem::path active; ///< folder of the configuration; empty: the one in force
};

/// Runs one hook outside of a module's life (config, postconfig, deconfig, confcheck, update, state, level); its output
/// goes to stdout and, but for the last two, to the user log. Returns the hook's exit code, 0 when there is no such
/// hook or no <user>.
[[nodiscard]] int run_one_hook(const HookPlace& place, const std::string& hook,
                               const std::vector<std::string>& arguments, const Registry& registry,
                               const control::Paths& paths);

/// What the hooks would do, as one JSON object on stdout: {"ok", "text", "findings"}. Returns 0, or 1 when there are
/// errors.
[[nodiscard]] int rehearse_module(const HookPlace& place, const Registry& registry, const control::Paths& paths);

} // namespace stead::host
