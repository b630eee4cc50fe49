// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "system.hpp"

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include <sys/stat.h>

namespace stead::mirror {

/// Where an inode is. A million of them take about 55 MB.
struct Located {
    Fid fid; ///< zero: a free slot
    sys::Handle handle;
    std::uint8_t root{};
    std::uint8_t kind : 4 {}; ///< S_IFMT >> 12
    std::uint8_t excluded : 1 {};
    std::uint8_t incomplete : 1 {}; ///< made empty by a resync that has not filled it yet

    [[nodiscard]] std::uint32_t type() const noexcept { return static_cast<std::uint32_t>(kind) << 12; }
    [[nodiscard]] bool is_directory() const noexcept { return type() == S_IFDIR; }
    [[nodiscard]] bool is_file() const noexcept { return type() == S_IFREG; }
};
static_assert(sizeof(Located) == 40, "the index must hold millions");

/// FID -> inode. Thread-safe.
class Index {
public:
    [[nodiscard]] std::optional<Located> find(const Fid& fid) const;
    void put(const Located& located); ///< adds or replaces
    /// Adds, unless the FID is there: gives what is there.
    [[nodiscard]] std::optional<Located> add(const Located& located);
    void erase(const Fid& fid);
    void complete(const Fid& fid); ///< clears `incomplete`
    [[nodiscard]] std::size_t size() const;
    static constexpr std::size_t shards = 64;
    [[nodiscard]] std::vector<Located> shard(std::size_t number) const; ///< a copy of a part of it

private:
    /// Open addressing with linear probing; grows by half, so that no more than that is ever empty.
    struct Shard {
        mutable std::mutex mutex;
        std::vector<Located> slots;
        std::size_t used{};

        [[nodiscard]] std::size_t home(const Fid& fid) const noexcept;
        [[nodiscard]] std::size_t slot(const Fid& fid) const noexcept; ///< its own, or the free one where it belongs
        void grow();
        void insert(const Located& located);
    };
    [[nodiscard]] static std::size_t shard_of(const Fid& fid) noexcept;
    std::array<Shard, shards> shards_;
};

} // namespace stead::mirror
