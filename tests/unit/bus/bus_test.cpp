// SPDX-License-Identifier: Apache-2.0
#include "group.hpp"

namespace stead::bus {
namespace {

TEST(Bus, ViewsFormResourcesSpreadAndALeaverTakesItsOwnAlong) {
    Group group{3, 2};
    group.start_all();
    ASSERT_TRUE(group[2].bus->publish("tcp.early", "up"));
    ASSERT_TRUE(eventually([&] { return group.agree(all_three); }));
    EXPECT_TRUE(eventually([&] { return group[0].lease > static_cast<std::uint64_t>(to_ns(BootClock::now())); }));
    ASSERT_TRUE(group[2].bus->publish("tcp.web80", "up"));
    group[2].bus->set_state(42);
    for (const int node : {0, 1, 2}) {
        EXPECT_TRUE(eventually([&] { return resource_of(group[node], 2, "tcp.web80") == "up"; })) << node;
        EXPECT_TRUE(eventually([&] { return resource_of(group[node], 2, "tcp.early") == "up"; })) << node;
    }
    EXPECT_TRUE(eventually([&] {
        const std::lock_guard lock{group[0].seen.mutex};
        return group[0].seen.states[NodeId{2}] == 42;
    }));
    EXPECT_EQ(group[0].bus->resources().size(), 2U);
    EXPECT_EQ(group[0].bus->session_of(NodeId{2}), group[2].bus->session());
    group[2].bus->leave();
    EXPECT_TRUE(eventually([&] { return group.agree(first_two); }));
    EXPECT_TRUE(eventually([&] { return !resource_of(group[0], 2, "tcp.web80"); }));
    EXPECT_TRUE(eventually([&] {
        const std::lock_guard lock{group[2].seen.mutex};
        return group[2].seen.left;
    }));
    const std::lock_guard lock{group[0].seen.mutex};
    EXPECT_TRUE(group[0].seen.views.back().left.contains(NodeId{2})) << "said goodbye, so it did not die";
}

TEST(Bus, ADifferentConfigurationIsToldByTheNameOfTheNode) {
    Group group{3};
    for (const int node : {0, 1}) {
        group.start(node);
        group[node].bus->set_config(5);
    }
    ASSERT_TRUE(eventually([&] { return group.agree(first_two); }));
    group.start(2);
    group[2].bus->set_config(6); // long before it has listened enough to join
    ASSERT_TRUE(eventually([&] {
        const std::lock_guard lock{group[2].seen.mutex};
        return !group[2].seen.excluded.empty();
    }));
    const std::lock_guard lock{group[2].seen.mutex};
    EXPECT_THAT(group[2].seen.excluded.front(), ::testing::StartsWith("its configuration differs from that of node"));
}

TEST(Bus, NodesThatPublishedNothingSendHeartbeatsOnly) {
    Group group{3};
    group.wishes = false; // as the node group: nobody tells a weight or a state either
    group.start_all();
    ASSERT_TRUE(eventually([&] { return group.agree(all_three); }));
    const auto before = group[0].bus->counters();
    const Instant began = BootClock::now();
    const auto received = [&] { return group[0].bus->counters().datagrams_in - before.datagrams_in; };
    const auto heartbeats = [&] {
        return group[0].bus->counters().membership.heartbeats_received - before.membership.heartbeats_received;
    };
    ASSERT_TRUE(eventually([&] { return BootClock::now() - began > 20 * membership::default_timing().period; }));
    EXPECT_GT(heartbeats(), 0U);
    EXPECT_LE(received(), heartbeats() + heartbeats() / 10 + 2) << "something is repeated besides the heartbeats";
}

TEST(Bus, ADestroyedNodeIsDeadToTheOthersAndMayComeBack) {
    Group group{3};
    group.start_all();
    ASSERT_TRUE(eventually([&] { return group.agree(all_three); }));
    ASSERT_TRUE(group[1].bus->publish("x", "old life"));
    ASSERT_TRUE(eventually([&] { return resource_of(group[0], 1, "x") == "old life"; }));
    const SessionId before = group[1].bus->session();
    group.kill(1);
    const NodeSet rest{NodeId{0}, NodeId{2}};
    ASSERT_TRUE(eventually([&] { return group.agree(rest); }));
    EXPECT_TRUE(eventually([&] { return !resource_of(group[0], 1, "x"); }));
    {
        const std::lock_guard lock{group[0].seen.mutex};
        EXPECT_TRUE(group[0].seen.views.back().dead.contains(NodeId{1}));
    }
    group.start(1);
    EXPECT_NE(group[1].bus->session(), before);
    ASSERT_TRUE(eventually([&] { return group.agree(all_three); }));
    ASSERT_TRUE(group[1].bus->publish("x", "new life"));
    EXPECT_TRUE(eventually([&] { return resource_of(group[2], 1, "x") == "new life"; }));
}

TEST(Bus, MessagesArriveInOrderOnceAndResourcesConvergeUnderLoss) {
    Group group{2};
    std::mutex mutex;
    std::mt19937 random{4711};
    std::atomic<bool> lossy{false};
    group.lose = [&](LanId, NodeId) {
        const std::lock_guard lock{mutex};
        return lossy && random() % 10 < 2;
    };
    group.start_all();
    ASSERT_TRUE(eventually([&] { return group.agree(first_two); }));
    lossy = true;
    std::vector<std::string> expected;
    for (int i = 0; i < 300; ++i) {
        const std::string body = std::to_string(i);
        ASSERT_TRUE(eventually([&] { return static_cast<bool>(group[0].bus->send(first_two, "test", 1, body)); }));
        expected.push_back(body);
        ASSERT_TRUE(group[0].bus->publish("r" + std::to_string(i % 20), body));
    }
    const auto arrived = [&] {
        const std::lock_guard lock{group[1].seen.mutex};
        return group[1].seen.messages.size() >= expected.size();
    };
    EXPECT_TRUE(eventually(arrived));
    EXPECT_TRUE(eventually(
        [&] { return resource_of(group[1], 0, "r19") == "299" && resource_of(group[1], 0, "r0") == "280"; }));
    const std::lock_guard lock{group[1].seen.mutex};
    EXPECT_EQ(group[1].seen.messages, expected);
}

// Goal: the owner hears at once, without asking, which LAN brings the peer's heartbeats. Method: one of two LANs loses
// all that node 0 sends, then nothing any more.
TEST(Bus, TellsWhichLanIsHeardEachTimeItChanges) {
    Group group{2, 2};
    std::atomic<bool> cut{false};
    group.lose = [&](LanId lan, NodeId to) { return cut && lan == LanId{1} && to == NodeId{1}; };
    const auto heard = [&](int node, int lan) {
        const std::lock_guard lock{group[node].seen.mutex};
        return group[node].seen.heard[LanId(lan)].contains(NodeId(1 - node));
    };
    group.start_all();
    EXPECT_TRUE(eventually([&] { return heard(0, 0) && heard(0, 1) && heard(1, 0) && heard(1, 1); }));
    cut = true;
    EXPECT_TRUE(eventually([&] { return !heard(1, 1); }));
    EXPECT_TRUE(heard(1, 0) && heard(0, 0) && heard(0, 1)) << "the other LAN, and the way back";
    cut = false;
    EXPECT_TRUE(eventually([&] { return heard(1, 1); }));
    group.kill(0);
    EXPECT_TRUE(eventually([&] { return !heard(1, 0) && !heard(1, 1); }));
}

TEST(Bus, LimitsAreStated) {
    Group group{2};
    group.start(0);
    EXPECT_FALSE(group[0].bus->send(first_two, "x", 1, std::string(limits::peer_message_bytes_max + 1, 'x')));
    EXPECT_FALSE(group[0].bus->send(first_two, "", 1, "x"));
    EXPECT_FALSE(group[0].bus->publish("", "x"));
    BusOptions bad = group.options(1);
    bad.lans[0].local_address = "192.0.2.1"; // no address of this machine
    const auto refused = Bus::start(bad, {}, [](const std::function<void()>&) {}, {});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::io);
    EXPECT_THAT(refused.error().text(), testing::HasSubstr("192.0.2.1"));
    bad = group.options(1);
    bad.keys = {"short"};
    EXPECT_FALSE(Bus::start(bad, {}, [](const std::function<void()>&) {}, {}));
}

TEST(Bus, KeysRotateWithoutAViewChange) {
    Group group{2};
    group.start_all();
    ASSERT_TRUE(eventually([&] { return group.agree(first_two); }));
    const std::uint64_t view = group[0].bus->view().id;
    for (const std::vector<std::string>& step :
         {std::vector{key_a, key_b}, std::vector{key_b, key_a}, std::vector{key_b}}) {
        for (const int node : {0, 1}) {
            group[node].bus->set_keys(step);
        }
        const std::string value = std::to_string(step.size()) + step[0];
        ASSERT_TRUE(group[0].bus->publish("key", value));
        EXPECT_TRUE(eventually([&] { return resource_of(group[1], 0, "key") == value; }));
    }
    EXPECT_EQ(group[0].bus->view().id, view);
    EXPECT_EQ(group[1].bus->counters().dropped_unauthentic, 0U);
}

/// Sends what strangers may send, from another loopback address.
class Stranger {
public:
    Stranger(const std::string& to, std::uint16_t port) : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        to_.sin_family = AF_INET;
        to_.sin_port = htons(port);
        inet_pton(AF_INET, to.c_str(), &to_.sin_addr);
    }
    ~Stranger() { ::close(fd_); }
    void send(std::span<const std::uint8_t> bytes) {
        (void)!::sendto(fd_, bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&to_), sizeof to_);
    }

