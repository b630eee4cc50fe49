// SPDX-License-Identifier: Apache-2.0
#include "lines.hpp"

#include <stead/base/utf8.hpp>
#include <stead/script/script.hpp>

namespace stead::script {

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
