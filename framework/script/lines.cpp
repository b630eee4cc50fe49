// SPDX-License-Identifier: Apache-2.0
#include "lines.hpp"

#include <stead/base/utf8.hpp>
#include <stead/script/script.hpp>

namespace stead::script {

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
