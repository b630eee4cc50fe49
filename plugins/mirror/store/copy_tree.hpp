// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace stead::mirror {

/// Copies an inode with all below it: bytes, names, owners, modes, times and foreign extended attributes where the
/// other file system knows them; not hard links, not our own marks. 0 or an errno; EEXIST when `to` exists. As deep
/// as descriptors last: four for each level.
[[nodiscard]] int copy_tree(const std::filesystem::path& from, const std::filesystem::path& to);
/// A whole file into an empty one; what is zero for 1 MiB stays a hole.
[[nodiscard]] int copy_bytes(int from, int to);

} // namespace stead::mirror
