// SPDX-License-Identifier: Apache-2.0
#include "urgency.hpp"

#include <gtest/gtest.h>

#include <sched.h>
#include <unistd.h>

#include <thread>

namespace stead::bus {
namespace {

int policy() { return ::sched_getscheduler(0) & ~SCHED_RESET_ON_FORK; }

TEST(Urgency, IsLentForASecondAndNotInherited) {
    Urgency urgency(::gettid());
    const Instant start = from_ns(1'000'000'000);
    EXPECT_EQ(urgency.due(), never);
    urgency.lend(start);
    if (urgency.due() == never) {
        GTEST_SKIP() << "no real-time scheduling permitted here";
    }
    EXPECT_EQ(policy(), SCHED_RR);
    int of_child = -1;
    std::thread([&] { of_child = policy(); }).join();
    EXPECT_EQ(of_child, SCHED_OTHER);

    urgency.take_back_if_due(start + Urgency::lent_for - nanoseconds{1});
    EXPECT_EQ(policy(), SCHED_RR);
    urgency.lend(start + milliseconds{500}); // a second view: from now on
    urgency.take_back_if_due(start + Urgency::lent_for);
    EXPECT_EQ(policy(), SCHED_RR);
    urgency.take_back_if_due(start + milliseconds{500} + Urgency::lent_for);
    EXPECT_EQ(policy(), SCHED_OTHER);
    EXPECT_EQ(urgency.due(), never);
}

TEST(Urgency, EndsWithItsLender) {
    {
        Urgency urgency(::gettid());
        urgency.lend(from_ns(1));
    }
    EXPECT_EQ(policy(), SCHED_OTHER);
}

} // namespace
} // namespace stead::bus
