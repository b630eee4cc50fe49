// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

#include <stead/base/assert.hpp>

#include <algorithm>
#include <cerrno>

/// Operations of the application: lock, account, peer, here, answer.
namespace stead::mirror {
namespace {
constexpr std::uint32_t ahead_max = 64; ///< operations whose answer holds up nobody: both nodes keep what they carry
} // namespace

bool Core::State::serving() const noexcept { return role == Role::prim || role == Role::alone; }

/// From here on the peer gets what is changed; before, only the set of a resync covers it.
bool Core::State::peer_receives() const noexcept {
    return link_up && (phase == Phase::copying || phase == Phase::ending || phase == Phase::end_sent ||
                       (phase == Phase::equal && serving()));
}

/// Until End the peer is nobody's successor, and what it may lack is on record: the application need not wait for it.
bool Core::State::runs_ahead() const noexcept {
    const bool before_end =
        phase == Phase::copying || phase == Phase::ending || (phase == Phase::end_sent && mutant(Mutant::ahead_of_end));
    return before_end && !record.base.none();
}

std::size_t Core::State::pending_of(const Operation& op) const {
    return static_cast<std::size_t>(std::count_if(op.targets.begin(), op.targets.end(),
                                                  [&](const Target& target) { return pending.contains(target); }));
}

Level Core::State::level_for(const Operation& op) const noexcept {
    if (op.kind == OpKind::sync || op.durable || options.ack == Ack::disk) {
        return Level::flushed;
    }
    return options.ack == Ack::receipt ? Level::received : Level::applied;
}

/// What is under way keeps the level that it was asked with.
void Core::State::handle(const SetAck& input) {
    if ((input.ack == Ack::commit) != (options.ack == Ack::commit)) {
        return;
    }
    options.ack = input.ack;
    for (auto& [ticket, running] : ops) {
        running.wanted = mutant(Mutant::ack_changes_under_way) ? level_for(running.op) : running.wanted;
    }
}

void Core::State::handle(const Request& input) {
    if (dead || !serving()) {
        return; // the driver forgot it with the role
    }
    const Ticket op = ++last_ticket;
    Running& running = ops[op];
    running.id = input.id;
    running.op = input.operation;
    running.wanted = level_for(running.op);
    // All that a sync must cover is done: it waits for nobody here, and nobody for it.
    const bool changes = running.op.kind == OpKind::change;
    if (locks.request(op, changes ? lock_targets(running.op) : std::vector<Target>{})) {
        running.granted = true;
        prepare(op);
    }
}

/// After a change of role or stream: all that had begun to wait for something looks again.
void Core::State::prepare_everything() {
    parked.clear();
    window_waiters.clear();
    std::vector<Ticket> tickets;
    for (const auto& [ticket, running] : ops) {
        if (running.granted) {
            tickets.push_back(ticket);
        }
    }
    prepare_all(tickets);
}

void Core::State::prepare_all(const std::vector<Ticket>& tickets) {
    for (const Ticket op : tickets) {
        prepare(op);
    }
}

/// Whatever must be true before an operation may start, one after the other; called again after each wait.
void Core::State::prepare(Ticket op) {
    const auto found = ops.find(op);
    if (found == ops.end() || found->second.finished || found->second.local_started || found->second.remote ||
        found->second.orphan) {
        return;
    }
    if (!serving() || frozen || opening_intents || closing_log || claim == Claim::handing || claim == Claim::stopping) {
        parked.insert(op);
        return;
    }
    const Running& running = found->second;
    wait_for_reads(op);
    if (waits_for_copies(op)) {
        return; // wake() comes: what is being read must not change before it is sent
    }
    const bool sync = running.op.kind == OpKind::sync;
    const std::size_t waiting = sync ? 0 : pending_of(running.op);
    const bool all_wait = waiting > 0 && waiting == running.op.targets.size();
    const bool ahead = runs_ahead();
    const bool one_side = all_wait || (sync && (ahead || mutant(Mutant::sync_one_side)));
    const bool remote = peer_receives() && !one_side;
    if (!sync && (!remote || !record.base.none())) {
        if (!ensure_logged(op)) {
            return;
        }
    } else if (!sync && record.log_is_intent && !ensure_intended(op)) {
        return;
    }
    if (remote && waiting > 0) {
        copy_for(op);
        return;
    }
    if (remote && outstanding >= std::min(options.window_operations, ahead ? ahead_max : ~std::uint32_t{0})) {
        window_waiters.push_back(op);
        return;
    }
    if (!sync && !record.base.none()) {
        dirty.insert(running.op.targets.begin(), running.op.targets.end());
    }
    if (remote) {
        launch_remote(op);
        return;
    }
    if (!sync && link_up && (phase == Phase::marks || phase == Phase::begun)) {
        std::for_each(running.op.targets.begin(), running.op.targets.end(),
                      [this](const Target& t) { add_pending(t); });
    }
    launch_local(op);
}

/// A write has no lock of its inode, which is being read for another one.
void Core::State::wait_for_reads(Ticket op) {
    if (moving.empty() || mutant(Mutant::read_beside_writes)) {
        return;
    }
    const Operation& operation = ops.at(op).op;
    if (operation.whole_inode || waits_for_copies(op)) {
        return;
    }
    for (const Target& target : operation.targets) {
        if (target.kind == TargetKind::inode && moving.contains(target)) {
            waiting_for.emplace(target, op);
        }
    }
}

void Core::State::launch_remote(Ticket op) {
    Running& running = ops.at(op);
    running.remote = true;
    running.ahead = runs_ahead();
    running.seq = ++seq;
    by_seq[running.seq] = op;
    unacknowledged.emplace_back(running.seq, now);
    ++outstanding;
    const bool sync = running.op.kind == OpKind::sync;
    if (!sync) {
        for (const Target& target : running.op.targets) {
            unsynced.touch_both(target, running.seq);
        }
    }
    const bool at_once = sync || running.ahead || options.ack == Ack::commit || mutant(Mutant::local_first);
    send(message::Change{running.seq, running.op, running.of_peer()});
    if (at_once) {
        launch_local(op);
    }
}

void Core::State::launch_local(Ticket op) {
    Running& running = ops.at(op);
    if (running.local_started) {
        return;
    }
    running.local_started = true;
    running.failed_before = failed_syncs_of(running.op);
    if (running.op.kind == OpKind::sync) {
        sync_inodes(running.op, running.failed_before, [this, op](int error) { local_finished(op, error); });
        return;
    }
    const Ticket ticket = expect([this, op](const Done& done) { local_applied(op, done.error); });
    out.emplace_back(Apply{ticket, running.op, 0});
}

std::uint64_t Core::State::failed_syncs_of(const Operation& op) const {
    std::uint64_t sum = 0;
    for (const Target& target : failed_syncs.empty() ? std::vector<Target>{} : op.targets) {
        const auto found = failed_syncs.find(target.fid);
        sum += found == failed_syncs.end() ? 0 : found->second;
    }
    return sum;
}

/// All inodes of an operation; the first error is that of all. The system tells one of several who sync an inode at the
/// same time that what all of them wanted is lost, and the others that nothing is left to be written: one that failed
/// since there were `failed_before` counts for this one as well. A failure is acted on, and told, at once: the rest may
/// take long.
void Core::State::sync_inodes(const Operation& op, std::uint64_t failed_before, std::function<void(int)> then) {
    std::set<Fid> fids;
    for (const Target& target : op.targets) {
        fids.insert(target.fid);
    }
    auto left = std::make_shared<std::pair<std::size_t, int>>(fids.size(), 0);
    STEAD_ASSERT(!fids.empty());
    for (const Fid& fid : fids) {
        const Ticket ticket = expect([this, left, then, fid, op, failed_before](const Done& done) {
            if (done.error != 0) {
                ++failed_syncs[fid];
                own_sync_failed(done.error);
            }
            if (std::exchange(left->second, left->second != 0 ? left->second : done.error) != 0) {
                return; // told before
            }
            if (--left->first == 0 || done.error != 0) {
                const bool lost = failed_syncs_of(op) != failed_before && !mutant(Mutant::failed_sync_told_once);
                then(done.error == 0 && lost ? EIO : done.error);
            }
        });
        out.emplace_back(SyncInode{ticket, fid});
    }
}

/// Failed here, done there: it gets our content back before the application hears of it.
void Core::State::repair(Ticket op) {
    const Running& running = ops.at(op);
    std::for_each(running.op.targets.begin(), running.op.targets.end(), [this](const Target& t) { add_pending(t); });
    copy_for(op);
}

void Core::State::local_applied(Ticket op, int error) {
    Running& running = ops.at(op);
    if (running.orphan) {
        ops.erase(op);
        return;
    }
    if (error == 0 && running.wanted == Level::flushed) {
        sync_inodes(running.op, running.failed_before, [this, op](int failed) { local_finished(op, failed); });
        return;
    }
    running.local_done = true;
    if (error == 0) {
        complete(op);
        return;
    }
    running.error = error;
    if (running.remote) {
        ++counters.repairs;
        running.repairing = true;
        if (running.peer_ok && link_up) {
            repair(op);
        }
        return;
    }
    finish(op, error);
}

void Core::State::local_finished(Ticket op, int error) {
    Running& running = ops.at(op);
    running.local_done = true;
    running.error = error;
    if (running.orphan) {
        ops.erase(op);
    } else {
        complete(op);
    }
}

/// As after a power loss: what was not on disk counts as lost.
void Core::State::distrust_cache() {
    incarnation = fresh();
    sync_failed = true;
}

void Core::State::own_sync_failed(int error) {
    distrust_cache();
    note("fsync failed here; the cache of this node cannot be trusted", true);
    const bool asks_peer = !serving() && (phase == Phase::equal || phase == Phase::apart); // to take over
    if (phase == Phase::equal && role == Role::prim && (claim == Claim::none || claim == Claim::handing)) {
        hand_over_broken("fsync failed here");
    } else if (role == Role::second && (phase == Phase::equal || phase == Phase::receiving)) {
        own_failure("fsync failed", error);
    } else if (link_up && !asks_peer) {
        reset_link("fsync failed during a resync");
    }
}

void Core::State::handle(const StorageFailed&) {
    if (phase == Phase::equal && role == Role::prim && (claim == Claim::none || claim == Claim::handing)) {
        distrust_cache();
        note("the disk of the data failed here; the other node takes over", true);
        hand_over_broken("the disk of the data failed here");
    }
}

/// The first one left is the one that waits longest.
void Core::State::trim_unacknowledged() {
    while (!unacknowledged.empty()) {
        const auto found = by_seq.find(unacknowledged.front().first);
        if (found != by_seq.end() && !ops.at(found->second).peer_ok) {
            return;
        }
        unacknowledged.pop_front();
    }
}

/// Long enough for applying here and there to be worth doing at the same time.
bool Core::State::overlaps(const Operation& op) const {
    const auto zones = std::count_if(op.targets.begin(), op.targets.end(),
                                     [](const Target& target) { return target.kind == TargetKind::zone; });
    return zones >= options.overlap_zones;
}

void Core::State::peer_acked(const message::Acked& ack) {
    const auto found = by_seq.find(ack.seq);
    if (found == by_seq.end()) {
        return;
    }
    const Ticket op = found->second;
    Running& running = ops.at(op);
    if (ack.error != 0) {
        reset_link("the peer's storage failed");
        return;
    }
    const bool first_ok = !running.peer_ok && ack.level >= running.of_peer();
    if (first_ok) {
        running.peer_ok = true;
        --outstanding;
        trim_unacknowledged();
        const std::deque<Ticket> waiters = std::exchange(window_waiters, {});
        prepare_all({waiters.begin(), waiters.end()});
    }
    running.peer_done = running.peer_done || ack.level >= std::max(running.of_peer(), Level::applied);
    if (first_ok && running.repairing) {
        repair(op);
        return;
    }
    const bool may_start = running.peer_ok || (ack.level >= Level::received && overlaps(running.op));
    if (may_start && !running.local_started) {
        launch_local(op);
    }
    complete(op);
    retire(op);
}

/// Answered when both sides did what the acknowledgement mode asks for.
void Core::State::complete(Ticket op) {
    const auto found = ops.find(op);
    if (found == ops.end() || !found->second.local_done || found->second.repairing || found->second.finished ||
        found->second.orphan) {
        return;
    }
    const Running& running = found->second;
    const bool needs_peer = running.remote && !running.ahead &&
                            (options.ack != Ack::commit || running.op.durable || running.op.kind == OpKind::sync);
    if (!needs_peer || running.peer_ok) {
        finish(op, running.error);
    }
}

void Core::State::finish(Ticket op, int error) {
    Running& running = ops.at(op);
    running.finished = true;
    running.error = error;
    try_answer(op);
}

void Core::State::try_answer(Ticket op) {
    Running& running = ops.at(op);
    const bool lease_over = needs_lease() && now >= lease && !mutant(Mutant::answer_after_lease);
    if (frozen || !serving() || lease_over) {
        held.insert(op);
        return;
    }
    held.erase(op);
    running.answered = true;
    out.emplace_back(Answer{running.id, running.error});
    release_locks(op);
    retire(op);
}

void Core::State::answer_held() {
    const bool lease_over = needs_lease() && now >= lease && !mutant(Mutant::answer_after_lease);
    if (held.empty() || frozen || !serving() || lease_over) {
        return;
    }
    const std::set<Ticket> now_free = held;
    for (const Ticket op : now_free) {
        if (ops.contains(op)) {
            try_answer(op);
        }
    }
}

/// Forgotten when it is answered and finished on both sides: until then it is in flight.
void Core::State::retire(Ticket op) {
    const auto found = ops.find(op);
    if (found != ops.end() && found->second.answered && (!found->second.remote || found->second.peer_done)) {
        by_seq.erase(found->second.seq);
        ops.erase(found);
    }
}

void Core::State::release_locks(Ticket ticket) {
    for (const Ticket next : locks.release(ticket)) {
        if (jobs.contains(next)) {
            job_ready(next);
        } else if (ops.contains(next)) {
            ops.at(next).granted = true;
            prepare(next);
        }
    }
}

/// Everything up to here was applied on this node, or is undone on the other.
Seq Core::State::completed_through() const {
    Seq through = seq;
    for (const auto& [ticket, running] : ops) {
        if (running.remote && (!running.local_done || (running.repairing && !running.finished))) {
            through = std::min(through, running.seq - 1);
        }
    }
    if (!incoming.empty()) {
        through = std::min(through, incoming.begin()->first - 1);
    }
    return through;
}

} // namespace stead::mirror
