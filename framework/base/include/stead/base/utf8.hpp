// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

namespace stead {

/// Bytes of the character at the start of `s`, 0 when there is none (surrogates and longer forms than needed are none).
[[nodiscard]] std::size_t utf8_length(std::string_view s) noexcept;

[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

} // namespace stead
