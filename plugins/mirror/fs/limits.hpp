// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <atomic>
#include <cstdint>
#include <limits>
#include <string>

/// The two nodes of a mirror may have different file systems: what one of them could not take, neither takes. Such a
/// change is refused before it is submitted, for the peer applies first, and its refusal is taken for a broken disk.
namespace stead::mirror {

/// What a file system takes.
struct Limits {
    std::uint64_t file_bytes{}, links{}, name_bytes{};
    std::uint64_t xattr_bytes{}; ///< the value of one attribute of an inode that has no other
};

/// With it longest values are found out.
inline constexpr const char* probed_name = "trusted.stead.probe";

/// Of the file system behind this open directory. What cannot be found out is as high as can be: its own refusal must
/// do.
[[nodiscard]] Result<Limits> probe_limits(int directory);

/// Numbers, in the order of the members. Errors: malformed; no limit is 0.
[[nodiscard]] std::string to_text(const Limits& limits);
[[nodiscard]] Result<Limits> limits_from(const std::string& text);

/// The other node's. The highest values until it has told. Any thread.
struct PeerLimits {
    static constexpr std::uint64_t none = std::numeric_limits<std::uint64_t>::max();
    std::atomic<std::uint64_t> file_bytes{none}, links{none}, name_bytes{none}, xattr_bytes{none};

    void set(const Limits& limits) noexcept {
        file_bytes = limits.file_bytes;
        links = limits.links;
        name_bytes = limits.name_bytes;
        xattr_bytes = limits.xattr_bytes;
    }
};

} // namespace stead::mirror
