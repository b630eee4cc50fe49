// SPDX-License-Identifier: Apache-2.0
#include "codec.hpp"

#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>

/// What a content may say at all, whoever says it.
namespace stead::mirror {
namespace {

using namespace codec_limits;
using codec::malformed;

constexpr std::uint32_t attributes_all = 63;
constexpr std::uint32_t rename_flags = 1 | 2; // RENAME_NOREPLACE, RENAME_EXCHANGE
constexpr std::uint32_t allocate_modes =
    FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_UNSHARE_RANGE;

bool is_type(std::uint32_t type) noexcept {
    return type == S_IFREG || type == S_IFDIR || type == S_IFLNK || type == S_IFIFO || type == S_IFSOCK ||
           type == S_IFCHR || type == S_IFBLK;
}

Result<void> too_large(const char* what, std::uint64_t value, std::uint64_t allowed) {
    return malformed(std::string{what} + " " + std::to_string(value) + ", up to " + std::to_string(allowed) +
                     " is allowed");
}

Result<void> good_name(const std::string& name) {
    if (name.empty() || name.size() > name_max) {
        return malformed("name of " + std::to_string(name.size()) + " bytes, 1 to " + std::to_string(name_max) +
                         " are allowed");
    }
    if (name == "." || name == ".." || name.find('/') != std::string::npos || name.find('\0') != std::string::npos) {
        return malformed("name that is '.' or '..' or has a '/' or NUL in it");
    }
    return {};
}

/// Ours are how an inode is told apart: nobody sets or removes them from afar.
Result<void> good_xattr(const std::string& name, std::size_t value_bytes) {
    if (name.empty() || name.size() > name_max || name.find('\0') != std::string::npos ||
        name.starts_with("trusted.stead.")) {
        return malformed("xattr name of " + std::to_string(name.size()) + " bytes, 1 to " + std::to_string(name_max) +
                         " are allowed, no NUL, not trusted.stead.*");
    }
    return value_bytes > xattr_value_max ? too_large("xattr value of bytes", value_bytes, xattr_value_max)
                                         : Result<void>{};
}

/// Device and target of a link belong to some types only.
Result<void> good_inode(std::uint32_t type, std::uint64_t device, const std::string& link) {
    if (!is_type(type)) {
        return malformed("file type " + std::to_string(type) + " is none");
    }
    if (S_ISLNK(type) ? link.empty() || link.size() > link_max || link.find('\0') != std::string::npos
                      : !link.empty()) {
        return malformed("link of " + std::to_string(link.size()) + " bytes; a symlink's has 1 to " +
                         std::to_string(link_max) + " and no NUL, nothing else has one");
    }
    if (device != 0 && !S_ISCHR(type) && !S_ISBLK(type)) {
        return malformed("device number of what is no device");
    }
    return {};
}

Result<void> good_mode(std::uint32_t mode) {
    return (mode & ~std::uint32_t{S_IFMT | 07777}) == 0 ? Result<void>{} : too_large("mode", mode, S_IFMT | 07777);
}

Result<void> good_time(const Time& time) {
    return time.nanoseconds < 1'000'000'000 ? Result<void>{} : too_large("nanoseconds", time.nanoseconds, 999'999'999);
}

Result<void> good_range(std::uint64_t offset, std::uint64_t length) {
    return offset <= file_max && length <= file_max - offset
               ? Result<void>{}
               : malformed("bytes " + std::to_string(offset) + " and " + std::to_string(length) +
                           " on; files end at 2^63 - 1");
}

Result<void> first_error(std::initializer_list<Result<void>> results) {
    const auto bad = std::find_if(results.begin(), results.end(), [](const auto& one) { return !one; });
    return bad == results.end() ? Result<void>{} : *bad;
}

struct Checker {
    Result<void> operator()(const std::monostate&) const { return malformed("content that says nothing"); }
    Result<void> operator()(const change::Write& what) const {
        return what.data.size() > write_max ? too_large("write of bytes", what.data.size(), write_max)
                                            : good_range(what.offset, what.data.size());
    }
    Result<void> operator()(const change::Attributes& what) const {
        if ((what.set & ~attributes_all) != 0) {
            return too_large("attributes to set", what.set, attributes_all);
        }
        return first_error(
            {good_mode(what.mode), good_range(what.size, 0), good_time(what.atime), good_time(what.mtime)});
    }
    Result<void> operator()(const change::Make& what) const {
        return first_error(
            {good_name(what.name), good_mode(what.mode), good_inode(what.mode & S_IFMT, what.device, what.link)});
    }
    Result<void> operator()(const change::Link& what) const { return good_name(what.name); }
    Result<void> operator()(const change::Remove& what) const { return good_name(what.name); }
    Result<void> operator()(const change::Rename& what) const {
        if ((what.flags & ~rename_flags) != 0 || what.flags == rename_flags) {
            return malformed("rename with flags " + std::to_string(what.flags) + ", 0, 1 and 2 are allowed");
        }
        return first_error({good_name(what.name), good_name(what.new_name)});
    }
    Result<void> operator()(const change::SetXattr& what) const { return good_xattr(what.name, what.value.size()); }
    Result<void> operator()(const change::RemoveXattr& what) const { return good_xattr(what.name, 0); }
    Result<void> operator()(const change::Allocate& what) const {
        return (what.mode & ~std::uint32_t{allocate_modes}) != 0
                   ? malformed("fallocate mode " + std::to_string(what.mode) + "; keep size, punch hole, zero range " +
                               "and unshare range are allowed")
                   : good_range(what.offset, what.length);
    }
    Result<void> operator()(const copy::Listing& what) const {
        const std::string* before = nullptr;
        std::size_t bytes = 0;
        for (const copy::Listing::Entry& entry : what.entries) {
            if (auto good = first_error({good_name(entry.name), good_inode(entry.type, entry.device, entry.link)});
                !good) {
                return good;
            }
            if (before != nullptr && entry.name <= *before) {
                return malformed("listing that is not by name, or has one twice");
            }
            before = &entry.name;
            bytes += 29 + entry.name.size() + (entry.link.empty() ? 0 : 3 + entry.link.size()) +
                     (entry.device == 0 ? 0 : 11); // as encoded, or a little more
        }
        return bytes > bulk_max ? too_large("listing of bytes", bytes, bulk_max) : Result<void>{};
    }
    Result<void> operator()(const copy::Inode& what) const {
        const std::string* before = nullptr;
        std::size_t bytes = 0;
        for (const auto& [name, value] : what.xattrs) {
            if (auto good = good_xattr(name, value.size()); !good) {
                return good;
            }
            if (before != nullptr && name <= *before) {
                return malformed("xattrs that are not by name, or one twice");
            }
            before = &name;
            bytes += 11 + name.size() + value.size();
        }
        if (bytes > bulk_max || what.data.size() > ranges_max) {
            return malformed("inode with " + std::to_string(bytes) + " bytes of xattrs and " +
                             std::to_string(what.data.size()) + " ranges of data, up to " + std::to_string(bulk_max) +
                             " and " + std::to_string(ranges_max) + " are allowed");
        }
        std::uint64_t end = 0;
        for (const copy::ZoneRange& range : what.data) {
            if (range.count == 0 || range.first < end || (end != 0 && range.first == end) ||
                range.first > file_max / zone_bytes || range.count > file_max / zone_bytes + 1 - range.first) {
                return malformed("zones with data that are empty, overlap, touch or lie behind 2^63 - 1");
            }
            end = range.first + range.count;
        }
        return first_error({good_mode(what.mode), good_inode(what.mode & S_IFMT, what.device, what.link),
                            good_range(what.size, 0), good_time(what.mtime)});
    }
    Result<void> operator()(const copy::Zone& what) const {
        return what.length > zone_bytes || what.data.size() > what.length
                   ? malformed("zone of length " + std::to_string(what.length) + " with " +
                               std::to_string(what.data.size()) + " bytes; up to " + std::to_string(zone_bytes) +
                               ", and no more bytes than its length, are allowed")
                   : Result<void>{};
    }
};

} // namespace

Result<void> check(const Content& content) {
    if (auto good = good_time(content.at); !good) {
        return good;
    }
    return std::visit(Checker{}, content.what);
}

} // namespace stead::mirror
