// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

namespace stead::config {
namespace {

using namespace std::chrono_literals;

TEST(Duration, UnitsAndBareNumbers) {
    EXPECT_EQ(*parse_duration("5", "s"), 5s);
    EXPECT_EQ(*parse_duration("5", "ms"), 5ms);
    EXPECT_EQ(*parse_duration("24", "h"), 24h);
    EXPECT_EQ(*parse_duration("2d", "s"), 48h);
    EXPECT_EQ(*parse_duration("3m", "s"), 180s);
    EXPECT_EQ(*parse_duration("1500ms", "ms"), 1500ms);
    EXPECT_EQ(*parse_duration("2000us", "ms"), 2ms);
    EXPECT_EQ(*parse_duration("0", "ms"), 0s);
    EXPECT_EQ(*parse_duration("0us", "s"), 0s);
    EXPECT_EQ(*parse_duration("10m", "h"), 10min) << "coarse native units only give bare numbers their meaning";
}

TEST(Duration, RoundingToZeroIsAnError) {
    EXPECT_EQ(parse_duration("999us", "ms").error().what, "'999us' rounds to 0 ms; allowed: 0, or at least 1ms");
    EXPECT_EQ(parse_duration("1ms", "s").error().what, "'1ms' rounds to 0 s; allowed: 0, or at least 1s");
}

TEST(Duration, BadTexts) {
    for (const char* text :
         {"", "s", "5x", "-1s", "1.5s", " 5s", "5 s", "5ss", "0x5", "99999999999999999999s", "200000d"}) {
        EXPECT_FALSE(parse_duration(text, "s").has_value()) << text;
    }
}

} // namespace
} // namespace stead::config
