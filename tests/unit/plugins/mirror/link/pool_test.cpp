// SPDX-License-Identifier: Apache-2.0
#include "pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>

namespace stead::mirror {
namespace {

/// So many jobs run at once: each waits until all of them have begun.
bool run_at_once(Pool& pool, int jobs) {
    const auto begun = std::make_shared<std::latch>(jobs);
    const auto ended = std::make_shared<std::latch>(jobs);
    for (int i = 0; i < jobs; ++i) {
        pool.post([begun, ended] {
            begun->arrive_and_wait();
            ended->count_down();
        });
    }
    ended->wait();
    return true;
}

TEST(Pool, GrowsAndShrinksWhileItWorks) {
    Pool pool(1);
    EXPECT_TRUE(run_at_once(pool, 1));
    pool.resize(8);
    EXPECT_TRUE(run_at_once(pool, 8));
    pool.resize(2);
    std::atomic<int> working{0}, most{0};
    std::latch ended(200);
    for (int i = 0; i < 200; ++i) {
        pool.post([&] {
            const int now = ++working;
            for (int known = most.load(); known < now && !most.compare_exchange_weak(known, now);) {
            }
            std::this_thread::sleep_for(std::chrono::microseconds{200});
            --working;
            ended.count_down();
        });
    }
    ended.wait();
    EXPECT_LE(most.load(), 2) << "those above the new number rest";
    EXPECT_TRUE(run_at_once(pool, 2)) << "no call was lost to one that rests";
    pool.resize(16);
    EXPECT_TRUE(run_at_once(pool, 16));
}

} // namespace
} // namespace stead::mirror