private:
    int fd_;
    sockaddr_in to_{};
};

TEST(Bus, HostileTrafficIsCountedAndDisturbsNobody) {
    Group group{2};
    group.start_all();
    ASSERT_TRUE(eventually([&] { return group.agree(first_two); }));
    const std::uint64_t view = group[0].bus->view().id;
    Stranger stranger{address_of(0, 0), group.port()};
    const std::vector<std::uint8_t> text(300, 7);
    std::mt19937 random{1};
    const wire::Place home{cluster, GroupId{2}};
    wire::Sealer wrong_key{home, NodeId{1}, SessionId{1, 1}, key_b};
    wire::Sealer other_cluster{{cluster + 1, GroupId{2}}, NodeId{1}, SessionId{1, 2}, key_a};
    wire::Sealer other_group{{cluster, GroupId{3}}, NodeId{1}, SessionId{1, 3}, key_a};
    wire::Sealer insider{home, NodeId{1}, SessionId{1, 4}, key_a}; // recorded once, said again and again
    const auto recorded = insider.seal(LanId{0}, text);
    const std::vector<std::uint8_t> again{recorded.begin(), recorded.end()};
    for (int i = 0; i < 3000; ++i) {
        std::vector<std::uint8_t> garbage(random() % 1600);
        for (std::uint8_t& byte : garbage) {
            byte = static_cast<std::uint8_t>(random());
        }
        stranger.send(garbage);
        if (!garbage.empty()) {
            garbage[0] = wire::version_major;
            stranger.send(garbage);
        }
        stranger.send(wrong_key.seal(LanId{0}, text));
        stranger.send(other_cluster.seal(LanId{0}, text));
        stranger.send(other_group.seal(LanId{0}, text));
        stranger.send(std::span{again}.first(again.size() * static_cast<std::size_t>(i % 10) / 10));
        stranger.send(again);
    }
    ASSERT_TRUE(eventually([&] {
        const BusCounters now = group[0].bus->counters();
        return now.dropped_unauthentic > 0 && now.dropped_foreign > 0 && now.dropped_replayed > 0 &&
               now.dropped_version > 0 && now.dropped_malformed > 0;
    }));
    EXPECT_EQ(group[0].bus->view().id, view);
    EXPECT_EQ(group[1].bus->view().id, view);
    ASSERT_TRUE(group[1].bus->publish("still", "here"));
    EXPECT_TRUE(eventually([&] { return resource_of(group[0], 1, "still") == "here"; }));
    const std::lock_guard lock{group[0].seen.mutex};
    EXPECT_LE(group[0].seen.notes.size(), 40U) << "a flood of datagrams is no flood of log lines";
}

