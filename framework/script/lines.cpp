// SPDX-License-Identifier: Apache-2.0
#include "lines.hpp"

#include <stead/script/script.hpp>

#include <cstdint>

namespace stead::script {

namespace {

/// Length of the UTF-8 sequence at the start of `s`, 0 when it is none.
std::size_t utf8_length(std::string_view s) {
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

} // namespace

std::string printable(std::string_view bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    while (!bytes.empty()) {
        const auto first = static_cast<unsigned char>(bytes[0]);
        const std::size_t length = utf8_length(bytes);
        if (length == 0 || (first < 0x20 && first != '\t') || first == 0x7f) {
            text += "\\x";
            text += digits[first >> 4];
            text += digits[first & 15];
            bytes.remove_prefix(1);
        } else {
            text += bytes.substr(0, length);
            bytes.remove_prefix(length);
        }
    }
    return text;
}

void LineSplitter::add(std::string_view bytes) {
    while (!bytes.empty()) {
        const std::size_t end = bytes.find('\n');
        const std::string_view part = bytes.substr(0, end);
        const std::size_t room = bytes_max_ - line_.size();
        line_ += part.substr(0, room);
        cut_ = cut_ || part.size() > room;
        if (end == std::string_view::npos) {
            return;
        }
        emit_line();
        bytes.remove_prefix(end + 1);
    }
}

void LineSplitter::finish() {
    if (!line_.empty() || cut_) {
        emit_line();
    }
}

void LineSplitter::emit_line() {
    if (!line_.empty() && line_.back() == '\r') {
        line_.pop_back();
    }
    std::string text = printable(line_);
    if (cut_) {
        text += " [cut: longer than " + std::to_string(bytes_max_) + " bytes]";
    }
    line_.clear();
    cut_ = false;
    emit_(text);
}

} // namespace stead::script
