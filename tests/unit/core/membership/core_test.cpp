// SPDX-License-Identifier: Apache-2.0
#include <stead/core/membership.hpp>

#include <gtest/gtest.h>

#include <utility>

namespace stead::membership {
namespace {

/// A few cores on one perfect LAN; one step is one millisecond.
class Lan {
public:
    explicit Lan(std::uint8_t nodes, Options::Partition partition = Options::Partition::serve, bool past_over = false) {
        for (std::uint8_t id = 0; id < nodes; ++id) {
            Options options;
            options.self = NodeId{id};
            options.session = SessionId{id + std::uint64_t{1}, 7};
            options.nodes = NodeSet{(std::uint64_t{1} << nodes) - 1};
            options.timing = default_timing();
            options.partition = partition;
            options.past_over = past_over;
            options.random_seed = id;
            cores_.emplace_back(options, now_);
            outputs_.emplace_back();
        }
        deaf.resize(nodes);
    }

    void step(std::uint8_t node, const Input& input) {
        for (Output& output : cores_[node].step(now_, input)) {
            if (const auto* send = std::get_if<Send>(&output); send != nullptr && !deaf[node]) {
                wire_.push_back(send->heartbeat);
            } else if (const auto* question = std::get_if<AskWitness>(&output)) {
                claims_.emplace_back(node, question->claim);
            }
            outputs_[node].push_back(std::move(output));
        }
    }

    void run(milliseconds length) {
        for (milliseconds passed{0}; passed < length; passed += milliseconds{1}) {
            now_ += milliseconds{1};
            for (const Heartbeat& beat : std::exchange(wire_, {})) {
                for (std::uint8_t to = 0; to < cores_.size(); ++to) {
                    if (!deaf[to] && NodeId{to} != beat.sender &&
                        apart.contains(NodeId{to}) == apart.contains(beat.sender)) {
                        step(to, Received{LanId{0}, beat});
                    }
                }
            }
            for (const auto& [node, claim] : std::exchange(claims_, {})) {
                if (witness) {
                    held = claim.counter > held.counter ? claim : held;
                    step(node, WitnessAnswer{claim, held});
                }
            }
            for (std::uint8_t node = 0; node < cores_.size(); ++node) {
                if (cores_[node].next_deadline() <= now_) {
                    step(node, Tick{});
                }
            }
        }
    }

    template <typename Kind>
    [[nodiscard]] int count(std::uint8_t node) const {
        int found = 0;
        for (const Output& output : outputs_[node]) {
            found += std::holds_alternative<Kind>(output) ? 1 : 0;
        }
        return found;
    }

    /// The last one of its kind.
    template <typename Kind>
    [[nodiscard]] Kind last(std::uint8_t node) const {
        Kind found{};
        for (const Output& output : outputs_[node]) {
            if (const auto* one = std::get_if<Kind>(&output)) {
                found = *one;
            }
        }
        return found;
    }

    [[nodiscard]] const Core& operator[](std::uint8_t node) const { return cores_[node]; }
    [[nodiscard]] Instant now() const { return now_; }
    [[nodiscard]] bool acting(std::uint8_t node) const { return cores_[node].lease_until() > now_; }
    void sleep(milliseconds length) { now_ += length; }

