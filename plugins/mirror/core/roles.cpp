// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

#include <algorithm>

/// Who serves: freezing, claims, promotion, planned moves.
namespace stead::mirror {
namespace {
constexpr nanoseconds look_again = seconds{5}; ///< after a doubt, where there is no data that could be behind
constexpr nanoseconds announce_every = milliseconds{500};
} // namespace

/// Without data no record tells who may serve. The witness must know of every claim, or it grants the next one to a
/// node that was not there.
bool Core::State::every_claim_is_asked() const {
    return !options.data && options.witness && !mutant(Mutant::take_without_asking);
}

void Core::State::set_role(Role to, const std::string& reason) {
    if (role != to) {
        role = to;
        if (to == Role::second) {
            copied.clear(); // by now it is this node that is sent to
        }
        if (to == Role::waiting) {
            handshake_text.clear(); // of before: now the reason tells what is waited for
        }
        out.emplace_back(RoleChanged{to, record.epoch, reason});
        announce_at = to == Role::alone && !options.data ? now : never;
        tell_witness();
    }
}

/// Of an epoch that came by a handshake or a swap: else the witness would give it, or a lower one than this, to a node
/// that was not there. Whatever it answers, this node serves with the other one's consent.
void Core::State::tell_witness() {
    if (serving() && every_claim_is_asked() && record.epoch != granted_epoch) {
        granted_epoch = record.epoch;
        out.emplace_back(AskWitness{expect([](const Done&) {}), record.epoch});
    }
}

/// Without data nothing but the other one's word stops a node that serves, and the stream may be cut where the bus is
/// not: whoever serves in a lower epoch hears of this one.
void Core::State::announce() {
    announce_at = now + announce_every;
    if (serving() && !frozen && peer == PeerState::present && phase != Phase::equal) {
        out.emplace_back(BusSend{{record.epoch, message::Stale{}}});
    }
}

void Core::State::freeze() {
    frozen_since = frozen ? frozen_since : now;
    frozen = true;
}

bool Core::State::quiet() const {
    return !dead && role != Role::none && persists == 0 && claim == Claim::none && !frozen && incoming.empty() &&
           !generating && !stop_wanted && peer == PeerState::present && (serving() || ops.empty());
}

// ---- A primary that lost its peer ---------------------------------------------------------------------------------

/// Frozen, stream closed: what must be known before this node may go on alone.
void Core::State::claim_on() {
    if (!frozen || (claim != Claim::none && claim != Claim::outdating)) {
        return;
    }
    claim = Claim::none;
    if (!claim_reason.empty()) { // the peer was never in sync
        become_alone(std::max(record.epoch, asked_epoch), claim_reason);
    } else if (peer == PeerState::present && !mutant(Mutant::no_outdate)) {
        claim = Claim::outdating;
        give_up_at = std::min(give_up_at, now + options.witness_wait);
        if (now >= give_up_at) {
            step_down("the peer is heard but does not answer: it may have gone on", false);
            return;
        }
        out.emplace_back(BusSend{{record.epoch, message::Outdate{++nonce}}});
        repeat_at = now + options.repeat_every;
    } else if (peer == PeerState::present || (peer == PeerState::died && !lapsed && !every_claim_is_asked())) {
        become_alone(std::max(record.epoch, asked_epoch), "the peer is gone");
    } else if (options.witness) {
        give_up_at = std::min(give_up_at, now + options.witness_wait);
        ask_witness(epoch_after(record.epoch, options.node));
    } else if (excluded) {
        step_down("the peer went on without this node, and is silent now", false);
    } else {
        note("the peer is silent and no witness is configured: it may serve as well (split brain)", true);
        become_alone(std::max(record.epoch, asked_epoch), "the peer is silent");
    }
}

void Core::State::ask_witness(Epoch epoch) {
    claim = Claim::asking;
    asked_epoch = std::max(asked_epoch, epoch);
    const Ticket ticket = expect([this, mine = reign](const Done& done) {
        if (mine == reign && claim == Claim::asking) {
            witness_answered(done);
        }
    });
    out.emplace_back(AskWitness{ticket, epoch});
}

void Core::State::witness_answered(const Done& answer) {
    claim = Claim::none;
    const bool primary = serving();
    if (answer.yes) {
        granted_epoch = epoch_after(record.epoch, options.node);
        become_alone(epoch_after(record.epoch, options.node), "the witness granted it");
        counters.promotions += primary ? 0 : 1;
    } else if (!answer.unanswered && primary) {
        step_down("the witness refused: the peer went on", true);
    } else if (primary && peer == PeerState::died && !lapsed) { // without data: asked all the same, and nobody objects
        become_alone(std::max(record.epoch, asked_epoch), "the peer is gone");
    } else if (!answer.unanswered) {
        doubt("the witness refused: the primary may go on");
    } else if (primary && now >= give_up_at) {
        step_down("neither the peer nor the witness answers", false);
    } else if (primary && peer != PeerState::present && !mutant(Mutant::ask_at_once)) {
        repeat_at = now + options.repeat_every; // a witness that refuses the connection says so at once
    } else if (primary) {
        claim_on();
    } else {
        repeat_at = now + 5 * options.repeat_every; // may_promote() looks again then
    }
}

/// Persists "alone" with everything that may be on one side only, then serves.
void Core::State::become_alone(Epoch epoch, std::string reason) {
    ++reign;
    claim = Claim::becoming;
    accept_loss = behind = false;
    freeze();
    for (const auto& [ticket, running] : ops) {
        if (running.remote && !(running.answered && running.peer_done)) {
            dirty.insert(running.op.targets.begin(), running.op.targets.end());
        }
    }
    dirty.insert(uncertain.begin(), uncertain.end());
    uncertain.clear();
    record.epoch = epoch;
    record.role = Role::alone;
    record.in_sync = true;
    record.outdated = record.clean = false;
    const auto alone = [this, reason = std::move(reason), mine = reign](int error) {
        if (mine != reign) {
            return;
        }
        if (error != 0) {
            // What may differ is on no log, and this life may end: everything will be compared.
            record.unknown = true;
            step_down("the change log cannot be written", false);
            reset_link("this node cannot serve now");
        } else {
            alone_now(reason);
        }
    };
    const bool changed_alone = record.base.none() ? !dirty.empty() : !log_usable;
    if (changed_alone) {
        generating = false; // one that was begun for the role before has no name yet
        start_generation(alone);
    } else {
        persist([alone] { alone(0); });
    }
}

/// What was on its way to the peer is an operation of this node alone now.
void Core::State::alone_now(const std::string& reason) {
    claim = Claim::none;
    frozen = excluded = false;
    outside = options.batch;
    give_up_at = never;
    if (!serving()) { // nobody comes back who could want it
        out.emplace_back(Purge{~Seq{0}});
    }
    set_role(Role::alone, reason);
    std::vector<Ticket> tickets;
    for (const auto& [ticket, running] : ops) {
        tickets.push_back(ticket);
    }
    for (const Ticket ticket : tickets) {
        Running& running = ops.at(ticket);
        if (!running.remote) {
            continue;
        }
        by_seq.erase(running.seq);
        running.peer_done = true;
        running.remote = false;
        if (running.repairing || (running.local_done && !running.finished)) {
            running.repairing = false;
            finish(ticket, running.error);
        } else {
            retire(ticket);
        }
    }
    answer_held();
    prepare_everything();
    if (phase == Phase::leading && peer_is_held()) {
        reset_link("the peer waits for its next synchronisation"); // and is to hear that this node serves
    } else if (phase == Phase::leading) {
        phase = Phase::marks;
    }
}

/// The application is killed: nobody waits for what it asked. What was begun is finished; what was sent may be on one
/// side only.
void Core::State::drop_operations() {
    for (auto at = ops.begin(); at != ops.end();) {
        Running& running = at->second;
        if (running.remote && !(running.answered && running.peer_done)) {
            uncertain.insert(running.op.targets.begin(), running.op.targets.end());
        }
        if (running.local_started && !running.local_done) {
            running.orphan = true;
            ++at;
        } else {
            at = ops.erase(at);
        }
    }
    by_seq.clear();
    unacknowledged.clear();
    parked.clear();
    held.clear();
    window_waiters.clear();
    log_waiters.clear();
    log_wanted.clear();
    intents_wanted.clear();
    outstanding = 0;
    locks.clear();
}

void Core::State::step_down(const std::string& reason, bool outdated) {
    ++reign;
    claim = Claim::none;
    frozen = generating = excluded = false;
    give_up_at = never;
    ++log_token;
    drop_operations();
    eligible = false;
    record.role = Role::second; // not the last holder any more
    record.outdated = record.outdated || outdated;
    persist([] {});
    set_role(Role::waiting, reason);
}

// ---- A secondary that lost its primary ----------------------------------------------------------------------------

/// Only who was equal in this life, and was not told otherwise since.
bool Core::State::may_promote() const {
    if (!options.data) {
        return role == Role::second || role == Role::waiting;
    }
    return (role == Role::second && eligible && record.in_sync && !record.outdated && record.inconsistent.none()) ||
           (role == Role::waiting && behind);
}

/// The primary may have gone on, or not: if it did, its generation will tell. Until both meet, this node does not
/// serve.
void Core::State::doubt(const std::string& reason) {
    eligible = behind = false;
    set_role(Role::waiting, reason);
    if (!options.data) {
        repeat_at = now + look_again;
    }
}

void Core::State::try_promote() {
    const bool lost = peer == PeerState::died || peer == PeerState::silent;
    if (!lost || claim != Claim::none || !may_promote() || stop_wanted) {
        return;
    }
    if (repeat_at != never && now < repeat_at) {
        return; // the witness did not answer a moment ago
    }
    repeat_at = never;
    reset_link("the primary is gone");
    if (!options.failover) {
        set_role(Role::waiting, "the primary is gone and failover is off");
        return;
    }
    trusted = peer == PeerState::died && !lapsed && !behind;
    claim = Claim::draining;
}

/// Everything that was received is applied first: the application may have been told of it.
void Core::State::go_on_promoting() {
    if (claim != Claim::draining) {
        return;
    }
    if (!incoming.empty() && !mutant(Mutant::promote_without_drain)) {
        return;
    }
    incoming.clear();
    replica_locks.clear();
    if (trusted && !every_claim_is_asked()) {
        promote();
        return;
    }
    if (!options.probe_vip) {
        options.witness ? ask_witness(epoch_after(record.epoch, options.node)) : promote();
        return;
    }
    claim = Claim::probing;
    const Ticket ticket = expect([this, mine = reign](const Done& done) {
        if (mine != reign || claim != Claim::probing) {
            return;
        }
        claim = Claim::none;
        if (done.yes) {
            doubt("the virtual address answers: the primary lives");
        } else if (options.witness) {
            ask_witness(epoch_after(record.epoch, options.node));
        } else {
            promote();
        }
    });
    out.emplace_back(ProbeVip{ticket});
}

void Core::State::promote() {
    ++counters.promotions;
    if (!trusted && !options.witness) {
        note("taking over without a witness: the primary may still serve (split brain)", true);
    }
    become_alone(epoch_after(record.epoch, options.node), "the primary is gone");
}

// ---- The bus ------------------------------------------------------------------------------------------------------

void Core::State::handle(const PeerLost& input) {
    switch (input.how) {
    case PeerLost::How::silent: peer = PeerState::silent; break;
    case PeerLost::How::died: peer = PeerState::died; break;
    case PeerLost::How::excluded_us: peer = PeerState::present; break;
    }
    const bool undecided = claim == Claim::none || claim == Claim::draining || claim == Claim::probing;
    if (input.how == PeerLost::How::excluded_us && role == Role::second && undecided) {
        claim = Claim::none; // it may have gone on; this node cannot know
        reset_link("the primary went on without this node");
        doubt("the primary went on without this node");
    }
    const bool counts = needs_lease() || !options.data; // without data the peer may take over at any time
    excluded = excluded || (input.how == PeerLost::How::excluded_us && serving() && (counts || frozen));
    if (serving() && counts) {
        reset_link(peer == PeerState::died ? "the peer's process died" : "the peers lost each other");
    }
    if (serving() && !options.data && claim == Claim::none) {
        freeze(); // until it is known that this node may go on
        claim_reason.clear();
    }
    claim_on();
}

void Core::State::handle(const PeerBack&) {
    peer = PeerState::present;
    if ((claim == Claim::draining && !trusted) || claim == Claim::probing) {
        claim = Claim::none; // nothing was asked or written yet
    }
    behind = false;
    claim_on();
}

void Core::State::handle(const BusReceived& input) {
    const BusMessage& message = input.message;
    if (dead || role == Role::none) {
        return;
    }
    if (const auto* outdate = std::get_if<message::Outdate>(&message.body)) {
        be_outdated(message, outdate->nonce);
    } else if (const auto* outdated = std::get_if<message::Outdated>(&message.body)) {
        if (claim == Claim::outdating && outdated->nonce == nonce) {
            become_alone(std::max(record.epoch, asked_epoch), "the peer wrote that it is outdated");
        }
    } else if (message.epoch > record.epoch && serving()) {
        reset_link("the peer holds a later epoch");
        step_down("the peer holds a later epoch", true);
    } else if (meet_until != never) {
        meet_until = now + options.meet_wait; // the peer serves
    }
}

/// The primary wants to go on alone.
void Core::State::be_outdated(const BusMessage& message, std::uint64_t asked) {
    if (message.epoch < record.epoch && !mutant(Mutant::ignore_epoch)) {
        ++counters.stale_refused;
        out.emplace_back(BusSend{{record.epoch, message::Stale{}}});
        return;
    }
    const bool undecided = claim == Claim::none || claim == Claim::draining || claim == Claim::probing;
    if (!undecided || (serving() && !mutant(Mutant::ignore_epoch))) {
        return; // it asks again
    }
    claim = Claim::none;
    reset_link("the primary goes on alone");
    record.epoch = std::max(record.epoch, message.epoch);
    record.outdated = true;
    if (role == Role::second) {
        set_role(Role::waiting, "the primary goes on alone");
    }
    if (!options.data && !serving()) {
        repeat_at = now + look_again; // it was heard just now, whatever the bus says
    }
    // From here on this life does not take over, and no later one does so by itself: a disk that hangs here must not
    // hold up the primary. The record is for the eyes of an administrator.
    out.emplace_back(BusSend{{message.epoch, message::Outdated{asked}}});
    persist([] {});
}

// ---- Planned moves ------------------------------------------------------------------------------------------------

bool Core::State::operations_drained() const {
    return std::all_of(ops.begin(), ops.end(),
                       [](const auto& entry) { return !entry.second.remote && !entry.second.local_started; });
}

void Core::State::hand_over() {
    if (phase != Phase::equal || role != Role::prim || claim != Claim::none || frozen) {
        return;
    }
    claim = Claim::handing;
    step_running = false;
    finish_verify("the roles are exchanged");
}

void Core::State::go_on_handing() {
    if (claim != Claim::handing || step_running || !operations_drained() || !pending.empty() || !jobs.empty() ||
        !copies.empty() || flushing || log_busy) {
        return;
    }
    step_running = true;
    const Ticket ticket = expect([this, mine = conversation](const Done& done) {
        if (mine != conversation || claim != Claim::handing) {
            return;
        }
        if (done.error != 0) {
            own_sync_failed(done.error);
            return;
        }
        unsynced.forget(Unsynced::self, seq);
        record.role = Role::second;
        record.log_is_intent = false;
        record.log = 0;
        persist([this, mine] {
            if (mine == conversation && claim == Claim::handing) {
                claim = Claim::handed;
                drop_operations(); // of an application that was stopped before
                set_role(Role::second, "swap");
                send(message::Handover{true});
            }
        });
    });
    out.emplace_back(Flush{ticket});
}

/// The peer has everything that was answered, and this node's disk may not.
void Core::State::hand_over_broken(const char* why) {
    const std::uint64_t mine = conversation;
    uncertain.insert(pending.begin(), pending.end());
    step_down(why, true);
    persist([this, mine] {
        if (mine == conversation) {
            phase = Phase::apart;
            send(message::Handover{false});
        }
    });
}

void Core::State::on(const message::Handover& handover) {
    if (phase != Phase::equal || !may_promote() || claim != Claim::none) {
        return;
    }
    if (!handover.flushed) {
        reset_link("the primary's disk failed");
        trusted = true;
        claim = Claim::draining;
        return;
    }
    claim = Claim::taking;
    step_running = false;
}

void Core::State::go_on_taking() {
    if (claim != Claim::taking || step_running || !incoming.empty()) {
        return;
    }
    step_running = true;
    const Ticket ticket = expect([this, mine = conversation](const Done& done) {
        if (claim != Claim::taking) {
            return;
        }
        if (done.error != 0 || mine != conversation) {
            claim = Claim::none; // neither is primary; each is a secondary in sync
            if (done.error != 0) {
                own_sync_failed(done.error);
            }
            return;
        }
        ++reign;
        record.epoch = epoch_after(record.epoch, options.node);
        record.role = Role::prim;
        const auto serve = [this] {
            claim = Claim::none;
            unsynced.forget(Unsynced::self, seq);
            unsynced.forget(Unsynced::peer, seq);
            out.emplace_back(Purge{~Seq{0}}); // the old primary has flushed what it removed
            set_role(Role::prim, "swap");
            if (link_up && phase == Phase::equal) {
                send(message::Taken{});
            } else {
                freeze();
                claim_reason.clear();
                claim_on();
            }
        };
        if (options.intent_log) {
            reset_intents(serve, true);
        } else {
            persist(serve);
        }
    });
    out.emplace_back(Flush{ticket});
}

void Core::State::on(const message::Taken&) {
    if (claim != Claim::handed) {
        return;
    }
    claim = Claim::none;
    eligible = true;
    unsynced.forget(Unsynced::peer, seq);
    persist([] {}); // with the new epoch, which came with the message
}

void Core::State::go_on_stopping() {
    if (!stop_wanted || dead) {
        return;
    }
    if (claim == Claim::none && role == Role::prim && phase == Phase::equal && !frozen) {
        hand_over();
    } else if (claim == Claim::none && !frozen) {
        reset_link("stop"); // a source whose resync breaks off persists that first
        if (claim == Claim::none && !frozen) {
            claim = Claim::stopping;
            step_running = false;
        }
    }
    if (claim != Claim::stopping || step_running || !operations_drained() || !incoming.empty() || generating ||
        log_busy || persists > 0) {
        return;
    }
    step_running = true;
    const Ticket ticket = expect([this](const Done& done) {
        record.clean = done.error == 0 && !tainted && !sync_failed && uncertain.empty();
        persist([this] {
            dead = true;
            out.emplace_back(CommandDone{Command::stop, true, record.clean ? "stopped" : "stopped, not clean", {}});
            out.emplace_back(Stopped{});
        });
    });
    out.emplace_back(Flush{ticket});
}

/// By force, what is here is served even if it stays half old and half new.
void Core::State::roll_back_and_serve(bool force) {
    claim = Claim::rolling;
    const Ticket ticket = expect([this, force](const Done& done) {
        if (done.error != 0) {
            note("the undo log cannot be restored", true);
        }
        if ((done.error != 0 && !force) || !order) { // or the module stops
            claim = Claim::none;
            return;
        }
        record.inconsistent = Gen{};
        persist([this] { // until then a crash needs the undo log once more
            out.emplace_back(Purge{~Seq{0}});
            out.emplace_back(EndResync{false});
            if (order) {
                serve_by_order("an administrator said prim; rolled back");
            } else {
                claim = Claim::none;
            }
        });
    });
    out.emplace_back(RollBack{ticket});
}

} // namespace stead::mirror
