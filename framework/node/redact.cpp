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
constexpr std::string_view blanks = " \t";
bool is_blank(char c) { return blanks.find(c) != blanks.npos; }

/// `text[at]` is a quote: the place after its twin, else the end of the line.
std::size_t end_of_quoted(std::string_view text, std::size_t at) {
    const std::size_t end = text.find_first_of(std::string{text[at]} + "\n", at + 1);
    return std::min(end, text.size());
}

struct Range {
    std::size_t begin{}, end{};
};

/// What a long string of Lua holds, [[…]] or [==[…]==], if one begins at `at`.
std::optional<Range> long_string(std::string_view text, std::size_t at) {
    std::size_t begin = at + 1;
    while (begin < text.size() && text[begin] == '=') {
        ++begin;
    }
    if (at >= text.size() || text[at] != '[' || begin >= text.size() || text[begin] != '[') {
        return std::nullopt;
    }
    const std::string close = "]" + std::string(begin - at - 1, '=') + "]";
    return Range{begin + 1, std::min(text.find(close, begin + 1), text.size())};
}

/// The value that begins at `at`: quoted, or up to blank space, quote, separator or markup.
Range value_at(std::string_view text, std::size_t at) {
    if (at < text.size() && (text[at] == '"' || text[at] == '\'')) {
        return {at + 1, end_of_quoted(text, at)};
    }
    if (const auto range = long_string(text, at)) {
        return *range;
    }
    return {at, std::min(text.find_first_of(" \t\r\n\"'<>;,&|)}", at), text.size())};
}

bool equal_names(char a, char b) {
    return std::toupper(static_cast<unsigned char>(a)) == std::toupper(static_cast<unsigned char>(b));
}

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> names) {
    return std::ranges::any_of(names, [&](std::string_view one) { return std::ranges::equal(word, one, equal_names); });
}

std::size_t after(std::string_view text, std::size_t at, std::string_view skipped) {
    return std::min(text.find_first_not_of(skipped, at), text.size());
}

std::size_t after_quote(std::string_view text, std::size_t at) {
    return at < text.size() && (text[at] == '"' || text[at] == '\'') ? at + 1 : at;
}

/// What stands behind a name that ends at `end`: =, => or :, perhaps behind a quote, Lua's ] and blanks. Of
/// "Authorization: Basic dTpw" both words.
std::optional<Range> assigned(std::string_view text, std::size_t end) {
    std::size_t at = after_quote(text, end);
    if (at < text.size() && text[at] == ']') {
        ++at;
    }
    at = after(text, at, blanks);
    if (at == text.size() || (text[at] != '=' && text[at] != ':')) {
        return std::nullopt;
    }
    at += text.substr(at).starts_with("=>") ? 2 : 1;
    Range value = value_at(text, after(text, at, blanks));
    const std::string_view word = text.substr(value.begin, value.end - value.begin);
    if (is_one_of(word, {"basic", "bearer", "digest", "token"}) && value.end < text.size() &&
        is_blank(text[value.end])) {
        value.end = value_at(text, after(text, value.end, blanks)).end;
    }
    return value;
}

/// What stands behind the word "Bearer" that ends at `end`, if it may be a token: it has a digit, other than a word
/// of a sentence.
std::optional<Range> borne(std::string_view text, std::size_t end) {
    const Range value = value_at(text, after(text, end, blanks));
    const bool has_digit = text.substr(value.begin, value.end - value.begin).find_first_of("0123456789") != text.npos;
    return value.begin > end && has_digit ? std::optional{value} : std::nullopt;
}

/// In scheme://user:password@host, where `at` is that of "://".
std::optional<Range> url_password(std::string_view text, std::size_t at) {
    at += 3;
    const std::string_view authority = text.substr(at, text.find_first_of("/ \t\r\n\"'<>", at) - at);
    const std::size_t colon = authority.find(':'), end = authority.rfind('@');
    return end != authority.npos && colon < end ? std::optional{Range{at + colon + 1, at + end}} : std::nullopt;
}

/// Where `begin`..`end` is a word that begins with '-': in `--password VALUE` (also "--password", "VALUE" in a list),
/// and in `curl -u user:password`, also `-su`, `-uuser:password`, `--user=…`. Numbers on both sides are a user and a
/// group.
std::optional<Range> argument_password(std::string_view text, std::size_t begin, std::size_t end) {
    const std::string_view word = text.substr(begin, end - begin);
    if (is_secret_name(word)) {
        const std::size_t at = after(text, after_quote(text, end), " \t,");
        const bool is_option = text.substr(after_quote(text, at)).starts_with('-');
        return at > end && !is_option ? std::optional{value_at(text, at)} : std::nullopt;
    }
    const bool is_long = word.starts_with("--");
    if (is_long ? !is_one_of(word, {"--user", "--proxy-user"}) : !word.starts_with("-u") && !word.ends_with('u')) {
        return std::nullopt;
    }
    const bool attached = !is_long && word.starts_with("-u") && word.size() > 2;
    const Range value = value_at(text, attached ? begin + 2 : after(text, after_quote(text, end), " \t=,"));
    const std::string_view pair = text.substr(value.begin, value.end - value.begin);
    const std::size_t colon = pair.find(':');
    const bool is_other = pair.starts_with('+') || // date -u +%H:%M
                          pair.find_first_not_of("0123456789:") == pair.npos || pair.find("://") != pair.npos;
    return colon == pair.npos || is_other ? std::nullopt : std::optional{Range{value.begin + colon + 1, value.end}};
}

