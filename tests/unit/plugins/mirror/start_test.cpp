// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/core.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

/// What a node makes of what its driver tells it at the start, and when what was parked is wanted no more.
namespace stead::mirror {
namespace {

class Starting : public testing::Test {
protected:
    Starting() {
        record.mirror = {1, 1};
        record.node = 1;
        record.epoch = epoch_after(0, 0);
        record.current = {2, 2};
        record.role = Role::second;
        record.in_sync = record.clean = true;
    }

    Start start() const { return Start{record, {}, {7, 7}}; }

    /// What is persisted, and flushed, is on disk at once.
    void feed(const Input& input) {
        now += milliseconds{1};
        for (const Output& output : core.step(now, input)) {
            outputs.push_back(output);
            if (const auto* persist = std::get_if<Persist>(&output)) {
                feed(Done{.ticket = persist->ticket});
            } else if (const auto* flush = std::get_if<Flush>(&output)) {
                feed(Done{.ticket = flush->ticket});
            }
        }
    }
    void receive(message::Body body) { feed(Received{{record.epoch, std::move(body)}}); }

    template <class What>
    std::size_t count() const {
        return static_cast<std::size_t>(
            std::ranges::count_if(outputs, [](const Output& output) { return std::holds_alternative<What>(output); }));
    }
    bool purges_all() const {
        return std::ranges::any_of(outputs, [](const Output& output) {
            const auto* purge = std::get_if<Purge>(&output);
            return purge != nullptr && purge->through == ~Seq{0};
        });
    }

    Options options{.node = 1};
    Record record;
    Core core{options};
    Instant now{seconds{1}};
    std::vector<Output> outputs;
};

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
    Facts peer;
    peer.incarnation = {9, 9};
    peer.record = record;
    peer.record.node = 0;
    peer.record.role = Role::alone;
    peer.dirty_known = peer.serving = true;
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
