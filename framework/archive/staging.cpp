// SPDX-License-Identifier: Apache-2.0
#include "staging.hpp"

#include <stead/archive/archive.hpp>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <system_error>

namespace stead::archive {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view mark = ".installing-";

/// Held as long as its process lives; empty when another has it.
Fd locked(const fs::path& folder) {
    Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    return fd && ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0 ? std::move(fd) : Fd{};
}

fs::path parent_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path{"."}; }

} // namespace

Result<Staging> Staging::beside(const fs::path& destination) {
    std::string name =
        (parent_of(destination) / ("." + destination.filename().string() + std::string{mark} + "XXXXXX")).string();
    if (::mkdtemp(name.data()) == nullptr) {
        return os_error(parent_of(destination).string(), "no folder can be made here", errno);
    }
    return Staging{name, locked(name)};
}

Staging::~Staging() {
    if (!path_.empty()) {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
}

Result<void> Staging::place(const fs::path& destination, bool replace) {
    if (::chmod(path_.c_str(), 0755) != 0) {
        return os_error(path_.string(), "permissions cannot be set", errno);
    }
    if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, destination.c_str(), RENAME_NOREPLACE) == 0) {
        path_.clear();
        return sync_folder(parent_of(destination));
    }
    if (errno != EEXIST) {
        return os_error(destination.string(), "cannot be put in place", errno);
    }
    if (!replace) {
        return Error{Errc::conflict, destination.string(), "is already there; uninstall it, or replace it (-r)"};
    }
    // The old folder is now at path_, and goes with this object.
    if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, destination.c_str(), RENAME_EXCHANGE) != 0) {
        return os_error(destination.string(), "cannot be replaced", errno);
    }
    return sync_folder(parent_of(destination));
}

std::vector<fs::path> remove_leftovers(const fs::path& folder) {
    std::vector<fs::path> found;
    std::error_code error;
    for (fs::directory_iterator at{folder, error}, end; !error && at != end; at.increment(error)) {
        const std::string name = at->path().filename().string();
        const std::size_t start = name.rfind(mark);
        if (name.starts_with('.') && start != name.npos && start + mark.size() + 6 == name.size()) {
            found.push_back(at->path());
        }
    }
    std::erase_if(found, [&](const fs::path& path) {
        const Fd unused = locked(path);
        return !unused || fs::remove_all(path, error) == static_cast<std::uintmax_t>(-1);
    });
    return found;
}

Result<void> sync_tree(const fs::path& root) {
    std::error_code error;
    for (fs::recursive_directory_iterator at{root, error}, end; !error && at != end; at.increment(error)) {
        if (at->symlink_status(error).type() == fs::file_type::directory) {
            if (auto synced = sync_folder(at->path()); !synced) {
                return synced;
            }
        }
    }
    if (error) {
        return os_error(root.string(), "cannot be read back", error.value());
    }
    return sync_folder(root);
}

} // namespace stead::archive
