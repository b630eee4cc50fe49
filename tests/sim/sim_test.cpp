// SPDX-License-Identifier: Apache-2.0
#include "cluster.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>

namespace stead::sim {
namespace {

std::uint64_t environment(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

void expect_good(std::uint64_t seed, std::uint64_t* steps = nullptr) {
    const std::string failure = run_history(seed, steps);
    EXPECT_TRUE(failure.empty()) << failure << "\nreplay with: STEAD_SIM_SEED=" << seed << " ctest -R sim_membership";
}

// Goal: no bucket is accepted twice where a two-way path exists, one id is one view, epochs only grow, and quiet
// brings one view that owns everything. Method: random faults in virtual time, one seed is one history.
TEST(Membership, HoldsItsInvariantsInEveryHistory) {
    if (const std::uint64_t only = environment("STEAD_SIM_SEED", 0); only != 0) {
        expect_good(only);
        return;
    }
    const std::uint64_t seeds = environment("STEAD_SIM_SEEDS", 1000);
    std::uint64_t steps = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (std::uint64_t seed = 1; seed <= seeds && !testing::Test::HasFailure(); ++seed) {
        expect_good(seed, &steps);
    }
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    std::printf("%llu seeds, %llu steps, %.1f s\n", static_cast<unsigned long long>(seeds),
                static_cast<unsigned long long>(steps), taken.count());
}

// A seed that failed once is run for ever.
TEST(Membership, HoldsInHistoriesThatOnceFailed) {
    std::ifstream file(STEAD_SEEDS_FILE);
    ASSERT_TRUE(file);
    std::string word;
    while (file >> word) {
        if (word.starts_with('#')) {
            std::getline(file, word);
        } else {
            expect_good(std::strtoull(word.c_str(), nullptr, 10));
        }
    }
}

// Goal: stops shorter than `suspect` change nothing. Method: no loss, delays below 1 ms, random stops of one node at
// a time, in each profile.
TEST(Membership, ShortStopsChangeNoView) {
    for (const Timing& timing : {fast_timing(), default_timing(), safe_timing()}) {
        for (std::uint64_t seed = 1; seed <= 10; ++seed) {
            Cluster cluster({.seed = seed, .nodes = 3, .timing = timing, .delay_min = timing.period / 1000,
                             .delay_max = timing.period / 100});
            cluster.start_all();
            cluster.run_for(4 * timing.takeover);
            ASSERT_TRUE(cluster.one_view()) << cluster.failure();
            const std::uint64_t views = cluster.views();
            Random random(seed);
            for (int i = 0; i < 100; ++i) {
                cluster.pause(static_cast<std::uint8_t>(random.below(3)),
                              random.between(nanoseconds{0}, timing.suspect));
                cluster.run_for(random.between(timing.suspect * 2, timing.takeover * 3));
            }
            EXPECT_EQ(cluster.views(), views) << "seed " << seed << " " << cluster.failure();
        }
    }
}

// Goal: 64 nodes form one view, hold their leases, bury a dead node in takeover + 4T, and cost <= 5 Mbit/s received.
TEST(Membership, SixtyFourNodes) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        Cluster cluster({.seed = seed, .nodes = 64, .loss_ppm = 1000});
        const Timing t = cluster.timing();
        cluster.start_all();
        cluster.run_for(2 * t.takeover + 12 * t.period);
        ASSERT_TRUE(cluster.one_view()) << cluster.failure();
        const std::uint64_t before = cluster.received(7);
        for (int i = 0; i < 20; ++i) {
            cluster.run_for(milliseconds{50});
            ASSERT_TRUE(cluster.all_owned()) << "a lease lapsed";
        }
        const std::uint64_t bits = (cluster.received(7) - before) * 450 * 8; // in one second
        std::printf("64 nodes: %.2f Mbit/s received per node, %llu steps\n", static_cast<double>(bits) / 1e6,
                    static_cast<unsigned long long>(cluster.steps()));
        EXPECT_LE(bits, 5'000'000u);
        cluster.crash(20, true);
        cluster.run_for(t.takeover + 4 * t.period);
        EXPECT_TRUE(cluster.one_view()) << cluster.failure();
        EXPECT_TRUE(cluster.all_owned());
        EXPECT_FALSE(cluster.failed()) << cluster.failure();
    }
}

} // namespace
} // namespace stead::sim
