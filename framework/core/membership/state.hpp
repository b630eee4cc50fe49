// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "clique.hpp"

#include <stead/core/membership.hpp>

#include <optional>
#include <string>
#include <utility>

// The simulator's proof that it would notice: tests/sim compiles these sources once per mutant. Always 0 elsewhere.
#ifndef STEAD_MEMBERSHIP_MUTANT
#define STEAD_MEMBERSHIP_MUTANT 0
#endif

namespace stead::membership {

enum class Mutant : int {
    none = 0,
    no_takeover_wait = 1,
    no_prepare = 2,
    lease_from_receipt = 3,
    lease_from_any_echo = 4, ///< also from nodes that voted for a view without me, and when outvoted
    no_self_distrust = 5,
    no_listening = 6,
    no_standing_back = 7,              ///< a newer view without me is ignored
    vote_without_waiting_for_self = 8, ///< only the proposer's own takeover wait counts
    silent_is_absent = 9,              ///< of whom a steadd spoke, and who is not heard, no session runs
    half_without_witness = 10,         ///< one half of the nodes asks nobody
    unconfirmed_reading = 11,          ///< what the witness holds is over, whatever happened since it was asked
    renews_the_dropped = 12,           ///< who was voted out, and in again, is renewed before that view is installed
    forgets_replaced_votes = 13,       ///< who was in a vote that was replaced has installed nothing
};
inline constexpr Mutant mutant{STEAD_MEMBERSHIP_MUTANT};

inline constexpr std::size_t echoes_max = 16;
inline constexpr std::uint64_t epoch_limit = std::uint64_t{1} << 62; ///< no honest cluster comes near: +1 never wraps
inline constexpr nanoseconds claim_max = std::chrono::hours{1}; ///< longer waits and ages are not believed to a peer

/// FNV-1a, of words.
struct Digest {
    std::uint64_t value{0xcbf29ce484222325u};
    void add(std::uint64_t word) noexcept {
        for (int i = 0; i < 8; ++i, word >>= 8) {
            value = (value ^ (word & 0xffu)) * 0x100000001b3u;
        }
    }
};

/// "{0,2}", for the log.
[[nodiscard]] std::string names(NodeSet set);

struct Peer {
    bool validated{};              ///< echoed a send time of this session of ours
    bool gone{};                   ///< this session left or was witnessed dead
    std::optional<SessionId> only; ///< its steadd says: no other session of it can act; zero: none runs
    SessionId session;
    Heartbeat beat;   ///< the newest one
    Instant received; ///< when `beat` came
    Instant clear_at; ///< our clock: when what its proposal leaves out is free, by its own knowledge
    std::array<Instant, limits::lans_max> heard_at{};    ///< suspicion counts from here, per LAN
    std::array<Instant, limits::lans_max> heard_since{}; ///< on that LAN without a gap of `suspect`
    Instant risk_until;                                  ///< until then it may act on a lease that we may have renewed
    Instant former_until;                                ///< the same of its sessions before this one
    Instant held_at;          ///< when we last knew that it held a view, and so renewed those it heard
    Instant grant;            ///< newest send time of ours that it echoed while it wanted us in its view
    Instant knows_until;      ///< newest send time of ours that it echoed: it knows what we said up to then
    std::uint64_t aware_of{}; ///< the vote of ours that it showed to know
    Instant echoed_at;        ///< when we last echoed it: oldest first in large groups
    // A session that has not proved that it lives now: echoed, so that it can.
    SessionId pending_session;
    Instant pending_sent;
    Instant pending_received;
    SessionId retired_session; ///< replaced by `session`; late datagrams of it are ignored
};

/// What the view should be, as this node sees it now.
struct Target {
    NodeSet members;
    Weights weights{};
    NodeSet renewed; ///< in the present view by name, but with a new session or without the view
    friend bool operator==(const Target&, const Target&) = default;
};

struct Claim {
    std::uint64_t epoch{};
    std::uint64_t id{};
    NodeSet members;
    Instant seen; ///< when somebody last heard a holder of it
};

struct Core::State {
    State(const Options& o, Instant now);

    // core.cpp
    void handle(const Tick&) {}
    void handle(const Received& input);
    void handle(const SetLocal& input);
    void handle(const Leave&);
    void handle(const PeerDied& input);
    void handle(const PeerPast& input);
    void is_gone(Peer& peer);
    void handle(const WitnessAnswer& input);
    void check_lateness();
    void distrust(std::string reason);
    void send_if_due();
    void send();
    void fill_echoes(Heartbeat& beat);
    [[nodiscard]] bool says_the_same(const Heartbeat& before, const Heartbeat& beat) const noexcept;
    [[nodiscard]] bool at_rest() const noexcept;
    void prove_routine();
    void update_lease();
    void set_lease(Instant until);
    void renew_lease_from(NodeId sender);
    void plan_deadline();
    bool accept_session(Peer& peer, const Heartbeat& beat);
    void take_grant(Peer& peer, const Heartbeat& beat);
    void update_risk(Peer& peer);
    [[nodiscard]] bool knows_vote(const Peer& peer) const noexcept;
    void note(std::string text, bool verbose = false) {
        out.emplace_back(std::in_place_type<Note>, Note{verbose, std::move(text)});
    }

