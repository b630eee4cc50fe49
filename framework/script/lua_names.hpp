// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace stead::script {

/// A use of `stead.a` or `stead.a.b` in a Lua text.
struct NameUse {
    int line{};
    std::vector<std::string> names; ///< one or two
};

/// Every use outside of comments and strings. The text need not be correct Lua.
[[nodiscard]] std::vector<NameUse> stead_names(std::string_view text);

} // namespace stead::script
