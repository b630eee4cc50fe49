// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <compare>
#include <cstdint>
#include <functional>
#include <initializer_list>

namespace stead {

/// A node's index in the list of all node names of cluster.xml, sorted bytewise: 0..63. Equal on every node that has
/// the same cluster.xml; peers with another cluster.xml are told apart by the cluster id on the wire.
enum class NodeId : std::uint8_t {};

/// A LAN's index in cluster.xml order: 0..7.
enum class LanId : std::uint8_t {};

/// A module's number, unique in the cluster: 1..64 (`module install -M ID`). Group 0 is the node group of steadd.
enum class GroupId : std::uint8_t {};
inline constexpr GroupId node_group{0};

[[nodiscard]] constexpr std::uint8_t index(NodeId id) noexcept { return static_cast<std::uint8_t>(id); }
[[nodiscard]] constexpr std::uint8_t index(LanId id) noexcept { return static_cast<std::uint8_t>(id); }
[[nodiscard]] constexpr std::uint8_t index(GroupId id) noexcept { return static_cast<std::uint8_t>(id); }

/// One random 128-bit number, new at each start of a process: a sender's incarnation.
struct SessionId {
    std::uint64_t high{};
    std::uint64_t low{};
    auto operator<=>(const SessionId&) const = default;
    [[nodiscard]] constexpr bool is_zero() const noexcept { return high == 0 && low == 0; }
};

/// A set of nodes in one 64-bit word. Iterates in ascending order.
class NodeSet {
public:
    constexpr NodeSet() = default;
    constexpr explicit NodeSet(std::uint64_t bits) noexcept : bits_(bits) {}
    constexpr NodeSet(std::initializer_list<NodeId> nodes) noexcept {
        for (NodeId node : nodes) {
            insert(node);
        }
    }
    constexpr void insert(NodeId node) noexcept { bits_ |= bit(node); }
    constexpr void erase(NodeId node) noexcept { bits_ &= ~bit(node); }
    [[nodiscard]] constexpr bool contains(NodeId node) const noexcept { return (bits_ & bit(node)) != 0; }
    [[nodiscard]] constexpr bool contains_all(NodeSet other) const noexcept { return (other.bits_ & ~bits_) == 0; }
    [[nodiscard]] constexpr bool empty() const noexcept { return bits_ == 0; }
    [[nodiscard]] constexpr int size() const noexcept { return std::popcount(bits_); }
    [[nodiscard]] constexpr std::uint64_t bits() const noexcept { return bits_; }
    /// The lowest member. The set must not be empty.
    [[nodiscard]] constexpr NodeId first() const noexcept { return NodeId(std::countr_zero(bits_)); }

    friend constexpr NodeSet operator&(NodeSet a, NodeSet b) noexcept { return NodeSet{a.bits_ & b.bits_}; }
    friend constexpr NodeSet operator|(NodeSet a, NodeSet b) noexcept { return NodeSet{a.bits_ | b.bits_}; }
    /// Members of `a` that are not in `b`.
    friend constexpr NodeSet operator-(NodeSet a, NodeSet b) noexcept { return NodeSet{a.bits_ & ~b.bits_}; }
    friend constexpr auto operator<=>(NodeSet, NodeSet) = default;

    class Iterator {
    public:
        constexpr explicit Iterator(std::uint64_t rest) noexcept : rest_(rest) {}
        constexpr NodeId operator*() const noexcept { return NodeId(std::countr_zero(rest_)); }
        constexpr Iterator& operator++() noexcept {
            rest_ &= rest_ - 1;
            return *this;
        }
        constexpr bool operator==(const Iterator&) const = default;

    private:
        std::uint64_t rest_;
    };
    [[nodiscard]] constexpr Iterator begin() const noexcept { return Iterator{bits_}; }
    [[nodiscard]] constexpr Iterator end() const noexcept { return Iterator{0}; }

private:
    static constexpr std::uint64_t bit(NodeId node) noexcept { return std::uint64_t{1} << index(node); }
    std::uint64_t bits_{};
};

} // namespace stead
