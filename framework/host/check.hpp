// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "registry.hpp"

#include <stead/config/config.hpp>
#include <stead/control/paths.hpp>

#include <boost/json/object.hpp>

#include <filesystem>
#include <string>

/// What steadd and people ask about plugins and configurations without running a module.
namespace stead::host {

struct CheckRequest {
    std::string module;
    std::filesystem::path conf, bin, cluster; ///< cluster: empty = names are not checked against cluster.xml
    std::filesystem::path out;                ///< empty = write nothing
    std::filesystem::path running;            ///< folder of the configuration that runs: what may not change is told
};

/// "bin/start_both.lua:12" becomes file and line.
[[nodiscard]] config::Finding finding_of(const Error& error, bool warning);
[[nodiscard]] boost::json::object to_json(const config::Finding& finding);

/// Prints one JSON object to stdout. Returns 0 when the configuration is good, else 1.
[[nodiscard]] int check_module(const CheckRequest& request, const Registry& registry, const control::Paths& paths);

/// The elements and attributes of every plugin, as JSON, and the libraries that were refused.
[[nodiscard]] std::string schema_json(const Registry& registry, const control::Paths& paths);

} // namespace stead::host
