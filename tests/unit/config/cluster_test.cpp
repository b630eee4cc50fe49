// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

namespace stead::config::test {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string classic = R"(<?xml version="1.0"?>
<!DOCTYPE cluster>
<cluster><lans port="4800" pulse="100" mlost_count="20" slost_count="10">
  <lan name="default" command="on" console="on">
    <node name="node2" addr="192.0.2.12"/><node addr="192.0.2.11" name="node1"/>
  </lan>
  <lan name="repli"><node name="node1" addr="10.0.0.1"/><node name="node2" addr="[2001:DB8::2]" laddr="10.9.0.2"/></lan>
</lans></cluster>)";

std::string one_lan(const std::string& nodes, const std::string& lans = "", const std::string& lan = "") {
    return "<cluster><lans " + lans + "><lan name=\"default\" " + lan + ">" + nodes + "</lan></lans></cluster>";
}
const std::string two = R"(<node name="a" addr="192.0.2.1"/><node name="b" addr="192.0.2.2"/>)";

std::vector<std::string> findings(const std::string& xml) { return texts(parse_cluster(xml, "c.xml")); }

TEST(Cluster, ClassicFile) {
    const auto checked = parse_cluster(classic, "c.xml");
    ASSERT_TRUE(checked.ok());
    EXPECT_THAT(texts(checked),
                ElementsAre("W c.xml:3: lans/@mlost_count is ignored: every node is watched alike, by slost_count",
                            "W c.xml:4: lan/@console is obsolete and ignored"));
    const Cluster& cluster = *checked.value;
    EXPECT_THAT(cluster.nodes, ElementsAre("node1", "node2"));
    EXPECT_THAT(cluster.lans[0].addresses, ElementsAre("192.0.2.11", "192.0.2.12"));
    EXPECT_THAT(cluster.lans[1].addresses, ElementsAre("10.0.0.1", "2001:db8::2"));
    EXPECT_THAT(cluster.lans[1].local_addresses, ElementsAre("", "10.9.0.2"));
    EXPECT_EQ(cluster.pulse, milliseconds{100});
    EXPECT_EQ(cluster.slost_count, 10u);
    EXPECT_EQ(cluster.command_lan, 0u);
    EXPECT_EQ(cluster.find("node2"), NodeId{1});
    EXPECT_EQ(cluster.find("node3"), std::nullopt);
    EXPECT_EQ(cluster.find_lan("repli"), LanId{1});
}

TEST(Cluster, DigestIsOfTheMeaning) {
    const auto digest = [](const std::string& xml) { return parse_cluster(xml, "c").value->digest; };
    const auto base = digest(one_lan(two));
    EXPECT_EQ(base, digest(one_lan(
                        "<!-- x -->\n  <node addr=\"192.0.2.2\" name=\"b\"/>\n<node name=\"a\" addr=\"192.0.2.1\"/>")));
    EXPECT_NE(base, digest(one_lan(two, "port=\"4900\"")));
    EXPECT_NE(base, digest(one_lan(two, "profile=\"fast\"")));
    EXPECT_NE(base, digest(one_lan(R"(<node name="a" addr="192.0.2.1"/><node name="b" addr="192.0.2.3"/>)")));
}

