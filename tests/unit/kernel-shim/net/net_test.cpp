// SPDX-License-Identifier: Apache-2.0
#include <stead/base/files.hpp>
#include <stead/net/net.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>

namespace stead::net {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

void run(const std::string& command) { ASSERT_EQ(std::system((command + " 2>/dev/null").c_str()), 0) << command; }

const Interface* find(const std::vector<Interface>& all, const std::string& name) {
    const auto found = std::find_if(all.begin(), all.end(), [&](const auto& link) { return link.name == name; });
    return found == all.end() ? nullptr : &*found;
}

/// A cable of two ends, a0 and b0, in a namespace of the test's own (tests/support/root_or_skip).
class Net : public testing::Test {
protected:
    void SetUp() override {
        std::system("ip link del a0 2>/dev/null");
        run("ip link add a0 type veth peer name b0");
        run("sysctl -qw net.ipv6.conf.a0.accept_dad=0 net.ipv6.conf.b0.accept_dad=0");
        run("ip addr add 192.0.2.1/24 dev a0 && ip addr add 2001:db8::1/64 dev a0 nodad");
        run("ip link set a0 up && ip link set b0 up");
        a_ = if_nametoindex("a0");
        b_ = if_nametoindex("b0");
    }
    void TearDown() override { std::system("ip link del a0 2>/dev/null"); }

    /// Everything that arrives at b0 within `time`.
    std::vector<std::string> frames_at_b(const std::function<void()>& action, milliseconds time = milliseconds{50}) {
        const Fd socket{::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0)};
        sockaddr_ll address{};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(ETH_P_ALL);
        address.sll_ifindex = static_cast<int>(b_);
        EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        action();
        std::vector<std::string> frames;
        const Instant end = BootClock::now() + time;
        while (BootClock::now() < end) {
            pollfd readable{socket.get(), POLLIN, 0};
            ::poll(&readable, 1, 10);
            char frame[2048];
            for (ssize_t size; (size = ::recv(socket.get(), frame, sizeof frame, 0)) > 0;) {
                frames.emplace_back(frame, static_cast<std::size_t>(size));
            }
        }
        return frames;
    }

    Mac mac(const std::string& name) {
        const auto all = interfaces();
        const auto* link = all ? find(all.value(), name) : nullptr;
        return link != nullptr ? link->mac : Mac{};
    }

    std::uint32_t a_{}, b_{};
};

std::string text(const Mac& mac) { return {reinterpret_cast<const char*>(mac.data()), mac.size()}; }

TEST_F(Net, ListsLinksWithAddressesAndCarrier) {
    auto all = interfaces();
    ASSERT_TRUE(all) << all.error().text();
    const auto* a = find(all.value(), "a0");
    ASSERT_NE(a, nullptr);
    EXPECT_EQ(a->index, a_);
    EXPECT_TRUE(a->up);
    EXPECT_EQ(a->mtu, 1500u);
    EXPECT_NE(a->mac, Mac{});
    EXPECT_THAT(a->addresses, Contains("192.0.2.1/24"));
    EXPECT_THAT(a->addresses, Contains("2001:db8::1/64"));
    run("ip link set b0 down"); // the far end down takes our carrier
    all = interfaces();
    ASSERT_TRUE(all);
    EXPECT_FALSE(find(all.value(), "a0")->up);
}

TEST_F(Net, TellsWhatIsStillProbedForDuplicates) {
    const auto settled = [] { // the kernel makes the link-local address, and looks at it, in its own time
        const auto all = interfaces().value();
        const auto* a = find(all, "a0");
        return !a->tentative &&
               std::ranges::any_of(a->addresses, [](const auto& one) { return one.starts_with("fe80"); });
    };
    const Instant end = BootClock::now() + seconds{5};
    while (!settled() && BootClock::now() < end) {
        std::this_thread::sleep_for(milliseconds{5});
    }
    EXPECT_TRUE(settled());
    run("sysctl -qw net.ipv6.conf.a0.accept_dad=1 && ip addr add 2001:db8::7/64 dev a0");
    EXPECT_TRUE(find(interfaces().value(), "a0")->tentative);
    run("ip addr del 2001:db8::7/64 dev a0 && ip addr add 2001:db8::7/64 dev a0 nodad");
    EXPECT_FALSE(find(interfaces().value(), "a0")->tentative);
}

TEST_F(Net, FindsTheInterfaceOfASubnet) {
    run("ip addr add 192.0.2.129/26 dev b0");
    EXPECT_EQ(interface_for("192.0.2.50").value().name, "a0");
    EXPECT_EQ(interface_for("192.0.2.130").value().name, "b0"); // longest prefix
    EXPECT_EQ(interface_for("2001:db8::50").value().name, "a0");
    ASSERT_TRUE(add_address(b_, "192.0.2.50"));
    EXPECT_EQ(interface_for("192.0.2.50").value().name, "a0"); // our own /32 is no subnet
    const auto missing = interface_for("198.51.100.1");
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, Errc::not_found);
    EXPECT_THAT(missing.error().what, HasSubstr("192.0.2.1/24"));
    EXPECT_EQ(interface_for("server1").error().code, Errc::malformed);
}

