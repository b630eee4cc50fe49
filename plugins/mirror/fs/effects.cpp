// SPDX-License-Identifier: Apache-2.0
// What is done with each output of the core. Called under the lock; what may block becomes work.
#include "driver.hpp"

#include <boost/json/object.hpp>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace stead::mirror {
namespace {

Done completed(Ticket ticket, int error) {
    Done done;
    done.ticket = ticket;
    done.error = error;
    return done;
}

std::string text_of_counts(const VerifyCounts& counts) {
    return std::to_string(counts.checked) + " of " + std::to_string(counts.total) + " targets compared, " +
           std::to_string(counts.differing) + " differ, " + std::to_string(counts.repaired) + " repaired";
}

std::string hex_of(const Gen& gen) {
    char text[33];
    std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(gen.high),
                  static_cast<unsigned long long>(gen.low));
    return text;
}

std::size_t bytes_of(const Payload& payload) {
    const auto* zone = payload == nullptr ? nullptr : std::get_if<copy::Zone>(&payload->what);
    return zone == nullptr ? 0 : zone->data.size();
}

/// A full disk is told as such.
int error_of(const Result<void>& result, int os) { return result ? 0 : os == ENOSPC || os == EDQUOT ? os : EIO; }

} // namespace

// ---- Record and log: one after the other
// ------------------------------------------------------------------------------

void Driver::perform(Persist&& output, Work&) {
    state_pool_->post([this, output = std::move(output)] {
        const auto written = files_->persist(output.record);
        if (!written) { // the core ends this life
            const std::lock_guard lock(mutex_);
            failure_ = written.error().text();
        }
        feed(completed(output.ticket, written ? 0 : EIO));
    });
}

void Driver::perform(LogReset&& output, Work&) {
    state_pool_->post([this, output = std::move(output)] {
        const auto written = files_->reset_log(output.id, output.entries);
        if (!written) {
            note(true, written.error().text());
        }
        feed(completed(output.ticket, error_of(written, files_->log_errno())));
    });
}

void Driver::perform(LogAppend&& output, Work&) {
    state_pool_->post([this, output = std::move(output)] {
        const auto written = files_->append_log(output.entries);
        if (!written) {
            note(true, written.error().text());
        }
        feed(completed(output.ticket, error_of(written, files_->log_errno())));
    });
}

// ---- The tree
// ---------------------------------------------------------------------------------------------------------

/// By this thread, right after the lock: no hand-over in the way of a write.
void Driver::perform(Apply&& output, Work& work) {
    work.emplace_back([this, output = std::move(output)] {
        const Errno error = tree_->apply(output.operation, output.park);
        if (const auto inode = error == 0 ? tree_->expects_sync(output.operation) : std::nullopt) {
            sync_pool_->post([this, inode = *inode] { tree_->sync_early(inode); }); // the disk begins before all else
        }
        feed(completed(output.ticket, error));
    });
}

void Driver::perform(SyncInode&& output, Work& work) {
    work.emplace_back([this, output] {
        const auto told = [this, ticket = output.ticket](Errno error) { feed(completed(ticket, error)); };
        if (!tree_->join_early(output.fid, told)) {
            sync_pool_->post([this, inode = output.fid, told] { told(tree_->sync(inode)); });
        }
    });
}

void Driver::perform(Flush&& output, Work&) {
    sync_pool_->post([this, output] { feed(completed(output.ticket, tree_->flush())); });
}

/// The core only knows that it failed: what and why is for a person.
void Driver::tell_failure(const char* what, const Target& target, int error) {
    if (error != 0) {
        note(true, os_error(name_of(target), std::string("cannot be ") + what, error).text());
    }
}

/// One that an operation waits for is not behind those that wait for their turn: a source has no other use for the
/// threads that store.
void Driver::perform(Read&& output, Work&) {
    Pool& pool = output.urgent ? *store_pool_ : *reader_pool_;
    pool.post([this, output] {
        const bool zone = output.target.kind == TargetKind::zone;
        if (zone && !output.urgent) { // when those before are paid for
            const Instant at = pacer_.admit(BootClock::now(), 0);
            std::this_thread::sleep_for(at - BootClock::now());
        }
        Done done;
        done.ticket = output.ticket;
        done.error = tree_->read(output.target, done.payload);
        if (zone) { // after a crash most zones of a small file's extent are none
            static_cast<void>(pacer_.admit(BootClock::now(), bytes_of(done.payload)));
        }
        tell_failure("read", output.target, done.error);
        set_window();
        feed(done);
    });
}

void Driver::perform(Digest&& output, Work&) {
    reader_pool_->post([this, output] {
        if (output.target.kind == TargetKind::zone) {
            pacer_.compared(BootClock::now(), zone_bytes);
            set_window();
        }
        Done done;
        done.ticket = output.ticket;
        done.error = tree_->digest(output.target, done.digest);
        tell_failure("compared", output.target, done.error);
        feed(done);
    });
}

void Driver::perform(List&& output, Work&) {
    reader_pool_->post([this, output] {
        Done done;
        done.ticket = output.ticket;
        done.error = tree_->list(output.fid, done.targets);
        std::sort(done.targets.begin(), done.targets.end()); // here, and not under the lock that the application needs
        feed(done);
    });
}

void Driver::perform(Store&& output, Work&) {
    store_pool_->post([this, output = std::move(output)] {
        Done done;
        done.ticket = output.ticket;
        Tree::Stored stored;
        done.error = tree_->store(output.target, *output.payload, output.park, stored);
        done.created = std::move(stored.created);
        done.lacking = std::move(stored.lacking);
        tell_failure("stored", output.target, done.error);
        feed(done);
    });
}