TEST(Cluster, GoldenErrors) {
    const auto only = [](const std::string& xml) {
        const auto all = findings(xml);
        EXPECT_EQ(all.size(), 1u) << ::testing::PrintToString(all);
        return all.empty() ? "" : all.front();
    };
    EXPECT_EQ(only("<clutser/>"), "E c.xml:1: the top element is <clutser>; allowed: <cluster>");
    EXPECT_EQ(only("<cluster/>"), "E c.xml:1: <cluster> holds exactly one <lans>; there are 0");
    EXPECT_EQ(only(one_lan(two, "prot=\"1\"")),
              "E c.xml:1: lans/@prot: unknown attribute; allowed: port, pulse, mlost_count, slost_count, profile; "
              "did you mean 'port'?");
    EXPECT_EQ(only(one_lan(two, "port=\"0\"")), "E c.xml:1: lans/@port: '0' is out of range; allowed: 1 to 65535");
    EXPECT_EQ(only(one_lan(two, "profile=\"fats\"")),
              "E c.xml:1: lans/@profile: 'fats' is not a choice; allowed: fast, default, safe; did you mean 'fast'?");
    EXPECT_EQ(only(one_lan(two + "<node name=\"a\" addr=\"192.0.2.9\"/>")),
              "E c.xml:1: node/@name: 'a' is already on LAN 'default' (line 1)");
    EXPECT_EQ(only(one_lan(two + "<node name=\"c\" addr=\"192.0.2.1\"/>")),
              "E c.xml:1: node/@addr: '192.0.2.1' is already the address of node 'a' (line 1)");
    EXPECT_EQ(
        only(one_lan(two + "<node name=\"c\" addr=\"192.0.2.300\"/>")),
        "E c.xml:1: node/@addr: '192.0.2.300' is not an address; allowed: an IPv4 or IPv6 address or a host name");
    EXPECT_EQ(only(one_lan(two + "<node name=\"c\"/>")),
              "E c.xml:1: <node> needs the attribute addr; allowed: an IPv4 or IPv6 address or a host name");
    EXPECT_EQ(only(one_lan(two + "<node name=\"c d\" addr=\"192.0.2.3\"/>")),
              "E c.xml:1: node/@name: 'c d' is not a name; allowed: 1 to 63 letters, digits, '_', '.' or '-'");
    EXPECT_EQ(only(one_lan(two + "<node name=\"A\" addr=\"192.0.2.3\"/>")),
              "E c.xml:1: node/@name: 'a' and 'A' differ in capitals only; a node has the same name on every LAN");
    EXPECT_EQ(only(one_lan(two + "<nod/>")), "E c.xml:1: unknown element <nod> in <lan>; allowed: <node>");
    EXPECT_EQ(only(one_lan(two + "<node name=\"c\" addr=\"224.0.0.1\"/>")),
              "E c.xml:1: node: '224.0.0.1' is no address of one server; allowed: a unicast address");
    for (const char* address : {"0.0.0.0", "255.255.255.255", "::", "ff02::1", "::ffff:192.0.2.3"}) {
        EXPECT_THAT(only(one_lan(two + "<node name=\"c\" addr=\"" + address + "\"/>")),
                    HasSubstr("is no address of one server"))
            << address;
    }
    EXPECT_EQ(only(one_lan(two, "pulse=\"10\" slost_count=\"3\"")),
              "W c.xml:1: lans/@slost_count: less than 4, 4 is used; a lease must fit in");
    EXPECT_EQ(only(one_lan(two, "pulse=\"5\" slost_count=\"10\"")),
              "W c.xml:1: lans/@pulse: shorter than 10ms, 10ms is used; profile='fast' beats every 5ms");
    EXPECT_EQ(only(one_lan("<node name=\"a\" addr=\"192.0.2.1\"/>")),
              "W c.xml:1: the cluster has one node: nothing takes over when it fails");
}

TEST(Cluster, WebIsForEveryNodeAndNoPartOfTheDigest) {
    const auto with = [](const std::string& web) {
        std::string xml = one_lan(two);
        return xml.insert(xml.find("<lans"), web);
    };
    const auto plain = parse_cluster(one_lan(two), "c");
    EXPECT_EQ(plain.value->web, ClusterWeb{});
    EXPECT_EQ(plain.value->web.port, 9010);
    const auto checked = parse_cluster(with(R"(<web port="9011" address="127.0.0.1" api="off"/>)"), "c");
    ASSERT_TRUE(checked.ok());
    EXPECT_EQ(checked.value->web, (ClusterWeb{9011, "127.0.0.1", false}));
    EXPECT_EQ(checked.value->digest, plain.value->digest);
    EXPECT_EQ(parse_cluster(with("<web address=\"*\"/>"), "c").value->web.address, "");
    EXPECT_EQ(parse_cluster(with("<web https_port=\"443\"/>"), "c").value->web.https_port, 443);
    EXPECT_FALSE(parse_cluster(with("<web https=\"off\" port=\"9453\"/>"), "c").value->web.https);
    EXPECT_THAT(findings(with("<web port=\"9453\"/>")),
                ElementsAre("E c.xml:1: web/@https_port: 9453 is the port of plain HTTP as well; they must differ, or "
                            "https=\"off\""));
    for (const char* web : {R"(<web port="4800"/>)", R"(<web https_port="4800"/>)"}) {
        EXPECT_THAT(findings(with(web)),
                    ElementsAre("E c.xml:1: lans/@port: 4800 is a port of <web> as well; they must differ"));
    }
    EXPECT_TRUE(parse_cluster(with(R"(<web https="off" https_port="4800"/>)"), "c").ok());
    EXPECT_THAT(findings(with("<web address=\"myself\"/>")),
                ElementsAre("E c.xml:1: web/@address: 'myself' is a name; allowed: an IP address such as 127.0.0.1, "
                            "or *"));
    EXPECT_THAT(findings(with("<web prot=\"1\"/>")),
                ElementsAre("E c.xml:1: web/@prot: unknown attribute; allowed: port, address, api, https, https_port; "
                            "did you mean 'port'?"));
    EXPECT_THAT(findings(with("<web/><web/>")),
                ElementsAre("E c.xml:1: <cluster> holds at most one <web>; there are 2"));
    EXPECT_THAT(findings(with("<wbe/>")),
                ElementsAre("E c.xml:1: unknown element <wbe> in <cluster>; allowed: <lans>, <web>"));
}

