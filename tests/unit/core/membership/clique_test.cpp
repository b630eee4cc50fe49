// SPDX-License-Identifier: Apache-2.0
#include "clique.hpp"

#include <gtest/gtest.h>

#include <initializer_list>
#include <utility>

namespace stead::membership {
namespace {

NodeSet set(std::initializer_list<int> nodes) {
    NodeSet result;
    for (const int node : nodes) {
        result.insert(NodeId{static_cast<std::uint8_t>(node)});
    }
    return result;
}

Matrix edges(std::initializer_list<std::pair<int, int>> list) {
    Matrix rows{};
    for (const auto& [a, b] : list) {
        rows[static_cast<std::size_t>(a)] |= std::uint64_t{1} << b;
        rows[static_cast<std::size_t>(b)] |= std::uint64_t{1} << a;
    }
    return rows;
}

Matrix full(int nodes) {
    Matrix rows{};
    for (int node = 0; node < nodes; ++node) {
        rows[static_cast<std::size_t>(node)] = nodes == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << nodes) - 1;
    }
    return rows;
}

void disconnect(Matrix& rows, unsigned a, unsigned b) {
    rows[a] &= ~(std::uint64_t{1} << b);
    rows[b] &= ~(std::uint64_t{1} << a);
}

TEST(Matrix, RowsBecomeColumns) {
    Matrix rows{};
    std::uint64_t state = 7;
    for (std::uint64_t& row : rows) {
        row = state = state * 6364136223846793005u + 1442695040888963407u;
    }
    Matrix columns = rows;
    transpose(columns);
    for (unsigned i = 0; i < 64; ++i) {
        for (unsigned j = 0; j < 64; ++j) {
            ASSERT_EQ(columns[j] >> i & 1, rows[i] >> j & 1) << i << "," << j;
        }
    }
}

TEST(Clique, OfNothingIsNothing) { EXPECT_TRUE(maximum_clique({}, {}, {}).members.empty()); }

TEST(Clique, ANodeWithoutEdgesIsAlone) { EXPECT_EQ(maximum_clique({}, set({5}), {}).members, set({5})); }

TEST(Clique, LeavesTheHalfDeafNodeOut) {
    EXPECT_EQ(maximum_clique(edges({{0, 1}, {0, 2}, {1, 2}, {2, 3}}), set({0, 1, 2, 3}), {}).members, set({0, 1, 2}));
}

TEST(Clique, OfEqualOnesKeepsThePresentView) {
    const Matrix line = edges({{0, 1}, {1, 2}});
    EXPECT_EQ(maximum_clique(line, set({0, 1, 2}), {}).members, set({0, 1}));
    EXPECT_EQ(maximum_clique(line, set({0, 1, 2}), set({1, 2})).members, set({1, 2}));
}

TEST(Clique, TakesOnlyEligibleNodes) {
    EXPECT_EQ(maximum_clique(full(5), set({1, 3}), {}).members, set({1, 3}));
}

TEST(Clique, SixtyFourNodesWithScatteredFailuresStayWithinTheBudget) {
    Matrix rows = full(64);
    for (unsigned i = 0; i < 10; ++i) {
        disconnect(rows, 3 * i, 3 * i + 1);
    }
    const Clique found = maximum_clique(rows, NodeSet{~std::uint64_t{0}}, {});
    EXPECT_FALSE(found.budget_exceeded);
    EXPECT_EQ(found.members.size(), 54);
    for (unsigned i = 0; i < 10; ++i) { // the lower of each pair stays
        EXPECT_TRUE(found.members.contains(NodeId{static_cast<std::uint8_t>(3 * i)}));
    }
}

TEST(Clique, AnExceededBudgetStillGivesAClique) {
    Matrix rows = full(64);
    for (unsigned a = 0; a < 64; a += 3) { // 3^21 maximal cliques
        disconnect(rows, a, (a + 1) % 64);
        disconnect(rows, a, (a + 2) % 64);
        disconnect(rows, (a + 1) % 64, (a + 2) % 64);
    }
    const Clique found = maximum_clique(rows, NodeSet{~std::uint64_t{0}}, {}, 100);
    EXPECT_TRUE(found.budget_exceeded);
    EXPECT_GE(found.members.size(), 20);
    for (const NodeId node : found.members) {
        NodeSet others = found.members;
        others.erase(node);
        EXPECT_EQ((NodeSet{rows[index(node)]} & others), others);
    }
}

// Every matrix over five nodes, against a search through all subsets.
TEST(Clique, AgreesWithExhaustiveSearch) {
    const NodeSet all = set({0, 1, 2, 3, 4});
    const NodeSet present = set({1, 3, 4});
    for (unsigned bits = 0; bits < 1024; ++bits) {
        Matrix rows{};
        for (unsigned a = 0, bit = 0; a < 5; ++a) {
            for (unsigned b = a + 1; b < 5; ++b, ++bit) {
                if ((bits >> bit & 1) != 0) {
                    rows[a] |= std::uint64_t{1} << b;
                    rows[b] |= std::uint64_t{1} << a;
                }
            }
        }
        NodeSet best;
        for (std::uint64_t subset = 1; subset < 32; ++subset) {
            bool clique = true;
            for (const NodeId node : NodeSet{subset}) {
                const std::uint64_t others = subset & ~(std::uint64_t{1} << index(node));
                clique = clique && (rows[index(node)] & others) == others;
            }
            if (clique && better_set(NodeSet{subset}, best, present)) {
                best = NodeSet{subset};
            }
        }
        ASSERT_EQ(maximum_clique(rows, all, present).members, best) << bits;
    }
}

} // namespace
} // namespace stead::membership
