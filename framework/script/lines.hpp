// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace stead::script {

/// Cuts a stream of bytes into lines that a log can hold: at most `bytes_max` each (the rest of a longer line is
/// dropped, with a mark), control characters and bytes that are not UTF-8 written as \xNN.
class LineSplitter {
public:
    using Emit = std::function<void(std::string_view line)>;
    LineSplitter(std::size_t bytes_max, Emit emit) : bytes_max_(bytes_max), emit_(std::move(emit)) {}
    void add(std::string_view bytes);
    void finish(); ///< a last line without newline

private:
    void emit_line();
    std::size_t bytes_max_;
    Emit emit_;
    std::string line_;
    bool cut_{};
};

} // namespace stead::script
