// SPDX-License-Identifier: Apache-2.0
#include "note_limit.hpp"

#include <gtest/gtest.h>

namespace stead::mirror {
namespace {

TEST(NoteLimit, TheFirstThenOneAMinuteWithACount) {
    NoteLimit limit;
    Instant now{seconds{100}};
    int told = 0;
    std::string last;
    for (int i = 0; i < 3000; ++i, now += milliseconds{100}) { // five minutes, ten a second
        if (const auto text = limit.admit(now, "refused")) {
            ++told;
            last = *text;
        }
    }
    EXPECT_EQ(told, 5);
    EXPECT_EQ(last, "refused (599 more times before)");
}

TEST(NoteLimit, OtherWordsAreToldAtOnce) {
    NoteLimit limit;
    const Instant now{seconds{100}};
    EXPECT_EQ(limit.admit(now, "a"), "a");
    EXPECT_EQ(limit.admit(now, "a"), std::nullopt);
    EXPECT_EQ(limit.admit(now, "b"), "b");
    EXPECT_EQ(limit.admit(now + seconds{61}, "b"), "b (1 others were left out)")
        << "the other words are counted as well";
}

TEST(NoteLimit, WordsThatAlwaysDifferAreLimitedAsWell) {
    NoteLimit limit;
    Instant now{seconds{100}};
    int told = 0;
    for (int i = 0; i < 1000; ++i, now += milliseconds{100}) {
        told += limit.admit(now, "value " + std::to_string(i)) ? 1 : 0;
    }
    EXPECT_LE(told, 8);
    const auto next = limit.admit(now + seconds{120}, "end");
    ASSERT_TRUE(next);
    EXPECT_NE(next->find("others were left out"), std::string::npos);
}

TEST(NoteLimit, AfterAQuietTimeItIsTheFirstAgain) {
    NoteLimit limit;
    EXPECT_TRUE(limit.admit(Instant{seconds{1}}, "a"));
    EXPECT_EQ(limit.admit(Instant{seconds{3600}}, "a"), "a");
}

} // namespace
} // namespace stead::mirror
