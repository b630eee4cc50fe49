// SPDX-License-Identifier: Apache-2.0
#include "document.hpp"

#include "prescan.hpp"

#include <tinyxml2.h>

#include <algorithm>

namespace stead::config {

namespace {

using tinyxml2::XMLElement;

std::string_view reason(tinyxml2::XMLError error) {
    switch (error) {
    case tinyxml2::XML_ERROR_PARSING_ELEMENT: return "a tag is not complete: '<name attribute=\"value\">' is expected";
    case tinyxml2::XML_ERROR_PARSING_ATTRIBUTE:
        return "an attribute is written twice or not complete: name=\"value\" is expected";
    case tinyxml2::XML_ERROR_PARSING_TEXT: return "the file ends within text";
    case tinyxml2::XML_ERROR_PARSING_CDATA: return "a CDATA section does not end: ']]>' is missing";
    case tinyxml2::XML_ERROR_PARSING_COMMENT: return "a comment does not end: '-->' is missing";
    case tinyxml2::XML_ERROR_PARSING_DECLARATION: return "'<?xml ...?>' does not end, or is not at the beginning";
    case tinyxml2::XML_ERROR_PARSING_UNKNOWN: return "a '<!' construct does not end";
    case tinyxml2::XML_ERROR_EMPTY_DOCUMENT: return "there is no XML element in the file";
    case tinyxml2::XML_ERROR_MISMATCHED_ELEMENT: return "an end tag does not match its start tag";
    case tinyxml2::XML_ELEMENT_DEPTH_EXCEEDED: return "elements are nested too deeply; at most 32 levels are allowed";
    default: return "the XML does not parse";
    }
}

class Converter {
public:
    Converter(std::string_view source, Report& report) : source_(source), report_(report) {
        line_starts_.push_back(0);
        for (std::size_t end = source.find('\n'); end != std::string_view::npos; end = source.find('\n', end + 1)) {
            line_starts_.push_back(end + 1);
        }
    }

    Raw convert(const XMLElement& element, int depth) {
        Raw raw;
        raw.name = element.Name();
        raw.line = element.GetLineNum();
        ++elements_;
        if (elements_ > elements_max) {
            fail(raw.line, "more than " + std::to_string(elements_max) + " elements");
            return raw;
        }
        if (depth > depth_max) {
            fail(raw.line,
                 "elements are nested too deeply; at most " + std::to_string(depth_max) + " levels are allowed");
            return raw;
        }
        take_attributes(element, raw);
        take_children(element, raw, depth);
        return raw;
    }
    [[nodiscard]] bool stopped() const noexcept { return stopped_; }

private:
    void fail(int line, std::string text) {
        if (!stopped_) {
            report_.error(line, std::move(text));
        }
        stopped_ = true;
    }

    static void take_attributes(const XMLElement& element, Raw& raw) {
        for (const auto* a = element.FirstAttribute(); a != nullptr; a = a->Next()) {
            raw.attributes.push_back({a->Name(), a->Value(), a->GetLineNum()});
        }
    }

    void take_children(const XMLElement& element, Raw& raw, int depth) {
        bool after_cdata = false;
        for (const auto* node = element.FirstChild(); node != nullptr && !stopped_; node = node->NextSibling()) {
            if (const auto* child = node->ToElement()) {
                raw.children.push_back(convert(*child, depth + 1));
            } else if (const auto* text = node->ToText()) {
                if (text->CData() && after_cdata) {
                    raw.text += "\n\f\n";
                }
                if (raw.text_starts.empty() || (text->CData() && after_cdata)) {
                    raw.text_starts.push_back(start_of(*text));
                }
                after_cdata = after_cdata || text->CData();
                raw.text += text->Value();
            } else if (const auto* unknown = node->ToUnknown()) {
                report_.error(node->GetLineNum(), "'<!" + shown(unknown->Value()) + ">' is not allowed here");
            }
        }
    }

    /// What a person would look at: a line is not searched to its end when that is far.
    [[nodiscard]] std::string_view source_line(int number) const {
        constexpr std::size_t bytes_max = 4096;
        const auto line = static_cast<std::size_t>(number) - 1;
        const auto rest = line < line_starts_.size() ? source_.substr(line_starts_[line], bytes_max) : "";
        return rest.substr(0, rest.find('\n'));
    }

