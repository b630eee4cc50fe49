// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/crontab.hpp>

#include <stead/base/assert.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <string>
#include <vector>

namespace stead::mirror {
namespace {

constexpr int leap_days_apart_max = 8 * 366; ///< 1896 to 1904, 2096 to 2104

using Names = std::vector<std::string_view>;

struct Field {
    const char* name;
    unsigned lowest, highest;
    Names names; ///< of lowest, lowest + 1, …
};

const std::array<Field, 5>& fields() {
    static const std::array<Field, 5> all{
        Field{"minute", 0, 59, {}},
        Field{"hour", 0, 23, {}},
        Field{"day of month", 1, 31, {}},
        Field{"month", 1, 12, {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
        Field{"day of week", 0, 7, {"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
    };
    return all;
}

std::vector<std::string_view> split(std::string_view text, std::string_view separators, bool keep_empty) {
    std::vector<std::string_view> parts;
    for (;;) {
        const std::size_t end = text.find_first_of(separators);
        if (keep_empty || end != 0) {
            if (keep_empty || !text.empty()) {
                parts.push_back(text.substr(0, end));
            }
        }
        if (end == text.npos) {
            return parts;
        }
        text.remove_prefix(end + 1);
    }
}

Error wrong(const Field& field, std::string_view value) {
    std::string allowed = std::to_string(field.lowest) + " to " + std::to_string(field.highest);
    if (!field.names.empty()) {
        allowed += ", " + std::string{field.names.front()} + " to " + std::string{field.names.back()};
    }
    return Error{Errc::malformed, field.name,
                 "'" + std::string{value} + "' is none; allowed: *, " + allowed +
                     ", a-b, */n, a-b/n, and lists of these with commas"};
}

/// False: it is neither a number in the limits nor a name.
bool read_value(const Field& field, std::string_view text, unsigned& out) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error == std::errc{} && end == text.data() + text.size()) {
        return out >= field.lowest && out <= field.highest;
    }
    std::string lower{text};
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
    const auto found = std::ranges::find(field.names, lower);
    out = field.lowest + static_cast<unsigned>(found - field.names.begin());
    return found != field.names.end();
}

/// One element of a list: *, a, a-b, */n, a-b/n.
bool read_range(const Field& field, std::string_view text, std::bitset<60>& out) {
    unsigned first = field.lowest, last = field.highest, step = 1;
    const std::size_t slash = text.find('/');
    const std::string_view range = text.substr(0, slash);
    const std::size_t dash = range.find('-');
    if (slash != text.npos) {
        const std::string_view given = text.substr(slash + 1);
        const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), step);
        if (error != std::errc{} || end != given.data() + given.size() || step == 0 || step > field.highest ||
            (range != "*" && dash == range.npos)) {
            return false;
        }
    }
    if (range != "*") {
        if (!read_value(field, range.substr(0, dash), first) ||
            (dash != range.npos && !read_value(field, range.substr(dash + 1), last))) {
            return false;
        }
        last = dash == range.npos ? first : last;
    }
    for (unsigned value = first; value <= last; value += step) {
        out.set(value);
    }
    return first <= last;
}

template <std::size_t N>
void take(const std::bitset<60>& from, std::bitset<N>& to) {
    for (std::size_t i = 0; i < N; ++i) {
        to[i] = from[i];
    }
}

} // namespace

Result<Crontab> Crontab::parse(std::string_view text) {
    const std::vector<std::string_view> given = split(text, " \t\r\n", false);
    std::array<std::bitset<60>, 5> sets;
    if (given.size() != sets.size()) {
        return Error{Errc::malformed, "schedule",
                     "'" + std::string{text} + "' has " + std::to_string(given.size()) +
                         " fields; five are needed: minute, hour, day of month, month, day of week, as in '30 2 * * "
                         "mon-fri'"};
    }
    for (std::size_t i = 0; i < sets.size(); ++i) {
        for (const std::string_view part : split(given[i], ",", true)) {
            if (!read_range(fields()[i], part, sets[i])) {
                return wrong(fields()[i], part);
            }
        }
    }
    Crontab table;
    take(sets[0], table.minutes_);
    take(sets[1], table.hours_);
    take(sets[2], table.days_);
    take(sets[3], table.months_);
    take(sets[4], table.weekdays_);
    table.weekdays_[0] = table.weekdays_[0] || table.weekdays_[7];
    table.any_day_ = given[2].starts_with('*');
    table.any_weekday_ = given[4].starts_with('*');
    if (std::chrono::local_days day{}; !table.find_day(day)) {
        return Error{Errc::malformed, "schedule",
                     "'" + std::string{text} + "' never comes: no such month has that day"};
    }
    return table;
}

bool Crontab::fits(const std::chrono::year_month_day& day) const {
    if (!months_[static_cast<unsigned>(day.month())]) {
        return false;
    }
    const bool of_month = days_[static_cast<unsigned>(day.day())];
    const bool of_week = weekdays_[std::chrono::weekday{std::chrono::local_days{day}}.c_encoding()];
    return any_day_ || any_weekday_ ? of_month && of_week : of_month || of_week;
}

bool Crontab::find_day(std::chrono::local_days& day) const {
    for (int i = 0; i <= leap_days_apart_max; ++i, day += std::chrono::days{1}) {
        if (fits(std::chrono::year_month_day{day})) {
            return true;
        }
    }
    return false;
}

WallMinute Crontab::next(WallMinute after) const {
    WallMinute at = after + std::chrono::minutes{1};
    for (;;) {
        auto day = std::chrono::floor<std::chrono::days>(at);
        const auto from = day;
        const bool found = find_day(day);
        STEAD_ASSERT(found); // parse() has looked
        at = day == from ? at : WallMinute{day};
        for (; at < WallMinute{day + std::chrono::days{1}}; at += std::chrono::minutes{1}) {
            const auto minute = (at - WallMinute{day}).count();
            if (minutes_[static_cast<std::size_t>(minute % 60)] && hours_[static_cast<std::size_t>(minute / 60)]) {
                return at;
            }
        }
    }
}

} // namespace stead::mirror
