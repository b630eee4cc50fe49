// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

#include <stead/base/assert.hpp>

#include <algorithm>

namespace stead::mirror {
namespace {

std::uint64_t mix(std::uint64_t z) noexcept {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

} // namespace

/// From the life's 128 bits of entropy; each draw is a different point of two independent sequences.
Gen Core::State::fresh() {
    ++drawn;
    return {mix(entropy_high + drawn * 0x9e3779b97f4a7c15u), mix(entropy_low + drawn * 0xd1342543de82ef95u) | 1};
}

Ticket Core::State::expect(Then then) {
    expected.emplace(++last_ticket, std::move(then));
    return last_ticket;
}

void Core::State::persist(std::function<void()> then) {
    ++persists;
    const Ticket ticket = expect([this, then = std::move(then)](const Done& done) {
        --persists;
        if (done.error != 0) { // a node that cannot write down what it is must not be anything
            dead = true;
            finish_order(false, "the record cannot be written");
            set_role(Role::waiting, "the record cannot be written");
            out.emplace_back(Stopped{});
            return;
        }
        then();
    });
    out.emplace_back(Persist{ticket, record});
}

void Core::State::load(const Start& input) {
    entropy_high = input.entropy.high;
    entropy_low = input.entropy.low;
    incarnation = fresh();
    record = input.record.value_or(Record{});
    record.node = options.node;
    if (!options.data) {
        forget_data();
    }
    const bool readable = input.log.readable || mutant(Mutant::trust_damaged_log);
    const bool usable = record.log != 0 && input.log.id == record.log && readable;
    tainted = !record.clean && !record.current.none();
    record.since_clean = record.since_clean || (record.clean && record.base.none());
    if (!usable) {
        const bool named = record.log != 0 && !record.log_is_intent;
        const bool led = record.role == Role::prim || record.log_is_intent; // or stepped down since
        const bool was_ahead = options.ack == Ack::commit && led && tainted;
        record.unknown = record.unknown || !record.base.none() || named || was_ahead;
        return;
    }
    for (const LogEntry& entry : input.log.entries) {
        const std::uint64_t first =
            entry.target.kind == TargetKind::zone ? entry.target.index * options.zones_per_extent : 0;
        const std::uint64_t count = entry.target.kind == TargetKind::zone ? options.zones_per_extent : 1;
        for (std::uint64_t i = 0; i < count; ++i) {
            const Target target{entry.target.kind, entry.target.fid, first + i};
            if (entry.mark == Mark::dirty) {
                dirty.insert(target);
                coarse.insert(target);
            } else if (entry.mark == Mark::intent) {
                intended.insert(target);
            } else {
                unsynced.touch_both(target, 0); // whose disk it is about is not in the log
            }
        }
        if (entry.mark == Mark::dirty) {
            logged.insert(entry.target);
        }
    }
    log_usable = !record.base.none();
    log_memory = log_usable && !record.since_clean;
    intent_known = record.log_is_intent;
    const bool was_ahead = options.ack == Ack::commit && record.role == Role::prim && tainted;
    record.unknown = record.unknown || (was_ahead && record.base.none() && !intent_known);
}

/// Without data all nodes are equal for ever: one mirror, one generation. The epoch is what counts. Who served last is
/// no claim: the other one may have started alone since.
void Core::State::forget_data() {
    const Record kept = record;
    record = Record{};
    record.mirror = record.current = roles_only;
    record.node = kept.node;
    record.epoch = kept.epoch;
    record.role = Role::second;
    record.in_sync = record.clean = true;
}

void Core::State::handle(const Start& input) {
    STEAD_ASSERT(role == Role::none);
    load(input);
    outside = options.batch && record.inconsistent.none(); // one that broke off is made up for at once
    meets_first = input.peer_heard && !mutant(Mutant::restart_decides);
    set_role(Role::waiting, !options.data || record.current.none()
                                ? "for the other node"
                                : "for the other node, whose copy may be newer ('stead prim' here "
                                  "serves this one)");
    seq = input.last_parked;
    const bool counts = !record.current.none() && options.data;
    const bool anew = counts && input.configured_anew && !mutant(Mutant::ignore_configured);
    record.unknown = record.unknown || anew;
    if (counts && !input.foreign.empty()) {
        record_foreign(input.foreign);
    } else if (anew) {
        claim = Claim::recording;
        persist([this] { foreign_kept(); });
    } else {
        out.emplace_back(ForeignKept{}); // nothing, or nothing that could count
        started();
    }
}

void Core::State::foreign_kept() {
    claim = Claim::none;
    out.emplace_back(ForeignKept{});
    started();
}

void Core::State::started() {
    const bool claims = record.role == Role::alone ||
                        (mutant(Mutant::start_without_claim) && record.role == Role::second && record.in_sync);
    if (claims && !record.current.none() && record.inconsistent.none()) {
        meet_until = meets_first ? now + options.meet_wait : now;
    }
}

/// If the peer serves as well, this is a split, and a restart must not decide which of the two goes on: the one that
/// never stopped does. A peer that does not serve makes this node the source, or is not to be met.
void Core::State::go_on_starting() {
    if (meet_until == never) {
        return;
    }
    if (role != Role::waiting || stop_wanted || accept_loss || record.outdated ||
        (record.role != Role::alone && !mutant(Mutant::start_without_claim))) {
        meet_until = never;
    } else if (order || claim != Claim::none) {
        meet_until = std::max(meet_until, now + options.meet_wait);
    } else if (now >= meet_until || peer == PeerState::silent || peer == PeerState::died) {
        meet_until = never;
        if (hello_sent) {
            reset_link("the last holder starts"); // what it has said of itself is no longer true
        }
        become_alone(epoch_after(record.epoch, options.node), "the last holder starts");
    }
}

void Core::State::handle(const Done& input) {
    const auto found = expected.find(input.ticket);
    STEAD_ASSERT(found != expected.end());
    const Then then = std::move(found->second);
    expected.erase(found);
    if (!dead) {
        then(input);
    }
}

void Core::State::handle(const Lease& input) { lease = input.until; }

void Core::State::handle(const Received& input) {
    if (dead || !link_up) {
        return;
    }
    const Epoch theirs = input.message.epoch;
    const message::Body& body = input.message.body;
    const bool before_agreement =
        std::holds_alternative<message::Hello>(body) || std::holds_alternative<message::Marks>(body);
    if (!before_agreement && theirs < record.epoch && !mutant(Mutant::ignore_epoch)) {
        ++counters.stale_refused;
        send(message::Stale{});
        return;
    }
    if (!before_agreement && theirs > record.epoch) {
        if (serving()) {
            step_down("the peer holds a later epoch", true);
            reset_link("the peer holds a later epoch");
            return;
        }
        record.epoch = theirs; // a promise to follow; it is persisted with what the message asks for
    }
    std::visit([this](const auto& what) { on(what); }, body);
}

void Core::State::on(const message::Acked& ack) {
    if (by_seq.contains(ack.seq)) {
        peer_acked(ack);
    } else {
        copy_acked(ack);
    }
}

/// The peer refuses our epoch: the envelope had the later one, so there is nothing to do but to meet again.
void Core::State::on(const message::Stale&) { reset_link("the peer holds a later epoch"); }

// ---- Facts --------------------------------------------------------------------------------------------------------

Facts Core::State::facts() const {
    Facts facts;
    facts.incarnation = incarnation;
    facts.peer_incarnation = peer_incarnation;
    facts.record = record;
    facts.seq = seq;
    facts.serving = serving();
    facts.accept_loss = accept_loss;
    facts.dirty_known = !record.unknown;
    facts.memory = !peer_incarnation.none() || log_memory;
    facts.intent_known = intent_known;
    facts.sync_failed = sync_failed;
    facts.held = outside;
    facts.leaves = options.batch;
    return facts;
}

bool Core::State::queued(const Target& target) const {
    return std::any_of(incoming.begin(), incoming.end(), [&](const auto& entry) {
        if (const auto* change = std::get_if<message::Change>(&entry.second.what)) {
            const std::vector<Target>& targets = change->operation.targets;
            return std::find(targets.begin(), targets.end(), target) != targets.end();
        }
        const auto* copy = std::get_if<message::Copy>(&entry.second.what);
        return copy != nullptr && copy->target == target;
    });
}

bool Core::State::accounts_for(const Target& target, const Decision* with) const {
    const auto names = [&](const std::vector<Target>& targets) {
        return std::find(targets.begin(), targets.end(), target) != targets.end();
    };
    for (const TargetSet* set : {&dirty, &uncertain, &intended, &pending}) {
        if (set->contains(target)) {
            return true;
        }
    }
    if (lists > 0) {
        return true; // inodes that the peer had to create: it is being found out what all belongs to them
    }
    if (with != nullptr && ((with->unsynced_self && unsynced.contains(Unsynced::self, target)) ||
                            (with->unsynced_peer && unsynced.contains(Unsynced::peer, target)))) {
        return true;
    }
    return queued(target) ||
           std::any_of(ops.begin(), ops.end(), [&](const auto& entry) { return names(entry.second.op.targets); }) ||
           std::any_of(copies.begin(), copies.end(), [&](const auto& entry) {
               const Target& sent =
                   entry.second.target; // a listing or an attribute may yet report its inode as created
               return sent == target || sent.fid == target.fid || sent.kind == TargetKind::directory;
           });
}

// ---- Time ---------------------------------------------------------------------------------------------------------

Instant Core::State::deadline() const {
    Instant at = std::min({checkpoint_at, repeat_at, order_until, announce_at, meet_until});
    return unacknowledged.empty() ? at : std::min(at, unacknowledged.front().second + options.slow_peer);
}

void Core::State::timers() {
    if (now >= checkpoint_at) {
        checkpoint();
    }
    if (now >= announce_at) {
        announce();
    }
    if (now >= repeat_at) {
        repeat_at = never;
        claim_on();
    }
    if (!unacknowledged.empty() && now >= unacknowledged.front().second + options.slow_peer) {
        reset_link("the peer is heard but does not acknowledge");
    }
}

/// Whatever can go on now, goes on. Each of these does nothing unless its time has come.
void Core::State::settle() {
    timers();
    answer_held();
    go_on_starting();
    try_promote();
    go_on_promoting();
    go_on_handing();
    go_on_taking();
    go_on_stopping();
    greet();
    build_set();
    go_on_reading();
    pump_copies();
    follow_verify();
    try_end();
    try_finish_end();
    follow_order();
    go_on_prim();
}

Core::Core(const Options& options) : state_(std::make_unique<State>(options)) {}
Core::~Core() = default;
Core::Core(Core&&) noexcept = default;
Core& Core::operator=(Core&&) noexcept = default;

std::vector<Output> Core::step(Instant now, const Input& input) {
    State& s = *state_;
    STEAD_ASSERT(now >= s.now);
    s.now = now;
    s.lapsed = s.lapsed || now >= s.lease;
    s.out.clear();
    s.out.reserve(4);
    std::visit([&s](const auto& what) { s.handle(what); }, input);
    if (!s.dead && s.role != Role::none) {
        s.settle();
    }
    return std::exchange(s.out, {});
}

Instant Core::next_deadline() const noexcept { return state_->deadline(); }
Role Core::role() const noexcept { return state_->role; }
const Record& Core::record() const noexcept { return state_->record; }
bool Core::frozen() const noexcept { return state_->frozen; }
bool Core::answers(Instant now) const noexcept {
    return state_->serving() && !state_->frozen && (!state_->needs_lease() || now < state_->lease);
}
bool Core::equal() const noexcept { return state_->phase == Phase::equal; }
bool Core::sent(const Target& target) const { return state_->copied.contains(target); }
std::size_t Core::pending() const noexcept { return state_->pending.size(); }
bool Core::accounts_for(const Target& target, const Decision* decision) const {
    return state_->accounts_for(target, decision);
}
bool Core::queued(const Target& target) const { return state_->queued(target); }
bool Core::eligible() const noexcept { return !state_->behind && state_->may_promote(); }
Facts Core::facts() const { return state_->facts(); }
const Counters& Core::counters() const noexcept { return state_->counters; }
bool Core::verifying() const noexcept {
    const State& s = *state_;
    return s.listing || !s.to_verify.empty() || !s.jobs.empty() || !s.copies.empty();
}

Core::Standing Core::after_restart(const Options& options, const Record& record, const LoadedLog& log) {
    State state(options);
    state.load({record, log, {1, 1}});
    Standing standing{state.facts(), state.dirty, {}};
    standing.marks.insert(state.intended.begin(), state.intended.end());
    state.unsynced.for_each(Unsynced::self, [&](const Target& target) { standing.unsynced.insert(target); });
    return standing;
}

} // namespace stead::mirror
