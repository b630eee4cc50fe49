// SPDX-License-Identifier: Apache-2.0
#include "limits.hpp"

#include <stead/base/files.hpp>

#include <linux/magic.h>

#include <cerrno>
#include <sstream>

#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace stead::mirror {
namespace {

/// The highest number that `holds`, of those below twice `highest_bit`.
template <class Holds>
std::uint64_t highest(std::uint64_t highest_bit, const Holds& holds) {
    std::uint64_t found = 0;
    for (std::uint64_t bit = highest_bit; bit != 0; bit >>= 1) {
        found |= holds(found | bit) ? bit : 0;
    }
    return found;
}

std::uint64_t longest_xattr(int scratch) {
    const std::string fid(16, 'x'); // as each inode of a mirror has one
    if (::fsetxattr(scratch, "trusted.stead.fid", fid.data(), fid.size(), 0) != 0) {
        return XATTR_SIZE_MAX;
    }
    return highest(XATTR_SIZE_MAX / 2, [&](std::uint64_t size) {
        const std::string value(size, 'x');
        return ::fsetxattr(scratch, probed_name, value.data(), value.size(), 0) == 0;
    });
}

} // namespace

Result<Limits> probe_limits(int directory) {
    struct statvfs volume {};
    struct statfs kind {};
    if (fstatvfs(directory, &volume) != 0 || fstatfs(directory, &kind) != 0) {
        return os_error("", "cannot ask the backing file system for its limits", errno);
    }
    constexpr std::uint64_t ext4_links = 65000; // of a file; its directories have no limit
    Limits result;
    result.name_bytes = volume.f_namemax;
    result.links = kind.f_type == EXT4_SUPER_MAGIC ? ext4_links : UINT32_MAX;
    result.file_bytes = INT64_MAX;
    result.xattr_bytes = XATTR_SIZE_MAX;
    const Fd scratch(openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!scratch) {
        return result;
    }
    result.file_bytes = highest(std::uint64_t{1} << 62, [&](std::uint64_t size) {
        return ftruncate(scratch.get(), static_cast<off_t>(size)) == 0;
    });
    result.xattr_bytes = longest_xattr(scratch.get());
    return result;
}

std::string to_text(const Limits& limits) {
    std::ostringstream text;
    text << limits.file_bytes << ' ' << limits.links << ' ' << limits.name_bytes << ' ' << limits.xattr_bytes;
    return text.str();
}

Result<Limits> limits_from(const std::string& text) {
    std::istringstream in(text);
    Limits read;
    in >> read.file_bytes >> read.links >> read.name_bytes >> read.xattr_bytes;
    const bool whole = in && (in >> std::ws).eof();
    if (!whole || read.file_bytes == 0 || read.links == 0 || read.name_bytes == 0 || read.xattr_bytes == 0) {
        return Error{Errc::malformed, "limits", "'" + text + "' is not four numbers above 0"};
    }
    return read;
}

} // namespace stead::mirror
