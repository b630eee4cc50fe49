// SPDX-License-Identifier: Apache-2.0
#include "system.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <vector>

#include <dirent.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace stead::mirror::sys {

namespace {

/// Space for a struct file_handle and its bytes.
struct alignas(struct file_handle) RawHandle {
    std::array<unsigned char, sizeof(struct file_handle) + MAX_HANDLE_SZ> space{};
    [[nodiscard]] struct file_handle* get() noexcept { return reinterpret_cast<struct file_handle*>(space.data()); }
};

int to_handle(int folder, const char* name, int flags, Handle& out, int& mount) {
    RawHandle space;
    struct file_handle* raw = space.get();
    raw->handle_bytes = MAX_HANDLE_SZ;
    if (::name_to_handle_at(folder, name, raw, &mount, flags) != 0) {
        return errno;
    }
    if (raw->handle_bytes > Handle::bytes_max || raw->handle_type < 0 || raw->handle_type > 0xff) {
        return EOPNOTSUPP;
    }
    out = {};
    out.length = static_cast<std::uint8_t>(raw->handle_bytes);
    out.type = static_cast<std::uint8_t>(raw->handle_type);
    std::memcpy(out.bytes.data(), raw->f_handle, raw->handle_bytes);
    return 0;
}

constexpr std::size_t mark_bytes = 16;
using MarkBytes = std::array<unsigned char, mark_bytes + 1>; ///< the last one only where incomplete

std::uint64_t big_endian(const unsigned char* bytes) {
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i) {
        value = value << 8 | bytes[i];
    }
    return value;
}

void big_endian(std::uint64_t value, unsigned char* bytes) {
    for (int i = 7; i >= 0; --i, value >>= 8) {
        bytes[i] = value & 0xff;
    }
}

int parse(const MarkBytes& bytes, ssize_t size, Mark& out) {
    if (size < 0) {
        return errno == ERANGE ? ENODATA : errno;
    }
    if (size != mark_bytes && size != mark_bytes + 1) {
        return ENODATA;
    }
    out.fid = {big_endian(bytes.data()), big_endian(bytes.data() + 8)};
    out.incomplete = size == mark_bytes + 1;
    return out.fid == Fid{} ? ENODATA : 0;
}

MarkBytes bytes_of(const Mark& mark) {
    MarkBytes bytes{};
    big_endian(mark.fid.high, bytes.data());
    big_endian(mark.fid.low, bytes.data() + 8);
    return bytes;
}

} // namespace

std::string proc_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

std::string proc_path(int folder, std::string_view name) { return proc_path(folder).append("/").append(name); }

