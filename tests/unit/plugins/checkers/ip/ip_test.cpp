// SPDX-License-Identifier: Apache-2.0
// The address checker under a fake host, with a real cable in a namespace of its own:
// a stranger announces from the other end.
#include <stead/net/net.hpp>
#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>
#include <net/if.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

namespace {

using stead::test::Element;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono_literals;

constexpr stead::net::Mac stranger{0x02, 0, 0, 0, 0, 0x77};
constexpr const char* stranger_text = "02:00:00:00:00:77";

const stead_plugin_descriptor& plugin() {
    static const auto& loaded = stead::test::load_plugin(IP_PLUGIN);
    return loaded;
}
void run(const std::string& command) { ASSERT_EQ(std::system((command + " 2>/dev/null").c_str()), 0) << command; }

Element service(const std::string& address) {
    return {"service",
            {{"mode", "light"}},
            {{"check",
              {},
              {{"ip",
                {{"ident", "vip"}, {"when", "both"}},
                {{"to", {{"addr", address}, {"interval", "1000000000"}}, {}}}}}}}};
}

class Ip : public ::testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        host_.c.mode = stead::plugin::to_c("light");
        std::system("ip link del a0 2>/dev/null");
        run("ip link add a0 type veth peer name b0");
        run("ip link set a0 up && ip link set b0 up");
        run("ip addr add " + address_ + " dev a0 nodad");
    }
    void TearDown() override { std::system("ip link del a0 2>/dev/null"); }
    void announce() {
        const auto done = stead::net::announce(if_nametoindex("b0"), address_, stranger);
        ASSERT_TRUE(done) << done.error().text();
    }
    const std::string address_{GetParam()};
    stead::test::FakeHost host_;
};

TEST_P(Ip, ARemovalIsToldEvenIfTheAddressIsPutBackAtOnce) {
    stead::test::Running checker(plugin(), host_, service(address_));
    EXPECT_EQ(host_.resource("ip.vip"), "init");
    checker.arm(STEAD_WHEN_BOTH);
    ASSERT_TRUE(host_.wait("ip.vip", "up"));
    run("ip addr del " + address_ + " dev a0; ip addr add " + address_ + " dev a0 nodad");
    ASSERT_TRUE(host_.wait_log("set to down: " + address_ + " was removed"));
    EXPECT_TRUE(host_.wait("ip.vip", "up"));
    run("ip addr del " + address_ + " dev a0");
    ASSERT_TRUE(host_.wait("ip.vip", "down"));
    run("ip addr add " + address_ + " dev a0 nodad");
    EXPECT_TRUE(host_.wait("ip.vip", "up"));
    checker.arm(0);
    EXPECT_THAT(host_.history("ip.vip"), ElementsAre("init", "up", "down", "up", "down", "up", "init"));
}

TEST_P(Ip, AStrangersClaimIsAConflictUntilItFallsSilent) {
    stead::test::Running checker(plugin(), host_, service(address_));
    checker.arm(STEAD_WHEN_BOTH);
    ASSERT_TRUE(host_.wait("ip.vip", "up"));
    announce();
    ASSERT_TRUE(host_.wait_log(std::string{stranger_text} + " claims"));
    EXPECT_TRUE(
        host_.wait_log("set to down: conflict: " + std::string{stranger_text} + " claims " + address_ + " on a0"));
    EXPECT_TRUE(host_.wait("ip.vip", "down"));
    EXPECT_TRUE(host_.wait("ip.vip", "up"));
    EXPECT_THAT(host_.log(), Contains(HasSubstr("nobody else claims")));
}

TEST_P(Ip, AMemberOfTheFarmIsNoStranger) {
    host_.c.mode = stead::plugin::to_c("farm");
    host_.c.read = [](void*, std::uint32_t node, stead_str name, char* out, std::uint64_t cap) {
        if (node != 2 || stead::test::FakeHost::text(name) != "farm.mac.0") {
            return std::int64_t{-1};
        }
        stead::plugin::copy_text(std::string{stranger_text} + ";10.42.0.13", out, static_cast<std::uint32_t>(cap));
        return std::int64_t{28};
    };
    stead::test::Running checker(plugin(), host_, service(address_));
    checker.arm(STEAD_WHEN_BOTH);
    ASSERT_TRUE(host_.wait("ip.vip", "up"));
    for (int i = 0; i < 15; ++i) { // for longer than an unknown claim is borne
        announce();
        std::this_thread::sleep_for(100ms);
    }
    EXPECT_THAT(host_.history("ip.vip"), ElementsAre("init", "up"));
    EXPECT_THAT(host_.log(), Not(Contains(HasSubstr("claims"))));
}

TEST_P(Ip, AnAddressThatIsNotThereIsDown) {
    run("ip addr del " + address_ + " dev a0");
    stead::test::Running checker(plugin(), host_, service(address_));
    checker.arm(STEAD_WHEN_BOTH);
    EXPECT_TRUE(host_.wait_log("set to down: no interface has " + address_));
}

INSTANTIATE_TEST_SUITE_P(Families, Ip, ::testing::Values("192.0.2.50", "2001:db8::50"));

} // namespace
