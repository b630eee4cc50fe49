// SPDX-License-Identifier: Apache-2.0
#include <stead/web/privileges.hpp>

#include <stead/control/web_user.hpp>

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

namespace stead::web {
namespace {

constexpr rlim_t output_bytes_max = 65536; // last words, to the file that steadd gave us

Result<void> limit(int resource, const char* name, rlim_t value) {
    const rlimit wanted{value, value};
    if (::setrlimit(static_cast<__rlimit_resource>(resource), &wanted) != 0) {
        return os_error(name, "cannot set this limit to " + std::to_string(value), errno);
    }
    return {};
}

void be_killed_first() {
    const int file = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file >= 0) { // steadd is spared when memory runs out; we need not be
        [[maybe_unused]] const ssize_t ignored = ::write(file, "500", 3);
        ::close(file);
    }
}

Result<void> change_user() {
    const Result<control::WebUser> user = control::web_user();
    if (!user) {
        return user.error();
    }
    for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
        ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0); // not even a set-uid program could get it back
    }
    if (::setgroups(0, nullptr) != 0 || ::setresgid(user->gid, user->gid, user->gid) != 0 ||
        ::setresuid(user->uid, user->uid, user->uid) != 0) {
        return os_error("user " + user->name, "cannot change to it", errno);
    }
    return {};
}

/// Changing the user empties these already, unless securebits say otherwise.
Result<void> drop_capabilities() {
    ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> none{};
    if (::syscall(SYS_capset, &header, none.data()) != 0) {
        return os_error("capabilities", "cannot give them up", errno);
    }
    return {};
}

} // namespace

Result<std::size_t> drop_privileges(std::size_t descriptors) {
    be_killed_first();
    if (!limit(RLIMIT_NOFILE, "open files", descriptors)) { // in a container even root may be held to less
        rlimit now{};
        ::getrlimit(RLIMIT_NOFILE, &now);
        descriptors = now.rlim_max;
        if (const Result<void> done = limit(RLIMIT_NOFILE, "open files", now.rlim_max); !done) {
            return done.error();
        }
    }
    if (::geteuid() == 0) {
        if (const Result<void> changed = change_user(); !changed) {
            return changed.error();
        }
    }
    if (const Result<void> dropped = drop_capabilities(); !dropped) {
        return dropped.error();
    }
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return os_error("no_new_privs", "cannot set it", errno);
    }
    constexpr struct {
        int resource;
        const char* name;
        rlim_t value;
    } limits[]{{RLIMIT_NPROC, "processes", 0}, {RLIMIT_FSIZE, "file size", output_bytes_max}, {RLIMIT_CORE, "core", 0}};
    for (const auto& [resource, name, value] : limits) {
        if (const Result<void> done = limit(resource, name, value); !done) {
            return done.error();
        }
    }
    if (::geteuid() == 0 || ::setuid(0) == 0) {
        return Error{Errc::io, "stead-web", "is still root"};
    }
    return descriptors;
}

} // namespace stead::web