bool name_is_sound(std::string_view name) noexcept {
    return !name.empty() && name.size() <= NAME_MAX && name != "." && name != ".." &&
           name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

int handle_of(int folder, const char* name, Handle& out, int& mount) { return to_handle(folder, name, 0, out, mount); }

int handle_of(int fd, Handle& out) {
    int mount = 0;
    return to_handle(fd, "", AT_EMPTY_PATH, out, mount);
}

int open_handle(int mount, const Handle& handle, int flags) {
    RawHandle space;
    struct file_handle* raw = space.get();
    raw->handle_bytes = handle.length;
    raw->handle_type = handle.type;
    std::memcpy(raw->f_handle, handle.bytes.data(), handle.length);
    const int fd = ::open_by_handle_at(mount, raw, flags | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 ? fd : -errno;
}

int read_mark(const std::string& path, Mark& out) {
    MarkBytes bytes{};
    return parse(bytes, ::lgetxattr(path.c_str(), fid_xattr, bytes.data(), bytes.size()), out);
}

int read_mark(int folder, const std::string& name, Mark& out) { return read_mark(proc_path(folder, name), out); }

int read_mark(int fd, Mark& out) {
    MarkBytes bytes{};
    return parse(bytes, ::getxattr(proc_path(fd).c_str(), fid_xattr, bytes.data(), bytes.size()), out);
}

int write_mark(const std::string& path, const Mark& mark) {
    const MarkBytes bytes = bytes_of(mark);
    return result(::lsetxattr(path.c_str(), fid_xattr, bytes.data(), mark_bytes + (mark.incomplete ? 1 : 0), 0));
}

int write_mark(int folder, const std::string& name, const Mark& mark) {
    return write_mark(proc_path(folder, name), mark);
}

int write_mark(int fd, const Mark& mark) {
    const MarkBytes bytes = bytes_of(mark);
    return result(
        ::setxattr(proc_path(fd).c_str(), fid_xattr, bytes.data(), mark_bytes + (mark.incomplete ? 1 : 0), 0));
}

std::string text(const Fid& fid) {
    std::string out;
    for (const std::uint64_t half : {fid.high, fid.low}) {
        for (int shift = 60; shift >= 0; shift -= 4) {
            out.push_back("0123456789abcdef"[half >> shift & 0xf]);
        }
    }
    return out;
}

std::optional<Fid> fid_of(std::string_view text) {
    Fid fid;
    if (text.size() != 32) {
        return std::nullopt;
    }
    const auto half = [](std::string_view digits, std::uint64_t& out) {
        const auto end = digits.data() + digits.size();
        const auto [at, error] = std::from_chars(digits.data(), end, out, 16);
        return error == std::errc{} && at == end;
    };
    return half(text.substr(0, 16), fid.high) && half(text.substr(16), fid.low) ? std::optional(fid) : std::nullopt;
}

int attributes(int fd, struct stat& out) { return result(::fstat(fd, &out)); }

int attributes(int folder, const char* name, struct stat& out) {
    return result(::fstatat(folder, name, &out, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT));
}

int private_folder(const std::filesystem::path& path) {
    std::error_code failed;
    std::filesystem::create_directories(path.parent_path(), failed);
    if (failed) {
        return failed.value();
    }
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
        return errno;
    }
    const Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    return folder ? result(::fchmod(folder.get(), 0700)) : errno;
}

int changeable(int folder, const char* name) {
    struct statx found {};
    const int error = result(::statx(folder, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &found));
    const bool fixed = (found.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0;
    return error == 0 && fixed ? EPERM : error;
}

timespec to_timespec(const Time& time) noexcept {
    return {static_cast<time_t>(time.seconds), static_cast<long>(time.nanoseconds)};
}

Time to_time(const timespec& time) noexcept { return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec)}; }

int set_times(int fd, const std::optional<Time>& atime, const std::optional<Time>& mtime) {
    const timespec omit{0, UTIME_OMIT};
    const std::array<timespec, 2> times{atime ? to_timespec(*atime) : omit, mtime ? to_timespec(*mtime) : omit};
    return result(::utimensat(fd, "", times.data(), AT_EMPTY_PATH));
}

int change_mode(int fd, std::uint32_t mode) { return result(::chmod(proc_path(fd).c_str(), mode & 07777)); }

std::optional<std::string> xattr(int fd, const char* name, int& error) {
    const std::string path = proc_path(fd);
    std::string value(256, '\0');
    for (;;) { // it may grow between the two calls
        ssize_t size = ::getxattr(path.c_str(), name, value.data(), value.size());
        if (size >= 0) {
            value.resize(static_cast<std::size_t>(size));
            return value;
        }
        if (errno != ERANGE || (size = ::getxattr(path.c_str(), name, nullptr, 0)) < 0) {
            error = errno;
            return std::nullopt;
        }
        value.resize(static_cast<std::size_t>(size) + 1);
    }
}

int list_xattrs(int fd, std::vector<std::string>& names) {
    const std::string path = proc_path(fd);
    std::string list(1024, '\0');
    ssize_t size = 0;
    while ((size = ::listxattr(path.c_str(), list.data(), list.size())) < 0) {
        if (errno == EOPNOTSUPP) {
            return 0;
        }
        if (errno != ERANGE || (size = ::listxattr(path.c_str(), nullptr, 0)) < 0) {
            return errno;
        }
        list.resize(static_cast<std::size_t>(size) + 256);
    }
    for (const char* at = list.data(); at < list.data() + size; at += std::strlen(at) + 1) {
        names.emplace_back(at);
    }
    return 0;
}

