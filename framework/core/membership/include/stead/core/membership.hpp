// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/limits.hpp>
#include <stead/base/time.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

/// Who is in the group, agreed. docs/protocol-membership.md is the protocol; this is its pure core.
namespace stead::membership {

/// Relative share of each node in a view, index = NodeId; 0 = takes part, but takes no traffic.
using Weights = std::array<std::uint16_t, limits::nodes_max>;

/// All durations that the protocol uses. takeover >= lease + slack; see make_timing().
struct Timing {
    nanoseconds period;   ///< T: one heartbeat per LAN
    nanoseconds suspect;  ///< a peer not heard for so long is no longer an edge
    nanoseconds lease;    ///< counted from the send time of the last heartbeat that a peer echoed
    nanoseconds takeover; ///< silence after which others may take a node's part, counted from receipt
};
[[nodiscard]] Timing fast_timing() noexcept;
[[nodiscard]] Timing default_timing() noexcept;
[[nodiscard]] Timing safe_timing() noexcept;
/// Classic attributes: T = pulse, takeover = slost_count * pulse, lease = takeover - max(25 ms, 10 %).
[[nodiscard]] Timing classic_timing(nanoseconds pulse, unsigned slost_count) noexcept;

/// How long a driver may let what it received wait while the core is at_rest(), to read it together with what comes
/// next: to be woken costs more than a datagram. Nothing in small groups, where seldom two come at a time.
[[nodiscard]] constexpr nanoseconds read_late(const Timing& timing, std::size_t nodes) noexcept {
    return nodes < 9 ? nanoseconds{0} : nodes < 33 ? timing.period / 5 : timing.period / 3;
}

enum class Phase : std::uint8_t {
    listening, ///< started or distrusts itself: hears, does not vote, holds no lease
    joining,   ///< wants in; waits for hold-down and a proposal
    prepared,  ///< voted for `proposal`; `view` is still in force, minus what it lost
    member,    ///< `view` is installed
    leaving,   ///< announced its leave
};

/// An agreed, numbered list of live members. Equal id implies equal content on every node, for ever.
struct View {
    std::uint64_t epoch{};
    std::uint64_t id{}; ///< digest of epoch, members, weights and config; 0 = none
    NodeSet members;
    Weights weights{};
    friend bool operator==(const View&, const View&) = default;
};

/// What one node tells all others each period, on every LAN. The wire folder encodes it; <= 450 bytes sealed at 64
/// nodes.
struct Heartbeat {
    NodeId sender{};
    SessionId session;
    Instant sent{}; ///< sender's boot clock
    Phase phase{};
    std::uint16_t weight{}; ///< what the sender wants for itself in the next view
    std::uint64_t config{}; ///< digest of what must be equal in a view (rules, powers, seed); 0 = no requirement
    std::array<NodeSet, limits::lans_max> heard{}; ///< per LAN: from whom within `suspect`, two-way or not
    std::uint64_t view_epoch{};
    std::uint64_t view_id{};
    NodeSet view_members;
    View proposal; ///< in phase prepared: what the sender voted for; id 0 = none
    /// With `proposal`: how long after `sent` the parts of those it leaves out are free, as the sender knows; <= 0 =
    /// now.
    nanoseconds clear_in{};
    NodeSet dropped; ///< left out by a vote since `view_id` was installed, even if by no later one: not renewed
    /// The highest view that the sender knows of besides its own, heard or relayed; a relay lets a node that hears no
    /// member of that view stand back. id 0 = none.
    struct Known {
        std::uint64_t epoch{};
        std::uint64_t id{};
        NodeSet members;
        nanoseconds ago{}; ///< age of this knowledge at `sent`, summed over the relays
    } known;
    struct Echo {
        NodeId peer{};
        SessionId session; ///< of the peer; a new session needs a new echo before it counts as heard
        Instant sent{};    ///< the peer's own clock, as it stood in its last heartbeat here
        nanoseconds ago{}; ///< how long before this heartbeat's `sent` it was received
    };
    std::vector<Echo> echoes;      ///< everyone in small groups; a rotating 16 in large ones
    std::uint64_t witness_ended{}; ///< no grant of the witness up to this counter is in force, or ever will be again
    // Opaque to the protocol, carried for the bus:
    std::uint64_t whiteboard_digest{};
    std::uint32_t state{}; ///< the module's state code
};

struct Options {
    NodeId self{};
    SessionId session;
    NodeSet nodes; ///< who may ever be in this group, self included
    std::uint8_t lans{1};
    Timing timing{};
    std::uint64_t config{};
    std::uint64_t random_seed{}; ///< jitter only
    bool past_over{};            ///< no earlier session of this node can act: listening may end early
    /// Who may act: each side of a cut; more than half of `nodes`; or that, and of two halves the one that the witness
    /// names.
    enum class Partition : std::uint8_t { serve, majority, witness } partition{Partition::serve};
};

// Inputs. `now` is given to step(); it never goes back.
struct Tick {};
struct Received {
    LanId lan{};
    Heartbeat heartbeat;
};
struct SetLocal { ///< own wishes changed: told to the peers at once
    std::uint16_t weight{};
    std::uint32_t state{};
    std::uint64_t config{};
    std::uint64_t whiteboard_digest{};
};
struct Leave {};  ///< announced at once; the group acts on it without waiting for a timeout
struct PeerDied { ///< a trusted witness (its steadd, by pidfd) saw the peer's process end and its gate closed
    NodeId peer{};
    SessionId session;
};
struct PeerPast { ///< its steadd says: none but this session of it can act
    NodeId peer{};
    SessionId session; ///< zero: none runs
};
/// What the witness holds: the last grant. Counter 0: none yet.
struct Grant {
    std::uint64_t counter{};
    std::uint64_t holder{}; ///< digest of the view, and of the sessions of its members
    NodeSet members;
    friend bool operator==(const Grant&, const Grant&) = default;
};
struct WitnessAnswer {
    Grant asked;
    Grant held; ///< equal to `asked` when that was granted
};
using Input = std::variant<Tick, Received, SetLocal, Leave, PeerDied, PeerPast, WitnessAnswer>;

// Outputs, to be performed in order.
struct Send {
    NodeSet to; ///< on every LAN
    Heartbeat heartbeat;
};
struct ViewInstalled {
    View view;
    View previous;
    NodeSet dead; ///< members of `previous` that left without a word: their part is free now
    NodeSet left; ///< members of `previous` that said goodbye
};
struct LeaseChanged {
    Instant until; ///< may act until then; Instant{} = not at all. Written to the data plane at once
};
struct Excluded { ///< no view holds this node any more (voted out, or it distrusts itself)
    std::string reason;
    std::optional<NodeId> differs_from{}; ///< the node whose configuration is another; it belongs to the reason
};
struct PeerEnded { ///< PeerDied was about the session that we know: the peer of these heartbeats acts no more
    NodeId peer{};
};
inline constexpr nanoseconds witness_patience =
    std::chrono::seconds{1}; ///< an answer that takes longer is asked for again

/// A compare-and-set for the witness: `claim` replaces what is held if its counter is higher; the answer tells what is
/// held then. Counter 0 only asks. Asked again when no answer comes; an answer may be late or never come.
struct AskWitness {
    Grant claim;
};
struct LeaveDone {}; ///< everyone acknowledged the leave, or time is up
struct Note {        ///< one line for the log; `verbose` only with -A
    bool verbose{};
    std::string text;
};
using Output = std::variant<Send, ViewInstalled, LeaseChanged, Excluded, PeerEnded, AskWitness, LeaveDone, Note>;

/// How near each timer came to firing, and what was ignored and why. Monotonic.
struct Counters {
    std::uint64_t heartbeats_received{}, heartbeats_ignored{}, views_installed{}, proposals_failed{};
    std::uint64_t late_timers{}, self_distrusts{}, lease_lapses{}, clique_budget_exceeded{};
    nanoseconds silence_max{};                        ///< longest silence of a peer that came back before `suspect`
    nanoseconds lateness_max{};                       ///< worst lateness of an own timer
    nanoseconds lease_margin_min{nanoseconds::max()}; ///< smallest rest of the lease at a renewal
};

/// Pure: equal (options, inputs, times) give equal outputs. One thread owns it. Never throws.
class Core {
public:
    Core(const Options& options, Instant now);
    ~Core();
    Core(Core&&) noexcept;
    Core& operator=(Core&&) noexcept;

    /// Applies one input. The caller performs the outputs, in order, before the next step.
    [[nodiscard]] std::vector<Output> step(Instant now, const Input& input);
    /// When step(Tick) is next due; the driver arms one timer with it.
    [[nodiscard]] Instant next_deadline() const noexcept;

    /// The view is what it should be, as far as the last step knows: nobody is suspected, proposes or wants in. The
    /// driver may then wait with what it received, for read_late() at most: silence counts from step(Received).
    [[nodiscard]] bool at_rest() const noexcept;
    [[nodiscard]] Phase phase() const noexcept;
    [[nodiscard]] const View& view() const noexcept;     ///< the installed view; id 0 = none
    [[nodiscard]] const View& proposal() const noexcept; ///< what this node voted for; id 0 = none
    [[nodiscard]] Instant lease_until() const noexcept;  ///< Instant{} = none
    [[nodiscard]] NodeSet heard(LanId lan) const noexcept;
    [[nodiscard]] const Counters& counters() const noexcept;

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace stead::membership
