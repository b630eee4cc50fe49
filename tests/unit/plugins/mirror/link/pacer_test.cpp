// SPDX-License-Identifier: Apache-2.0
#include "pacer.hpp"

#include <gtest/gtest.h>

/// How fast a resync may read beside an application.
namespace stead::mirror::test {

struct Pace : testing::Test {
    /// One client that waits `latency` for each answer and then `pause`; a resync takes what it may meanwhile.
    void run(nanoseconds length, nanoseconds latency, nanoseconds pause, bool resync, bool mirrored = true) {
        for (const Instant end = now + length; now < end; now += pause) {
            pacer.asked(now);
            for (const Instant answer = now + latency; now < answer;
                 now += std::min<nanoseconds>(milliseconds{5}, answer - now)) {
                take(resync);
            }
            pacer.answered(now, latency, mirrored);
            take(resync);
        }
    }
    void take(bool resync) {
        if (resync) {
            static_cast<void>(pacer.admit(now, 1));
        }
    }
    std::uint64_t rate() { return pacer.figures(now).rate; }

    Pacer pacer;
    Instant now{seconds{1000}};
};

TEST_F(Pace, AnIdleApplicationLimitsNothing) {
    for (int i = 0; i < 100; ++i, now += milliseconds{20}) {
        EXPECT_EQ(pacer.admit(now, 64u << 20), now);
    }
    EXPECT_EQ(rate(), 0u);
}

TEST_F(Pace, BeginsSlowlyBesideABusyOne) {
    run(seconds{2}, milliseconds{1}, milliseconds{3}, false);
    EXPECT_EQ(pacer.admit(now, 16u << 20), now);
    EXPECT_GT(pacer.admit(now, 0), now + milliseconds{500}) << "not all that the disk can give";
}

TEST_F(Pace, GoesFasterUntilTheApplicationFeelsIt) {
    run(seconds{2}, milliseconds{1}, milliseconds{3}, false);
    run(seconds{3}, milliseconds{1}, milliseconds{3}, true);
    const std::uint64_t fast = rate();
    EXPECT_GT(fast, 64u << 20);
    run(seconds{3}, milliseconds{4}, milliseconds{3}, true);
    EXPECT_LT(rate(), fast / 8);
}

TEST_F(Pace, AnApplicationWhoseFewAnswersTakeLongIsNotIdle) {
    run(seconds{2}, milliseconds{1}, milliseconds{3}, false);
    run(seconds{20}, milliseconds{150}, milliseconds{3}, true); // six in a second
    EXPECT_EQ(rate(), Pacer::floor_bytes);
    run(seconds{5}, milliseconds{700}, milliseconds{3}, true); // one
    EXPECT_EQ(rate(), Pacer::floor_bytes);
}

TEST_F(Pace, WhatOneNodeAloneAnswersIsNoMeasure) {
    run(seconds{2}, milliseconds{1}, milliseconds{3}, false, false);
    EXPECT_EQ(pacer.figures(now).quiet_p95, nanoseconds{});
    run(seconds{3}, milliseconds{4}, milliseconds{3}, true, false);
    EXPECT_GT(rate(), 32u << 20) << "as slow as with a secondary";
}

TEST_F(Pace, AnOperationThatIsNeverAnsweredIsForgotten) {
    pacer.asked(now);
    for (int i = 0; i < 200; ++i, now += milliseconds{20}) {
        static_cast<void>(pacer.admit(now, 1));
    }
    EXPECT_EQ(rate(), 0u);
}

TEST_F(Pace, FewZonesAreLockedWhereTheyWaitForTheirTurn) {
    constexpr std::uint64_t zone = 64u << 10;
    EXPECT_GT(pacer.at_once(now, zone), 1000u);
    run(seconds{2}, milliseconds{1}, milliseconds{3}, false);
    run(seconds{20}, milliseconds{150}, milliseconds{3}, true);
    ASSERT_EQ(rate(), Pacer::floor_bytes);
    EXPECT_EQ(pacer.at_once(now, zone), 1u);
    run(seconds{5}, milliseconds{1}, milliseconds{3}, true);
    EXPECT_GT(pacer.at_once(now, zone), 10u);
}

} // namespace stead::mirror::test
