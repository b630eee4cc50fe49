// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/limits.hpp>
#include <stead/base/result.hpp>
#include <stead/base/time.hpp>
#include <stead/core/membership.hpp>
#include <stead/core/whiteboard.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

/// What sealed datagrams say, as values; the bytes are protobuf (datagram.proto).
namespace stead::wire {

struct Message {
    std::uint64_t session_low{}; ///< of the receiver: a message for a dead session is not for its successor
    std::uint64_t sequence{};    ///< from 1, per pair of sessions
    std::uint64_t base{};        ///< everything before is acknowledged or given up
    std::string kind;
    std::uint16_t version{};
    std::string body;
};

struct Ack {
    std::uint64_t session_low{}; ///< of the receiver of this acknowledgement
    std::uint64_t up_to{};
};

struct Request {
    std::uint64_t session_low{}; ///< of the owner, who is the receiver
    std::uint64_t from{};
};

struct Datagram {
    std::optional<membership::Heartbeat> heartbeat;
    std::optional<whiteboard::Delta> delta;
    std::optional<Request> request;
    std::optional<Message> message;
    std::optional<Ack> ack;
};

/// What the receiver knows of each node's clock and session: echoes name both in short and are widened with it.
/// The own entry holds the own session and the present time. A zero session is unknown.
struct PeerClock {
    SessionId session;
    Instant sent{};
};
using PeerClocks = std::array<PeerClock, limits::nodes_max>;

/// Keeps its buffers between calls. Not thread-safe.
class Codec {
public:
    Codec();
    ~Codec();
    /// Valid until the next call.
    [[nodiscard]] std::span<const std::uint8_t> encode(const Datagram& datagram);
    /// `sender` and `session` come from the sealed header. An echo that cannot be widened (another session than the
    /// one known here) keeps peer and `ago` and has a zero session and time. Errors: malformed, out_of_range.
    [[nodiscard]] Result<Datagram> decode(NodeId sender, const SessionId& session,
                                          std::span<const std::uint8_t> payload, const PeerClocks& clocks);

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace stead::wire
