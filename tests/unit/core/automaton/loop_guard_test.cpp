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
