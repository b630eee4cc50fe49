// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

#include <algorithm>

namespace stead::membership {
namespace {

/// Of two views that do not hold the same nodes: which one should go on?
bool outranks(std::uint64_t epoch_a, NodeSet a, std::uint64_t id_a, std::uint64_t epoch_b, NodeSet b,
              std::uint64_t id_b) noexcept {
    if ((a & b).empty() && a.size() != b.size()) {
        return a.size() > b.size(); // two halves met: the larger one keeps its connections
    }
    if (epoch_a != epoch_b) {
        return epoch_a > epoch_b; // one line of views: the later one is in force
    }
    if (a.size() != b.size()) {
        return a.size() > b.size();
    }
    return a != b ? better_set(a, b, {}) : id_a > id_b;
}

} // namespace

bool Core::State::fresh(const Peer& peer) const noexcept {
    return peer.validated && std::any_of(peer.heard_at.begin(), peer.heard_at.end(),
                                         [&](Instant at) { return at != Instant{} && at + t.suspect > now; });
}

bool Core::State::two_way(const Peer& peer) const noexcept {
    for (std::uint8_t lan = 0; lan < options.lans; ++lan) {
        const Instant at = peer.heard_at[lan];
        if (at != Instant{} && at + t.suspect > now && peer.beat.heard[lan].contains(options.self)) {
            return peer.validated;
        }
    }
    return false;
}

NodeSet Core::State::heard_on(std::uint8_t lan) const noexcept {
    NodeSet set;
    for (const NodeId node : options.nodes) {
        const Peer& peer = peers[index(node)];
        const Instant at = lan < limits::lans_max ? peer.heard_at[lan] : Instant{};
        if (peer.validated && at != Instant{} && at + t.suspect > now) {
            set.insert(node);
        }
    }
    return set;
}

std::uint64_t Core::State::config_of(NodeId node) const noexcept {
    return node == options.self ? options.config : peers[index(node)].beat.config;
}

std::uint16_t Core::State::weight_of(NodeId node) const noexcept {
    return node == options.self ? weight : peers[index(node)].beat.weight;
}

bool Core::State::config_agrees(NodeId a, NodeId b) const noexcept {
    const std::uint64_t one = config_of(a);
    const std::uint64_t other = config_of(b);
    return one == other || one == 0 || other == 0;
}

NodeSet Core::State::eligible() const noexcept {
    NodeSet set;
    if (phase != Phase::listening && phase != Phase::leaving) {
        set.insert(options.self);
    }
    for (const NodeId node : options.nodes) {
        const Peer& peer = peers[index(node)];
        if (node == options.self || peer.gone || !fresh(peer) || peer.beat.phase == Phase::listening ||
            peer.beat.phase == Phase::leaving) {
            continue;
        }
        const bool follows = peer.beat.view_epoch < view.epoch ? view.members.contains(node) // it missed our install
                                                               : peer.beat.view_members.contains(options.self);
        const bool one_line = peer.beat.view_id == 0 || view.id == 0 || peer.beat.view_id == view.id || follows ||
                              peer.beat.view_id == proposal.id;
        if (one_line) { // holders of a rival view must give it up first
            set.insert(node);
        }
    }
    return set;
}

Matrix Core::State::matrix() const noexcept {
    const NodeSet nodes = eligible();
    Matrix rows{};
    for (std::uint8_t lan = 0; lan < options.lans; ++lan) {
        Matrix hears{};
        for (const NodeId node : nodes) {
            const NodeSet heard = node == options.self ? heard_on(lan) : peers[index(node)].beat.heard[lan];
            hears[index(node)] = (heard & nodes).bits();
        }
        Matrix is_heard_by = hears;
        transpose(is_heard_by);
        for (const NodeId node : nodes) {
            rows[index(node)] |= hears[index(node)] & is_heard_by[index(node)];
        }
    }
    for (const NodeId a : nodes) {
        if (config_of(a) != options.config) { // else it disagrees only with those that this finds
            for (const NodeId b : nodes) {
                if (!config_agrees(a, b)) {
                    rows[index(a)] &= ~NodeSet{b}.bits();
                    rows[index(b)] &= ~NodeSet{a}.bits();
                }
            }
        }
    }
    return rows;
}

Target Core::State::compute_target() {
    const Clique clique = maximum_clique(matrix(), eligible(), view.members);
    counters.clique_budget_exceeded += clique.budget_exceeded ? 1 : 0;
    Target wanted;
    wanted.members = clique.members;
    for (const NodeId node : wanted.members) {
        wanted.weights[index(node)] = weight_of(node);
        if (node == options.self || !view.members.contains(node)) {
            continue;
        }
        const Peer& peer = peers[index(node)];
        const bool without_view = peer.beat.view_id == 0 && peer.beat.phase == Phase::joining;
        if (peer.session != view_sessions[index(node)] ||
            (without_view && peer.beat.sent > Instant{} && peer.received > installed_at + 2 * t.period)) {
            wanted.renewed.insert(node);
        }
    }
    return wanted;
}

/// Nothing of this node can be in force any more: it said so, or somebody trusted saw it die.
bool Core::State::clean(NodeId node) const noexcept {
    const Peer& peer = peers[index(node)];
    return peer.gone || (fresh(peer) && peer.beat.view_id == 0 && peer.beat.proposal.id == 0 &&
                         peer.session == view_sessions[index(node)]);
}

nanoseconds Core::State::stability(const Target& wanted) const noexcept {
    bool silent = false;
    for (const NodeId node : view.members - wanted.members) {
        silent = silent || !(node == options.self || clean(node));
    }
    const bool joins = !(wanted.members - view.members).empty();
    if (silent) {
        return t.period + t.period / 5; // a node stopped for less than `suspect` speaks before this is over
    }
    return joins ? t.period : t.period / 25; // weights and clean leaves: only long enough to batch
}

/// 0 = I propose; else how many would have to fail first.
int Core::State::proposer_rank(NodeSet members) const noexcept {
    int holders_before = 0;
    int others_before = 0;
    int holders = 0;
    for (const NodeId node : members) {
        const bool holds = node == options.self ? view.id != 0 : peers[index(node)].beat.view_id != 0;
        holders += holds ? 1 : 0;
        if (node < options.self) {
            (holds ? holders_before : others_before) += 1;
        }
    }
    return view.id != 0 ? holders_before : holders + others_before;
}

/// When the parts of all that `members` leaves out are free, as far as this node's own echoes could have kept them.
Instant Core::State::own_clear(NodeSet members) const noexcept {
    Instant clear = now;
    for (const NodeId node : options.nodes) {
        const Peer& peer = peers[index(node)];
        clear = std::max(clear, peer.former_until);
        if (node != options.self && !members.contains(node)) { // a member's own vote gives up what it has
            clear = std::max(clear, peer.risk_until);
        }
        const bool unaware = node != options.self && !members.contains(node) && !clean(node) && two_way(peer) &&
                             (peer.beat.view_id != 0 || peer.beat.proposal.id != 0);
        if (unaware) { // it lives, and its friends renew it until it hears of this vote: one heartbeat may be lost
            clear = std::max(clear, now + t.takeover + t.period);
        }
        if (node != options.self && !members.contains(node) && view.members.contains(node) && !clean(node)) {
            clear = std::max(clear, others_renewed(node, members));
        }
    }
    return clear;
}

/// When a lease of `node` is over that was renewed by a member of our view which is in the next one as little as it.
Instant Core::State::others_renewed(NodeId node, NodeSet members) const noexcept {
    Instant clear{};
    for (const NodeId other : view.members - members) {
        const Peer& peer = peers[index(other)];
        if (other == options.self || other == node || peer.held_at == Instant{}) {
            continue;
        }
        const bool heard = std::any_of(peer.beat.heard.begin(), peer.beat.heard.end(),
                                       [&](NodeSet set) { return set.contains(node); });
        clear = heard ? std::max(clear, peer.held_at + t.takeover) : clear;
    }
    return clear;
}

View Core::State::make_view(const Target& wanted) const {
    View made;
    made.epoch = epoch_max + 1;
    made.members = wanted.members;
    made.weights = wanted.weights;
    Digest digest_of;
    digest_of.add(made.epoch);
    digest_of.add(made.members.bits());
    std::uint64_t config = 0;
    for (const NodeId node : made.members) {
        digest_of.add(made.weights[index(node)]);
        config = config != 0 ? config : config_of(node);
    }
    digest_of.add(config);
    made.id = digest_of.value != 0 ? digest_of.value : 1;
    return made;
}

void Core::State::learn_claims() {
    if (known.id != 0 && now - known.seen > t.suspect + t.period) {
        known = Claim{};
    }
    bool news = false;
    for (const NodeId node : options.nodes) {
        const Peer& peer = peers[index(node)];
        if (peer.gone || !two_way(peer)) {
            continue;
        }
        const auto learn = [&](std::uint64_t epoch, std::uint64_t id, NodeSet members, Instant seen) {
            if (id == 0 || id == view.id || now - seen > t.suspect + t.period) {
                return;
            }
            if (id == known.id) {
                known.seen = std::max(known.seen, seen);
            } else if (known.id == 0 || known.id == view.id ||
                       outranks(epoch, members, id, known.epoch, known.members, known.id)) {
                known = Claim{epoch, id, members, seen};
                news = true;
            }
        };
        learn(peer.beat.view_epoch, peer.beat.view_id, peer.beat.view_members, peer.received);
        const Heartbeat::Known& relayed = peer.beat.known;
        learn(relayed.epoch, relayed.id, relayed.members, peer.received - relayed.ago);
    }
    if (known.id == view.id) {
        known = Claim{};
    }
    // Who may know of this one only by us; one without a view as well, for it passes the news on.
    for (const NodeId node : options.nodes - known.members) {
        const Heartbeat& beat = peers[index(node)].beat;
        urgent = urgent || (news && known.id != 0 && beat.view_id != known.id && beat.known.id != known.id &&
                            fresh(peers[index(node)]));
    }
}

void Core::State::leave_view(std::string reason, bool damped) {
    view = View{};
    proposal = View{};
    dropped = NodeSet{};
    clear_at = Instant{};
    phase = Phase::listening;
    urgent = true;
    policy_said.clear();
    if (damped) {
        std::copy_backward(exclusions.begin(), exclusions.end() - 1, exclusions.end());
        exclusions[0] = now;
        const auto recent = std::count_if(exclusions.begin(), exclusions.end(),
                                          [&](Instant at) { return at != Instant{} && now - at < seconds{300}; });
        hold_until = now + std::min<nanoseconds>(seconds{1} * (1 << (recent - 1)), seconds{60});
    }
    out.emplace_back(std::in_place_type<Excluded>, Excluded{std::move(reason)});
}

/// Ends the own view when a better one without this node is alive where it can be reached both ways.
void Core::State::stand_back() {
    learn_claims();
    if (view.id == 0 || mutant == Mutant::no_standing_back) {
        return;
    }
    if (known.id != 0 && !known.members.contains(options.self) &&
        outranks(known.epoch, known.members, known.id, view.epoch, view.members, view.id)) {
        leave_view("view " + std::to_string(known.epoch) + " " + names(known.members) + " is without this node", true);
        return;
    }
    for (const NodeId node : options.nodes) { // the rank is no order over three: each one we hear counts
        const Heartbeat& beat = peers[index(node)].beat;
        if (beat.view_id != 0 && !beat.view_members.contains(options.self) && !peers[index(node)].gone &&
            two_way(peers[index(node)]) &&
            outranks(beat.view_epoch, beat.view_members, beat.view_id, view.epoch, view.members, view.id)) {
            leave_view("view " + std::to_string(beat.view_epoch) + " " + names(beat.view_members) +
                           " is without this node",
                       true);
            return;
        }
    }
    // A lease that nobody has renewed for so long will not come back by itself: start over as one that wants in. Who
    // said goodbye renews nothing either, and leaves the time to agree on a view without it.
    const Instant since = std::max({installed_at, lease_until, gone_at});
    if (lease_until <= now && now - since > t.takeover + 6 * t.period && (proposal.id == 0 || witness.awaited)) {
        leave_view("nobody renews the lease of this node", true);
    }
}

/// A node without a view waits for those who have one; only silence lets it start its own.
bool Core::State::blocked_by_claim(NodeSet wanted) const noexcept {
    if (view.id != 0) {
        return false;
    }
    if (known.id != 0) {
        return true;
    }
    for (const NodeId node : options.nodes) {
        const Peer& peer = peers[index(node)];
        if (node == options.self || peer.gone || !fresh(peer) || peer.beat.view_id == 0) {
            continue;
        }
        // It may not hear us, and then cannot stand back: the smaller side does.
        if (two_way(peer) || peer.beat.view_members.size() >= wanted.size()) {
            return true;
        }
    }
    return false;
}

/// Those who have a view are too few to act without us: a hold-down would protect nobody.
bool Core::State::majority_misses_us() const noexcept {
    int holders = 0;
    for (const NodeId node : options.nodes) {
        const Peer& peer = peers[index(node)];
        holders += node != options.self && !peer.gone && fresh(peer) && peer.beat.view_id != 0 ? 1 : 0;
    }
    const int enough = options.partition == Options::Partition::witness ? 2 * holders + 1 : 2 * holders;
    return options.partition != Options::Partition::serve && enough <= options.nodes.size();
}

/// Somebody left out of `proposal` without a word is heard by a third node: of two that cannot hear each other the one
/// with the lowest node goes first, and the news of its view passes through the third.
nanoseconds Core::State::courtesy() const noexcept {
    for (const NodeId node : view.members - proposal.members) {
        if (clean(node) || proposal.members.first() < node) {
            continue;
        }
        for (const NodeId third : options.nodes - proposal.members) {
            const Peer& peer = peers[index(third)];
            if (third == node || peer.gone || !two_way(peer)) {
                continue;
            }
            for (std::uint8_t lan = 0; lan < options.lans; ++lan) {
                if (peer.beat.heard[lan].contains(node)) {
                    return 2 * t.period;
                }
            }
        }
    }
    return nanoseconds{0};
}

void Core::State::watch_config() {
    bool differs = false;
    NodeId with{};
    for (const NodeId node : options.nodes) {
        const Peer& peer = peers[index(node)];
        if (node == options.self || peer.gone || !fresh(peer) || config_agrees(options.self, node)) {
            continue;
        }
        const bool theirs = peer.beat.view_id != 0 || (peer.beat.phase == Phase::joining && node < options.self);
        if (view.id == 0 && theirs) {
            differs = true;
            with = node;
            break;
        }
    }
    if (differs && !config_excluded && (phase == Phase::joining || phase == Phase::prepared)) {
        out.emplace_back(std::in_place_type<Excluded>,
                         Excluded{.reason = "its configuration differs from that of", .differs_from = with});
        config_excluded = true;
    } else if (!differs) {
        config_excluded = false;
    }
}

void Core::State::vote(const View& wanted) {
    if (proposal.id != 0 && proposal.id != wanted.id) {
        ++counters.proposals_failed;
    }
    if (mutant != Mutant::forgets_replaced_votes) { // unheard, it may have installed what we vote for no more
        for (const NodeId node : proposal.members - wanted.members) {
            Peer& peer = peers[index(node)];
            peer.risk_until = std::max(peer.risk_until, peer.received + t.takeover);
        }
    }
    dropped = dropped | ((view.members | proposal.members) - wanted.members);
    clear_at = own_clear(wanted.members);
    proposal = wanted;
    voted_at = now;
    witness.read_at = is_half(wanted.members) ? Instant{} : witness.read_at; // it may read our own claim
    epoch_max = std::max(epoch_max, wanted.epoch);
    phase = Phase::prepared;
    urgent = true;
    note("prepared for view " + std::to_string(wanted.epoch) + " " + names(wanted.members), true);
}

/// Whether this node has a good edge with each of them.
bool Core::State::all_joined(NodeSet members) const noexcept {
    for (const NodeId node : members) {
        if (node != options.self && !two_way(peers[index(node)])) {
            return false;
        }
    }
    return true;
}

/// Somebody who hears us, of our line of views, voted for a better one without us.
bool Core::State::outvoted() const noexcept {
    if (view.id == 0 && proposal.id == 0) {
        return false;
    }
    for (const NodeId node : options.nodes) {
        const Peer& peer = peers[index(node)];
        const Heartbeat& beat = peer.beat;
        if (node == options.self || peer.gone || !two_way(peer)) {
            continue;
        }
        const View& rival = beat.proposal;
        const bool voted = rival.id != 0 && !rival.members.contains(options.self) && rival.epoch > view.epoch;
        const bool lost_its_vote = proposal.id != 0 && proposal.members.contains(node);
        if (voted && (proposal.id == 0 || lost_its_vote ||
                      outranks(rival.epoch, rival.members, rival.id, proposal.epoch, proposal.members, proposal.id))) {
            return true;
        }
        const bool installed = rival.id == 0 && beat.view_id != 0 && !beat.view_members.contains(options.self);
        if (installed && proposal.id != 0 && !lost_its_vote && beat.view_epoch > view.epoch &&
            outranks(beat.view_epoch, beat.view_members, beat.view_id, proposal.epoch, proposal.members, proposal.id)) {
            return true;
        }
    }
    return false;
}

void Core::State::vote_on_peers() {
    const View* best = nullptr;
    for (const NodeId node : target.members) {
        const View& wanted = peers[index(node)].beat.proposal;
        if (node == options.self || wanted.id == 0 || wanted.id == proposal.id || wanted.id == view.id ||
            !wanted.members.contains(options.self) || wanted.epoch <= epoch_installed) {
            continue;
        }
        const bool later = proposal.id == 0 || wanted.epoch > proposal.epoch ||
                           (wanted.epoch == proposal.epoch && outranks(wanted.epoch, wanted.members, wanted.id,
                                                                       proposal.epoch, proposal.members, proposal.id));
        // Our own search agrees, or it found nothing better.
        const bool good = wanted.members == target.members ||
                          (all_joined(wanted.members) && !better_set(target.members, wanted.members, view.members));
        if (later && good && (best == nullptr || wanted.epoch > best->epoch)) {
            best = &wanted;
        }
    }
    if (best != nullptr && policy_allows(best->members)) {
        vote(View{*best});
    }
}

void Core::State::maybe_propose() {
    if (!target.members.contains(options.self)) {
        return;
    }
    const bool as_view =
        view.id != 0 && target.members == view.members && target.weights == view.weights && target.renewed.empty();
    const bool as_proposal =
        proposal.id != 0 && target.members == proposal.members && target.weights == proposal.weights;
    const nanoseconds patience = t.takeover + 4 * t.period; // a vote that leads nowhere for so long has failed
    if ((proposal.id == 0 && as_view) || (as_proposal && (now - voted_at < patience || witness.awaited))) {
        return;
    }
    const Instant due = target_since + stability(target) + proposer_rank(target.members) * 2 * t.period;
    if (now < due || blocked_by_claim(target.members) || !policy_allows(target.members)) {
        return;
    }
    vote(make_view(target));
}

void Core::State::maybe_install() {
    witness.awaited = false;
    if (proposal.id == 0) {
        return;
    }
    Instant clear = clear_at;
    for (const NodeId node : proposal.members) {
        if (node == options.self) {
            continue;
        }
        const Peer& peer = peers[index(node)];
        const bool voted = peer.beat.proposal.id == proposal.id;
        // Forgiven silence is no silence of a voter: after a stop of our own its vote may be old.
        if (!fresh(peer) || peer.received + t.suspect <= now || peer.gone ||
            (!voted && peer.beat.view_id != proposal.id)) {
            if (mutant == Mutant::no_prepare) {
                continue;
            }
            return;
        }
        if (voted && mutant != Mutant::vote_without_waiting_for_self) {
            clear = std::max(clear, peer.clear_at);
        }
    }
    if (lease_frozen) {
        return; // somebody we hear is about to install a better one without us
    }
    const bool free = now >= std::max(clear, voted_at + courtesy()) || mutant == Mutant::no_takeover_wait;
    if (free && witness_allows()) {
        install();
    }
}

void Core::State::install() {
    ViewInstalled event{.view = proposal, .previous = view, .dead = {}, .left = {}};
    for (const NodeId node : view.members) {
        const Peer& peer = peers[index(node)];
        const bool restarted = node != options.self && peer.session != view_sessions[index(node)];
        if (!restarted && proposal.members.contains(node)) {
            continue;
        }
        (clean(node) ? event.left : event.dead).insert(node);
    }
    view = proposal;
    proposal = View{};
    dropped = NodeSet{};
    for (const NodeId node : view.members) {
        view_sessions[index(node)] = node == options.self ? options.session : peers[index(node)].session;
    }
    phase = Phase::member;
    epoch_installed = view.epoch;
    installed_at = now;
    witness.read_due = now;
    policy_said.clear();
    urgent = true;
    ++counters.views_installed;
    note("view " + std::to_string(view.epoch) + " " + names(view.members) +
         (event.dead.empty() ? "" : ", dead " + names(event.dead)) +
         (event.left.empty() ? "" : ", left " + names(event.left)));
    out.emplace_back(std::in_place_type<ViewInstalled>, event);
}

void Core::State::finish_leave() {
    for (const NodeId node : leave_waits) {
        const Peer& peer = peers[index(node)];
        if (peer.gone || !fresh(peer) || (peer.beat.view_id != 0 && !peer.beat.view_members.contains(options.self))) {
            leave_waits.erase(node);
        }
    }
    if (!leave_done && (leave_waits.empty() || now >= leave_until)) {
        leave_done = true;
        out.emplace_back(std::in_place_type<LeaveDone>, LeaveDone{});
    }
}

/// Nothing that may act is hidden from this node: each of the others is heard, in a session that is all there is of it,
/// and has let go of a former session of this node; or there is no session of it.
bool Core::State::knows_everybody() const noexcept {
    for (const NodeId node : options.nodes - NodeSet{options.self}) {
        const Peer& peer = peers[index(node)];
        const bool none_runs = peer.only && (peer.only->is_zero() || mutant == Mutant::silent_is_absent);
        const bool absent = none_runs && peer.pending_session.is_zero() && !peer.validated;
        const bool whole = peer.only == peer.session || (peer.beat.phase != Phase::listening && !peer.gone);
        const bool lets_go = peer.gone || (two_way(peer) && !peer.beat.view_members.contains(options.self) &&
                                           !peer.beat.proposal.members.contains(options.self));
        if (!absent && !(peer.validated && whole && lets_go)) {
            return false;
        }
    }
    return true;
}

void Core::State::agree() {
    if (phase == Phase::leaving) {
        finish_leave();
        return;
    }
    stand_back();
    if (phase == Phase::listening && (now >= listen_until || (listens_only_for_others && knows_everybody()))) {
        // The hold-down protects those who have a view from a node that comes and goes; without any it protects nobody.
        if (now >= hold_until || !blocked_by_claim(NodeSet{options.self}) || majority_misses_us()) {
            phase = Phase::joining;
            target = Target{}; // what it was before says nothing: others may have begun to join at this moment
            urgent = true;
        }
    }
    watch_config();
    if (phase == Phase::listening) {
        return;
    }
    const Target wanted = compute_target();
    if (wanted != target) {
        target = wanted;
        target_since = now;
    }
    vote_on_peers();
    maybe_propose();
    if (proposal.id != 0) {
        for (const NodeId node : options.nodes - proposal.members) {
            clear_at = std::max(clear_at, peers[index(node)].risk_until);
        }
    }
    lease_frozen = outvoted();
    maybe_install();
}

} // namespace stead::membership
