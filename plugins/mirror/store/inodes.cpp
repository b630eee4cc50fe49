// SPDX-License-Identifier: Apache-2.0
#include "inodes.hpp"

#include <algorithm>
#include <climits>
#include <cstring>

#include <unistd.h>

namespace stead::mirror {

int OpenInode::written(const Time& at) {
    constexpr std::int64_t late_max = 60;
    const std::lock_guard lock(times_);
    last_ = last_.seconds - at.seconds > late_max ? at : std::max(last_, at);
    return sys::set_times(fd_.get(), std::nullopt, last_);
}

void OpenInode::forget_time() {
    const std::lock_guard lock(times_);
    last_ = {};
}

int OpenInode::set_mtime(const std::optional<Time>& atime, const std::optional<Time>& mtime) {
    const std::lock_guard lock(times_);
    last_ = {};
    return sys::set_times(fd_.get(), atime, mtime);
}

/// A write beside this one sets its own time afterwards: it waits for us.
int OpenInode::preserving_mtime(const std::function<int(int fd)>& change) {
    const std::lock_guard lock(times_);
    struct stat before {};
    if (const int error = sys::attributes(fd_.get(), before); error != 0) {
        return error;
    }
    const int error = change(fd_.get());
    const int times = sys::set_times(fd_.get(), std::nullopt, sys::to_time(before.st_mtim));
    return error != 0 ? error : times;
}

Inodes::Inodes(std::size_t open_max) : open_max_(open_max) {}

int Inodes::open(const Located& located, int flags) const {
    // Never the device behind a node: that would write to a disk, or wait for a fifo's other end.
    if ((flags & O_PATH) == 0 && !located.is_directory() && !located.is_file()) {
        return -ENXIO;
    }
    return sys::open_handle(roots[located.root]->place.hidden(), located.handle, flags);
}

int Inodes::open(const Fid& fid, int flags) const {
    const auto located = index.find(fid);
    return located ? open(*located, flags) : -ESTALE;
}

InodeRef Inodes::cached(const Fid& fid) const {
    const std::lock_guard lock(mutex_);
    const auto found = open_.find(fid);
    if (found == open_.end()) {
        return nullptr;
    }
    recent_.splice(recent_.begin(), recent_, found->second);
    return found->second->inode;
}

/// Somebody else may have been faster: there is one of each, for it carries the time.
InodeRef Inodes::keep_shared(const Fid& fid, Fd fd) const {
    auto inode = std::make_shared<OpenInode>(std::move(fd));
    InodeRef evicted; // closed after the lock
    const std::lock_guard lock(mutex_);
    if (const auto found = open_.find(fid); found != open_.end()) {
        return found->second->inode;
    }
    recent_.push_front({fid, inode});
    open_.emplace(fid, recent_.begin());
    if (recent_.size() > open_max_) {
        evicted = std::move(recent_.back().inode);
        open_.erase(recent_.back().fid);
        recent_.pop_back();
    }
    return inode;
}

void Inodes::keep(const Fid& fid, Fd fd) const { static_cast<void>(keep_shared(fid, std::move(fd))); }

InodeRef Inodes::get(const Fid& fid, std::uint32_t type, int flags, int& error) const {
    error = 0;
    const auto located = index.find(fid);
    if (!located) {
        error = ESTALE;
        return nullptr;
    }
    if (located->type() != type) {
        error = type == S_IFDIR ? ENOTDIR : located->is_directory() ? EISDIR : EINVAL;
        return nullptr;
    }
    if (InodeRef inode = cached(fid)) {
        return inode;
    }
    const int fd = open(*located, flags);
    if (fd < 0) {
        error = -fd;
        return nullptr;
    }
    return keep_shared(fid, Fd(fd));
}

InodeRef Inodes::directory(const Fid& fid, int& error) const {
    return get(fid, S_IFDIR, O_RDONLY | O_DIRECTORY, error);
}

InodeRef Inodes::file(const Fid& fid, int& error) const { return get(fid, S_IFREG, O_RDWR, error); }

void Inodes::forget(const Fid& fid) const {
    InodeRef inode; // closed after the lock
    const std::lock_guard lock(mutex_);
    if (const auto found = open_.find(fid); found != open_.end()) {
        inode = std::move(found->second->inode);
        recent_.erase(found->second);
        open_.erase(found);
    }
}

void Inodes::forget_all() const {
    const std::lock_guard lock(mutex_);
    open_.clear();
    recent_.clear();
}

void Inodes::forget_times() const {
    const std::lock_guard lock(mutex_);
    for (const Cached& one : recent_) {
        one.inode->forget_time();
    }
}

/// Looked at again from time to time: what nobody has open is gone by then, and its handle says so.
void Inodes::unlinked(const Fid& fid) {
    forget(fid);
    const std::lock_guard lock(ghosts_mutex_);
    ghosts_.push_back(fid);
    if (ghosts_.size() < sweep_at_) {
        return;
    }
    std::erase_if(ghosts_, [&](const Fid& ghost) {
        const Fd fd(open(ghost, O_PATH));
        struct stat found {};
        if (fd && sys::attributes(fd.get(), found) == 0 && found.st_nlink > 0) {
            return true; // it got a name again
        }
        if (!fd) {
            index.erase(ghost);
        }
        return !fd;
    });
    sweep_at_ = std::max<std::size_t>(1024, ghosts_.size() * 2);
}

/// Name of a directory in its parent: found by its inode number, for it has exactly one.
int Inodes::parent_of(int directory, Fd& parent, std::string& name) const {
    struct stat self {};
    if (const int error = sys::attributes(directory, self); error != 0) {
        return error;
    }
    parent = Fd(::openat(directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent) {
        return errno;
    }
    const int found = sys::each_entry(parent.get(), [&](const char* entry, unsigned char) {
        struct stat other {};
        if (sys::attributes(parent.get(), entry, other) != 0 || other.st_ino != self.st_ino ||
            other.st_dev != self.st_dev) {
            return 0;
        }
        name = entry;
        return EEXIST;
    });
    return found == EEXIST ? 0 : found == 0 ? ENOENT : found;
}

int Inodes::climb(const OpenRoot& root, int directory, std::string& out) const {
    struct stat top {
    }, top_of_park{}, here{};
    Fd current(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int error = current ? sys::attributes(root.place.data(), top) : errno;
    error = error == 0 ? sys::attributes(root.place.hidden(), top_of_park) : error;
    out.clear();
    while (error == 0 && (error = sys::attributes(current.get(), here)) == 0 && here.st_ino != top.st_ino) {
        if (here.st_ino == top_of_park.st_ino) {
            return ENOENT;
        }
        Fd parent;
        std::string name;
        if ((error = parent_of(current.get(), parent, name)) == 0) {
            out = out.empty() ? name : name.append("/").append(out);
            current = std::move(parent);
        }
    }
    return error;
}

int Inodes::path_of(const Located& directory, std::string& out) const {
    const OpenRoot& root = *roots[directory.root];
    int error = 0;
    const InodeRef ref = this->directory(directory.fid, error);
    if (ref == nullptr) {
        return error;
    }
    std::string top(PATH_MAX, '\0'), here(PATH_MAX, '\0');
    const ssize_t top_size = ::readlink(sys::proc_path(root.place.data()).c_str(), top.data(), top.size());
    const ssize_t here_size = ::readlink(sys::proc_path(ref->fd()).c_str(), here.data(), here.size());
    if (top_size <= 0 || here_size <= 0 || here_size == PATH_MAX) {
        return climb(root, ref->fd(), out); // deeper than a path may be
    }
    top.resize(static_cast<std::size_t>(top_size));
    here.resize(static_cast<std::size_t>(here_size));
    if (here == top) {
        out.clear();
        return 0;
    }
    if (!here.starts_with(top + "/")) {
        return ENOENT;
    }
    out = here.substr(top.size() + 1);
    return 0;
}

bool Inodes::excluded(const Located& parent, const std::string& name) const {
    if (parent.excluded) {
        return true;
    }
    const OpenRoot& root = *roots[parent.root];
    std::string path;
    if (root.exclusions.none() || path_of(parent, path) != 0) {
        return false;
    }
    return root.exclusions.match(path.empty() ? name : path + "/" + name);
}

} // namespace stead::mirror
