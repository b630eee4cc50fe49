// SPDX-License-Identifier: Apache-2.0
#include "one_node.hpp"

/// What a node makes of what its driver tells it at the start, and when what was parked is wanted no more.
namespace stead::mirror {
namespace {

class Starting : public OneNode {};

TEST_F(Starting, ConfiguredAnewMeansThatEverythingIsComparedAndIsOnRecordFirst) {
    Start input = start();
    input.configured_anew = true;
    const std::vector<Output> first = core.step(now, input);
    const auto persist =
        std::ranges::find_if(first, [](const Output& output) { return std::holds_alternative<Persist>(output); });
    ASSERT_NE(persist, first.end());
    EXPECT_TRUE(std::get<Persist>(*persist).record.unknown);
    EXPECT_TRUE(
        std::ranges::none_of(first, [](const Output& output) { return std::holds_alternative<ForeignKept>(output); }));
    feed(Done{.ticket = std::get<Persist>(*persist).ticket});
    EXPECT_EQ(count<ForeignKept>(), 1u);
    EXPECT_FALSE(core.facts().dirty_known);
}

TEST_F(Starting, ANewNodeIsNotConfiguredAnew) {
    record = {};
    Start input = start();
    input.configured_anew = true;
    feed(input);
    EXPECT_EQ(count<ForeignKept>(), 1u);
    EXPECT_TRUE(core.facts().dirty_known);
}

TEST_F(Starting, NumbersGoOnBehindWhatIsParked) {
    Start input = start();
    input.last_parked = 4711;
    feed(input);
    EXPECT_EQ(core.facts().seq, 4711u);
}

TEST_F(Starting, WhoServesByItselfKeepsNothingParked) {
    record.role = Role::alone;
    feed(start());
    EXPECT_EQ(core.role(), Role::alone);
    EXPECT_TRUE(purges_all());
}

TEST_F(Starting, WhoTakesTheRoleKeepsNothingParked) {
    feed(start());
    feed(PeerBack{});
    feed(Lease{now + seconds{10}});
    feed(LinkUp{});
    Facts peer = peer_as(Role::alone);
    peer.serving = true;
    receive(message::Hello{peer});
    receive(message::Begin{record.mirror, record.current, false, false});
    receive(message::End{5, record.current, record.history});
    ASSERT_TRUE(core.equal());
    EXPECT_FALSE(purges_all()) << "the primary may not have flushed what it removes";
    receive(message::Handover{true});
    EXPECT_EQ(core.role(), Role::prim);
    EXPECT_TRUE(purges_all());
}

} // namespace
} // namespace stead::mirror
