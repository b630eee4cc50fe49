// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "inodes.hpp"

#include <functional>
#include <map>

namespace stead::mirror {

/// What a scan tells about each inode (once per name).
struct Seen {
    Located located;
    Fid parent;   ///< of this name; zero where it is a root or parked
    bool fresh{}; ///< had no FID of its own until now
    int root{-1}; ///< it is one, open
    bool parked{}; ///< in the park, or below something there
    struct stat attributes {};
};

struct ScanOptions {
    bool attributes{}; ///< fill Seen::attributes: one more system call per name
    /// Called from several threads. May be empty.
    std::function<void(const Seen&)> seen;
    /// Which of two inodes with one FID has it by right; the other gets a new one (a copy made with its extended
    /// attributes).
    std::function<bool(const Fid&, const sys::Handle&)> owns;
};

/// Fills the index of `inodes` with all inodes of all roots, gives a FID to those without, and finds what is parked.
/// Errors: a sub-mount, or what the file system says, with the path.
[[nodiscard]] Result<void> scan(Inodes& inodes, const ScanOptions& options, std::map<Fid, Seq>& parked);

/// Name in the park, and back.
[[nodiscard]] std::string park_name(Seq seq, const Fid& fid);
[[nodiscard]] bool parse_park_name(std::string_view name, Seq& seq, Fid& fid);

} // namespace stead::mirror
