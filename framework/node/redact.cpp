// SPDX-License-Identifier: Apache-2.0
#include <stead/node/redact.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

namespace stead::node {
namespace {

constexpr std::string_view removed = "(removed)";
constexpr std::size_t secret_bytes_min =
    3; // "no" and "1" stand everywhere; in its own place a value goes whatever it is

bool is_name_byte(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-'; }
bool is_blank(char c) { return c == ' ' || c == '\t'; }

/// `text[at]` is a quote: the place after its twin, else the end of the line.
std::size_t end_of_quoted(std::string_view text, std::size_t at) {
    const std::size_t end = text.find_first_of(std::string{text[at]} + "\n", at + 1);
    return std::min(end, text.size());
}

struct Range {
    std::size_t begin{}, end{};
};

/// The value that begins at `at`: quoted, or up to blank space, quote, separator or markup.
Range value_at(std::string_view text, std::size_t at) {
    if (at < text.size() && (text[at] == '"' || text[at] == '\'')) {
        return {at + 1, end_of_quoted(text, at)};
    }
    return {at, std::min(text.find_first_of(" \t\r\n\"'<>;,&|)}", at), text.size())};
}

/// What stands behind a name that ends at `end`: = or :, perhaps behind a quote and blanks.
std::optional<Range> assigned(std::string_view text, std::size_t end) {
    std::size_t at = end;
    if (at < text.size() && (text[at] == '"' || text[at] == '\'')) {
        ++at;
    }
    while (at < text.size() && is_blank(text[at])) {
        ++at;
    }
    if (at == text.size() || (text[at] != '=' && text[at] != ':')) {
        return std::nullopt;
    }
    ++at;
    while (at < text.size() && is_blank(text[at])) {
        ++at;
    }
    return value_at(text, at);
}

/// In <var name="DB_PASS" value="…">: the value that belongs to the secret name in quotes at `begin`..`end`.
std::optional<Range> element_value(std::string_view text, std::size_t begin, std::size_t end) {
    const std::size_t open = text.rfind('<', begin), close = text.find('>', end);
    if (open == std::string_view::npos || close == std::string_view::npos ||
        text.substr(open, begin - open).find('>') != std::string_view::npos) {
        return std::nullopt;
    }
    const std::size_t value = text.substr(open, close - open).find("value");
    if (value == std::string_view::npos) {
        return std::nullopt;
    }
    return assigned(text, open + value + 5);
}

/// Calls `found(Range)` for every value of a secret name, in order of the names.
template <class Found>
void for_each_secret(std::string_view text, Found found) {
    for (std::size_t at = 0; at < text.size();) {
        if (!is_name_byte(text[at])) {
            ++at;
            continue;
        }
        const std::size_t begin = at;
        while (at < text.size() && is_name_byte(text[at])) {
            ++at;
        }
        if (!is_secret_name(text.substr(begin, at - begin))) {
            continue;
        }
        const bool quoted = begin > 0 && (text[begin - 1] == '"' || text[begin - 1] == '\'');
        auto value = assigned(text, at);
        if (!value && quoted) {
            value = element_value(text, begin, at);
        }
        if (value && value->end > value->begin) {
            found(*value);
        }
    }
}

std::string without_private_keys(std::string text) {
    constexpr std::string_view begin = "-----BEGIN", end = "-----END";
    for (std::size_t at = 0; (at = text.find(begin, at)) != text.npos;) {
        const std::size_t line = std::min(text.find('\n', at), text.size());
        if (text.substr(at, line - at).find("PRIVATE KEY") == text.npos) {
            at = line;
            continue;
        }
        const std::size_t stop = std::min(text.find(end, line), text.size());
        text.replace(line, stop - line, "\n" + std::string(removed) + "\n");
        at = line + removed.size();
    }
    return text;
}

} // namespace

bool is_secret_name(std::string_view name) noexcept {
    constexpr std::array<std::string_view, 6> words{"PASS", "PWD", "SECRET", "TOKEN", "KEY", "CREDENTIAL"};
    return std::ranges::any_of(words, [&](std::string_view word) {
        return std::ranges::search(name, word, [](char a, char b) {
                   return std::toupper(static_cast<unsigned char>(a)) == b;
               }).begin() != name.end();
    });
}

std::set<std::string> secret_values(std::string_view xml) {
    std::set<std::string> values;
    for_each_secret(xml, [&](Range range) {
        std::string value(xml.substr(range.begin, range.end - range.begin));
        const bool is_macro = value.size() > 2 && value.front() == '%' && value.back() == '%'; // its own value is found
        if (value.size() >= secret_bytes_min && !is_macro) {
            values.insert(std::move(value));
        }
    });
    return values;
}

std::string redacted(std::string text, const std::set<std::string>& secrets) {
    text = without_private_keys(std::move(text));
    std::string result;
    std::size_t copied = 0;
    for_each_secret(text, [&](Range range) {
        if (range.begin >= copied) {
            result.append(text, copied, range.begin - copied).append(removed);
            copied = range.end;
        }
    });
    result.append(text, copied, text.npos);
    for (const std::string& secret : secrets) {
        for (std::size_t at = 0; (at = result.find(secret, at)) != result.npos; at += removed.size()) {
            result.replace(at, secret.size(), removed);
        }
    }
    return result;
}

} // namespace stead::node