TEST_F(Net, AddsAndRemovesAddressesAsOftenAsAsked) {
    for (const std::string address : {"192.0.2.50", "2001:db8::50"}) {
        const std::string prefix = address.find(':') == std::string::npos ? "/32" : "/128";
        ASSERT_TRUE(add_address(a_, address));
        ASSERT_TRUE(add_address(a_, address));
        EXPECT_THAT(find(interfaces().value(), "a0")->addresses, Contains(address + prefix));
        ASSERT_TRUE(remove_address(a_, address));
        ASSERT_TRUE(remove_address(a_, address));
        EXPECT_THAT(find(interfaces().value(), "a0")->addresses, Not(Contains(address + prefix)));
    }
    const auto gone = add_address(9999, "192.0.2.50");
    ASSERT_FALSE(gone);
    EXPECT_THAT(gone.error().text(), HasSubstr("192.0.2.50"));
}

TEST_F(Net, AddressHasNoRouteOfItsOwnAndIsNeverPreferred) {
    ASSERT_TRUE(add_address(a_, "192.0.2.50"));
    ASSERT_TRUE(add_address(a_, "2001:db8::50"));
    EXPECT_EQ(std::system("ip addr show dev a0 | grep -q '192.0.2.50/32.* noprefixroute'"), 0);
    for (const std::string flag : {"deprecated", "nodad", "noprefixroute"}) {
        EXPECT_EQ(std::system(("ip addr show dev a0 | grep '2001:db8::50/128' | grep -qw " + flag).c_str()), 0) << flag;
    }
}

