// SPDX-License-Identifier: Apache-2.0
#include "netlink.hpp"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/errno.h>

namespace stead::net {

Result<IpBytes> parse_ip(const std::string& text) {
    IpBytes ip;
    if (inet_pton(AF_INET, text.c_str(), ip.bytes.data()) == 1) {
        ip.family = AF_INET;
        return ip;
    }
    if (inet_pton(AF_INET6, text.c_str(), ip.bytes.data()) == 1) {
        ip.family = AF_INET6;
        return ip;
    }
    return Error{Errc::malformed, {}, "'" + text + "' is not an IPv4 or IPv6 address"};
}

std::string to_text(const IpBytes& ip) {
    char text[INET6_ADDRSTRLEN]{};
    return inet_ntop(ip.family, ip.bytes.data(), text, sizeof text) != nullptr ? text : "?";
}

std::string interface_name(std::uint32_t ifindex) {
    char name[IF_NAMESIZE]{};
    return if_indextoname(ifindex, name) != nullptr ? name : "interface " + std::to_string(ifindex);
}

Result<NlSocket> open_route_socket() {
    NlSocket socket{nl_socket_alloc()};
    if (!socket) {
        return Error{Errc::io, "netlink", "no memory for a socket"};
    }
    if (const int code = nl_connect(socket.get(), NETLINK_ROUTE); code < 0) {
        return Error{Errc::io, "netlink", std::string{"cannot open a route socket: "} + nl_geterror(code)};
    }
    return socket;
}

int request(nl_sock* socket, nl_msg* message) {
    const int sent = nl_send_auto(socket, message);
    return sent < 0 ? sent : nl_wait_for_ack(socket);
}

namespace {
int forward_message(nl_msg* message, void* each) {
    (*static_cast<const std::function<void(const nlmsghdr*)>*>(each))(nlmsg_hdr(message));
    return NL_OK;
}
} // namespace

Result<void> dump(nl_sock* socket, int type, int family, const std::function<void(const nlmsghdr*)>& each) {
    // The kernel may restart a dump that raced with a change (NLE_DUMP_INTR): then we ask again.
    for (int attempt = 0; attempt < 5; ++attempt) {
        rtgenmsg general{};
        general.rtgen_family = static_cast<unsigned char>(family);
        if (const int code = nl_send_simple(socket, type, NLM_F_DUMP, &general, sizeof general); code < 0) {
            return Error{Errc::io, "netlink", nl_geterror(code)};
        }
        nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, forward_message,
                            const_cast<std::function<void(const nlmsghdr*)>*>(&each));
        const int code = nl_recvmsgs_default(socket);
        if (code >= 0) {
            return {};
        }
        if (code != -NLE_DUMP_INTR) {
            return Error{Errc::io, "netlink", nl_geterror(code)};
        }
    }
    return Error{Errc::timed_out, "netlink", "interfaces change faster than they can be listed"};
}

} // namespace stead::net
