// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/farm/powers.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// What the nodes of a farm tell each other (farm.proto), as plain values. Decoding refuses what no node would send;
/// whether it fits the view is for the receiver to judge.
namespace stead::farm {

inline constexpr std::uint32_t message_version = 1; ///< other versions are ignored

/// As PacketFilter's Step, repeated so that the core stays free of the shim.
enum class MoveStep : std::uint8_t { settled, accept_forwarded, forward, take, release };

struct Plan {
    Weights base{}, target{}; ///< weights of those that own something
    MoveStep step{};
    std::uint64_t seq{};
    std::uint64_t lineage{}; ///< the view in which it began; plans of two lineages have nothing in common
    friend bool operator==(const Plan&, const Plan&) = default;
};

/// What a member says about a view: its plan at install, which stays, and how far it is, which grows.
struct Report {
    std::uint64_t view_id{};
    bool in_line{};
    Plan plan;
    std::vector<PowerList> powers; ///< behind own weights, in the plan and in the views since the last exchange
    bool exchanged{};
    bool holding{};
    std::uint64_t reached{};
    friend bool operator==(const Report&, const Report&) = default;
};

/// In which buckets of one group the sender holds connections.
struct HeldReport {
    std::uint64_t view_id{};
    std::uint64_t seq{};
    std::uint32_t group{};
    std::string bits; ///< empty = none
    friend bool operator==(const HeldReport&, const HeldReport&) = default;
};

/// "Take this power": nothing = as configured.
struct PowerWish {
    std::optional<std::uint32_t> power;
    friend bool operator==(const PowerWish&, const PowerWish&) = default;
};

[[nodiscard]] std::string encode(const Report& report);
[[nodiscard]] std::string encode(const HeldReport& held);
[[nodiscard]] std::string encode(const PowerWish& wish);
[[nodiscard]] std::optional<Report> decode_report(std::string_view bytes);
[[nodiscard]] std::optional<HeldReport> decode_held(std::string_view bytes);
[[nodiscard]] std::optional<PowerWish> decode_power_wish(std::string_view bytes);

} // namespace stead::farm