std::optional<std::string> link_text(int fd, int& error) {
    std::string text(PATH_MAX, '\0');
    const ssize_t size = ::readlinkat(fd, "", text.data(), text.size());
    if (size < 0) {
        error = errno;
        return std::nullopt;
    }
    text.resize(static_cast<std::size_t>(size));
    return text;
}

int each_entry(int folder, const std::function<int(const char* name, unsigned char type)>& visit) {
    if (::lseek(folder, 0, SEEK_SET) < 0) {
        return errno;
    }
    std::vector<char> buffer(std::size_t{128} * 1024);
    for (;;) {
        const long size = ::syscall(SYS_getdents64, folder, buffer.data(), buffer.size());
        if (size <= 0) {
            return result(size);
        }
        for (long at = 0; at < size;) {
            const auto* entry = reinterpret_cast<const struct dirent64*>(buffer.data() + at);
            at += entry->d_reclen;
            const std::string_view name(entry->d_name);
            if (name == "." || name == "..") {
                continue;
            }
            if (const int error = visit(entry->d_name, entry->d_type); error != 0) {
                return error;
            }
        }
    }
}

int write_all(int fd, std::string_view bytes, std::uint64_t offset) {
    while (!bytes.empty()) {
        const ssize_t done = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (done < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno;
        }
        if (done == 0) {
            return EIO;
        }
        bytes.remove_prefix(static_cast<std::size_t>(done));
        offset += static_cast<std::uint64_t>(done);
    }
    return 0;
}

int read_up_to(int fd, std::size_t bytes, std::uint64_t offset, std::string& out) {
    out.resize(bytes);
    std::size_t have = 0;
    while (have < bytes) {
        const ssize_t done = ::pread(fd, out.data() + have, bytes - have, static_cast<off_t>(offset + have));
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return errno;
        }
        if (done == 0) {
            break;
        }
        have += static_cast<std::size_t>(done);
    }
    out.resize(have);
    return 0;
}

namespace {

/// Whether any page of it is in memory; EBUSY: one is.
int look_for_pages(int fd) {
    constexpr off_t window = off_t{64} << 20;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    struct stat now {};
    int error = attributes(fd, now);
    for (off_t from = 0; error == 0 && from < now.st_size; from += window) {
        const auto length = static_cast<std::size_t>(std::min(window, now.st_size - from));
        void* const at = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, fd, from);
        if (at == MAP_FAILED) {
            return errno;
        }
        std::vector<unsigned char> resident((length + page - 1) / page);
        error = result(::mincore(at, length, resident.data()));
        ::munmap(at, length);
        const bool any =
            std::any_of(resident.begin(), resident.end(), [](unsigned char one) { return (one & 1) != 0; });
        error = error == 0 && any ? EBUSY : error;
    }
    return error;
}

} // namespace

int drop_cache(int fd) {
    int error = EBUSY;
    for (int attempt = 0; error == EBUSY && attempt < 8; ++attempt) {
        static_cast<void>(::fdatasync(fd)); // a changed page would stay; that it may fail is known
        error = ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        error = error == 0 ? look_for_pages(fd) : error;
    }
    return error;
}

int set_immutable(int fd, bool on) {
    int flags = 0;
    if (::ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) {
        return errno;
    }
    const int wanted = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
    return wanted == flags ? 0 : result(::ioctl(fd, FS_IOC_SETFLAGS, &wanted));
}

int random_fid(const Fid& root, Fid& out) {
    do {
        if (::getrandom(&out, sizeof(out), 0) != static_cast<ssize_t>(sizeof(out))) {
            return errno;
        }
        out.low = (out.low & ~root_bits) | (root.low & root_bits);
    } while (out == Fid{});
    return 0;
}

} // namespace stead::mirror::sys
