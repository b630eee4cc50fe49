// SPDX-License-Identifier: Apache-2.0
#include <stead/node/redact.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

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

/// The attributes of the element whose tag begins at `at`; values may hold > and line ends, the tag may be broken.
template <class Found>
void for_each_attribute(std::string_view text, std::size_t at, Found found) {
    constexpr std::string_view blank = " \t\r\n";
    at = std::min(text.find_first_of("> \t\r\n", at), text.size());
    while ((at = text.find_first_not_of(blank, at)) != text.npos && text[at] != '>' && text[at] != '/') {
        const std::size_t equal = text.find_first_of("=<>", at);
        const std::size_t quote = equal == text.npos ? equal : text.find_first_not_of(blank, equal + 1);
        if (quote == text.npos || text[equal] != '=' || (text[quote] != '"' && text[quote] != '\'')) {
            return;
        }
        const std::size_t end = std::min(text.find(text[quote], quote + 1), text.size());
        const std::string_view name = text.substr(at, equal - at);
        found(name.substr(0, name.find_last_not_of(blank) + 1), Range{quote + 1, end});
        at = std::min(end + 1, text.size());
    }
}

/// In <var name="DB_PASS" value="…">: the value that belongs to the secret name at `begin`..`end`.
std::optional<Range> element_value(std::string_view text, std::size_t begin, std::size_t end) {
    const std::size_t open = text.rfind('<', begin);
    if (open == std::string_view::npos) {
        return std::nullopt;
    }
    bool is_named = false;
    std::optional<Range> value;
    for_each_attribute(text, open, [&](std::string_view name, Range range) {
        is_named = is_named || (name == "name" && range.begin <= begin && end <= range.end);
        value = name == "value" ? range : value;
    });
    return is_named ? value : std::nullopt;
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
        auto value = assigned(text, at);
        if (!value) {
            value = element_value(text, begin, at);
        }
        if (value && value->end > value->begin) {
            found(*value);
        }
    }
}

/// As the application sees what is written so in XML.
std::string decoded(std::string_view xml) {
    constexpr std::array<std::pair<std::string_view, char>, 5> names{
        {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}}};
    std::string text;
    while (!xml.empty()) {
        const auto known = std::ranges::find_if(names, [&](const auto& one) { return xml.starts_with(one.first); });
        unsigned number = 0;
        const std::size_t end = xml.starts_with("&#") ? xml.find(';') : xml.npos;
        const bool hex = end != xml.npos && xml[2] == 'x';
        const char* first = xml.data() + (hex ? 3 : 2);
        if (known != names.end()) {
            text += known->second;
            xml.remove_prefix(known->first.size());
        } else if (end != xml.npos &&
                   std::from_chars(first, xml.data() + end, number, hex ? 16 : 10).ptr == xml.data() + end &&
                   number > 0 && number < 0x80) {
            text += static_cast<char>(number);
            xml.remove_prefix(end + 1);
        } else {
            text += xml.front();
            xml.remove_prefix(1);
        }
    }
    return text;
}

/// As it stands in JSON.
std::string in_json(std::string_view text) {
    std::string escaped;
    for (const char c : text) {
        escaped += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
    }
    return escaped;
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
            values.insert({value, decoded(value), in_json(decoded(value))});
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
    std::vector<std::string> longest_first(secrets.begin(), secrets.end()); // one may be the beginning of another
    std::ranges::stable_sort(longest_first, std::greater{}, &std::string::size);
    for (const std::string& secret : longest_first) {
        for (std::size_t at = 0; (at = result.find(secret, at)) != result.npos; at += removed.size()) {
            result.replace(at, secret.size(), removed);
        }
    }
    return result;
}

} // namespace stead::node
