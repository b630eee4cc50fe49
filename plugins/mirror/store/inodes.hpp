// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "exclusions.hpp"
#include "index.hpp"
#include "place.hpp"

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace stead::mirror {

struct FidHash {
    std::size_t operator()(const Fid& fid) const noexcept { return fid.low ^ fid.high * 0x9e3779b97f4a7c15u; }
};

/// One replicated directory, open.
struct OpenRoot {
    Root options;
    Place place;
    Exclusions exclusions;
    Fid fid;
    int mount_id{}; ///< of everything below it
};

/// What stands in a descriptor of which open() (below) has made none. "Gone" (ESTALE) is only one reason: who takes
/// another one for it loses what is there.
[[nodiscard]] inline Errno open_error(const Fd& fd) noexcept { return fd ? 0 : -fd.get(); }

/// An inode that is kept open: a directory (O_RDONLY) or a regular file (O_RDWR).
class OpenInode {
public:
    explicit OpenInode(Fd fd) noexcept : fd_(std::move(fd)) {}
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    /// After a write: the modification time becomes `at`, but never goes back, for writes to different zones may be
    /// applied in different orders on the two nodes, and both must end with the same time. Unless it goes back by more
    /// than any write is late: then the clock was set back, and the other node may not remember the later time.
    [[nodiscard]] int written(const Time& at);
    void forget_time();
    /// The time was set on purpose, or a whole-inode change gave it: later writes count from here.
    [[nodiscard]] int set_mtime(const std::optional<Time>& atime, const std::optional<Time>& mtime);
    /// Runs `change(fd)`, which alters bytes and must not alter the time.
    [[nodiscard]] int preserving_mtime(const std::function<int(int fd)>& change);

private:
    Fd fd_;
    std::mutex times_;
    Time last_;
};
using InodeRef = std::shared_ptr<OpenInode>;

/// All inodes of all roots, and how to open them. Thread-safe.
class Inodes {
public:
    explicit Inodes(std::size_t open_max);

    Index index;
    std::vector<std::unique_ptr<OpenRoot>> roots;

    /// A descriptor or a negative errno: -ESTALE when there is no such inode; -ENXIO for a device, fifo or socket
    /// without O_PATH.
    [[nodiscard]] int open(const Fid& fid, int flags) const;
    [[nodiscard]] int open(const Located& located, int flags) const;
    /// A directory or regular file, from the cache. On failure nullptr and an errno: ESTALE, ENOTDIR or EISDIR for
    /// another kind.
    [[nodiscard]] InodeRef directory(const Fid& fid, int& error) const;
    [[nodiscard]] InodeRef file(const Fid& fid, int& error) const;
    /// Keeps what a caller has just opened.
    void keep(const Fid& fid, Fd fd) const;
    void forget(const Fid& fid) const; ///< closes it as soon as nobody uses it
    void forget_all() const;
    void forget_times() const; ///< see OpenInode::written()

    /// An inode lost its last name. It stays in the index while somebody has it open.
    void unlinked(const Fid& fid);

    /// Path of a directory below its root ("" = the root itself); an error when it is not below it (parked).
    [[nodiscard]] int path_of(const Located& directory, std::string& out) const;
    /// Of a name in a directory.
    [[nodiscard]] bool excluded(const Located& parent, const std::string& name) const;
    /// Where a directory hangs: its parent, open, and its name there.
    [[nodiscard]] int parent_of(int directory, Fd& parent, std::string& name) const;

private:
    struct Cached {
        Fid fid;
        InodeRef inode;
    };
    [[nodiscard]] InodeRef cached(const Fid& fid) const;
    [[nodiscard]] InodeRef keep_shared(const Fid& fid, Fd fd) const;
    [[nodiscard]] InodeRef get(const Fid& fid, std::uint32_t type, int flags, int& error) const;
    [[nodiscard]] int climb(const OpenRoot& root, int directory, std::string& out) const;

    const std::size_t open_max_;
    mutable std::mutex mutex_;
    mutable std::list<Cached> recent_; ///< newest first
    mutable std::unordered_map<Fid, std::list<Cached>::iterator, FidHash> open_;
    std::mutex ghosts_mutex_;
    std::vector<Fid> ghosts_; ///< without a name
    std::size_t sweep_at_{1024};
};

} // namespace stead::mirror
