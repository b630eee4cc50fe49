// SPDX-License-Identifier: Apache-2.0
#include "frames.hpp"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace stead::net {
namespace {

using Bytes = std::vector<std::uint8_t>;

template <class Range>
void append(Bytes& frame, const Range& bytes) {
    frame.insert(frame.end(), std::begin(bytes), std::end(bytes));
}

void append_u16(Bytes& frame, std::uint16_t value) {
    frame.push_back(static_cast<std::uint8_t>(value >> 8));
    frame.push_back(static_cast<std::uint8_t>(value));
}

void append_ip(Bytes& frame, const IpBytes& ip) {
    frame.insert(frame.end(), ip.bytes.begin(), ip.bytes.begin() + static_cast<std::ptrdiff_t>(ip.size()));
}

Bytes ethernet(const Mac& destination, const Mac& source, std::uint16_t type) {
    Bytes frame;
    frame.reserve(96);
    append(frame, destination);
    append(frame, source);
    append_u16(frame, type);
    return frame;
}

std::uint16_t icmp6_checksum(const IpBytes& source, const IpBytes& destination, std::span<const std::uint8_t> body) {
    std::uint32_t sum = IPPROTO_ICMPV6 + static_cast<std::uint32_t>(body.size());
    const auto add = [&sum](std::span<const std::uint8_t> bytes) {
        for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
            sum += static_cast<std::uint32_t>(bytes[i] << 8 | bytes[i + 1]);
        }
    };
    add(source.bytes);
    add(destination.bytes);
    add(body);
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return static_cast<std::uint16_t>(~sum);
}

/// `body` holds a whole ICMPv6 message of even length with checksum 0.
Bytes icmp6_frame(const Mac& destination, const Mac& source, const IpBytes& from, const IpBytes& to, Bytes body) {
    const std::uint16_t checksum = icmp6_checksum(from, to, body);
    body[2] = static_cast<std::uint8_t>(checksum >> 8);
    body[3] = static_cast<std::uint8_t>(checksum);
    Bytes frame = ethernet(destination, source, ETH_P_IPV6);
    append(frame, std::array<std::uint8_t, 4>{0x60, 0, 0, 0});
    append_u16(frame, static_cast<std::uint16_t>(body.size()));
    frame.push_back(IPPROTO_ICMPV6);
    frame.push_back(255); // neighbour discovery refuses anything that a router could have forwarded
    append_ip(frame, from);
    append_ip(frame, to);
    append(frame, body);
    return frame;
}

Result<void> send_all(std::uint32_t ifindex, std::span<const Bytes> frames) {
    auto socket = open_packet_socket(ifindex, 0);
    if (!socket) {
        return socket.error();
    }
    for (const auto& frame : frames) {
        if (auto sent = send_frame(socket.value().get(), ifindex, frame); !sent) {
            return sent.error();
        }
    }
    return {};
}

} // namespace

std::vector<std::uint8_t> arp_frame(const Mac& destination, const Mac& source, const Arp& arp) {
    Bytes frame = ethernet(destination, source, ETH_P_ARP);
    append(frame, std::array<std::uint8_t, 6>{0, 1, 8, 0, 6, 4}); // Ethernet, IPv4, address lengths
    append_u16(frame, static_cast<std::uint16_t>(arp.operation));
    append(frame, arp.sender_mac);
    append_ip(frame, arp.sender_ip);
    append(frame, arp.target_mac);
    append_ip(frame, arp.target_ip);
    frame.resize(60); // minimum Ethernet frame without FCS
    return frame;
}

std::vector<std::uint8_t> advertisement_frame(const Mac& destination, const Mac& source,
                                              const IpBytes& destination_ip, const IpBytes& address, const Mac& mac,
                                              bool solicited) {
    Bytes body{136, 0, 0, 0, static_cast<std::uint8_t>(solicited ? 0x60 : 0x20), 0, 0, 0};
    append_ip(body, address);
    append(body, std::array<std::uint8_t, 2>{2, 1}); // target link-layer address, 8 bytes
    append(body, mac);
    return icmp6_frame(destination, source, address, destination_ip, std::move(body));
}

