// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/types.hpp>

#include <filesystem>
#include <map>
#include <set>
#include <string>

#include <sys/stat.h>

namespace stead::mirror {

/// What was written out so far and has, or may have, further names. Where these cannot be links, they become copies.
class Copies {
public:
    void has_more_names(const Fid& fid);
    void made(const Fid& fid, const std::filesystem::path& path); ///< noted if it has more names
    void made_folder(const std::filesystem::path& path) { folders_.insert(path); }
    [[nodiscard]] bool has_folder(const std::filesystem::path& path) const { return folders_.contains(path); }
    /// `path` = `name` in `folder`. True: it is there now. False: it was not made yet, or links are not possible there.
    [[nodiscard]] bool link(const Fid& fid, int folder, const std::string& name,
                            const std::filesystem::path& path) const;
    /// A link or a copy, if it was made. An errno.
    [[nodiscard]] int name_again(const Fid& fid, const std::filesystem::path& to);

private:
    std::map<Fid, std::filesystem::path> made_;
    std::set<std::filesystem::path> folders_;
};

/// Copies an inode with all below it: bytes, names, owners, modes, times and foreign extended attributes where the
/// other file system knows them; not our own marks. 0 or an errno; EEXIST when `to` exists. As deep as descriptors
/// last: four for each level.
[[nodiscard]] int copy_tree(const std::filesystem::path& from, const std::filesystem::path& to, Copies& copies);
/// Owner, mode, times and foreign extended attributes. 0 or an errno.
[[nodiscard]] int copy_attributes(int from, int to, const struct stat& attributes);
/// A whole file into an empty one; what is zero for 1 MiB stays a hole.
[[nodiscard]] int copy_bytes(int from, int to);

} // namespace stead::mirror
