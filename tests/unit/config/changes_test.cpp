// SPDX-License-Identifier: Apache-2.0
// Goal: what a running module cannot take over is named, with both values; what means the same is no change.
#include "fixture.hpp"

namespace stead::config::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> between(const std::string& before, const std::string& after) {
    const auto old = module(farm_file(before)), now = module(farm_file(after));
    EXPECT_TRUE(old.ok() && now.ok()) << before << after;
    return static_changes(*old.value, *now.value, schemas());
}

std::string group(const std::string& inside) {
    return "<vip><loadbalancing_list><group name='g'>" + inside + "</group></loadbalancing_list></vip>";
}

TEST(Changes, DynamicAttributesAndElementsMayChange) {
    EXPECT_THAT(
        between("<user/>" + group("<cluster><host name='a' power='1'/></cluster>"),
                "<user><var name='X' value='1'/></user>" + group("<cluster><host name='a' power='9'/></cluster>")),
        IsEmpty());
}

TEST(Changes, WhatIsWrittenInAnotherWayIsTheSame) {
    EXPECT_THAT(between("<vip drain='5s' movecap='0s'/>", "<vip drain='5000ms'/>"), IsEmpty());
    EXPECT_THAT(between("<failover extends='yes'>a</failover>", "<failover extends='on' period='5000'>a</failover>"),
                IsEmpty());
    EXPECT_THAT(between("", "<vip><loadbalancing_list/></vip>"), ElementsAre("<vip>: 0 before, 1 now"));
}

TEST(Changes, StaticOnesAreNamedWithBothValues) {
    EXPECT_THAT(between("<vip drain='5s'/>", "<vip drain='1500ms'/>"), ElementsAre("<vip> drain: 5s is now 1500ms"));
    EXPECT_THAT(between("<vip/>", "<vip drain='10ms'/>"), ElementsAre("<vip> drain: absent is now 10ms"));
    EXPECT_THAT(between(group("<rule port='1'/>"), group("<rule port='2'/>")),
                ElementsAre("<rule> port: '1' is now '2'"));
    EXPECT_THAT(between(group(""), group("<rule/>")), ElementsAre("<rule>: 0 before, 1 now"));
    EXPECT_THAT(between("<failover>a</failover>", "<failover>b</failover>"),
                ElementsAre("<failover>: its text has changed"));
    EXPECT_THAT(
        static_changes(*module(farm_file("")).value, *module("<safe><service mode='light'/></safe>").value, schemas()),
        ElementsAre("<service> mode: 'farm' is now 'light'", "<farm>: 1 before, 0 now"));
}

} // namespace
} // namespace stead::config::test
