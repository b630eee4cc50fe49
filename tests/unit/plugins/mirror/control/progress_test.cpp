// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/progress.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stead::mirror {
namespace {
using testing::HasSubstr;
using testing::Not;

constexpr Instant t0 = Instant{} + seconds{1000};

/// So many zones of a thousand, and nothing else.
message::Progress zones(std::uint64_t left) { return {1000, left, 1000, left}; }

TEST(Rate, CountsTheLastSecondsOnly) {
    Rate rate;
    EXPECT_EQ(rate.per_second(), 0);
    rate.sample(t0, 0);
    EXPECT_EQ(rate.per_second(), 0);
    for (int i = 1; i <= 10; ++i) {
        rate.sample(t0 + seconds{i}, 1000.0 * i);
    }
    EXPECT_DOUBLE_EQ(rate.per_second(), 1000);
    for (int i = 11; i <= 15; ++i) {
        rate.sample(t0 + seconds{i}, 10000);
    }
    EXPECT_EQ(rate.per_second(), 0) << "what was five seconds ago does not count";
}

TEST(Rate, OfSamplesAtOneTimeIsNone) {
    Rate rate;
    rate.sample(t0, 0);
    rate.sample(t0, 5);
    EXPECT_EQ(rate.per_second(), 0);
}

TEST(ResyncMeter, SaysHowFarHowFastAndHowLong) {
    ResyncMeter meter;
    EXPECT_FALSE(meter.figures().running);
    EXPECT_EQ(meter.text(), "");
    meter.begin(t0, true, zones(1000));
    EXPECT_EQ(meter.text(), "0 % resynced") << "without a rate no time left";
    for (unsigned i = 1; i <= 4; ++i) {
        for (unsigned j = 1; j <= 100; ++j) {
            meter.moved(zone_bytes, zones(1000 - (i - 1) * 100 - j));
        }
        EXPECT_TRUE(meter.sample(t0 + seconds{i}));
    }
    EXPECT_EQ(meter.text(), "40 % resynced, 6.6 MB/s, 6 s left");
    const auto figures = meter.figures();
    EXPECT_EQ(figures.bytes, 400 * zone_bytes);
    EXPECT_EQ(figures.bytes_per_second, 100 * zone_bytes);
    EXPECT_EQ(figures.targets_per_second, 100u);
    EXPECT_EQ(figures.seconds_left, 6u);
    EXPECT_EQ(meter.total_text(t0 + seconds{4}), "26.2 MB in 4.0 s, 6.6 MB/s");
    meter.end();
    EXPECT_EQ(meter.text(), "");
    EXPECT_EQ(meter.figures().bytes_per_second, 0u);
}

TEST(ResyncMeter, ThatStandsStillPromisesNothing) {
    ResyncMeter meter;
    meter.begin(t0, true, zones(1000));
    meter.moved(zone_bytes, zones(500));
    for (int i = 1; i <= 10; ++i) {
        meter.sample(t0 + seconds{i});
    }
    EXPECT_EQ(meter.text(), "50 % resynced");
    EXPECT_FALSE(meter.figures().seconds_left);
}

TEST(ResyncMeter, MeasuresOnceASecond) {
    ResyncMeter meter;
    meter.begin(t0, true, zones(1000));
    EXPECT_FALSE(meter.sample(t0 + milliseconds{999}));
    EXPECT_TRUE(meter.sample(t0 + milliseconds{1000}));
    EXPECT_FALSE(meter.sample(t0 + milliseconds{1999}));
}

TEST(ResyncMeter, OfTheTargetCountsWhatCame) {
    ResyncMeter meter;
    meter.begin(t0, false, zones(1000));
    EXPECT_EQ(meter.text(), "being resynced, 0 %, 0 B received");
    meter.moved(1'000'000, zones(750));
    meter.sample(t0 + seconds{1});
    EXPECT_EQ(meter.text(), "being resynced, 25 %, 1.0 MB received, 1.0 MB/s, 3 s left");
}

TEST(ResyncMeter, OfAnOlderSourceKnowsOnlyBytes) {
    ResyncMeter meter;
    meter.begin(t0, false, {});
    meter.moved(2'000'000, {});
    meter.sample(t0 + seconds{1});
    EXPECT_EQ(meter.text(), "being resynced, 2.0 MB received, 2.0 MB/s");
    EXPECT_FALSE(meter.figures().seconds_left);
}

TEST(ResyncMeter, TakesASmallTargetForLessThanAZone) {
    ResyncMeter meter;
    meter.begin(t0, true, {2000, 2000, 1000, 1000});
    meter.moved(0, {2000, 1000, 1000, 1000}); // the small ones are through in a second
    meter.sample(t0 + seconds{1});
    EXPECT_EQ(meter.figures().seconds_left, 16u) << "64 KiB take as long as 16 of 4 KiB";
}

TEST(ResyncMeter, SurvivesFiguresThatCannotBe) {
    ResyncMeter meter;
    const std::uint64_t most = ~std::uint64_t{0};
    meter.begin(t0, false, {most, most - 1, 5, most});
    meter.moved(most, {most, 1, most, 0});
    meter.sample(t0 + seconds{1});
    EXPECT_THAT(meter.text(), HasSubstr("100 %"));
    meter.moved(0, {5, most, most, most});
    meter.sample(t0 + seconds{2});
    EXPECT_THAT(meter.text(), HasSubstr("0 %"));
    EXPECT_THAT(meter.text(), Not(HasSubstr("-")));
}

TEST(ReplicationMeter, MeansTheWaitForTheAcknowledgementThatWasWanted) {
    ReplicationMeter meter;
    meter.sample(t0);
    meter.began(t0, 1, Level::applied, 4096);
    meter.began(t0, 2, Level::applied, 4096);
    meter.acknowledged(t0 + microseconds{100}, 1, Level::received, false); // too little
    meter.acknowledged(t0 + microseconds{200}, 1, Level::applied, false);
    meter.acknowledged(t0 + microseconds{400}, 2, Level::received, true); // failed: nothing more comes
    meter.acknowledged(t0 + microseconds{900}, 2, Level::applied, false);
    meter.acknowledged(t0 + microseconds{900}, 7, Level::applied, false); // nobody asked
    meter.sample(t0 + milliseconds{500});
    EXPECT_EQ(meter.figures().latency_us, 0u) << "before the second is over";
    meter.sample(t0 + seconds{1});
    EXPECT_EQ(meter.figures().latency_us, 300u);
    EXPECT_EQ(meter.figures().bandwidth, 8192u);
    meter.sample(t0 + seconds{2});
    EXPECT_EQ(meter.figures().latency_us, 0u);
    EXPECT_EQ(meter.figures().bandwidth, 0u);
}

TEST(ReplicationMeter, ForgetsWhatAStreamTookAlong) {
    ReplicationMeter meter;
    meter.sample(t0);
    meter.began(t0, 1, Level::applied, 1);
    meter.forget();
    meter.acknowledged(t0 + microseconds{500}, 1, Level::applied, false);
    meter.sample(t0 + seconds{1});
    EXPECT_EQ(meter.figures().latency_us, 0u);
}

TEST(ProgressText, IsForPeople) {
    EXPECT_EQ(text_of_bytes(999), "999 B");
    EXPECT_EQ(text_of_bytes(1000), "1.0 kB");
    EXPECT_EQ(text_of_bytes(999'960), "1.0 MB");
    EXPECT_EQ(text_of_bytes(12'345'678), "12.3 MB");
    EXPECT_EQ(text_of_bytes(5'000'000'000'000'000), "5000.0 TB");
    EXPECT_EQ(text_of_seconds(38), "38 s");
    EXPECT_EQ(text_of_seconds(119), "119 s");
    EXPECT_EQ(text_of_seconds(725), "12 min");
    EXPECT_EQ(text_of_seconds(3 * 3600 + 300), "3 h 5 min");
}

} // namespace
} // namespace stead::mirror
