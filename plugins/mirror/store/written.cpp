// SPDX-License-Identifier: Apache-2.0
#include "written.hpp"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include <unistd.h>

namespace stead::mirror {

namespace {

constexpr std::size_t one_by_one_max = 1000; ///< above, the whole file system is synced
constexpr std::size_t threads_max = 8;

} // namespace

thread_local Written::Change* Written::change_ = nullptr;

Written::Change::Change(Written& written) noexcept : written_(written), outer_(std::exchange(change_, this)) {}

Written::Change::~Change() {
    change_ = outer_;
    for (const auto& [fid, what] : noted_) {
        written_.add(fid, what);
    }
}

void Written::note(const Fid& fid, What what) {
    add(fid, what);
    if (change_ != nullptr) {
        change_->noted_.emplace_back(fid, what);
    }
}

void Written::add(const Fid& fid, What what) {
    early_.changed(fid);
    const std::lock_guard lock(mutex_);
    What& noted = changed_.try_emplace(fid, what).first->second;
    noted = std::max(noted, what);
}

void Written::gone(const Fid& fid) {
    early_.removed(fid);
    const std::lock_guard lock(mutex_);
    hopeless_.erase(fid);
    changed_.erase(fid);
}

/// Of a directory nothing is lost: what the journal cannot write makes the file system read-only.
bool Written::let_go(const Inodes& inodes, const Fid& fid) {
    const auto located = inodes.index.find(fid);
    int error = 0;
    if (located && located->is_file()) {
        const InodeRef file = inodes.file(fid, error);
        error = file != nullptr ? sys::drop_cache(file->fd()) : error;
    }
    return error == 0 || error == ESTALE;
}

/// The file systems would tell of a failure once more to whoever syncs all of them. What they tell here may be of other
/// files, too: the next flush asks each one by itself.
void Written::hear_out(const Inodes& inodes) {
    bool told = false;
    for (const auto& root : inodes.roots) {
        told = ::syncfs(root->place.hidden()) != 0 || told;
    }
    const std::lock_guard lock(mutex_);
    swallowed_ = swallowed_ || told;
}

void Written::failed(const Inodes& inodes, const Fid& fid, What what) {
    add(fid, what);
    {
        const std::lock_guard lock(mutex_);
        ++failures_; // before anything is read away that a flush under way counts on
    }
    const bool hopeless = !let_go(inodes, fid);
    const std::lock_guard lock(mutex_);
    if (hopeless) {
        hopeless_.insert(fid);
    } else {
        hopeless_.erase(fid);
    }
}

void Written::try_hopeless(const Inodes& inodes) {
    std::unordered_set<Fid, FidHash> left;
    {
        const std::lock_guard lock(mutex_);
        left = hopeless_;
    }
    for (const Fid& fid : left) {
        if (let_go(inodes, fid)) {
            const std::lock_guard lock(mutex_);
            hopeless_.erase(fid);
        }
    }
}

Errno Written::sync_one(const Inodes& inodes, const Fid& fid, What what, bool data_only) {
    const auto located = inodes.index.find(fid);
    if (!located) {
        return 0; // removed since
    }
    int error = 0;
    if (!located->is_directory() && !located->is_file()) {
        error = sys::result(::syncfs(inodes.roots[located->root]->place.hidden()));
    } else if (const InodeRef inode = located->is_file() ? inodes.file(fid, error) : inodes.directory(fid, error)) {
        error = sys::result(data_only && located->is_file() ? ::fdatasync(inode->fd()) : ::fsync(inode->fd()));
    } else if (error == ESTALE) {
        return 0;
    }
    if (error != 0) {
        failed(inodes, fid, what);
        hear_out(inodes);
    }
    return error;
}

/// What has to be synced of it: as much as was noted, and as much as another one is just syncing, for that is not on
/// disk yet. Times alone stay noted: fdatasync leaves them for the next flush.
Written::What Written::begin(const Fid& fid, std::uint64_t& id, bool& shared) {
    What what = What::data;
    shared = flushing_.contains(fid);
    if (const auto found = changed_.find(fid); found != changed_.end() && found->second != What::data) {
        what = found->second;
        changed_.erase(found);
    }
    if (const auto found = flushing_.find(fid); found != flushing_.end()) {
        what = std::max(what, found->second);
    }
    for (const Syncing& other : syncing_) {
        what = other.fid == fid ? std::max(what, other.what) : what;
        shared = shared || other.fid == fid;
    }
    id = ++last_sync_;
    syncing_.push_back({id, fid, what});
    return what;
}

void Written::end(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    std::erase_if(syncing_, [id](const Syncing& one) { return one.id == id; });
    synced_.notify_all();
}

/// All that have begun until now.
void Written::wait_for_syncs() {
    std::unique_lock lock(mutex_);
    const std::uint64_t through = last_sync_;
    synced_.wait(lock, [&] {
        return std::none_of(syncing_.begin(), syncing_.end(), [&](const Syncing& one) { return one.id <= through; });
    });
}

Errno Written::sync(const Inodes& inodes, const Fid& fid) {
    if (early_.take_failure(fid)) {
        return EIO;
    }
    What what = What::data;
    std::uint64_t id = 0, failures = 0;
    bool shared = false;
    {
        const std::lock_guard lock(mutex_);
        if (hopeless_.contains(fid)) {
            return EIO;
        }
        failures = failures_;
        what = begin(fid, id, shared);
    }
    Errno error = sync_one(inodes, fid, what, what == What::data);
    if (error != 0) {
        early_.failing(fid);
    }
    end(id);
    if (error == 0 && shared) { // the kernel tells each failure once, maybe to the other one
        const std::lock_guard lock(mutex_);
        error = failures != failures_ ? EIO : 0;
    }
    return error;
}

Errno Written::sync_file_systems(const Inodes& inodes, const Changed& changed) {
    Errno first = 0;
    for (const auto& root : inodes.roots) {
        if (const int error = sys::result(::syncfs(root->place.hidden())); error != 0) {
            first = first == 0 ? error : first;
        }
    }
    for (auto at = changed.begin(); first != 0 && at != changed.end(); ++at) {
        failed(inodes, at->first, at->second); // nobody knows whose it was
    }
    if (first != 0) {
        hear_out(inodes);
    }
    return first;
}

Errno Written::sync_each(const Inodes& inodes, const Changed& changed) {
    std::vector<std::pair<Fid, What>> list(changed.begin(), changed.end());
    std::atomic<std::size_t> next{0};
    std::atomic<int> first{0};
    const auto work = [&] {
        for (std::size_t i = next++; i < list.size(); i = next++) {
            if (const int error = sync_one(inodes, list[i].first, list[i].second, false); error != 0) {
                early_.failed(list[i].first); // the kernel told us, and will not tell the application's fsync
                int none = 0;
                first.compare_exchange_strong(none, error);
            }
        }
    };
    std::vector<std::thread> others; // they wait for the disk: one group commit takes all of them
    for (std::size_t i = 1; i < std::min(threads_max, list.size() / 4); ++i) {
        others.emplace_back(work);
    }
    work();
    for (std::thread& other : others) {
        other.join();
    }
    return first;
}

Errno Written::flush(const Inodes& inodes) {
    const std::lock_guard one_at_a_time(flush_);
    try_hopeless(inodes);
    std::uint64_t failures = 0;
    bool swallowed = false;
    {
        const std::lock_guard lock(mutex_);
        failures = failures_;
        swallowed = std::exchange(swallowed_, false);
        flushing_.swap(changed_);
    }
    const bool whole = !swallowed && (flushing_.size() > one_by_one_max ||
                                      std::any_of(flushing_.begin(), flushing_.end(),
                                                  [](const auto& entry) { return entry.second == What::elsewhere; }));
    const Errno error = whole ? sync_file_systems(inodes, flushing_) : sync_each(inodes, flushing_);
    wait_for_syncs(); // what they had taken is not on disk before, and a failure may have been told to one of them
    const std::lock_guard lock(mutex_);
    Changed().swap(flushing_);
    const bool untold = early_.take_failures();
    return error == 0 && (untold || failures != failures_ || (whole && swallowed_) || !hopeless_.empty()) ? EIO : error;
}

} // namespace stead::mirror