TEST_F(Net, AnnouncesByArpWithOwnEthernetSource) {
    const Mac virtual_mac{0x5a, 0xfe, 192, 0, 2, 50};
    const auto frames = frames_at_b([&] { ASSERT_TRUE(announce(a_, "192.0.2.50", virtual_mac)); });
    const std::string ip("\xc0\x00\x02\x32", 4);
    const std::string head = text({0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) + text(mac("a0")) +
                             std::string("\x08\x06\x00\x01\x08\x00\x06\x04\x00", 9);
    EXPECT_THAT(frames,
                Contains(testing::StartsWith(head + '\1' + text(virtual_mac) + ip + std::string(6, '\0') + ip)));
    EXPECT_THAT(frames, Contains(testing::StartsWith(head + '\2' + text(virtual_mac) + ip)));
}

TEST_F(Net, AnAnnouncementTeachesAKernelNeighbour) {
    run("ip addr add 198.51.100.2/24 dev b0 && ip addr add 2001:db8:1::2/64 dev b0 nodad");
    run("sysctl -qw net.ipv4.conf.b0.arp_accept=1");
    // Linux updates existing IPv6 entries only; so does the test.
    run("ip neigh add 2001:db8:1::50 lladdr 02:00:00:00:00:01 nud stale dev b0");
    const Mac moved{2, 0, 0, 0, 0, 0x77};
    ASSERT_TRUE(announce(a_, "198.51.100.50", moved));
    ASSERT_TRUE(announce(a_, "2001:db8:1::50", moved));
    const auto learnt = [](const std::string& ip) {
        return std::system(("ip neigh show dev b0 | grep -q '^" + ip + " .*02:00:00:00:00:77'").c_str()) == 0;
    };
    const Instant end = BootClock::now() + seconds{5};
    while (BootClock::now() < end && !(learnt("198.51.100.50") && learnt("2001:db8:1::50"))) {
        ::poll(nullptr, 0, 10);
    }
    EXPECT_TRUE(learnt("198.51.100.50"));
    EXPECT_TRUE(learnt("2001:db8:1::50"));
}

TEST_F(Net, AnnouncesToOneClientOnly) {
    const Mac client = mac("b0");
    const auto frames = frames_at_b([&] {
        ASSERT_TRUE(announce_to(a_, "192.0.2.50", mac("a0"), "192.0.2.9", client));
        ASSERT_TRUE(announce_to(a_, "2001:db8::50", mac("a0"), "2001:db8::9", client));
    });
    const auto to_client = std::count_if(frames.begin(), frames.end(), [&](const auto& frame) {
        return frame.starts_with(text(client) + text(mac("a0")));
    });
    EXPECT_EQ(to_client, 2);
    EXPECT_FALSE(announce_to(a_, "192.0.2.50", mac("a0"), "2001:db8::9", client));
}

TEST_F(Net, ProbeFindsAForeignOwnerAndOnlyIt) {
    run("ip addr add 192.0.2.60/24 dev b0 && ip addr add 2001:db8::60/64 dev b0 nodad");
    for (const std::string taken : {"192.0.2.60", "2001:db8::60"}) {
        const auto answer = probe(a_, taken, seconds{3});
        ASSERT_TRUE(answer) << answer.error().text();
        ASSERT_TRUE(answer.value().has_value()) << taken;
        EXPECT_EQ(*answer.value(), mac("b0"));
    }
    for (const std::string free : {"192.0.2.61", "2001:db8::61"}) {
        const auto answer = probe(a_, free, milliseconds{60});
        ASSERT_TRUE(answer);
        EXPECT_FALSE(answer.value().has_value()) << free;
    }
}

TEST_F(Net, ProbeFindsAForeignOwnerBehindAKnownOne) {
    run("ip link add m0 link b0 type macvlan mode bridge && sysctl -qw net.ipv4.conf.m0.arp_ignore=1");
    run("sysctl -qw net.ipv6.conf.m0.accept_dad=0 && ip link set m0 up");
    run("ip addr add 192.0.2.60/32 dev b0 && ip addr add 2001:db8::60/128 dev b0 nodad");
    const std::vector<Mac> known{mac("b0")};
    for (const std::string taken : {"192.0.2.60", "2001:db8::60"}) {
        const auto answer = probe(a_, taken, milliseconds{60}, known);
        ASSERT_TRUE(answer);
        EXPECT_FALSE(answer.value().has_value()) << taken << ": only the known one has it";
    }
    run("ip addr add 192.0.2.60/32 dev m0 && ip addr add 2001:db8::60/128 dev m0 nodad");
    for (const std::string taken : {"192.0.2.60", "2001:db8::60"}) {
        const auto answer = probe(a_, taken, seconds{3}, known);
        ASSERT_TRUE(answer);
        ASSERT_TRUE(answer.value().has_value()) << taken;
        EXPECT_EQ(*answer.value(), mac("m0"));
    }
}

TEST_F(Net, UnicastFilterEntryComesAndGoes) {
    const Mac virtual_mac{0x5a, 0xfe, 192, 0, 2, 50};
    const auto present = [] {
        return std::system("bridge fdb show dev a0 | grep -qi '5a:fe:c0:00:02:32 self permanent'") == 0;
    };
    ASSERT_TRUE(add_unicast_filter(a_, virtual_mac));
    ASSERT_TRUE(add_unicast_filter(a_, virtual_mac));
    EXPECT_TRUE(present());
    ASSERT_TRUE(remove_unicast_filter(a_, virtual_mac));
    ASSERT_TRUE(remove_unicast_filter(a_, virtual_mac));
    EXPECT_FALSE(present());
}

TEST_F(Net, SysctlReturnsTheOldValue) {
    run("sysctl -qw net.ipv4.conf.a0.arp_announce=0");
    EXPECT_EQ(set_sysctl("ipv4/conf/a0/arp_announce", "2").value(), "0");
    EXPECT_EQ(set_sysctl("ipv4/conf/a0/arp_announce", "2").value(), "2");
    EXPECT_EQ(set_sysctl("ipv4/conf/nowhere/arp_announce", "2").error().code, Errc::not_found);
    EXPECT_EQ(set_sysctl("../kernel/hostname", "x").error().code, Errc::malformed);
}

TEST_F(Net, WatchTellsLinksAndAddresses) {
    std::vector<std::string> seen;
    auto watch = Watch::open({
        [&](std::uint32_t, const std::string& name, bool up) { seen.push_back(name + (up ? " up" : " down")); },
        [&](std::uint32_t, const std::string& address, bool added) { seen.push_back((added ? "+" : "-") + address); },
    });
    ASSERT_TRUE(watch) << watch.error().text();
    const auto until = [&](const std::string& wanted) {
        const Instant end = BootClock::now() + seconds{5};
        while (BootClock::now() < end && std::find(seen.begin(), seen.end(), wanted) == seen.end()) {
            pollfd readable{watch.value()->fd(), POLLIN, 0};
            ::poll(&readable, 1, 50);
            watch.value()->poll();
        }
        return seen;
    };
    watch.value()->poll();
    EXPECT_TRUE(seen.empty()) << "what was there before is no news";
    run("ip addr add 192.0.2.70/32 dev a0");
    EXPECT_THAT(until("+192.0.2.70"), Contains("+192.0.2.70"));
    run("ip addr del 192.0.2.70/32 dev a0");
    EXPECT_THAT(until("-192.0.2.70"), Contains("-192.0.2.70"));
    run("ip link set b0 down");
    EXPECT_THAT(until("a0 down"), Contains("a0 down"));
    run("ip link set b0 up");
    EXPECT_THAT(until("a0 up"), Contains("a0 up"));
    seen.clear();
    run("ip link del a0");
    EXPECT_THAT(until("a0 down"), Contains("a0 down"));
}

TEST_F(Net, WatchFindsItsWayAfterAnOverflow) {
    std::vector<std::string> seen;
    auto watch = Watch::open({{}, [&](std::uint32_t, const std::string& address, bool added) {
                                  seen.push_back((added ? "+" : "-") + address);
                              }});
    ASSERT_TRUE(watch);
    const int small = 1;
    ::setsockopt(watch.value()->fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    for (int i = 100; i < 120; ++i) {
        ASSERT_TRUE(add_address(a_, "192.0.2." + std::to_string(i)));
    }
    watch.value()->poll();
    for (int i = 100; i < 120; ++i) {
        EXPECT_THAT(seen, Contains("+192.0.2." + std::to_string(i)));
    }
}

} // namespace
} // namespace stead::net
