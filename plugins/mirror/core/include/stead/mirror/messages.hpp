// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/handshake.hpp>

#include <optional>
#include <variant>

/// What the two nodes say to each other: docs/protocol-mirror.md, section 3.
namespace stead::mirror::message {

struct Hello {
    Facts facts;
};
struct Marks { ///< many at a time; zones are exact
    std::vector<LogEntry> marks;
    bool last{};
};
/// Of a resync, as its source counts: for who watches the target. All 0: an older source, or no resync.
struct Progress {
    std::uint64_t targets{}, targets_left{}; ///< the first grows while more is found
    std::uint64_t zones{}, zones_left{};     ///< of these
    bool operator==(const Progress&) const = default;
};
struct Begin {
    Gen mirror;
    Gen current;
    bool anything{};                ///< false: nothing differs, no mark of inconsistency needed
    bool keep_undo{};               ///< the target's own changes are about to be overwritten
    Progress progress{};            ///< nothing is done yet
    std::optional<Extent> extent{}; ///< none: an older source
};
struct BeginAck {};
struct Change {
    Seq seq{};
    Operation operation;
    Level wanted{Level::applied};
};
struct Copy {
    Seq seq{};
    Target target;
    Payload payload;
    Progress progress{}; ///< when it was sent
};
struct Probe {
    Seq seq{};
    Target target;
    std::uint64_t digest{};
    Progress progress{}; ///< when it was sent
};
struct Acked {
    Seq seq{};
    Level level{};
    int error{};
    bool equal{};
    std::vector<Fid> created;     ///< by a listing: FIDs that were not there
    std::vector<Zones> lacking{}; ///< of the inode copied: hold data there, and nothing here
};
struct Durable {
    Seq seq{};
};
struct End {
    Seq durable{}; ///< the source has this on disk
    Gen current;
    std::array<Gen, history_max> history{};
};
struct EndAck {};
struct Handover {
    bool flushed{}; ///< false: its disk failed; it is outdated by its own word
};
struct Taken {};
struct Stale {};

using Body = std::variant<Hello, Marks, Begin, BeginAck, Change, Copy, Probe, Acked, Durable, End, EndAck, Handover,
                          Taken, Stale>;

// Over the bus: small, repeated, may be lost or late.
struct Outdate {
    std::uint64_t nonce{};
};
struct Outdated {
    std::uint64_t nonce{};
};
using BusBody = std::variant<Outdate, Outdated, Stale>;

} // namespace stead::mirror::message

namespace stead::mirror {

struct Message {
    Epoch epoch{};
    message::Body body;
};
struct BusMessage {
    Epoch epoch{};
    message::BusBody body;
};

} // namespace stead::mirror
