// SPDX-License-Identifier: Apache-2.0
#include <mailbox.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace stead::bus {
namespace {

wire::Message message(int number) { return {0, 0, 0, "test", 1, std::to_string(number)}; }

// Goal: in order, once, none missing, whatever is lost, doubled or reordered. Method: virtual time, seeded.
class LossyMailbox : public testing::TestWithParam<std::uint32_t> {};

TEST_P(LossyMailbox, DeliversEachMessageOnceAndInOrder) {
    std::mt19937 random{GetParam()};
    Mailbox sender;
    Mailbox receiver;
    sender.reset(7);
    receiver.reset(8);
    std::vector<wire::Message> flying;
    std::vector<std::string> got;
    Instant now{seconds{1}};
    for (int step = 0; step < 100000 && got.size() < 40; ++step, now += milliseconds{1}) {
        if (step < 40) {
            sender.post(message(step));
        }
        for (wire::Message& out : sender.due(now, milliseconds{50})) {
            for (std::uint32_t copies = random() % 3; copies > 0; --copies) {
                flying.push_back(out);
            }
        }
        if (!flying.empty()) {
            std::swap(flying[random() % flying.size()], flying.back());
            receiver.received(flying.back());
            flying.pop_back();
        }
        for (const wire::Message& in : receiver.take()) {
            got.push_back(in.body);
        }
        if (random() % 3 == 0) {
            (void)sender.acknowledged(receiver.delivered_up_to());
        }
    }
    ASSERT_EQ(got.size(), 40U);
    for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(got[i], std::to_string(i));
    }
    (void)sender.acknowledged(receiver.delivered_up_to());
    EXPECT_EQ(sender.next_deadline(), never) << "nothing is left to repeat";
}

INSTANTIATE_TEST_SUITE_P(Seeds, LossyMailbox, testing::Range(0U, 50U));

TEST(Mailbox, RepeatsAreSparserAndEndWithTheAcknowledgement) {
    Mailbox sender;
    sender.reset(7);
    sender.post(message(1));
    Instant now{seconds{1}};
    std::vector<std::int64_t> at_ms;
    for (int ms = 0; ms < 400; ++ms, now += milliseconds{1}) {
        if (!sender.due(now, milliseconds{50}).empty()) {
            at_ms.push_back(ms);
        }
    }
    EXPECT_THAT(at_ms, testing::ElementsAre(0, 5, 15, 35, 75, 125, 175, 225, 275, 325, 375));
    EXPECT_EQ(sender.acknowledged(1), 1U);
    EXPECT_EQ(sender.next_deadline(), never);
}

TEST(Mailbox, AReceiverSkipsWhatWasGivenUp) {
    Mailbox sender;
    Mailbox receiver;
    sender.reset(7);
    const Instant now{seconds{1}};
    sender.post(message(1));
    (void)sender.due(now, milliseconds{50});
    EXPECT_EQ(sender.give_up(), 1U);
    sender.post(message(2));
    for (const wire::Message& out : sender.due(now, milliseconds{50})) {
        receiver.received(out);
    }
    const auto got = receiver.take();
    ASSERT_EQ(got.size(), 1U);
    EXPECT_EQ(got[0].body, "2");
}

} // namespace
} // namespace stead::bus
