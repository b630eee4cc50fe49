// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

/// `.safe` packages: zip files that hold a module. Every byte of one is hostile until checked.
///
/// Threading: every function may be called from any thread, and blocks on the disk.
/// Errors:    `where` is the package (and the entry in it), `what` says what is wrong and what is allowed.
namespace stead::archive {

inline constexpr std::size_t entries_max = 10'000;
inline constexpr std::uint64_t file_bytes_max = 64ull << 20;
inline constexpr std::uint64_t total_bytes_max = 256ull << 20;
inline constexpr std::uint64_t package_bytes_max = 256ull << 20;
inline constexpr std::uint64_t ratio_max = 200; ///< unpacked to packed bytes of the whole, once above 8 MiB
inline constexpr std::size_t name_bytes_max = 255; ///< of one component, and 1024 for a whole path
inline constexpr std::size_t path_bytes_max = 1024;
inline constexpr std::size_t depth_max = 32;

struct Entry {
    std::string path;      ///< relative to the module's folder, '/' between components
    std::uint64_t bytes{}; ///< 0 for folders and links
    std::uint32_t mode{};  ///< permission bits as they are, or will be, on disk
    char kind{};           ///< 'f' file, 'd' folder, 'l' symbolic link
    std::string target;    ///< of a link
};

struct Summary {
    std::string name;           ///< the one top-level folder of the package, or "" when it has none
    std::vector<Entry> entries; ///< sorted by path
    std::uint64_t bytes{};      ///< of all files
};

enum class Replace : bool { no, yes };

/// Unpacks `safe_file` as the folder `destination` (its parent must exist): into a fresh folder beside it, checked,
/// synced, then renamed into place in one step. On error nothing is left behind, and an old `destination` is untouched.
/// Refuses whatever could reach outside the folder or fill the disk; the limits are the constants above.
/// Errors: not_found (no such package), conflict (destination exists and `replace` is no), malformed (not a module
/// package), out_of_range (a limit), refused (unsafe content), io.
[[nodiscard]] Result<Summary> install(const std::filesystem::path& safe_file, const std::filesystem::path& destination,
                                      Replace replace = Replace::no);

/// Writes the module folder as a package: equal trees give equal bytes. The file appears complete or not at all.
/// `name`: the top-level folder within the package; "" for none. Symbolic links that stay in the tree are kept.
[[nodiscard]] Result<Summary> package(const std::filesystem::path& folder, const std::filesystem::path& safe_file,
                                      const std::string& name = "");

/// Any folder as a zip, by the rules and limits of package() but that it need not be a module.
[[nodiscard]] Result<Summary> pack_folder(const std::filesystem::path& folder, const std::filesystem::path& zip_file,
                                          const std::string& name = "");

/// Removes what an install() whose process was killed left in `folder`, the parent of its destination, and returns the
/// paths. What a running install() uses stays.
[[nodiscard]] std::vector<std::filesystem::path> remove_leftovers(const std::filesystem::path& folder);

/// What install would write, with the same checks, without writing.
[[nodiscard]] Result<Summary> list(const std::filesystem::path& safe_file);

} // namespace stead::archive
