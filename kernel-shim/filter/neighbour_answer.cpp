// SPDX-License-Identifier: Apache-2.0
#include "neighbour_answer.hpp"

#include <arpa/inet.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>

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

} // namespace stead::shim
