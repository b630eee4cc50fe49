// SPDX-License-Identifier: Apache-2.0
#include "user_engine.hpp"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace stead::shim {

SocketTable::SocketTable() : fd_(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)) {}

SocketTable::~SocketTable() {
    if (fd_ >= 0) {
        ::close(fd_);
    }
}

SocketState SocketTable::find(const stead_packet& packet, const stead_vip& vip) const {
    struct {
        nlmsghdr header;
        inet_diag_req_v2 request;
    } ask{};
    ask.header.nlmsg_len = sizeof(ask);
    ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    ask.header.nlmsg_flags = NLM_F_REQUEST;
    ask.request.sdiag_protocol = IPPROTO_TCP;
    ask.request.idiag_states = ~0u;
    ask.request.id.idiag_sport = packet.vip_port_be;
    ask.request.id.idiag_dport = packet.client_port_be;
    ask.request.id.idiag_cookie[0] = ask.request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    if ((packet.flags & STEAD_V6) != 0) {
        ask.request.sdiag_family = AF_INET6;
        std::memcpy(ask.request.id.idiag_src, vip.address_be, 16);
        std::memcpy(ask.request.id.idiag_dst, packet.client_be, 16);
    } else {
        ask.request.sdiag_family = AF_INET;
        ask.request.id.idiag_src[0] = vip.address_be[3];
        ask.request.id.idiag_dst[0] = packet.client_be[3];
    }
    alignas(nlmsghdr) char buffer[4096];
    if (fd_ < 0 || ::send(fd_, &ask, sizeof(ask), 0) < 0) {
        return {};
    }
    ssize_t got = 0;
    do {
        got = ::recv(fd_, buffer, sizeof(buffer), 0);
    } while (got < 0 && errno == EINTR);
    const auto* answer = reinterpret_cast<const nlmsghdr*>(buffer);
    if (got < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(inet_diag_msg))) ||
        answer->nlmsg_type != SOCK_DIAG_BY_FAMILY) {
        return {};
    }
    const auto* message = static_cast<const inet_diag_msg*>(NLMSG_DATA(answer));
    return {message->idiag_state != TCP_LISTEN};
}

} // namespace stead::shim
