// SPDX-License-Identifier: Apache-2.0
// The bucket hash is a contract between nodes, versions and other people's tools: these numbers never change. They were
// made by an independent SipHash-1-3 over the bytes that docs/data-path.md names.
#include "frames.hpp"

#include <gtest/gtest.h>

namespace stead::shim::test {
namespace {

constexpr std::array<std::uint64_t, 2> seed{0x0706050403020100, 0x0f0e0d0c0b0a0908};

TEST(BucketHash, GoldenVectors) {
    const Ip a4 = ip4(192, 0, 2, 1);
    const Ip a6{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    EXPECT_EQ(bucket_of(seed, Key::address, a4, 40000, 7), 15049);
    EXPECT_EQ(bucket_of(seed, Key::port, a4, 40000, 7), 15863);
    EXPECT_EQ(bucket_of(seed, Key::address, a6, 443, 7), 5236);
    EXPECT_EQ(bucket_of(seed, Key::port, a6, 443, 7), 32278);
    EXPECT_EQ(bucket_of(seed, Key::ip_id, a4, 1, 0x1234), 58212);
    EXPECT_EQ(bucket_of(seed, Key::ip_id, a6, 2, 0x1234), 58212);
}

TEST(BucketHash, SpreadsNeighbouringClientsEvenly) {
    // Goal: 65536 clients in a row fill 64 equal parts of the table within 6 sigma. Method: a fixed seed, so no chance.
    std::array<int, 64> parts{};
    for (int i = 0; i < 65536; ++i) {
        parts[bucket_of(seed, Key::address, ip4(10, 1, i >> 8, i & 255), 0, 0) >> 10] += 1;
    }
    for (const int part : parts) {
        EXPECT_NEAR(part, 1024, 192);
    }
}

TEST(BucketHash, SeedMatters) {
    int equal = 0;
    for (int i = 0; i < 4096; ++i) {
        const Ip client = ip4(10, 2, i >> 8, i & 255);
        equal += bucket_of(seed, Key::address, client, 0, 0) ==
                 bucket_of({seed[0] ^ 1, seed[1]}, Key::address, client, 0, 0);
    }
    EXPECT_LE(equal, 4);
}

} // namespace
} // namespace stead::shim::test