// ---- Undo
// -------------------------------------------------------------------------------------------------------------

/// Many at a time become one write and one flush, between which the disk is the application's for most of the time:
/// nobody waits for what is saved, but the resync.
void Driver::perform(SaveUndo&& output, Work&) {
    undo_queue_.push_back(std::move(output));
    if (!std::exchange(undo_running_, true)) {
        undo_pool_->post([this] { save_undo_batch(); });
    }
}

void Driver::save_undo_batch() {
    constexpr int rests = 4; // as long as the last one took
    constexpr nanoseconds rests_most = milliseconds{20};
    std::this_thread::sleep_for(undo_from_ - BootClock::now());
    const Instant begun = BootClock::now();
    std::vector<SaveUndo> batch;
    {
        const std::lock_guard lock(mutex_);
        batch.swap(undo_queue_);
        undo_running_ = false;
    }
    std::vector<Target> targets;
    for (const SaveUndo& one : batch) {
        targets.insert(targets.end(), one.targets.begin(), one.targets.end());
    }
    const Errno error = tree_->save_undo(targets);
    const Instant ended = BootClock::now();
    undo_from_ = ended + std::min(rests * (ended - begun), rests_most);
    for (const SaveUndo& one : batch) {
        feed(completed(one.ticket, error));
    }
}

void Driver::perform(StartUndo&& output, Work&) { // before any SaveUndo that follows
    if (const Errno error = tree_->start_undo(output.go_on); error != 0) {
        note(true, os_error("undo log", "cannot be begun", error).text());
    }
}

void Driver::perform(RollBack&& output, Work&) {
    undo_pool_->post([this, output] { feed(completed(output.ticket, tree_->roll_back())); });
}

void Driver::perform(Purge&& output, Work&) {
    tree_->unwanted(output.through); // now: an EndResync that follows must know
    undo_pool_->post([this] { tree_->purge(0); });
}

void Driver::perform(EndResync&& output, Work&) {
    tree_->end_resync(output.keep_undo); // before any later Store
    tidy();
    undo_pool_->post([this] { tree_->purge(0); });
}

/// Piece by piece, for others want that thread.
void Driver::tidy() {
    undo_pool_->post([this] {
        if (tree_->tidy()) {
            tidy();
        }
    });
}

// ---- The peer, the application, the host
// ------------------------------------------------------------------------------

void Driver::perform(Send&& output, Work&) {
    if (link_) {
        watch(output.message.body, true);
        link_->send(generation_, output.message);
    }
}

void Driver::perform(BusSend&& output, Work&) { say({{"say", "bus"}, {"bytes", to_hex(encode(output.message))}}); }

void Driver::perform(CloseLink&&, Work&) {
    if (link_ && generation_ != 0) {
        link_->close(std::exchange(generation_, 0));
    }
}

void Driver::perform(Answer&& output, Work& work) {
    const auto found = pending_.find(output.id);
    if (found == pending_.end()) {
        return;
    }
    ++replying_;
    work.emplace_back([this, answer = std::move(found->second), error = output.error] { reply(answer, error); });
    pending_.erase(found);
}

/// A node that serves no more lets nobody wait: its file systems end at once, on this thread.
void Driver::perform(RoleChanged&& output, Work& work) {
    role_ = output.role;
    mirrored_.store(role_ == Role::prim, std::memory_order_relaxed);
    role_reason_ = output.reason;
    role_changed_ = true;
    tree_->forget_times();
    static constexpr const char* names[] = {"none", "waiting", "second", "prim", "alone"};
    say({{"say", "role"},
         {"role", names[static_cast<std::size_t>(output.role)]},
         {"epoch", output.epoch},
         {"reason", output.reason}});
    if (!serves()) {
        tree_->forget_failures();
        pending_.clear();
        withheld_.clear();
        work.emplace_back([this] {
            const std::lock_guard lock(fronts_mutex_);
            for (const auto& front : fronts_) {
                front->abort();
            }
        });
    } else {
        release_withheld(work);
    }
    if (role_ == Role::prim || role_ == Role::second) { // the next log is for when they lose each other
        sync_pool_->post([this] { files_->prepare_log(); });
    }
    wake();
}

void Driver::perform(AskWitness&& output, Work&) {
    say({{"say", "ask_witness"},
         {"ticket", output.ticket},
         {"counter", counter(output.epoch)},
         {"holder", holder(output.epoch)},
         {"mirror", core_->record().mirror == roles_only ? std::string{} : hex_of(core_->record().mirror)}});
}

void Driver::perform(ProbeVip&& output, Work&) { say({{"say", "probe_vip"}, {"ticket", output.ticket}}); }

void Driver::perform(Stopped&&, Work&) {
    stopped_ = true;
    wake();
}

void Driver::perform(Note&& output, Work&) { note(output.alarm, output.text); }

void Driver::perform(CommandDone&& output, Work&) {
    auto& waiting = commands_[output.command];
    if (!waiting.empty()) {
        const std::int64_t id = waiting.front();
        waiting.pop_front();
        const bool compared = compares(output.command);
        const bool differ = compared && output.counts.differing > output.counts.repaired;
        const std::string reason = output.ok && differ ? std::string{copies_differ} : output.reason;
        done(id, output.ok && !differ, compared ? reason + ": " + text_of_counts(output.counts) : reason);
    }
    status_due_.store(true); // who asks for the outcome next shall see it
    wake();
}

void Driver::perform(ForeignKept&&, Work&) {
    undo_pool_->post([this] {
        if (const Errno error = tree_->foreign_accounted(); error != 0) {
            note(true, os_error("manifest", "cannot be removed", error).text());
        }
    });
}

} // namespace stead::mirror