    std::vector<bool> deaf; ///< neither hears nor is heard
    NodeSet apart;          ///< these and the others do not hear each other
    bool witness{};         ///< answers, at once
    Grant held;             ///< by it

private:
    Instant now_{seconds{1000}};
    std::vector<Core> cores_;
    std::vector<std::vector<Output>> outputs_;
    std::vector<Heartbeat> wire_;
    std::vector<std::pair<std::uint8_t, Grant>> claims_;
};

TEST(Core, AloneInItsGroupActsAtOnce) {
    Lan lan(1);
    lan.step(0, SetLocal{.weight = 1});
    lan.run(milliseconds{100});
    EXPECT_EQ(lan[0].view().members, NodeSet{NodeId{0}});
    EXPECT_TRUE(lan.acting(0));
}

TEST(Core, TwoFormOneViewAndHoldLeases) {
    Lan lan(2);
    lan.run(seconds{2});
    EXPECT_EQ(lan[0].view(), lan[1].view());
    EXPECT_EQ(lan[0].view().members.size(), 2);
    EXPECT_TRUE(lan.acting(0) && lan.acting(1));
}

TEST(Core, WithPolicyServeBothSidesServe) {
    Lan lan(2);
    lan.run(seconds{2});
    lan.deaf[1] = true;
    lan.run(seconds{2});
    EXPECT_TRUE(lan.acting(0) && lan.acting(1));
    EXPECT_EQ(lan.count<AskWitness>(0), 0);
}

TEST(Core, WithoutMajorityNobodyActs) {
    Lan lan(2, Options::Partition::majority);
    lan.run(seconds{2});
    EXPECT_TRUE(lan.acting(0));
    lan.deaf[1] = true;
    lan.run(seconds{2});
    EXPECT_FALSE(lan.acting(0));
    EXPECT_FALSE(lan.acting(1));
}

TEST(Core, WhoWaitsForOthersSaysWhy) {
    for (const auto policy : {Options::Partition::majority, Options::Partition::witness}) {
        Lan lan(2, policy); // of a silent witness
        lan.deaf[1] = true; // from the start
        lan.run(seconds{3});
        ASSERT_EQ(lan.count<Excluded>(0), 1) << "told once";
        const std::string why = policy == Options::Partition::majority ? "partition=\"majority\" needs more than half"
                                                                       : "the witness has not answered";
        EXPECT_EQ(lan.last<Excluded>(0).reason, "only 1 of 2 nodes are here; " + why);
        lan.deaf[1] = false;
        lan.run(seconds{3});
        EXPECT_TRUE(lan.acting(0));
        lan.deaf[1] = true;
        lan.run(seconds{3});
        EXPECT_EQ(lan.last<Excluded>(0).reason, "only 1 of 2 nodes are here; " + why);
    }
}

TEST(Core, AMajorityGoesOn) {
    Lan lan(3, Options::Partition::majority);
    lan.run(seconds{2});
    lan.deaf[2] = true;
    lan.run(seconds{2});
    EXPECT_TRUE(lan.acting(0) && lan.acting(1));
    EXPECT_FALSE(lan.acting(2));
    EXPECT_EQ(lan[0].view().members.size(), 2);
}

TEST(Core, WhoWasVotedOutIsRenewedByTheNextViewOnly) {
    Lan lan(3);
    lan.run(seconds{2});
    ASSERT_TRUE(lan.acting(1));
    const auto beat_of_0 = [&](NodeSet dropped) { // it votes for a view with 1, and echoes what 1 sent now
        Heartbeat beat = lan.last<Send>(0).heartbeat;
        beat.sent = lan.now();
        beat.phase = Phase::prepared;
        beat.proposal = lan[0].view();
        beat.proposal.epoch += 2;
        beat.proposal.id = 77;
        beat.dropped = dropped;
        beat.echoes = {{NodeId{1}, SessionId{2, 7}, lan.last<Send>(1).heartbeat.sent, nanoseconds{0}}};
        return Received{LanId{0}, beat};
    };
    lan.deaf[0] = lan.deaf[2] = true;
    lan.run(milliseconds{60});
    const Instant until = lan[1].lease_until();
    lan.step(1, beat_of_0(NodeSet{NodeId{1}}));
    EXPECT_EQ(lan[1].lease_until(), until) << "it voted for a view without 1, and somebody may have installed that";
    lan.sleep(milliseconds{1});
    lan.step(1, beat_of_0(NodeSet{}));
    EXPECT_GT(lan[1].lease_until(), until);
}

TEST(Core, OfTwoHalvesTheOneActsToWhichTheWitnessGivesItsWord) {
    Lan lan(4, Options::Partition::witness);
    lan.witness = true;
    const auto both = [&](std::uint8_t a, std::uint8_t b) { return lan.acting(a) && lan.acting(b); };
    const auto none = [&](std::uint8_t a, std::uint8_t b) { return !lan.acting(a) && !lan.acting(b); };
    lan.run(seconds{2});
    ASSERT_TRUE(both(0, 1) && both(2, 3));
    EXPECT_EQ(lan.held, Grant{}) << "nobody needs it while more than half are here";
    for (std::uint64_t cut = 1; cut <= 3; ++cut) { // and again: a majority between two cuts makes room for a new word
        lan.apart = NodeSet{NodeId{2}, NodeId{3}};
        lan.run(seconds{5});
        EXPECT_TRUE((both(0, 1) && none(2, 3)) || (none(0, 1) && both(2, 3))) << "cut " << cut;
        EXPECT_EQ(lan.held.counter, cut);
        const std::uint8_t loser = lan.acting(0) ? 2 : 0;
        const std::string winner = lan.acting(0) ? "{0,1}" : "{2,3}";
        EXPECT_EQ(lan.last<Excluded>(loser).reason,
                  "only 2 of 4 nodes are here; the witness gave its word to " + winner);
        lan.apart = NodeSet{};
        lan.run(seconds{70}); // the longest hold-down, and the next reading
        ASSERT_TRUE(both(0, 1) && both(2, 3)) << "cut " << cut;
    }
}

TEST(Core, AHalfThatHasTheWordMayChangeItsWeights) {
    Lan lan(2, Options::Partition::witness);
    lan.witness = true;
    lan.run(seconds{2});
    lan.deaf[1] = true;
    lan.run(seconds{2});
    ASSERT_TRUE(lan.acting(0));
    lan.step(0, SetLocal{.weight = 7});
    lan.run(seconds{1});
    EXPECT_EQ(lan[0].view().weights[0], 7);
    EXPECT_TRUE(lan.acting(0));
    EXPECT_FALSE(lan.acting(1));
}

TEST(Core, AHalfWithoutAWordDoesNotAct) {
    Lan lan(2, Options::Partition::witness);
    lan.run(seconds{2});
    lan.deaf[1] = true;
    lan.run(seconds{3});
    EXPECT_FALSE(lan.acting(0) || lan.acting(1)) << "the witness is silent";
    lan.witness = true;
    lan.run(seconds{2});
    EXPECT_NE(lan.acting(0), lan.acting(1)) << "it is asked again";
    EXPECT_EQ(lan.held.counter, 1u);
}

TEST(Core, ADifferentConfigurationStaysOut) {
    Lan lan(3);
    lan.step(0, SetLocal{.weight = 1, .config = 5});
    lan.step(1, SetLocal{.weight = 1, .config = 5});
    lan.step(2, SetLocal{.weight = 1, .config = 6});
    lan.run(seconds{3});
    EXPECT_EQ(lan[0].view().members, (NodeSet{NodeId{0}, NodeId{1}}));
    EXPECT_EQ(lan[2].view().id, 0u);
    EXPECT_GE(lan.count<Excluded>(2), 1);
    EXPECT_EQ(lan.last<Excluded>(2).differs_from, NodeId{0});
    lan.step(2, SetLocal{.weight = 1, .config = 5});
    lan.run(seconds{3});
    EXPECT_EQ(lan[2].view().members.size(), 3);
}

TEST(Core, ALeaveNeedsNoTimeout) {
    Lan lan(3);
    lan.run(seconds{2});
    lan.step(2, Leave{});
    lan.run(milliseconds{50});
    EXPECT_EQ(lan[0].view().members.size(), 2);
    EXPECT_EQ(lan.count<LeaveDone>(2), 1);
    EXPECT_FALSE(lan.acting(2));
}

/// However old the view is: nobody renews the lease now, but that is no silence.
TEST(Core, WhoseLastPeerSaysGoodbyeIsNeverWithoutAView) {
    Lan lan(2);
    lan.run(seconds{20});
    lan.step(1, Leave{});
    lan.run(milliseconds{50});
    EXPECT_EQ(lan.count<Excluded>(0), 0);
    EXPECT_EQ(lan[0].view().members, NodeSet{NodeId{0}});
    EXPECT_EQ(lan.last<ViewInstalled>(0).left, NodeSet{NodeId{1}});
    EXPECT_TRUE(lan.acting(0));
    EXPECT_EQ(lan.count<LeaveDone>(1), 1);
}

TEST(Core, AWitnessedDeathNeedsNoTimeout) {
    Lan lan(3);
    lan.run(seconds{2});
    lan.deaf[2] = true;
    lan.step(0, PeerDied{NodeId{2}, SessionId{3, 7}});
    lan.step(1, PeerDied{NodeId{2}, SessionId{3, 7}});
    lan.run(milliseconds{50});
    EXPECT_EQ(lan[0].view().members.size(), 2);
    EXPECT_EQ(lan[1].view(), lan[0].view());
}

TEST(Core, OnlyTheDeathOfTheSessionThatIsKnownIsBelieved) {
    Lan lan(2);
    lan.run(seconds{2});
    lan.step(0, PeerDied{NodeId{1}, SessionId{99, 7}}); // late news of an older life
    EXPECT_EQ(lan.count<PeerEnded>(0), 0);
    lan.step(0, PeerDied{NodeId{1}, SessionId{2, 7}});
    lan.step(0, PeerDied{NodeId{1}, SessionId{2, 7}});
    EXPECT_EQ(lan.count<PeerEnded>(0), 1);
}

/// What the steadds say: of each node no session but the present one can act.
void tell_pasts(Lan& lan, std::uint8_t nodes) {
    for (std::uint8_t of = 0; of < nodes; ++of) {
        for (std::uint8_t to = 0; to < nodes; ++to) {
            if (of != to) {
                lan.step(to, PeerPast{NodeId{of}, SessionId{of + std::uint64_t{1}, 7}});
            }
        }
    }
}

TEST(Core, ListeningEndsWhenNothingThatMayActIsHidden) {
    const auto soon = 3 * default_timing().period; // of takeover + 2T
    Lan together(3, Options::Partition::serve, true);
    tell_pasts(together, 3);
    together.run(duration_cast<milliseconds>(soon));
    EXPECT_EQ(together[0].view().members.size(), 3);
    EXPECT_TRUE(together.acting(2));

    Lan alone(3, Options::Partition::serve, true); // the others are stopped
    alone.deaf[1] = alone.deaf[2] = true;
    alone.step(0, PeerPast{NodeId{1}, SessionId{}});
    alone.run(duration_cast<milliseconds>(soon));
    EXPECT_EQ(alone[0].phase(), Phase::listening); // node 2 is not known
    alone.step(0, PeerPast{NodeId{2}, SessionId{}});
    alone.run(duration_cast<milliseconds>(soon));
    EXPECT_EQ(alone[0].view().members, NodeSet{NodeId{0}});
}

TEST(Core, ListeningIsWholeWhileSomethingMayAct) {
    const auto soon = duration_cast<milliseconds>(3 * default_timing().period);
    Lan silent(2, Options::Partition::serve, true); // it runs, and is not heard
    silent.deaf[1] = true;
    tell_pasts(silent, 2);
    silent.run(soon);
    EXPECT_EQ(silent[0].phase(), Phase::listening);

    Lan crashed(2); // own earlier sessions may act
    tell_pasts(crashed, 2);
    crashed.run(soon);
    EXPECT_EQ(crashed[0].phase(), Phase::listening);

    Lan other(2, Options::Partition::serve, true); // the steadd speaks of another session than the one that is heard
    other.step(0, PeerPast{NodeId{1}, SessionId{99, 7}});
    other.step(1, PeerPast{NodeId{0}, SessionId{99, 7}});
    other.run(soon);
    EXPECT_EQ(other[0].phase(), Phase::listening);
    other.run(seconds{1});
    EXPECT_EQ(other[0].view().members.size(), 2);
}

TEST(Core, HoldDownDoublesWithEachExclusion) {
    Lan lan(3);
    lan.run(seconds{2});
    for (const seconds held : {seconds{1}, seconds{2}, seconds{4}}) {
        lan.deaf[2] = true;
        lan.run(seconds{1});
        ASSERT_EQ(lan[0].view().members.size(), 2);
        lan.deaf[2] = false;
        lan.run(held - milliseconds{100}); // it hears of its exclusion within 100 ms
        EXPECT_EQ(lan[0].view().members.size(), 2) << "held for " << held.count() << " s";
        lan.run(seconds{1});
        EXPECT_EQ(lan[0].view().members.size(), 3) << "held for " << held.count() << " s";
    }
}

TEST(Core, CountersTellHowNearTheTimersCame) {
    Lan lan(2);
    lan.run(seconds{2});
    const Counters before = lan[0].counters();
    EXPECT_EQ(before.views_installed, 1u);
    EXPECT_GT(before.silence_max, milliseconds{30});
    EXPECT_LT(before.silence_max, milliseconds{70});
    EXPECT_GT(before.lease_margin_min, milliseconds{50});
    EXPECT_EQ(before.late_timers, 0u);
    lan.sleep(milliseconds{80});
    lan.run(milliseconds{200});
    EXPECT_GE(lan[0].counters().late_timers, 1u);
    EXPECT_GE(lan[0].counters().lateness_max, milliseconds{30});
    EXPECT_EQ(lan[0].counters().self_distrusts, 0u);
    EXPECT_EQ(lan[0].counters().views_installed, 1u);
}

TEST(Core, StrangersAreIgnoredAndCounted) {
    Lan lan(2);
    Heartbeat stranger;
    stranger.sender = NodeId{9};
    lan.step(0, Received{LanId{0}, stranger});
    stranger.sender = NodeId{0}; // our own name
    lan.step(0, Received{LanId{0}, stranger});
    stranger.sender = NodeId{1};
    lan.step(0, Received{LanId{5}, stranger}); // no such LAN
    EXPECT_EQ(lan[0].counters().heartbeats_ignored, 3u);
    EXPECT_TRUE(lan[0].heard(LanId{0}).empty());
}

TEST(Core, ARecordingIsNeverHeard) {
    Lan lan(2);
    Heartbeat recorded;
    recorded.sender = NodeId{1};
    recorded.session = SessionId{99, 99};
    recorded.echoes.push_back({NodeId{0}, SessionId{55, 55}, lan.now(), nanoseconds{0}}); // an echo of another session
    for (int i = 0; i < 100; ++i) {
        recorded.sent += milliseconds{1};
        lan.step(0, Received{LanId{0}, recorded});
    }
    EXPECT_TRUE(lan[0].heard(LanId{0}).empty());
}

} // namespace
} // namespace stead::membership
