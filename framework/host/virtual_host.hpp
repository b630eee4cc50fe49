// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/config/config.hpp>

#include <filesystem>
#include <vector>

namespace stead::host {

/// <vhost>: what of it cannot be, or would have no effect. `bin` is the module's folder of scripts.
[[nodiscard]] std::vector<config::Finding> virtual_host_findings(const config::Module& module,
                                                                 const std::filesystem::path& bin);

/// Makes each envfile in `bin`, and notes in `generated`, one name a line, what was made. A script that reads it with
/// "." starts programs that find another host name (host_name.cpp does it).
[[nodiscard]] Result<void> write_virtual_hosts(const config::Module& module, const std::filesystem::path& bin,
                                               const std::filesystem::path& generated,
                                               const std::filesystem::path& library);

} // namespace stead::host
