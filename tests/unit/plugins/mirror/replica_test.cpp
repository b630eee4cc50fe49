// SPDX-License-Identifier: Apache-2.0
#include "one_node.hpp"

/// The target of a resync: what it overwrites, and when.
namespace stead::mirror {
namespace {

class Replica : public OneNode {
protected:
    void resync_begins() {
        feed(start());
        feed(PeerBack{});
        feed(Lease{now + seconds{100}});
        feed(LinkUp{});
        Facts peer = peer_as(Role::alone);
        peer.serving = true;
        receive(message::Hello{peer});
        receive(message::Begin{record.mirror, record.current, true, false});
        outputs.clear();
    }
    /// May overlap with a write of another zone.
    message::Change write(Seq seq, std::uint64_t index) const {
        return {seq, {OpKind::change, false, false, {inode, zone(index)}, nullptr}, Level::applied};
    }
    Target zone(std::uint64_t index) const { return {TargetKind::zone, inode.fid, index}; }
    std::vector<SaveUndo> saves() const {
        std::vector<SaveUndo> found;
        for (const Output& output : outputs) {
            if (const auto* one = std::get_if<SaveUndo>(&output)) {
                found.push_back(*one);
            }
        }
        return found;
    }
    void done(Ticket ticket) { feed(Done{.ticket = ticket}); }

    const Target inode{TargetKind::inode, {5, 5}, 0};
};

// Both change the inode, and the second one has nothing else to save.
TEST_F(Replica, AWriteWaitsForTheUndoThatTheOneBesideItAskedFor) {
    resync_begins();
    receive(message::Copy{1, zone(2), nullptr, {}});
    done(last<SaveUndo>().ticket);
    done(last<Store>().ticket);
    outputs.clear();
    receive(write(2, 1));
    receive(write(3, 2));
    EXPECT_EQ(count<Apply>(), 0u) << "its inode is not saved yet";
    const std::vector<SaveUndo> asked = saves();
    ASSERT_EQ(asked.size(), 2u);
    EXPECT_EQ(asked[1].targets, std::vector<Target>{inode});
    done(asked[0].ticket);
    EXPECT_EQ(count<Apply>(), 1u);
    done(asked[1].ticket);
    EXPECT_EQ(count<Apply>(), 2u);
    receive(write(4, 3));
    EXPECT_EQ(saves().back().targets, std::vector<Target>{zone(3)}) << "the inode is saved";
}

} // namespace
} // namespace stead::mirror
