// SPDX-License-Identifier: Apache-2.0
#include "front_device.hpp"

#include "front_opcodes.hpp"

#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstring>

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

namespace stead::mirror::front {

void init(void* data, fuse_conn_info* connection);

namespace {

constexpr unsigned background_requests = 64; // 12 by default: too few for libaio and for the writeback of mmap pages

ssize_t read_device(int fd, void* bytes, std::size_t size, void*) { return ::read(fd, bytes, size); }

/// Passes replies on, and adds to the INIT reply what libfuse has no name for.
ssize_t write_device(int fd, iovec* parts, int count, void* data) {
    State& state = *static_cast<State*>(data);
    const auto& header = *static_cast<const fuse_out_header*>(parts[0].iov_base);
    if ((header.error == -EIO || header.error == -EROFS) && state.options.failing) {
        state.options.failing();
    }
    if (state.init_unique == 0 || header.unique != state.init_unique || count < 2) {
        return ::writev(fd, parts, count);
    }
    state.init_unique = 0;
    auto& reply = *static_cast<fuse_init_out*>(parts[1].iov_base);
    reply.flags |= state.kernel_flags & (FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
    return ::writev(fd, parts, count);
}

/// libfuse 3.14 knows the short form of SETXATTR only.
void shorten_setxattr(fuse_buf& request) {
    auto* const bytes = static_cast<char*>(request.mem);
    auto& header = *reinterpret_cast<fuse_in_header*>(bytes);
    constexpr std::size_t arguments = sizeof(fuse_in_header) + FUSE_COMPAT_SETXATTR_IN_SIZE;
    constexpr std::size_t more = sizeof(fuse_setxattr_in) - FUSE_COMPAT_SETXATTR_IN_SIZE;
    raw.setxattr_flags = reinterpret_cast<const fuse_setxattr_in*>(bytes + sizeof(fuse_in_header))->setxattr_flags;
    std::memmove(bytes + arguments, bytes + arguments + more, header.len - arguments - more);
    header.len -= more;
    request.size -= more;
}

/// The connection's switch in a fusectl file system of our own, so that it works whatever is mounted where.
Fd open_abort(unsigned connection) {
    const Fd context(fsopen("fusectl", FSOPEN_CLOEXEC));
    if (!context || fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
        return {};
    }
    const Fd control(fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
    if (!control) {
        return {};
    }
    const std::string name = std::to_string(connection) + "/abort";
    return Fd(openat(control.get(), name.c_str(), O_WRONLY | O_CLOEXEC));
}

/// Device number of what is mounted, without asking it.
bool device_of(const std::string& place, unsigned& major_number, unsigned& minor_number) {
    struct statx value {};
    if (statx(AT_FDCWD, place.c_str(), AT_STATX_DONT_SYNC, STATX_INO, &value) != 0) {
        return false;
    }
    major_number = value.stx_dev_major;
    minor_number = value.stx_dev_minor;
    return true;
}

/// Writes one of the limits of the mount's write-back; a kernel or container without it only loses speed.
void tune(State& state, const std::string& device, const char* name, const char* value) {
    const std::string path = "/sys/class/bdi/" + device + "/" + name;
    const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if ((!file || ::write(file.get(), value, std::strlen(value)) < 0) && state.options.note) {
        state.options.note(false, path + " cannot be set to " + value + " (" + std::strerror(errno) +
                                      "): writes through mmap will be slower");
    }
}

Result<fuse_session*> make_session(State& state, int device) {
    char name[] = "stead-fs";
    char* arguments[] = {name, nullptr};
    fuse_args args{1, arguments, 0};
    fuse_session* const session = fuse_session_new(&args, &handlers(), sizeof(fuse_lowlevel_ops), &state);
    if (session == nullptr) {
        return Error{Errc::io, state.options.mount_point, "libfuse cannot make a session"};
    }
    const fuse_custom_io io{write_device, read_device, nullptr, nullptr};
    if (const int error = fuse_session_custom_io(session, &io, device); error != 0) {
        fuse_session_destroy(session);
        return os_error(state.options.mount_point, "libfuse refuses the device", -error);
    }
    return session;
}

} // namespace

/// What is asked of the kernel; each with its reason (docs of MIRROR: interception).
void init(void* data, fuse_conn_info* connection) {
    State& state = *static_cast<State*>(data);
    unsigned& want = connection->want;
    // With write-back, write() would be answered before we see the data. KILLPRIV version 2 is added to the reply.
    want &= ~static_cast<unsigned>(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_HANDLE_KILLPRIV);
    // Locks stay in the kernel: there is one writer, and they die with its node as its processes do.
    want &= ~static_cast<unsigned>(FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
    // Our own reading and writing of the device cannot splice.
    want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    unsigned more = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ATOMIC_O_TRUNC |
                    FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO;
    if (state.options.read_only) {
        more |= FUSE_CAP_AUTO_INVAL_DATA; // the tree changes behind the kernel's caches
    } else {
        // It would drop a file's page cache after each of our own writes, for they move its mtime.
        want &= ~static_cast<unsigned>(FUSE_CAP_AUTO_INVAL_DATA);
        more |= FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_CACHE_SYMLINKS;
    }
    if (state.options.acl) {
        more |= FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK; // a default ACL replaces the umask
    }
    want |= more & connection->capable;
    connection->max_background = background_requests;
    connection->congestion_threshold = background_requests * 3 / 4;
    connection->time_gran = 1;
}

namespace {

/// What is forbidden where the data lie is forbidden in front of them.
unsigned long inherited_flags(const std::string& place) {
    struct statvfs below {};
    if (::statvfs(place.c_str(), &below) != 0) {
        return 0;
    }
    unsigned long flags = 0;
    for (const auto& [forbidden, flag] : {std::pair<unsigned long, unsigned long>{ST_NOSUID, MS_NOSUID},
                                          {ST_NODEV, MS_NODEV},
                                          {ST_NOEXEC, MS_NOEXEC}}) {
        flags |= (below.f_flag & forbidden) != 0 ? flag : 0;
    }
    return flags;
}

} // namespace

Result<Device> Device::mount(State& state) {
    const std::string& place = state.options.mount_point;
    Fd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    if (!device) {
        return os_error("/dev/fuse", "cannot be opened: the kernel needs FUSE (modprobe fuse)", errno);
    }
    const std::string data = "fd=" + std::to_string(device.get()) + ",rootmode=40000,user_id=0,group_id=0," +
                             "default_permissions,allow_other";
    const unsigned long read_only = MS_RDONLY;
    const unsigned long flags = inherited_flags(place) | (state.options.read_only ? read_only : 0);
    if (::mount("stead", place.c_str(), "fuse.stead", flags, data.c_str()) != 0) {
        return os_error(place, "cannot be mounted on: it must be a directory, and we must be root", errno);
    }
    Device result;
    result.place_ = place;
    auto session = make_session(state, device.get());
    if (!session) {
        umount2(place.c_str(), MNT_DETACH);
        return session.error();
    }
    static_cast<void>(device.release()); // the session closes it
    state.session = *session;
    if (unsigned major_number = 0, minor_number = 0; device_of(place, major_number, minor_number)) {
        result.abort_ = open_abort(minor_number);
    }
    return result;
}

Result<void> Device::ready(State& state) {
    const std::string& place = state.options.mount_point;
    const Fd mounted(::open(place.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    struct stat value {};
    if (!mounted || stat((place + "/.").c_str(), &value) != 0) {
        return os_error(place, "the kernel and stead-fs do not agree", errno);
    }
    if (!state.options.read_only) {
        // 1 % of the dirty memory by default, kept strictly.
        tune(state, std::to_string(major(value.st_dev)) + ":" + std::to_string(minor(value.st_dev)), "max_ratio", "50");
    }
    return {};
}

bool Device::receive(State& state, fuse_buf& request) const {
    for (;;) {
        const int got = fuse_session_receive_buf(state.session, &request);
        if (got == -EINTR || got == -EAGAIN) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        break;
    }
    raw.bytes = static_cast<const char*>(request.mem);
    raw.setxattr_flags = 0;
    const auto& header = *reinterpret_cast<const fuse_in_header*>(raw.bytes);
    if (header.opcode == FUSE_INIT) {
        state.kernel_flags = reinterpret_cast<const fuse_init_in*>(raw.bytes + sizeof(header))->flags;
        state.init_unique = header.unique;
    } else if (header.opcode == FUSE_SETXATTR && (state.kernel_flags & FUSE_SETXATTR_EXT) != 0) {
        shorten_setxattr(request);
    }
    return true;
}

void Device::abort() const noexcept {
    if (abort_) {
        static_cast<void>(::write(abort_.get(), "1", 1)); // nobody waits for us any more
    }
    umount2(place_.c_str(), MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW);
}

bool Device::unmount() const noexcept { return umount2(place_.c_str(), UMOUNT_NOFOLLOW) == 0 || errno == EINVAL; }

} // namespace stead::mirror::front