    /// The parser tells the line of a CDATA's bracket, or of the first character of a text that is not blank.
    [[nodiscard]] TextStart start_of(const tinyxml2::XMLText& text) const {
        constexpr std::string_view bracket = "<![CDATA[";
        const std::string_view value = text.Value();
        const int line = text.GetLineNum();
        const auto column_of = [&](std::string_view what) {
            const std::string_view here = source_line(line);
            const std::size_t found = here.find(what);
            const std::size_t at = found == std::string_view::npos ? 0 : found;
            return static_cast<int>(std::ranges::count_if(
                here.substr(0, at), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
        };
        if (text.CData()) {
            return {line, column_of(bracket) + static_cast<int>(bracket.size()) + 1};
        }
        const auto blank = value.substr(0, value.find_first_not_of(" \t\r\n"));
        const auto lines = static_cast<int>(std::ranges::count(blank, '\n'));
        return lines > 0 ? TextStart{line - lines, 1}
                         : TextStart{line, column_of(value.substr(0, value.find_first_of("\r\n"))) + 1};
    }

    std::string_view source_;
    std::vector<std::size_t> line_starts_;
    Report& report_;
    std::size_t elements_{};
    bool stopped_{};
};

/// One element, and nothing else that means anything, at the top.
const XMLElement* find_root(const tinyxml2::XMLDocument& document, Report& report) {
    const XMLElement* root = nullptr;
    for (const auto* node = document.FirstChild(); node != nullptr; node = node->NextSibling()) {
        if (const auto* element = node->ToElement()) {
            if (root != nullptr) {
                report.error(element->GetLineNum(), "a second top element <" + shown(element->Name()) +
                                                        ">: a file has one, here <" + shown(root->Name()) + ">");
            } else {
                root = element;
            }
        } else if (node->ToText() != nullptr || node->ToUnknown() != nullptr) {
            report.error(node->GetLineNum(), "'" + shown(node->Value()) + "' stands outside the top element");
        }
    }
    if (root == nullptr && report.errors() == 0) {
        report.error(1, "there is no XML element in the file");
    }
    return root;
}

} // namespace

const Raw::Attribute* Raw::attribute(std::string_view attribute_name) const {
    const auto at = std::ranges::find(attributes, attribute_name, &Attribute::name);
    return at == attributes.end() ? nullptr : &*at;
}

void Report::add(bool warning, int line, std::string message) {
    errors_ += warning ? 0 : 1;
    if (findings_.size() >= findings_max) {
        ++dropped_;
        return;
    }
    findings_.push_back({warning, file_, std::max(line, 1), std::move(message)});
}

std::vector<Finding> Report::take() {
    std::ranges::stable_sort(findings_, {}, &Finding::line);
    if (dropped_ > 0) {
        findings_.push_back({errors_ == 0, file_, findings_.back().line,
                             "and " + std::to_string(dropped_) + " more findings; correct these first"});
    }
    return std::move(findings_);
}

std::optional<Raw> parse_document(std::string_view xml, Report& report) {
    if (xml.size() > file_bytes_max) {
        report.error(1, "the file has " + std::to_string(xml.size()) + " bytes; at most " +
                            std::to_string(file_bytes_max) + " are allowed");
        return std::nullopt;
    }
    const auto text = prescan(xml, report);
    if (!text) {
        return std::nullopt;
    }
    tinyxml2::XMLDocument document{true, tinyxml2::PRESERVE_WHITESPACE};
    if (const auto error = document.Parse(text->data(), text->size()); error != tinyxml2::XML_SUCCESS) {
        report.error(document.ErrorLineNum(), "not well-formed XML: " + std::string{reason(error)});
        return std::nullopt;
    }
    const XMLElement* root = find_root(document, report);
    if (root == nullptr || report.errors() != 0) {
        return std::nullopt;
    }
    Converter converter{*text, report};
    Raw raw = converter.convert(*root, 1);
    if (converter.stopped()) {
        return std::nullopt;
    }
    return raw;
}

std::string escape(std::string_view text) {
    std::string out;
    out.reserve(text.size() + 16);
    for (const char c : text) {
        switch (c) {
        case '&': out += "&amp;"; break;
        case '<': out += "&lt;"; break;
        case '>': out += "&gt;"; break;
        case '"': out += "&quot;"; break;
        case '\n': out += "&#10;"; break;
        case '\t': out += "&#9;"; break;
        case '\r': out += "&#13;"; break;
        default: out += c;
        }
    }
    return out;
}

std::string shown(std::string_view text) {
    constexpr std::size_t bytes_max = 80;
    std::string out{text.substr(0, bytes_max)};
    while (text.size() > bytes_max && !out.empty() && (static_cast<unsigned char>(out.back()) & 0xC0) == 0x80) {
        out.pop_back(); // not in the middle of a UTF-8 character
    }
    std::ranges::replace_if(
        out, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, '?');
    if (text.size() > bytes_max) {
        if (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xC0) == 0xC0) {
            out.pop_back();
        }
        out += "...";
    }
    return out;
}

} // namespace stead::config
