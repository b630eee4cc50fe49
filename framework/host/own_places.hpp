// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/config/config.hpp>
#include <stead/control/paths.hpp>

#include <string>
#include <vector>

namespace stead::host {

/// What `module` names and only one module of a node may have (the directories of a mirror, as a whole), and another
/// module's active configuration names as well: an error for each, with its line. A virtual address of two modules is a
/// warning: as long as only one of them runs. So is a port of both. Reads the configurations in force;
/// one that cannot be read any more says nothing.
[[nodiscard]] std::vector<config::Finding> places_of_others(const std::string& name, const config::Module& module,
                                                            const config::SchemaSet& schemas,
                                                            const control::Paths& paths);

} // namespace stead::host
