// SPDX-License-Identifier: Apache-2.0
// The link checker under a fake host, with a real cable in a namespace of the test's own (tests/support/root_or_skip).
#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>

#include <cstdlib>

namespace {

using stead::test::Element;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const stead_plugin_descriptor& plugin() {
    static const auto& loaded = stead::test::load_plugin(INTF_PLUGIN);
    return loaded;
}
void run(const std::string& command) { ASSERT_EQ(std::system((command + " 2>/dev/null").c_str()), 0) << command; }

using Attributes = std::vector<std::pair<std::string, std::string>>;
Element service(const Attributes& to) {
    return {"service",
            {{"mode", "light"}},
            {{"check", {}, {{"intf", {{"ident", "net"}, {"when", "pre"}}, {{"to", to, {}}}}}}}};
}

class Intf : public ::testing::Test {
protected:
    void SetUp() override {
        std::system("ip link del a0 2>/dev/null");
        run("ip link add a0 type veth peer name b0");
        run("ip addr add 192.0.2.1/24 dev a0 && ip link set a0 up && ip link set b0 up");
    }
    void TearDown() override { std::system("ip link del a0 2>/dev/null"); }
    void expect(const std::string& verdict, const std::string& why) {
        EXPECT_TRUE(host_.wait("intf.net", verdict)) << why;
        EXPECT_TRUE(host_.wait_log("Resource intf.net set to " + verdict + ": " + why)) << why;
        host_.clear();
    }
    stead::test::FakeHost host_;
};

TEST_F(Intf, FollowsCarrierAndAddress) {
    stead::test::Running checker(plugin(), host_, service({{"local_addr", "192.0.2.1"}}));
    EXPECT_EQ(host_.resource("intf.net"), "init");
    checker.arm(STEAD_WHEN_PRE);
    expect("up", "carrier on a0");
    run("ip link set b0 down"); // the other end: a0 is up without a carrier
    expect("down", "no carrier on a0");
    run("ip link set b0 up");
    expect("up", "carrier on a0");
    run("ip addr del 192.0.2.1/24 dev a0");
    expect("down", "192.0.2.1 was removed");
    run("ip addr add 192.0.2.1/24 dev a0");
    expect("up", "carrier on a0");
    run("ip link del a0");
    EXPECT_TRUE(host_.wait("intf.net", "down"));
    run("ip link add a1 type veth peer name b0 && ip link set b0 up && ip link set a1 up");
    run("ip addr add 192.0.2.1/24 dev a1");
    expect("up", "carrier on a1");
    run("ip link del a1");
    EXPECT_TRUE(host_.wait("intf.net", "down"));
    checker.arm(0);
    EXPECT_EQ(host_.resource("intf.net"), "init");
}

TEST_F(Intf, AFlapIsAFailureEvenIfItIsOverWhenWeLook) {
    stead::test::Running checker(plugin(), host_, service({{"local_addr", "192.0.2.1"}}));
    checker.arm(STEAD_WHEN_PRE);
    expect("up", "carrier on a0");
    run("ip addr del 192.0.2.1/24 dev a0; ip addr add 192.0.2.1/24 dev a0");
    EXPECT_TRUE(host_.wait_log("set to down"));
    EXPECT_TRUE(host_.wait("intf.net", "up"));
    EXPECT_THAT(host_.history("intf.net"), ElementsAre("down", "up"));
}

TEST_F(Intf, ByNameAlone) {
    stead::test::Running checker(plugin(), host_, service({{"name", "a0"}}));
    checker.arm(STEAD_WHEN_PRE);
    expect("up", "carrier on a0");
    run("ip link set a0 down");
    expect("down", "no carrier on a0");
}

TEST_F(Intf, NeedsSomethingToLookAt) {
    EXPECT_THAT(stead::test::findings(plugin(), service({})),
                ElementsAre(HasSubstr("intf.net: <to> needs local_addr")));
    stead::test::Running checker(plugin(), host_, service({{"name", "nowhere0"}}));
    checker.arm(STEAD_WHEN_PRE);
    expect("down", "there is no interface nowhere0");
}

} // namespace
