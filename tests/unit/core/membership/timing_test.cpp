// SPDX-License-Identifier: Apache-2.0
#include <stead/core/membership.hpp>

#include <gtest/gtest.h>

namespace stead::membership {
namespace {

/// What the proof in docs/protocol-membership.md needs of any set of times.
void expect_safe(const Timing& t) {
    EXPECT_GT(t.period, nanoseconds{0});
    EXPECT_GE(t.suspect, 2 * t.period) << "one lost heartbeat is no suspicion";
    EXPECT_LT(t.suspect, t.takeover);
    EXPECT_GT(t.lease, t.period) << "a lease lasts longer than the time between two renewals";
    EXPECT_LT(t.lease, t.takeover);
    EXPECT_GE(t.takeover - t.lease, t.takeover / 1000) << "room for two clocks, 500 ppm each way";
}

TEST(Timing, Profiles) {
    for (const Timing& t : {fast_timing(), default_timing(), safe_timing()}) {
        expect_safe(t);
    }
    EXPECT_EQ(default_timing().period, milliseconds{50});
    EXPECT_EQ(default_timing().suspect, milliseconds{150});
    EXPECT_EQ(default_timing().lease, milliseconds{200});
    EXPECT_EQ(default_timing().takeover, milliseconds{225});
    EXPECT_EQ(fast_timing().takeover, milliseconds{30});
    EXPECT_EQ(safe_timing().takeover, seconds{3});
}

TEST(Timing, ClassicValuesAreSafeWhateverIsWritten) {
    for (const int pulse_ms : {0, 1, 5, 10, 50, 100, 500, 700, 1000, 5000, 100'000}) {
        for (const unsigned lost : {0u, 1u, 2u, 4u, 5u, 10u, 30u, 1000u, 100'000u}) {
            SCOPED_TRACE(std::to_string(pulse_ms) + " ms, " + std::to_string(lost));
            expect_safe(classic_timing(milliseconds{pulse_ms}, lost));
        }
    }
}

TEST(Timing, ClassicDefaultOfThirtySeconds) {
    const Timing t = classic_timing(seconds{1}, 30);
    EXPECT_EQ(t.period, seconds{1});
    EXPECT_EQ(t.takeover, seconds{30});
    EXPECT_EQ(t.lease, seconds{27});
}

TEST(Timing, APulseOfFiveMillisecondsIsRaisedToTen) {
    EXPECT_EQ(classic_timing(milliseconds{5}, 10).period, milliseconds{10});
    EXPECT_EQ(classic_timing(milliseconds{5}, 10).takeover, milliseconds{100});
}

} // namespace
} // namespace stead::membership
