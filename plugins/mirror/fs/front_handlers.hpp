// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "front_state.hpp"

/// One handler per opcode that is served; front_opcodes.hpp says what becomes of each. Each replies once, at once or
/// from an answer.
namespace stead::mirror::front {

// Served here: front_serve.cpp
void lookup(fuse_req_t request, fuse_ino_t parent, const char* name);
void forget(fuse_req_t request, fuse_ino_t ino, std::uint64_t lookups);
void forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets);
void getattr(fuse_req_t request, fuse_ino_t ino, fuse_file_info* file);
void readlink(fuse_req_t request, fuse_ino_t ino);
void read(fuse_req_t request, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info* file);
void lseek(fuse_req_t request, fuse_ino_t ino, off_t offset, int whence, fuse_file_info* file);
void release(fuse_req_t request, fuse_ino_t ino, fuse_file_info* file);
void opendir(fuse_req_t request, fuse_ino_t ino, fuse_file_info* file);
void readdir(fuse_req_t request, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info* file);
void readdirplus(fuse_req_t request, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info* file);
void statfs(fuse_req_t request, fuse_ino_t ino);

// Names: front_names.cpp
void mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device);
void mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode);
void symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name);
void create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* file);
void unlink(fuse_req_t request, fuse_ino_t parent, const char* name);
void rmdir(fuse_req_t request, fuse_ino_t parent, const char* name);
void rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
            unsigned flags);
void link(fuse_req_t request, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name);

// Inodes: front_inode.cpp
void open(fuse_req_t request, fuse_ino_t ino, fuse_file_info* file);
void setattr(fuse_req_t request, fuse_ino_t ino, struct stat* wanted, int set, fuse_file_info* file);
void write(fuse_req_t request, fuse_ino_t ino, const char* data, std::size_t size, off_t offset, fuse_file_info* file);
void fallocate(fuse_req_t request, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info* file);
void fsync(fuse_req_t request, fuse_ino_t ino, int data_only, fuse_file_info* file);

// Extended attributes: front_xattr.cpp
void getxattr(fuse_req_t request, fuse_ino_t ino, const char* name, std::size_t size);
void listxattr(fuse_req_t request, fuse_ino_t ino, std::size_t size);
void setxattr(fuse_req_t request, fuse_ino_t ino, const char* name, const char* value, std::size_t size, int flags);
void removexattr(fuse_req_t request, fuse_ino_t ino, const char* name);

} // namespace stead::mirror::front