TEST(Cluster, CommandLan) {
    const auto file = [](const std::string& first, const std::string& second) {
        return "<cluster><lans><lan name=\"x\" " + first + ">" + two + "</lan><lan name=\"y\" " + second +
               "><node name=\"a\" addr=\"10.0.0.1\"/></lan></lans></cluster>";
    };
    EXPECT_THAT(findings(file("command=\"on\"", "command=\"on\"")),
                Contains("E c.xml:1: lan/@command: only one LAN may be on, and 'x' is"));
    EXPECT_THAT(findings(file("", "command=\"on\"")),
                Contains("E c.xml:1: the command LAN 'y' must list all nodes; missing: b"));
    EXPECT_TRUE(parse_cluster(file("", ""), "c").ok());
}

TEST(Cluster, SizeLimits) {
    const auto nodes = [](int count) {
        std::string text;
        for (int i = 0; i < count; ++i) {
            text += "<node name=\"n" + std::to_string(i) + "\" addr=\"10.1.0." + std::to_string(i + 1) + "\"/>";
        }
        return one_lan(text);
    };
    EXPECT_TRUE(parse_cluster(nodes(64), "c").ok());
    EXPECT_THAT(findings(nodes(65)), ElementsAre("E c.xml:1: 65 nodes; allowed: 2 to 64"));
}

TEST(Cluster, Identify) {
    const auto cluster = *parse_cluster(classic, "c.xml").value;
    const std::vector<std::string> by_laddr{"127.0.0.1", "10.9.0.2"};
    const std::vector<std::string> by_v6{"2001:0db8:0::2"};
    const std::vector<std::string> none{"127.0.0.1"};
    const std::vector<std::string> both{"192.0.2.11", "192.0.2.12"};
    EXPECT_EQ(*identify(cluster, by_laddr, "c.xml"), NodeId{1});
    EXPECT_EQ(*identify(cluster, by_v6, "c.xml"), NodeId{1});
    const Error nobody = identify(cluster, none, "c.xml").error();
    EXPECT_EQ(nobody.code, Errc::malformed);
    EXPECT_THAT(nobody.text(), AllOf(StartsWith("c.xml:5: "),
                                     HasSubstr("addresses here: 127.0.0.1; in the file: node1 192.0.2.11 (line 5)")));
    const Error twice = identify(cluster, both, "c.xml").error();
    EXPECT_EQ(twice.code, Errc::malformed);
    EXPECT_THAT(twice.text(), AllOf(StartsWith("c.xml:"), HasSubstr("node1 and node2 at once")));
}

TEST(Cluster, Resolve) {
    auto cluster =
        *parse_cluster(one_lan(R"(<node name="a" addr="localhost"/><node name="b" addr="192.0.2.2"/>)"), "c").value;
    ASSERT_TRUE(resolve(cluster, "c.xml").has_value());
    EXPECT_EQ(cluster.lans[0].addresses[0], "127.0.0.1");
    cluster.lans[0].addresses[0] = "no-such-host.invalid";
    cluster.lans[0].addresses[1] = "nor-this-one.invalid";
    const Error unknown = resolve(cluster, "c.xml").error();
    EXPECT_EQ(unknown.code, Errc::malformed);
    EXPECT_THAT(unknown.text(), AllOf(StartsWith("c.xml:1: the name 'no-such-host.invalid' has no address"),
                                      HasSubstr("\nc.xml:1: the name 'nor-this-one.invalid' has no address")));
}

} // namespace
} // namespace stead::config::test
