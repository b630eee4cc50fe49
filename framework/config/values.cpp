// SPDX-License-Identifier: Apache-2.0
#include "values.hpp"

#include "document.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

namespace stead::config {

namespace {

Error wrong(Errc code, std::string_view text, std::string_view problem, const std::string& allowed) {
    return Error{code, "", "'" + shown(text) + "' " + std::string{problem} + "; allowed: " + allowed};
}

std::optional<std::int64_t> unit_ns(std::string_view unit) {
    constexpr std::int64_t second = 1'000'000'000;
    if (unit == "d")
        return 86'400 * second;
    if (unit == "h")
        return 3'600 * second;
    if (unit == "m")
        return 60 * second;
    if (unit == "s")
        return second;
    if (unit == "ms")
        return 1'000'000;
    if (unit == "us")
        return 1'000;
    return std::nullopt;
}

} // namespace

std::string duration_text(std::int64_t ns) {
    for (const std::string_view unit : {"d", "h", "m", "s", "ms", "us"}) {
        if (ns != 0 && ns % *unit_ns(unit) == 0) {
            return std::to_string(ns / *unit_ns(unit)) + std::string{unit};
        }
    }
    return ns == 0 ? "0s" : std::to_string(ns) + "ns";
}

namespace {

std::string duration_form(std::string_view native_unit) {
    return "a whole number with d, h, m, s, ms or us, such as 400ms (a bare number is in " + std::string{native_unit} +
           ")";
}

bool all_digits(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<std::int64_t> integer(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return value;
}

Result<std::string> normal_integer(std::string_view text, const stead_attr_schema& schema, bool port) {
    const auto value = integer(text);
    if (!value) {
        return wrong(Errc::malformed, text, port ? "is not a port" : "is not a whole number", allowed_text(schema));
    }
    const auto min = port ? 1 : schema.min;
    const auto max = port ? 65535 : schema.max;
    if ((min != 0 || max != 0) && (*value < min || *value > max)) {
        return wrong(Errc::out_of_range, text, "is out of range", allowed_text(schema));
    }
    return std::to_string(*value);
}

Result<std::string> normal_duration(std::string_view text, const stead_attr_schema& schema) {
    auto value = parse_duration(text, schema.native_unit == nullptr ? "s" : schema.native_unit);
    if (!value) {
        return value.error();
    }
    if ((schema.min != 0 || schema.max != 0) && (value->count() < schema.min || value->count() > schema.max)) {
        return wrong(Errc::out_of_range, text, "is out of range", allowed_text(schema));
    }
    return std::to_string(value->count());
}

Result<std::string> normal_mac(std::string_view text, const stead_attr_schema& schema) {
    bool good = text.size() == 17;
    std::string out{text};
    for (std::size_t i = 0; good && i < out.size(); ++i) {
        const auto c = static_cast<unsigned char>(out[i]);
        if (i % 3 == 2) {
            good = c == ':' || c == '-';
            out[i] = ':';
        } else {
            good = std::isxdigit(c) != 0;
            out[i] = static_cast<char>(std::tolower(c));
        }
    }
    if (!good) {
        return wrong(Errc::malformed, text, "is not a MAC address", allowed_text(schema));
    }
    return out;
}

Result<std::string> normal_boolean(std::string_view text, const stead_attr_schema& schema) {
    std::string lower{text};
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    for (const std::string_view yes : {"on", "yes", "true", "1"}) {
        if (lower == yes) {
            return std::string{"on"};
        }
    }
    for (const std::string_view no : {"off", "no", "false", "0"}) {
        if (lower == no) {
            return std::string{"off"};
        }
    }
    return wrong(Errc::malformed, text, "is neither on nor off", allowed_text(schema));
}

} // namespace

bool is_host_name(std::string_view text) {
    if (text.empty() || text.size() > 253 || text.front() == '.' || text.front() == '-') {
        return false;
    }
    for (const auto& label : split(text, '.')) {
        if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') {
            return false;
        }
    }
    const auto last = split(text, '.').back();
    return !all_digits(last) && std::ranges::all_of(text, [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_';
    });
}

namespace {

/// Edits to get from `a` to `b`: insert, delete, replace, swap neighbours; capitals do not count.
std::size_t distance(std::string_view a, std::string_view b) {
    const auto same = [&](std::size_t i, std::size_t j) {
        return std::tolower(static_cast<unsigned char>(a[i])) == std::tolower(static_cast<unsigned char>(b[j]));
    };
    std::vector<std::size_t> before(b.size() + 1);
    std::vector<std::size_t> last(b.size() + 1);
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        before.swap(last);
        last.swap(row);
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same(i - 1, j - 1) ? 0u : 1u)});
            if (i > 1 && j > 1 && same(i - 1, j - 2) && same(i - 2, j - 1)) {
                row[j] = std::min(row[j], before[j - 2] + 1);
            }
        }
    }
    return row.back();
}

} // namespace

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= 63 && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
               c == '-';
    });
}

