// SPDX-License-Identifier: Apache-2.0
#include "netlink.hpp"

#include <stead/base/files.hpp>

#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace stead::net {
namespace {

// Whoever has a peer that still waits for something; time-wait and listening sockets have none.
constexpr std::uint32_t states = (1u << TCP_ESTABLISHED) | (1u << TCP_SYN_RECV) | (1u << TCP_FIN_WAIT1) |
                                 (1u << TCP_FIN_WAIT2) | (1u << TCP_CLOSE_WAIT) | (1u << TCP_LAST_ACK) |
                                 (1u << TCP_CLOSING);

struct Request {
    nlmsghdr header{};
    inet_diag_req_v2 body{};
};

Request request_of(int type, int flags, int family) {
    Request request;
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = static_cast<std::uint16_t>(type);
    request.header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    request.body.sdiag_family = static_cast<std::uint8_t>(family);
    request.body.sdiag_protocol = IPPROTO_TCP;
    request.body.idiag_states = states;
    return request;
}

/// A socket of both families shows IPv4 as ::ffff:a.b.c.d.
bool is_local(const inet_diag_msg& socket, const IpBytes& address) {
    const auto* raw = reinterpret_cast<const std::uint8_t*>(socket.id.idiag_src);
    if (socket.idiag_family == AF_INET6 && address.family == AF_INET) {
        constexpr std::uint8_t mapped[12]{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        return std::memcmp(raw, mapped, sizeof mapped) == 0 && std::memcmp(raw + 12, address.bytes.data(), 4) == 0;
    }
    return socket.idiag_family == address.family && std::memcmp(raw, address.bytes.data(), address.size()) == 0;
}

/// Hands over messages until the answer ends; its error number, 0 = well.
template <class Each>
int read_answers(int fd, const Each& each) {
    alignas(nlmsghdr) char buffer[32768];
    for (;;) {
        const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? errno : EPIPE;
        }
        int left = static_cast<int>(got);
        for (auto* m = reinterpret_cast<nlmsghdr*>(buffer); nlmsg_ok(m, left); m = nlmsg_next(m, &left)) {
            if (m->nlmsg_type == NLMSG_DONE) {
                return 0;
            }
            if (m->nlmsg_type == NLMSG_ERROR) {
                return -static_cast<const nlmsgerr*>(nlmsg_data(m))->error;
            }
            each(*static_cast<const inet_diag_msg*>(nlmsg_data(m)));
        }
    }
}

Error failed(const char* what, int number) { return os_error("sock_diag", what, number); }

} // namespace

Result<std::size_t> reset_connections(const std::string& address) {
    const auto ip = parse_ip(address);
    if (!ip) {
        return ip.error();
    }
    const Fd socket{::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)};
    if (!socket) {
        return failed("cannot open", errno);
    }
    std::vector<inet_diag_msg> found;
    for (const int family : {AF_INET, AF_INET6}) {
        const Request list = request_of(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family);
        if (::send(socket.get(), &list, sizeof list, 0) < 0) {
            return failed("cannot ask for the list of connections", errno);
        }
        const int number = read_answers(socket.get(), [&](const inet_diag_msg& one) {
            if (is_local(one, ip.value())) {
                found.push_back(one);
            }
        });
        if (number != 0) {
            return failed("cannot read the list of connections", number);
        }
    }
    std::size_t count = 0;
    for (const inet_diag_msg& one : found) {
        Request destroy = request_of(SOCK_DESTROY, NLM_F_ACK, one.idiag_family);
        destroy.body.id = one.id;
        if (::send(socket.get(), &destroy, sizeof destroy, 0) < 0) {
            return failed("cannot reset a connection", errno);
        }
        const int number = read_answers(socket.get(), [](const inet_diag_msg&) {});
        if (number == EOPNOTSUPP) {
            return failed("this kernel resets no connections of others (CONFIG_INET_DIAG_DESTROY)", number);
        }
        count += number == 0 ? 1 : 0; // gone in between is as good
    }
    return count;
}

} // namespace stead::net
