// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace stead::archive {

/// libarchive turns a pipe in a zip into a file; we would rather say no. The name of the first entry of the zip's own
/// directory that is no file, folder or symbolic link. A directory that cannot be read is left for libarchive to judge.
[[nodiscard]] std::optional<std::string> find_special_entry(int fd, std::uint64_t bytes);

} // namespace stead::archive
