// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <sys/types.h>

#include <string>

namespace stead::control {

/// Who stead-web runs as: user stead-web where there is one, else nobody. Never a member of group stead.
struct WebUser {
    std::string name, group;
    uid_t uid{};
    gid_t gid{};
};
/// Errors: not_found, when the machine knows neither.
[[nodiscard]] Result<WebUser> web_user();

} // namespace stead::control
