// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/limits.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace stead::farm {

inline constexpr std::uint8_t no_owner = 0xff;
/// Effective power per node, 0..power_max * 100; 0 = owns nothing.
using Powers = std::array<std::uint32_t, limits::nodes_max>;

/// Owner tables by weighted rendezvous over member names: docs/farm-moves.md. Integers only, so all machines agree.
/// Costs are computed once per member name and kept (4 bytes per bucket).
class Rendezvous {
public:
    Rendezvous(std::array<std::uint64_t, 2> seed, std::uint32_t buckets);
    /// Names must be set before a node with power > 0 appears in owners().
    void set_name(NodeId node, const std::string& name);
    [[nodiscard]] std::uint32_t buckets() const noexcept { return buckets_; }
    /// One entry per bucket: index of the owning node, or no_owner when all powers are 0.
    [[nodiscard]] std::vector<std::uint8_t> owners(const Powers& powers) const;
    /// Who of `candidates` is responsible for something with a name of its own (the receiver of an address); the
    /// candidates must have names. no_owner when there are none.
    [[nodiscard]] std::uint8_t choose(const std::string& subject, NodeSet candidates) const;

private:
    std::array<std::uint64_t, 2> seed_;
    std::uint32_t buckets_;
    std::array<std::string, limits::nodes_max> names_;
    std::array<std::vector<std::uint32_t>, limits::nodes_max> cost_; ///< -log2(u), 25 fraction bits
};

/// SipHash-2-4 of a text. Keyed, so that nobody without the seed can aim at one server.
[[nodiscard]] std::uint64_t sip_hash(const std::array<std::uint64_t, 2>& key, std::span<const char> text) noexcept;
/// -log2((u + 1) / 2^64) with 25 fraction bits.
[[nodiscard]] std::uint32_t minus_log2(std::uint64_t u) noexcept;

} // namespace stead::farm
