// SPDX-License-Identifier: Apache-2.0
#include "eager.hpp"

#include <gtest/gtest.h>

namespace stead::mirror {
namespace {

constexpr Instant now{seconds{100}};

TEST(Eager, SleepsAtOnceUntilSomethingCameSoon) {
    Eager eager;
    EXPECT_EQ(eager.patience(now), nanoseconds{});
    eager.came(seconds{1});
    EXPECT_EQ(eager.patience(now), nanoseconds{});
    eager.came(microseconds{40});
    EXPECT_EQ(eager.patience(now), Eager::longest);
}

TEST(Eager, WhatComesLateAgainAndAgainIsNotWaitedFor) {
    Eager eager;
    eager.came(microseconds{40});
    nanoseconds spent{};
    for (int i = 0; i < 1000; ++i) {
        spent += eager.patience(now);
        eager.came(milliseconds{1});
    }
    EXPECT_LT(spent, 2 * Eager::longest);
    eager.came(microseconds{100});
    EXPECT_EQ(eager.patience(now), Eager::longest);
}

TEST(Eager, OneThatIsLateAmongManyEndsNothing) {
    Eager eager;
    eager.came(microseconds{40});
    eager.came(milliseconds{1});
    EXPECT_GE(eager.patience(now), Eager::longest / 2);
}

TEST(Eager, LeavesTheProcessorToWhoKeepsIt) {
    Eager eager;
    eager.came(microseconds{40});
    EXPECT_TRUE(eager.gave_way(now, Eager::crowded / 2)) << "the next one in a write's own way";
    EXPECT_FALSE(eager.gave_way(now, milliseconds{3}));
    eager.came(microseconds{40});
    EXPECT_EQ(eager.patience(now + Eager::rest / 2), nanoseconds{});
    EXPECT_EQ(eager.patience(now + Eager::rest), Eager::longest);
}

} // namespace
} // namespace stead::mirror
