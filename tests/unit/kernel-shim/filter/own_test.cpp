// SPDX-License-Identifier: Apache-2.0
#include "farm_model.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <net/if.h>

#include <cstdlib>
#include <cstring>

namespace stead::shim {
namespace {

void run(const std::string& command) { ASSERT_EQ(std::system((command + " 2>/dev/null").c_str()), 0) << command; }

std::string text_of(const std::array<std::uint32_t, 4>& address) {
    char text[INET6_ADDRSTRLEN]{};
    return ::inet_ntop(AF_INET6, address.data(), text, sizeof text);
}

/// An interface in a namespace of the test's own, with the virtual addresses of this module (100) and another (101).
class OwnAddressesTest : public testing::Test {
protected:
    void SetUp() override {
        run("ip link add a0 type veth peer name b0 && ip link set a0 addrgenmode none up");
        run("ip addr add 2001:db8::101/128 dev a0 nodad && ip addr add 192.0.2.101/32 dev a0");
        run("ip addr add 2001:db8::100/128 dev a0 nodad && ip addr add 192.0.2.100/32 dev a0");
        config_.vip_count = 2;
        ASSERT_EQ(::inet_pton(AF_INET6, "2001:db8::100", config_.vips[0].address_be), 1);
        ASSERT_EQ(::inet_pton(AF_INET6, "::ffff:192.0.2.100", config_.vips[1].address_be), 1);
    }
    void TearDown() override { run("ip link del a0"); }
    OwnAddresses own() const { return own_addresses(::if_nametoindex("a0"), config_); }
    stead_farm_config config_{};
};

TEST_F(OwnAddressesTest, NoVirtualAddressIsOurOwnWhosoeverItIs) {
    EXPECT_EQ(text_of(own().address6_be), "::");
    EXPECT_EQ(own().address4_be, 0u);
    run("ip addr add 2001:db8::11/64 dev a0 nodad && ip addr add 192.0.2.11/24 dev a0");
    EXPECT_EQ(text_of(own().address6_be), "2001:db8::11");
    EXPECT_EQ(own().address4_be, ::inet_addr("192.0.2.11"));
    run("ip addr add fe80::1/64 dev a0 nodad");
    EXPECT_EQ(text_of(own().address6_be), "fe80::1");
}

} // namespace
} // namespace stead::shim