std::vector<std::uint8_t> solicitation_frame(const Mac& source, const IpBytes& address) {
    IpBytes group; // solicited-node multicast: ff02::1:ff and the last 24 bits
    group.family = AF_INET6;
    group.bytes = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
    std::copy(address.bytes.begin() + 13, address.bytes.end(), group.bytes.begin() + 13);
    const Mac group_mac{0x33, 0x33, 0xff, address.bytes[13], address.bytes[14], address.bytes[15]};
    IpBytes unspecified;
    unspecified.family = AF_INET6;
    Bytes body{135, 0, 0, 0, 0, 0, 0, 0};
    append_ip(body, address);
    return icmp6_frame(group_mac, source, unspecified, group, std::move(body));
}

Result<Fd> open_packet_socket(std::uint32_t ifindex, std::uint16_t protocol) {
    Fd socket{::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!socket) {
        return os_error(interface_name(ifindex), "cannot open a packet socket", errno);
    }
    const int on = 1;
    ::setsockopt(socket.get(), SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on);
    if (protocol != 0) {
        sockaddr_ll address{};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(protocol);
        address.sll_ifindex = static_cast<int>(ifindex);
        if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
            return os_error(interface_name(ifindex), "cannot bind a packet socket", errno);
        }
    }
    return socket;
}

Result<void> send_frame(int socket, std::uint32_t ifindex, std::span<const std::uint8_t> frame) {
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_ifindex = static_cast<int>(ifindex);
    if (::sendto(socket, frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&address),
                 sizeof address) < 0) {
        return os_error(interface_name(ifindex), "cannot send a frame", errno);
    }
    return {};
}

Result<Mac> mac_of(std::uint32_t ifindex) {
    const Fd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    ifreq query{};
    if (!socket || if_indextoname(ifindex, query.ifr_name) == nullptr ||
        ::ioctl(socket.get(), SIOCGIFHWADDR, &query) != 0) {
        return os_error(interface_name(ifindex), "cannot read the MAC", errno);
    }
    Mac mac{};
    std::memcpy(mac.data(), query.ifr_hwaddr.sa_data, mac.size());
    return mac;
}

Result<void> announce(std::uint32_t ifindex, const std::string& address, const Mac& mac) {
    const auto ip = parse_ip(address);
    if (!ip) {
        return ip.error();
    }
    const auto own = mac_of(ifindex);
    if (!own) {
        return own.error();
    }
    if (ip.value().family == AF_INET) {
        // Some stacks learn from the request form only, some from the reply form only.
        const Arp ask{ArpOperation::request, mac, ip.value(), Mac{}, ip.value()};
        const Arp tell{ArpOperation::reply, mac, ip.value(), broadcast_mac, ip.value()};
        const Bytes frames[]{arp_frame(broadcast_mac, own.value(), ask), arp_frame(broadcast_mac, own.value(), tell)};
        return send_all(ifindex, frames);
    }
    IpBytes all_nodes;
    all_nodes.family = AF_INET6;
    all_nodes.bytes = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    const Bytes frames[]{
        advertisement_frame({0x33, 0x33, 0, 0, 0, 1}, own.value(), all_nodes, ip.value(), mac, false)};
    return send_all(ifindex, frames);
}

Result<void> announce_to(std::uint32_t ifindex, const std::string& address, const Mac& mac,
                         const std::string& client_address, const Mac& client_mac) {
    const auto ip = parse_ip(address);
    const auto client = parse_ip(client_address);
    if (!ip || !client) {
        return ip ? client.error() : ip.error();
    }
    if (ip.value().family != client.value().family) {
        return Error{Errc::malformed, address, "and client " + client_address + " are of different IP versions"};
    }
    const auto own = mac_of(ifindex);
    if (!own) {
        return own.error();
    }
    if (ip.value().family == AF_INET) {
        const Arp tell{ArpOperation::reply, mac, ip.value(), client_mac, client.value()};
        const Bytes frames[]{arp_frame(client_mac, own.value(), tell)};
        return send_all(ifindex, frames);
    }
    const Bytes frames[]{advertisement_frame(client_mac, own.value(), client.value(), ip.value(), mac, true)};
    return send_all(ifindex, frames);
}

} // namespace stead::net
