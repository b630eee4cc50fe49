// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/core.hpp>

#include <gtest/gtest.h>

#include <optional>

/// A node that is behind and takes over all the same: only when it is told to, only with a complete copy, and never
/// past the virtual address or the witness.
namespace stead::mirror {
namespace {

class Behind : public testing::Test {
protected:
    Behind() {
        options.node = 1;
        record.mirror = {1, 1};
        record.node = 1;
        record.epoch = epoch_after(0, 0);
        record.current = {2, 2};
        record.role = Role::second;
        record.in_sync = record.outdated = true; // the primary went on alone
    }

    void begin(const Input& peer = PeerLost{PeerLost::How::silent}) {
        core.emplace(options);
        feed(Start{record, {}, {7, 7}});
        feed(peer);
    }

    /// What is persisted is on disk at once.
    void feed(const Input& input) {
        now += seconds{1};
        std::vector<Output> outputs = core->step(now, input);
        for (const Output& output : outputs) {
            asked = std::holds_alternative<AskWitness>(output) ? std::get<AskWitness>(output).ticket : asked;
            probed = std::holds_alternative<ProbeVip>(output) ? std::get<ProbeVip>(output).ticket : probed;
            alarms += std::holds_alternative<Note>(output) && std::get<Note>(output).alarm ? 1 : 0;
        }
        for (const Output& output : outputs) {
            if (const auto* persist = std::get_if<Persist>(&output)) {
                feed(Done{.ticket = persist->ticket});
            }
        }
    }

    void answer(Ticket ticket, bool yes) { feed(Done{.ticket = ticket, .yes = yes}); }

    Options options;
    Record record;
    std::optional<Core> core;
    Instant now{seconds{1}};
    Ticket asked{}, probed{};
    int alarms{};
};

TEST_F(Behind, WaitsUntilItIsTold) {
    begin();
    feed(Tick{});
    EXPECT_EQ(core->role(), Role::waiting);
    feed(StartBehind{});
    EXPECT_EQ(core->role(), Role::alone);
    EXPECT_GE(alarms, 1);
    EXPECT_GT(core->record().epoch, record.epoch);
    EXPECT_EQ(core->record().current, record.current) << "its first change makes a generation of its own";
}

TEST_F(Behind, AnIncompleteCopyIsNeverServed) {
    record.in_sync = false;
    begin();
    feed(StartBehind{});
    EXPECT_EQ(core->role(), Role::waiting);
    record.in_sync = true;
    record.inconsistent = {3, 3};
    begin();
    feed(StartBehind{});
    EXPECT_EQ(core->role(), Role::waiting);
    record = Record{};
    begin();
    feed(StartBehind{});
    EXPECT_EQ(core->role(), Role::waiting);
}

TEST_F(Behind, APeerThatIsHeardOrConnectedForbidsIt) {
    begin(PeerBack{});
    feed(StartBehind{});
    EXPECT_EQ(core->role(), Role::waiting);
    begin();
    feed(LinkUp{});
    feed(StartBehind{});
    EXPECT_EQ(core->role(), Role::waiting);
    options.failover = false;
    begin();
    feed(StartBehind{});
    EXPECT_EQ(core->role(), Role::waiting);
}

TEST_F(Behind, TheVirtualAddressAndTheWitnessAreAsked) {
    options.witness = options.probe_vip = true;
    begin();
    feed(StartBehind{});
    ASSERT_NE(probed, 0u);
    answer(probed, true); // the primary lives
    feed(Tick{});
    EXPECT_EQ(core->role(), Role::waiting);
    EXPECT_EQ(asked, 0u);
    feed(StartBehind{});
    answer(probed, false);
    ASSERT_NE(asked, 0u);
    answer(asked, false); // it went on
    feed(Tick{});
    EXPECT_EQ(core->role(), Role::waiting);
    feed(StartBehind{});
    answer(probed, false);
    EXPECT_EQ(core->role(), Role::waiting);
    answer(asked, true);
    EXPECT_EQ(core->role(), Role::alone);
}

TEST_F(Behind, APeerThatReturnsMeanwhileEndsIt) {
    options.probe_vip = true;
    begin();
    feed(StartBehind{});
    feed(PeerBack{});
    answer(probed, false);
    feed(PeerLost{PeerLost::How::silent});
    feed(Tick{});
    EXPECT_EQ(core->role(), Role::waiting);
}

} // namespace
} // namespace stead::mirror
