// SPDX-License-Identifier: Apache-2.0
// In a network namespace of its own: a veth pair whose far end is taken away and put back.
#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace stead::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Element service(const std::string& address, const std::string& timeout = "1s") {
    return {"service",
            {},
            {{"check",
              {},
              {{"ping",
                {{"ident", "a"}},
                {{"to", {{"addr", address}, {"interval", "100ms"}, {"timeout", timeout}}, {}}}}}}}};
}
void run(const std::string& command) { ASSERT_EQ(std::system(command.c_str()), 0) << command; }

/// With the unprivileged socket, and with the raw one.
class PingChecker : public testing::TestWithParam<bool> {
protected:
    void SetUp() override {
        run(GetParam() ? "echo '0 2147483647' >/proc/sys/net/ipv4/ping_group_range"
                       : "echo '1 0' >/proc/sys/net/ipv4/ping_group_range");
        std::system("ip link del p0 2>/dev/null; ip netns del far 2>/dev/null");
        run("ip netns add far && ip link add p0 type veth peer name p1 netns far && "
            "ip addr add 192.0.2.1/24 dev p0 && ip addr add 2001:db8::1/64 dev p0 nodad && ip link set p0 up && "
            "ip -n far addr add 192.0.2.2/24 dev p1 && ip -n far addr add 2001:db8::2/64 dev p1 nodad && "
            "ip -n far link set p1 up");
    }
    void TearDown() override { std::system("ip netns del far 2>/dev/null"); }
    const stead_plugin_descriptor& plugin_ = load_plugin(CHECKER_PLUGIN);
    FakeHost host_;
};

TEST_P(PingChecker, UpWhileTheAddressAnswers) {
    for (const char* address : {"192.0.2.2", "2001:db8::2"}) {
        FakeHost host;
        Running running(plugin_, host, service(address));
        EXPECT_THAT(host.rules(), ElementsAre("p_a: if (ping.a == down) then wait();"));
        running.arm(STEAD_WHEN_PRE);
        EXPECT_TRUE(host.wait("ping.a", "up")) << address;
        run("ip -n far link set p1 down");
        EXPECT_TRUE(host.wait("ping.a", "down")) << address;
        EXPECT_TRUE(host.wait_log("no answer within 1000 ms"));
        run("ip -n far link set p1 up");
        run("ip -n far addr replace 2001:db8::2/64 dev p1 nodad"); // a link that was down has lost it
        EXPECT_TRUE(host.wait("ping.a", "up")) << address;
    }
}

TEST_P(PingChecker, OneLostPacketDecidesNothing) {
    run("ip netns exec far nft 'add table ip t; add chain ip t in { type filter hook input priority 0; }; "
        "add rule ip t in icmp type echo-request numgen inc mod 2 0 drop'");
    Running running(plugin_, host_, service("192.0.2.2"));
    running.arm(STEAD_WHEN_PRE);
    EXPECT_TRUE(host_.wait("ping.a", "up"));
    EXPECT_FALSE(host_.wait("ping.a", "down", std::chrono::seconds{3}));
}

TEST_P(PingChecker, WhereNoWayLeadsIsDown) {
    Running running(plugin_, host_, service("198.51.100.7", "300ms"));
    running.arm(STEAD_WHEN_PRE);
    EXPECT_TRUE(host_.wait("ping.a", "down"));
    EXPECT_TRUE(host_.wait_log("Network is unreachable"));
}

TEST_P(PingChecker, ManyDoNotTakeEachOthersReplies) {
    std::vector<Element> checks;
    for (int i = 0; i < 20; ++i) {
        Element check = service(i % 2 == 0 ? "192.0.2.2" : "192.0.2.99", "500ms").children[0].children[0];
        check.attributes[0].second = std::to_string(i);
        checks.push_back(std::move(check));
    }
    Running running(plugin_, host_, {"service", {}, {{"check", {}, checks}}});
    running.arm(STEAD_WHEN_PRE);
    for (int i = 0; i < 20; ++i) {
        EXPECT_TRUE(host_.wait("ping." + std::to_string(i), i % 2 == 0 ? "up" : "down")) << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Sockets, PingChecker, testing::Bool(),
                         [](const auto& chosen) { return chosen.param ? "Unprivileged" : "Raw"; });

} // namespace
} // namespace stead::test
