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

} // namespace stead::shim
