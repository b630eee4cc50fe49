// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/mirror/types.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

/// What the kernel knows of: inodes by FID, and open files.
namespace stead::mirror::front {

/// An inode that the kernel holds a reference to. Its address is its FUSE node id. There may be a million, so it is
/// small and holds no descriptor, except of an inode that loses its last name.
struct Node {
    explicit Node(const Fid& name, bool local) : fid(name), excluded(local) {}
    const Fid fid;
    const bool excluded;                ///< not replicated: changed on this node only
    std::atomic<bool> gone{};           ///< no name left; reachable only through `keeper` and open files
    std::atomic<bool> no_set_ids{};     ///< has no set-uid or set-gid bit that a write would take away
    std::atomic<bool> no_default_acl{}; ///< of a directory
    bool leaving{};                     ///< its last name is being removed
    std::uint32_t pending{};            ///< changes on their way that need it to be there
    std::uint64_t lookups{};
    Fd keeper; ///< O_PATH; once set it stays
    using Waiting = std::vector<std::function<void()>>;
    std::unique_ptr<Waiting> waiting; ///< for the end of `leaving`, or for `pending` to become 0
};

/// An open file or directory.
struct Handle {
    Fd fd;
    std::mutex reading;       ///< of a directory: one position
    std::uint64_t position{}; ///< of a directory: where `fd` stands
};

/// Threading: any thread. A Node lives until the kernel forgot all its lookups; every request on it holds one.
class Nodes {
public:
    /// Counts one lookup. `excluded` is what the tree says of a node that is new here.
    Node& acquire(const Fid& fid, bool excluded);
    void forget(Node& node, std::uint64_t lookups) noexcept;
    [[nodiscard]] std::size_t size() const;

    /// Runs `go` at once, or after the removal of the inode's last name that is under way. share_end() must follow.
    void share(Node& node, std::function<void()> go);
    void share_end(Node& node);
    /// Runs `go` when no change that needs the inode is on its way; later ones wait for leave_end(). The kernel's lock
    /// of the inode allows one caller at a time.
    void leave(Node& node, std::function<void()> go);
    void leave_end(Node& node, bool gone);
    /// Forgets who waits, at the end of the mount.
    void drop_waiting() noexcept;
    /// Sets the keeper unless there is one, and says which descriptor it is; -1 when there is none.
    int keep(Node& node, Fd fd) noexcept;
    [[nodiscard]] int keeper(const Node& node) const noexcept;

    Handle& open(Fd fd);
    void close(Handle& handle) noexcept;
    [[nodiscard]] std::size_t handles() const;

private:
    struct Hash {
        std::size_t operator()(const Fid& fid) const noexcept { return fid.low ^ (fid.high * 0x9e3779b97f4a7c15ULL); }
    };
    struct alignas(64) Shard {
        mutable std::mutex mutex;
        std::unordered_map<Fid, std::unique_ptr<Node>, Hash> nodes;
    };
    [[nodiscard]] Shard& shard(const Fid& fid) noexcept { return shards_[Hash{}(fid) % shards_.size()]; }
    [[nodiscard]] const Shard& shard(const Fid& fid) const noexcept { return shards_[Hash{}(fid) % shards_.size()]; }

    std::array<Shard, 61> shards_;
    mutable std::mutex handles_mutex_;
    std::unordered_map<Handle*, std::unique_ptr<Handle>> handles_;
};

} // namespace stead::mirror::front