/// Commands whose one-letter option is a password: `mysql -pPASSWORD`, `sshpass -p PASSWORD`, `redis-cli -a PASSWORD`.
std::optional<Range> command_password(std::string_view text, std::size_t begin, std::size_t end) {
    struct Option {
        std::string_view command, option;
        bool detached;
    };
    static constexpr std::array<Option, 4> options{
        {{"mysql", "-p", false}, {"mariadb", "-p", false}, {"sshpass", "-p", true}, {"redis-cli", "-a", true}}};
    const std::size_t line = text.rfind('\n', begin) + 1; // npos + 1 = 0
    const std::string_view before = text.substr(line, begin - line), word = text.substr(begin, end - begin);
    for (const auto& [command, option, detached] : options) {
        if (!word.starts_with(option) || before.find(command) == before.npos) {
            continue;
        }
        const bool alone = word.size() == option.size() && (end == text.size() || is_blank(text[end]));
        if (!alone || detached) {
            return value_at(text, alone ? after(text, end, blanks) : begin + option.size());
        }
    }
    return std::nullopt;
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

/// In {"name":"custom.DB_PASS", "value":"…"}, as resources are told: the value after the secret name that ends at `at`.
std::optional<Range> member_value(std::string_view text, std::size_t at) {
    const auto skip = [&](std::string_view word) {
        at = std::min(text.find_first_not_of(" \t\r\n", at), text.size());
        const bool there = text.substr(at).starts_with(word);
        at += there ? word.size() : 0;
        return there;
    };
    if (at >= text.size() || text[at] != '"' || !skip("\"") || !skip(",") || !skip("\"value\"") || !skip(":") ||
        !skip("\"")) {
        return std::nullopt;
    }
    const std::size_t begin = at;
    while (at < text.size() && text[at] != '"') {
        at += text[at] == '\\' ? 2 : 1;
    }
    return Range{begin, std::min(at, text.size())};
}

/// Calls `found(Range)` for every value of a secret name and every password in a URL, in order of the text.
template <class Found>
void for_each_secret(std::string_view text, Found found) {
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t begin = at;
        while (at < text.size() && is_name_byte(text[at])) {
            ++at;
        }
        const std::string_view name = text.substr(begin, at - begin);
        std::optional<Range> value;
        if (name.empty()) {
            ++at;
        } else if (is_secret_name(name)) {
            value = assigned(text, at);
            if (!value) {
                value = is_one_of(name, {"bearer"}) ? borne(text, at) : element_value(text, begin, at);
            }
            value = value ? value : member_value(text, at);
        } else if (text.substr(at).starts_with("://")) {
            value = url_password(text, at);
        }
        if (value && value->end > value->begin) {
            found(*value);
        }
    }
}

/// All values that a text alone tells, in its order; they may overlap. Those of arguments are not searched elsewhere:
/// what `-u` takes is no password for certain.
std::vector<Range> secrets_in(std::string_view text) {
    std::vector<Range> ranges;
    for_each_secret(text, [&](Range range) { ranges.push_back(range); });
    for (std::size_t begin = 0; (begin = text.find('-', begin)) != text.npos;) {
        std::size_t end = begin;
        while (end < text.size() && is_name_byte(text[end])) {
            ++end;
        }
        if (begin == 0 || !is_name_byte(text[begin - 1])) {
            auto value = argument_password(text, begin, end);
            value = value ? value : command_password(text, begin, end);
            if (value && value->end > value->begin) {
                ranges.push_back(*value);
            }
        }
        begin = end;
    }
    std::ranges::sort(ranges, {}, &Range::begin);
    return ranges;
}

/// AUTH as a word of its own: DB_AUTH, authHeader, HTTPAuth2, but not author.
bool has_auth(std::string_view name) {
    constexpr std::string_view auth = "AUTH";
    const auto is = [&](int (*kind)(int), std::size_t at) {
        return at < name.size() && kind(static_cast<unsigned char>(name[at])) != 0;
    };
    for (std::size_t at = 0; at + auth.size() <= name.size(); ++at) {
        const std::size_t end = at + auth.size();
        const bool begins = at == 0 || !is(std::isalpha, at - 1) ||
                            (is(std::isupper, at) && (is(std::islower, at - 1) || is(std::islower, at + 1)));
        const bool ends = !is(std::isalpha, end) || (is(std::islower, end - 1) && is(std::isupper, end));
        if (begins && ends && std::ranges::equal(name.substr(at, auth.size()), auth, equal_names)) {
            return true;
        }
    }
    return false;
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
    constexpr std::array<std::string_view, 8> words{"PASS", "PWD",        "SECRET",        "TOKEN",
                                                    "KEY",  "CREDENTIAL", "AUTHORIZATION", "BEARER"};
    return has_auth(name) || std::ranges::any_of(words, [&](std::string_view word) {
               return !std::ranges::search(name, word, equal_names).empty();
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
    for (const Range range : secrets_in(text)) {
        if (range.begin >= copied) {
            result.append(text, copied, range.begin - copied).append(removed);
        }
        copied = std::max(copied, range.end);
    }
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
