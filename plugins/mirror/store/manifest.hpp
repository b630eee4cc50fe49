// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "inodes.hpp"
#include "scan.hpp"

#include <filesystem>
#include <vector>

namespace stead::mirror {

/// What the tree looked like when it was closed: of each inode its handle, size, and time of last change. An inode that
/// somebody changed meanwhile differs. One file, written at once, with a checksum.
class Manifest {
public:
    /// From the index. Errors: the file, or an inode that cannot be looked at.
    [[nodiscard]] static Result<void> write(const std::filesystem::path& file, const Inodes& inodes);
    [[nodiscard]] static Result<void> remove(const std::filesystem::path& file);

    enum class State : std::uint8_t { missing, damaged, sound };
    State load(const std::filesystem::path& file);

    /// The inode had this FID at close().
    [[nodiscard]] bool owns(const Fid& fid, const sys::Handle& handle) const;
    enum class Verdict : std::uint8_t { same, changed, unknown };
    /// And notes that it is there. Thread-safe.
    [[nodiscard]] Verdict compare(const Seen& seen);
    /// At close(); 0 when it was not there.
    [[nodiscard]] std::uint64_t size_of(const Fid& fid) const;
    /// Those that compare() never saw.
    [[nodiscard]] std::vector<Fid> gone() const;

private:
    struct Entry {
        Fid fid;
        std::uint64_t stamp{}, size{};
        sys::Handle handle;
        std::uint8_t there{}; ///< compare() saw it
        std::uint8_t zero{};
    };
    static_assert(sizeof(Entry) == 56, "the file is an array of these");
    /// `root`: it is one, open; -1 otherwise.
    [[nodiscard]] static Entry entry_of(const Located& located, const struct stat& attributes, int root);
    [[nodiscard]] const Entry* find(const Fid& fid) const;
    [[nodiscard]] static int collect(const Inodes& inodes, std::size_t shard, std::vector<Entry>& out);

    std::vector<Entry> entries_; ///< by FID
};

} // namespace stead::mirror
