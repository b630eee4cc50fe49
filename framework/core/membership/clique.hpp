// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/limits.hpp>

#include <array>
#include <cstdint>

namespace stead::membership {

/// Row i = the nodes joined to i by a good edge. Symmetric; the diagonal does not matter.
using Matrix = std::array<std::uint64_t, limits::nodes_max>;

inline constexpr std::uint32_t clique_budget = 20'000; ///< search steps; beyond it a greedy answer is taken

struct Clique {
    NodeSet members;
    bool budget_exceeded{};
};

/// Rows become columns: bit j of row i goes to bit i of row j.
void transpose(Matrix& matrix) noexcept;

/// The best clique among `nodes`: most members, then most of `present`, then lowest ids. Equal input, equal answer on
/// every machine; also when the budget is exceeded.
[[nodiscard]] Clique maximum_clique(const Matrix& matrix, NodeSet nodes, NodeSet present,
                                    std::uint32_t budget = clique_budget) noexcept;

/// True when `a` is to be preferred to `b` by the order above.
[[nodiscard]] bool better_set(NodeSet a, NodeSet b, NodeSet present) noexcept;

} // namespace stead::membership
