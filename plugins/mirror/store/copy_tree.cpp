// SPDX-License-Identifier: Apache-2.0
#include "copy_tree.hpp"
#include "system.hpp"

#include <vector>

#include <sys/xattr.h>
#include <unistd.h>

namespace stead::mirror {

int copy_attributes(int from, int to, const struct stat& attributes) {
    std::vector<std::string> names;
    int error = sys::list_xattrs(from, names);
    error = error == 0 ? sys::result(::fchownat(to, "", attributes.st_uid, attributes.st_gid, AT_EMPTY_PATH)) : error;
    for (const std::string& name : names) {
        int unreadable = 0;
        const auto value = sys::xattr(from, name.c_str(), unreadable);
        if (error == 0 && value && !std::string_view(name).starts_with(sys::own_xattrs) &&
            ::setxattr(sys::proc_path(to).c_str(), name.c_str(), value->data(), value->size(), 0) != 0 &&
            errno != EOPNOTSUPP) {
            error = errno;
        }
    }
    if (error == 0 && !S_ISLNK(attributes.st_mode)) {
        error = sys::change_mode(to, attributes.st_mode);
    }
    return error == 0 ? sys::set_times(to, std::nullopt, sys::to_time(attributes.st_mtim)) : error;
}

namespace {

int copy_one(int from_folder, const std::string& from_name, int to_folder, const std::string& name, Copies& copies,
             const std::filesystem::path& path);

/// All names of a directory.
int copy_inside(int from_folder, const std::string& from_name, int to_folder, const std::string& name, Copies& copies,
                const std::filesystem::path& path) {
    constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    const Fd from(::openat(from_folder, from_name.c_str(), flags));
    const Fd to(from ? ::openat(to_folder, name.c_str(), flags) : -1);
    return !to ? errno : sys::each_entry(from.get(), [&](const char* entry, unsigned char) {
        return copy_one(from.get(), entry, to.get(), entry, copies, path / entry);
    });
}

/// `path`: of what is made.
int copy_one(int from_folder, const std::string& from_name, int to_folder, const std::string& name, Copies& copies,
             const std::filesystem::path& path) {
    const Fd from(::openat(from_folder, from_name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    struct stat found {};
    int error = from ? sys::attributes(from.get(), found) : errno;
    if (error != 0) {
        return error;
    }
    sys::Mark mark;
    const bool marked = !S_ISDIR(found.st_mode) && sys::read_mark(from.get(), mark) == 0;
    if (marked && copies.link(mark.fid, to_folder, name, path)) {
        return 0;
    }
    if (marked && found.st_nlink > 1) {
        copies.has_more_names(mark.fid);
    }
    if (S_ISREG(found.st_mode)) {
        const Fd in(::openat(from_folder, from_name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
        const Fd out(::openat(to_folder, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        error = in && out ? copy_bytes(in.get(), out.get()) : errno;
    } else if (S_ISDIR(found.st_mode)) {
        error = copies.has_folder(path) ? 0 : sys::result(::mkdirat(to_folder, name.c_str(), 0700));
    } else if (S_ISLNK(found.st_mode)) {
        const std::string text = sys::link_text(from.get(), error).value_or("");
        error = error == 0 ? sys::result(::symlinkat(text.c_str(), to_folder, name.c_str())) : error;
    } else {
        error = sys::result(::mknodat(to_folder, name.c_str(), found.st_mode & (S_IFMT | 0600u), found.st_rdev));
    }
    const Fd to(error == 0 ? ::openat(to_folder, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1);
    if (error != 0 || !to) {
        return error != 0 ? error : errno;
    }
    if (S_ISDIR(found.st_mode)) {
        error = copy_inside(from_folder, from_name, to_folder, name, copies, path);
    } else if (marked) {
        copies.made(mark.fid, path);
    }
    return error == 0 ? copy_attributes(from.get(), to.get(), found) : error;
}

} // namespace

int copy_bytes(int from, int to) {
    std::string bytes;
    for (std::uint64_t at = 0;; at += bytes.size()) {
        if (const int error = sys::read_up_to(from, std::size_t{1} << 20, at, bytes); error != 0 || bytes.empty()) {
            return error;
        }
        const bool hole = bytes.find_first_not_of('\0') == std::string::npos;
        const int error =
            hole ? sys::result(::ftruncate(to, static_cast<off_t>(at + bytes.size()))) : sys::write_all(to, bytes, at);
        if (error != 0) {
            return error;
        }
    }
}

int copy_tree(const std::filesystem::path& from, const std::filesystem::path& to, Copies& copies) {
    return copy_one(AT_FDCWD, from.string(), AT_FDCWD, to.string(), copies, to);
}

void Copies::has_more_names(const Fid& fid) { made_.try_emplace(fid); }

void Copies::made(const Fid& fid, const std::filesystem::path& path) {
    if (const auto found = made_.find(fid); found != made_.end() && found->second.empty()) {
        found->second = path;
    }
}

bool Copies::link(const Fid& fid, int folder, const std::string& name, const std::filesystem::path& path) const {
    const auto found = made_.find(fid);
    return found != made_.end() && !found->second.empty() &&
           (found->second == path || ::linkat(AT_FDCWD, found->second.c_str(), folder, name.c_str(), 0) == 0);
}

int Copies::name_again(const Fid& fid, const std::filesystem::path& to) {
    if (link(fid, AT_FDCWD, to.string(), to)) {
        return 0;
    }
    const auto found = made_.find(fid);
    return found == made_.end() || found->second.empty() ? 0 : copy_tree(found->second, to, *this);
}

} // namespace stead::mirror
