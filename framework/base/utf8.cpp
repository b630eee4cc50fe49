// SPDX-License-Identifier: Apache-2.0
#include <stead/base/utf8.hpp>

#include <cstdint>

namespace stead {

std::size_t utf8_length(std::string_view s) noexcept {
    if (s.empty()) {
        return 0;
    }
    const auto first = static_cast<unsigned char>(s[0]);
    const std::size_t length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (length == 1) {
        return 1;
    }
    if (first < 0xc2 || first > 0xf4 || s.size() < length) {
        return 0;
    }
    std::uint32_t code = first & (0xffu >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
        const auto next = static_cast<unsigned char>(s[i]);
        if ((next & 0xc0) != 0x80) {
            return 0;
        }
        code = (code << 6) | (next & 0x3fu);
    }
    const bool too_long = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    const bool no_character = (code >= 0xd800 && code < 0xe000) || code > 0x10ffff;
    return too_long || no_character ? 0 : length;
}

bool is_utf8(std::string_view text) noexcept {
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        if (length == 0) {
            return false;
        }
        text.remove_prefix(length);
    }
    return true;
}

std::string utf8_json(std::string text) {
    if (is_utf8(text)) {
        return text;
    }
    static constexpr char digits[] = "0123456789abcdef";
    std::string made;
    for (std::string_view rest = text; !rest.empty();) {
        const std::size_t length = utf8_length(rest);
        if (length == 0) {
            const auto byte = static_cast<unsigned char>(rest[0]);
            made += R"(\\x)"; // a backslash of the string
            made += digits[byte >> 4];
            made += digits[byte & 15];
        } else {
            made += rest.substr(0, length);
        }
        rest.remove_prefix(length == 0 ? 1 : length);
    }
    return made;
}

} // namespace stead
