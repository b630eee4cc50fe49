// SPDX-License-Identifier: Apache-2.0
#include "place.hpp"
#include "system.hpp"

#include <stead/base/time.hpp>

#include <thread>

#include <sys/file.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace stead::mirror {

namespace {

constexpr const char* data_name = "data";
constexpr const char* park_name = "park";
constexpr const char* new_mount_name = "mount.new"; ///< not marked yet

bool is_mount_point(int folder, const std::string& name) {
    char mark = 0;
    return ::lgetxattr(sys::proc_path(folder, name).c_str(), sys::mount_xattr, &mark, 1) == 1;
}

bool is_directory(int folder, const std::string& name) {
    struct stat found {};
    return sys::attributes(folder, name.c_str(), found) == 0 && S_ISDIR(found.st_mode);
}

Fd open_folder(int folder, const std::string& name) {
    return Fd(::openat(folder, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

int probe_folder(int folder) {
    sys::Handle handle;
    int error = sys::handle_of(folder, handle);
    if (error == 0) {
        error = sys::result(::fsetxattr(folder, "trusted.stead.probe", "1", 1, 0));
        ::fremovexattr(folder, "trusted.stead.probe");
    }
    return error;
}

/// An owner that was killed has its lock until the kernel has taken it apart: a moment, longer on a busy machine.
int lock(int folder) {
    constexpr seconds patience{3};
    for (const Instant end = BootClock::now() + patience; ::flock(folder, LOCK_EX | LOCK_NB) != 0;) {
        if (errno != EWOULDBLOCK || BootClock::now() >= end) {
            return errno;
        }
        std::this_thread::sleep_for(milliseconds{20});
    }
    return 0;
}

} // namespace

Error Place::failed(const std::string& what, int error) const { return os_error(path_, what, error); }

Result<Place> Place::find(const Root& root, Note note) {
    Place place;
    place.note_ = std::move(note);
    std::filesystem::path path = root.place.lexically_normal();
    if (!path.has_filename()) {
        path = path.parent_path();
    }
    place.path_ = path.string();
    if (!path.is_absolute() || path.filename().empty()) {
        return Error{Errc::malformed, root.place.string(), "a replicated directory is an absolute path, and not /"};
    }
    place.name_ = path.filename().string();
    place.hidden_name_ = place.name_ + root.hidden_suffix;
    place.hidden_path_ = place.path_ + root.hidden_suffix;
    if (root.hidden_suffix.empty() || !sys::name_is_sound(place.hidden_name_)) {
        return Error{Errc::malformed, place.path_,
                     "with the suffix '" + root.hidden_suffix + "' it is no file name of 1 to 255 bytes"};
    }
    place.parent_ = Fd(::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!place.parent_) {
        return place.failed("its parent directory cannot be opened", errno);
    }
    bool missing = false;
    const bool hidden_there = is_directory(place.parent_.get(), place.hidden_name_);
    if (const auto checked = place.check_place(hidden_there, missing); !checked) {
        return checked.error();
    }
    if (const auto opened = place.open_hidden(); !opened) {
        return opened.error();
    }
    if (const auto decided = place.decide(); !decided) {
        return decided.error();
    }
    return place;
}

/// It exists, is a directory, and nothing is mounted on it.
Result<void> Place::check_place(bool may_be_missing, bool& missing) const {
    struct statx found {};
    if (::statx(parent_.get(), name_.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &found) != 0) {
        missing = errno == ENOENT;
        if (missing && may_be_missing) {
            return {};
        }
        if (missing) {
            return Error{Errc::not_found, path_,
                         "the replicated directory is missing: make it, empty or with its data"};
        }
        return failed(errno == ENOTCONN ? "a dead mount covers it (umount -l " + path_ + ")" : "cannot be looked at",
                      errno);
    }
    if ((found.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0) {
        return Error{Errc::conflict, path_, "is a mount point: unmount it, or replicate a directory inside it instead"};
    }
    if (!S_ISDIR(found.stx_mode)) {
        return Error{Errc::conflict, path_, "is not a directory (a symbolic link to one is not enough)"};
    }
    return {};
}

/// One process owns it: the lock lies on the folder itself, so that nothing is left when the folder is removed.
Result<void> Place::open_hidden() {
    for (int attempt = 0; attempt < 16; ++attempt) {
        if (::mkdirat(parent_.get(), hidden_name_.c_str(), 0700) != 0 && errno != EEXIST) {
            return failed("the folder aside, " + hidden_path_ + ", cannot be made", errno);
        }
        hidden_ = open_folder(parent_.get(), hidden_name_);
        if (!hidden_ && errno == ENOENT) {
            continue; // its owner has just removed it
        }
        if (!hidden_) {
            return failed("the folder aside, " + hidden_path_ + ", cannot be opened", errno);
        }
        if (const int error = lock(hidden_.get()); error != 0) {
            return error == EWOULDBLOCK
                       ? Error{Errc::conflict, path_, "another process owns it (it has locked " + hidden_path_ + ")"}
                       : failed(hidden_path_ + " cannot be locked", error);
        }
        struct stat ours {
        }, named{};
        if (sys::attributes(hidden_.get(), ours) == 0 &&
            sys::attributes(parent_.get(), hidden_name_.c_str(), named) == 0 && ours.st_ino == named.st_ino) {
            if (ours.st_uid != ::geteuid()) {
                return Error{Errc::denied, hidden_path_, "does not belong to root: remove it, or give another suffix"};
            }
            ::fchmod(hidden_.get(), 0700);
            return {};
        }
    }
    return Error{Errc::conflict, hidden_path_, "is made and removed by another process again and again"};
}

Result<void> Place::decide() {
    struct stat found {};
    const bool place_there = sys::attributes(parent_.get(), name_.c_str(), found) == 0;
    const bool aside_there = is_directory(hidden_.get(), data_name);
    const bool place_is_mount = place_there && is_mount_point(parent_.get(), name_);
    const bool aside_is_mount = aside_there && is_mount_point(hidden_.get(), data_name);
    const bool place_has_data = place_there && !place_is_mount;
    const bool aside_has_data = aside_there && !aside_is_mount;
    const std::string aside = hidden_path_ + "/" + data_name;
    if (place_has_data && aside_has_data) {
        return Error{Errc::conflict, path_,
                     "both it and " + aside + " hold data: move the one that is not wanted away"};
    }
    if (!place_has_data && !aside_has_data) {
        return Error{
            Errc::not_found, path_,
            "holds no data, and neither does " + aside +
                ": is its disk mounted? If the data are lost, make a new directory in place of this empty mark "
                "(chattr -i " +
                path_ + "; rmdir " + path_ + "; mkdir " + path_ +
                "), with the data of a backup in it, or empty where the other node has them"};
    }
    stopped_ = place_has_data;
    return probe();
}

/// What the file system must be able to do.
Result<void> Place::probe() const {
    const int error = probe_folder(hidden_.get());
    if (error == EOPNOTSUPP) {
        return Error{Errc::unsupported, path_,
                     "its file system has no trusted extended attributes or no file handles of up to " +
                         std::to_string(sys::Handle::bytes_max) + " bytes: use ext4, XFS or btrfs"};
    }
    if (error != 0) {
        return failed("its file system cannot be used", error);
    }
    return {};
}

int Place::try_disk() const noexcept {
    const int error = probe_folder(hidden_.get());
    return error == 0 ? sys::result(::fsync(hidden_.get())) : error;
}

Result<void> Place::make_mount_point() {
    const int hidden = hidden_.get();
    if (::mkdirat(hidden, new_mount_name, 0555) != 0 && errno != EEXIST) {
        return failed("the mount point cannot be made in " + hidden_path_, errno);
    }
    if (::lsetxattr(sys::proc_path(hidden, new_mount_name).c_str(), sys::mount_xattr, "1", 1, 0) != 0) {
        return failed("the mount point in " + hidden_path_ + " cannot be marked", errno);
    }
    if (const Fd fresh = open_folder(hidden, new_mount_name); !fresh || ::fsync(fresh.get()) != 0) {
        return failed("the mount point in " + hidden_path_ + " cannot be written", errno);
    }
    return {};
}

Result<void> Place::exchange() {
    if (::renameat2(parent_.get(), name_.c_str(), hidden_.get(), data_name, RENAME_EXCHANGE) != 0) {
        return failed("cannot be exchanged with " + hidden_path_ + "/" + data_name, errno);
    }
    if (::fsync(parent_.get()) != 0 || ::fsync(hidden_.get()) != 0) {
        return failed("the exchange with " + hidden_path_ + "/" + data_name + " cannot be made durable", errno);
    }
    return {};
}

/// It should be empty: whoever wrote there while nothing was mounted wrote beside the data.
void Place::look_at_mount_point(int folder, const std::string& name, const std::string& path) const {
    const Fd fd = open_folder(folder, name);
    const bool used = fd && sys::each_entry(fd.get(), [](const char*, unsigned char) { return EEXIST; }) == EEXIST;
    if (used && note_) {
        note_(true, path + " holds files that were written while nothing was mounted there; they are not replicated");
    }
}

Result<void> Place::take() {
    struct stat found {};
    const int hidden = hidden_.get();
    if (stopped_ && !is_directory(hidden, data_name)) {
        if (const auto made = make_mount_point(); !made) {
            return made;
        }
        if (::renameat2(hidden, new_mount_name, hidden, data_name, RENAME_NOREPLACE) != 0) {
            return failed("the mount point cannot be placed in " + hidden_path_, errno);
        }
    } else if (!stopped_ && sys::attributes(parent_.get(), name_.c_str(), found) == ENOENT) {
        if (const auto made = make_mount_point(); !made) {
            return made;
        }
        if (::renameat2(hidden, new_mount_name, parent_.get(), name_.c_str(), RENAME_NOREPLACE) != 0) {
            return failed("the mount point is missing and cannot be made again", errno);
        }
    }
    if (stopped_) {
        if (const auto exchanged = exchange(); !exchanged) {
            return exchanged;
        }
    }
    look_at_mount_point(parent_.get(), name_, path_);
    if (const Fd mount_point = open_folder(parent_.get(), name_); mount_point) {
        static_cast<void>(sys::set_immutable(mount_point.get(), true)); // where the file system can
    }
    if (::mkdirat(hidden, park_name, 0700) != 0 && errno != EEXIST) {
        return failed("the folder " + hidden_path_ + "/" + park_name + " cannot be made", errno);
    }
    data_ = open_folder(hidden, data_name);
    park_ = open_folder(hidden, park_name);
    if (!data_ || !park_) {
        return failed(hidden_path_ + " cannot be opened", errno);
    }
    return {};
}

Result<void> Place::give_back() {
    bool missing = false;
    if (const auto checked = check_place(false, missing); !checked) {
        return checked;
    }
    const Fd mount_point = open_folder(parent_.get(), name_);
    if (!mount_point) {
        return failed("cannot be opened", errno);
    }
    static_cast<void>(sys::set_immutable(mount_point.get(), false)); // the exchange says so if it matters
    if (const auto exchanged = exchange(); !exchanged) {
        return exchanged;
    }
    data_.reset();
    park_.reset();
    look_at_mount_point(hidden_.get(), data_name, hidden_path_ + "/" + data_name);
    // What is not empty stays: a park that somebody still counts on, or what was written into the mount point.
    ::unlinkat(hidden_.get(), data_name, AT_REMOVEDIR);
    ::unlinkat(hidden_.get(), park_name, AT_REMOVEDIR);
    ::unlinkat(parent_.get(), hidden_name_.c_str(), AT_REMOVEDIR);
    hidden_.reset();
    return {};
}

} // namespace stead::mirror
