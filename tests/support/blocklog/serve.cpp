// SPDX-License-Identifier: Apache-2.0
#define FUSE_USE_VERSION 35
#include "blocklog.hpp"

#include <fuse.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <sstream>

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

namespace stead::blocklog {

namespace {

constexpr std::string_view disk_path = "/disk", control_path = "/control";

struct Server {
    int image{-1}, log{-1};
    std::uint64_t off_at{}; ///< when power was cut; 0 = it is on
    unsigned fail_writes{}, fail_data{}, fail_reads{}, fail_flushes{};
};

Server& server() { return *static_cast<Server*>(fuse_get_context()->private_data); }

std::uint64_t now() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

/// A log that cannot be written makes every conclusion from it wrong.
void note(Server& to, Kind kind, std::uint64_t offset, std::uint64_t length, const char* bytes) {
    Entry entry;
    entry.kind = kind;
    entry.at = now();
    entry.offset = offset;
    entry.length = length;
    const std::array<iovec, 2> parts{iovec{&entry, sizeof entry},
                                     iovec{const_cast<char*>(bytes), bytes != nullptr ? length : 0}};
    const auto wanted = static_cast<ssize_t>(sizeof entry + parts[1].iov_len);
    if (::writev(to.log, parts.data(), parts.size()) != wanted) {
        std::perror("stead-blocklog: the log cannot be written");
        std::_Exit(1);
    }
    if (kind == Kind::off) {
        to.off_at = entry.at;
    }
}

bool fails(unsigned& left) {
    left -= left > 0 ? 1 : 0;
    return left > 0;
}

int get_attributes(const char* path, struct stat* out, fuse_file_info*) {
    *out = {};
    if (std::string_view(path) == "/") {
        out->st_mode = S_IFDIR | 0700;
        out->st_nlink = 2;
        return 0;
    }
    if (path == control_path) {
        out->st_mode = S_IFREG | 0600;
        out->st_nlink = 1;
        return 0;
    }
    if (path != disk_path) {
        return -ENOENT;
    }
    struct stat image {};
    if (::fstat(server().image, &image) != 0) {
        return -errno;
    }
    out->st_mode = S_IFREG | 0600;
    out->st_nlink = 1;
    out->st_size = image.st_size;
    return 0;
}

int open_file(const char* path, fuse_file_info* info) {
    info->direct_io = path == control_path ? 1 : 0;
    return path == control_path || path == disk_path ? 0 : -ENOENT;
}

int read_file(const char* path, char* to, std::size_t size, off_t offset, fuse_file_info*) {
    Server& from = server();
    if (path == control_path) {
        char text[64];
        const int length =
            std::snprintf(text, sizeof text, "%llu %u %u %u %u\n", static_cast<unsigned long long>(from.off_at),
                          from.fail_writes, from.fail_data, from.fail_reads, from.fail_flushes);
        if (offset >= length) {
            return 0;
        }
        const std::size_t count = std::min(size, static_cast<std::size_t>(length - offset));
        std::memcpy(to, text + offset, count);
        return static_cast<int>(count);
    }
    if (fails(from.fail_reads)) {
        return -EIO;
    }
    const ssize_t done = ::pread(from.image, to, size, offset);
    return done < 0 ? -errno : static_cast<int>(done);
}

int command(Server& to, std::string line) {
    std::istringstream words(line);
    std::string verb, kind;
    unsigned count = 0;
    words >> verb;
    if (verb == "off") {
        if (to.off_at == 0) {
            note(to, Kind::off, 0, 0, nullptr);
        }
        return 0;
    }
    if (verb != "fail" || !(words >> kind >> count)) {
        return -EINVAL;
    }
    const unsigned stored = count == 0 ? 0 : count + 1; // fails() counts down to 1 and below
    if (kind == "write") {
        to.fail_writes = stored;
    } else if (kind == "data") {
        to.fail_data = stored;
    } else if (kind == "read") {
        to.fail_reads = stored;
    } else if (kind == "flush") {
        to.fail_flushes = stored;
    } else {
        return -EINVAL;
    }
    return 0;
}

bool is_data(std::string_view bytes) {
    for (; bytes.size() >= data_mark.size(); bytes.remove_prefix(std::min<std::size_t>(512, bytes.size()))) {
        if (bytes.starts_with(data_mark)) {
            return true;
        }
    }
    return false;
}

int write_file(const char* path, const char* bytes, std::size_t size, off_t offset, fuse_file_info*) {
    Server& to = server();
    if (path == control_path) {
        const int error = command(to, std::string(bytes, size));
        return error != 0 ? error : static_cast<int>(size);
    }
    if (to.off_at != 0) {
        return static_cast<int>(size);
    }
    if (fails(to.fail_writes) || (is_data({bytes, size}) && fails(to.fail_data))) {
        return -EIO;
    }
    if (::pwrite(to.image, bytes, size, offset) != static_cast<ssize_t>(size)) {
        return errno != 0 ? -errno : -EIO;
    }
    note(to, Kind::write, static_cast<std::uint64_t>(offset), size, bytes);
    return static_cast<int>(size);
}

int flush_disk(const char* path, int, fuse_file_info*) {
    Server& to = server();
    if (path != disk_path || to.off_at != 0) {
        return 0;
    }
    if (fails(to.fail_flushes)) {
        return -EIO;
    }
    note(to, Kind::flush, 0, 0, nullptr);
    return 0;
}

int allocate(const char* path, int mode, off_t offset, off_t length, fuse_file_info*) {
    Server& to = server();
    const bool zeros = (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0;
    if (path != disk_path || !zeros) {
        return -EOPNOTSUPP;
    }
    if (to.off_at != 0) {
        return 0;
    }
    if (::fallocate(to.image, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) != 0) {
        return -errno;
    }
    note(to, Kind::discard, static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(length), nullptr);
    return 0;
}

int set_size(const char* path, off_t, fuse_file_info*) { return path == control_path ? 0 : -EPERM; }

int read_folder(const char*, void* to, fuse_fill_dir_t fill, off_t, fuse_file_info*, fuse_readdir_flags) {
    for (const char* name : {".", "..", "disk", "control"}) {
        fill(to, name, nullptr, 0, static_cast<fuse_fill_dir_flags>(0));
    }
    return 0;
}

/// What the loop device reads is only ever changed by what it wrote.
void* begin(fuse_conn_info*, fuse_config* config) {
    config->kernel_cache = 1;
    config->attr_timeout = config->entry_timeout = 3600;
    return &server();
}

} // namespace

int serve(const Served& what) {
    Server one;
    one.image = ::open(what.image.c_str(), O_RDWR | O_CLOEXEC);
    one.log = ::open(what.log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (one.image < 0 || one.log < 0) {
        std::perror(one.image < 0 ? what.image.c_str() : what.log.c_str());
        return 1;
    }
    fuse_operations operations{};
    operations.getattr = get_attributes;
    operations.open = open_file;
    operations.read = read_file;
    operations.write = write_file;
    operations.fsync = flush_disk;
    operations.fallocate = allocate;
    operations.truncate = set_size;
    operations.readdir = read_folder;
    operations.init = begin;
    std::string program = "stead-blocklog", foreground = "-f", single = "-s", mountpoint = what.mountpoint;
    std::array<char*, 4> arguments{program.data(), foreground.data(), single.data(), mountpoint.data()};
    return fuse_main(static_cast<int>(arguments.size()), arguments.data(), &operations, &one);
}

} // namespace stead::blocklog
