// SPDX-License-Identifier: Apache-2.0
#include "one_node.hpp"

#include <cerrno>

/// What an application is answered, and when: on a disk that fails, and before the end of a resync.
namespace stead::mirror {
namespace {

class Serving : public OneNode {
protected:
    Serving() { record.role = Role::alone; }

    static Operation write(const Fid& fid, std::uint64_t zone = 0) {
        return {OpKind::change, false, false, {{TargetKind::inode, fid, 0}, {TargetKind::zone, fid, zone}}, nullptr};
    }
    Operation sync() const { return {OpKind::sync, false, true, {inode}, nullptr}; }
    std::vector<Ticket> syncs() const {
        std::vector<Ticket> tickets;
        for (const Output& output : outputs) {
            if (const auto* one = std::get_if<SyncInode>(&output)) {
                tickets.push_back(one->ticket);
            }
        }
        return tickets;
    }
    void done(Ticket ticket, int error = 0) { feed(Done{.ticket = ticket, .error = error}); }
    bool sent_change(OpKind kind) const {
        return std::ranges::any_of(outputs, [kind](const Output& output) {
            const auto* send = std::get_if<Send>(&output);
            const auto* change = send == nullptr ? nullptr : std::get_if<message::Change>(&send->message.body);
            return change != nullptr && change->operation.kind == kind;
        });
    }
    /// Also of what is read next. Nothing is there any more, so nothing is sent.
    void end_reads() {
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            if (const auto* read = std::get_if<Read>(&outputs[i])) {
                done(read->ticket);
            }
        }
    }
    bool reads(const Target& target) const {
        return std::ranges::any_of(outputs, [&target](const Output& output) {
            const auto* read = std::get_if<Read>(&output);
            return read != nullptr && read->target == target;
        });
    }
    /// The one who serves, with a secondary that has all.
    void both_are_equal() {
        feed(PeerBack{});
        feed(Lease{now + seconds{100}});
        feed(LinkUp{});
        receive(message::Hello{peer_as(Role::second)});
        receive(message::Marks{{}, true});
        receive(message::BeginAck{});
        receive(message::EndAck{});
        ASSERT_EQ(core.role(), Role::prim);
        outputs.clear();
    }
    /// A secondary that lacks another file comes and gets as far as a resync's copies.
    void resync_begins() {
        feed(PeerBack{});
        feed(Lease{now + seconds{100}});
        feed(LinkUp{});
        Facts peer = peer_as(Role::second);
        peer.memory = true;
        receive(message::Hello{peer});
        receive(message::Marks{{{{TargetKind::zone, {77, 77}, 0}, Mark::dirty}}, true});
        receive(message::BeginAck{});
        ASSERT_GE(count<Read>(), 1u) << "not copying";
        std::erase_if(outputs, [](const Output& output) { return !std::holds_alternative<Read>(output); });
    }

