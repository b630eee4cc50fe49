// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <cstdint>
#include <string>

/// tc and XDP hooks of one interface, by netlink alone: no link object, nothing pinned, so that they outlive us.
namespace stead::shim {

inline constexpr std::uint32_t tc_priority_base = 0xC000;

enum class Direction : std::uint8_t { ingress, egress };

[[nodiscard]] Result<void> attach_tc(std::uint32_t ifindex, Direction direction, std::uint8_t module_id,
                                     int program_fd);
/// Not there is success.
void detach_tc(std::uint32_t ifindex, Direction direction, std::uint8_t module_id);
/// The id of our program there, 0 = none.
[[nodiscard]] std::uint32_t query_tc(std::uint32_t ifindex, Direction direction, std::uint8_t module_id);

/// The name of a program of somebody else's on the interface's tcx hooks, empty = none. tcx runs before tc and would
/// decide over our head.
[[nodiscard]] std::string foreign_tcx(std::uint32_t ifindex);

/// Takes the XDP slot if it is free or holds an earlier program of this module. Otherwise the text says why not.
struct XdpAttachment {
    bool held{};
    std::string why_not;
};
[[nodiscard]] XdpAttachment attach_xdp(std::uint32_t ifindex, std::uint8_t module_id, int program_fd);
/// Detaches the XDP program when it is this module's.
void detach_xdp(std::uint32_t ifindex, std::uint8_t module_id);
[[nodiscard]] std::uint32_t query_xdp(std::uint32_t ifindex);

[[nodiscard]] std::uint32_t program_id(int program_fd);
[[nodiscard]] std::string interface_name(std::uint32_t ifindex);

} // namespace stead::shim
