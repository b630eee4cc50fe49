// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// Every limit that more than one folder must agree on. Units are in the names. A folder's own limits live with it.
namespace stead::limits {

inline constexpr std::uint32_t nodes_max = 64; // a NodeSet is one 64-bit word
inline constexpr std::uint32_t lans_max = 8;
inline constexpr std::uint32_t modules_max = 64; // module ids 1..64: ports and queue numbers derive from them
inline constexpr std::uint32_t name_bytes_max = 63; // node, LAN, module, group, resource segment
inline constexpr std::uint32_t datagram_bytes_max = 1400; // below the usual MTU: never fragmented
inline constexpr std::uint32_t heartbeat_bytes_max = 450; // sealed, at 64 nodes
inline constexpr std::uint32_t power_max = 1000; // relative weight of a farm member

inline constexpr std::uint32_t resource_name_bytes_max = 127;
inline constexpr std::uint32_t resource_value_bytes_max = 255;
inline constexpr std::uint32_t resources_per_member_max = 512;
inline constexpr std::uint32_t peer_message_bytes_max = 1100; // one datagram, sealed
inline constexpr std::uint32_t peer_messages_in_flight_max = 64;

inline constexpr std::uint32_t stream_frame_bytes_max = 16u << 20;

} // namespace stead::limits
