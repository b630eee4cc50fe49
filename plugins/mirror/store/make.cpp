// SPDX-License-Identifier: Apache-2.0
#include "stored_tree.hpp"

#include <sys/xattr.h>
#include <unistd.h>

/// New inodes. A name is never seen without its FID, except where a default ACL must be inherited.
namespace stead::mirror {

namespace {

bool has_default_acl(int folder) { return ::fgetxattr(folder, "system.posix_acl_default", nullptr, 0) > 0; }

int make_named(int folder, const char* name, const change::Make& change) {
    const mode_t permissions = change.mode & 07777;
    switch (change.mode & S_IFMT) {
    case S_IFREG: {
        const Fd fd(::openat(folder, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, permissions));
        return fd ? 0 : errno;
    }
    case S_IFDIR: return sys::result(::mkdirat(folder, name, permissions));
    case S_IFLNK: return sys::result(::symlinkat(change.link.c_str(), folder, name));
    case S_IFIFO:
    case S_IFSOCK:
    case S_IFCHR:
    case S_IFBLK: return sys::result(::mknodat(folder, name, change.mode, change.device));
    default: return EINVAL;
    }
}

} // namespace

Errno StoredTree::perform(const change::Make& change, const Manner& manner) {
    Spot spot;
    Errno error = find_spot(change.parent, change.name, spot);
    if (error != 0) {
        return error;
    }
    const bool excludes = inodes_.excluded(spot.parent, change.name);
    if (excludes && manner.replicated) {
        return EPERM;
    }
    const Time changed = change_time(spot, manner);
    error = make(spot, change, manner.at, excludes, false);
    if (error != 0) {
        return error;
    }
    written_.note(change.parent, Written::What::all);
    return sys::set_times(spot.folder->fd(), std::nullopt, changed);
}

Errno StoredTree::make(const Spot& spot, const change::Make& change, const Time& at, bool excluded, bool incomplete) {
    if (change.inode == Fid{} || change.link.find('\0') != std::string::npos) {
        return EINVAL;
    }
    Located located;
    located.fid = change.inode;
    located.root = spot.parent.root;
    located.kind = change.mode >> 12 & 0xf;
    located.excluded = excluded ? 1 : 0;
    located.incomplete = incomplete ? 1 : 0;
    if (inodes_.index.find(change.inode)) {
        Found there;
        return look(spot, there) == 0 && there.located.fid == change.inode ? 0 : EEXIST;
    }
    Errno error = located.is_file() ? make_file(spot, change, at, located) : EOPNOTSUPP;
    if (error == EOPNOTSUPP) {
        error = make_node(spot, change, at, located);
    }
    if (error == 0 && (located.is_file() || located.is_directory())) {
        written_.note(change.inode, Written::What::all); // the others are as durable as the directory
    }
    if (error == 0 && saves_undo_) {
        const std::lock_guard lock(made_mutex_);
        made_.insert(change.inode);
    }
    return error;
}

/// Owner, mode, FID and times of what has just been made. `inherits`: the permissions come from the parent's default
/// ACL.
Errno StoredTree::finish_new(int fd, const change::Make& change, const Time& at, bool inherits, Located& located) {
    struct stat now {};
    Errno error = sys::attributes(fd, now);
    if (error == 0 && (now.st_uid != change.owner || now.st_gid != change.group)) {
        error = sys::result(::fchownat(fd, "", change.owner, change.group, AT_EMPTY_PATH));
    }
    const std::uint32_t permissions = (inherits ? now.st_mode & 0777u : change.mode & 0777u) | (change.mode & 07000u);
    if (error == 0 && !S_ISLNK(now.st_mode)) {
        error = sys::change_mode(fd, permissions);
    }
    if (error == 0) {
        error = sys::write_mark(fd, {change.inode, located.incomplete != 0});
    }
    if (error == 0) {
        error = sys::handle_of(fd, located.handle);
    }
    return error == 0 ? sys::set_times(fd, at, at) : error;
}

/// Without a name until it is complete. EOPNOTSUPP: the file system has no such files.
Errno StoredTree::make_file(const Spot& spot, const change::Make& change, const Time& at, Located& located) {
    const int folder = spot.folder->fd();
    Fd fd(::openat(folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, change.mode & 0777));
    if (!fd) {
        return errno == EISDIR ? EOPNOTSUPP : errno;
    }
    if (const Errno error = finish_new(fd.get(), change, at, has_default_acl(folder), located); error != 0) {
        return error;
    }
    inodes_.index.put(located);
    if (::linkat(fd.get(), "", folder, spot.name.c_str(), AT_EMPTY_PATH) != 0) {
        const int error = errno;
        inodes_.index.erase(located.fid);
        return error;
    }
    inodes_.keep(located.fid, std::move(fd));
    return 0;
}

/// Made aside and moved to its name; where a default ACL must be inherited, made there.
Errno StoredTree::make_node(const Spot& spot, const change::Make& change, const Time& at, Located& located) {
    const int folder = spot.folder->fd();
    const bool inherits = !S_ISLNK(change.mode) && has_default_acl(folder);
    const int maker = inherits ? folder : inodes_.roots[spot.parent.root]->place.park();
    const std::string name = inherits ? spot.name : temporary_name();
    if (const Errno error = make_named(maker, name.c_str(), change); error != 0) {
        return error;
    }
    Errno error = 0;
    {
        const Fd fd(::openat(maker, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        error = fd ? finish_new(fd.get(), change, at, inherits, located) : errno;
    }
    if (error == 0) {
        inodes_.index.put(located);
        if (!inherits && ::renameat2(maker, name.c_str(), folder, spot.name.c_str(), RENAME_NOREPLACE) != 0) {
            error = errno;
            inodes_.index.erase(located.fid);
        }
    }
    if (error != 0) {
        ::unlinkat(maker, name.c_str(), located.is_directory() ? AT_REMOVEDIR : 0);
    }
    return error;
}

} // namespace stead::mirror
