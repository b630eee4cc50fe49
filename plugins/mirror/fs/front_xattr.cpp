// SPDX-License-Identifier: Apache-2.0
#include "front_handlers.hpp"

#include <cerrno>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/xattr.h>
#include <unistd.h>

/// Extended attributes and ACLs. Ours (trusted.stead.*) do not exist for the application.
namespace stead::mirror::front {
namespace {

constexpr std::string_view access_acl = "system.posix_acl_access";
constexpr std::string_view default_acl = "system.posix_acl_default";

bool is_acl(std::string_view name) { return name == access_acl || name == default_acl; }

/// All names of an inode, each with its NUL, without ours.
Errno names_of(const Reached& inode, std::string& out) {
    std::string all(XATTR_LIST_MAX, '\0');
    const ssize_t got = ::listxattr(inode.path().c_str(), all.data(), all.size());
    if (got < 0) {
        return errno;
    }
    for (ssize_t at = 0; at < got;) {
        const std::string name = all.c_str() + at;
        at += static_cast<ssize_t>(name.size() + 1);
        if (!hidden_xattr(name)) {
            out.append(name).push_back('\0');
        }
    }
    return 0;
}

/// What local file systems list for the privileged only.
void take_out_trusted(std::string& names) {
    std::string rest;
    for (std::size_t at = 0; at < names.size();) {
        const std::string name = names.c_str() + at;
        at += name.size() + 1;
        if (!name.starts_with("trusted.")) {
            rest.append(name).push_back('\0');
        }
    }
    names = std::move(rest);
}

Errno value_of(const Reached& inode, const std::string& name, std::string& out) {
    out.resize(XATTR_SIZE_MAX);
    const ssize_t got = ::getxattr(inode.path().c_str(), name.c_str(), out.data(), out.size());
    if (got < 0) {
        return errno;
    }
    out.resize(static_cast<std::size_t>(got));
    return 0;
}

/// Errors common to both changes, from the name alone.
Errno may_change(const State& state, const std::string& name) {
    if (const Errno error = state.may_change(); error != 0) {
        return error;
    }
    if (hidden_xattr(name)) {
        return EPERM;
    }
    return is_acl(name) && !state.options.acl ? EOPNOTSUPP : 0;
}

/// Errors of setxattr beyond the name: existence, and whether the backing file system would take it.
Errno may_set(State& state, const Reached& inode, const std::string& name, const std::string& value, int flags) {
    const bool exists = ::getxattr(inode.path().c_str(), name.c_str(), nullptr, 0) >= 0;
    if (!exists && errno != ENODATA) {
        return errno;
    }
    if (exists && (flags & XATTR_CREATE) != 0) {
        return EEXIST;
    }
    if (!exists && (flags & XATTR_REPLACE) != 0) {
        return ENODATA;
    }
    return try_xattr(state, inode, name, value);
}

std::shared_ptr<Task> xattr_task(fuse_req_t request, Node& node, Content content) {
    auto task = std::make_shared<Task>();
    task->node = &node;
    task->here = node.excluded;
    task->steps.push_back(std::move(content));
    task->settle = [&node](int) {
        node.no_set_ids = false; // an ACL changes the mode
        node.no_default_acl = false;
    };
    task->done = State::status(request);
    return task;
}

} // namespace

bool hidden_xattr(const std::string& name) noexcept { return name.starts_with("trusted.stead."); }

namespace {

/// In ext4's block of attributes, or a little more: a header, rounded name and value.
std::uint64_t entry_size(std::string_view name, std::string_view value) {
    constexpr std::uint64_t header = 16, unit = 4;
    return header + (name.size() + unit - 1) / unit * unit + (value.size() + unit - 1) / unit * unit;
}

} // namespace

/// Tries on an inode without a name that has the same attributes already: what one inode holds is a matter of the file
/// system (ext4: about 4 KiB together), and only it knows.
Errno try_xattr(State& state, const Reached& inode, const std::string& name, const std::string& value) {
    const Fd scratch(openat(state.root_fd.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!scratch) {
        return 0; // no such files here: its own refusal must do
    }
    const auto set = [&](std::string_view which, const std::string& what) {
        const std::string on_a_file(which == default_acl ? access_acl : which); // same size, and a file takes it
        return fsetxattr(scratch.get(), on_a_file.c_str(), what.data(), what.size(), 0) == 0 ? 0 : errno;
    };
    std::string names;
    if (const Errno error = names_of(inode, names); error != 0) {
        return error == EOPNOTSUPP ? 0 : error;
    }
    std::uint64_t together = entry_size(name, value);
    constexpr std::size_t ours = 16; // trusted.stead.fid
    if (const Errno error = set("trusted.stead.fid", std::string(ours, 'x')); error != 0) {
        return error;
    }
    for (std::size_t at = 0; at < names.size();) {
        const std::string other = names.c_str() + at;
        at += other.size() + 1;
        std::string content;
        if (other != name && value_of(inode, other, content) == 0) {
            static_cast<void>(set(other, content)); // an attribute that only its own kind of inode takes
            together += entry_size(other, content);
        }
    }
    const std::uint64_t there = state.options.peer->xattr_bytes;
    const bool too_much = there < state.limits.xattr_bytes && together > there + entry_size(probed_name, "");
    return too_much ? ENOSPC : set(name, value);
}

void getxattr(fuse_req_t request, fuse_ino_t ino, const char* name, std::size_t size) {
    State& state = state_of(request);
    Errno error = hidden_xattr(name) ? ENODATA : is_acl(name) && !state.options.acl ? EOPNOTSUPP : 0;
    const Reached inode = error == 0 ? state.reach(state.node(ino)) : Reached(-error);
    error = inode.error();
    if (error != 0) {
        fuse_reply_err(request, error);
        return;
    }
    std::string value(size, '\0');
    const ssize_t got = ::getxattr(inode.path().c_str(), name, value.data(), size);
    if (got < 0) {
        fuse_reply_err(request, errno);
    } else if (size == 0) {
        fuse_reply_xattr(request, static_cast<std::size_t>(got));
    } else {
        fuse_reply_buf(request, value.data(), static_cast<std::size_t>(got));
    }
}

void listxattr(fuse_req_t request, fuse_ino_t ino, std::size_t size) {
    State& state = state_of(request);
    const Reached inode = state.reach(state.node(ino));
    std::string names;
    const Errno error = inode.error() != 0 ? inode.error() : names_of(inode, names);
    if (fuse_req_ctx(request)->uid != 0) { // capabilities are not told; the kernel itself does not filter the list
        take_out_trusted(names);
    }
    if (error != 0) {
        fuse_reply_err(request, error);
    } else if (size == 0) {
        fuse_reply_xattr(request, names.size());
    } else if (names.size() > size) {
        fuse_reply_err(request, ERANGE);
    } else {
        fuse_reply_buf(request, names.data(), names.size());
    }
}

void setxattr(fuse_req_t request, fuse_ino_t ino, const char* name, const char* value, std::size_t size, int flags) {
    State& state = state_of(request);
    Node& node = state.node(ino);
    const std::string content(value, size);
    Errno error = may_change(state, name);
    const Reached inode = error == 0 ? state.reach(node) : Reached(-error);
    error = inode.error() != 0 ? inode.error() : may_set(state, inode, name, content, flags);
    struct stat attributes {};
    if (error == 0 && fstat(inode.fd(), &attributes) != 0) {
        error = errno;
    }
    if (error != 0) {
        fuse_reply_err(request, error);
        return;
    }
    auto task = xattr_task(request, node, {now(), change::SetXattr{node.fid, name, content}});
    // The caller is neither in the file's group nor privileged: an access ACL that it sets takes set-gid away. The
    // kernel sends the flag for default ACLs too, which do not change the mode.
    if (name == access_acl && (raw.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0 &&
        (attributes.st_mode & S_ISGID) != 0) {
        change::Attributes kill;
        kill.inode = node.fid;
        kill.set = change::Attributes::mode_set;
        kill.mode = attributes.st_mode & 07777 & ~static_cast<mode_t>(S_ISGID);
        task->steps.insert(task->steps.begin(), {now(), kill});
    }
    state.start(std::move(task));
}

void removexattr(fuse_req_t request, fuse_ino_t ino, const char* name) {
    State& state = state_of(request);
    Node& node = state.node(ino);
    Errno error = may_change(state, name);
    const Reached inode = error == 0 ? state.reach(node) : Reached(-error);
    error = inode.error();
    if (error == 0 && ::getxattr(inode.path().c_str(), name, nullptr, 0) < 0) {
        error = errno;
    }
    if (error == ENODATA && is_acl(name)) {
        fuse_reply_err(request, 0); // taking away no ACL succeeds
    } else if (error != 0) {
        fuse_reply_err(request, error);
    } else {
        state.start(xattr_task(request, node, {now(), change::RemoveXattr{node.fid, name}}));
    }
}

} // namespace stead::mirror::front
