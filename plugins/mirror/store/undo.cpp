// SPDX-License-Identifier: Apache-2.0
#include "stored_tree.hpp"

#include <algorithm>

#include <unistd.h>

/// What a resync overwrites is saved first, and put back when it breaks off and an administrator wants the old data.
namespace stead::mirror {

std::filesystem::path StoredTree::undo_path() const { return options_.state / "undo"; }

/// The one of a resync that broke off is gone on with. One that nobody ended, and that is not gone on with, belongs
/// to a resync whose end was on record when this node crashed: what it saved may be wanted.
Errno StoredTree::start_undo(bool go_on) {
    const std::lock_guard lock(undo_mutex_);
    if (ending_) {
        end_undo();
    }
    saves_undo_ = true;
    resync_ended_ = false;
    if (undo_.active() && go_on) {
        return 0;
    }
    if (undo_.active() && !undo_.entries().empty()) {
        if (const Errno error = keep_lost(~Seq{0}); error != 0) { // up to where it went is not known any more
            say(true, "what an earlier resync overwrote cannot be kept: " + os_error({}, "", error).text());
        }
    }
    purge_later_ = 0; // what is parked from here on is part of the old data
    forget_made();
    const bool lost = go_on && !undo_.active();
    const Errno error = undo_.start(undo_path());
    if (!lost || error != 0) {
        return error;
    }
    say(true, undo_path().string() + " is missing: what the resync that broke off has overwritten is lost");
    const UndoLog::Saved of_no_inode{{TargetKind::inode, {}, 0}, Content{{}, copy::Inode{}}};
    return undo_.append({of_no_inode}); // so that what is saved from here on is never taken for the old data
}

void StoredTree::forget_made() {
    const std::lock_guard lock(made_mutex_);
    made_.clear();
}

/// Has no old content: it loses its name when the directory is put back. (Of a directory it has to be known that it was
/// not there: what was moved into it must come out.)
bool StoredTree::made_by_resync(const Target& target) {
    const std::lock_guard lock(made_mutex_);
    return target.kind != TargetKind::directory && made_.contains(target.fid);
}

Errno StoredTree::save_undo(const std::vector<Target>& targets) {
    const std::lock_guard lock(undo_mutex_);
    if (resync_ended_) {
        return 0; // a live change asked for it as the resync ended
    }
    if (!undo_.active()) {
        return EINVAL;
    }
    std::vector<UndoLog::Saved> batch;
    for (const Target& target : targets) {
        if (undo_.has(target) || made_by_resync(target)) {
            continue; // the first content counts
        }
        UndoLog::Saved saved{target, {}};
        if (const Errno error = read_content(target, true, saved.content); error != 0) {
            return error;
        }
        if (target.kind == TargetKind::inode && !saved.content) {
            continue; // that it was not there, its directory says
        }
        batch.push_back(std::move(saved));
    }
    return batch.empty() ? 0 : undo_.append(batch);
}

Errno StoredTree::save_taken(const Fid& fid, const std::function<bool(std::uint64_t zone)>& taken) {
    constexpr std::size_t batch_max = 64; // 4 MiB in memory
    const auto located = saves_undo_ ? inodes_.index.find(fid) : std::nullopt;
    if (!located || !located->is_file()) {
        return 0;
    }
    copy::Inode now;
    if (const Errno error = read_inode(*located, true, now); error != 0) {
        return error == ESTALE ? 0 : error;
    }
    std::vector<Target> batch;
    const auto save = [&]() -> Errno { return batch.empty() ? 0 : save_undo(std::exchange(batch, {})); };
    for (const copy::ZoneRange& range : now.data) {
        for (std::uint64_t zone = range.first; zone < range.first + range.count; ++zone) {
            if (taken(zone)) {
                batch.push_back({TargetKind::zone, fid, zone});
            }
            if (batch.size() == batch_max) {
                if (const Errno error = save(); error != 0) {
                    return error;
                }
            }
        }
    }
    return save();
}

/// Directories, then inodes, then zones: in the order of a resync. What did not exist before loses its name with its
/// directory. May be done again from the start after a crash: each target is overwritten as a whole.
Errno StoredTree::roll_back() {
    saves_undo_ = false; // what is overwritten now is the resync's
    const std::lock_guard lock(undo_mutex_);
    forget_made();
    if (!undo_.active() || undo_.damaged()) {
        say(true, undo_path().string() + (undo_.active() ? " is damaged" : " is missing") +
                      ": what the resync that broke off has overwritten cannot be put back. Start the other node, and "
                      "this one follows it; `stead primforce` serves what is here, half old and half new");
        return EIO;
    }
    std::vector<UndoLog::Entry> entries = undo_.entries();
    std::stable_sort(entries.begin(), entries.end(),
                     [](const UndoLog::Entry& a, const UndoLog::Entry& b) { return a.target < b.target; });
    for (const UndoLog::Entry& entry : entries) {
        Content content;
        Stored ignored;
        Errno error = entry.there ? undo_.read(entry, content) : 0;
        error = error == 0 && entry.there ? store(entry.target, content, ~Seq{0}, ignored) : error;
        if (error != 0) {
            say(true, os_error(undo_path().string(), "cannot be put back", error).text());
            return error;
        }
    }
    return written_.flush(inodes_);
}

/// The caller's lock holds up everything: only what must be true before the next change is done here.
void StoredTree::end_resync(bool keep_undo) {
    const std::lock_guard lock(undo_mutex_);
    saves_undo_ = false;
    resync_ended_ = true;
    forget_made();
    {
        const std::lock_guard names(names_);
        for (const Fid& fid : incomplete_) {
            inodes_.index.complete(fid);
        }
        still_marked_.insert(still_marked_.end(), incomplete_.begin(), incomplete_.end());
        std::vector<Fid>().swap(incomplete_);
    }
    if (undo_.active()) {
        ending_ = Ending{keep_undo, purge_later_};
    }
}

void StoredTree::end_undo() {
    const Ending ending = *std::exchange(ending_, std::nullopt);
    if (ending.keep_undo && !undo_.entries().empty()) {
        if (const Errno error = keep_lost(ending.through); error != 0) {
            say(true, os_error(options_.state.string(), "what was overwritten cannot be kept", error).text());
        }
    }
    undo_.close();
    ::unlink(undo_path().c_str());
    static_cast<void>(sync_folder(options_.state));
}

/// Of a million inodes the marks alone take ten seconds.
bool StoredTree::tidy() {
    constexpr std::size_t marks_at_once = 1000;
    {
        const std::lock_guard lock(undo_mutex_);
        if (ending_) {
            end_undo();
        }
    }
    for (std::size_t i = 0; i < marks_at_once; ++i) {
        const std::lock_guard lock(names_); // a later resync may make the same inode anew
        if (still_marked_.empty()) {
            return false;
        }
        const Fid fid = still_marked_.back();
        still_marked_.pop_back();
        const auto located = inodes_.index.find(fid);
        const Fd fd(located && !located->incomplete ? inodes_.open(*located, O_PATH) : -ESTALE);
        if (fd && sys::write_mark(fd.get(), {fid, false}) != 0) {
            say(false, "an inode stays marked as incomplete: a later resync sends it again");
        }
    }
    return true;
}

void StoredTree::unwanted(Seq through) {
    Seq before = purge_later_;
    while (before < through && !purge_later_.compare_exchange_weak(before, through)) {
    }
}

/// While the old data may be wanted, what is parked is part of them.
void StoredTree::purge(Seq through) {
    {
        const std::lock_guard lock(undo_mutex_);
        unwanted(through);
        if (undo_.active()) {
            return;
        }
        through = purge_later_.exchange(0);
    }
    if (through != 0) {
        purge_now(through);
    }
}

} // namespace stead::mirror
