// SPDX-License-Identifier: Apache-2.0
// <vhost>: loaded into a program (LD_PRELOAD) it gives STEAD_HOST_NAME as the name of this host. Whoever asks the
// kernel by another way, or is linked statically, learns the true one. No dependency but libc.
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace {

/// As of the calls below: 0, or -1 and errno.
int ask(utsname& out) noexcept {
    if (::syscall(SYS_uname, &out) != 0) {
        return -1;
    }
    const char* name = std::getenv("STEAD_HOST_NAME");
    if (name != nullptr && *name != 0) {
        std::strncpy(out.nodename, name, sizeof out.nodename - 1);
        out.nodename[sizeof out.nodename - 1] = 0;
    }
    return 0;
}

} // namespace

extern "C" __attribute__((visibility("default"))) int uname(utsname* out) noexcept { return ask(*out); }

extern "C" __attribute__((visibility("default"))) int gethostname(char* name, size_t size) noexcept {
    utsname all{};
    if (ask(all) != 0) {
        return -1;
    }
    const size_t length = std::strlen(all.nodename) + 1;
    std::memcpy(name, all.nodename, length < size ? length : size);
    if (length <= size) {
        return 0;
    }
    errno = ENAMETOOLONG;
    return -1;
}
