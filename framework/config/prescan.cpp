// SPDX-License-Identifier: Apache-2.0
#include "prescan.hpp"

#include <stead/base/utf8.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <regex>
#include <vector>

namespace stead::config {

namespace {

constexpr std::size_t declaration_bytes_max = 200;

class Scanner {
public:
    Scanner(std::string xml, Report& report) : text_(std::move(xml)), report_(report) {}

    bool run() {
        if (!characters()) {
            return false;
        }
        while (at_ < text_.size()) {
            if (!step()) {
                return false;
            }
        }
        // What is cut off within a tag or a comment is for the XML library to report.
        if (!open_.empty() && !in_tag_ && !cut_off_) {
            const Open& last = open_.back();
            report_.error(last.line, "not well-formed XML: <" + shown(last.name) +
                                         "> is opened here and never closed; " + "'</" + shown(last.name) +
                                         ">' is missing");
            return false;
        }
        return true;
    }
    std::string take() { return std::move(text_); }

private:
    [[nodiscard]] bool starts(std::string_view what) const {
        return std::string_view{text_}.substr(at_).starts_with(what);
    }

    bool characters() {
        int line = 1;
        for (std::size_t at = 0; at < text_.size();) {
            const auto c = static_cast<unsigned char>(text_[at]);
            if (c == '\n') {
                ++line;
            } else if ((c < 0x20 && c != '\t' && c != '\r') || c == 0x7F) {
                report_.error(line, "control character " + std::to_string(c) + "; a configuration is UTF-8 text");
                return false;
            }
            const auto length = utf8_length(std::string_view{text_}.substr(at));
            if (length == 0) {
                report_.error(line, "byte " + std::to_string(c) +
                                        " is not UTF-8; save the file as UTF-8, or begin it with " +
                                        "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?> if that is what it is");
                return false;
            }
            at += length;
        }
        return true;
    }

    bool step() {
        if (quote_ != 0 && text_[at_] != '&') {
            return tag_character(); // "<!--" within a value is a value
        }
        if (starts("<!--")) {
            skip_to("-->");
        } else if (starts("<![CDATA[")) {
            skip_to("]]>");
        } else if (starts("<?")) {
            skip_to("?>");
        } else if (starts("<!DOCTYPE")) {
            return blank_doctype();
        } else if (text_[at_] == '&') {
            return entity();
        } else {
            return tag_character();
        }
        return true;
    }

    /// Counts attributes before the XML library, which compares each with all others, sees them.
    bool tag_character() {
        const char c = text_[at_];
        if (quote_ != 0) {
            quote_ = c == quote_ ? '\0' : quote_;
        } else if (c == '<') {
            attributes_ = 0;
            in_tag_ = true;
            tag_ = at_ + 1;
            tag_line_ = line_;
        } else if (in_tag_ && c == '>') {
            in_tag_ = false;
            if (!tag_ended()) {
                return false;
            }
        } else if (in_tag_ && (c == '"' || c == '\'')) {
            quote_ = c;
            if (++attributes_ > attributes_max) {
                report_.error(line_, "more than " + std::to_string(attributes_max) + " attributes in one element");
                return false;
            }
        }
        advance();
        return true;
    }

    /// Pairs start and end tags: the XML library knows neither which tag is open nor its line.
    bool tag_ended() {
        std::string_view tag = std::string_view{text_}.substr(tag_, at_ - tag_);
        const bool is_end = tag.starts_with('/');
        tag.remove_prefix(is_end ? 1 : 0);
        const auto name = tag.substr(0, std::min(tag.find_first_of(" \t\r\n/"), tag.size()));
        if (name.empty() || (!is_end && tag.ends_with('/'))) {
            return true;
        }
        if (!is_end && open_.size() == depth_max) {
            report_.error(tag_line_, "elements are nested too deeply; at most " + std::to_string(depth_max) +
                                         " levels are allowed");
            return false;
        }
        if (!is_end) {
            open_.push_back({std::string{name}, tag_line_});
            return true;
        }
        if (open_.empty()) {
            report_.error(tag_line_, "not well-formed XML: '</" + shown(name) + ">' ends what was never opened");
            return false;
        }
        const Open& last = open_.back();
        if (last.name != name) {
            report_.error(tag_line_, "not well-formed XML: '</" + shown(name) + ">' does not match <" +
                                         shown(last.name) + ">, which is opened in line " + std::to_string(last.line));
            return false;
        }
        open_.pop_back();
        return true;
    }

    void advance() { line_ += text_[at_++] == '\n' ? 1 : 0; }

