// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/crontab.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace stead::mirror {
namespace {
using namespace std::chrono;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

WallMinute at(int y, unsigned m, unsigned d, int hour, int minute) {
    return WallMinute{local_days{year{y} / month{m} / day{d}}} + hours{hour} + minutes{minute};
}

std::string text(WallMinute when) {
    const auto day = floor<days>(when);
    const year_month_day date{day};
    const auto minute = (when - WallMinute{day}).count();
    char out[32];
    std::snprintf(out, sizeof out, "%04d-%02u-%02u %02d:%02d", static_cast<int>(date.year()),
                  static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), static_cast<int>(minute / 60),
                  static_cast<int>(minute % 60));
    return out;
}

/// The next `count` times after Thursday, 2026-01-01 00:00.
std::vector<std::string> times(std::string_view schedule, int count, WallMinute from = at(2026, 1, 1, 0, 0)) {
    const auto table = Crontab::parse(schedule);
    EXPECT_TRUE(table) << schedule;
    std::vector<std::string> found;
    for (int i = 0; table && i < count; ++i) {
        from = table->next(from);
        found.push_back(text(from));
    }
    return found;
}

TEST(Crontab, EveryMinuteAndSteps) {
    EXPECT_THAT(times("* * * * *", 2), ElementsAre("2026-01-01 00:01", "2026-01-01 00:02"));
    EXPECT_THAT(times("*/20 * * * *", 4),
                ElementsAre("2026-01-01 00:20", "2026-01-01 00:40", "2026-01-01 01:00", "2026-01-01 01:20"));
    EXPECT_THAT(times("0 8-18/5 * * *", 4),
                ElementsAre("2026-01-01 08:00", "2026-01-01 13:00", "2026-01-01 18:00", "2026-01-02 08:00"));
}

TEST(Crontab, ListsRangesAndBlanks) {
    EXPECT_THAT(times(" 5,10-12 \t1,23 * * * ", 5),
                ElementsAre("2026-01-01 01:05", "2026-01-01 01:10", "2026-01-01 01:11", "2026-01-01 01:12",
                            "2026-01-01 23:05"));
}

TEST(Crontab, NamesOfMonthsAndDays) {
    EXPECT_THAT(times("30 2 * * mon-Fri", 3), ElementsAre("2026-01-01 02:30", "2026-01-02 02:30", "2026-01-05 02:30"));
    EXPECT_THAT(times("0 0 1 FEB,nov *", 3), ElementsAre("2026-02-01 00:00", "2026-11-01 00:00", "2027-02-01 00:00"));
}

TEST(Crontab, SundayHasTwoNumbers) {
    const std::vector<std::string> sundays{"2026-01-04 04:00", "2026-01-11 04:00"};
    for (const char* schedule : {"0 4 * * 0", "0 4 * * 7", "0 4 * * sun"}) {
        EXPECT_EQ(times(schedule, 2), sundays) << schedule;
    }
    EXPECT_THAT(times("0 4 * * 6-7", 2), ElementsAre("2026-01-03 04:00", "2026-01-04 04:00"));
}

TEST(Crontab, DayOfMonthOrOfWeek) {
    EXPECT_THAT(times("0 0 13 * fri", 4),
                ElementsAre("2026-01-02 00:00", "2026-01-09 00:00", "2026-01-13 00:00", "2026-01-16 00:00"));
    EXPECT_THAT(times("0 0 */10 * fri", 2), ElementsAre("2026-05-01 00:00", "2026-07-31 00:00"))
        << "a field that begins with * does not count as given: both must fit";
}

TEST(Crontab, DaysThatNotEveryMonthHas) {
    EXPECT_THAT(times("0 0 31 * *", 3), ElementsAre("2026-01-31 00:00", "2026-03-31 00:00", "2026-05-31 00:00"));
    EXPECT_THAT(times("59 23 29 2 *", 2), ElementsAre("2028-02-29 23:59", "2032-02-29 23:59"));
    EXPECT_THAT(times("0 0 29 2 *", 1, at(2096, 3, 1, 0, 0)), ElementsAre("2104-02-29 00:00"));
}

TEST(Crontab, TheMinuteItselfIsNotNext) {
    EXPECT_THAT(times("0 0 1 1 *", 1), ElementsAre("2027-01-01 00:00"));
    EXPECT_THAT(times("59 23 31 12 *", 2), ElementsAre("2026-12-31 23:59", "2027-12-31 23:59"));
}

std::string refusal(std::string_view schedule) {
    const auto table = Crontab::parse(schedule);
    return table ? "accepted" : table.error().text();
}

TEST(Crontab, RefusesWithFieldValueAndWhatIsAllowed) {
    EXPECT_THAT(refusal("60 * * * *"), testing::AllOf(HasSubstr("minute"), HasSubstr("'60'"), HasSubstr("0 to 59")));
    EXPECT_THAT(refusal("0 24 * * *"), testing::AllOf(HasSubstr("hour"), HasSubstr("'24'"), HasSubstr("0 to 23")));
    EXPECT_THAT(refusal("0 0 0 * *"), testing::AllOf(HasSubstr("day of month"), HasSubstr("1 to 31")));
    EXPECT_THAT(refusal("0 0 * foo *"),
                testing::AllOf(HasSubstr("month"), HasSubstr("'foo'"), HasSubstr("jan to dec")));
    EXPECT_THAT(refusal("0 0 * * 8"),
                testing::AllOf(HasSubstr("day of week"), HasSubstr("'8'"), HasSubstr("sun to sat")));
    for (const char* schedule : {"*/0 * * * *", "*/60 * * * *", "5/2 * * * *", "9-5 * * * *", "1,,2 * * * *",
                                 "- * * * *", "1- * * * *", "-1 * * * *", "1-2-3 * * * *", "1/ * * * *", "/5 * * * *",
                                 "** * * * *", "0x5 * * * *", "1, * * * *", "99999999999999999999 * * * *"}) {
        EXPECT_THAT(refusal(schedule), testing::AllOf(HasSubstr("minute"), HasSubstr("allowed"))) << schedule;
    }
    for (const char* schedule : {"", "* * * *", "* * * * * *", "@daily", "0 0 * * * /bin/true"}) {
        EXPECT_THAT(refusal(schedule), testing::AllOf(HasSubstr("five"), HasSubstr("'" + std::string{schedule} + "'")));
    }
    EXPECT_THAT(refusal("0 0 30 2 *"), HasSubstr("never"));
    EXPECT_THAT(refusal("0 0 31 4,6,9,11 *"), HasSubstr("never"));
}

} // namespace
} // namespace stead::mirror
