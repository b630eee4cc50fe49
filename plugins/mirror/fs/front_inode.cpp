// SPDX-License-Identifier: Apache-2.0
#include "front_handlers.hpp"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <unistd.h>

/// Changes of an inode's bytes and attributes.
namespace stead::mirror::front {
namespace {

/// Arguments as the kernel sent them, with the flags that libfuse does not hand over.
template <class Arguments>
const Arguments& arguments() {
    return *reinterpret_cast<const Arguments*>(raw.bytes + sizeof(fuse_in_header));
}

/// A task on an inode that may be changed; replies and returns nullptr where it may not.
std::shared_ptr<Task> changing(fuse_req_t request, Node& node, const fuse_file_info* file) {
    State& state = state_of(request);
    if (const Errno error = state.may_change(); error != 0) {
        fuse_reply_err(request, error);
        return nullptr;
    }
    auto task = std::make_shared<Task>();
    task->node = &node;
    task->here = node.excluded;
    task->fd = file != nullptr && file->fh != 0 ? handle_of(*file).fd.get() : -1;
    return task;
}

bool in_group(fuse_req_t request, gid_t group) {
    constexpr int groups_max = 65536; // NGROUPS_MAX
    const fuse_ctx& caller = *fuse_req_ctx(request);
    if (caller.uid == 0 || caller.gid == group) {
        return true;
    }
    std::vector<gid_t> groups(groups_max);
    const int count = fuse_req_getgroups(request, groups_max, groups.data());
    return count > 0 && std::find(groups.begin(), groups.begin() + std::min(count, groups_max), group) !=
                            groups.begin() + std::min(count, groups_max);
}

/// With HANDLE_KILLPRIV_V2 it is for us to take set-uid and set-gid away when an unprivileged caller changes a file's
/// bytes or anybody its owner. (security.capability goes by itself: the backing file system drops it.)
Errno kill_set_ids(State& state, fuse_req_t request, Node& node, change::Attributes& out) {
    if (node.no_set_ids) {
        return 0;
    }
    struct stat value {};
    if (const Errno error = state.attributes(node, value); error != 0) {
        return error;
    }
    if (S_ISDIR(value.st_mode) || (value.st_mode & (S_ISUID | S_ISGID)) == 0) {
        node.no_set_ids = true; // until its mode or owner changes: a write by a user costs no look at the inode
        return 0;
    }
    mode_t mode = value.st_mode & 07777 & ~static_cast<mode_t>(S_ISUID);
    // Without execution by the group, set-gid is no right to take away, except from who is not in the group.
    if ((mode & S_ISGID) != 0 && ((mode & S_IXGRP) != 0 || !in_group(request, value.st_gid))) {
        mode &= ~static_cast<mode_t>(S_ISGID);
    }
    if (mode != (value.st_mode & 07777)) {
        out.inode = node.fid;
        out.set |= change::Attributes::mode_set;
        out.mode = mode;
    }
    return 0;
}

/// The same before a change of bytes, as a step of its own.
Errno add_kill(State& state, fuse_req_t request, Node& node, Task& task) {
    change::Attributes kill;
    const Errno error = kill_set_ids(state, request, node, kill);
    if (error == 0 && kill.set != 0) {
        task.steps.push_back({now(), kill});
    }
    return error;
}

void add_times(change::Attributes& to, const struct stat& wanted, int set, const Time& at) {
    const auto time = [](const timespec& value) {
        return Time{value.tv_sec, static_cast<std::uint32_t>(value.tv_nsec)};
    };
    if ((set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) != 0) {
        to.set |= change::Attributes::atime_set;
        to.atime = (set & FUSE_SET_ATTR_ATIME_NOW) != 0 ? at : time(wanted.st_atim);
    }
    if ((set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) != 0) {
        to.set |= change::Attributes::mtime_set;
        to.mtime = (set & FUSE_SET_ATTR_MTIME_NOW) != 0 ? at : time(wanted.st_mtim);
    }
}

/// A change of size moves mtime, also when it stays the same.
Errno add_size(const State& state, change::Attributes& to, std::uint64_t size, const Time& at) {
    if (size > state.file_bytes()) {
        return EFBIG;
    }
    to.set |= change::Attributes::size_set;
    to.size = size;
    if ((to.set & change::Attributes::mtime_set) == 0) {
        to.set |= change::Attributes::mtime_set;
        to.mtime = at;
    }
    return 0;
}

/// A SETATTR that names nothing is chown(-1, -1): it moves ctime and takes set-uid away, as a new owner would. Or it
/// goes ahead of a write to a set-uid file, and looks the same. So who may not take set-uid away changes nothing and
/// hears of no error: the write takes it away itself.
Errno owner_again(State& state, fuse_req_t request, Node& node, change::Attributes& out) {
    struct stat value {};
    if (const Errno error = state.attributes(node, value); error != 0) {
        return error;
    }
    change::Attributes kill;
    if (const Errno error = kill_set_ids(state, request, node, kill); error != 0) {
        return error;
    }
    const uid_t caller = fuse_req_ctx(request)->uid;
    if (kill.set != 0 && caller != 0 && caller != value.st_uid) {
        return 0;
    }
    out.set |= kill.set | change::Attributes::owner_set | change::Attributes::group_set;
    out.mode = kill.mode;
    out.owner = value.st_uid;
    out.group = value.st_gid;
    return 0;
}

Errno attributes_wanted(State& state, fuse_req_t request, Node& node, const struct stat& wanted, int set,
                        change::Attributes& out) {
    const Time at = now();
    out.inode = node.fid;
    if ((set & FUSE_SET_ATTR_UID) != 0) {
        out.set |= change::Attributes::owner_set;
        out.owner = wanted.st_uid;
    }
    if ((set & FUSE_SET_ATTR_GID) != 0) {
        out.set |= change::Attributes::group_set;
        out.group = wanted.st_gid;
    }
    if ((arguments<fuse_setattr_in>().valid & FATTR_KILL_SUIDGID) != 0) {
        if (const Errno error = kill_set_ids(state, request, node, out); error != 0) {
            return error;
        }
    }
    if ((set & FUSE_SET_ATTR_MODE) != 0) {
        out.set |= change::Attributes::mode_set;
        out.mode = wanted.st_mode & 07777;
    }
    add_times(out, wanted, set, at);
    if ((set & FUSE_SET_ATTR_SIZE) != 0) {
        return add_size(state, out, static_cast<std::uint64_t>(wanted.st_size), at);
    }
    return set == 0 ? owner_again(state, request, node, out) : 0;
}

void reply_attributes(State& state, fuse_req_t request, const Node& node) {
    struct stat value {};
    if (const Errno error = state.attributes(node, value); error != 0) {
        fuse_reply_err(request, error);
    } else {
        fuse_reply_attr(request, &value, state.cache_seconds());
    }
}

void reply_open(State& state, fuse_req_t request, Node& node, fuse_file_info file) {
    const int fd = state.open(node, backing_flags(file.flags));
    if (fd < 0) {
        fuse_reply_err(request, -fd);
        return;
    }
    Handle& handle = state.nodes.open(Fd(fd));
    file.fh = reinterpret_cast<std::uint64_t>(&handle);
    file.keep_cache = state.options.read_only ? 0 : 1;
    if (fuse_reply_open(request, &file) != 0) {
        state.nodes.close(handle); // the caller was killed: no RELEASE comes
    }
}

} // namespace

void open(fuse_req_t request, fuse_ino_t ino, fuse_file_info* file) {
    State& state = state_of(request);
    Node& node = state.node(ino);
    if (state.options.read_only && (file->flags & O_ACCMODE) != O_RDONLY) {
        fuse_reply_err(request, EROFS);
        return;
    }
    if ((file->flags & O_TRUNC) == 0) {
        reply_open(state, request, node, *file);
        return;
    }
    auto task = changing(request, node, nullptr); // O_TRUNC comes inside of OPEN: a change of its own
    if (!task) {
        return;
    }
    const Time at = now();
    change::Attributes cut;
    cut.inode = node.fid;
    cut.set = change::Attributes::size_set | change::Attributes::mtime_set;
    cut.mtime = at;
    if ((arguments<fuse_open_in>().open_flags & FUSE_OPEN_KILL_SUIDGID) != 0) {
        if (const Errno error = kill_set_ids(state, request, node, cut); error != 0) {
            fuse_reply_err(request, error);
            return;
        }
    }
    task->steps.push_back({at, cut});
    task->done = [request, &node, file = *file](State& owner, int error) {
        if (error != 0) {
            fuse_reply_err(request, error);
        } else {
            reply_open(owner, request, node, file);
        }
    };
    state.start(std::move(task));
}

void setattr(fuse_req_t request, fuse_ino_t ino, struct stat* wanted, int set, fuse_file_info* file) {
    State& state = state_of(request);
    Node& node = state.node(ino);
    auto task = changing(request, node, file);
    if (!task) {
        return;
    }
    change::Attributes attributes;
    if (const Errno error = attributes_wanted(state, request, node, *wanted, set, attributes); error != 0) {
        fuse_reply_err(request, error);
        return;
    }
    if (attributes.set != 0) {
        task->steps.push_back({now(), attributes});
    }
    task->settle = [&node](int) { node.no_set_ids = false; };
    task->done = [request, &node](State& owner, int error) {
        if (error != 0) {
            fuse_reply_err(request, error);
        } else {
            reply_attributes(owner, request, node);
        }
    };
    state.start(std::move(task));
}

void write(fuse_req_t request, fuse_ino_t ino, const char* data, std::size_t size, off_t offset, fuse_file_info* file) {
    State& state = state_of(request);
    Node& node = state.node(ino);
    auto task = changing(request, node, file);
    if (!task) {
        return;
    }
    const auto from = static_cast<std::uint64_t>(offset);
    Errno error = from > state.file_bytes() || size > state.file_bytes() - from ? EFBIG : 0;
    const bool kill = (arguments<fuse_write_in>().write_flags & FUSE_WRITE_KILL_SUIDGID) != 0 && file->writepage == 0;
    if (error == 0 && kill) {
        error = add_kill(state, request, node, *task);
    }
    if (error != 0) {
        fuse_reply_err(request, error);
        return;
    }
    const bool killed = !task->steps.empty();
    task->steps.push_back({now(), change::Write{node.fid, from, std::string(data, size), false}});
    task->done = [request, size, killed, ino](State& owner, int failed) {
        if (killed) { // the kernel would go on to believe in the set-uid bit
            fuse_lowlevel_notify_inval_inode(owner.session, ino, -1, 0);
        }
        if (failed != 0) {
            fuse_reply_err(request, failed);
        } else {
            fuse_reply_write(request, size);
        }
    };
    state.start(std::move(task));
}

void fallocate(fuse_req_t request, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info* file) {
    State& state = state_of(request);
    Node& node = state.node(ino);
    auto task = changing(request, node, file);
    if (!task) {
        return;
    }
    const auto kind = mode & ~FALLOC_FL_KEEP_SIZE;
    const bool punch = mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    Errno error = kind == 0 || kind == FALLOC_FL_ZERO_RANGE || punch ? 0 : EOPNOTSUPP;
    const auto from = static_cast<std::uint64_t>(offset);
    const auto bytes = static_cast<std::uint64_t>(length);
    if (error == 0 && (from > state.file_bytes() || bytes > state.file_bytes() - from)) {
        error = EFBIG;
    }
    if (error == 0 && fuse_req_ctx(request)->uid != 0) { // the kernel sends no flag here
        error = add_kill(state, request, node, *task);
    }
    if (error != 0) {
        fuse_reply_err(request, error);
        return;
    }
    task->steps.push_back({now(), change::Allocate{node.fid, static_cast<std::uint32_t>(mode), from, bytes, false}});
    task->done = State::status(request);
    state.start(std::move(task));
}

/// Answers an O_SYNC write, too: the kernel sends WRITE and then FSYNC, so the pair costs one flush.
void fsync(fuse_req_t request, fuse_ino_t ino, int, fuse_file_info* file) {
    State& state = state_of(request);
    if (state.options.read_only) {
        fuse_reply_err(request, 0); // nothing is ever unwritten
        return;
    }
    auto task = changing(request, state.node(ino), file);
    task->sync = true;
    task->done = State::status(request);
    state.start(std::move(task));
}

} // namespace stead::mirror::front
