// SPDX-License-Identifier: Apache-2.0
#include <stead/node/differences.hpp>

#include <gmock/gmock.h>

namespace stead::node {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr const char* schema = R"({"plugins":[{"elements":[
    {"path":"service","dynamic":false,"attributes":[{"name":"maxloop","dynamic":true},{"name":"mode","dynamic":false}]},
    {"path":"user","dynamic":true,"attributes":[]},
    {"path":"check/tcp","dynamic":true,"attributes":[]},
    {"path":"check/intf","dynamic":false,"attributes":[]},
    {"path":"vip/host","dynamic":false,"attributes":[{"name":"power","dynamic":true}]}]}]})";

std::string service(const std::string& inside, const std::string& maxloop = "3") {
    return "<safe><macro name='A' value='1'/><service mode='farm' maxloop='" + maxloop + "'>" + inside +
           "</service></safe>";
}

std::vector<std::string> between(const std::string& before, const std::string& after) {
    const Result<std::vector<std::string>> lines = static_differences(before, after, *dynamic_parts(schema));
    return lines ? *lines : std::vector<std::string>{lines.error().text()};
}

TEST(Differences, DynamicAttributesAndElementsMayChange) {
    EXPECT_THAT(between(service("<user/><vip><host name='a' power='1'/></vip>"),
                        service("<user><var name='X'/></user><vip><host name='a' power='9'/></vip>", "5")),
                IsEmpty());
}

TEST(Differences, TheFirstElementOfAContainerMayCome) {
    EXPECT_THAT(between(service(""), service("<check><tcp ident='a'/></check>")), IsEmpty());
    EXPECT_THAT(between(service("<check><tcp ident='a'/></check>"), service("")), IsEmpty());
    EXPECT_THAT(between(service(""), service("<check><intf/></check>")), ElementsAre("<intf>: 0 before, 1 now"));
    EXPECT_THAT(between(service("<check/>"), service("<check/><check><tcp/></check>")), IsEmpty());
}

TEST(Differences, StaticOnesAreNamed) {
    EXPECT_THAT(between(service("<vip><rule port='1'/></vip>"), service("<vip><rule port='2'/></vip>")),
                ElementsAre(R"(<rule> port: "1" is now "2")"));
    EXPECT_THAT(between(service("<vip><host name='a'/></vip>"), service("<vip><host name='a' weight='2'/></vip>")),
                ElementsAre(R"(<host> weight: absent is now "2")"));
    EXPECT_THAT(between(service("<vip/>"), service("<vip><rule/></vip>")), ElementsAre("<rule>: 0 before, 1 now"));
    EXPECT_THAT(between(service("<failover>a</failover>"), service("<failover>b</failover>")),
                ElementsAre("<failover>: its text has changed"));
}

TEST(Differences, WhatIsNoXmlIsAnError) {
    EXPECT_FALSE(static_differences("<safe", service(""), {}).has_value());
    EXPECT_FALSE(dynamic_parts("[]").has_value());
}

} // namespace
} // namespace stead::node
