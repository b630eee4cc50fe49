// SPDX-License-Identifier: Apache-2.0
#include "neighbour_answer.hpp"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace stead::shim {

namespace {

std::uint16_t checksum(const ip6_hdr& ip, std::span<const std::uint8_t> body) {
    std::uint32_t sum = static_cast<std::uint32_t>(body.size()) + IPPROTO_ICMPV6;
    const auto add = [&sum](const std::uint8_t* bytes, std::size_t size) {
        for (std::size_t i = 0; i + 1 < size; i += 2) {
            sum += static_cast<std::uint32_t>(bytes[i] << 8 | bytes[i + 1]);
        }
    };
    add(reinterpret_cast<const std::uint8_t*>(&ip.ip6_src), 32); // source and destination lie together
    add(body.data(), body.size());
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return htons(static_cast<std::uint16_t>(~sum));
}

void append(std::vector<std::uint8_t>& frame, const void* bytes, std::size_t size) {
    const auto* from = static_cast<const std::uint8_t*>(bytes);
    frame.insert(frame.end(), from, from + size);
}

void append_arp(std::vector<std::uint8_t>& frame, const ether_arp& question, const std::uint8_t* claimed) {
    ether_arp arp = question;
    arp.ea_hdr.ar_op = htons(ARPOP_REPLY);
    std::memcpy(arp.arp_tha, question.arp_sha, 6);
    std::memcpy(arp.arp_tpa, question.arp_spa, 4);
    std::memcpy(arp.arp_sha, claimed, 6);
    std::memcpy(arp.arp_spa, question.arp_tpa, 4);
    append(frame, &arp, sizeof(arp));
}

void append_advertisement(std::vector<std::uint8_t>& frame, const stead_packet& packet, const stead_vip& vip,
                          const std::uint8_t* claimed, bool anonymous) {
    struct {
        nd_neighbor_advert advert;
        std::uint8_t option[8];
    } body{};
    ip6_hdr ip{};
    ip.ip6_vfc = 0x60;
    ip.ip6_plen = htons(sizeof(body));
    ip.ip6_nxt = IPPROTO_ICMPV6;
    ip.ip6_hlim = 255;
    std::memcpy(&ip.ip6_src, vip.address_be, 16);
    std::memcpy(&ip.ip6_dst, packet.client_be, 16);
    if (anonymous) { // duplicate address detection: everybody hears it
        ip.ip6_dst = {};
        ip.ip6_dst.s6_addr[0] = 0xff;
        ip.ip6_dst.s6_addr[1] = 0x02;
        ip.ip6_dst.s6_addr[15] = 0x01;
    }
    body.advert.nd_na_type = ND_NEIGHBOR_ADVERT;
    body.advert.nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE | (anonymous ? 0u : ND_NA_FLAG_SOLICITED);
    std::memcpy(&body.advert.nd_na_target, vip.address_be, 16);
    body.option[0] = ND_OPT_TARGET_LINKADDR;
    body.option[1] = 1;
    std::memcpy(body.option + 2, claimed, 6);
    body.advert.nd_na_cksum = checksum(ip, {reinterpret_cast<const std::uint8_t*>(&body), sizeof(body)});
    append(frame, &ip, sizeof(ip));
    append(frame, &body, sizeof(body));
}

} // namespace

std::vector<std::uint8_t> neighbour_answer(std::span<const std::uint8_t> question, const stead_packet& packet,
                                           const stead_vip& vip, const std::uint8_t* own_mac,
                                           const std::uint8_t* claimed) {
    static constexpr std::uint8_t all_nodes[6] = {0x33, 0x33, 0, 0, 0, 1};
    const std::size_t offset = packet.network_offset;
    if (question.size() < offset || offset < sizeof(ether_header)) {
        return {};
    }
    std::vector<std::uint8_t> frame(question.begin(), question.begin() + static_cast<std::ptrdiff_t>(offset));
    std::memcpy(frame.data() + 6, own_mac, 6);
    if (packet.kind == STEAD_ARP_REQUEST) {
        ether_arp arp{};
        if (question.size() < offset + sizeof(arp)) {
            return {};
        }
        std::memcpy(&arp, question.data() + offset, sizeof(arp));
        std::memcpy(frame.data(), packet.source_mac, 6);
        append_arp(frame, arp, claimed);
        return frame;
    }
    const bool anonymous = (packet.client_be[0] | packet.client_be[1] | packet.client_be[2] | packet.client_be[3]) == 0;
    std::memcpy(frame.data(), anonymous ? all_nodes : packet.source_mac, 6);
    append_advertisement(frame, packet, vip, claimed, anonymous);
    return frame;
}

int open_neighbour_questions() {
    sock_filter code[] = {{BPF_LD | BPF_H | BPF_ABS, 0, 0, 12},
                          {BPF_JMP | BPF_JEQ | BPF_K, 5, 0, ETH_P_ARP},
                          {BPF_JMP | BPF_JEQ | BPF_K, 0, 5, ETH_P_IPV6},
                          {BPF_LD | BPF_B | BPF_ABS, 0, 0, 20},
                          {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 58},
                          {BPF_LD | BPF_B | BPF_ABS, 0, 0, 54},
                          {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 135},
                          {BPF_RET | BPF_K, 0, 0, 2048},
                          {BPF_RET | BPF_K, 0, 0, 0}};
    const sock_fprog program{sizeof(code) / sizeof(code[0]), code};
    const int one = 1;
    sockaddr_ll where{};
    where.sll_family = AF_PACKET;
    where.sll_protocol = htons(ETH_P_ALL);
    const int fd = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0 ||
        ::setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) != 0 ||
        ::bind(fd, reinterpret_cast<const sockaddr*>(&where), sizeof(where)) != 0) {
        const int why = errno;
        ::close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

} // namespace stead::shim
