// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

/// The receiving side: in order per FID, the rest in parallel.
namespace stead::mirror {

void Core::State::queue(Seq at, Incoming what, const std::vector<Target>& targets, bool follows) {
    seq = std::max(seq, at);
    what.conversation = conversation;
    incoming.emplace(at, std::move(what));
    if (replica_locks.request(at, targets, follows)) {
        run(at);
    }
}

void Core::State::on(const message::Change& change) {
    if (phase != Phase::receiving && phase != Phase::equal) {
        return;
    }
    if (change.operation.kind == OpKind::change) {
        for (const Target& target : change.operation.targets) {
            unsynced.touch_both(target, change.seq);
        }
    }
    if (change.wanted == Level::received || overlaps(change.operation)) {
        send(message::Acked{change.seq, Level::received, 0, false, {}});
    }
    queue(change.seq, {change, 0}, lock_targets(change.operation), change.operation.kind == OpKind::sync);
}

void Core::State::on(const message::Copy& copy) {
    if (phase == Phase::receiving || phase == Phase::equal) {
        unsynced.touch(Unsynced::self, copy.target, copy.seq);
        ++received_copies;
        queue(copy.seq, {copy, 0}, {copy.target});
    }
}

void Core::State::on(const message::Probe& probe) {
    if (phase == Phase::receiving || phase == Phase::equal) {
        queue(probe.seq, {probe, 0}, {probe.target});
    }
}

void Core::State::acknowledge(const Incoming& what, message::Acked ack) {
    if (link_up && what.conversation == conversation) {
        send(std::move(ack));
    }
}

/// Has its locks. During a resync the old content is saved first, durably.
void Core::State::run(Seq at) {
    const Incoming& what = incoming.at(at);
    if (undo_failed) { // nothing more is overwritten: what was there before could not come back
        performed(at, {at, Level::received, EIO, false, {}});
        return;
    }
    std::vector<Target> unsaved;
    const auto want = [&](const Target& target) { // one of an operation beside this one may not be durable yet
        if (undoing && (saved.insert(target).second || saving.contains(target))) {
            unsaved.push_back(target);
        }
    };
    if (const auto* change = std::get_if<message::Change>(&what.what)) {
        if (change->operation.kind == OpKind::change) {
            std::for_each(change->operation.targets.begin(), change->operation.targets.end(), want);
        }
    } else if (const auto* copy = std::get_if<message::Copy>(&what.what)) {
        want(copy->target);
    }
    if (unsaved.empty()) {
        perform(at);
        return;
    }
    const bool wait = !mutant(Mutant::overwrite_before_undo);
    saving.insert(unsaved.begin(), unsaved.end());
    const Ticket ticket = expect([this, at, wait, unsaved](const Done& done) {
        std::for_each(unsaved.begin(), unsaved.end(), [this](const Target& target) { saving.erase(target); });
        if (done.error != 0) {
            undo_failed = wait;
            own_failure("the undo log cannot be written", done.error);
            if (wait && incoming.contains(at)) {
                performed(at, {at, Level::received, done.error, false, {}});
            }
        } else if (wait && incoming.contains(at)) {
            perform(at);
        }
    });
    out.emplace_back(SaveUndo{ticket, std::move(unsaved)});
    if (!wait) {
        perform(at);
    }
}

void Core::State::perform(Seq at) {
    const Incoming what = incoming.at(at);
    if (const auto* wanted = std::get_if<message::Change>(&what.what)) {
        change(at, *wanted);
    } else if (const auto* copy = std::get_if<message::Copy>(&what.what)) {
        store(at, *copy);
    } else {
        const auto& asked = std::get<message::Probe>(what.what);
        const Ticket ticket = expect([this, at, digest = asked.digest](const Done& done) {
            performed(at, {at, Level::applied, done.error, done.digest == digest, {}});
        });
        out.emplace_back(Digest{ticket, asked.target});
    }
}

void Core::State::change(Seq at, const message::Change& wanted) {
    const auto flush = [this, at](const Operation& operation) {
        sync_inodes(operation, failed_syncs_of(operation), [this, at](int error) {
            performed(at, {at, Level::flushed, error, false, {}});
        });
    };
    if (wanted.operation.kind == OpKind::sync) {
        flush(wanted.operation);
        return;
    }
    const bool flushed = wanted.wanted == Level::flushed;
    const Ticket ticket =
        expect([this, at, flush, flushed, operation = flushed ? wanted.operation : Operation{}](const Done& done) {
            if (done.error != 0) {
                own_failure("a change cannot be applied", done.error);
            } else if (flushed) {
                flush(operation);
                return;
            }
            performed(at, {at, Level::applied, done.error, false, {}});
        });
    out.emplace_back(Apply{ticket, wanted.operation, at});
}

void Core::State::store(Seq at, const message::Copy& copy) {
    const Ticket ticket = expect([this, at](const Done& done) {
        if (done.error != 0) {
            own_failure("a copy cannot be stored", done.error);
        }
        performed(at, {at, Level::applied, done.error, false, done.created, done.lacking});
    });
    out.emplace_back(Store{ticket, copy.target, copy.payload, at});
}

void Core::State::performed(Seq at, message::Acked ack) {
    const auto found = incoming.find(at);
    if (found == incoming.end()) {
        return;
    }
    const Incoming what = found->second;
    incoming.erase(found);
    end_waits.erase(at);
    acknowledge(what, std::move(ack));
    for (const Ticket next : replica_locks.release(at)) {
        if (incoming.contains(next)) {
            run(next);
        }
    }
}

/// Something that was promised to the primary is not here: this node must not take over, and the primary sees the
/// stream end.
void Core::State::own_failure(const std::string& what, int error) {
    const bool follows = phase == Phase::receiving || phase == Phase::equal;
    storage_failure = what + ": " + std::strerror(error);
    sync_failed = sync_failed || !mutant(Mutant::failed_change_counts); // whatever becomes of the primary
    if (follows || !record.outdated) { // the rest of what was under way fails as well
        note(storage_failure + "; this node is out of sync", true);
    }
    if (role == Role::second && !record.outdated) {
        record.outdated = true;
        persist([] {});
    }
    if (follows) {
        reset_link(what);
    }
}

} // namespace stead::mirror
