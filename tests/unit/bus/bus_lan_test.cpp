// SPDX-License-Identifier: Apache-2.0
// What needs an interface of its own: runs in a private network namespace.
#include "group.hpp"

#include <cstdlib>

namespace stead::bus {
namespace {

void shell(const std::string& command) { ASSERT_EQ(std::system(command.c_str()), 0) << command; }

void add_interface() {
    shell("ip link add lan0 type veth peer name lan0p && ip link set lan0p up && ip link set lan0 up");
    shell("ip addr add 10.77.0.1/24 dev lan0 && ip addr add 10.77.0.2/24 dev lan0");
    shell("ip -6 addr add fd77::1/64 dev lan0 nodad && ip -6 addr add fd77::2/64 dev lan0 nodad");
}

BusOptions over(const Group& group, int self, const std::vector<std::string>& prefixes) {
    BusOptions options = group.options(self);
    for (std::size_t lan = 0; lan < options.lans.size(); ++lan) {
        options.lans[lan].addresses = {prefixes[lan] + "1", prefixes[lan] + "2"};
        options.lans[lan].local_address = prefixes[lan] + std::to_string(self + 1);
    }
    return options;
}

// Goal: an interface that is deleted and made again costs the views of that time and nothing else.
// Method: both nodes live on addresses of one interface; without them each can only be alone.
TEST(BusLan, SurvivesAnInterfaceThatVanishesAndComesBack) {
    for (const std::string prefix : {"10.77.0.", "fd77::"}) {
        add_interface();
        Group group{2};
        group.start(0, over(group, 0, {prefix}));
        group.start(1, over(group, 1, {prefix}));
        ASSERT_TRUE(eventually([&] { return group.agree(first_two); })) << prefix;
        shell("ip link del lan0");
        ASSERT_TRUE(eventually([&] {
            return group[0].bus->view().members == NodeSet{NodeId{0}} &&
                   group[1].bus->view().members == NodeSet{NodeId{1}};
        })) << prefix;
        EXPECT_TRUE(eventually([&] { return group[0].bus->counters().send_errors > 0; })) << prefix;
        add_interface();
        EXPECT_TRUE(eventually([&] { return group.agree(first_two); })) << prefix;
        ASSERT_TRUE(group[0].bus->publish("after", "all"));
        EXPECT_TRUE(eventually([&] { return resource_of(group[1], 0, "after") == "all"; })) << prefix;
        shell("ip link del lan0");
    }
}

TEST(BusLan, OneLanOfTwoMayGo) {
    add_interface();
    Group group{2, 2};
    group.start(0, over(group, 0, {"10.77.0.", "fd77::"}));
    group.start(1, over(group, 1, {"10.77.0.", "fd77::"}));
    ASSERT_TRUE(
        eventually([&] { return group.agree(first_two) && group[0].bus->heard(LanId{1}).contains(NodeId{1}); }));
    const std::uint64_t view = group[0].bus->view().id;
    shell("ip addr flush dev lan0 scope global && ip -6 addr add fd77::1/64 dev lan0 nodad && ip -6 addr add "
          "fd77::2/64 dev lan0 nodad");
    ASSERT_TRUE(eventually([&] { return !group[0].bus->heard(LanId{0}).contains(NodeId{1}); }));
    EXPECT_TRUE(eventually([&] { return group[0].bus->heard(LanId{1}).contains(NodeId{1}); }));
    EXPECT_TRUE(group.agree(first_two));
    EXPECT_EQ(group[0].bus->view().id, view);
    shell("ip link del lan0");
}

// With the rights of root the bus thread is real-time; a child of the process is not.
TEST(BusLan, RealTimeWhereItIsPermitted) {
    Group group{1};
    BusOptions options = group.options(0);
    options.realtime = true;
    group.start(0, options);
    ASSERT_TRUE(eventually([&] { return group[0].bus->view().members == NodeSet{NodeId{0}}; }));
    const std::lock_guard lock{group[0].seen.mutex};
    EXPECT_LE(group[0].seen.notes.size(), 3U) << "at most one warning about rights";
}

} // namespace
} // namespace stead::bus
