// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "document.hpp"

namespace stead::config {

/// What the XML library does not check: UTF-8, control characters, entities, limits of nesting it would meet only after
/// recursing. Returns the text without byte order mark and with the DOCTYPE blanked (lines keep their numbers).
[[nodiscard]] std::optional<std::string> prescan(std::string_view xml, Report& report);

} // namespace stead::config
