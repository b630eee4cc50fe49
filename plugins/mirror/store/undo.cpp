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
    saves_undo_ = true;
    resync_ended_ = false;
    if (undo_.active() && go_on) {
        return 0;
    }
    if (undo_.active() && !undo_.entries().empty()) {
        if (const Errno error = keep_lost(); error != 0) {
            say(true, "what an earlier resync overwrote cannot be kept: " + os_error({}, "", error).text());
        }
    }
    return undo_.start(undo_path());
}

Errno StoredTree::save_undo(const std::vector<Target>& targets) {
    const std::lock_guard lock(undo_mutex_);
    if (!undo_.active()) {
        return resync_ended_ ? 0 : EINVAL; // a live change asked for it as the resync ended
    }
    std::vector<UndoLog::Saved> batch;
    for (const Target& target : targets) {
        if (undo_.has(target)) {
            continue; // the first content counts
        }
        UndoLog::Saved saved{target, {}};
        if (const Errno error = read_content(target, true, saved.content); error != 0) {
            return error;
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
    if (!undo_.active()) {
        return 0;
    }
    if (undo_.damaged()) {
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
            return error;
        }
    }
    return written_.flush(inodes_);
}

void StoredTree::end_resync(bool keep_undo) {
    const std::lock_guard lock(undo_mutex_);
    saves_undo_ = false;
    resync_ended_ = true;
    std::vector<Fid> complete;
    {
        const std::lock_guard names(names_);
        complete.swap(incomplete_);
    }
    for (const Fid& fid : complete) {
        if (const Fd fd(inodes_.open(fid, O_PATH)); fd && sys::write_mark(fd.get(), {fid, false}) != 0) {
            say(false, "an inode stays marked as incomplete: the next resync sends it again");
            continue;
        }
        inodes_.index.complete(fid);
    }
    if (undo_.active()) {
        if (keep_undo && !undo_.entries().empty()) {
            if (const Errno error = keep_lost(); error != 0) {
                say(true, os_error(options_.state.string(), "what was overwritten cannot be kept", error).text());
            }
        }
        undo_.close();
        ::unlink(undo_path().c_str());
        static_cast<void>(sync_folder(options_.state));
    }
}

void StoredTree::unwanted(Seq through) {
    const std::lock_guard lock(undo_mutex_);
    purge_later_ = std::max(purge_later_, through);
}

/// While the old data may be wanted, what is parked is part of them.
void StoredTree::purge(Seq through) {
    {
        const std::lock_guard lock(undo_mutex_);
        purge_later_ = std::max(purge_later_, through);
        if (undo_.active()) {
            return;
        }
        through = std::exchange(purge_later_, 0);
    }
    if (through != 0) {
        purge_now(through);
    }
}

} // namespace stead::mirror
