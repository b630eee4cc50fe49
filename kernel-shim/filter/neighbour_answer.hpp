// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/filter/packet_filter.hpp>
#include <stead/shim/packet.h>

#include <cstdint>
#include <span>
#include <vector>

namespace stead::shim {

/// The frame that answers an ARP request or a neighbour solicitation for `vip`: sent from `own_mac`, saying that the
/// VIP
/// is at `claimed`. Empty when the question is cut short. Answers to a tagged frame keep its tags.
[[nodiscard]] std::vector<std::uint8_t> neighbour_answer(std::span<const std::uint8_t> question,
                                                         const stead_packet& packet, const stead_vip& vip,
                                                         const std::uint8_t* own_mac, const std::uint8_t* claimed);

/// A packet socket (not blocking, of all interfaces) that hears such questions before any rule of the kernel drops
/// them, and nothing else. -1: errno says why. The caller closes it.
[[nodiscard]] int open_neighbour_questions();

} // namespace stead::shim
