// SPDX-License-Identifier: Apache-2.0
#include <stead/base/utf8.hpp>

#include <cstdint>

namespace stead {
namespace {

std::string hex(unsigned char byte) {
    static constexpr char digits[] = "0123456789abcdef";
    return {digits[byte >> 4], digits[byte & 15]};
}

} // namespace

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

std::string printable(std::string_view bytes, std::string_view kept, std::size_t bytes_max) {
    std::string text;
    while (!bytes.empty()) {
        const auto first = static_cast<unsigned char>(bytes[0]);
        const std::size_t length = utf8_length(bytes);
        const bool control = (first < 0x20 && kept.find(bytes[0]) == kept.npos) || first == 0x7f;
        const bool shown = length > 0 && !control;
        const std::string next = shown ? std::string{bytes.substr(0, length)} : "\\x" + hex(first);
        if (text.size() + next.size() > bytes_max) {
            break;
        }
        text += next;
        bytes.remove_prefix(shown ? length : 1);
    }
    return text;
}

std::string utf8_json(std::string text) {
    if (is_utf8(text)) {
        return text;
    }
    std::string made;
    for (std::string_view rest = text; !rest.empty();) {
        const std::size_t length = utf8_length(rest);
        // A backslash of the string, where there is no character.
        made += length == 0 ? R"(\\x)" + hex(static_cast<unsigned char>(rest[0])) : std::string{rest.substr(0, length)};
        rest.remove_prefix(length == 0 ? 1 : length);
    }
    return made;
}

} // namespace stead