    /// A missing end is for the XML library to report.
    void skip_to(std::string_view end) {
        const auto stop = text_.find(end, at_);
        const auto target = stop == std::string::npos ? text_.size() : stop + end.size();
        cut_off_ = stop == std::string::npos;
        while (at_ < target) {
            advance();
        }
    }

    bool blank_doctype() {
        const int first_line = line_;
        int depth = 0;
        char quote = 0;
        while (at_ < text_.size()) {
            if (quote == 0 && starts("<!--")) {
                const auto begin = at_;
                skip_to("-->");
                blank(begin, at_);
                continue;
            }
            const char c = text_[at_];
            const auto here = at_;
            advance();
            blank(here, at_);
            if (quote != 0) {
                quote = c == quote ? '\0' : quote;
            } else if (c == '"' || c == '\'') {
                quote = c;
            } else if (c == '<' || c == '[') {
                ++depth;
            } else if (c == '>' || c == ']') {
                --depth;
                if (depth == 0 && c == '>') {
                    return true;
                }
            }
        }
        report_.error(first_line, "not well-formed XML: the DOCTYPE does not end");
        return false;
    }

    void blank(std::size_t begin, std::size_t end) {
        for (auto i = begin; i < end; ++i) {
            text_[i] = text_[i] == '\n' ? '\n' : ' ';
        }
    }

    bool entity() {
        const auto end = text_.find(';', at_);
        const auto length = end == std::string::npos ? 0 : end - at_ - 1;
        const auto name = std::string_view{text_}.substr(at_ + 1, std::min<std::size_t>(length, 64));
        constexpr std::array<std::string_view, 5> known{"amp", "lt", "gt", "quot", "apos"};
        for (const auto k : known) {
            if (name == k) {
                at_ = end + 1;
                return true;
            }
        }
        if (name.starts_with('#') && character_reference(name.substr(1))) {
            at_ = end + 1;
            return true;
        }
        const bool is_name = !name.empty() && length <= 64 && name.find_first_of(" \t\r\n<>&\"'=") == name.npos;
        report_.error(line_, is_name ? "entity '&" + shown(name) +
                                           ";' is not defined; allowed: &amp; &lt; &gt; &quot; &apos; &#NUMBER;, and "
                                           "<macro> for texts of your own"
                                     : "a single '&'; write '&amp;'");
        return false;
    }

    static bool character_reference(std::string_view digits) {
        int base = 10;
        if (digits.starts_with('x') || digits.starts_with('X')) {
            base = 16;
            digits.remove_prefix(1);
        }
        unsigned value = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
        if (error != std::errc{} || end != digits.data() + digits.size()) {
            return false;
        }
        const bool control = value < 0x20 && value != '\t' && value != '\n' && value != '\r';
        return !control && value <= 0x10FFFF && !(value >= 0xD800 && value <= 0xDFFF);
    }

    struct Open {
        std::string name;
        int line{};
    };

    std::string text_;
    Report& report_;
    std::size_t at_{};
    int line_{1};
    std::size_t attributes_{}; // of the tag that is open
    bool in_tag_{};
    std::size_t tag_{}; // where the name of the tag that is open begins
    int tag_line_{1};
    std::vector<Open> open_;
    bool cut_off_{}; // within a comment, CDATA or <?
    char quote_{};
};

/// Older classic modules are in Latin-1, and say so. What is UTF-8 all the same stays as it is.
std::string to_utf8(std::string_view xml) {
    static const std::regex latin("<\\?xml[^>]*\\sencoding\\s*=\\s*[\"'](iso-8859-1|latin1)[\"'][^>]*",
                                  std::regex::icase);
    const std::string_view declaration = xml.substr(0, std::min(xml.find("?>"), declaration_bytes_max));
    if (!std::regex_match(declaration.begin(), declaration.end(), latin) || is_utf8(xml)) {
        return std::string(xml);
    }
    std::string text;
    for (const char c : xml) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x80) {
            text += c;
        } else {
            text += static_cast<char>(0xC0 | (byte >> 6));
            text += static_cast<char>(0x80 | (byte & 0x3F));
        }
    }
    return text;
}

} // namespace

std::optional<std::string> prescan(std::string_view xml, Report& report) {
    if (xml.starts_with("\xFE\xFF") || xml.starts_with("\xFF\xFE")) {
        report.error(1, "the file is UTF-16; save it as UTF-8");
        return std::nullopt;
    }
    if (xml.starts_with("\xEF\xBB\xBF")) {
        xml.remove_prefix(3);
    }
    Scanner scanner{to_utf8(xml), report};
    if (!scanner.run()) {
        return std::nullopt;
    }
    return scanner.take();
}

} // namespace stead::config
