// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace stead::archive {

struct BadEntry {
    std::string name;
    const char* why; ///< the end of a message
};

/// What libarchive would hide: it turns a pipe into a file, and ends a name at its first NUL byte. The first entry of
/// the zip's own directory that is no file, folder or symbolic link, or whose name no file of ours may have. A
/// directory that cannot be read is left for libarchive to judge.
[[nodiscard]] std::optional<BadEntry> find_bad_entry(int fd, std::uint64_t bytes);

} // namespace stead::archive
