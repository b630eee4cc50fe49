// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/filter/packet_filter.hpp>
#include <stead/shim/farm_layout.h>

#include <cstdint>
#include <vector>

/// The data that both back ends hand to verdict.h, made from the options once.
namespace stead::shim {

struct FarmModel {
    stead_farm_config config{};
    std::vector<std::array<std::uint8_t, 65536>> port_rules; ///< 2 * vip + (0 TCP, 1 UDP); index: port as loaded

    /// Errors: out_of_range or malformed, naming the option and what is allowed.
    [[nodiscard]] static Result<FarmModel> make(const FilterOptions& options);
    /// The rule of a local port, or null.
    [[nodiscard]] const stead_rule* rule_of(std::size_t vip, std::uint8_t protocol, std::uint16_t port_be) const;
    [[nodiscard]] int vip_of(const void* address16) const;
};

/// One group's table as the data path reads it.
struct EncodedTable {
    std::vector<std::uint8_t> entries;
    std::vector<stead_bucket_detail> details;

    [[nodiscard]] static Result<EncodedTable> make(const GroupTable& table, std::uint8_t groups);
};

/// Our own MAC and addresses on an interface. VIPs are left out, also those of other modules (/32 and /128): a
/// neighbour that was told one of them with our MAC would send its traffic here.
struct OwnAddresses {
    Mac mac{};
    std::uint32_t address4_be{};
    std::array<std::uint32_t, 4> address6_be{};
};
[[nodiscard]] OwnAddresses own_addresses(std::uint32_t ifindex, const stead_farm_config& config);

/// Established TCP connections to the VIPs, by sock_diag, per bucket; plus what `count` already holds (65536 entries).
[[nodiscard]] Result<void> count_connections(const FarmModel& model, std::uint8_t group,
                                             std::vector<std::uint32_t>& count);
[[nodiscard]] std::uint16_t bucket_of_flow(const FarmModel& model, const stead_rule& rule, const void* client16,
                                           std::uint16_t client_port_be);
[[nodiscard]] std::vector<Held> held_from(const std::vector<std::uint32_t>& count);

[[nodiscard]] Result<std::unique_ptr<PacketFilter>> open_ebpf(const FilterOptions& options);
[[nodiscard]] Result<std::unique_ptr<PacketFilter>> open_nfqueue(const FilterOptions& options, const std::string& why);

void remove_nfqueue_leftovers(std::uint8_t module_id);

} // namespace stead::shim
