// SPDX-License-Identifier: Apache-2.0
#include <stead/base/ids.hpp>

#include <gtest/gtest.h>

#include <vector>

namespace stead {
namespace {

TEST(NodeSet, IteratesInAscendingOrderUpToTheLastBit) {
    const NodeSet set{NodeId{63}, NodeId{0}, NodeId{5}};
    std::vector<int> seen;
    for (const NodeId node : set) {
        seen.push_back(index(node));
    }
    EXPECT_EQ(seen, (std::vector<int>{0, 5, 63}));
    EXPECT_EQ(set.size(), 3);
    EXPECT_EQ(set.first(), NodeId{0});
}

TEST(NodeSet, SetOperations) {
    const NodeSet a{NodeId{1}, NodeId{2}};
    const NodeSet b{NodeId{2}, NodeId{3}};
    EXPECT_EQ(a - b, NodeSet{NodeId{1}});
    EXPECT_EQ(a & b, NodeSet{NodeId{2}});
    EXPECT_TRUE((a | b).contains_all(a));
    EXPECT_FALSE(a.contains_all(b));
}

} // namespace
} // namespace stead
