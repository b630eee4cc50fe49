// SPDX-License-Identifier: Apache-2.0
#include "farm_sim.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace stead::farm::sim {
namespace {

std::uint64_t option(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Goal: joins, stops, deaths, weight changes, exclusions, cuts and view changes in the middle of moves never let two
// nodes take one new flow, planned moves lose nothing, no live node's connection is reset, and quiet settles all.
// Method: real Movers, an oracle for membership, virtual time; one seed is one history.
TEST(FarmSim, KeepsItsPromises) {
    if (std::getenv("STEAD_SIM_SEED") != nullptr) {
        FarmSim sim{option("STEAD_SIM_SEED", 0)};
        EXPECT_EQ(sim.run(), "");
        return;
    }
    FarmSim::Counters sum;
    const std::uint64_t seeds = option("STEAD_SIM_SEEDS", 1000);
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
        FarmSim sim{seed};
        const auto broken = sim.run();
        ASSERT_EQ(broken, "") << "replay with: STEAD_SIM_SEED=" << seed << " ctest -R sim_farm";
        sum.probes += sim.counters.probes;
        sum.connections += sim.counters.connections;
        sum.moves += sim.counters.moves;
        sum.lossless_probes += sim.counters.lossless_probes;
        sum.sent_on += sim.counters.sent_on;
    }
    // A simulator that tests nothing must not pass.
    EXPECT_GT(sum.connections, seeds * 50);
    EXPECT_GT(sum.moves, seeds * 20);
    EXPECT_GT(sum.lossless_probes, seeds * 50);
    EXPECT_GT(sum.sent_on, seeds * 50); // directed delivery
}

// Histories that once broke a promise, kept for ever.
TEST(FarmSim, StaysCuredOfWhatOnceFailed) {
    for (const std::uint64_t seed : {15u, 20u, 36u, 41u, 49u, 61u, 75u, 88u, 126u, 290u, 2307u, 3559u, 3866u, 8690u}) {
        FarmSim sim{seed};
        EXPECT_EQ(sim.run(), "") << "seed " << seed;
    }
}

struct Mutant {
    const char* name;
    void (*apply)(Mover::Options&);
};

class FarmMutant : public testing::TestWithParam<Mutant> {};

TEST_P(FarmMutant, IsCaught) {
    Mover::Options options;
    GetParam().apply(options);
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        if (!FarmSim{seed, options}.run().empty()) {
            RecordProperty("caught_at_seed", static_cast<int>(seed));
            return;
        }
    }
    FAIL() << "300 histories with a broken protocol broke no promise";
}

INSTANTIATE_TEST_SUITE_P(
    All, FarmMutant,
    testing::Values(Mutant{"skip_barrier", [](Mover::Options& o) { o.mutant_skip_barrier = true; }},
                    Mutant{"always_in_line", [](Mover::Options& o) { o.mutant_always_in_line = true; }},
                    Mutant{"forget_holders", [](Mover::Options& o) { o.mutant_forget_holders = true; }},
                    Mutant{"take_first", [](Mover::Options& o) { o.mutant_take_first = true; }},
                    Mutant{"ignore_lists", [](Mover::Options& o) { o.mutant_ignore_lists = true; }}),
    [](const auto& mutant) { return std::string{mutant.param.name}; });

} // namespace
} // namespace stead::farm::sim
