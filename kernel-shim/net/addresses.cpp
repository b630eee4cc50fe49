// SPDX-License-Identifier: Apache-2.0
#include "netlink.hpp"

#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>

namespace stead::net {
namespace {

Result<NlMessage> address_message(int type, int flags, std::uint32_t ifindex, const IpBytes& ip) {
    NlMessage message{nlmsg_alloc_simple(type, flags)};
    ifaddrmsg header{};
    header.ifa_family = static_cast<std::uint8_t>(ip.family);
    header.ifa_prefixlen = static_cast<std::uint8_t>(ip.prefix_max());
    header.ifa_index = ifindex;
    header.ifa_scope = RT_SCOPE_UNIVERSE;
    const auto size = static_cast<int>(ip.size());
    if (!message || nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO) < 0 ||
        nla_put(message.get(), IFA_LOCAL, size, ip.bytes.data()) < 0 ||
        nla_put(message.get(), IFA_ADDRESS, size, ip.bytes.data()) < 0) {
        return Error{Errc::io, "netlink", "no memory for a message"};
    }
    return message;
}

Result<void> unicast_filter(int type, int flags, std::uint32_t ifindex, const Mac& mac, int harmless_code) {
    auto socket = open_route_socket();
    if (!socket) {
        return socket.error();
    }
    NlMessage message{nlmsg_alloc_simple(type, flags)};
    ndmsg header{};
    header.ndm_family = AF_BRIDGE;
    header.ndm_ifindex = static_cast<int>(ifindex);
    header.ndm_state = NUD_PERMANENT;
    header.ndm_flags = NTF_SELF;
    if (!message || nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO) < 0 ||
        nla_put(message.get(), NDA_LLADDR, static_cast<int>(mac.size()), mac.data()) < 0) {
        return Error{Errc::io, "netlink", "no memory for a message"};
    }
    const int code = request(socket.value().get(), message.get());
    if (code < 0 && code != harmless_code) {
        return Error{Errc::io, interface_name(ifindex), std::string{"unicast filter entry: "} + nl_geterror(code)};
    }
    return {};
}

} // namespace

Result<void> add_address(std::uint32_t ifindex, const std::string& address) {
    const auto ip = parse_ip(address);
    if (!ip) {
        return ip.error();
    }
    auto socket = open_route_socket();
    if (!socket) {
        return socket.error();
    }
    // REPLACE: one that is there already, of an earlier process or by hand, gets our flags and lifetimes.
    auto message = address_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, ifindex, ip.value());
    if (!message) {
        return message.error();
    }
    std::uint32_t flags = IFA_F_NOPREFIXROUTE;
    if (ip.value().family == AF_INET6) {
        flags |= IFA_F_NODAD;
        // Preferred lifetime 0: never chosen as the source of the node's own connections.
        ifa_cacheinfo lifetimes{};
        lifetimes.ifa_prefered = 0;
        lifetimes.ifa_valid = 0xffffffff;
        nla_put(message.value().get(), IFA_CACHEINFO, sizeof lifetimes, &lifetimes);
    }
    nla_put_u32(message.value().get(), IFA_FLAGS, flags);
    const int code = request(socket.value().get(), message.value().get());
    if (code < 0 && code != -NLE_EXIST) {
        return Error{code == -NLE_PERM ? Errc::denied : Errc::io, interface_name(ifindex),
                     "cannot add " + address + ": " + nl_geterror(code)};
    }
    return {};
}

Result<void> remove_address(std::uint32_t ifindex, const std::string& address) {
    const auto ip = parse_ip(address);
    if (!ip) {
        return ip.error();
    }
    auto socket = open_route_socket();
    if (!socket) {
        return socket.error();
    }
    auto message = address_message(RTM_DELADDR, 0, ifindex, ip.value());
    if (!message) {
        return message.error();
    }
    const int code = request(socket.value().get(), message.value().get());
    if (code < 0 && code != -NLE_NOADDR && code != -NLE_NODEV && code != -NLE_OBJ_NOTFOUND) {
        return Error{Errc::io, interface_name(ifindex), "cannot remove " + address + ": " + nl_geterror(code)};
    }
    return {};
}

Result<void> add_unicast_filter(std::uint32_t ifindex, const Mac& mac) {
    return unicast_filter(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, ifindex, mac, -NLE_EXIST);
}

Result<void> remove_unicast_filter(std::uint32_t ifindex, const Mac& mac) {
    return unicast_filter(RTM_DELNEIGH, 0, ifindex, mac, -NLE_OBJ_NOTFOUND);
}

} // namespace stead::net