    const Target inode{TargetKind::inode, {5, 5}, 0};
};

TEST_F(Serving, WhoseFsyncFailedDoesNotWriteDownThatItStoppedClean) {
    feed(start());
    feed(Request{1, sync()});
    done(last<SyncInode>().ticket, EIO);
    EXPECT_EQ(last<Answer>().error, EIO);
    feed(Command::stop);
    ASSERT_EQ(count<Stopped>(), 1u);
    EXPECT_FALSE(last<Persist>().record.clean);
}

TEST_F(Serving, WhoseFsyncSucceededDoes) {
    feed(start());
    feed(Request{1, sync()});
    done(last<SyncInode>().ticket);
    EXPECT_EQ(last<Answer>().error, 0);
    feed(Command::stop);
    EXPECT_TRUE(last<Persist>().record.clean);
}

// The system tells one of them; for the others nothing is left to be written.
TEST_F(Serving, AFailedFsyncCountsForAllThatHadBegun) {
    feed(start());
    feed(Request{1, sync()});
    feed(Request{2, sync()});
    const std::vector<Ticket> both = syncs();
    ASSERT_EQ(both.size(), 2u) << "the second waits for the first";
    done(both[0], EIO);
    done(both[1]);
    EXPECT_EQ(last<Answer>().id, 2u);
    EXPECT_EQ(last<Answer>().error, EIO);
    feed(Request{3, sync()});
    done(last<SyncInode>().ticket);
    EXPECT_EQ(last<Answer>().error, 0) << "begun after it was told";
}

// The disk that failed one may let the next one wait for long.
TEST_F(Serving, TheFirstFailureOfSeveralInodesIsActedOnAtOnce) {
    feed(start());
    feed(Request{1, write({6, 6})});
    done(last<Apply>().ticket);
    resync_begins();
    Operation make = write(inode.fid);
    make.durable = true;
    make.targets.push_back({TargetKind::inode, {8, 8}, 0});
    feed(Request{2, make});
    done(last<Apply>().ticket);
    const std::vector<Ticket> both = syncs();
    ASSERT_EQ(both.size(), 2u);
    EXPECT_EQ(count<CloseLink>(), 0u);
    done(both[0], EIO);
    EXPECT_EQ(count<CloseLink>(), 1u);
    EXPECT_EQ(last<Answer>().id, 2u);
    EXPECT_EQ(last<Answer>().error, EIO);
    const std::size_t answers = count<Answer>();
    done(both[1], EIO);
    EXPECT_EQ(count<Answer>(), answers) << "told twice";
}

TEST_F(Serving, ASecondFailureDoesNotEndTheStreamOnWhichThePeerIsAskedToTakeOver) {
    feed(start());
    both_are_equal();
    feed(Request{1, sync()});
    feed(Request{2, sync()});
    const std::vector<Ticket> both = syncs();
    ASSERT_EQ(both.size(), 2u);
    done(both[0], EIO);
    EXPECT_EQ(core.role(), Role::waiting);
    done(both[1], EIO);
    EXPECT_EQ(count<CloseLink>(), 0u);
}

TEST_F(Serving, BeforeTheEndOfAResyncNobodyWaitsForThePeer) {
    feed(start());
    feed(Request{1, write({6, 6})});
    done(last<Apply>().ticket);
    resync_begins();
    feed(Request{2, write(inode.fid)});
    EXPECT_TRUE(sent_change(OpKind::change));
    ASSERT_EQ(count<Apply>(), 1u);
    done(last<Apply>().ticket);
    EXPECT_EQ(last<Answer>().id, 2u);
    feed(Request{3, sync()});
    done(last<SyncInode>().ticket);
    EXPECT_EQ(last<Answer>().id, 3u);
    EXPECT_FALSE(sent_change(OpKind::sync));
}

// Nobody would know, after a power loss, of a change that is here and never arrived.
TEST_F(Serving, UnlessNothingIsOnRecordOfIt) {
    feed(start());
    resync_begins();
    feed(Request{2, write(inode.fid)});
    EXPECT_TRUE(sent_change(OpKind::change));
    EXPECT_EQ(count<Apply>(), 0u);
    feed(Request{3, sync()});
    EXPECT_TRUE(sent_change(OpKind::sync));
}

// The peer would go back behind a write that it has done.
TEST_F(Serving, AnInodeIsNotReadBesideAWriteOfIt) {
    feed(start());
    both_are_equal();
    for (std::uint64_t zone = 0; zone < 2; ++zone) {
        feed(Request{zone, write(inode.fid, zone)});
        message::Acked acked;
        acked.seq = std::get<message::Change>(last<Send>().message.body).seq;
        acked.level = Level::applied;
        receive(acked);
    }
    std::vector<Ticket> both;
    for (const Output& output : outputs) {
        if (const auto* apply = std::get_if<Apply>(&output)) {
            both.push_back(apply->ticket);
        }
    }
    ASSERT_EQ(both.size(), 2u);
    done(both[0], ENOSPC);
    EXPECT_EQ(last<Read>().target.kind, TargetKind::zone);
    EXPECT_FALSE(reads(inode)) << "the other write is being applied";
    static const int content{}; // the core does not look into it
    feed(Done{.ticket = last<Read>().ticket,
              .payload = Payload{std::shared_ptr<void>{}, reinterpret_cast<const Content*>(&content)}});
    message::Acked copied;
    copied.seq = std::get<message::Copy>(last<Send>().message.body).seq;
    receive(copied);
    EXPECT_EQ(count<Answer>(), 0u) << "before all of it was read";
    outputs.clear();
    feed(Request{3, write(inode.fid, 7)});
    EXPECT_FALSE(sent_change(OpKind::change)) << "a third one while the inode is to be read";
    done(both[1]);
    EXPECT_TRUE(reads(inode));
}

// It would be in no log, while a power loss brings the old one back.
TEST_F(Serving, WhatIsAskedWhileTheLogIsBeingClosedWaits) {
    feed(start());
    feed(Request{1, write({6, 6})});
    done(last<Apply>().ticket);
    resync_begins();
    end_reads();
    hold_records = true;
    receive(message::EndAck{});
    const Ticket writing = last<Persist>().ticket;
    feed(Request{2, write(inode.fid)});
    EXPECT_FALSE(sent_change(OpKind::change));
    hold_records = false;
    done(writing);
    EXPECT_TRUE(sent_change(OpKind::change));
}

// Only its memory knows what the peer may lack, and this life may end.
TEST_F(Serving, WhoCannotWriteTheLogHasEverythingCompared) {
    feed(start());
    both_are_equal();
    feed(Request{1, write(inode.fid)});
    log_error = ENOSPC;
    feed(PeerLost{PeerLost::How::died});
    EXPECT_EQ(core.role(), Role::waiting);
    EXPECT_TRUE(last<Persist>().record.unknown);
}

} // namespace
} // namespace stead::mirror
