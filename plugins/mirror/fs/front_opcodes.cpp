// SPDX-License-Identifier: Apache-2.0
#include "front_opcodes.hpp"

#include "front_handlers.hpp"

#include <cerrno>
#include <cstddef>

#include <linux/fuse.h>

namespace stead::mirror::front {

void init(void* data, fuse_conn_info* connection);

namespace {

constexpr std::uint32_t statx_opcode = 52; // of later headers

#define STEAD_MEMBER(name) static_cast<std::ptrdiff_t>(offsetof(fuse_lowlevel_ops, name))
#define STEAD_HERE(opcode, member)                                                                                     \
    { opcode, #opcode, Treatment::here, 0, STEAD_MEMBER(member), "" }
#define STEAD_REPLICATED(opcode, member)                                                                               \
    { opcode, #opcode, Treatment::replicated, 0, STEAD_MEMBER(member), "" }
#define STEAD_REFUSED(opcode, member, reason)                                                                          \
    { opcode, #opcode, Treatment::refused, ENOSYS, member, reason }
#define STEAD_LIBRARY(opcode, member)                                                                                  \
    { opcode, #opcode, Treatment::library, 0, member, "" }

constexpr Opcode table[] = {
    STEAD_HERE(FUSE_LOOKUP, lookup),
    STEAD_HERE(FUSE_FORGET, forget),
    STEAD_HERE(FUSE_GETATTR, getattr),
    STEAD_REPLICATED(FUSE_SETATTR, setattr),
    STEAD_HERE(FUSE_READLINK, readlink),
    STEAD_REPLICATED(FUSE_SYMLINK, symlink),
    STEAD_REPLICATED(FUSE_MKNOD, mknod),
    STEAD_REPLICATED(FUSE_MKDIR, mkdir),
    STEAD_REPLICATED(FUSE_UNLINK, unlink),
    STEAD_REPLICATED(FUSE_RMDIR, rmdir),
    STEAD_REPLICATED(FUSE_RENAME, rename),
    STEAD_REPLICATED(FUSE_LINK, link),
    STEAD_REPLICATED(FUSE_OPEN, open), // with O_TRUNC; else it changes nothing
    STEAD_HERE(FUSE_READ, read),
    STEAD_REPLICATED(FUSE_WRITE, write),
    STEAD_HERE(FUSE_STATFS, statfs),
    STEAD_HERE(FUSE_RELEASE, release),
    STEAD_REPLICATED(FUSE_FSYNC, fsync),
    STEAD_REPLICATED(FUSE_SETXATTR, setxattr),
    STEAD_HERE(FUSE_GETXATTR, getxattr),
    STEAD_HERE(FUSE_LISTXATTR, listxattr),
    STEAD_REPLICATED(FUSE_REMOVEXATTR, removexattr),
    STEAD_REFUSED(FUSE_FLUSH, STEAD_MEMBER(flush), "close() has nothing to write: the kernel asks no more"),
    STEAD_LIBRARY(FUSE_INIT, STEAD_MEMBER(init)),
    STEAD_HERE(FUSE_OPENDIR, opendir),
    STEAD_HERE(FUSE_READDIR, readdir),
    STEAD_HERE(FUSE_RELEASEDIR, releasedir),
    STEAD_REPLICATED(FUSE_FSYNCDIR, fsyncdir),
    STEAD_REFUSED(FUSE_GETLK, STEAD_MEMBER(getlk),
                  "not negotiated: the kernel keeps locks itself, for there is one writer"),
    STEAD_REFUSED(FUSE_SETLK, STEAD_MEMBER(setlk), "as FUSE_GETLK"),
    STEAD_REFUSED(FUSE_SETLKW, STEAD_MEMBER(flock), "as FUSE_GETLK; flock() too"),
    STEAD_REFUSED(FUSE_ACCESS, STEAD_MEMBER(access), "default_permissions: the kernel checks"),
    STEAD_REPLICATED(FUSE_CREATE, create),
    STEAD_LIBRARY(FUSE_INTERRUPT, -1), // noted and ignored: a change on its way cannot be called back
    STEAD_REFUSED(FUSE_BMAP, STEAD_MEMBER(bmap), "there is no block device below"),
    STEAD_LIBRARY(FUSE_DESTROY, -1),
    STEAD_REFUSED(FUSE_IOCTL, STEAD_MEMBER(ioctl), "ENOTTY for the caller: inode flags are not replicated"),
    STEAD_REFUSED(FUSE_POLL, STEAD_MEMBER(poll), "files are always ready"),
    STEAD_LIBRARY(FUSE_NOTIFY_REPLY, STEAD_MEMBER(retrieve_reply)), // answers what is never asked
    STEAD_HERE(FUSE_BATCH_FORGET, forget_multi),
    STEAD_REPLICATED(FUSE_FALLOCATE, fallocate), // COLLAPSE, INSERT and UNSHARE: EOPNOTSUPP
    STEAD_HERE(FUSE_READDIRPLUS, readdirplus),
    STEAD_REPLICATED(FUSE_RENAME2, rename), // WHITEOUT: EINVAL
    STEAD_HERE(FUSE_LSEEK, lseek),
    STEAD_REFUSED(FUSE_COPY_FILE_RANGE, STEAD_MEMBER(copy_file_range), "the kernel reads and writes instead"),
    STEAD_REFUSED(FUSE_SETUPMAPPING, -1, "DAX is not negotiated"),
    STEAD_REFUSED(FUSE_REMOVEMAPPING, -1, "DAX is not negotiated"),
    STEAD_REFUSED(FUSE_SYNCFS, -1, "sent to virtiofs only; checkpoints bound what syncfs() does not reach"),
    STEAD_REFUSED(FUSE_TMPFILE, -1, "EOPNOTSUPP for the caller, which then makes a named file"),
    {statx_opcode, "FUSE_STATX", Treatment::refused, ENOSYS, -1, "the kernel uses FUSE_GETATTR"},
};

fuse_lowlevel_ops make_handlers() {
    fuse_lowlevel_ops result{};
    result.init = init;
    result.lookup = lookup;
    result.forget = forget;
    result.forget_multi = forget_multi;
    result.getattr = getattr;
    result.setattr = setattr;
    result.readlink = readlink;
    result.mknod = mknod;
    result.mkdir = mkdir;
    result.unlink = unlink;
    result.rmdir = rmdir;
    result.symlink = symlink;
    result.rename = rename;
    result.link = link;
    result.open = open;
    result.read = read;
    result.write = write;
    result.release = release;
    result.fsync = fsync;
    result.opendir = opendir;
    result.readdir = readdir;
    result.readdirplus = readdirplus;
    result.releasedir = release;
    result.fsyncdir = fsync;
    result.statfs = statfs;
    result.setxattr = setxattr;
    result.getxattr = getxattr;
    result.listxattr = listxattr;
    result.removexattr = removexattr;
    result.create = create;
    result.fallocate = fallocate;
    result.lseek = lseek;
    return result;
}

} // namespace

std::span<const Opcode> opcodes() noexcept { return table; }

const fuse_lowlevel_ops& handlers() noexcept {
    static const fuse_lowlevel_ops all = make_handlers();
    return all;
}

} // namespace stead::mirror::front
