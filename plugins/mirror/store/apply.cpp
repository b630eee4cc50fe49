// SPDX-License-Identifier: Apache-2.0
#include "stored_tree.hpp"

#include <algorithm>
#include <limits>

#include <sys/xattr.h>
#include <unistd.h>

/// Changes of an inode's bytes and attributes.
namespace stead::mirror {

namespace {

constexpr const char* capability_xattr = "security.capability";

/// What a write by an ordinary user takes away.
Errno kill_privileges(int fd) {
    struct stat now {};
    if (const int error = sys::attributes(fd, now); error != 0) {
        return error;
    }
    std::uint32_t mode = now.st_mode & ~static_cast<std::uint32_t>(S_ISUID);
    if ((now.st_mode & S_IXGRP) != 0) { // without it, it means mandatory locking
        mode &= ~static_cast<std::uint32_t>(S_ISGID);
    }
    if (mode != now.st_mode) {
        if (const int error = sys::change_mode(fd, mode); error != 0) {
            return error;
        }
    }
    if (::removexattr(sys::proc_path(fd).c_str(), capability_xattr) != 0 && errno != ENODATA && errno != EOPNOTSUPP) {
        return errno;
    }
    return 0;
}

bool xattr_is_ours(const std::string& name) { return std::string_view(name).starts_with(sys::own_xattrs); }

} // namespace

void StoredTree::note(const Located& located) {
    written_.note(located.fid,
                  located.is_directory() || located.is_file() ? Written::What::all : Written::What::elsewhere);
}

/// What is excluded is not replicated: an operation that touches it comes from a node that is configured differently.
Errno StoredTree::apply(const Operation& operation, Seq park) {
    if (operation.payload == nullptr) {
        return EINVAL;
    }
    const bool stranger = std::any_of(operation.targets.begin(), operation.targets.end(),
                                      [&](const Target& target) { return excluded(target.fid); });
    return stranger ? EPERM : perform(*operation.payload, {operation.payload->at, park, true});
}

std::optional<Fid> StoredTree::expects_sync(const Operation& applied) {
    const auto* write = std::get_if<change::Write>(&applied.payload->what);
    return write != nullptr && written_.early().expected(write->file) ? std::optional{write->file} : std::nullopt;
}

Errno StoredTree::apply_here(const Content& content) { return perform(content, {content.at, 0, false}); }

Errno StoredTree::perform(const Content& content, const Manner& manner) {
    const Written::Change noting(written_);
    return std::visit(
        [&](const auto& change) -> Errno {
            if constexpr (requires { perform(change, manner); }) {
                return perform(change, manner);
            } else {
                return EINVAL; // content of a target is stored, not applied
            }
        },
        content.what);
}

Errno StoredTree::perform(const change::Write& change, const Manner& manner) {
    int error = 0;
    const InodeRef file = inodes_.file(change.file, error);
    if (file == nullptr) {
        return error;
    }
    written_.note(change.file, change.kill_privileges ? Written::What::all : Written::What::data);
    error = sys::write_all(file->fd(), change.data, change.offset);
    if (error == 0 && change.kill_privileges) {
        error = kill_privileges(file->fd());
    }
    const int times = file->written(manner.at);
    return error != 0 ? error : times;
}

Errno StoredTree::resize(const change::Attributes& change, const Manner& manner) {
    int error = 0;
    const InodeRef file = inodes_.file(change.inode, error);
    if (file == nullptr) {
        return error;
    }
    if (change.size > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) {
        return EFBIG;
    }
    error = save_taken(change.inode, [&](std::uint64_t zone) { return (zone + 1) * zone_bytes > change.size; });
    error = error == 0 ? sys::result(::ftruncate(file->fd(), static_cast<off_t>(change.size))) : error;
    return error != 0 ? error : file->set_mtime(std::nullopt, manner.at);
}

/// In the order in which the kernel would: a new owner takes set-uid bits away, a mode given with it puts them back.
Errno StoredTree::perform(const change::Attributes& change, const Manner& manner) {
    using Set = change::Attributes::Set;
    const auto has = [&](Set bit) { return (change.set & bit) != 0; };
    const auto located = inodes_.index.find(change.inode);
    const Fd fd(located ? inodes_.open(*located, O_PATH) : -ESTALE);
    if (!fd) {
        return open_error(fd);
    }
    note(*located);
    if (has(Set::owner_set) || has(Set::group_set)) {
        const uid_t owner = has(Set::owner_set) ? change.owner : static_cast<uid_t>(-1);
        const gid_t group = has(Set::group_set) ? change.group : static_cast<gid_t>(-1);
        if (::fchownat(fd.get(), "", owner, group, AT_EMPTY_PATH) != 0) {
            return errno;
        }
    }
    if (change.kill_privileges && located->is_file()) {
        if (const int error = kill_privileges(fd.get()); error != 0) {
            return error;
        }
    }
    if (has(Set::mode_set)) {
        if (const int error = sys::change_mode(fd.get(), change.mode); error != 0) {
            return error;
        }
    }
    if (has(Set::size_set)) {
        if (const int error = resize(change, manner); error != 0) {
            return error;
        }
    }
    if (!has(Set::atime_set) && !has(Set::mtime_set)) {
        return 0;
    }
    const auto atime = has(Set::atime_set) ? std::optional(change.atime) : std::nullopt;
    const auto mtime = has(Set::mtime_set) ? std::optional(change.mtime) : std::nullopt;
    int error = 0;
    const InodeRef file = located->is_file() ? inodes_.file(change.inode, error) : nullptr;
    return file != nullptr && mtime ? file->set_mtime(atime, *mtime) : sys::set_times(fd.get(), atime, mtime);
}

Errno StoredTree::perform(const change::SetXattr& change, const Manner&) {
    if (xattr_is_ours(change.name)) {
        return EPERM;
    }
    const auto located = inodes_.index.find(change.inode);
    const Fd fd(located ? inodes_.open(*located, O_PATH) : -ESTALE);
    if (!fd) {
        return open_error(fd);
    }
    note(*located);
    return sys::result(
        ::setxattr(sys::proc_path(fd.get()).c_str(), change.name.c_str(), change.value.data(), change.value.size(), 0));
}

Errno StoredTree::perform(const change::RemoveXattr& change, const Manner&) {
    if (xattr_is_ours(change.name)) {
        return EPERM;
    }
    const auto located = inodes_.index.find(change.inode);
    const Fd fd(located ? inodes_.open(*located, O_PATH) : -ESTALE);
    if (!fd) {
        return open_error(fd);
    }
    note(*located);
    return sys::result(::removexattr(sys::proc_path(fd.get()).c_str(), change.name.c_str()));
}

Errno StoredTree::perform(const change::Allocate& change, const Manner& manner) {
    int error = 0;
    const InodeRef file = inodes_.file(change.file, error);
    if (file == nullptr) {
        return error;
    }
    written_.note(change.file, Written::What::all);
    error = save_taken(change.file, [&](std::uint64_t zone) { // more than its zones may be named
        return (zone + 1) * zone_bytes > change.offset && zone * zone_bytes < change.offset + change.length;
    });
    if (error == 0) {
        error = sys::result(::fallocate(file->fd(), static_cast<int>(change.mode), static_cast<off_t>(change.offset),
                                        static_cast<off_t>(change.length)));
    }
    if (error == 0 && change.kill_privileges) {
        error = kill_privileges(file->fd());
    }
    const int times = file->written(manner.at);
    return error != 0 ? error : times;
}

} // namespace stead::mirror
