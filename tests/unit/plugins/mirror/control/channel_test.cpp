// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/channel.hpp>

#include <gtest/gtest.h>

namespace stead::mirror {
namespace {

TEST(Channel, AnyBytesOfANameArrive) {
    auto ends = Channel::pair();
    ASSERT_TRUE(ends);
    Channel here{std::move(ends->first)}, there{std::move(ends->second)};
    const std::string path = "/srv/\xff\xfe\n\x01 ä";
    ASSERT_TRUE(here.send({{"do", "lost_export"}, {"name", path}}));
    const auto received = there.receive();
    ASSERT_TRUE(received) << received.error().text();
    EXPECT_EQ(text_of(*received, "name"), path);
}

} // namespace
} // namespace stead::mirror
