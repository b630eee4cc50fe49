// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/mirror/content.hpp>

#include <array>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>

/// System calls on inodes that have no trusted name: by folder and one component, or by file handle. Functions that
/// give an int give 0 or an errno, unless they say otherwise. No name is ever followed when it is a symbolic link.
namespace stead::mirror::sys {

/// What name_to_handle_at gives, small enough for millions.
struct Handle {
    static constexpr std::size_t bytes_max = 20; ///< ext4 8, XFS 12, btrfs 20
    std::array<unsigned char, bytes_max> bytes{};
    std::uint8_t length{};
    std::uint8_t type{};
    bool operator==(const Handle&) const = default;
};

/// The FID kept at an inode. `incomplete`: a resync made it empty and has not filled it yet.
struct Mark {
    Fid fid;
    bool incomplete{};
};

inline constexpr const char* fid_xattr = "trusted.stead.fid";
inline constexpr const char* mount_xattr = "trusted.stead.mount"; ///< on the directory that a mount covers
inline constexpr const char* from_xattr = "trusted.stead.from";   ///< on a parked directory: where it has to go back
inline constexpr std::string_view own_xattrs = "trusted.stead.";

[[nodiscard]] inline int result(long rc) noexcept { return rc < 0 ? errno : 0; }

/// "/proc/self/fd/N": names what the descriptor is open on, also when that is a symbolic link.
[[nodiscard]] std::string proc_path(int fd);
/// "/proc/self/fd/N/name": for calls that have no *at form. Only for the l… forms.
[[nodiscard]] std::string proc_path(int folder, std::string_view name);

/// One component: 1 to 255 bytes, no '/', no NUL, neither "." nor "..".
[[nodiscard]] bool name_is_sound(std::string_view name) noexcept;

[[nodiscard]] int handle_of(int folder, const char* name, Handle& out, int& mount);
[[nodiscard]] int handle_of(int fd, Handle& out);
/// A descriptor, or a negative errno. `mount`: any descriptor on the same mount, not O_PATH.
[[nodiscard]] int open_handle(int mount, const Handle& handle, int flags);

/// ENODATA: it has none.
[[nodiscard]] int read_mark(int folder, const std::string& name, Mark& out);
[[nodiscard]] int read_mark(int fd, Mark& out);
/// Of a path that is not followed at its end.
[[nodiscard]] int read_mark(const std::string& path, Mark& out);
[[nodiscard]] int write_mark(const std::string& path, const Mark& mark);
[[nodiscard]] int write_mark(int folder, const std::string& name, const Mark& mark);
[[nodiscard]] int write_mark(int fd, const Mark& mark); ///< also O_PATH

[[nodiscard]] std::string text(const Fid& fid); ///< 32 hexadecimal digits
[[nodiscard]] std::optional<Fid> fid_of(std::string_view text);

/// fstat, also of O_PATH.
[[nodiscard]] int attributes(int fd, struct stat& out);
[[nodiscard]] int attributes(int folder, const char* name, struct stat& out);

/// A folder that only root can look into, made where it is missing; also one that others could write to before.
[[nodiscard]] int private_folder(const std::filesystem::path& path);

/// EPERM: immutable or append-only (chattr), even root cannot change it.
[[nodiscard]] int changeable(int folder, const char* name);

[[nodiscard]] timespec to_timespec(const Time& time) noexcept;
[[nodiscard]] Time to_time(const timespec& time) noexcept;
/// Sets what has a value. Also O_PATH.
[[nodiscard]] int set_times(int fd, const std::optional<Time>& atime, const std::optional<Time>& mtime);
[[nodiscard]] int change_mode(int fd, std::uint32_t mode); ///< also O_PATH, not of a symbolic link

/// The value; an empty error is in `error`.
[[nodiscard]] std::optional<std::string> xattr(int fd, const char* name, int& error);
[[nodiscard]] int list_xattrs(int fd, std::vector<std::string>& names);
[[nodiscard]] std::optional<std::string> link_text(int fd, int& error); ///< of an O_PATH symbolic link

/// Calls `visit(name, d_type)` for each entry but "." and ".." until it gives an errno.
[[nodiscard]] int each_entry(int folder, const std::function<int(const char* name, unsigned char type)>& visit);

/// All bytes or an errno.
[[nodiscard]] int write_all(int fd, std::string_view bytes, std::uint64_t offset);
/// Up to `bytes`; fewer only at the end of the file.
[[nodiscard]] int read_up_to(int fd, std::size_t bytes, std::uint64_t offset, std::string& out);

/// Lets go of what of a file is in memory, so that it reads as the disk has it: after a sync that failed the kernel
/// calls lost pages clean, and ext4 never brings to the file what is written over them. EBUSY: others write to it all
/// the time.
[[nodiscard]] int drop_cache(int fd);

/// FS_IMMUTABLE_FL. Errors where the file system has no such flag.
[[nodiscard]] int set_immutable(int fd, bool on);

/// Of a FID these are the root's: where an inode that nobody knows yet will be wanted.
inline constexpr std::uint64_t root_bits = 0xffff;
[[nodiscard]] int random_fid(const Fid& root, Fid& out);

} // namespace stead::mirror::sys
