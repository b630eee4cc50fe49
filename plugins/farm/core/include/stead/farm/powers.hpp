// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/limits.hpp>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <utility>
#include <vector>

/// What the 16-bit weight that membership agrees on says about a member's power: docs/farm-moves.md. Pure.
namespace stead::farm {

using Weights = std::array<std::uint16_t, limits::nodes_max>;

/// A member's powers, one per group (0..power_max). Never changes while a plan names its tag.
struct PowerList {
    std::uint16_t tag{};
    std::vector<std::uint32_t> powers;
    friend bool operator==(const PowerList&, const PowerList&) = default;
};

/// Weight of an open node: `percent` (1..100) of one power in all groups.
[[nodiscard]] std::uint16_t weight_of_power(unsigned percent, std::uint32_t power) noexcept;
/// Weight of an open node: `percent` of the powers that it lists under `tag`.
[[nodiscard]] std::uint16_t weight_of_list(unsigned percent, std::uint16_t tag) noexcept;

/// The lists behind the weights of one node and of those it heard of.
class PowerLists {
public:
    explicit PowerLists(NodeId self) : self_(self) {}

    /// The weight that says "`percent` of these powers"; makes a list under a new tag when groups differ.
    [[nodiscard]] std::uint16_t weight(unsigned percent, const std::vector<std::uint32_t>& powers);
    /// This node's own lists behind these weights, for a report.
    [[nodiscard]] std::vector<PowerList> own(std::vector<std::uint16_t> weights,
                                             std::initializer_list<std::uint16_t> more) const;
    /// Takes over what a member says of itself; true when a tag means something else now: the member is a new session.
    bool learn(NodeId node, const std::vector<PowerList>& lists);
    /// 0..power_max * 100; 0 for a list that nobody told, which keeps the node out of the table everywhere alike.
    [[nodiscard]] std::uint32_t effective(NodeId node, std::uint16_t weight, std::size_t group) const;

private:
    NodeId self_;
    std::uint16_t last_tag_{};
    std::map<std::pair<NodeId, std::uint16_t>, std::vector<std::uint32_t>> lists_;
};

} // namespace stead::farm