TEST(Bus, AnotherKeyOrConfigurationStaysAlone) {
    Group group{2};
    group.start(0);
    BusOptions other = group.options(1);
    other.keys = {key_b};
    group.start(1, other);
    ASSERT_TRUE(eventually([&] { return group[0].bus->view().members == NodeSet{NodeId{0}}; }));
    ASSERT_TRUE(eventually([&] { return group[0].bus->counters().dropped_unauthentic > 0; }));
    EXPECT_TRUE(group[0].bus->session_of(NodeId{1}).is_zero());
    group.kill(1);
    other = group.options(1);
    other.cluster_id = cluster + 1;
    group.start(1, other);
    ASSERT_TRUE(eventually([&] { return group[0].bus->counters().dropped_foreign > 0; }));
    EXPECT_EQ(group[0].bus->view().members, NodeSet{NodeId{0}});
    group.kill(1);
    group.start(1);
    EXPECT_TRUE(eventually([&] { return group.agree(first_two); }));
}

TEST(Bus, TheLeaseIsClosedOnTheWayOut) {
    Group group{1};
    group.start(0);
    ASSERT_TRUE(eventually([&] { return group[0].lease > static_cast<std::uint64_t>(to_ns(BootClock::now())); }));
    std::atomic<std::uint64_t> second{1};
    group[0].bus->add_lease_writer([&](std::uint64_t until) { second = until; });
    EXPECT_TRUE(eventually([&] { return second > 1; }));
    group[0].bus.reset();
    EXPECT_EQ(group[0].lease, 0U);
    EXPECT_EQ(second, 0U);
}

} // namespace
} // namespace stead::bus
