// SPDX-License-Identifier: Apache-2.0
#include <stead/node/check.hpp>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <gmock/gmock.h>

namespace stead::node {
namespace {

namespace json = boost::json;
using ::testing::HasSubstr;
using ::testing::Not;

/// Two nodes that hear each other and agree in everything.
CheckFacts healthy() {
    CheckFacts facts;
    facts.cluster.cluster.nodes = {"n1", "n2"};
    config::ClusterLan lan;
    lan.name = "default";
    lan.addresses = {"10.0.0.1", "10.0.0.2"};
    lan.local_addresses = {"", ""};
    facts.cluster.cluster.lans = {lan};
    facts.cluster.self = NodeId{0};
    facts.own = json::parse(R"({"version":"1","digest":"d","key":"k","heard":{"default":["n2"]},"unauthentic":0,
        "foreign":0,"interfaces":["eth0"],"modules":{"web":{"id":1,"udp":[4803],"tcp":[],"digest":"m"}}})")
                    .as_object();
    facts.peers.resize(2);
    facts.peers[1].node = "n2";
    facts.peers[1].addresses = {"10.0.0.2"};
    facts.peers[1].facts = facts.own;
    facts.peers[1].facts["heard"] = json::parse(R"({"default":["n1"]})");
    return facts;
}

TEST(ClusterCheck, HealthyIsSaidToBe) {
    const Answer answer = judge(healthy());
    EXPECT_EQ(answer.exit, 0) << answer.text;
    EXPECT_THAT(answer.text, HasSubstr("nothing is wrong"));
    EXPECT_THAT(answer.text, HasSubstr("UDP 4800 passes both ways with n2"));
}

TEST(ClusterCheck, WrongKey) {
    CheckFacts facts = healthy();
    facts.peers[1].error = Error{Errc::denied, "10.0.0.2:4800", "keys differ"};
    facts.own["heard"] = json::object{};
    const Answer answer = judge(facts);
    EXPECT_EQ(answer.exit, 1);
    EXPECT_THAT(answer.text, HasSubstr("n2 has another cluster key"));
}

TEST(ClusterCheck, BlockedPortNamesTheRuleAndTheLinesToAdd) {
    CheckFacts facts = healthy();
    facts.own["heard"] = json::object{};
    facts.nft = "table ip guard {\n  chain first {\n    udp dport 4800 drop\n";
    facts.own["modules"] = json::parse(R"({"web":{"id":1,"udp":[5005],"tcp":[5600],"digest":"m"}})");
    const Answer answer = judge(facts);
    EXPECT_THAT(answer.text, HasSubstr("passes one way only: n1 does not hear n2"));
    EXPECT_THAT(answer.text, HasSubstr("'udp dport 4800 drop'"));
    EXPECT_THAT(answer.text, HasSubstr("nft insert rule ip guard first udp dport { 4800, 4803-4994, 8888-8951, 5005 } "
                                       "accept; nft insert rule ip guard first tcp dport { 4800, 5600-5855 } accept"))
        << "in front of the rule that drops";
    EXPECT_THAT(answer.text,
                HasSubstr("iptables -I INPUT -p udp -m multiport --dports 4800,4803:4994,8888:8951,5005 "));
}

TEST(ClusterCheck, SilentNode) {
    CheckFacts facts = healthy();
    facts.own["heard"] = json::object{};
    facts.peers[1].error = Error{Errc::timed_out, "10.0.0.2:4800", "no answer"};
    EXPECT_THAT(judge(facts).text, HasSubstr("TCP 4800 does not answer"));
    facts.peers[1].neighbours = "10.0.0.2 dev eth0 FAILED";
    EXPECT_THAT(judge(facts).text, HasSubstr("does not answer ARP"));
}

TEST(ClusterCheck, DifferentConfigurations) {
    CheckFacts facts = healthy();
    facts.peers[1].facts["digest"] = "other";
    facts.peers[1].facts["modules"] = json::parse(R"({"web":{"id":2,"digest":"x"}})");
    const Answer answer = judge(facts);
    EXPECT_THAT(answer.text, HasSubstr("n2 has another cluster.xml"));
    EXPECT_THAT(answer.text, HasSubstr("module 'web' has id 1 here and 2 on n2"));
    EXPECT_THAT(answer.text, HasSubstr("module 'web' is configured differently on n2"));
}

TEST(ClusterCheck, VersionClockAndMtu) {
    CheckFacts facts = healthy();
    facts.peers[1].facts["version"] = "2";
    facts.peers[1].clock_off_ms = -5000;
    facts.peers[1].large_passes = false;
    const Answer answer = judge(facts);
    EXPECT_THAT(answer.text, HasSubstr("runs Stead 2"));
    EXPECT_THAT(answer.text, HasSubstr("-5000 ms"));
    EXPECT_THAT(answer.text, HasSubstr("MTU"));
}

TEST(ClusterCheck, ForeignProgramsAreNamedOursAreNot) {
    CheckFacts facts = healthy();
    facts.links = R"([{"ifname":"eth0","xdp":{"mode":1,"prog":{"id":9,"name":"intruder"}}},
                      {"ifname":"eth1","xdp":{"mode":1,"prog":{"id":8,"name":"stead_xdp"}}},
                      {"ifname":"docker0","xdp":{"mode":1,"prog":{"id":7,"name":"elsewhere"}}}])";
    facts.bpf_net = R"([{"xdp":[],"tc":[{"devname":"eth0","kind":"tcx/ingress","name":"other","prog_id":4},
                      {"devname":"cali1","kind":"tcx/ingress","name":"elsewhere","prog_id":5},
                      {"devname":"eth2","kind":"clsact/ingress","name":"farm_ingress","id":6},
                      {"devname":"eth2","kind":"clsact/ingress","name":"beside_ours","id":7}]}])";
    const Answer answer = judge(facts);
    EXPECT_THAT(answer.text, HasSubstr("interface eth0 carries the XDP program 'intruder'"));
    EXPECT_THAT(answer.text, HasSubstr("tcx program 'other'"));
    EXPECT_THAT(answer.text, HasSubstr("interface eth2 carries the tc program 'beside_ours'"));
    EXPECT_THAT(answer.text, Not(HasSubstr("stead_xdp")));
    EXPECT_THAT(answer.text, Not(HasSubstr("elsewhere"))) << "neither our LANs nor our filter are on that interface";
}