    // witness.cpp
    [[nodiscard]] bool is_half(NodeSet members) const noexcept {
        return options.partition == Options::Partition::witness && 2 * members.size() == options.nodes.size();
    }
    [[nodiscard]] bool outnumbers(NodeSet members) const noexcept { return 2 * members.size() > options.nodes.size(); }
    [[nodiscard]] bool policy_allows(NodeSet members);
    [[nodiscard]] std::size_t echoes_needed() const noexcept;
    [[nodiscard]] std::uint64_t holder_of(const View& wanted) const noexcept;
    [[nodiscard]] bool witness_allows();
    void ask(const Grant& claim);
    void read_witness_if_due();
    void confirm_reading(Instant echoed);
    void tell_policy(NodeSet members, const std::string& more);

    // agreement.cpp
    void agree();
    void leave_view(std::string reason, bool damped);
    [[nodiscard]] bool fresh(const Peer& peer) const noexcept;
    [[nodiscard]] bool two_way(const Peer& peer) const noexcept;
    [[nodiscard]] NodeSet heard_on(std::uint8_t lan) const noexcept;
    [[nodiscard]] NodeSet eligible() const noexcept;
    [[nodiscard]] Matrix matrix() const noexcept;
    [[nodiscard]] bool config_agrees(NodeId a, NodeId b) const noexcept;
    [[nodiscard]] std::uint64_t config_of(NodeId node) const noexcept;
    [[nodiscard]] std::uint16_t weight_of(NodeId node) const noexcept;
    [[nodiscard]] Target compute_target();
    [[nodiscard]] bool blocked_by_claim(NodeSet wanted) const noexcept;
    [[nodiscard]] bool clean(NodeId node) const noexcept;
    [[nodiscard]] nanoseconds stability(const Target& target) const noexcept;
    [[nodiscard]] int proposer_rank(NodeSet members) const noexcept;
    [[nodiscard]] Instant own_clear(NodeSet members) const noexcept;
    [[nodiscard]] Instant others_renewed(NodeId node, NodeSet members) const noexcept;
    [[nodiscard]] View make_view(const Target& wanted) const;
    void learn_claims();
    void stand_back();
    [[nodiscard]] bool majority_misses_us() const noexcept;
    [[nodiscard]] nanoseconds courtesy() const noexcept;
    void watch_config();
    [[nodiscard]] bool all_joined(NodeSet members) const noexcept;
    [[nodiscard]] bool knows_everybody() const noexcept;
    [[nodiscard]] bool outvoted() const noexcept;
    void vote_on_peers();
    void maybe_propose();
    void vote(const View& wanted);
    void maybe_install();
    void install();
    void finish_leave();

    Options options;
    Timing t;
    Instant now;
    Instant previous; ///< time of the step before
    Instant deadline;
    Phase phase{Phase::listening};
    std::array<Peer, limits::nodes_max> peers;
    View view;
    std::array<SessionId, limits::nodes_max> view_sessions{};
    View proposal;
    NodeSet dropped; ///< Heartbeat::dropped
    Instant voted_at;
    Instant clear_at; ///< own part of the takeover wait of `proposal`
    std::uint64_t epoch_max{};
    std::uint64_t epoch_installed{}; ///< by this session; views never go back behind it
    Target target;
    Instant target_since;
    Claim known; ///< relayed: the best view besides ours
    Instant lease_until;
    bool lease_frozen{}; ///< others voted for a view without us: what we have runs out, nothing renews it
    Instant installed_at;
    Instant gone_at; ///< when the last of those who are gone said so, or was seen to die
    Instant listen_until;
    bool listens_only_for_others{}; ///< of this node nothing can act: once all others are known, listening is over
    Instant hold_until;
    std::array<Instant, 8> exclusions{}; ///< newest first
    Instant next_beat;
    Instant last_sent;
    bool urgent{};
    bool settled{}; ///< the last look at everything found it at rest
    bool routine{}; ///< this step brought only what that look had seen
    std::uint64_t random;
    std::uint16_t weight{};
    std::uint32_t state_code{};
    std::uint64_t digest{};
    NodeSet leave_waits;
    Instant leave_until;
    bool leave_done{};
    std::string policy_said; ///< why the policy forbids a view; empty = nothing was said
    bool config_excluded{};
    struct Witness {
        std::uint64_t ended{};   ///< Heartbeat::witness_ended
        std::uint64_t reading{}; ///< what it held at `read_at`, not confirmed yet
        Instant read_at;
        Instant read_due;          ///< when to ask again what it holds
        std::uint64_t granted{};   ///< the holder that has its word
        Grant held;                ///< what it holds instead, as it said last
        Instant asked;             ///< when a claim was last sent
        std::uint64_t asked_for{}; ///< its holder
        bool refused{};            ///< it answered that claim
        bool awaited{};            ///< nothing but its word is missing for `proposal`
    } witness;
    Counters counters;
    std::vector<Output> out;
};

} // namespace stead::membership
