// SPDX-License-Identifier: Apache-2.0
#include "front_handlers.hpp"

#include <cerrno>
#include <cstring>

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/xattr.h>
#include <unistd.h>

/// Changes of names. Each is checked here as POSIX wants it, for the kernel holds the locks of the directories and of
/// the inode that is moved or removed until it has our reply.
namespace stead::mirror::front {
namespace {

/// Attributes of a directory in which something is made, and whether it hands an ACL down.
struct Parent {
    struct stat attributes {};
    bool default_acl{};
};

Errno look_at(State& state, Node& parent, Parent& out) {
    const Reached inode = state.reach(parent);
    if (inode.error() != 0) {
        return inode.error();
    }
    if (fstat(inode.fd(), &out.attributes) != 0) {
        return errno;
    }
    if (!parent.no_default_acl) {
        out.default_acl = ::getxattr(inode.path().c_str(), "system.posix_acl_default", nullptr, 0) > 0;
        parent.no_default_acl = !out.default_acl;
    }
    return 0;
}

/// The errors of making `name`, but not EEXIST.
Errno may_name(State& state, const char* name) {
    const Errno error = state.may_change();
    return error != 0 ? error : state.name_fits(name);
}

Errno must_be_free(State& state, const Node& parent, const char* name) {
    Tree::Entry there;
    const Errno error = state.tree.lookup(parent.fid, name, there);
    return error == 0 ? EEXIST : error == ENOENT ? 0 : error;
}

/// Replies with the new inode, or undoes its lookup when nobody waits any more.
void reply_entry(State& state, fuse_req_t request, const Fid& fid, bool excluded) {
    fuse_entry_param entry{};
    if (const Errno error = state.entry(fid, excluded, entry); error != 0) {
        fuse_reply_err(request, error);
    } else if (fuse_reply_entry(request, &entry) != 0) {
        state.drop(entry);
    }
}

/// A new inode: its owner is the caller, its group and mode follow from the directory (set-gid, default ACL, umask).
/// Replies and returns nullptr on an error; else a task without `done`.
std::shared_ptr<Task> making(fuse_req_t request, fuse_ino_t parent_ino, const char* name, mode_t mode) {
    State& state = state_of(request);
    Node& parent = state.node(parent_ino);
    Parent directory;
    Errno error = may_name(state, name);
    if (error == 0) {
        error = look_at(state, parent, directory);
    }
    if (error == 0) {
        error = must_be_free(state, parent, name);
    }
    if (error != 0) {
        fuse_reply_err(request, error);
        return nullptr;
    }
    const fuse_ctx& caller = *fuse_req_ctx(request);
    change::Make make;
    make.parent = parent.fid;
    make.name = name;
    make.inode = state.tree.fresh(state.options.root);
    make.mode = directory.default_acl || S_ISLNK(mode) ? mode : mode & ~caller.umask;
    make.owner = caller.uid;
    make.group = caller.gid;
    if ((directory.attributes.st_mode & S_ISGID) != 0) {
        make.group = directory.attributes.st_gid;
        make.mode |= S_ISDIR(mode) ? static_cast<std::uint32_t>(S_ISGID) : 0;
    }
    auto task = std::make_shared<Task>();
    task->here = state.excluded(parent, name);
    task->steps.push_back({now(), std::move(make)});
    return task;
}

change::Make& made(Task& task) { return std::get<change::Make>(task.steps.front().what); }

void make_and_reply(fuse_req_t request, std::shared_ptr<Task> task) {
    task->done = [request, fid = made(*task).inode, excluded = task->here](State& state, int error) {
        if (error != 0) {
            fuse_reply_err(request, error);
        } else {
            reply_entry(state, request, fid, excluded);
        }
    };
    state_of(request).start(std::move(task));
}

/// Replies to CREATE: entry and open file at once.
void reply_created(State& state, fuse_req_t request, const Fid& fid, bool excluded, fuse_file_info file) {
    fuse_entry_param entry{};
    if (const Errno error = state.entry(fid, excluded, entry); error != 0) {
        fuse_reply_err(request, error);
        return;
    }
    const int fd = state.open(state.node(entry.ino), backing_flags(file.flags));
    if (fd < 0) {
        state.drop(entry);
        fuse_reply_err(request, -fd);
        return;
    }
    Handle& handle = state.nodes.open(Fd(fd));
    file.fh = reinterpret_cast<std::uint64_t>(&handle);
    file.keep_cache = 1;
    if (fuse_reply_create(request, &entry, &file) != 0) {
        state.nodes.close(handle);
        state.drop(entry);
    }
}

/// Whether a directory has no names; errno.
Errno must_be_empty(State& state, const Fid& fid) {
    const Fd fd(state.tree.open_inode(fid, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) {
        return -fd.get();
    }
    alignas(dirent64) char entries[4096];
    for (ssize_t got = 0; (got = getdents64(fd.get(), entries, sizeof(entries))) != 0;) {
        if (got < 0) {
            return errno;
        }
        for (ssize_t at = 0; at < got;) {
            const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
            if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
                return ENOTEMPTY;
            }
            at += entry->d_reclen;
        }
    }
    return 0;
}

/// Errors of taking the name of `there` away for something of kind `directory`.
Errno may_replace(State& state, const Tree::Entry& there, bool directory) {
    const bool is_directory = S_ISDIR(there.attributes.st_mode);
    if (is_directory != directory) {
        return directory ? ENOTDIR : EISDIR;
    }
    return is_directory ? must_be_empty(state, there.inode) : 0;
}

bool last_name(const Tree::Entry& entry) { return S_ISDIR(entry.attributes.st_mode) || entry.attributes.st_nlink == 1; }

/// Starts a task that takes a name of `victim`. A node for it is held meanwhile: an open file of it may come back with
/// writes at any time.
void start_removing(State& state, const Tree::Entry& victim, std::shared_ptr<Task> task) {
    if (!last_name(victim)) {
        state.start(std::move(task));
        return;
    }
    Node& node = state.nodes.acquire(victim.inode, victim.excluded);
    task->release = &node;
    state.start_leaving(node, std::move(task));
}

void remove(fuse_req_t request, fuse_ino_t parent_ino, const char* name, bool directory) {
    State& state = state_of(request);
    const Node& parent = state.node(parent_ino);
    Tree::Entry there;
    Errno error = may_name(state, name);
    if (error == 0) {
        error = state.tree.lookup(parent.fid, name, there);
    }
    if (error == 0) {
        error = may_replace(state, there, directory);
    }
    if (error != 0) {
        fuse_reply_err(request, error);
        return;
    }
    auto task = std::make_shared<Task>();
    task->here = there.excluded;
    task->steps.push_back({now(), change::Remove{parent.fid, name, there.inode, directory}});
    task->done = State::status(request);
    start_removing(state, there, std::move(task));
}

/// The errors of a rename whose source is there.
Errno may_rename(State& state, const Tree::Entry& from, const Tree::Entry* onto, unsigned flags) {
    if ((flags & RENAME_EXCHANGE) != 0) {
        return onto == nullptr ? ENOENT : 0;
    }
    if (onto == nullptr) {
        return 0;
    }
    if ((flags & RENAME_NOREPLACE) != 0) {
        return EEXIST;
    }
    return may_replace(state, *onto, S_ISDIR(from.attributes.st_mode));
}

} // namespace

int backing_flags(int flags) {
    // O_DIRECT would fail for libfuse's unaligned buffers; O_APPEND, O_TRUNC, O_SYNC are the kernel's and ours to do.
    return (flags & O_ACCMODE) == O_RDONLY ? O_RDONLY : O_RDWR;
}

void mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
    if (auto task = making(request, parent, name, (mode & S_IFMT) == 0 ? mode | S_IFREG : mode)) {
        made(*task).device = device;
        make_and_reply(request, std::move(task));
    }
}

void mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
    if (auto task = making(request, parent, name, mode | S_IFDIR)) {
        make_and_reply(request, std::move(task));
    }
}

void symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
    if (auto task = making(request, parent, name, S_IFLNK | 0777)) {
        made(*task).link = target;
        make_and_reply(request, std::move(task));
    }
}

void create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* file) {
    auto task = making(request, parent, name, (mode & 07777) | S_IFREG);
    if (!task) {
        return;
    }
    task->done = [request, fid = made(*task).inode, excluded = task->here, file = *file](State& state, int error) {
        if (error != 0) {
            fuse_reply_err(request, error);
        } else {
            reply_created(state, request, fid, excluded, file);
        }
    };
    state_of(request).start(std::move(task));
}

void unlink(fuse_req_t request, fuse_ino_t parent, const char* name) { remove(request, parent, name, false); }

void rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) { remove(request, parent, name, true); }

void rename(fuse_req_t request, fuse_ino_t parent_ino, const char* name, fuse_ino_t new_parent_ino,
            const char* new_name, unsigned flags) {
    State& state = state_of(request);
    const Node& parent = state.node(parent_ino);
    const Node& new_parent = state.node(new_parent_ino);
    Errno error = (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0 ? EINVAL : may_name(state, new_name);
    Tree::Entry from;
    Tree::Entry onto;
    if (error == 0) {
        error = state.tree.lookup(parent.fid, name, from);
    }
    bool replaces = false;
    if (error == 0) {
        error = state.tree.lookup(new_parent.fid, new_name, onto);
        replaces = error == 0;
        error = error == ENOENT ? 0 : error;
    }
    if (error == 0) {
        error = may_rename(state, from, replaces ? &onto : nullptr, flags);
    }
    // Across the border of replication the data would have to be copied: EXDEV tells the caller to do so.
    if (error == 0 && from.excluded != state.excluded(new_parent, new_name)) {
        error = EXDEV;
    }
    if (error == 0 && (flags & RENAME_EXCHANGE) != 0 && onto.excluded != state.excluded(parent, name)) {
        error = EXDEV;
    }
    // Nor may something below leave a place that excludes it.
    const bool moves_pinned = S_ISDIR(from.attributes.st_mode) && state.tree.pinned(from.inode);
    const bool swaps_pinned = replaces && S_ISDIR(onto.attributes.st_mode) && state.tree.pinned(onto.inode);
    const bool exchanges = (flags & RENAME_EXCHANGE) != 0 && replaces && S_ISDIR(onto.attributes.st_mode);
    const bool hides = state.excludes &&
                       ((S_ISDIR(from.attributes.st_mode) && state.tree.hides(from.inode, new_parent.fid, new_name)) ||
                        (exchanges && state.tree.hides(onto.inode, parent.fid, name)));
    if (error == 0 && (moves_pinned || swaps_pinned || hides)) { // or something below would get to such a place
        error = EXDEV;
    }
    if (error != 0) {
        fuse_reply_err(request, error);
        return;
    }
    auto task = std::make_shared<Task>();
    task->here = from.excluded;
    task->steps.push_back({now(), change::Rename{parent.fid, name, new_parent.fid, new_name, flags, from.inode,
                                                 replaces ? onto.inode : Fid{}}});
    task->done = State::status(request);
    if (replaces && (flags & RENAME_EXCHANGE) == 0) {
        start_removing(state, onto, std::move(task));
    } else {
        state.start(std::move(task));
    }
}

void link(fuse_req_t request, fuse_ino_t ino, fuse_ino_t new_parent_ino, const char* new_name) {
    State& state = state_of(request);
    Node& node = state.node(ino);
    const Node& new_parent = state.node(new_parent_ino);
    struct stat attributes {};
    Errno error = may_name(state, new_name);
    if (error == 0) {
        error = state.attributes(node, attributes);
    }
    if (error == 0 && node.gone) {
        error = ENOENT;
    }
    if (error == 0) {
        error = must_be_free(state, new_parent, new_name);
    }
    if (error == 0 && attributes.st_nlink >= state.links()) {
        error = EMLINK;
    }
    if (error == 0 && node.excluded != state.excluded(new_parent, new_name)) {
        error = EXDEV;
    }
    if (error != 0) {
        fuse_reply_err(request, error);
        return;
    }
    auto task = std::make_shared<Task>();
    task->node = &node;
    task->here = node.excluded;
    task->steps.push_back({now(), change::Link{node.fid, new_parent.fid, new_name}});
    task->done = [request, fid = node.fid, excluded = node.excluded](State& owner, int failed) {
        if (failed != 0) {
            fuse_reply_err(request, failed);
        } else {
            reply_entry(owner, request, fid, excluded);
        }
    };
    state.start(std::move(task));
}

} // namespace stead::mirror::front
