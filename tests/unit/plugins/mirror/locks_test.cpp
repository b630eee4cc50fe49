// SPDX-License-Identifier: Apache-2.0
#include "locks.hpp"

#include <gtest/gtest.h>

/// Which of two requests waits for the other.
namespace stead::mirror {
namespace {

const Target inode{TargetKind::inode, {1, 1}, 0};
Target zone(std::uint64_t index) { return {TargetKind::zone, {1, 1}, index}; }

TEST(Locking, OnlyTheSameZonesMeetAndAnInodeMeetsThemAll) {
    Locks locks;
    EXPECT_TRUE(locks.request(1, {zone(3)}));
    EXPECT_TRUE(locks.request(2, {zone(4)}));
    EXPECT_FALSE(locks.request(3, {zone(3)}));
    EXPECT_FALSE(locks.request(4, {inode}));
    EXPECT_EQ(locks.release(1), std::vector<Ticket>{3});
    EXPECT_TRUE(locks.release(2).empty());
    EXPECT_EQ(locks.release(3), std::vector<Ticket>{4});
}

// An fsync must not hold up the writes that come after it, and it must come after those before it.
TEST(Locking, WhatOnlyFollowsWaitsAndHoldsUpNobody) {
    Locks locks;
    EXPECT_TRUE(locks.request(1, {zone(3)}));
    EXPECT_FALSE(locks.request(2, {inode}, true));
    EXPECT_TRUE(locks.request(3, {zone(4)})) << "behind one that only follows";
    EXPECT_FALSE(locks.request(4, {zone(3)})) << "still behind the first";
    EXPECT_EQ(locks.release(1), (std::vector<Ticket>{2, 4}));
    EXPECT_TRUE(locks.release(2).empty());
    EXPECT_TRUE(locks.release(3).empty());
    EXPECT_TRUE(locks.release(4).empty());
    EXPECT_TRUE(locks.empty());
}

} // namespace
} // namespace stead::mirror
