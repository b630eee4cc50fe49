// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "document.hpp"

#include <string_view>

namespace stead::config {

/// Reports a `<var>` that no environment can hold, that Stead sets itself for every script, or that would leave scripts
/// without a sound PATH.
void check_variable(int line, std::string_view name, std::string_view value, Report& report);

} // namespace stead::config
