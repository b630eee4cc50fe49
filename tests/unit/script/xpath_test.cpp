// SPDX-License-Identifier: Apache-2.0
#include <xpath.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tinyxml2.h>

namespace stead::script::test {

using testing::ElementsAre;

TEST(Xpath, FindsWhatScriptsAskFor) {
    tinyxml2::XMLDocument d;
    ASSERT_EQ(d.Parse("<safe><service mode='farm'><user><var name='A' value='1'/><var name='B' value='2'/></user>"
                      "<x>one<y>two</y></x><x><y>three</y></x></service></safe>"),
              tinyxml2::XML_SUCCESS);
    const auto get = [&](const char* path) { return xpath(d, path).value(); };
    EXPECT_THAT(get("/safe/service/@mode"), ElementsAre("farm"));
    EXPECT_THAT(get("//var/@value"), ElementsAre("1", "2"));
    EXPECT_THAT(get("//var[@name='B']/@value"), ElementsAre("2"));
    EXPECT_THAT(get("//var[@name=\"A\"][@value='1']/@name"), ElementsAre("A"));
    EXPECT_THAT(get("/safe/service/user/var[2]/@name"), ElementsAre("B"));
    EXPECT_THAT(get("//x/text()"), ElementsAre("one"));
    EXPECT_THAT(get("//x"), ElementsAre("onetwo", "three"));
    EXPECT_THAT(get("//x[y='three']/y/text()"), ElementsAre("three"));
    EXPECT_THAT(get("count(//var)"), ElementsAre("2"));
    EXPECT_THAT(get("string(//var/@name)"), ElementsAre("A"));
    EXPECT_THAT(get("//*[@mode]/@mode"), ElementsAre("farm"));
    EXPECT_THAT(get("//none"), ElementsAre());
    EXPECT_THAT(get("count(//none)"), ElementsAre("0"));
    for (const char* bad : {"", "/", "//var[", "//var[@name=B]", "//var/@", "//var/@a/b", "a b", "//var['x']"}) {
        EXPECT_FALSE(xpath(d, bad)) << bad;
    }
}

} // namespace stead::script::test
