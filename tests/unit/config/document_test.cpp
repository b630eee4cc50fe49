// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

namespace stead::config::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string first(const std::string& xml) {
    const auto checked = module(xml);
    EXPECT_FALSE(checked.ok()) << xml.substr(0, 200);
    return checked.findings.empty() ? "" : checked.findings.front().text();
}

TEST(Document, AcceptsWhatRealFilesHold) {
    EXPECT_TRUE(module("\xEF\xBB\xBF<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE safe [<!ENTITY a \"<b>]\"> "
                       "<!-- don't --> ]>\n<!-- note & -->" +
                       farm_file("<!-- c -->"))
                    .ok());
    EXPECT_TRUE(module("<!DOCTYPE safe SYSTEM \"http://127.0.0.1:1/x.dtd\">" + farm_file("")).ok());
}

TEST(Document, ReadsLatin1ThatSaysSo) {
    const std::string file = farm_file("<user><var name=\"A\" value=\"caf\xE9\"/></user>");
    for (const char* encoding : {"ISO-8859-1", "iso-8859-1", "latin1"}) {
        const auto read = module("<?xml version='1.0' encoding='" + std::string(encoding) + "'?>\n" + file);
        ASSERT_TRUE(read.ok()) << encoding;
        EXPECT_THAT(read.value->expanded_xml, HasSubstr("caf\xC3\xA9"));
    }
    const auto utf8 = module("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n" +
                             farm_file("<user><var name=\"A\" value=\"caf\xC3\xA9\"/></user>"));
    ASSERT_TRUE(utf8.ok());
    EXPECT_THAT(utf8.value->expanded_xml, HasSubstr("caf\xC3\xA9")) << "UTF-8 that claims to be something else";
    EXPECT_THAT(first("<?xml version=\"1.0\" encoding=\"ISO-8859-15\"?>\n" + file), HasSubstr("is not UTF-8"));
    EXPECT_THAT(first(file), HasSubstr("encoding=\"ISO-8859-1\""));
}

TEST(Document, LinesSurviveTheDoctype) {
    EXPECT_EQ(first("<!DOCTYPE safe\n[\n]>\n<safe>\n<x/><service mode=\"light\"/></safe>"),
              "u.xml:5: unknown element <x> in <safe>; allowed: <macro> and one <service>");
}

TEST(Document, EntitiesAreNeverDefined) {
    std::string bomb = "<!DOCTYPE s [<!ENTITY a0 \"aaaaaaaaaa\">";
    for (int i = 1; i < 30; ++i) {
        const auto before = "&a" + std::to_string(i - 1) + ";";
        bomb += "<!ENTITY a" + std::to_string(i) + " \"" + before + before + before + "\">";
    }
    EXPECT_THAT(first(bomb + "]>\n" + farm_file("<failover>&a29;</failover>")),
                HasSubstr("u.xml:2: entity '&a29;' is not defined; allowed: &amp;"));
    EXPECT_THAT(
        first("<!DOCTYPE s [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>" + farm_file("<failover>&x;</failover>")),
        HasSubstr("entity '&x;' is not defined"));
    EXPECT_EQ(first(farm_file("<user><var name=\"A\" value=\"a & b\"/></user>")),
              "u.xml:1: a single '&'; write '&amp;'");
    EXPECT_THAT(first(farm_file("<user><var name=\"A\" value=\"&#0;\"/></user>")), HasSubstr("is not defined"));
}

TEST(Document, NotWellFormed) {
    EXPECT_EQ(first(""), "u.xml:1: not well-formed XML: there is no XML element in the file");
    EXPECT_EQ(first("hello"), "u.xml:1: not well-formed XML: the file ends within text");
    EXPECT_EQ(first("<safe>\n<service mode=\"farm\">\n</safe>"),
              "u.xml:3: not well-formed XML: '</safe>' does not match <service>, which is opened in line 2");
    EXPECT_EQ(first("\n<safe\n>\n<service mode='a>b'/><!-- <x> -->\n\n"),
              "u.xml:2: not well-formed XML: <safe> is opened here and never closed; '</safe>' is missing");
    EXPECT_EQ(first("<safe/>\n</safe>"), "u.xml:2: not well-formed XML: '</safe>' ends what was never opened");
    EXPECT_THAT(first("<safe"), HasSubstr("a tag is not complete"));
    EXPECT_THAT(first("<safe a=b/>"), HasSubstr("or not complete: name"));
    EXPECT_THAT(first("<safe><!-- "), HasSubstr("comment does not end"));
    EXPECT_THAT(first("<safe><![CDATA[ "), HasSubstr("CDATA section does not end"));
    EXPECT_THAT(first("<!DOCTYPE x [ <safe/>"), HasSubstr("the DOCTYPE does not end"));
    EXPECT_THAT(first("<safe/><safe/>"), HasSubstr("a second top element <safe>"));
    EXPECT_THAT(first(std::string("<safe>\0</safe>", 14)), HasSubstr("control character 0"));
    EXPECT_THAT(first("<safe>\n\xE9</safe>"), HasSubstr("u.xml:2: byte 233 is not UTF-8"));
    EXPECT_THAT(first("\xFF\xFE<"), HasSubstr("UTF-16"));
}

TEST(Document, LimitsNameTheLimit) {
    EXPECT_THAT(first(std::string((1u << 20) + 1, ' ')), HasSubstr("at most 1048576 are allowed"));
    std::string deep;
    for (int i = 0; i < 40; ++i) {
        deep += "<a>";
    }
    EXPECT_THAT(first(deep), HasSubstr("u.xml:1: "));
    for (int i = 0; i < 40; ++i) {
        deep += "</a>";
    }
    EXPECT_THAT(first(deep), HasSubstr("at most 32 levels"));
    std::string very_deep;
    for (int i = 0; i < 200'000; ++i) {
        very_deep += "<a>";
    }
    EXPECT_THAT(first(very_deep), HasSubstr("nested too deeply"));
    std::string many = "<safe ";
    for (int i = 0; i < 50'000; ++i) {
        many += "a" + std::to_string(i) + "='' ";
    }
    EXPECT_THAT(first(many + "/>"), HasSubstr("more than 64 attributes"));
    std::string elements = "<safe>";
    for (int i = 0; i < 100'000; ++i) {
        elements += "<a/>";
    }
    EXPECT_THAT(first(elements + "</safe>"), HasSubstr("more than 10000 elements"));
}

TEST(Document, AttributeTwice) {
    EXPECT_THAT(first("<safe>\n<service mode=\"light\"\nmode=\"farm\"/></safe>"),
                HasSubstr("u.xml:3: not well-formed XML: an attribute is written twice"));
}

TEST(Document, FindingsAreCapped) {
    std::string many;
    for (int i = 0; i < 1000; ++i) {
        many += "<bogus/>\n";
    }
    const auto checked = module(farm_file(many));
    ASSERT_EQ(checked.findings.size(), 201u);
    EXPECT_THAT(checked.findings.back().message, HasSubstr("and 800 more findings"));
}

} // namespace
} // namespace stead::config::test
