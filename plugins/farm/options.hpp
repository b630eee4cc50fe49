// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/filter/packet_filter.hpp>
#include <stead/plugin.hpp>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace stead::farm {

/// userconfig.xml as the farm needs it: plain values, no host.
struct FarmOptions {
    struct Vip {
        std::string interface; ///< empty = by subnet
        std::string address;
        bool external{};
        shim::Delivery delivery{};
        shim::Mac vmac{};
        nanoseconds announce_interval{};
    };
    struct Rule {
        std::optional<std::string> address;
        bool arp{};
        std::uint8_t protocol{};
        std::uint16_t port{};
        shim::Key key{};
        shim::Track track{};
    };
    struct Group {
        std::string name;
        std::map<std::string, std::uint32_t> powers; ///< empty: all equal
        std::vector<Rule> rules;
        [[nodiscard]] std::uint32_t power_of(const std::string& node) const {
            const auto found = powers.find(node);
            return powers.empty() ? 1 : found == powers.end() ? 0 : found->second;
        }
    };
    std::vector<Vip> vips;
    std::vector<Group> groups;
    bool external{}; ///< another balancer asks the health URL: it needs the whole drain to notice a stop
    nanoseconds drain{}, movecap{}, slowstart{};
    nanoseconds period{milliseconds{50}}; ///< T of the heartbeats, as far as the farm's element says
    shim::Backend backend{};
    std::string partition{"serve"}, witness; ///< what a part of the farm does: serve, majority, witness
    bool script_control{}; ///< the gate follows resource farm.gate
    bool tcp_reset{true};  ///< connections that are left when the address goes are reset

    /// The node's power in each group. No part of the digest: each node tells the others its own.
    [[nodiscard]] std::vector<std::uint32_t> powers(const std::string& node) const;
    /// `<rule proto="arp">`: each client has a receiver of its own.
    [[nodiscard]] bool has_arp_rule() const;
    /// Equal on all nodes that may share a view.
    [[nodiscard]] std::uint64_t digest(const std::array<std::uint64_t, 2>& seed) const;
};

using Finding = std::function<void(std::uint32_t line, bool warning, const std::string& text)>;
/// Never throws for what a user wrote: findings tell it.
[[nodiscard]] FarmOptions read_options(const plugin::Config& service, const Finding& finding);

[[nodiscard]] std::optional<shim::Ip> parse_address(const std::string& text);
[[nodiscard]] std::optional<shim::Mac> parse_mac(std::string_view text);

} // namespace stead::farm
