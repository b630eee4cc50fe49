// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "system.hpp"

#include <stead/mirror/tree.hpp>

#include <filesystem>
#include <optional>
#include <set>
#include <vector>

namespace stead::mirror {

/// Old content of what a resync overwrites, in one file that only grows. Each batch is durable before append()
/// returns, so a damaged tail was never acted on; damage before it is an error. One thread at a time.
class UndoLog {
public:
    struct Entry {
        Target target;
        bool there{}; ///< false: the target did not exist
        std::uint64_t offset{};
        std::uint32_t length{};
    };
    struct Saved {
        Target target;
        std::optional<Content> content;
    };

    /// Loads what a life before this one left, if anything.
    [[nodiscard]] Errno load(const std::filesystem::path& path);
    /// For reading only, also of a log that is not a tree's any more.
    [[nodiscard]] Errno start(const std::filesystem::path& path); ///< a new, empty one
    void close() noexcept;

    [[nodiscard]] bool active() const noexcept { return static_cast<bool>(file_); }
    [[nodiscard]] bool damaged() const noexcept { return damaged_; }
    [[nodiscard]] bool has(const Target& target) const { return saved_.contains(target); }
    [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }
    [[nodiscard]] Errno append(const std::vector<Saved>& batch);
    [[nodiscard]] Errno read(const Entry& entry, Content& out) const;

private:
    [[nodiscard]] Errno scan(std::uint64_t size);
    [[nodiscard]] bool later_batch_after(std::uint64_t offset, std::uint64_t size, std::uint64_t batch) const;

    Fd file_;
    std::uint64_t end_{}, batch_{};
    bool damaged_{};
    std::vector<Entry> entries_;
    std::set<Target> saved_;
};

} // namespace stead::mirror
