// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/messages.hpp>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

/// What the core's Operation, Copy and undo entries contain: changes of a tree, and the content of its targets.
/// Units: bytes; modes as in <sys/stat.h>, S_IFMT included where an inode is made. Names are any bytes but '/' and NUL.
namespace stead::mirror {

inline constexpr std::uint64_t zones_per_extent = 64; ///< an extent of the change log = 4 MiB
/// Zones that one operation names at most beside those at its ends: 1 GiB.
inline constexpr std::uint64_t operation_zones_max = 16 * 1024;

/// CLOCK_REALTIME of the serving node. Set as mtime on both nodes, so that both have the same; decides nothing.
struct Time {
    std::int64_t seconds{};
    std::uint32_t nanoseconds{};
    auto operator<=>(const Time&) const = default;
};

namespace change {

struct Write {
    Fid file;
    std::uint64_t offset{};
    std::string data;
    bool kill_privileges{}; ///< clear set-uid, set-gid and security.capability
};
/// Sets what has a value.
struct Attributes {
    enum Set : std::uint32_t {
        mode_set = 1,
        owner_set = 2,
        group_set = 4,
        size_set = 8,
        atime_set = 16,
        mtime_set = 32
    };
    Fid inode;
    std::uint32_t set{};
    std::uint32_t mode{}, owner{}, group{};
    std::uint64_t size{};
    Time atime, mtime;
    bool kill_privileges{};
};
/// A new inode with its first name. `mode` is final (umask applied, unless the parent has a default ACL).
struct Make {
    Fid parent;
    std::string name;
    Fid inode;
    std::uint32_t mode{}, owner{}, group{};
    std::uint64_t device{};
    std::string link; ///< of a symlink: where it points
};
struct Link {
    Fid inode, parent;
    std::string name;
};
struct Remove {
    Fid parent;
    std::string name;
    Fid inode;
    bool directory{};
};
struct Rename {
    Fid parent;
    std::string name;
    Fid new_parent;
    std::string new_name;
    std::uint32_t flags{}; ///< RENAME_NOREPLACE, RENAME_EXCHANGE
    Fid inode;
    Fid replaced; ///< zero = the new name was free
};
struct SetXattr {
    Fid inode;
    std::string name, value;
};
struct RemoveXattr {
    Fid inode;
    std::string name;
};
struct Allocate {
    Fid file;
    std::uint32_t mode{}; ///< FALLOC_FL_*
    std::uint64_t offset{}, length{};
    bool kill_privileges{};
};

} // namespace change

namespace copy {

struct ZoneRange {
    std::uint64_t first{}, count{};
    bool operator==(const ZoneRange&) const = default;
};
/// All names of a directory; what is not in it goes.
struct Listing {
    struct Entry {
        std::string name;
        Fid inode;
        std::uint32_t type{}; ///< S_IFMT bits
        std::uint64_t device{};
        std::string link; ///< of a symlink
        bool operator==(const Entry&) const = default;
    };
    std::vector<Entry> entries; ///< by name
    bool operator==(const Listing&) const = default;
};
/// Everything of an inode but its bytes and names. Not atime, ctime or inode number.
struct Inode {
    std::uint32_t mode{}, owner{}, group{};
    std::uint64_t device{};
    std::uint64_t size{}; ///< of a regular file
    Time mtime;
    std::string link;
    std::vector<std::pair<std::string, std::string>> xattrs; ///< by name; trusted.stead.* left out
    /// Of a regular file: the zones that hold data (SEEK_DATA, rounded outwards), ascending, not touching. Every other
    /// zone up to the end is a hole, and Tree::store() makes it one: a file that was cut and grew again, or had a hole
    /// punched, names no zone for what is zero now. Not in Tree::digest(): how space is allocated may differ.
    std::vector<ZoneRange> data;
    bool operator==(const Inode&) const = default;
};
/// The bytes of a zone up to the end of the file. Trailing zeros are left out: a hole is empty.
struct Zone {
    std::uint64_t length{}; ///< up to zone_bytes; what `data` lacks of it is zero
    std::string data;
    bool operator==(const Zone&) const = default;
};

} // namespace copy

struct Content {
    Time at; ///< of a change: when
    std::variant<std::monostate, change::Write, change::Attributes, change::Make, change::Link, change::Remove,
                 change::Rename, change::SetXattr, change::RemoveXattr, change::Allocate, copy::Listing, copy::Inode,
                 copy::Zone>
        what;
};

/// Everything that the change may alter, as the core accounts it: an operation made of `content`. `durable` as in
/// O_SYNC. `content` is a change that check() (codec.hpp) accepts. What a truncation cuts off is not named but for the
/// zone of the new end: the size in the inode's copy cuts it off there too, and its `data` empties what has grown back.
[[nodiscard]] Operation operation_of(Content content, bool durable = false);
/// fsync of an inode.
[[nodiscard]] Operation sync_of(const Fid& inode);

} // namespace stead::mirror
