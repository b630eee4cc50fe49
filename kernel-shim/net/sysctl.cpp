// SPDX-License-Identifier: Apache-2.0
#include <stead/base/files.hpp>
#include <stead/net/net.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace stead::net {

Result<std::string> set_sysctl(const std::string& name, const std::string& value) {
    if (name.empty() || name.front() == '/' || name.find("..") != std::string::npos) {
        return Error{Errc::malformed, name, "expected a path below /proc/sys/net, such as ipv4/conf/eth0/arp_announce"};
    }
    const std::string path = "/proc/sys/net/" + name;
    auto old = read_file(path, 4096);
    if (!old) {
        return old.error();
    }
    std::string before = std::move(old).value();
    while (!before.empty() && (before.back() == '\n' || before.back() == ' ')) {
        before.pop_back();
    }
    if (before == value) {
        return before; // also where /proc/sys is read-only and already right
    }
    const Fd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
    if (!file || ::write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
        return os_error(path, "cannot write '" + value + "'", errno);
    }
    return before;
}

} // namespace stead::net
