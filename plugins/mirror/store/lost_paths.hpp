// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "undo_log.hpp"

#include <map>

namespace stead::mirror {

/// Folder "lost-<number>" in the state folder: `undo`, as the resync left it, and `paths`, which says where its
/// inodes were and are. Beside the data, in the folder aside, "lost-<number>" holds whole inodes under their FID.
struct LostPath {
    Fid fid;
    bool whole{};
    std::string was; ///< absolute
    std::string now; ///< absolute; empty: no name any more
    bool again{};    ///< another name of an inode that is in the set already, by itself or inside a whole directory
};

inline constexpr std::size_t lost_paths_bytes_max = std::size_t{1} << 30;

[[nodiscard]] std::string lost_folder(std::uint64_t number);
[[nodiscard]] std::vector<std::uint64_t> lost_numbers(const std::filesystem::path& state);
[[nodiscard]] std::string encode_lost_paths(const std::vector<LostPath>& paths);
[[nodiscard]] Result<std::vector<LostPath>> decode_lost_paths(const std::string& where, std::string_view bytes);

} // namespace stead::mirror
