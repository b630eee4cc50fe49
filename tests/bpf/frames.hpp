// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/filter/packet_filter.hpp>

#include <cstdint>
#include <string>
#include <vector>

/// Frames, byte by byte, for the filter's fixtures.
namespace stead::shim::test {

using Bytes = std::vector<std::uint8_t>;

[[nodiscard]] Ip ip4(int a, int b, int c, int d);
[[nodiscard]] Ip ip6(std::uint8_t last); ///< fd00::<last>

inline constexpr std::uint8_t syn = 2, ack = 16, rst = 4, fin = 1;

struct Spec {
    Mac destination{};
    Mac source{};
    Ip client{};
    Ip vip{};
    std::uint8_t protocol{6};
    std::uint16_t client_port{40000};
    std::uint16_t port{80};
    std::uint8_t tcp_flags{syn};
    std::uint16_t id{1};
    bool do_not_fragment{};
    int vlans{};
    int option_words{};            ///< IPv4 options
    std::uint16_t fragment{};      ///< IPv4 and IPv6: offset in units of 8 bytes
    bool more_fragments{};
    std::vector<std::uint8_t> extensions; ///< IPv6: next-header values in front of the transport
    std::uint8_t icmp_type{8};
    Bytes payload{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
};

[[nodiscard]] Bytes frame(const Spec& spec);
/// An ICMP(v6) error to the VIP from `router`, about a packet that the VIP sent to the client of `spec`.
[[nodiscard]] Bytes icmp_error(const Spec& spec, const Ip& router);
/// Only the first bytes of a frame.
[[nodiscard]] Bytes cut(Bytes whole, std::size_t size);
[[nodiscard]] Bytes arp(const Mac& destination, const Mac& source, std::uint16_t operation, const Ip& sender,
                        const Ip& target);
/// Neighbour solicitation (135) or advertisement (136).
[[nodiscard]] Bytes neighbour(const Mac& destination, const Mac& source, std::uint8_t type, const Ip& from,
                              const Ip& to, const Ip& target, const Mac& option, bool with_option = true);

} // namespace stead::shim::test
