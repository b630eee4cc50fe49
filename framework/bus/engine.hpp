// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mailbox.hpp"
#include "sockets.hpp"
#include "urgency.hpp"

#include <stead/bus/bus.hpp>
#include <stead/core/membership.hpp>
#include <stead/core/whiteboard.hpp>
#include <stead/wire/messages.hpp>
#include <stead/wire/sealed.hpp>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace stead::bus {

/// Messages per peer that are not yet acknowledged: raised by senders, lowered by the bus thread.
using InFlight = std::array<std::atomic<std::uint32_t>, limits::nodes_max>;

/// Everything that the bus thread owns. Only post() and stop() may be called from other threads.
class Engine {
public:
    Engine(const BusOptions& options, const SessionId& session, Sockets sockets, BusEvents events, Bus::Post post,
           Bus::LeaseWriter lease, InFlight& in_flight);
    void run();  ///< the thread's body; returns after stop()
    void stop(); ///< thread-safe
    /// Runs a command on the bus thread. Thread-safe.
    void post(std::function<void(Engine&)> command);

    // On the bus thread:
    void set_local(const std::function<void(membership::SetLocal&)>& change);
    void step(const membership::Input& input);
    void add_lease_writer(Bus::LeaseWriter lease);
    void publish(const std::string& name, const std::optional<std::string>& value);
    void send(NodeSet to, const PeerMessage& message);
    void set_keys(const std::vector<std::string>& keys);
    [[nodiscard]] const membership::Core& core() const noexcept { return core_; }
    [[nodiscard]] std::vector<Resource> resources() const;
    [[nodiscard]] SessionId session_of(NodeId peer) const noexcept;
    [[nodiscard]] BusCounters counters() const;

private:
    struct Peer {
        SessionId session;   ///< confirmed: it has echoed a recent send time of ours
        Instant last_sent{}; ///< its clock in its newest heartbeat
        std::uint32_t state{};
        bool state_known{};
        Instant asked{}; ///< last whiteboard request
        Mailbox mailbox;
    };
    enum class Quiet : std::uint8_t { version, foreign, unauthentic, replayed, malformed, revived, beyond, count };

    void be_realtime();
    void drain(std::size_t lan);
    void gather();
    void be_lively();
    void tick_if_due();
    void arm();
    void run_commands();
    void perform(const membership::Output& output);
    void tell_heard();
    void heartbeat_out(const membership::Send& send);
    void view_installed(const membership::ViewInstalled& installed);
    void lease_changed(Instant until);
    void transmit(NodeSet to, const wire::Datagram& datagram);
    void datagram_in(LanId lan, std::span<const std::uint8_t> bytes);
    void heartbeat_in(LanId lan, membership::Heartbeat&& received);
    void whiteboard_in(NodeId from, const wire::Datagram& datagram);
    void message_in(NodeId from, wire::Datagram& datagram);
    void deliver(NodeId from);
    void send_due(Instant now);
    void tell_changes(const std::vector<whiteboard::Change>& changes);
    void note(bool warning, std::string line);
    void note_quietly(Quiet kind, const std::string& line);
    [[nodiscard]] bool is_member(NodeId node) const noexcept { return core_.view().members.contains(node); }
    void lower_in_flight(NodeId peer, std::size_t count) {
        in_flight_[index(peer)] -= static_cast<std::uint32_t>(count);
    }

    BusOptions options_;
    SessionId session_;
    Sockets sockets_;
    std::shared_ptr<const BusEvents> events_;
    Bus::Post post_;
    std::vector<Bus::LeaseWriter> leases_;
    std::uint64_t lease_until_{};
    InFlight& in_flight_;
    wire::Sealer sealer_;
    wire::Opener opener_;
    wire::Codec codec_;
    wire::PeerClocks clocks_{};
    whiteboard::Board board_;
    membership::Core core_;
    membership::SetLocal local_;
    std::array<Peer, limits::nodes_max> peers_;
    std::array<NodeSet, limits::lans_max> heard_{}; ///< as told to events.heard
    BusCounters counters_;
    std::array<Instant, static_cast<std::size_t>(Quiet::count)> noted_{};
    Fd epoll_, timer_, wake_;
    Urgency urgency_;
    Instant armed_{never};
    Instant read_at_{};      ///< when datagrams were last read
    Instant lively_until_{}; ///< until then they are read as they come
    std::atomic<bool> stop_{};
    std::mutex commands_mutex_; ///< held for a push or a swap only
    std::vector<std::function<void(Engine&)>> commands_;
};

} // namespace stead::bus
