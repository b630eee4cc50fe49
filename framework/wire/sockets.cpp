// SPDX-License-Identifier: Apache-2.0
#include "tls_stream.hpp"

#include <stead/base/assert.hpp>
#include <stead/wire/duplex_stream.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace stead::wire {
namespace {

constexpr int buffer_bytes = 4 << 20;

void set(const Fd& socket, int level, int name, int value) {
    (void)::setsockopt(socket.get(), level, name, &value, sizeof value); // each only makes it better
}

} // namespace

Result<Fd> listen_on(Address address, const std::string& where) {
    Fd socket{::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!socket) {
        return os_error(where, "socket", errno);
    }
    set(socket, SOL_SOCKET, SO_REUSEADDR, 1);
    if (address.storage.ss_family == AF_INET6) {
        set(socket, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    }
    if (::bind(socket.get(), address.get(), address.size) != 0) {
        return os_error(where, "cannot bind", errno);
    }
    if (::listen(socket.get(), 64) != 0) {
        return os_error(where, "cannot listen", errno);
    }
    return socket;
}

Result<Fd> listen_at(const std::string& address, std::uint16_t port) {
    auto parsed = parse_address(address, port);
    if (!parsed) {
        return std::move(parsed).error();
    }
    return listen_on(*parsed, "TCP " + endpoint_text(*parsed));
}

std::uint16_t port_of(const Fd& listener) {
    Address bound;
    bound.size = sizeof bound.storage;
    STEAD_ASSERT(::getsockname(listener.get(), bound.get(), &bound.size) == 0);
    return ntohs(reinterpret_cast<const sockaddr_in*>(&bound.storage)->sin_port); // same place in both families
}

Accepted accept_from(const Fd& listener) {
    Address from;
    from.size = sizeof from.storage;
    Fd socket{::accept4(listener.get(), from.get(), &from.size, SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (!socket) {
        return {};
    }
    return {std::move(socket), host_text(from), endpoint_text(from)};
}

Result<Fd> begin_connect(const std::string& local, const std::string& address, std::uint16_t port) {
    auto from = parse_address(local, 0);
    auto to = parse_address(address, port);
    if (!from || !to) {
        return from ? std::move(to).error() : std::move(from).error();
    }
    const std::string where = "TCP " + endpoint_text(*to);
    Fd socket{::socket(to->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!socket) {
        return os_error(where, "socket", errno);
    }
    set(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    set(socket, SOL_SOCKET, SO_RCVBUFFORCE, buffer_bytes); // before the window scale is agreed upon
    if (::bind(socket.get(), from->get(), from->size) != 0) {
        return os_error(where, "cannot bind to " + local, errno);
    }
    if (::connect(socket.get(), to->get(), to->size) != 0 && errno != EINPROGRESS) {
        return os_error(where, "cannot connect", errno);
    }
    return socket;
}

void tune(const Fd& socket, milliseconds dead_after) {
    const int patience = static_cast<int>(std::max<std::int64_t>(dead_after.count(), 1));
    set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
    set(socket, SOL_SOCKET, SO_SNDBUFFORCE, buffer_bytes);
    set(socket, SOL_SOCKET, SO_RCVBUFFORCE, buffer_bytes);
    set(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(socket, IPPROTO_TCP, TCP_KEEPIDLE, 1);
    set(socket, IPPROTO_TCP, TCP_KEEPINTVL, 1);
    set(socket, IPPROTO_TCP, TCP_KEEPCNT, std::max(patience / 1000, 1));
    set(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, patience);
}

Result<std::string> canonical_address(const std::string& address) {
    auto parsed = parse_address(address, 0);
    return parsed ? Result<std::string>{host_text(*parsed)} : std::move(parsed).error();
}

} // namespace stead::wire
