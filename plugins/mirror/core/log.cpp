// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

#include <stead/base/assert.hpp>

#include <algorithm>
#include <cerrno>

/// Generations and the change log: nothing is changed alone before it is on record that it may have been.
namespace stead::mirror {

Target Core::State::extent(const Target& target) const noexcept {
    Target result = target;
    if (target.kind == TargetKind::zone) {
        result.index /= options.zones_per_extent;
    }
    return result;
}

std::vector<LogEntry> Core::State::all_entries() const {
    FlatMap<Target, std::array<bool, 2>> extents; // many zones, few extents
    for (const TargetSet* set : {&dirty, &intended}) {
        for (const Target& target : *set) {
            extents[extent(target)][0] = true;
        }
    }
    for (const auto side : {Unsynced::self, Unsynced::peer}) {
        unsynced.for_each(side, [&](const Target& target) { extents[extent(target)][1] = true; });
    }
    std::vector<LogEntry> entries;
    extents.for_each([&](const Target& target, const std::array<bool, 2>& marks) {
        if (marks[0]) {
            entries.push_back({target, Mark::dirty});
        }
        if (marks[1]) {
            entries.push_back({target, Mark::unsynced});
        }
    });
    std::sort(entries.begin(), entries.end());
    return entries;
}

/// Never the same again: what another log has left on the disk cannot be taken for this one.
std::uint64_t Core::State::fresh_log() {
    std::uint64_t id = 0;
    while (id == 0 || id == record.log) {
        id = fresh().high;
    }
    return id;
}

/// True when every extent that `op` touches is in the log of a generation of our own; else it is called again later.
bool Core::State::ensure_logged(Ticket op) {
    const Running& running = ops.at(op);
    bool missing = false;
    for (const Target& target : running.op.targets) {
        if (!logged.contains(extent(target))) {
            log_wanted.insert(extent(target));
            missing = true;
        }
    }
    if (record.base.none() || generating) {
        log_waiters.push_back(op);
        start_generation([](int) {});
        return false;
    }
    if (!missing) {
        return true;
    }
    if (mutant(Mutant::ack_before_log)) {
        pump_log();
        return true;
    }
    log_waiters.push_back(op);
    pump_log();
    return false;
}

/// As above for the intent log, which only means that a change was about to be sent.
bool Core::State::ensure_intended(Ticket op) {
    bool missing = false;
    for (const Target& target : ops.at(op).op.targets) {
        if (!logged_intents.contains(extent(target))) {
            intents_wanted.insert(extent(target));
            missing = true;
        }
    }
    if (missing) {
        log_waiters.push_back(op);
        pump_log();
    }
    return !missing;
}

/// The log first, then the record that names it: a log that no record names does not count. A node that has a base
/// already only gets a new log (the old one was not readable).
void Core::State::start_generation(std::function<void(int)> then) {
    if (generating) {
        return;
    }
    generating = true;
    const std::uint64_t id = fresh_log();
    std::vector<LogEntry> entries = all_entries();
    for (const Target& target : std::exchange(log_wanted, {})) {
        entries.push_back({target, Mark::dirty});
    }
    TargetSet covered;
    for (const LogEntry& entry : entries) {
        if (entry.mark == Mark::dirty) {
            covered.insert(entry.target);
        }
    }
    const Ticket ticket = expect([this, id, covered, then, token = ++log_token](const Done& done) {
        if (token != log_token) {
            return; // another one was started for another role; this one has no name
        }
        if (done.error != 0) {
            generating = false;
            log_failed(std::exchange(log_waiters, {}), done.error);
            then(done.error);
            return;
        }
        named(id, covered, then);
    });
    out.emplace_back(LogReset{ticket, id, std::move(entries)});
}

void Core::State::named(std::uint64_t id, TargetSet covered, std::function<void(int)> then) {
    logged = std::move(covered);
    if (record.base.none()) {
        log_memory = log_memory || !peer_incarnation.none() || intent_known;
        record.unknown = record.unknown || (!log_memory && !record.since_clean);
        record.base = record.current;
        record.push_history(record.current);
        record.current = fresh();
    }
    record.log = id;
    record.log_is_intent = false;
    record.role = Role::alone;
    record.clean = false;
    log_usable = true;
    intent_known = false;
    dirty.insert(intended.begin(), intended.end());
    intended.clear();
    const auto go_on = [this, then = std::move(then), mine = reign] {
        generating = false;
        if (mine == reign) {
            then(0);
        }
        prepare_all(std::exchange(log_waiters, {}));
    };
    if (mutant(Mutant::apply_before_record)) {
        go_on();
        persist([] {});
    } else {
        persist(go_on);
    }
}

/// What was changed behind the mount is changed here alone, by nobody. It is in the log before anything else is
/// decided, for the driver tells it once; a node that serves makes a new generation of it, a target has it overwritten.
void Core::State::record_foreign(const TargetSet& foreign) {
    note(std::to_string(foreign.size()) + " targets were changed while the module was stopped", true);
    claim = Claim::recording;
    dirty.insert(foreign.begin(), foreign.end());
    const std::uint64_t id = fresh_log();
    std::vector<LogEntry> entries = all_entries();
    TargetSet covered;
    for (const LogEntry& entry : entries) {
        if (entry.mark == Mark::dirty) {
            covered.insert(entry.target);
        }
    }
    const Ticket ticket = expect([this, id, covered = std::move(covered)](const Done& done) {
        if (done.error == 0) {
            record.log = id;
            record.log_is_intent = false;
            logged = covered;
        } else { // the record has its place on the disk: everything will be compared
            note("the change log cannot be written; everything will be compared", true);
            record.unknown = true;
            log_usable = false;
        }
        persist([this] { foreign_kept(); });
    });
    out.emplace_back(LogReset{ticket, id, std::move(entries)});
}

/// One write at a time; what comes meanwhile goes into the next.
void Core::State::pump_log() {
    if (log_busy || generating || (log_wanted.empty() && intents_wanted.empty())) {
        return;
    }
    log_busy = true;
    std::vector<LogEntry> entries;
    for (const Target& target : log_wanted) {
        entries.push_back({target, Mark::dirty});
    }
    for (const Target& target : intents_wanted) {
        entries.push_back({target, Mark::intent});
    }
    auto waiters = std::exchange(log_waiters, {});
    const Ticket ticket =
        expect([this, log = record.log, wanted = std::exchange(log_wanted, {}),
                intents = std::exchange(intents_wanted, {}), waiters = std::move(waiters)](const Done& done) {
            log_busy = false;
            if (done.error != 0) {
                log_failed(waiters, done.error);
            } else {
                if (log == record.log) {
                    logged.insert(wanted.begin(), wanted.end());
                    logged_intents.insert(intents.begin(), intents.end());
                }
                prepare_all(waiters);
            }
            pump_log();
        });
    out.emplace_back(LogAppend{ticket, std::move(entries)});
}

/// What cannot be accounted for is not done: our own storage failed, so the application hears of it.
void Core::State::log_failed(const std::vector<Ticket>& waiters, int error) {
    note("the change log cannot be written; changes are refused", true);
    for (const Ticket op : waiters) {
        const auto found = ops.find(op);
        if (found != ops.end() && !found->second.remote && !found->second.local_started) { // not gone on without it
            finish(op, error);
        }
    }
}

/// Both sides are equal: a new intent log, named by the record, with what the disks may still lack. `in_any_case`:
/// `then` also if the stream breaks meanwhile, or without such a log if it cannot be written.
void Core::State::reset_intents(std::function<void()> then, bool in_any_case) {
    const std::uint64_t id = fresh_log();
    intended.clear();
    logged_intents.clear();
    for (const auto side : {Unsynced::self, Unsynced::peer}) {
        unsynced.for_each(side, [this](const Target& target) { logged_intents.insert(extent(target)); });
    }
    std::vector<LogEntry> entries;
    for (const Target& target : logged_intents) {
        entries.push_back({target, Mark::intent});
    }
    opening_intents = true;
    const auto opened = [this, in_any_case, then = std::move(then), mine = conversation] {
        opening_intents = false;
        if (mine == conversation || in_any_case) {
            then();
        }
        prepare_everything();
    };
    const Ticket ticket = expect([this, id, in_any_case, opened, mine = conversation](const Done& done) {
        if (!in_any_case && (mine != conversation || done.error != 0)) {
            opening_intents = false;
            if (mine == conversation) {
                reset_link("the intent log cannot be written");
            }
            prepare_everything();
            return;
        }
        record.log = id;
        record.log_is_intent = done.error == 0;
        persist(opened);
    });
    out.emplace_back(LogReset{ticket, id, std::move(entries)});
}

} // namespace stead::mirror
