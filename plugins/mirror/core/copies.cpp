// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

#include <algorithm>
#include <numeric>

/// Targets on their way to the peer: resync, comparison, verification and repair.
namespace stead::mirror {

/// Copies the operation's pending targets under its own locks, then prepares it again.
void Core::State::copy_for(Ticket op) {
    Running& running = ops.at(op);
    const std::vector<Target> targets = running.op.targets;
    std::size_t waits = 0;
    for (const Target& target : targets) {
        if (!pending.contains(target)) {
            continue;
        }
        ++waits;
        waiting_for.emplace(target, op);
        if (!moving.contains(target)) {
            start_job({target, op, false, false});
        }
    }
    if (waits == 0) {
        copy_done_for(op);
    }
}

bool Core::State::waits_for_copies(Ticket op) const {
    const std::vector<Target>& targets = ops.at(op).op.targets;
    return std::any_of(targets.begin(), targets.end(), [&](const Target& target) {
        const auto [begin, end] = waiting_for.equal_range(target);
        return std::any_of(begin, end, [&](const auto& entry) { return entry.second == op; });
    });
}

void Core::State::start_job(Job job) {
    const Ticket ticket = ++last_ticket;
    jobs.emplace(ticket, job);
    if (job.owner == 0) {
        scheduled.insert(job.target);
    }
    if (job.owner != 0 || locks.request(ticket, {job.target})) {
        job_ready(ticket);
    }
}

void Core::State::pump_copies() {
    if (!link_up || frozen || !serving() || (phase != Phase::copying && phase != Phase::equal)) {
        return;
    }
    while (!pumped && jobs.size() + copies.size() < options.window_copies && scheduled.size() < options.window_reads) {
        const auto at = pending.lower_bound(pump_from);
        if (at == pending.end()) {
            pumped = true;
            break;
        }
        const auto next = std::next(at);
        const Target target = *at;
        pumped = next == pending.end();
        pump_from = pumped ? target : *next;
        if (!scheduled.contains(target) && !moving.contains(target)) {
            start_job({target, 0, to_compare.contains(target), false});
        }
    }
    if (phase != Phase::equal || !pending.empty()) {
        return;
    }
    while (!to_verify.empty() && jobs.size() + copies.size() < options.window_copies) {
        const Target target = *to_verify.begin();
        to_verify.erase(to_verify.begin());
        ++verify_moving;
        start_job({target, 0, true, true});
    }
}

/// Behind or before the place where pump_copies() is: it goes back for it.
void Core::State::add_pending(const Target& target) {
    const std::size_t before = pending.size();
    pending.insert(pending.end(), target); // a list of millions comes in this order
    if (pending.size() == before) {
        return;
    }
    ++pending_total[static_cast<std::size_t>(target.kind)];
    ++pending_left[static_cast<std::size_t>(target.kind)];
    if (pumped || target < pump_from) {
        pump_from = target;
        pumped = false;
    }
}

void Core::State::drop_pending(const Target& target) {
    if (pending.erase(target) > 0) {
        --pending_left[static_cast<std::size_t>(target.kind)];
    }
    to_compare.erase(target);
}

/// A resync left it equal.
void Core::State::note_copied(const Target& target) {
    if (options.note_sent && phase != Phase::equal) {
        copied.insert(target);
    }
}

/// For who watches the target.
message::Progress Core::State::progress() const {
    if (phase == Phase::equal) {
        return {};
    }
    constexpr auto zone = static_cast<std::size_t>(TargetKind::zone);
    const auto sum = [](const auto& counts) { return std::accumulate(counts.begin(), counts.end(), std::uint64_t{}); };
    return {sum(pending_total), sum(pending_left), pending_total[zone], pending_left[zone]};
}

void Core::State::job_ready(Ticket ticket) {
    const Job& job = jobs.at(ticket);
    moving.insert(job.target);
    if (!job.verify && !pending.contains(job.target)) {
        job_done(ticket); // somebody who needed it was faster
    } else if (job.compare) {
        probe(ticket);
    } else if (written_beside(job)) {
        waiting_reads.insert(ticket);
    } else {
        read_and_send(ticket);
    }
}

/// Writes of other zones change the size and times of an inode without its lock. All that were sent before its copy
/// must be in it, or the peer goes back behind them.
bool Core::State::written_beside(const Job& job) const {
    return job.owner != 0 && job.target.kind == TargetKind::inode && !mutant(Mutant::read_beside_writes) &&
           std::any_of(ops.begin(), ops.end(), [&](const auto& entry) {
               const auto& [op, other] = entry;
               const bool changes = other.op.kind == OpKind::change && (other.remote || other.local_started);
               return op != job.owner && changes && !other.local_done &&
                      std::ranges::find(other.op.targets, job.target) != other.op.targets.end();
           });
}

void Core::State::go_on_reading() {
    for (const Ticket ticket : std::set<Ticket>(waiting_reads)) {
        if (!written_beside(jobs.at(ticket))) {
            waiting_reads.erase(ticket);
            read_and_send(ticket);
        }
    }
}

/// The digest of both sides at one point of the stream: nothing can change the target meanwhile.
void Core::State::probe(Ticket ticket) {
    const Ticket read = expect([this, ticket, mine = conversation](const Done& done) {
        if (mine != conversation) {
            return;
        }
        if (done.error != 0) {
            reset_link("a target cannot be read");
            return;
        }
        ++counters.probes;
        probes[++seq] = ticket;
        send(message::Probe{seq, jobs.at(ticket).target, done.digest, progress()});
    });
    out.emplace_back(Digest{read, jobs.at(ticket).target});
}

void Core::State::read_and_send(Ticket ticket) {
    const Ticket read = expect([this, ticket, mine = conversation](const Done& done) {
        if (mine != conversation) {
            return;
        }
        if (done.error != 0) {
            reset_link("a target cannot be read");
            return;
        }
        const Job job = jobs.at(ticket);
        drop_pending(job.target);
        if (done.payload != nullptr) {
            note_copied(job.target);
            ++counters.copies;
            copies[++seq] = {job.target, job.owner, job.verify};
            verify_moving += job.verify ? 1 : 0;
            if (job.owner != 0 && ops.contains(job.owner) && ops.at(job.owner).repairing) {
                ++ops.at(job.owner).copies;
            }
            unsynced.touch(Unsynced::peer, job.target, seq);
            send(message::Copy{seq, job.target, done.payload, progress()});
        }
        job_done(ticket);
    });
    const Job& job = jobs.at(ticket);
    out.emplace_back(Read{read, job.target, job.owner != 0});
}

void Core::State::job_done(Ticket ticket) {
    const Job job = jobs.at(ticket);
    jobs.erase(ticket);
    moving.erase(job.target);
    verify_moving -= job.verify ? 1 : 0;
    if (job.owner == 0) {
        scheduled.erase(job.target);
        release_locks(ticket);
    }
    wake(job.target);
}

/// Operations that waited for this target look again.
void Core::State::wake(const Target& target) {
    std::vector<Ticket> waiters;
    const auto [begin, end] = waiting_for.equal_range(target);
    std::transform(begin, end, std::back_inserter(waiters), [](const auto& entry) { return entry.second; });
    waiting_for.erase(begin, end);
    for (const Ticket op : waiters) {
        const auto still = [&](const auto& entry) { return entry.second == op; };
        if (ops.contains(op) && std::none_of(waiting_for.begin(), waiting_for.end(), still)) {
            copy_done_for(op);
        }
    }
}

void Core::State::copy_done_for(Ticket op) {
    Running& running = ops.at(op);
    if (!running.repairing) {
        prepare(op);
    } else if (running.copies == 0 && !running.finished && !waits_for_copies(op)) {
        finish(op, running.error); // its locks go: nothing of it is still being read
    }
}

void Core::State::copy_acked(const message::Acked& ack) {
    if (const auto found = probes.find(ack.seq); found != probes.end()) {
        const Ticket ticket = found->second;
        probes.erase(found);
        Job& job = jobs.at(ticket);
        if (ack.error != 0) {
            reset_link("the peer cannot read a target");
        } else if (ack.equal) {
            verify_counts.checked += job.verify ? 1 : 0;
            drop_pending(job.target);
            note_copied(job.target);
            job_done(ticket);
        } else if (job.verify) {
            ++verify_counts.checked;
            verify_differs(job.target);
            verify_order == Command::repair ? read_and_send(ticket) : job_done(ticket);
        } else {
            read_and_send(ticket);
        }
        return;
    }
    const auto found = copies.find(ack.seq);
    if (found == copies.end()) {
        return;
    }
    const Ticket owner = found->second.owner;
    const Fid file = found->second.target.fid;
    verify_counts.repaired += found->second.verify && ack.error == 0 ? 1 : 0;
    verify_moving -= found->second.verify ? 1 : 0;
    copies.erase(found);
    if (ack.error != 0) {
        reset_link("the peer's storage failed");
        return;
    }
    add_lacking(file, ack.lacking);
    for (const Fid& fid : ack.created) { // it made them empty: all of them is to be sent
        if (!completed.insert(fid).second) {
            continue;
        }
        ++lists;
        const Ticket ticket = expect([this, mine = conversation](const Done& done) {
            if (mine == conversation) {
                --lists;
                std::for_each(done.targets.begin(), done.targets.end(), [this](const Target& t) { add_pending(t); });
            }
        });
        out.emplace_back(List{ticket, fid});
    }
    if (owner != 0 && ops.contains(owner) && ops.at(owner).copies > 0) {
        --ops.at(owner).copies;
        copy_done_for(owner);
    }
}

/// What the peer cut away or punched by itself is not named by its marks: it says what it lacks when it gets the inode.
/// What is on its way was sent behind the inode.
void Core::State::add_lacking(const Fid& file, const std::vector<Zones>& lacking) {
    std::set<std::uint64_t> sent;
    for (const auto& [at, copy] : copies) {
        if (copy.target.kind == TargetKind::zone && copy.target.fid == file) {
            sent.insert(copy.target.index);
        }
    }
    for (const Zones& zones : lacking) {
        for (std::uint64_t zone = zones.first; zone - zones.first < zones.count; ++zone) {
            const Target target{TargetKind::zone, file, zone};
            if (!sent.contains(zone) && !moving.contains(target)) {
                add_pending(target);
            }
        }
    }
}

} // namespace stead::mirror
