// SPDX-License-Identifier: Apache-2.0
#include <stead/farm/mover.hpp>
#include <stead/farm/rendezvous.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ctime>

namespace stead::farm {
namespace {

constexpr std::array<std::uint64_t, 2> seed{0x0123456789abcdefu, 0xfedcba9876543210u};

Rendezvous nodes(unsigned count, std::uint32_t buckets = 65536) {
    Rendezvous r{seed, buckets};
    for (unsigned i = 0; i < count; ++i) {
        r.set_name(NodeId(i), "node" + std::to_string(100 + i));
    }
    return r;
}

Powers equal(unsigned count, std::uint32_t power = 100) {
    Powers powers{};
    std::fill_n(powers.begin(), count, power);
    return powers;
}

std::vector<unsigned> shares(const std::vector<std::uint8_t>& owners, unsigned count) {
    std::vector<unsigned> result(count);
    for (const auto owner : owners) {
        ++result.at(owner);
    }
    return result;
}

TEST(Rendezvous, SipHashMatchesItsPublishedVectors) {
    std::string text;
    for (char c = 0; c < 15; ++c) {
        text.push_back(c);
    }
    EXPECT_EQ(sip_hash({0x0706050403020100u, 0x0f0e0d0c0b0a0908u}, text), 0xa129ca6149be45e5u);
    EXPECT_EQ(sip_hash({0x0706050403020100u, 0x0f0e0d0c0b0a0908u}, std::string{}), 0x726fdb47dd0e0e31u);
}

TEST(Rendezvous, LogarithmIsCloseToTheRealOne) {
    for (int shift = 0; shift < 64; ++shift) {
        for (const std::uint64_t u :
             {0x8000000000000000u >> shift, 0xffffffffffffffffu >> shift, 0xb504f333f9de6484u >> shift}) {
            const double real = 64 - std::log2(static_cast<double>(u));
            EXPECT_NEAR(minus_log2(u) / 33554432.0, real, 1e-6) << u;
        }
    }
}

TEST(Rendezvous, GoldenVectors) { // never to change: nodes of two versions share one farm
    const auto r = nodes(3);
    const auto owner = r.owners({100, 100, 100});
    const auto weighted = r.owners({300, 200, 100});
    std::uint64_t digest = 0, weighted_digest = 0;
    for (std::size_t b = 0; b < owner.size(); ++b) {
        digest = (digest ^ owner[b]) * 0x100000001b3u;
        weighted_digest = (weighted_digest ^ weighted[b]) * 0x100000001b3u;
    }
    EXPECT_EQ(digest, 17698124410491897596u);
    EXPECT_EQ(weighted_digest, 4185291883559898795u);
    EXPECT_EQ(std::vector<std::uint8_t>(owner.begin(), owner.begin() + 16),
              (std::vector<std::uint8_t>{0, 0, 0, 0, 1, 1, 0, 2, 1, 2, 2, 2, 0, 0, 2, 2}));
}

TEST(Rendezvous, IsBalanced) {
    for (const unsigned count : {2u, 3u, 8u, 16u}) {
        const auto share = shares(nodes(count).owners(equal(count)), count);
        const double mean = 65536.0 / count;
        // Sampling noise of the largest of 16 shares of 4096 is about 3 %.
        EXPECT_LE(*std::max_element(share.begin(), share.end()) / mean, count <= 8 ? 1.02 : 1.04) << count;
    }
}

TEST(Rendezvous, SharesFollowPowers) {
    const auto share = shares(nodes(3).owners({300, 200, 100}), 3);
    EXPECT_NEAR(share[0] / 65536.0, 3 / 6.0, 0.005);
    EXPECT_NEAR(share[1] / 65536.0, 2 / 6.0, 0.005);
    EXPECT_NEAR(share[2] / 65536.0, 1 / 6.0, 0.005);
}

TEST(Rendezvous, LosingANodeMovesOnlyItsBuckets) {
    const auto r = nodes(8);
    const auto before = r.owners(equal(8));
    auto powers = equal(8);
    powers[5] = 0;
    const auto after = r.owners(powers);
    for (std::size_t b = 0; b < before.size(); ++b) {
        if (before[b] != 5) {
            ASSERT_EQ(before[b], after[b]);
        } else {
            ASSERT_NE(after[b], 5);
        }
    }
}

TEST(Rendezvous, LoweringAPowerMovesNothingBetweenTheOthers) {
    const auto r = nodes(5);
    const auto before = r.owners({100, 100, 100, 100, 100});
    const auto after = r.owners({100, 100, 30, 100, 100});
    for (std::size_t b = 0; b < before.size(); ++b) {
        ASSERT_TRUE(before[b] == after[b] || before[b] == 2);
    }
}

TEST(Rendezvous, NobodyOwnsWhenAllPowersAreZero) {
    const auto owner = nodes(2).owners(Powers{});
    EXPECT_EQ(std::count(owner.begin(), owner.end(), no_owner), 65536);
}

TEST(Rendezvous, SixtyFourNodesAreQuick) {
    const auto start = std::clock();
    const auto r = nodes(64);
    const auto hashed = std::clock();
    const auto owner = r.owners(equal(64));
    const auto end = std::clock();
    RecordProperty("hash_us", static_cast<int>((hashed - start) * 1000000 / CLOCKS_PER_SEC));
    RecordProperty("table_us", static_cast<int>((end - hashed) * 1000000 / CLOCKS_PER_SEC));
    EXPECT_LT(end - hashed, CLOCKS_PER_SEC / 2) << "a coarse bound: sanitizers and a busy machine";
    EXPECT_EQ(owner.size(), 65536u);
}

TEST(Rendezvous, ChoosesAStableReceiver) {
    const auto r = nodes(4);
    const auto chosen = r.choose("192.0.2.50", NodeSet{0xf});
    for (unsigned gone = 0; gone < 4; ++gone) {
        if (gone != chosen) {
            EXPECT_EQ(r.choose("192.0.2.50", NodeSet{0xf & ~(1u << gone)}), chosen);
        }
    }
    EXPECT_EQ(r.choose("192.0.2.50", NodeSet{}), no_owner);
}

} // namespace
} // namespace stead::farm
