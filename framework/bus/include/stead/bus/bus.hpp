// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/result.hpp>
#include <stead/base/time.hpp>
#include <stead/core/membership.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

/// One bus per group of nodes: views, whiteboard and messages over sealed UDP, driven by a thread of its own.
namespace stead::bus {

struct LanOptions {
    std::string name;
    std::string interface_hint;                 ///< empty = by route
    std::vector<std::string> addresses;         ///< numeric, index = NodeId; empty string = node not on this LAN
    std::string local_address;                  ///< numeric; what we bind (laddr when NATed)
};

struct BusOptions {
    GroupId group{};
    NodeId self{};
    std::vector<std::string> node_names; ///< index = NodeId; the whole cluster
    NodeSet nodes;                       ///< who may be in this group
    std::vector<LanOptions> lans;        ///< 1..8
    std::uint16_t port{};
    std::vector<std::string> keys;       ///< 1 or 2 raw keys of 32 bytes; [0] seals, all open
    std::uint64_t cluster_id{};          ///< digest of the cluster.xml in force: another one is counted as foreign
    std::uint64_t config{};              ///< membership::Options::config
    bool past_over{};                    ///< membership::Options::past_over
    membership::Timing timing{};
    membership::Options::Partition partition{};
    std::string witness; ///< with Partition::witness: the node that events.ask_witness is to ask; none of `nodes`
    bool realtime{true};                 ///< SCHED_FIFO and mlockall where permitted, else one warning
    /// Kernel id of the thread that runs what is posted: with `realtime` it is SCHED_RR for the second after a change
    /// of view, so that a busy machine does not delay what the change is for. 0 = leave it as it is.
    pid_t strand_thread{};
    std::function<bool(LanId, NodeId to)>
        lose; ///< fault injection: true = this datagram is not sent. On the bus thread
};

/// One resource as some member wrote it.
struct Resource {
    NodeId owner{};
    std::string name;  ///< "tcp.web80"
    std::string value; ///< "up"
    std::uint64_t version{}; ///< grows with each write of the owner's session
};

struct PeerMessage {
    NodeId from{};
    std::string kind;     ///< "farm.step"
    std::uint16_t version{};
    std::string body;     ///< opaque
};

/// Called on the strand given by `post` below, one at a time, in order.
struct BusEvents {
    std::function<void(const membership::ViewInstalled&)> view;
    std::function<void(const std::string& reason)> excluded;
    std::function<void(const Resource&, bool removed)> resource; ///< own writes included; removed: owner left the view
    std::function<void(const PeerMessage&)> message;
    std::function<void(bool warning, const std::string& line)> note;
    std::function<void()> leave_done;
    std::function<void(NodeId, std::uint32_t state)> peer_state;
    std::function<void(NodeId)> peer_ended; ///< peer_died() was about the session that is known, not an older one
    std::function<void(const std::string& line)> debug; ///< lines for -A only
    std::function<void(const membership::Grant&)> ask_witness; ///< answered by witness_answer(), or never
    /// Whose heartbeats come over this LAN, each time that it changes; nobody is heard at first. Leave it empty in a
    /// large group: every heartbeat has its look.
    std::function<void(LanId, NodeSet)> heard;
};

struct BusCounters {
    membership::Counters membership;
    std::uint64_t datagrams_in{}, datagrams_out{}, bytes_in{}, bytes_out{};
    std::uint64_t dropped_unauthentic{}, dropped_foreign{}, dropped_replayed{}, dropped_malformed{}, dropped_version{};
    std::uint64_t send_errors{};
};

/// Thread-safe: every member may be called from any thread and returns at once; work is done on the bus thread.
class Bus {
public:
    /// Runs a callable on the owner's strand. Must be thread-safe and must not block.
    using Post = std::function<void(std::function<void()>)>;
    /// Called on the bus thread for every lease change: one store to a mapped page, nothing else.
    using LeaseWriter = std::function<void(std::uint64_t until_boottime_ns)>;

    /// Binds the sockets and starts the bus thread. Errors: io with the address that cannot be bound; `events` may be
    /// called from then on. The node first listens (takeover + 2T, or until it knows everybody), then joins.
    [[nodiscard]] static Result<std::unique_ptr<Bus>> start(const BusOptions& options, BusEvents events, Post post,
                                                            LeaseWriter lease);
    /// Closes the lease, stops the thread. Say leave() first for a clean one.
    virtual ~Bus() = default;

    virtual void set_weight(std::uint16_t weight) = 0;
    virtual void set_state(std::uint32_t state) = 0;
    virtual void set_config(std::uint64_t digest) = 0;
    /// Adds a place that gets every lease change (a service plugin's on_lease). Called once with the present value.
    virtual void add_lease_writer(LeaseWriter lease) = 0;
    virtual void leave() = 0; ///< events.leave_done follows
    virtual void peer_died(NodeId peer, SessionId session) = 0;
    virtual void peer_past(NodeId peer, SessionId session) = 0; ///< membership::PeerPast
    virtual void witness_answer(const membership::WitnessAnswer& answer) = 0;

    /// Writes an own resource; an empty optional removes it. Errors: out_of_range beyond limits.hpp.
    [[nodiscard]] virtual Result<void> publish(std::string_view name, std::optional<std::string_view> value) = 0;
    /// A copy of all resources known now.
    [[nodiscard]] virtual std::vector<Resource> resources() const = 0;

    /// Sends to live members of the present view (self excluded), acknowledged and in order per sender and receiver;
    /// given up when the receiver leaves the view. Errors: out_of_range (size, too many in flight).
    [[nodiscard]] virtual Result<void> send(NodeSet to, std::string_view kind, std::uint16_t version,
                                            std::string_view body) = 0;

    [[nodiscard]] virtual membership::View view() const = 0;
    [[nodiscard]] virtual NodeSet heard(LanId lan) const = 0;
    [[nodiscard]] virtual SessionId session() const = 0;
    [[nodiscard]] virtual SessionId session_of(NodeId peer) const = 0;
    [[nodiscard]] virtual BusCounters counters() const = 0;
    /// Reads the keys again during rotation.
    virtual void set_keys(std::vector<std::string> keys) = 0;
};

} // namespace stead::bus