bool is_numeric_address(std::string_view text) {
    const std::string copy{text};
    in6_addr binary{};
    return ::inet_pton(AF_INET, copy.c_str(), &binary) == 1 || ::inet_pton(AF_INET6, copy.c_str(), &binary) == 1;
}

std::string_view address_flaw(std::string_view address, bool loopback_allowed) {
    const std::string copy{address};
    in_addr v4{};
    in6_addr v6{};
    if (::inet_pton(AF_INET, copy.c_str(), &v4) == 1) {
        const auto first = ntohl(v4.s_addr) >> 24;
        return first == 0                          ? "is an unspecified address"
               : first == 127 && !loopback_allowed ? "is a loopback address"
               : first >= 240                      ? "is a reserved or broadcast address"
               : first >= 224                      ? "is a multicast address"
                                                   : "";
    }
    if (::inet_pton(AF_INET6, copy.c_str(), &v6) != 1) {
        return "";
    }
    return IN6_IS_ADDR_UNSPECIFIED(&v6)                     ? "is an unspecified address"
           : IN6_IS_ADDR_LOOPBACK(&v6) && !loopback_allowed ? "is a loopback address"
           : IN6_IS_ADDR_MULTICAST(&v6)                     ? "is a multicast address"
           : IN6_IS_ADDR_V4MAPPED(&v6)                      ? "is an IPv4 address in IPv6 form"
                                                            : "";
}

std::optional<std::string> normal_address(std::string_view text) {
    const bool bracketed = text.size() > 2 && text.front() == '[' && text.back() == ']';
    const std::string copy{bracketed ? text.substr(1, text.size() - 2) : text};
    std::array<char, INET6_ADDRSTRLEN> out{};
    in_addr v4{};
    in6_addr v6{};
    if (!bracketed && ::inet_pton(AF_INET, copy.c_str(), &v4) == 1) {
        return std::string{::inet_ntop(AF_INET, &v4, out.data(), out.size())};
    }
    if (::inet_pton(AF_INET6, copy.c_str(), &v6) == 1) {
        return std::string{::inet_ntop(AF_INET6, &v6, out.data(), out.size())};
    }
    if (!bracketed && is_host_name(copy)) {
        return copy;
    }
    return std::nullopt;
}

std::string allowed_text(const stead_attr_schema& schema) {
    const bool limited = schema.min != 0 || schema.max != 0;
    switch (schema.type) {
    case STEAD_TYPE_INTEGER:
        return limited ? std::to_string(schema.min) + " to " + std::to_string(schema.max) : "a whole number";
    case STEAD_TYPE_DURATION: {
        const std::string text = duration_form(schema.native_unit == nullptr ? "s" : schema.native_unit);
        return limited ? text + ", " + duration_text(schema.min) + " to " + duration_text(schema.max) : text;
    }
    case STEAD_TYPE_CHOICE: return join(split(schema.choices == nullptr ? "" : schema.choices, '|'), ", ");
    case STEAD_TYPE_ADDRESS:
        return (schema.flags & STEAD_ATTR_NUMERIC) != 0 ? "an IPv4 or IPv6 address"
                                                        : "an IPv4 or IPv6 address or a host name";
    case STEAD_TYPE_PORT: return "1 to 65535";
    case STEAD_TYPE_MAC: return "six bytes in hex, such as 5A:FE:C0:00:02:32";
    case STEAD_TYPE_PATH: return "an absolute path, without '..'";
    case STEAD_TYPE_NAME: return "1 to 63 letters, digits, '_', '.' or '-'";
    case STEAD_TYPE_BOOLEAN: return "on, off";
    default: return "text";
    }
}

