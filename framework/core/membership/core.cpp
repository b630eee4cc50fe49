// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

#include <stead/base/assert.hpp>

#include <algorithm>
#include <functional>

namespace stead::membership {
namespace {

/// splitmix64: small, and the same everywhere.
std::uint64_t next_random(std::uint64_t& state) noexcept {
    state += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

} // namespace

Core::State::State(const Options& o, Instant start)
    : options(o), t(o.timing), now(start), previous(start), random(o.random_seed) {
    STEAD_ASSERT(options.nodes.contains(options.self));
    STEAD_ASSERT(options.lans >= 1 && options.lans <= limits::lans_max);
    STEAD_ASSERT(t.period > nanoseconds{0} && t.takeover > t.lease);
    const bool alone = options.nodes == NodeSet{options.self};
    listen_until = alone || mutant == Mutant::no_listening ? now : now + t.takeover + 2 * t.period;
    listens_only_for_others = options.past_over;
    next_beat = now;
    deadline = now;
}

void Core::State::check_lateness() {
    const nanoseconds lateness = now > deadline ? now - deadline : nanoseconds{0};
    counters.lateness_max = std::max(counters.lateness_max, lateness);
    if (lateness <= t.period / 2) {
        return;
    }
    ++counters.late_timers;
    // What we did not hear while we slept is not the peers' fault: accuse nobody for one detection time.
    for (const NodeId node : options.nodes) {
        for (Instant& at : peers[index(node)].heard_at) {
            if (at != Instant{} && at + t.suspect > previous) {
                at = std::max(at, now);
            }
        }
    }
    // A clock that jumped has not let the time pass that others need: what we wait for waits that much longer.
    const nanoseconds unseen = now - previous;
    for (const NodeId node : options.nodes) {
        Peer& peer = peers[index(node)];
        for (Instant* at : {&peer.risk_until, &peer.former_until, &peer.clear_at}) {
            *at += *at > previous ? unseen : nanoseconds{0};
        }
    }
    clear_at += clear_at > previous ? unseen : nanoseconds{0};
    if (mutant == Mutant::no_self_distrust || options.nodes == NodeSet{options.self}) {
        return;
    }
    // Among others a lease that is only just over costs nothing: it stays closed until one of them echoes a new
    // heartbeat. Who renews its own lease, or has been away for longer, must listen first.
    // (A short stop does not explain a lease that is long over: those who should have renewed it were slow as well.)
    const bool among_others = view.members.size() > 1;
    const nanoseconds grace = among_others ? 2 * t.period : nanoseconds{0};
    if (view.id != 0 && lease_until + grace <= now && (!among_others || lateness > t.suspect)) {
        distrust("this node was stopped for " + std::to_string(lateness.count() / 1'000'000) +
                 " ms and its lease is over");
    } else if (view.id == 0 && lateness > t.suspect && phase != Phase::leaving) {
        distrust("this node was stopped for " + std::to_string(lateness.count() / 1'000'000) + " ms");
    }
}

void Core::State::distrust(std::string reason) {
    ++counters.self_distrusts;
    listen_until = now + t.takeover + 2 * t.period;
    listens_only_for_others = false; // what it renewed until now may act as long
    if (view.id != 0) {
        leave_view(std::move(reason), true);
        return;
    }
    proposal = View{};
    phase = Phase::listening;
    note(std::move(reason) + "; listening again");
}

bool Core::State::accept_session(Peer& peer, const Heartbeat& beat) {
    if (peer.validated && peer.session == beat.session) {
        return true;
    }
    if (!beat.session.is_zero() && beat.session == peer.retired_session) {
        return false;
    }
    if (beat.session != peer.pending_session || beat.sent > peer.pending_sent) {
        peer.pending_session = beat.session;
        peer.pending_sent = beat.sent;
        peer.pending_received = now;
    }
    const auto proves = [&](const Heartbeat::Echo& echo) {
        return echo.peer == options.self && echo.session == options.session && echo.sent <= now;
    };
    if (std::none_of(beat.echoes.begin(), beat.echoes.end(), proves)) {
        return false; // could be a recording: it has to show that it hears us now
    }
    const Instant former = std::max(peer.risk_until, peer.former_until); // the old incarnation may still act
    const SessionId old = peer.session;
    const bool restarted = peer.validated;
    const std::optional<SessionId> only = peer.only;
    peer = Peer{};
    peer.only = only;
    peer.validated = true;
    peer.session = beat.session;
    peer.retired_session = old;
    peer.former_until = former;
    urgent = true; // it waits for our echo
    if (restarted) {
        note("node " + std::to_string(index(beat.sender)) + " restarted");
    }
    return true;
}

void Core::State::take_grant(Peer& peer, const Heartbeat& beat) {
    for (const Heartbeat::Echo& echo : beat.echoes) {
        if (echo.peer == options.self && echo.session == options.session && echo.sent <= now) {
            peer.knows_until = std::max(peer.knows_until, echo.sent);
        }
    }
    const NodeSet commitment = beat.proposal.id != 0 ? beat.proposal.members : beat.view_members;
    const auto ours = [&](std::uint64_t id) { return id != 0 && (id == view.id || id == proposal.id); };
    const bool left_out = beat.dropped.contains(options.self) && mutant != Mutant::renews_the_dropped;
    const bool with_us =
        commitment.contains(options.self) && !left_out && (ours(beat.view_id) || ours(beat.proposal.id));
    if (!with_us && mutant != Mutant::lease_from_any_echo) {
        return;
    }
    for (const Heartbeat::Echo& echo : beat.echoes) {
        if (echo.peer == options.self && echo.session == options.session && echo.sent <= now) {
            peer.grant = std::max(peer.grant, mutant == Mutant::lease_from_receipt ? now : echo.sent);
        }
    }
}

void Core::State::update_risk(Peer& peer) {
    const Heartbeat& beat = peer.beat;
    peer.held_at = now; // with the first heartbeat that gives it up too: until then it renewed others
    if (beat.view_id == 0 && beat.proposal.id == 0) {
        peer.risk_until = Instant{}; // it says itself that it holds nothing
        return;
    }
    const bool voted_out = proposal.id != 0 ? !proposal.members.contains(beat.sender)
                                            : view.id != 0 && !view.members.contains(beat.sender);
    // Once voted out, no heartbeat of ours renews its lease; but others may, until it has heard of our vote.
    const bool unaware = proposal.id != 0 && peer.aware_of != proposal.id && two_way(peer);
    if (!voted_out || unaware) {
        peer.risk_until = now + t.takeover;
    }
    if (unaware && knows_vote(peer)) {
        peer.aware_of = proposal.id; // from this heartbeat on; what it sent before may have been renewed
    }
}

/// It has heard our vote in a heartbeat that also said that we hear it: only then does it count as outvoted by us.
bool Core::State::knows_vote(const Peer& peer) const noexcept {
    for (std::uint8_t lan = 0; lan < options.lans; ++lan) {
        if (peer.heard_at[lan] != Instant{} && peer.heard_at[lan] + t.suspect > now &&
            peer.beat.heard[lan].contains(options.self) &&
            peer.knows_until >= std::max(voted_at, peer.heard_since[lan])) {
            return true;
        }
    }
    return false;
}

/// Nearly every heartbeat of a group at rest: nothing that agree() looks at differs from the one before.
bool Core::State::says_the_same(const Heartbeat& before, const Heartbeat& beat) const noexcept {
    return beat.view_id == view.id && beat.view_id == before.view_id && beat.view_epoch == before.view_epoch &&
           beat.view_members == before.view_members && beat.phase == Phase::member && before.phase == beat.phase &&
           beat.weight == before.weight && beat.config == before.config && beat.heard == before.heard &&
           beat.proposal.id == 0 && before.proposal.id == 0 && beat.known.id == 0 && before.known.id == 0;
}

void Core::State::handle(const Received& input) {
    const Heartbeat& beat = input.heartbeat;
    ++counters.heartbeats_received;
    const bool known_lan = index(input.lan) < options.lans;
    if (!known_lan || index(beat.sender) >= limits::nodes_max || beat.sender == options.self ||
        !options.nodes.contains(beat.sender) ||
        std::max({beat.view_epoch, beat.proposal.epoch, beat.known.epoch, beat.witness_ended}) > epoch_limit) {
        ++counters.heartbeats_ignored;
        return;
    }
    Peer& peer = peers[index(beat.sender)];
    const SessionId before = peer.session;
    if (!accept_session(peer, beat) || beat.sent < peer.beat.sent) {
        ++counters.heartbeats_ignored;
        return;
    }
    routine = settled && before == peer.session && says_the_same(peer.beat, beat);
    Instant& heard = peer.heard_at[index(input.lan)];
    if (heard != Instant{} && heard < now && now - heard < t.suspect) {
        counters.silence_max = std::max<nanoseconds>(counters.silence_max, now - heard);
    }
    const bool joined_before = two_way(peer);
    if (heard == Instant{} || heard + t.suspect <= now) {
        urgent = true; // heard again: the others' matrices wait for that
        peer.heard_since[index(input.lan)] = now;
    }
    heard = now;
    const bool was_held = before == peer.session && (peer.beat.view_id != 0 || peer.beat.proposal.id != 0);
    const bool newer = beat.sent > peer.beat.sent || before != peer.session;
    if (!newer) { // the same one over another LAN, or twice
        if (was_held && !joined_before && two_way(peer)) {
            update_risk(peer); // over the first LAN it did not look as if it could hear of our vote
        }
        return;
    }
    peer.beat = beat;
    peer.beat.clear_in = std::clamp(beat.clear_in, -claim_max, claim_max);
    peer.beat.known.ago = std::clamp(beat.known.ago, nanoseconds{0}, claim_max);
    peer.received = now;
    peer.clear_at = now + peer.beat.clear_in;
    if (beat.phase == Phase::leaving) {
        is_gone(peer);
    }
    take_grant(peer, beat);
    if (was_held || beat.view_id != 0 || beat.proposal.id != 0) {
        update_risk(peer); // a fresh session that holds nothing says nothing about the one before it
    }
    epoch_max = std::max({epoch_max, beat.view_epoch, beat.proposal.epoch, beat.known.epoch});
    witness.ended = std::max(witness.ended, beat.witness_ended);
}

void Core::State::is_gone(Peer& peer) {
    gone_at = peer.gone ? gone_at : now;
    peer.gone = true;
}

void Core::State::handle(const SetLocal& input) {
    urgent = urgent || weight != input.weight || state_code != input.state || options.config != input.config;
    weight = input.weight;
    state_code = input.state;
    options.config = input.config;
    digest = input.whiteboard_digest;
}

void Core::State::handle(const Leave&) {
    if (phase == Phase::leaving) {
        return;
    }
    leave_waits = view.members;
    leave_waits.erase(options.self);
    view = View{};
    proposal = View{};
    phase = Phase::leaving;
    leave_until = now + t.takeover;
    urgent = true;
}

void Core::State::handle(const PeerDied& input) {
    if (index(input.peer) >= limits::nodes_max) {
        return;
    }
    Peer& peer = peers[index(input.peer)];
    if (peer.validated && peer.session == input.session) {
        if (!peer.gone) {
            out.emplace_back(std::in_place_type<PeerEnded>, PeerEnded{input.peer});
        }
        is_gone(peer);
        peer.risk_until = Instant{};
        urgent = true;
    }
}

void Core::State::handle(const PeerPast& input) {
    if (index(input.peer) < limits::nodes_max) {
        peers[index(input.peer)].only = input.session;
    }
}

void Core::State::update_lease() {
    Instant until{};
    if (view.id != 0 && view.members.contains(options.self)) {
        std::array<Instant, limits::nodes_max> grants{};
        std::size_t count = 0;
        for (const NodeId node : view.members) {
            const Peer& peer = peers[index(node)];
            // Of one that said goodbye too: it will not take our part before what it echoed is over.
            if (node != options.self && peer.session == view_sessions[index(node)]) {
                grants[count++] = peer.grant;
            }
        }
        const std::size_t needed = echoes_needed();
        if (needed == 0) {
            // From its last heartbeat, as for all: that is what the others count its silence from.
            until = (options.nodes.size() == 1 ? now : last_sent) + t.lease;
        } else if (needed <= count) {
            std::nth_element(grants.begin(), grants.begin() + static_cast<std::ptrdiff_t>(needed - 1),
                             grants.begin() + static_cast<std::ptrdiff_t>(count), std::greater<>{});
            until = grants[needed - 1] == Instant{} ? Instant{} : grants[needed - 1] + t.lease;
            confirm_reading(grants[needed - 1]);
        }
    }
    if (lease_frozen && mutant != Mutant::lease_from_any_echo) {
        until = std::min(until, lease_until);
    }
    set_lease(until);
}

void Core::State::set_lease(Instant until) {
    if (until == lease_until) {
        return;
    }
    if (lease_until != Instant{} && until > lease_until) {
        const nanoseconds margin = lease_until - now;
        counters.lease_margin_min = std::min(counters.lease_margin_min, std::max(margin, nanoseconds{0}));
        counters.lease_lapses += margin <= nanoseconds{0} ? 1 : 0;
    }
    lease_until = until;
    out.emplace_back(std::in_place_type<LeaseChanged>, LeaseChanged{until});
}

/// After a routine heartbeat only its sender's grant can have grown: the same as update_lease(), without asking all.
void Core::State::renew_lease_from(NodeId sender) {
    const Peer& peer = peers[index(sender)];
    if (options.partition != Options::Partition::serve) {
        update_lease();
    } else if (view.members.contains(sender) && peer.session == view_sessions[index(sender)] && !peer.gone) {
        set_lease(std::max(lease_until, peer.grant + t.lease));
    }
}

void Core::State::fill_echoes(Heartbeat& beat) {
    struct Want {
        Instant at;
        NodeId node;
        bool pending;
    };
    std::array<Want, 2 * limits::nodes_max> wants{};
    std::size_t count = 0;
    for (const NodeId node : options.nodes) {
        const Peer& peer = peers[index(node)];
        if (peer.pending_received != Instant{} && peer.pending_received + t.takeover > now) {
            wants[count++] = {peer.echoed_at, node, true};
        } else if (peer.validated && peer.received + t.takeover > now) {
            wants[count++] = {peer.echoed_at, node, false};
        }
    }
    if (count > echoes_max) { // longest unechoed first, so that each has its turn
        std::sort(wants.begin(), wants.begin() + static_cast<std::ptrdiff_t>(count),
                  [](const Want& a, const Want& b) { return a.at != b.at ? a.at < b.at : a.node < b.node; });
        count = echoes_max;
    }
    beat.echoes.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        Peer& peer = peers[index(wants[i].node)];
        peer.echoed_at = now;
        beat.echoes.push_back(
            wants[i].pending
                ? Heartbeat::Echo{wants[i].node, peer.pending_session, peer.pending_sent, now - peer.pending_received}
                : Heartbeat::Echo{wants[i].node, peer.session, peer.beat.sent, now - peer.received});
    }
}

void Core::State::send() {
    Heartbeat beat;
    beat.sender = options.self;
    beat.session = options.session;
    beat.sent = now;
    beat.phase = phase;
    beat.weight = weight;
    beat.config = options.config;
    for (std::uint8_t lan = 0; lan < options.lans; ++lan) {
        beat.heard[lan] = heard_on(lan);
    }
    beat.view_epoch = view.id != 0 ? view.epoch : epoch_max; // without a view: what a proposal must exceed
    beat.view_id = view.id;
    beat.view_members = view.members;
    beat.proposal = proposal;
    beat.dropped = dropped;
    beat.clear_in = proposal.id != 0 ? clear_at - now : nanoseconds{0};
    if (known.id != 0) {
        beat.known = {known.epoch, known.id, known.members, now - known.seen};
    }
    fill_echoes(beat);
    beat.witness_ended = witness.ended;
    beat.whiteboard_digest = digest;
    beat.state = state_code;
    NodeSet to = options.nodes;
    to.erase(options.self);
    last_sent = now;
    urgent = false;
    if (!to.empty()) {
        out.emplace_back(std::in_place_type<Send>, Send{to, std::move(beat)});
    }
}

void Core::State::send_if_due() {
    if (now >= next_beat) {
        const auto span = static_cast<std::uint64_t>(t.period.count()) / 5; // +-10 %
        const auto jitter = static_cast<std::int64_t>(span == 0 ? 0 : next_random(random) % span);
        next_beat = now + t.period - t.period / 10 + nanoseconds{jitter};
        send();
    } else if (urgent && now >= last_sent + t.period / 50) {
        send();
    }
}

void Core::State::plan_deadline() {
    Instant next = next_beat;
    const auto at = [&](Instant when) {
        if (when > now && when < next) {
            next = when;
        }
    };
    if (urgent) {
        at(last_sent + t.period / 50);
    }
    if (phase == Phase::listening) {
        at(listen_until);
        at(hold_until);
    }
    if (proposal.id != 0) {
        at(clear_at);
        for (const NodeId node : proposal.members) {
            at(peers[index(node)].clear_at);
        }
    }
    at(target_since + stability(target));
    at(target_since + stability(target) + proposer_rank(target.members) * 2 * t.period);
    for (const NodeId node : options.nodes) {
        for (std::uint8_t lan = 0; lan < options.lans; ++lan) {
            at(peers[index(node)].heard_at[lan] + t.suspect);
        }
    }
    if (phase == Phase::leaving) {
        at(leave_until);
    }
    at(witness.awaited ? witness.asked + witness_patience : witness.read_due);
    deadline = next;
}

/// The view is what it should be, and nobody says otherwise.
bool Core::State::at_rest() const noexcept {
    bool quiet = phase == Phase::member && view.id != 0 && proposal.id == 0 && known.id == 0 && !lease_frozen &&
                 !urgent && target.members == view.members && target.weights == view.weights && target.renewed.empty();
    for (const NodeId node : options.nodes) {
        quiet = quiet && peers[index(node)].beat.proposal.id == 0;
    }
    return quiet;
}

/// The simulator's check of the short way: the long one finds nothing else.
void Core::State::prove_routine() {
#ifdef STEAD_MEMBERSHIP_PROVE
    const std::size_t outputs = out.size();
    const Instant until = lease_until;
    agree();
    STEAD_ASSERT(at_rest() && out.size() == outputs && now < next_beat);
    update_lease();
    STEAD_ASSERT(lease_until == until);
#endif
}

Core::Core(const Options& options, Instant now) : state_(std::make_unique<State>(options, now)) {}
Core::~Core() = default;
Core::Core(Core&&) noexcept = default;
Core& Core::operator=(Core&&) noexcept = default;

std::vector<Output> Core::step(Instant now, const Input& input) {
    State& s = *state_;
    STEAD_ASSERT(now >= s.now);
    s.previous = s.now;
    s.now = now;
    s.out.clear();
    s.routine = false;
    s.check_lateness();
    std::visit([&](const auto& in) { s.handle(in); }, input);
    // No edge ends before the deadline, so that what the last look at everything found still holds.
    if (s.routine && !s.urgent && now < s.deadline && now < s.lease_until) {
        s.renew_lease_from(std::get<Received>(input).heartbeat.sender);
        s.prove_routine();
        return std::move(s.out);
    }
    s.agree();
    s.send_if_due();
    s.update_lease();
    s.read_witness_if_due();
    s.plan_deadline();
    s.settled = s.at_rest();
    return std::move(s.out);
}

Instant Core::next_deadline() const noexcept { return state_->deadline; }
bool Core::at_rest() const noexcept { return state_->settled; }
Phase Core::phase() const noexcept { return state_->phase; }
const View& Core::view() const noexcept { return state_->view; }
const View& Core::proposal() const noexcept { return state_->proposal; }
Instant Core::lease_until() const noexcept { return state_->lease_until; }
NodeSet Core::heard(LanId lan) const noexcept { return state_->heard_on(index(lan)); }
const Counters& Core::counters() const noexcept { return state_->counters; }

} // namespace stead::membership
