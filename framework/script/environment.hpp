// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/script/script.hpp>

namespace stead::script {

/// The whole environment of a hook's processes: a sane PATH, LANG and HOME, the names that classic scripts expect,
/// STEAD_HOOK_ID, and every <var> (which may not replace the classic names).
[[nodiscard]] std::map<std::string, std::string> hook_environment(const ModuleFolders& folders,
                                                                  const std::string& hook_id);

/// <prefix>/libexec/stead/stead-leash, or empty when it is not there.
[[nodiscard]] std::filesystem::path leash_program(const ModuleFolders& folders);

/// "10s", "500ms", "2m", "1h", "1d", "20us"; a bare number means seconds. Empty when it is none of these.
[[nodiscard]] std::optional<nanoseconds> parse_duration(std::string_view text);

} // namespace stead::script
