// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

/// What an administrator has switched in one module, kept over stop and start: one small file each in the module's var
/// folder, named like the resource that shows it ("usersetting.failover"). The host writes while it runs, else steadd.
namespace stead::control {

inline constexpr std::string_view user_setting_prefix = "usersetting.";

/// By resource name, with the prefix. A folder that is not there has none.
[[nodiscard]] std::map<std::string, std::string> read_user_settings(const std::filesystem::path& folder);

/// `name` with the prefix; letters, digits, '_', '-' and '.'. Errors: out_of_range for another name; io.
[[nodiscard]] Result<void> write_user_setting(const std::filesystem::path& folder, const std::string& name,
                                              std::string_view value);

} // namespace stead::control
