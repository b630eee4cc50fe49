// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace stead {

/// Bytes of the character at the start of `s`, 0 when there is none (surrogates and longer forms than needed are none).
[[nodiscard]] std::size_t utf8_length(std::string_view s) noexcept;

[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

/// For a person, of any bytes: what is no UTF-8, and control characters but those of `kept`, as \xNN. No more than
/// `bytes_max` bytes, whole characters.
[[nodiscard]] std::string printable(std::string_view bytes, std::string_view kept = "\t",
                                    std::size_t bytes_max = std::string_view::npos);

/// JSON as a serializer made it, for parsers that take UTF-8 only: other bytes, which strings may hold, become \xNN.
[[nodiscard]] std::string utf8_json(std::string text);

} // namespace stead
