// SPDX-License-Identifier: Apache-2.0
#include "netlink.hpp"

#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <map>

namespace stead::net {
namespace {

void read_link(const nlmsghdr* header, std::map<std::uint32_t, Interface>& found) {
    if (header->nlmsg_type != RTM_NEWLINK) {
        return;
    }
    const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(header));
    nlattr* attributes[IFLA_MAX + 1]{};
    if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof *info, attributes, IFLA_MAX, nullptr) < 0) {
        return;
    }
    Interface link;
    link.index = static_cast<std::uint32_t>(info->ifi_index);
    link.up = (info->ifi_flags & IFF_UP) != 0 && (info->ifi_flags & IFF_LOWER_UP) != 0;
    if (attributes[IFLA_IFNAME] != nullptr) {
        link.name = nla_get_string(attributes[IFLA_IFNAME]);
    }
    if (attributes[IFLA_MTU] != nullptr) {
        link.mtu = nla_get_u32(attributes[IFLA_MTU]);
    }
    if (attributes[IFLA_ADDRESS] != nullptr && nla_len(attributes[IFLA_ADDRESS]) == 6) {
        std::memcpy(link.mac.data(), nla_data(attributes[IFLA_ADDRESS]), 6);
    }
    found[link.index] = std::move(link);
}

void read_address(const nlmsghdr* header, std::map<std::uint32_t, Interface>& found) {
    if (header->nlmsg_type != RTM_NEWADDR) {
        return;
    }
    const auto* info = static_cast<const ifaddrmsg*>(nlmsg_data(header));
    nlattr* attributes[IFA_MAX + 1]{};
    if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof *info, attributes, IFA_MAX, nullptr) < 0) {
        return;
    }
    // On a point-to-point link IFA_ADDRESS is the far end; IFA_LOCAL is ours where present.
    const nlattr* address = attributes[IFA_LOCAL] != nullptr ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
    IpBytes ip;
    ip.family = info->ifa_family;
    const auto link = found.find(info->ifa_index);
    if (address == nullptr || link == found.end() || nla_len(address) != static_cast<int>(ip.size())) {
        return;
    }
    std::memcpy(ip.bytes.data(), nla_data(address), ip.size());
    const std::uint32_t flags =
        attributes[IFA_FLAGS] != nullptr ? nla_get_u32(attributes[IFA_FLAGS]) : std::uint32_t{info->ifa_flags};
    link->second.tentative |= (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) == IFA_F_TENTATIVE;
    link->second.addresses.push_back(to_text(ip) + "/" + std::to_string(info->ifa_prefixlen));
}

/// Length of the common prefix in bits, or -1 when `address` is not in `subnet` ("192.0.2.1/24").
int match_length(const std::string& subnet, const IpBytes& address) {
    const auto slash = subnet.find('/');
    const auto base = parse_ip(subnet.substr(0, slash));
    if (!base || base.value().family != address.family) {
        return -1;
    }
    const int length = std::stoi(subnet.substr(slash + 1));
    for (int bit = 0; bit < length; ++bit) {
        const auto byte = static_cast<std::size_t>(bit / 8);
        const int mask = 0x80 >> (bit % 8);
        if (((base.value().bytes[byte] ^ address.bytes[byte]) & mask) != 0) {
            return -1;
        }
    }
    return length;
}

} // namespace

Result<std::vector<Interface>> interfaces() {
    auto socket = open_route_socket();
    if (!socket) {
        return socket.error();
    }
    std::map<std::uint32_t, Interface> found;
    if (auto done = dump(socket.value().get(), RTM_GETLINK, AF_UNSPEC,
                         [&](const nlmsghdr* header) { read_link(header, found); });
        !done) {
        return done.error();
    }
    for (auto& [index, link] : found) {
        link.addresses.clear();
    }
    if (auto done = dump(socket.value().get(), RTM_GETADDR, AF_UNSPEC,
                         [&](const nlmsghdr* header) { read_address(header, found); });
        !done) {
        return done.error();
    }
    std::vector<Interface> list;
    list.reserve(found.size());
    for (auto& [index, link] : found) {
        // A restarted dump delivers what it had delivered before once more.
        std::sort(link.addresses.begin(), link.addresses.end());
        link.addresses.erase(std::unique(link.addresses.begin(), link.addresses.end()), link.addresses.end());
        list.push_back(std::move(link));
    }
    return list;
}

Result<Interface> interface_for(const std::string& address) {
    const auto ip = parse_ip(address);
    if (!ip) {
        return ip.error();
    }
    auto all = interfaces();
    if (!all) {
        return all.error();
    }
    const Interface* best = nullptr;
    int best_length = -1;
    std::string subnets;
    for (const auto& link : all.value()) {
        for (const auto& subnet : link.addresses) {
            const int length = match_length(subnet, ip.value());
            // Our own /32 or /128 of a virtual address says where we put it, not which subnet carries it.
            if (length > best_length && length < ip.value().prefix_max()) {
                best = &link;
                best_length = length;
            }
            if (length < ip.value().prefix_max()) {
                subnets += (subnets.empty() ? "" : ", ") + link.name + " " + subnet;
            }
        }
    }
    if (best == nullptr) {
        return Error{Errc::not_found, address,
                     "no interface has a subnet that holds it; there are: " + (subnets.empty() ? "none" : subnets)};
    }
    return *best;
}

std::string to_text(const Mac& mac) {
    std::array<char, 18> text{};
    std::snprintf(text.data(), text.size(), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
                  mac[5]);
    return text.data();
}

} // namespace stead::net
