// SPDX-License-Identifier: Apache-2.0
#include <stead/core/loop_guard.hpp>

#include <gmock/gmock.h>

using stead::automaton::LoopGuard;
using std::chrono::seconds;

TEST(LoopGuard, TheFourthActionWithinTheIntervalIsRefused) {
    LoopGuard guard(3, seconds{100});
    EXPECT_TRUE(guard.count(1000));
    EXPECT_TRUE(guard.count(1001));
    EXPECT_FALSE(guard.exhausted(1002));
    EXPECT_TRUE(guard.count(1002));
    EXPECT_TRUE(guard.exhausted(1003));
    EXPECT_FALSE(guard.count(1003));
    EXPECT_TRUE(guard.count(1100)); // the first one left the window
}

TEST(LoopGuard, IntervalZeroCountsNothing) {
    LoopGuard guard(1, seconds{0});
    EXPECT_TRUE(guard.count(1));
    EXPECT_TRUE(guard.count(1));
    EXPECT_FALSE(guard.exhausted(1));
}

TEST(LoopGuard, SurvivesItsProcessAndDropsGarbage) {
    LoopGuard first(3, seconds{100});
    EXPECT_TRUE(first.count(1000));
    EXPECT_TRUE(first.count(1010));
    LoopGuard second(3, seconds{100});
    second.load(first.save() + "rubbish\n12x\n\n");
    EXPECT_EQ(second.used(1020), 2U);
    second.reset();
    EXPECT_EQ(second.used(1020), 0U);
}

TEST(LoopGuard, AClockSetBackDoesNotBlockForEver) {
    LoopGuard guard(1, seconds{100});
    EXPECT_TRUE(guard.count(5000));
    EXPECT_TRUE(guard.count(1000));
}

// VOCABULARY: a handler "must call incloop itself", and restart -i counts as well. One death is one of maxloop.
TEST(LoopGuard, IncloopAndTheActionThatItAnnouncesCountOnce) {
    LoopGuard guard(3, seconds{1000});
    for (int death = 1; death <= 3; ++death) {
        EXPECT_TRUE(guard.announce(1000 + death, "handler"));
        EXPECT_TRUE(guard.count_of(1000 + death, "handler"));
        EXPECT_EQ(guard.used(1010), static_cast<std::size_t>(death));
    }
    EXPECT_FALSE(guard.announce(1010, "handler")) << "the fourth one";
    EXPECT_FALSE(guard.count_of(1010, "handler")) << "a handler that goes on all the same is refused";
}

TEST(LoopGuard, AnAnnouncementIsForOneActionOfItsOwnCaller) {
    LoopGuard guard(5, seconds{1000});
    EXPECT_TRUE(guard.announce(1000, "a"));
    EXPECT_TRUE(guard.count_of(1000, "b"));
    EXPECT_EQ(guard.used(1000), 2U) << "another script's action is one more";
    EXPECT_TRUE(guard.count_of(1001, "a"));
    EXPECT_EQ(guard.used(1001), 2U);
    EXPECT_TRUE(guard.count_of(1002, "a"));
    EXPECT_EQ(guard.used(1002), 3U) << "it is used up";
    EXPECT_TRUE(guard.announce(1003, ""));
    EXPECT_TRUE(guard.count(1003));
    EXPECT_EQ(guard.used(1003), 5U) << "a rule's action was announced by nobody";
    EXPECT_TRUE(guard.count_of(1003, "any")) << "incloop without -i: of whoever comes next";
    EXPECT_EQ(guard.used(1003), 5U);
}

TEST(LoopGuard, AnAnnouncementDoesNotOutliveItsHandlerOrAReset) {
    LoopGuard guard(9, seconds{100000});
    const auto late = LoopGuard::announced_for.count();
    EXPECT_TRUE(guard.announce(1000, "a"));
    EXPECT_TRUE(guard.count_of(1000 + late, "a"));
    EXPECT_EQ(guard.used(1000 + late), 2U);
    EXPECT_TRUE(guard.announce(2000, "a"));
    guard.reset();
    EXPECT_TRUE(guard.count_of(2000, "a"));
    EXPECT_EQ(guard.used(2000), 1U);
}
