// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

#include <algorithm>

/// The stream: handshake, resync, its end, checkpoints.
namespace stead::mirror {
namespace {
constexpr std::size_t marks_per_message = 4096;
} // namespace

void Core::State::reset_link(const std::string& why) {
    if (link_up) {
        note("stream closed: " + why);
        out.emplace_back(CloseLink{});
        stream_lost();
    }
}

void Core::State::handle(const LinkUp&) {
    if (dead) {
        return;
    }
    if (link_up) {
        stream_lost();
    }
    link_up = true;
    phase = Phase::up;
}

void Core::State::handle(const LinkDown&) { stream_lost(); }

/// What was on its way is in flight no more: it may be on either side.
void Core::State::stream_lost() {
    if (!link_up) {
        return;
    }
    const bool mirrored = peer_receives();
    const bool might_take_over = phase == Phase::equal || phase == Phase::end_sent;
    if (serving() && might_take_over) { // repairs; a resync's targets are dirty or unsynced anyway
        uncertain.insert(pending.begin(), pending.end());
        for (const auto& [at, copy] : copies) {
            uncertain.insert(copy.target);
        }
        record.unknown =
            record.unknown || lists > 0; // inodes that the peer made empty and whose targets are not listed
    }
    link_up = false;
    ++conversation;
    phase = Phase::down;
    hello_sent.reset();
    hello_received.reset();
    peer_marks.clear();
    marks_complete = listing = flushing = ending = false;
    lists = outstanding = 0;
    unacknowledged.clear();
    for (const auto& [ticket, job] : std::exchange(jobs, {})) {
        for (const Ticket next : locks.release(ticket)) {
            if (ops.contains(next)) {
                ops.at(next).granted = true;
            }
        }
    }
    finish_verify("the stream broke");
    verify_moving = 0;
    pending.clear();
    pump_from = Target{};
    pumped = false;
    pending_left = {};
    to_compare.clear();
    moving.clear();
    waiting_reads.clear();
    scheduled.clear();
    copies.clear();
    completed.clear();
    probes.clear();
    waiting_for.clear();
    end_wanted.reset();
    checkpoint_at = never;
    if (claim == Claim::handing || claim == Claim::handed) {
        const bool gave_up_role = claim == Claim::handed;
        claim = Claim::none;
        step_running = false;
        if (gave_up_role) {
            eligible = true;
        }
    }
    if (role == Role::prim || role == Role::alone) {
        if (mirrored && claim == Claim::none) {
            freeze();
            claim_reason = might_take_over || !options.data ? "" : "the resync broke off";
            claim_on();
        } else if (claim == Claim::none) {
            prepare_everything();
        }
    } else if (role == Role::second && !may_promote() && claim == Claim::none) {
        set_role(Role::waiting, "the primary is gone before this node was in sync");
    }
}

/// Hello when nothing of the past is still going on and nothing is being decided.
void Core::State::greet() {
    if (phase != Phase::up || !quiet()) {
        return;
    }
    if (!hello_sent) {
        hello_sent = facts();
        send(message::Hello{*hello_sent});
    }
    if (hello_received) {
        converse();
    }
}

void Core::State::on(const message::Hello& hello) { hello_received = hello.facts; }

void Core::State::converse() {
    const Facts& peer_facts = *hello_received;
    conversing_with = peer_facts.incarnation;
    seq = std::max(seq, peer_facts.seq);
    decision = decide(*hello_sent, peer_facts);
    if (decision.both_flushed || mutant(Mutant::forget_intents)) {
        intended.clear();
    }
    peer_current = peer_facts.record.current;
    peer_epoch = peer_facts.record.epoch;
    static constexpr std::array<const char*, 5> verdicts{"undecided", "refused", "split", "this node is the source",
                                                         "the peer is the source"};
    handshake_text = std::string(verdicts[static_cast<std::size_t>(decision.verdict)]) + ": " + decision.reason;
    const bool apart = decision.verdict == Verdict::split || decision.verdict == Verdict::refuse;
    if (serving() && peer_facts.record.epoch > record.epoch && (peer_facts.serving || !apart)) {
        step_down("the peer has served in a later epoch", false);
        reset_link("handshake again as one that does not serve");
        return;
    }
    const bool starting = std::exchange(meet_until, never) != never;
    switch (decision.verdict) {
    case Verdict::source:
        phase = peer_is_held() ? Phase::apart : Phase::marks;
        if (!serving()) {
            phase = Phase::leading;
            become_alone(epoch_after(std::max(record.epoch, peer_facts.record.epoch), options.node),
                         "this node has the good copy: " + decision.reason);
        }
        break;
    case Verdict::target:
        if (serving()) {
            step_down("the peer has the good copy: " + decision.reason, false);
            reset_link("handshake again as one that does not serve");
            return;
        }
        eligible = false; // until the end of a resync, whatever is said or lost meanwhile
        if (hello_sent->held) {
            phase = Phase::apart;
            if (role == Role::second) {
                set_role(Role::waiting, "waits for the next synchronisation");
            }
            handshake_text = "waits for the next synchronisation: " + decision.reason;
            return;
        }
        phase = Phase::marked;
        send_marks();
        break;
    case Verdict::split:
        note("split brain: " + decision.reason + "; nobody is overwritten without an order", true);
        [[fallthrough]];
    case Verdict::refuse:
    case Verdict::nobody:
        phase = Phase::apart;
        note("handshake: " + decision.reason, true);
        go_on_after_split(peer_facts, starting);
        break;
    }
}

/// Of two that have a claim the one that serves goes on, in an epoch later than the other one's; of two that start, the
/// one of the later epoch, as it would without the other.
void Core::State::go_on_after_split(const Facts& theirs, bool starting) {
    const Record& other = theirs.record;
    const bool kin = other.mirror == record.mirror;
    const bool later = !kin || std::pair(record.epoch, record.node) > std::pair(other.epoch, other.node);
    const bool start = starting && record.role == Role::alone && (other.role != Role::alone || later);
    if (theirs.serving || !(start || (serving() && !later))) {
        return;
    }
    reset_link("the peer is to hear that this node serves");
    become_alone(epoch_after(kin ? std::max(record.epoch, other.epoch) : record.epoch, options.node),
                 start ? "the last holder starts" : "it served, and goes on");
}

// ---- Target -------------------------------------------------------------------------------------------------------

void Core::State::send_marks() {
    std::vector<LogEntry> marks;
    for (const TargetSet* set : {&dirty, &uncertain}) {
        for (const Target& target : *set) {
            marks.push_back({target, Mark::dirty});
        }
    }
    for (const Target& target : intended) {
        marks.push_back({target, Mark::intent});
    }
    for_each_lost([&](const Target& target) { marks.push_back({target, Mark::unsynced}); });
    for (std::size_t from = 0; from < marks.size(); from += marks_per_message) {
        const auto begin = marks.begin() + static_cast<std::ptrdiff_t>(from);
        const auto count = std::min(marks_per_message, marks.size() - from);
        send(message::Marks{{begin, begin + static_cast<std::ptrdiff_t>(count)}, false});
    }
    send(message::Marks{{}, true});
}

void Core::State::on(const message::Begin& begin) {
    if (phase != Phase::marked) {
        return;
    }
    const bool half_done = !record.inconsistent.none();
    record.mirror = begin.mirror;
    record.role = Role::second;
    record.clean = record.since_clean = false;
    if (begin.anything) {
        record.inconsistent = begin.current;
        record.in_sync = false;
    }
    eligible = false; // until End, the source does not count on us
    undoing = begin.anything;
    resync_keeps_undo = begin.keep_undo;
    saved.clear();
    undo_failed = false;
    received_copies = 0;
    ++counters.resyncs;
    set_role(Role::second, "resync");
    if (undoing) {
        out.emplace_back(StartUndo{half_done});
    }
    persist([this, mine = conversation] {
        if (mine == conversation) {
            phase = Phase::receiving;
            send(message::BeginAck{});
        }
    });
}

void Core::State::on(const message::End& end) {
    if (phase == Phase::receiving) {
        end_wanted = end;
        end_waits.clear();
        for (const auto& [at, unused] : incoming) {
            end_waits.insert(at);
        }
    }
}

/// All that was sent before End is here: make it durable, then say on record that this node is in sync, then say it.
void Core::State::try_finish_end() {
    if (!end_wanted || !end_waits.empty() || ending) {
        return;
    }
    ending = true;
    const Seq through = completed_through();
    const auto flushed = [this, through, mine = conversation](const Done& done) {
        if (mine != conversation) {
            return;
        }
        if (done.error != 0) {
            own_failure("flush failed at the end of a resync", done.error);
            return;
        }
        record.current = end_wanted->current;
        record.history = end_wanted->history;
        record.base = record.inconsistent = Gen{};
        record.log = 0;
        record.in_sync = true;
        record.outdated = record.unknown = record.log_is_intent = record.since_clean = false;
        record.role = Role::second;
        persist([this, through, durable = end_wanted->durable, mine] {
            dirty.clear();
            coarse.clear();
            uncertain.clear();
            intended.clear();
            unsynced.forget(Unsynced::self, through);
            unsynced.forget(Unsynced::peer, durable);
            log_memory = intent_known = log_usable = tainted = accept_loss = undoing = sync_failed = false;
            outside = options.batch;
            ++counters.syncs;
            peer_incarnation = conversing_with;
            eligible = peer == PeerState::present; // whoever sent End counts on us
            lapsed = now >= lease;
            out.emplace_back(Purge{durable});
            out.emplace_back(EndResync{resync_keeps_undo});
            if (!eligible) {
                reset_link("in sync, but the bus does not hear the primary");
                return;
            }
            if (mine == conversation) {
                phase = Phase::equal;
                storage_failure.clear();
                checkpoint_at = now + options.checkpoint_every;
                end_wanted.reset();
                send(message::EndAck{});
            }
        });
    };
    if (mutant(Mutant::end_before_flush)) {
        flushed(Done{});
        return;
    }
    out.emplace_back(Flush{expect(flushed)});
}

// ---- Source -------------------------------------------------------------------------------------------------------

void Core::State::on(const message::Marks& marks) {
    peer_marks.insert(peer_marks.end(), marks.marks.begin(), marks.marks.end());
    marks_complete = marks_complete || marks.last;
}

/// What either side's disk may have lost, as far as this node knows it.
void Core::State::for_each_lost(const std::function<void(const Target&)>& function) const {
    if (mutant(Mutant::forget_unsynced)) {
        return;
    }
    if (decision.unsynced_self) {
        unsynced.for_each(Unsynced::self, function);
    }
    if (decision.unsynced_peer) {
        unsynced.for_each(Unsynced::peer, function);
    }
}

/// When this node serves and has all marks: what is to be sent.
void Core::State::build_set() {
    if (phase != Phase::marks || !marks_complete || claim != Claim::none || !serving() || listing || generating) {
        return;
    }
    pending_total = {};
    for (const TargetSet* set : {&dirty, &uncertain}) {
        std::for_each(set->begin(), set->end(), [this](const Target& target) {
            add_pending(target);
            if (coarse.contains(target)) {
                to_compare.insert(target);
            }
        });
    }
    for (const LogEntry& entry : peer_marks) {
        if (entry.mark == Mark::dirty) {
            add_pending(entry.target);
        }
    }
    const auto compare = [this](const Target& target) { // most of what may be lost, or was intended, is equal
        if (!pending.contains(target)) {
            add_pending(target);
            to_compare.insert(target);
        }
    };
    for_each_lost(compare);
    std::for_each(intended.begin(), intended.end(), compare);
    std::set<Fid> may_be_cut;
    for (const LogEntry& entry : peer_marks) {
        if (entry.mark == Mark::intent || (entry.mark == Mark::unsynced && !mutant(Mutant::forget_unsynced))) {
            compare(entry.target);
        }
        if (entry.mark != Mark::unsynced && entry.target.kind == TargetKind::inode) {
            may_be_cut.insert(entry.target.fid);
        }
        // Remembered until both are equal, also if this resync breaks off.
        unsynced.touch(Unsynced::peer, entry.target, seq);
    }
    if (decision.extent == Extent::marks && may_be_cut.empty()) {
        begin();
        return;
    }
    listing = true;
    const Ticket ticket = expect([this, compare, may_be_cut = std::move(may_be_cut),
                                  mine = conversation](const Done& done) {
        if (mine != conversation) {
            return;
        }
        listing = false;
        if (decision.extent == Extent::marks) { // of a file that the target cut, it names no zone behind the cut
            for (const Target& target : done.targets) {
                if (target.kind == TargetKind::zone && may_be_cut.contains(target.fid)) {
                    compare(target);
                }
            }
            begin();
            return;
        }
        std::for_each(done.targets.begin(), done.targets.end(), [this](const Target& target) { add_pending(target); });
        if (decision.extent == Extent::compare_all) {
            to_compare = pending;
        }
        begin();
    });
    out.emplace_back(List{ticket, std::nullopt});
}

void Core::State::begin() {
    phase = Phase::begun;
    ++counters.resyncs;
    const Facts& target = *hello_received;
    // After a restart, marks of a node without a base are what was changed behind its mount.
    const bool foreign =
        target.peer_incarnation.none() && std::any_of(peer_marks.begin(), peer_marks.end(),
                                                      [](const LogEntry& entry) { return entry.mark == Mark::dirty; });
    const bool ordered = target.accept_loss && !target.record.current.none(); // a new one had nothing of this mirror
    const bool loses = !target.record.base.none() || ordered || foreign;
    send(message::Begin{record.mirror, record.current, !pending.empty(), loses, progress(), decision.extent});
}

void Core::State::on(const message::BeginAck&) {
    if (phase == Phase::begun) {
        phase = Phase::copying;
    }
}

/// Nothing left to send: flush, give up the claim to start alone, and say End. From then on the peer may take over.
void Core::State::try_end() {
    if (phase != Phase::copying || !pending.empty() || !jobs.empty() || !copies.empty() || lists > 0 || generating ||
        claim != Claim::none || peer != PeerState::present) {
        return;
    }
    phase = Phase::ending;
    const Seq through = completed_through();
    const Ticket ticket = expect([this, through, mine = conversation](const Done& done) {
        if (mine != conversation) {
            return;
        }
        if (done.error != 0) {
            reset_link("flush failed at the end of a resync");
            return;
        }
        flushed_through = through;
        unsynced.forget(Unsynced::self, through);
        record.role = Role::prim;
        persist([this, mine] {
            if (mine == conversation) {
                phase = Phase::end_sent;
                end_seq = seq;
                lapsed = now >= lease;
                send(message::End{flushed_through, record.current, record.history});
            }
        });
    });
    out.emplace_back(Flush{ticket});
}

void Core::State::on(const message::EndAck&) {
    if (phase != Phase::end_sent) {
        return;
    }
    const auto equal = [this, mine = conversation] {
        if (mine == conversation) {
            become_equal();
        }
    };
    const bool on_record = record.base.none() && record.log == 0 && !record.unknown && !record.since_clean;
    record.base = Gen{};
    record.log = 0;
    record.unknown = record.log_is_intent = record.since_clean = false;
    if (options.intent_log) {
        reset_intents(equal);
    } else if (on_record) {
        become_equal();
    } else { // until then a power loss brings back the log, which must have all that one side may lack
        closing_log = true;
        persist([this, equal] {
            closing_log = false;
            equal();
            prepare_everything();
        });
    }
}

void Core::State::become_equal() {
    ++counters.syncs;
    phase = Phase::equal;
    storage_failure.clear();
    dirty.clear();
    coarse.clear();
    uncertain.clear();
    intended.clear();
    log_memory = intent_known = log_usable = tainted = accept_loss = sync_failed = false;
    unsynced.forget(Unsynced::peer, end_seq);
    peer_incarnation = conversing_with;
    checkpoint_at = now + options.checkpoint_every;
    if (hello_received->leaves) { // it asked for no more: from here on as if its stream had broken
        reset_link("the peer has everything, and leaves until its next synchronisation");
    } else {
        set_role(Role::prim, "the peer is in sync");
    }
}

// ---- Checkpoint ---------------------------------------------------------------------------------------------------

void Core::State::checkpoint() {
    checkpoint_at = now + options.checkpoint_every;
    const auto says_nothing = [this] { // a flush that succeeds after a failed fsync; this node steps down
        return sync_failed && !mutant(Mutant::durable_after_failed_sync);
    };
    if (phase != Phase::equal || flushing || says_nothing() || unsynced.empty(Unsynced::self)) {
        return;
    }
    flushing = true;
    const Seq through = completed_through();
    const Ticket ticket = expect([this, through, says_nothing, mine = conversation](const Done& done) {
        if (mine != conversation) {
            return;
        }
        flushing = false;
        if (says_nothing()) {
            return;
        }
        if (done.error != 0) {
            own_sync_failed(done.error);
            return;
        }
        unsynced.forget(Unsynced::self, through);
        send(message::Durable{through});
    });
    out.emplace_back(Flush{ticket});
}

void Core::State::on(const message::Durable& durable) {
    if (phase == Phase::equal) {
        unsynced.forget(Unsynced::peer, durable.seq);
        if (role == Role::second) {
            out.emplace_back(Purge{durable.seq});
        }
    }
}

} // namespace stead::mirror
