// SPDX-License-Identifier: Apache-2.0
#include "written.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

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
    const std::lock_guard lock(mutex_);
    What& noted = changed_.try_emplace(fid, what).first->second;
    noted = std::max(noted, what);
}

void Written::rewritten(const Fid& fid) {
    const std::lock_guard lock(mutex_);
    failed_.erase(fid);
}

void Written::gone(const Fid& fid) {
    const std::lock_guard lock(mutex_);
    failed_.erase(fid);
    changed_.erase(fid);
}

void Written::failed(const Fid& fid, What what) {
    add(fid, what);
    const std::lock_guard lock(mutex_);
    failed_.insert(fid);
}

Errno Written::sync_one(const Inodes& inodes, const Fid& fid, What what) {
    const auto located = inodes.index.find(fid);
    if (!located) {
        return 0; // removed since
    }
    int error = 0;
    if (!located->is_directory() && !located->is_file()) {
        error = sys::result(::syncfs(inodes.roots[located->root]->place.hidden()));
    } else if (const InodeRef inode = located->is_file() ? inodes.file(fid, error) : inodes.directory(fid, error)) {
        const bool data_only = what == What::data && located->is_file();
        error = sys::result(data_only ? ::fdatasync(inode->fd()) : ::fsync(inode->fd()));
    } else if (error == ESTALE) {
        return 0;
    }
    if (error != 0) {
        failed(fid, what);
    }
    return error;
}

/// After a failed sync the kernel calls the lost pages clean: the next one would succeed and mean nothing.
Errno Written::sync(const Inodes& inodes, const Fid& fid) {
    What what = What::data;
    {
        const std::lock_guard lock(mutex_);
        if (failed_.contains(fid)) {
            return EIO;
        }
        if (const auto found = changed_.find(fid); found != changed_.end()) {
            what = found->second;
            changed_.erase(found);
        }
    }
    return sync_one(inodes, fid, what);
}

Errno Written::sync_file_systems(const Inodes& inodes, const Changed& changed) {
    Errno first = 0;
    for (const auto& root : inodes.roots) {
        if (const int error = sys::result(::syncfs(root->place.hidden())); error != 0) {
            first = first == 0 ? error : first;
        }
    }
    for (auto at = changed.begin(); first != 0 && at != changed.end(); ++at) {
        failed(at->first, at->second); // nobody knows whose it was
    }
    return first;
}

Errno Written::sync_each(const Inodes& inodes, const Changed& changed) {
    std::vector<std::pair<Fid, What>> list(changed.begin(), changed.end());
    std::atomic<std::size_t> next{0};
    std::atomic<int> first{0};
    const auto work = [&] {
        for (std::size_t i = next++; i < list.size(); i = next++) {
            if (const int error = sync_one(inodes, list[i].first, list[i].second); error != 0) {
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
    Changed changed;
    bool doubtful = false;
    {
        const std::lock_guard lock(mutex_);
        changed.swap(changed_);
        doubtful = !failed_.empty();
    }
    const bool whole =
        changed.size() > one_by_one_max ||
        std::any_of(changed.begin(), changed.end(), [](const auto& entry) { return entry.second == What::elsewhere; });
    const Errno error = whole ? sync_file_systems(inodes, changed) : sync_each(inodes, changed);
    return error == 0 && doubtful ? EIO : error;
}

} // namespace stead::mirror
