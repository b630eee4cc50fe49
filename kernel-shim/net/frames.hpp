// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "netlink.hpp"

#include <stead/base/files.hpp>

#include <cstdint>
#include <span>
#include <vector>

/// ARP and neighbour discovery frames as bytes, and the packet socket they leave by.
namespace stead::net {

inline constexpr Mac broadcast_mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

enum class ArpOperation : std::uint8_t { request = 1, reply = 2 };
struct Arp {
    ArpOperation operation{};
    Mac sender_mac{};
    IpBytes sender_ip;
    Mac target_mac{};
    IpBytes target_ip;
};
[[nodiscard]] std::vector<std::uint8_t> arp_frame(const Mac& destination, const Mac& source, const Arp& arp);
/// Neighbour advertisement with override and a target link-layer option.
[[nodiscard]] std::vector<std::uint8_t> advertisement_frame(const Mac& destination, const Mac& source,
                                                            const IpBytes& destination_ip, const IpBytes& address,
                                                            const Mac& mac, bool solicited);
/// Neighbour solicitation from ::, as duplicate address detection sends it.
[[nodiscard]] std::vector<std::uint8_t> solicitation_frame(const Mac& source, const IpBytes& address);

/// `protocol` in host order; 0 = send only. Sends bypass the egress queue.
[[nodiscard]] Result<Fd> open_packet_socket(std::uint32_t ifindex, std::uint16_t protocol);
[[nodiscard]] Result<void> send_frame(int socket, std::uint32_t ifindex, std::span<const std::uint8_t> frame);
[[nodiscard]] Result<Mac> mac_of(std::uint32_t ifindex);

} // namespace stead::net
