// SPDX-License-Identifier: Apache-2.0
#include "zip_kinds.hpp"

#include "tree.hpp"

#include <stead/base/utf8.hpp>

#include <unistd.h>

#include <algorithm>
#include <string_view>

namespace stead::archive {

namespace {

constexpr std::uint64_t end_record_bytes = 22;
constexpr std::uint64_t entry_bytes = 46;
constexpr std::uint64_t local_entry_bytes = 30;
constexpr std::uint64_t directory_bytes_max = 16u << 20;

std::uint32_t number(std::string_view bytes, std::size_t at, int size) {
    std::uint32_t value = 0;
    for (int i = size; i-- > 0;) {
        value = value << 8 | static_cast<unsigned char>(bytes[at + static_cast<std::size_t>(i)]);
    }
    return value;
}

std::string read_at(int fd, std::uint64_t offset, std::uint64_t size) {
    std::string out(size, '\0');
    std::size_t done = 0;
    while (done < out.size()) {
        const auto got = ::pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
        if (got <= 0) {
            return {};
        }
        done += static_cast<std::size_t>(got);
    }
    return out;
}

/// The name in front of the contents, which may be another than that in the directory.
std::string local_name(int fd, std::uint64_t offset) {
    const std::string head = read_at(fd, offset, local_entry_bytes);
    return head.empty() ? head : read_at(fd, offset + local_entry_bytes, number(head, 26, 2));
}

bool is_special(std::uint32_t made_by, std::uint32_t attributes) {
    constexpr std::uint32_t unix_system = 3;
    const auto type = attributes >> 28;
    return made_by >> 8 == unix_system && type != 0 && type != 8 && type != 4 && type != 10;
}

} // namespace

std::optional<BadEntry> find_bad_entry(int fd, std::uint64_t bytes) {
    const auto tail_bytes = std::min<std::uint64_t>(bytes, 0xFFFF + end_record_bytes);
    const auto tail = read_at(fd, bytes - tail_bytes, tail_bytes);
    const auto end = tail.rfind(std::string_view{"PK\5\6", 4});
    if (end == std::string::npos || tail.size() - end < end_record_bytes) {
        return std::nullopt;
    }
    const std::uint64_t size = number(tail, end + 12, 4);
    const std::uint64_t offset = number(tail, end + 16, 4);
    if (size > directory_bytes_max || offset > bytes || size > bytes - offset) {
        return std::nullopt;
    }
    const auto directory = read_at(fd, offset, size);
    for (std::size_t at = 0; at + entry_bytes <= directory.size();) {
        if (std::string_view{directory}.substr(at, 4) != std::string_view{"PK\1\2", 4}) {
            return std::nullopt;
        }
        const std::size_t name_bytes = number(directory, at + 28, 2);
        const std::size_t extra = number(directory, at + 30, 2) + number(directory, at + 32, 2);
        const std::string name = directory.substr(at + entry_bytes, name_bytes);
        if (is_special(number(directory, at + 4, 2), number(directory, at + 38, 4))) {
            return BadEntry{name, "is a device, pipe or socket; allowed: files, folders, symbolic links"};
        }
        for (const std::string& each : {name, local_name(fd, number(directory, at + 42, 4))}) {
            if (each.find('\0') != each.npos) {
                return BadEntry{each, "has a NUL byte in its name; pack the module again under another name"};
            }
            if (!is_utf8(each)) {
                return BadEntry{each, not_utf8};
            }
        }
        at += entry_bytes + name_bytes + extra;
    }
    return std::nullopt;
}

} // namespace stead::archive
