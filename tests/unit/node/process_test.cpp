// SPDX-License-Identifier: Apache-2.0
#include <stead/node/process.hpp>

#include <gtest/gtest.h>

namespace stead::node {
namespace {

TEST(Process, OutputAndExitCode) {
    const auto finished = run_limited({"/bin/sh", "-c", "echo out; echo err >&2; exit 3"}, seconds{20});
    ASSERT_TRUE(finished);
    EXPECT_EQ(finished->exit, 3);
    EXPECT_EQ(finished->output, "out\nerr\n");
}

TEST(Process, AHangingOneIsKilledWithItsChildren) {
    const Instant begin = BootClock::now();
    const auto finished = run_limited({"/bin/sh", "-c", "sleep 600 & sleep 600"}, milliseconds{200});
    ASSERT_FALSE(finished);
    EXPECT_EQ(finished.error().code, Errc::timed_out);
    EXPECT_LT(BootClock::now() - begin, seconds{30});
}

TEST(Process, MissingProgramIsNamed) {
    const auto finished = run_limited({"/nowhere/program"}, seconds{20});
    ASSERT_FALSE(finished);
    EXPECT_EQ(finished.error().code, Errc::not_found);
    EXPECT_EQ(finished.error().where, "/nowhere/program");
}

} // namespace
} // namespace stead::node
