// SPDX-License-Identifier: Apache-2.0
#include <stead/farm/messages.hpp>

#include <gtest/gtest.h>

#include <random>

namespace stead::farm {
namespace {

const NodeId n0{0}, n1{1};

std::uint32_t effective(std::uint16_t weight, std::size_t group = 0) {
    return PowerLists{n0}.effective(n0, weight, group);
}

TEST(Weight, CarriesPercentAndPower) {
    EXPECT_EQ(effective(0), 0u);
    EXPECT_EQ(effective(weight_of_power(100, 5)), 500u);
    EXPECT_EQ(effective(weight_of_power(100, 1000)), 100000u);
    EXPECT_EQ(effective(weight_of_power(50, 2), 15), 100u) << "the same in every group";
    EXPECT_EQ(effective(weight_of_power(10, 3)), 30u);
    EXPECT_EQ(effective(weight_of_power(100, 0)), 0u);
    EXPECT_NE(weight_of_power(100, 0), 0) << "open with power 0 is not closed";
}

TEST(Weight, NamesAListWhereGroupsDiffer) {
    PowerLists own{n0}, other{n1};
    EXPECT_EQ(own.weight(100, {3, 3}), weight_of_power(100, 3));
    EXPECT_EQ(own.weight(100, {}), weight_of_power(100, 1));
    const auto first = own.weight(100, {3, 1});
    EXPECT_EQ(own.weight(50, {3, 1}) | 31, first | 31) << "the same list, another part of it";
    const auto second = own.weight(100, {0, 7});
    EXPECT_NE(first, second);
    EXPECT_EQ(other.effective(n0, first, 0), 0u) << "not told yet";
    EXPECT_FALSE(other.learn(n0, own.own({first, second}, {first, weight_of_power(100, 2)})));
    EXPECT_EQ(other.effective(n0, first, 0), 300u);
    EXPECT_EQ(other.effective(n0, first, 1), 100u);
    EXPECT_EQ(other.effective(n0, second, 0), 0u);
    EXPECT_EQ(other.effective(n0, second, 1), 700u);
    EXPECT_EQ(other.effective(n0, second, 2), 0u) << "no such group";
    EXPECT_FALSE(other.learn(n0, own.own({first}, {}))) << "nothing new";
    PowerLists restarted{n0};
    const auto again = restarted.weight(100, {9, 8});
    EXPECT_TRUE(other.learn(n0, restarted.own({again}, {}))) << "the tag means something else now";
    EXPECT_EQ(other.effective(n0, again, 1), 800u);
}

TEST(Weight, ManyListsNeverReuseATagSoon) {
    PowerLists lists{n0};
    const auto kept = lists.weight(100, {1, 2});
    for (std::uint32_t i = 0; i < 900; ++i) {
        EXPECT_NE(lists.weight(100, {i, i + 1 + i % 3}), kept);
    }
    EXPECT_EQ(lists.effective(n0, kept, 1), 200u);
}

Report report() {
    Report r;
    r.view_id = 0xfedcba9876543210;
    r.in_line = r.holding = true;
    r.reached = 8;
    r.plan.base[0] = weight_of_power(100, 3);
    r.plan.base[63] = UINT16_MAX;
    r.plan.target[5] = 1;
    r.plan.step = MoveStep::take;
    r.plan.seq = 7;
    r.plan.lineage = 9;
    r.powers = {{3, {1, 2, 0, 1000}}, {1023, {}}};
    return r;
}

TEST(Messages, SayWhatTheyWereGiven) {
    EXPECT_EQ(decode_report(encode(report())), report());
    EXPECT_EQ(decode_report(encode(Report{})), Report{});
    const HeldReport held{1, 2, 3, std::string(1024, '\x55')};
    EXPECT_EQ(decode_held(encode(held)), held);
    EXPECT_EQ(decode_power_wish(encode(PowerWish{7})), PowerWish{7});
    EXPECT_EQ(decode_power_wish(encode(PowerWish{0})), PowerWish{0});
    EXPECT_EQ(decode_power_wish(encode(PowerWish{})), PowerWish{});
}

TEST(Messages, FitOneDatagramAtFullSize) {
    Report r = report();
    r.plan.base.fill(UINT16_MAX);
    r.plan.target.fill(UINT16_MAX);
    r.powers.assign(10, {1023, std::vector<std::uint32_t>(16, 1000)});
    EXPECT_LE(encode(r).size(), limits::peer_message_bytes_max);
    EXPECT_LE(encode(HeldReport{~0ull, ~0ull, 15, std::string(1024, '\xff')}).size(), limits::peer_message_bytes_max);
}

TEST(Messages, RefuseWhatNoNodeSends) {
    Report wrong = report();
    wrong.plan.step = static_cast<MoveStep>(5);
    EXPECT_FALSE(decode_report(encode(wrong)));
    wrong = report();
    wrong.powers[0].powers[0] = 1001;
    EXPECT_FALSE(decode_report(encode(wrong)));
    wrong = report();
    wrong.powers.assign(17, {});
    EXPECT_FALSE(decode_report(encode(wrong)));
    EXPECT_FALSE(decode_power_wish(encode(PowerWish{1001})));
    EXPECT_FALSE(decode_power_wish("")) << "no wish at all";
    EXPECT_FALSE(decode_report("\xff\xff\xff"));
    EXPECT_FALSE(decode_held(std::string(3, '\x0f')));
}

// A later version adds fields; a cut message says less or nothing, never something else that crashes.
TEST(Messages, SurviveUnknownFieldsAndAnyBytes) {
    EXPECT_EQ(decode_report(encode(report()) + std::string("\xf8\x07\x01", 3)), report()) << "field 127";
    std::mt19937 random{1};
    const std::string whole = encode(report());
    for (int i = 0; i < 20000; ++i) {
        std::string bytes = whole.substr(0, random() % (whole.size() + 1));
        for (unsigned n = random() % 4; n > 0 && !bytes.empty(); --n) {
            bytes[random() % bytes.size()] = static_cast<char>(random());
        }
        if (const auto understood = decode_report(bytes)) {
            EXPECT_EQ(decode_report(encode(*understood)), understood);
        }
        static_cast<void>(decode_held(bytes));
        static_cast<void>(decode_power_wish(bytes));
    }
}

} // namespace
} // namespace stead::farm
