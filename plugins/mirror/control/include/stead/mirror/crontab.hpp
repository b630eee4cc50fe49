// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <bitset>
#include <chrono>
#include <string_view>

namespace stead::mirror {

/// A minute of the wall clock of this machine, as people read it; without time zone.
using WallMinute = std::chrono::local_time<std::chrono::minutes>;

/// The times of a schedule, as crontab(5) names them: "minute hour day-of-month month day-of-week". Each field is a
/// list, with commas, of *, a number, a-b, or one of the latter two with /step: */15, 8-18/2. Months may be jan to dec
/// and days of the week sun to sat (0 and 7 are Sunday). If days of the month and of the week are both given, either
/// may fit.
/// Pure: reads no clock. A value; any thread.
class Crontab {
public:
    /// Errors: malformed, with the field, its value and what is allowed; also a schedule that never comes (30 2 *).
    [[nodiscard]] static Result<Crontab> parse(std::string_view text);

    /// The first minute after `after` that fits.
    [[nodiscard]] WallMinute next(WallMinute after) const;

private:
    [[nodiscard]] bool fits(const std::chrono::year_month_day& day) const;
    /// Of the days from `day` on, the first that fits; none in eight years (there is a leap year in each eight) = none.
    [[nodiscard]] bool find_day(std::chrono::local_days& day) const;

    std::bitset<60> minutes_;
    std::bitset<24> hours_;
    std::bitset<32> days_;    ///< 1 to 31
    std::bitset<13> months_;  ///< 1 to 12
    std::bitset<8> weekdays_; ///< 0 to 6
    bool any_day_{}, any_weekday_{};
};

} // namespace stead::mirror