TEST(ClusterCheck, BrokenFlooding) {
    CheckFacts facts = healthy();
    facts.modules["web"] = json::parse(R"({"state":"UP","qualifier":"Ready","reason":"",
        "resources":[{"node":"n1","name":"farm.flooding","value":"down"}]})")
                               .as_object();
    EXPECT_THAT(judge(facts).text, HasSubstr("does not flood"));
}

TEST(ClusterCheck, ModulePortThatIsBlocked) {
    CheckFacts facts = healthy();
    facts.own["modules"] = json::parse(R"({"web":{"id":1,"udp":[5005],"digest":"m","state":"UP Ready"}})");
    facts.peers[1].facts["modules"] = facts.own["modules"];
    facts.modules["web"] = json::parse(R"({"state":"UP","view":{"members":["n1"]}})").as_object();
    EXPECT_THAT(judge(facts).text, HasSubstr("UDP 5005 does not pass between n1 and n2"));
    facts.modules["web"] = json::parse(R"({"state":"UP","view":{"members":["n1","n2"]}})").as_object();
    EXPECT_EQ(judge(facts).exit, 0);
}

TEST(ClusterCheck, OtherKeysCountOnlyWhileTheCheckRuns) {
    CheckFacts facts = healthy();
    facts.own["unauthentic"] = 1000;
    EXPECT_EQ(judge(facts).exit, 0);
    facts.unauthentic_now = 12;
    EXPECT_THAT(judge(facts).text, HasSubstr("12 datagrams or connections of another key"));
}

TEST(ClusterCheck, FilesThatAreNotInUseOrNotGuarded) {
    CheckFacts facts = healthy();
    for (json::object* side : {&facts.own, &facts.peers[1].facts}) {
        (*side)["key_file"] = "k";
        (*side)["key_open"] = false;
        (*side)["cluster_edited"] = false;
    }
    EXPECT_EQ(judge(facts).exit, 0) << judge(facts).text;
    facts.own["key_file"] = "z";
    facts.peers[1].facts["key_open"] = true;
    facts.peers[1].facts["cluster_edited"] = true;
    const Answer answer = judge(facts);
    EXPECT_THAT(answer.text, HasSubstr("cluster.key of n1 (z) is not the key that its steadd uses (k)"));
    EXPECT_THAT(answer.text, HasSubstr("cluster.key of n2 can be read by others than root; run there: chmod 600"));
    EXPECT_THAT(answer.text, HasSubstr("cluster.xml of n2 was edited and is not in force; 'stead cluster config'"));
}

TEST(ClusterCheck, AnAddressThatAnotherHostAnswersToo) {
    CheckFacts facts = healthy();
    facts.duplicates["10.0.0.1"] = "02:00:00:00:00:09 on eth0";
    EXPECT_THAT(judge(facts).text, HasSubstr("the address 10.0.0.1 of n1 is answered by another host too "
                                             "(02:00:00:00:00:09 on eth0): give one of them another address"));
}

TEST(ClusterCheck, AModuleOnSomeOfTheNodes) {
    CheckFacts facts = healthy();
    facts.own["modules"] = json::parse(R"({"web":{"id":1,"mode":"farm"},"probe":{"id":2,"mode":"light"}})");
    facts.peers[1].facts["modules"] = json::object{};
    const Answer answer = judge(facts);
    EXPECT_THAT(answer.text, HasSubstr("WRONG  modules: module 'web' is on n1 and not on n2; to have it there too: "
                                       "stead -E web -H NODE; on one node alone nothing takes over from it"));
    EXPECT_THAT(answer.text, HasSubstr("ok     modules: module 'probe' is on n1 and not on n2"));
    facts.peers[1].error = Error{Errc::timed_out, "10.0.0.2:4800", "no answer"};
    EXPECT_THAT(judge(facts).text, Not(HasSubstr("not on n2"))) << "who is silent may have it";
}

TEST(ClusterCheck, KernelAndMtuOfLans) {
    CheckFacts facts = healthy();
    facts.bpf_problem = "refused";
    facts.own["mtu"] = json::parse(R"({"default":1500})");
    facts.peers[1].facts["mtu"] = json::parse(R"({"default":1300})");
    const Answer answer = judge(facts);
    EXPECT_THAT(answer.text, HasSubstr("backend=\"nfqueue\""));
    EXPECT_THAT(answer.text, HasSubstr("MTU 1500 here and 1300 on n2"));
}

} // namespace
} // namespace stead::node
