// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/limits.hpp>
#include <stead/base/time.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

/// Datagrams that nobody outside the cluster can read, forge or replay. docs/protocol-wire.md is the format.
namespace stead::wire {

inline constexpr std::uint8_t version_major = 1;
inline constexpr std::size_t header_bytes = 29;
inline constexpr std::size_t tag_bytes = 16;
inline constexpr std::size_t payload_bytes_max = limits::datagram_bytes_max - header_bytes - tag_bytes;
inline constexpr std::uint64_t sequence_max = (std::uint64_t{1} << 48) - 1; // 890 years at 10,000 datagrams a second

using Bytes = std::span<const std::uint8_t>;

/// Which group of which cluster; equal on all its nodes.
struct Place {
    std::uint64_t cluster{};
    GroupId group{};
};

/// Seals with one key and one sequence per session. Not thread-safe: the bus thread owns it.
class Sealer {
public:
    Sealer(const Place& place, NodeId self, const SessionId& session, const std::string& cluster_key);
    ~Sealer();
    /// The sealed datagram; valid until the next call. `payload` is at most payload_bytes_max.
    [[nodiscard]] Bytes seal(LanId lan, Bytes payload);
    /// Another cluster key; the sequence goes on, so that no nonce repeats even when an old key returns.
    void set_key(const std::string& cluster_key);
    [[nodiscard]] const SessionId& session() const noexcept { return session_; }

private:
    struct Cipher;
    Place place_;
    NodeId self_;
    SessionId session_;
    std::uint64_t sequence_{};
    std::unique_ptr<Cipher> cipher_;
    std::array<std::uint8_t, limits::datagram_bytes_max> out_{};
};

/// Why a datagram was not opened.
enum class Drop : std::uint8_t {
    none,
    version,     ///< another major version
    foreign,     ///< another cluster.xml, group or LAN, or our own datagram come back
    unauthentic, ///< too short, unknown key, or the tag does not fit
    replayed,    ///< seen before, too old for the window, or of a session that a newer one has replaced
};

struct Opened {
    Drop drop{Drop::none};
    NodeId node{};
    SessionId session;
    Bytes payload; ///< valid until the next call
};

/// Opens datagrams of all other nodes and keeps their replay windows. Memory is bounded: 4 sessions per node.
/// Not thread-safe.
class Opener {
public:
    static constexpr std::size_t window_bits = 2048; ///< per session and LAN
    static constexpr std::size_t sessions_per_node = 4;
    static constexpr std::size_t retired_per_node = 32;
    /// Datagrams that name an unknown session cost a key derivation each: so many per second, the rest is dropped.
    static constexpr std::uint32_t trials_per_second = 2000;

    Opener(const Place& place, NodeId self, const SessionId& session, NodeSet nodes,
           const std::vector<std::string>& cluster_keys);
    ~Opener();
    [[nodiscard]] Opened open(Instant now, LanId lan, Bytes datagram);
    /// This session answered our challenge: it is the node's present one. Earlier confirmed ones are retired and their
    /// datagrams count as replayed from then on.
    void confirm(NodeId node, const SessionId& session);
    /// Replay windows survive; sessions are keyed anew.
    void set_keys(const std::vector<std::string>& cluster_keys);

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace stead::wire
