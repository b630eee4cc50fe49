// SPDX-License-Identifier: Apache-2.0
#include <stead/core/whiteboard.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <random>

namespace stead::whiteboard {
namespace {

constexpr NodeId a{0};
constexpr NodeId b{1};
const SessionId session_a{1, 1};
const SessionId session_b{2, 2};

std::map<std::string, std::string> of(const Board& board, NodeId owner) {
    std::map<std::string, std::string> out;
    for (const Change& change : board.all()) {
        if (change.owner == owner) {
            out[change.entry.name] = change.entry.value;
        }
    }
    return out;
}

TEST(Whiteboard, WritesAndRemovalsSpread) {
    Board owner{a, session_a};
    Board reader{b, session_b};
    ASSERT_TRUE(owner.write("tcp.web", "up"));
    for (const Delta& delta : owner.deltas_since(0, 1000)) {
        EXPECT_EQ(reader.apply(delta).size(), 1U);
    }
    EXPECT_EQ(of(reader, a).at("tcp.web"), "up");
    EXPECT_FALSE(reader.check(a, session_a, owner.digest()));
    const auto same = owner.write("tcp.web", "up");
    ASSERT_TRUE(same);
    EXPECT_FALSE(*same) << "the same value again is no write";
    ASSERT_TRUE(owner.write("tcp.web", std::nullopt));
    const auto request = reader.check(a, session_a, owner.digest());
    ASSERT_TRUE(request);
    EXPECT_EQ(request->from, 1U);
    for (const Delta& delta : owner.deltas_since(request->from, 1000)) {
        const auto changes = reader.apply(delta);
        ASSERT_EQ(changes.size(), 1U);
        EXPECT_TRUE(changes[0].entry.removed);
    }
    EXPECT_TRUE(of(reader, a).empty());
}

TEST(Whiteboard, LimitsNameTheValueAndWhatIsAllowed) {
    Board owner{a, session_a};
    EXPECT_FALSE(owner.write("", "x"));
    EXPECT_FALSE(owner.write(std::string(limits::resource_name_bytes_max + 1, 'n'), "x"));
    EXPECT_TRUE(owner.write(std::string(limits::resource_name_bytes_max, 'n'), "x"));
    const auto large = owner.write("v", std::string(limits::resource_value_bytes_max + 1, 'v'));
    ASSERT_FALSE(large);
    EXPECT_EQ(large.error().code, Errc::out_of_range);
    EXPECT_THAT(large.error().text(), testing::HasSubstr("at most 255"));
    for (std::uint32_t i = 1; i < limits::resources_per_member_max; ++i) {
        ASSERT_TRUE(owner.write("r" + std::to_string(i), "x"));
    }
    EXPECT_FALSE(owner.write("one too many", "x"));
    EXPECT_TRUE(owner.write("r1", std::nullopt));
    EXPECT_TRUE(owner.write("one too many", "x"));
}

TEST(Whiteboard, AnOwnerThatLeavesOrRestartsTakesItsResourcesAlong) {
    Board owner{a, session_a};
    Board reader{b, session_b};
    (void)owner.write("x", "1");
    (void)owner.write("y", "2");
    (void)reader.apply(owner.deltas_since(0, 1000)[0]);
    Board restarted{a, {9, 9}};
    (void)restarted.write("y", "3");
    const auto changes = reader.apply(restarted.deltas_since(0, 1000)[0]);
    EXPECT_EQ(changes.size(), 3U) << "two removals and one write";
    EXPECT_EQ(of(reader, a), (std::map<std::string, std::string>{{"y", "3"}}));
    EXPECT_EQ(reader.drop(a).size(), 1U);
    EXPECT_TRUE(reader.all().empty());
}

TEST(Whiteboard, RemovalsBeyondTheTombstonesAreToldByAFullCopy) {
    Board owner{a, session_a};
    Board reader{b, session_b};
    (void)owner.write("gone", "1");
    (void)owner.write("stays", "1");
    (void)reader.apply(owner.deltas_since(0, 1000)[0]);
    (void)owner.write("gone", std::nullopt);
    for (std::size_t i = 0; i < Board::tombstones_max + 10; ++i) {
        ASSERT_TRUE(owner.write("t" + std::to_string(i), "1"));
        ASSERT_TRUE(owner.write("t" + std::to_string(i), std::nullopt));
    }
    const auto request = reader.check(a, session_a, owner.digest());
    ASSERT_TRUE(request);
    std::vector<Change> changes;
    for (const Delta& delta : owner.deltas_since(request->from, 1000)) {
        for (Change& change : reader.apply(delta)) {
            changes.push_back(change);
        }
    }
    ASSERT_EQ(changes.size(), 1U);
    EXPECT_EQ(changes[0].entry.name, "gone");
    EXPECT_TRUE(changes[0].entry.removed);
    EXPECT_FALSE(reader.check(a, session_a, owner.digest()));
}

// Goal: whatever is lost, doubled or reordered, all boards agree soon after the faults end, and the changes that were
// reported add up to what a reader sees. Method: one seed is one history; half of all deltas are lost.
class Lossy : public testing::TestWithParam<std::uint32_t> {};

TEST_P(Lossy, BoardsConverge) {
    std::mt19937 random{GetParam()};
    std::array<Board, 3> boards{Board{NodeId{0}, {1, 1}}, Board{NodeId{1}, {2, 2}}, Board{NodeId{2}, {3, 3}}};
    const std::array<SessionId, 3> sessions{SessionId{1, 1}, SessionId{2, 2}, SessionId{3, 3}};
    std::array<std::map<std::pair<NodeId, std::string>, std::string>, 3> seen;
    std::vector<std::pair<std::size_t, Delta>> flying;
    const auto deliver = [&](std::size_t to, const Delta& delta) {
        for (const Change& change : boards[to].apply(delta)) {
            const auto key = std::make_pair(change.owner, change.entry.name);
            if (change.entry.removed) {
                seen[to].erase(key);
            } else {
                seen[to][key] = change.entry.value;
            }
        }
    };
    for (int step = 0; step < 3000; ++step) {
        const bool faults = step < 2000;
        const std::size_t from = random() % 3;
        if (faults) {
            const std::string name = "r" + std::to_string(random() % 40);
            const std::uint64_t before = boards[from].version();
            const bool remove = random() % 4 == 0;
            (void)boards[from].write(name,
                                     remove ? std::nullopt : std::optional<std::string_view>{std::to_string(step)});
            for (std::size_t to = 0; to < 3 && boards[from].version() != before; ++to) {
                if (to != from && random() % 2 == 0) {
                    flying.emplace_back(to, boards[from].deltas_since(before, 200)[0]);
                }
            }
        }
        const std::size_t to = (from + 1 + random() % 2) % 3;
        if (const auto request = boards[to].check(NodeId(from), sessions[from], boards[from].digest())) {
            for (const Delta& delta : boards[from].deltas_since(request->from, 120)) {
                if (!faults || random() % 2 == 0) {
                    flying.emplace_back(to, delta);
                }
            }
        }
        for (int i = 0; i < 4 && !flying.empty(); ++i) {
            const std::size_t at = faults ? random() % flying.size() : 0;
            deliver(flying[at].first, flying[at].second);
            if (!faults || random() % 8 != 0) { // else it stays and arrives again
                flying.erase(flying.begin() + static_cast<std::ptrdiff_t>(at));
            }
        }
    }
    for (std::size_t reader = 0; reader < 3; ++reader) {
        for (std::size_t owner = 0; owner < 3; ++owner) {
            EXPECT_EQ(of(boards[reader], NodeId(owner)), of(boards[owner], NodeId(owner)));
        }
        std::map<std::pair<NodeId, std::string>, std::string> expected;
        for (const Change& change : boards[reader].all()) {
            if (change.owner != NodeId(reader)) {
                expected[{change.owner, change.entry.name}] = change.entry.value;
            }
        }
        EXPECT_EQ(seen[reader], expected);
    }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Lossy, testing::Range(0U, 50U));

} // namespace
} // namespace stead::whiteboard
