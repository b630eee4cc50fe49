// SPDX-License-Identifier: Apache-2.0
#include "lua_names.hpp"

#include <algorithm>

namespace stead::script {

namespace {

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

class Scanner {
public:
    explicit Scanner(std::string_view text) : text_(text) {}

    std::vector<NameUse> run() {
        bool after_dot = false; // x.stead is somebody else's
        while (at_ < text_.size()) {
            if (skip_blank()) {
                continue;
            }
            if (is_word(text_[at_])) {
                const std::string_view first = word();
                if (first == "stead" && !after_dot) {
                    add_use();
                }
                after_dot = false;
                continue;
            }
            after_dot = text_[at_] == '.' || text_[at_] == ':';
            ++at_;
        }
        return std::move(uses_);
    }

private:
    void step() { line_ += text_[at_++] == '\n' ? 1 : 0; }

    std::string_view word() {
        const std::size_t begin = at_;
        while (at_ < text_.size() && is_word(text_[at_])) {
            ++at_;
        }
        return text_.substr(begin, at_ - begin);
    }

    /// The level of a long bracket that opens here, or -1.
    [[nodiscard]] int long_bracket() const {
        std::size_t i = at_ + 1;
        while (i < text_.size() && text_[i] == '=') {
            ++i;
        }
        return text_[at_] == '[' && i < text_.size() && text_[i] == '[' ? static_cast<int>(i - at_ - 1) : -1;
    }

    void skip_long(int level) {
        const std::string end = "]" + std::string(static_cast<std::size_t>(level), '=') + "]";
        const std::size_t stop = std::min(text_.find(end, at_), text_.size());
        while (at_ < stop) {
            step();
        }
        at_ = std::min(at_ + end.size(), text_.size());
    }

    void skip_string(char quote) {
        for (++at_; at_ < text_.size() && text_[at_] != quote && text_[at_] != '\n'; step()) {
            if (text_[at_] == '\\' && at_ + 1 < text_.size()) {
                step();
            }
        }
        if (at_ < text_.size()) {
            step();
        }
    }

    /// Skips white space, a comment or a string; false: something else is here.
    bool skip_blank() {
        const char c = text_[at_];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            step();
            return true;
        }
        if (text_.substr(at_, 2) == "--") {
            at_ += 2;
            const int level = at_ < text_.size() ? long_bracket() : -1;
            level >= 0 ? skip_long(level) : skip_line();
            return true;
        }
        if (c == '"' || c == '\'') {
            skip_string(c);
            return true;
        }
        if (const int level = long_bracket(); level >= 0) {
            skip_long(level);
            return true;
        }
        return false;
    }

    void skip_line() { at_ = std::min(text_.find('\n', at_), text_.size()); }

    void add_use() {
        NameUse use{.line = line_, .names = {}};
        while (use.names.size() < 2) {
            const std::size_t before = at_;
            const int line = line_;
            while (at_ < text_.size() && skip_blank_only()) {
            }
            if (at_ + 1 >= text_.size() || text_[at_] != '.' || text_[at_ + 1] == '.' || text_[at_ + 1] == '=') {
                at_ = before;
                line_ = line;
                break;
            }
            ++at_;
            while (at_ < text_.size() && skip_blank_only()) {
            }
            const std::string_view name = at_ < text_.size() ? word() : std::string_view();
            if (name.empty()) {
                break;
            }
            use.names.emplace_back(name);
        }
        if (!use.names.empty()) {
            uses_.push_back(std::move(use));
        }
    }

    bool skip_blank_only() {
        const char c = text_[at_];
        const bool blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';
        if (blank) {
            step();
        }
        return blank;
    }

    std::string_view text_;
    std::size_t at_{};
    int line_{1};
    std::vector<NameUse> uses_;
};

} // namespace

std::vector<NameUse> stead_names(std::string_view text) { return Scanner(text).run(); }

} // namespace stead::script
