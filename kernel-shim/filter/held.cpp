// SPDX-License-Identifier: Apache-2.0
#include "farm_model.hpp"

#include <arpa/inet.h>
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

namespace {

struct Descriptor {
    int fd{-1};
    ~Descriptor() {
        if (fd >= 0) {
            ::close(fd);
        }
    }
};

void to_mapped(std::uint8_t family, const std::uint32_t* raw, std::uint32_t* out) {
    if (family == AF_INET) {
        out[0] = out[1] = 0;
        out[2] = htonl(0xffff);
        out[3] = raw[0];
    } else {
        std::memcpy(out, raw, 16);
    }
}

void count_one(const FarmModel& model, std::uint8_t group, const inet_diag_msg& message,
               std::vector<std::uint32_t>& count) {
    std::uint32_t local[4];
    std::uint32_t remote[4];
    to_mapped(message.idiag_family, message.id.idiag_src, local);
    to_mapped(message.idiag_family, message.id.idiag_dst, remote);
    const int vip = model.vip_of(local);
    if (vip < 0 || std::memcmp(local, remote, 16) == 0) { // our own connections to the VIP never pass the filter
        return;
    }
    const stead_rule* rule = model.rule_of(static_cast<std::size_t>(vip), IPPROTO_TCP, message.id.idiag_sport);
    if (rule == nullptr || rule->group != group || rule->track != STEAD_TRACK_SOCKET) {
        return;
    }
    count[bucket_of_flow(model, *rule, remote, message.id.idiag_dport)] += 1;
}

Result<void> dump(int fd, std::uint8_t family, const FarmModel& model, std::uint8_t group,
                  std::vector<std::uint32_t>& count) {
    // Time-wait sockets are left out: the peer has what it needs, and they would keep a bucket open for a minute.
    constexpr std::uint32_t states = (1u << TCP_ESTABLISHED) | (1u << TCP_SYN_RECV) | (1u << TCP_FIN_WAIT1) |
                                     (1u << TCP_FIN_WAIT2) | (1u << TCP_CLOSE_WAIT) | (1u << TCP_LAST_ACK) |
                                     (1u << TCP_CLOSING);
    struct {
        nlmsghdr header;
        inet_diag_req_v2 request;
    } ask{};
    ask.header.nlmsg_len = sizeof(ask);
    ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    ask.request.sdiag_family = family;
    ask.request.sdiag_protocol = IPPROTO_TCP;
    ask.request.idiag_states = states;
    if (::send(fd, &ask, sizeof(ask), 0) < 0) {
        return os_error("sock_diag", "cannot ask for the list of connections", errno);
    }
    alignas(nlmsghdr) char buffer[32768];
    for (;;) {
        const ssize_t got = ::recv(fd, buffer, sizeof(buffer), 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return os_error("sock_diag", "cannot read the list of connections", errno);
        }
        auto left = static_cast<unsigned>(got);
        for (auto* m = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
            if (m->nlmsg_type == NLMSG_DONE) {
                return {};
            }
            if (m->nlmsg_type == NLMSG_ERROR) {
                const auto* error = static_cast<const nlmsgerr*>(NLMSG_DATA(m));
                return os_error("sock_diag", "the kernel refused the list of connections", -error->error);
            }
            count_one(model, group, *static_cast<const inet_diag_msg*>(NLMSG_DATA(m)), count);
        }
    }
}

} // namespace

Result<void> count_connections(const FarmModel& model, std::uint8_t group, std::vector<std::uint32_t>& count) {
    Descriptor socket{::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)};
    if (socket.fd < 0) {
        return os_error("sock_diag", "cannot open", errno);
    }
    for (const std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
        if (auto done = dump(socket.fd, family, model, group, count); !done) {
            return done;
        }
    }
    return {};
}

} // namespace stead::shim
