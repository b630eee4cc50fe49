// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/handshake.hpp>

#include <gtest/gtest.h>

#include <array>

namespace stead::mirror {
namespace {

constexpr Gen mirror_id{9, 9}, g0{1, 1}, g1{2, 2}, g2{3, 3};

/// Two nodes that were equal in this life and lost each other.
std::array<Facts, 2> pair() {
    std::array<Facts, 2> both;
    for (std::uint8_t node = 0; node < 2; ++node) {
        Facts& facts = both[node];
        facts.incarnation = {100, node};
        facts.peer_incarnation = {100, std::uint64_t{1} - node};
        facts.record.mirror = mirror_id;
        facts.record.node = node;
        facts.record.epoch = epoch_after(0, 0);
        facts.record.current = g0;
        facts.record.in_sync = facts.dirty_known = facts.memory = true;
    }
    return both;
}

void restarted(Facts& facts) {
    facts.incarnation.high += 1;
    facts.peer_incarnation = {};
    facts.memory = false;
}

void went_on(Facts& facts, const Gen& to) {
    facts.record.base = facts.record.current;
    facts.record.push_history(facts.record.current);
    facts.record.current = to;
    facts.record.role = Role::alone;
}

/// What node 0 concludes; node 1 must conclude the same.
Decision decided(const std::array<Facts, 2>& both) {
    const Decision first = decide(both[0], both[1]);
    const Decision second = decide(both[1], both[0]);
    if (first.verdict == Verdict::source || first.verdict == Verdict::target) {
        EXPECT_EQ(second.verdict, first.verdict == Verdict::source ? Verdict::target : Verdict::source);
    } else {
        EXPECT_EQ(second.verdict, first.verdict);
    }
    EXPECT_EQ(first.extent, second.extent);
    EXPECT_EQ(first.unsynced_self, second.unsynced_peer);
    EXPECT_EQ(first.unsynced_peer, second.unsynced_self);
    return first;
}

TEST(MirrorHandshake, EqualAndNobodyForgot) {
    const Decision decision = decided(pair());
    EXPECT_EQ(decision.verdict, Verdict::source); // the holder of the epoch
    EXPECT_EQ(decision.extent, Extent::marks);
    EXPECT_FALSE(decision.unsynced_self || decision.unsynced_peer);
}

TEST(MirrorHandshake, TheSurvivorIsTheSourceAndSendsWhatACrashMayHaveTaken) {
    auto both = pair();
    restarted(both[0]);
    const Decision decision = decided(both);
    EXPECT_EQ(decision.verdict, Verdict::target);
    EXPECT_EQ(decision.extent, Extent::marks);
    EXPECT_TRUE(decision.unsynced_self);
    EXPECT_FALSE(decision.unsynced_peer);
}

TEST(MirrorHandshake, WhoStoppedCleanLostNothing) {
    auto both = pair();
    restarted(both[0]);
    both[0].record.clean = true;
    EXPECT_FALSE(decided(both).unsynced_self);
    both[0].record.inconsistent = g1; // half resynced: what it was sent then counts
    EXPECT_TRUE(decided(both).unsynced_self);
}

TEST(MirrorHandshake, AFailedFsyncIsAPowerLossAlsoForAPeerThatForgot) {
    auto both = pair();
    restarted(both[0]);
    both[1].incarnation.high += 1;
    EXPECT_FALSE(decided(both).unsynced_peer);
    both[1].sync_failed = true;
    EXPECT_TRUE(decided(both).unsynced_peer);
}

TEST(MirrorHandshake, BothCrashedMeansCompareAllUnlessIntentsAreKnown) {
    auto both = pair();
    restarted(both[0]);
    restarted(both[1]);
    EXPECT_EQ(decided(both).extent, Extent::compare_all);
    both[0].intent_known = true; // of the last primary
    EXPECT_EQ(decided(both).extent, Extent::marks);
    EXPECT_EQ(decided(both).verdict, Verdict::source);
    both[0].intent_known = false;
    both[1].intent_known = true;
    EXPECT_EQ(decided(both).extent, Extent::compare_all);
}

TEST(MirrorHandshake, IntentsCountUnlessBothHadFlushedEverything) {
    auto both = pair();
    restarted(both[0]);
    restarted(both[1]);
    both[0].intent_known = true;
    EXPECT_FALSE(decided(both).both_flushed);
    both[0].record.clean = true; // the last primary stopped, and the other one's disk may lack what was intended
    EXPECT_FALSE(decided(both).both_flushed);
    both[1].record.since_clean = true;
    EXPECT_TRUE(decided(both).both_flushed);
    EXPECT_TRUE(decide(both[1], both[0]).both_flushed);
}

TEST(MirrorHandshake, WhoWentOnAloneIsTheSource) {
    auto both = pair();
    went_on(both[1], g1);
    EXPECT_EQ(decided(both).verdict, Verdict::target);
    EXPECT_EQ(decided(both).extent, Extent::marks);
    both[1].dirty_known = false; // its log was damaged
    EXPECT_EQ(decided(both).extent, Extent::compare_all);
}

TEST(MirrorHandshake, TwoThatWentOnAreASplitThatOnlyAnOrderEnds) {
    auto both = pair();
    went_on(both[0], g1);
    went_on(both[1], g2);
    EXPECT_EQ(decided(both).verdict, Verdict::split);
    both[0].accept_loss = true;
    EXPECT_EQ(decided(both).verdict, Verdict::target);
    EXPECT_EQ(decided(both).extent, Extent::marks); // they have one base
}

TEST(MirrorHandshake, AnOrderToFollowLetsNoOlderCopyServeByItself) {
    auto both = pair();
    went_on(both[0], g1);
    restarted(both[0]);
    restarted(both[1]);
    both[0].accept_loss = true;
    EXPECT_EQ(decided(both).verdict, Verdict::nobody);
    both[1].version = 2; // it would not know the rule
    EXPECT_EQ(decided(both).verdict, Verdict::target);
    both[1].version = 3;
    both[1].serving = true; // somebody said prim there
    EXPECT_EQ(decided(both).verdict, Verdict::target);
}

TEST(MirrorHandshake, EmptyNeverWinsAndStrangersAreRefused) {
    auto both = pair();
    both[0].record = {};
    EXPECT_EQ(decided(both).verdict, Verdict::target);
    EXPECT_EQ(decided(both).extent, Extent::everything);
    both = pair();
    both[1].record.current = g2;
    EXPECT_EQ(decided(both).verdict, Verdict::refuse);
    both = pair();
    both[1].record.mirror = g2;
    EXPECT_EQ(decided(both).verdict, Verdict::refuse);
}

TEST(MirrorHandshake, WhoAskedForItsWordAndDiedWithoutGoingOnHasTheWorseCopy) {
    auto both = pair();
    both[0].record.role = Role::prim;
    both[1].record.role = Role::second;
    both[1].record.outdated = true;
    EXPECT_EQ(decided(both).verdict, Verdict::source); // it lost nothing
    auto crashed = both;
    restarted(crashed[0]);
    EXPECT_EQ(decided(crashed).verdict, Verdict::target);
    EXPECT_TRUE(decided(crashed).unsynced_self);

    const auto still_the_source = [&](auto change) {
        auto other = crashed;
        change(other[0], other[1]);
        EXPECT_EQ(decided(other).verdict, Verdict::source);
    };
    still_the_source([](Facts& asked, Facts&) { asked.serving = true; });
    still_the_source([](Facts& asked, Facts&) { asked.record.role = Role::alone; });
    still_the_source([](Facts& asked, Facts&) { asked.record.clean = true; });
    still_the_source([](Facts& asked, Facts&) { went_on(asked, g1); });
    still_the_source([](Facts&, Facts& other) { restarted(other); });
    still_the_source([](Facts&, Facts& other) { other.sync_failed = true; });
    still_the_source([](Facts&, Facts& other) { other.record.in_sync = false; });
    still_the_source([](Facts&, Facts& other) { other.version = 1; }); // it would not know the rule
}

TEST(MirrorHandshake, HalfResyncedOrOutdatedIsNeverTheSource) {
    auto both = pair();
    both[0].record.inconsistent = g1;
    EXPECT_EQ(decided(both).verdict, Verdict::target);
    both[1].record.inconsistent = g1;
    EXPECT_EQ(decided(both).verdict, Verdict::refuse);
    both = pair();
    both[0].record.outdated = true;
    EXPECT_EQ(decided(both).verdict, Verdict::target);
}

} // namespace
} // namespace stead::mirror
