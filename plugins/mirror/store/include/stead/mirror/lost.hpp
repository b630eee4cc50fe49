// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

/// What a node lost when it became the target of a resync after a split: kept by Tree::end_resync(true). Works
/// whether the tree is open or not, and in another process. Not thread-safe for one `state` folder.
namespace stead::mirror {

struct LostItem {
    std::string path;      ///< absolute, where it was
    std::uint32_t type{};  ///< S_IFMT bits
    bool whole{};          ///< its last name was taken away and all of it is kept; else parts of it were overwritten
    bool again{};          ///< another name (hard link) of an item, or of something inside a whole directory
    std::uint64_t zones{}; ///< of what was overwritten, how many zones are kept
};
struct LostSet {
    std::uint64_t number{};
    std::vector<LostItem> items; ///< by path
};

/// `state`: the folder of Tree::Options. Oldest first. Errors name the file.
[[nodiscard]] Result<std::vector<LostSet>> list_lost(const std::filesystem::path& state);

/// Writes the old content under `to` + the old path: a whole item with all below it; of an overwritten file, today's
/// content with the old zones put back and the old size and attributes. What had several names has them again where the
/// file system of `to` has hard links; elsewhere each is a copy. `to` is made; a path that exists there is an
/// error. Gives the number of items.
[[nodiscard]] Result<std::size_t> export_lost(const std::filesystem::path& state, std::uint64_t number,
                                              const std::filesystem::path& to);

/// Removes one for good. Errors: not_found.
[[nodiscard]] Result<void> drop_lost(const std::filesystem::path& state, std::uint64_t number);

} // namespace stead::mirror