Result<std::string> normalise(std::string_view text, const stead_attr_schema& schema) {
    switch (schema.type) {
    case STEAD_TYPE_INTEGER: return normal_integer(text, schema, false);
    case STEAD_TYPE_PORT: return normal_integer(text, schema, true);
    case STEAD_TYPE_DURATION: return normal_duration(text, schema);
    case STEAD_TYPE_MAC: return normal_mac(text, schema);
    case STEAD_TYPE_BOOLEAN: return normal_boolean(text, schema);
    case STEAD_TYPE_CHOICE: {
        const auto choices = split(schema.choices == nullptr ? "" : schema.choices, '|');
        if (std::ranges::find(choices, text) != choices.end()) {
            return std::string{text};
        }
        auto error = wrong(Errc::malformed, text, "is not a choice", allowed_text(schema));
        if (const auto guess = nearest(text, choices); !guess.empty()) {
            error.what += "; did you mean '" + guess + "'?";
        }
        return error;
    }
    case STEAD_TYPE_ADDRESS:
        if (auto address = normal_address(text);
            address && ((schema.flags & STEAD_ATTR_NUMERIC) == 0 || is_numeric_address(*address))) {
            return *address;
        }
        return wrong(Errc::malformed, text, "is not an address", allowed_text(schema));
    case STEAD_TYPE_PATH:
        if (text.starts_with('/') && text.size() <= 4095 &&
            (std::string{text} + "/").find("/../") == std::string::npos) {
            return std::string{text};
        }
        return wrong(Errc::malformed, text, "is not an absolute path", allowed_text(schema));
    case STEAD_TYPE_NAME:
        if (is_name(text)) {
            return std::string{text};
        }
        return wrong(Errc::malformed, text, "is not a name", allowed_text(schema));
    default: return std::string{text};
    }
}

Result<nanoseconds> parse_duration(std::string_view text, std::string_view native_unit) {
    const std::string allowed = duration_form(native_unit);
    const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
    const auto number = text.substr(0, digits);
    const auto unit = text.substr(digits);
    const auto native = unit_ns(native_unit);
    const auto factor = unit.empty() ? native : unit_ns(unit);
    if (number.empty() || !factor || !native) {
        return wrong(Errc::malformed, text, "is not a time", allowed);
    }
    const auto value = integer(number);
    if (!value || *value > std::numeric_limits<std::int64_t>::max() / *factor) {
        return wrong(Errc::out_of_range, text, "is too long", "at most " + duration_text(106'751 * *unit_ns("d")));
    }
    const auto ns = *value * *factor;
    // Stead keeps nanoseconds, so a coarse native unit (loop_interval in hours) only gives bare numbers their meaning.
    const auto floor = std::min(*native, *unit_ns("s"));
    if (ns != 0 && ns < floor) {
        return wrong(Errc::out_of_range, text, "rounds to 0 " + std::string{native_unit},
                     "0, or at least " + duration_text(floor));
    }
    return nanoseconds{ns};
}

std::string nearest(std::string_view word, std::span<const std::string> candidates) {
    if (word.size() > 64) {
        return {};
    }
    std::size_t best = std::max<std::size_t>(1, std::min<std::size_t>(3, word.size() / 3)) + 1;
    std::string found;
    for (const auto& candidate : candidates) {
        const auto d = distance(word, candidate);
        if (d < best) {
            best = d;
            found = candidate;
        }
    }
    return found;
}

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    while (!text.empty()) {
        const auto at = text.find(separator);
        parts.emplace_back(text.substr(0, at));
        if (at == std::string_view::npos) {
            return parts;
        }
        text.remove_prefix(at + 1);
        if (text.empty()) {
            parts.emplace_back();
        }
    }
    return parts;
}

std::string join(std::span<const std::string> parts, std::string_view separator) {
    std::string out;
    for (const auto& part : parts) {
        out += out.empty() ? "" : separator;
        out += part;
    }
    return out;
}

Digest& Digest::add(std::uint64_t number) {
    for (int i = 0; i < 8; ++i) {
        hash_ = (hash_ ^ (number & 0xFF)) * 0x100000001b3u;
        number >>= 8;
    }
    return *this;
}

Digest& Digest::add(std::string_view text) {
    add(static_cast<std::uint64_t>(text.size()));
    for (const char c : text) {
        hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    }
    return *this;
}

} // namespace stead::config
