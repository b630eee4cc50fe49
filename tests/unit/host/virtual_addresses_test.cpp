// SPDX-License-Identifier: Apache-2.0
#include "virtual_addresses.hpp"

#include <gmock/gmock.h>

namespace stead::host {
namespace {

using config::Element;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

Element make(const char* name, std::vector<std::pair<std::string, std::string>> attributes,
             std::vector<Element> children = {}) {
    Element element;
    element.name = name;
    element.line = 8;
    element.attributes = std::move(attributes);
    element.children = std::move(children);
    return element;
}

std::vector<std::string> findings(const std::string& addr, const std::string& interface = "",
                                  const std::string& type = "vmac_directed", const std::string& mode = "light",
                                  std::vector<Element> farm = {}) {
    config::Cluster cluster;
    cluster.nodes = {"node1"};
    cluster.lans.emplace_back().addresses = {"10.42.0.11"};
    cluster.lans.back().name = "clients";
    cluster.lans.emplace_back().addresses = {"10.44.0.1"};
    cluster.lans.back().name = "private";
    net::Interface eth0, eth1, lo;
    lo.name = "lo";
    lo.addresses = {"127.0.0.1/8", "::1/128"};
    eth0.name = "eth0";
    eth0.addresses = {"10.42.0.11/16", "fd42::11/64"};
    eth1.name = "eth1";
    eth1.addresses = {"10.43.0.10/31", "10.44.0.1/32"};
    const std::vector<net::Interface> interfaces{lo, eth0, eth1};
    const Element service = make(
        "service", {{"mode", mode}},
        {make("farm", {}, std::move(farm)),
         make(
             "vip", {},
             {make("interface_list", {},
                   {make("interface", {{"name", interface}},
                         {make("virtual_interface", {{"type", type}}, {make("virtual_addr", {{"addr", addr}})})})})})});
    std::vector<std::string> texts;
    for (const config::Finding& one : virtual_address_findings(service, &cluster, interfaces)) {
        texts.push_back((one.warning ? "W " : "E ") + one.text());
    }
    return texts;
}

TEST(VirtualAddress, ThatNoServerCanHave) {
    const std::string end = "; allowed: a unicast address of the servers' network";
    const std::string place = "E userconfig.xml:8: virtual_addr/@addr: ";
    for (const auto& [addr, flaw] :
         std::vector<std::pair<std::string, std::string>>{{"0.0.0.0", "an unspecified address"},
                                                          {"0.1.2.3", "an unspecified address"},
                                                          {"127.0.0.2", "a loopback address"},
                                                          {"224.0.0.1", "a multicast address"},
                                                          {"240.0.0.1", "a reserved or broadcast address"},
                                                          {"255.255.255.255", "a reserved or broadcast address"},
                                                          {"::", "an unspecified address"},
                                                          {"::1", "a loopback address"},
                                                          {"ff02::1", "a multicast address"},
                                                          {"::ffff:192.0.2.1", "an IPv4 address in IPv6 form"}}) {
        EXPECT_THAT(findings(addr), ElementsAre(place + "'" + addr + "' is " + flaw + end));
    }
    EXPECT_THAT(findings("10.42.0.0"),
                ElementsAre(place + "'10.42.0.0' is the network address of 10.42.0.0/16 on eth0; "
                                    "allowed: another address of it"));
    EXPECT_THAT(findings("10.42.255.255"),
                ElementsAre(place + "'10.42.255.255' is the broadcast address of 10.42.0.0/16 on eth0; "
                                    "allowed: another address of it"));
    EXPECT_THAT(findings("10.42.0.11"), ElementsAre(place + "'10.42.0.11' is the address of node1 in cluster.xml; "
                                                            "allowed: one that no server has"));
}

TEST(VirtualAddress, ThatThisNodeCanCarry) {
    for (const char* addr : {"10.42.0.100", "fd42::100", "fd42::", "10.43.0.10", "10.43.0.11"}) {
        EXPECT_THAT(findings(addr), IsEmpty()) << addr;
    }
    EXPECT_THAT(findings("10.42.0.100", "eth0"), IsEmpty());
    EXPECT_THAT(findings("192.0.2.1", "", "external"), IsEmpty()) << "another machine has it";
}

TEST(VirtualAddress, OfNoSubnetHereIsAWarning) {
    EXPECT_THAT(
        findings("192.0.2.1"),
        ElementsAre("W userconfig.xml:8: virtual_addr/@addr: '192.0.2.1' is in no subnet of an interface of this "
                    "node, so no interface can carry it; subnets here: 10.42.0.0/16 (eth0), 10.43.0.10/31 "
                    "(eth1)"));
    EXPECT_THAT(
        findings("10.42.0.100", "eth1"),
        ElementsAre("W userconfig.xml:8: virtual_addr/@addr: '10.42.0.100' is in no subnet of interface eth1 of "
                    "this node, so clients reach it only by a route; subnets here: 10.43.0.10/31 (eth1)"));
}

TEST(VirtualAddress, OfAFarmWithoutAHeartbeatThereIsAWarning) {
    EXPECT_THAT(findings("10.42.0.100", "", "vmac_directed", "farm"), IsEmpty());
    EXPECT_THAT(findings("fd42::100", "", "vmac_directed", "farm"), IsEmpty()) << "the same interface";
    EXPECT_THAT(findings("10.43.0.10", "", "vmac_directed", "farm"), IsEmpty()) << "the interface of the other lan";
    EXPECT_THAT(
        findings("10.42.0.100", "", "vmac_directed", "farm", {make("lan", {{"name", "private"}})}),
        ElementsAre("W userconfig.xml:8: virtual_addr/@addr: '10.42.0.100' is on eth0, and no heartbeat of this "
                    "farm: a node that loses this network in silence keeps its part; give cluster.xml a lan "
                    "there, and name it in <farm> if it names any"));
}

} // namespace
} // namespace stead::host
