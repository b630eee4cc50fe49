// SPDX-License-Identifier: Apache-2.0
#include "rule_book.hpp"

#include <stead/test/temporary_folder.hpp>

#include <gmock/gmock.h>

#include <fstream>

namespace stead::host {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* defaults = R"lua(--Lua Rules
Rules = Rules + { module_failure = if_then("module.? == down", Action.wait),
                  ip_failure = if_then("ip.? == down", Action.stopstart, { handle_time = "1s" }) }
)lua";

class Book : public ::testing::Test {
protected:
    Book() {
        std::filesystem::create_directories(folder() / "conf");
        std::filesystem::create_directories(folder() / "bin");
        write("default.lua", defaults);
    }
    [[nodiscard]] std::filesystem::path folder() const { return folder_.path(); }
    void write(const std::string& name, const std::string& text) { std::ofstream(folder() / name) << text; }

    RuleBook read(const std::string& failover, const std::string& mode = "light") {
        config::SchemaSet schemas;
        schemas.owners = {{"host", config::host_schema()}};
        const auto parsed = config::parse_module(
            "<safe><service mode=\"" + mode + "\">" + failover + "</service></safe>", "u.xml", schemas, {});
        EXPECT_TRUE(parsed.ok());
        return parsed.ok() ? read_rules(*parsed.value, {.defaults = folder() / "default.lua",
                                                        .conf = folder() / "conf",
                                                        .bin = folder() / "bin",
                                                        .userconfig = "u.xml"})
                           : RuleBook{};
    }
    static std::vector<std::string> labels(const std::vector<rules::Rule>& all) {
        std::vector<std::string> names;
        for (const rules::Rule& one : all) {
            names.push_back(one.label);
        }
        return names;
    }
    static std::vector<std::string> findings(const RuleBook& book) {
        std::vector<std::string> all;
        for (const config::Finding& one : book.findings) {
            all.push_back(one.text());
        }
        return all;
    }

private:
    stead::testing::TemporaryFolder folder_;
};

TEST_F(Book, DefaultsThenCheckersThenTheModules) {
    write("conf/rules.lua", "Rules = Rules + { z = if_then('custom.z', 'down', Action.stop) }\n");
    const RuleBook book =
        read("<failover handle_time=\"3s\"><![CDATA[t_web: if (tcp.web == down) then stop();]]>"
             "<![CDATA[--Lua Rules\nRules.disable('ip_failure') Rules.disable('nobody')]]></failover>");
    EXPECT_THAT(findings(book), IsEmpty());
    const auto checkers = rules::parse_rules("t_web: if (tcp.web == down) then restart();\n"
                                             "t_b: if (tcp.b == down) then restart();",
                                             {}, {}, {});
    std::vector<script::DisabledRule> unknown;
    const auto all = merged(book, checkers.rules, unknown);
    EXPECT_THAT(labels(all), ElementsAre("module_failure", "t_web", "t_b", "z"));
    EXPECT_EQ(all[1].action, rules::Action::stop); // the administrator's own
    EXPECT_EQ(all[1].hold, seconds{3});
    EXPECT_EQ(all[2].hold, seconds{0});
    EXPECT_EQ(all[3].hold, seconds{3});
    ASSERT_EQ(unknown.size(), 1U);
    EXPECT_EQ(unknown[0].label, "nobody");
    EXPECT_EQ(unknown[0].place.line, 2);
}

TEST_F(Book, WithoutAFailoverElementTheDefaultsAndFifteenSeconds) {
    write("bin/rules.lua", "Rules = Rules + { z = if_then('custom.z', 'down', Action.stop) }\n");
    const RuleBook book = read("");
    EXPECT_THAT(labels(book.defaults), ElementsAre("module_failure", "ip_failure"));
    EXPECT_EQ(book.own.at(0).hold, seconds{15});
    EXPECT_THAT(labels(read("<failover extends=\"no\"/>").defaults), IsEmpty());
}

TEST_F(Book, EveryProblemOfEverySourceHasItsPlace) {
    write("conf/rules.lua", "Rules = Rules + { z = if_then('custom.z', 'dwon', Action.stop) }\n");
    EXPECT_THAT(
        findings(read("\n<failover><![CDATA[a: if (x == down) then stop();\nb: if (x.y == down) then swap();]]>\n"
                      "<![CDATA[b: if (x.y == down) then stop();]]></failover>")),
        ElementsAre(HasSubstr("u.xml:2:27: failover rules: found 'x'"), HasSubstr("u.xml:3:26: failover rules: swap()"),
                    HasSubstr("conf/rules.lua:1:44: failover rules: found 'dwon'")));
    EXPECT_THAT(findings(read("<failover><![CDATA[b: if (x.y == down) then stop();]]>"
                              "<![CDATA[b: if (x.y == up) then stop();]]></failover>")),
                Contains(HasSubstr("a second rule 'b'; the first is in u.xml:1")));
    write("bin/rules.lua", "");
    EXPECT_THAT(findings(read("")), ElementsAre(HasSubstr("keep one of the two")));
}

// Goal: a rule cannot overwrite what Stead writes itself; where it tries is told.
TEST_F(Book, ARuleSetsWhatSetMaySet) {
    for (const char* target : {"state.local", "usersetting.failover", "farm.web", "rfs.degraded", "heart.flow"}) {
        EXPECT_THAT(findings(read("<failover><![CDATA[\n a: if (c.x == down) then " + std::string{target} +
                                  "=down;]]></failover>")),
                    ElementsAre(AllOf(HasSubstr("u.xml:2:2: failover rules: 'a' sets " + std::string{target}),
                                      HasSubstr("allowed: custom.NAME"))))
            << target;
    }
    for (const char* target : {"custom.x", "weather.rain", "tcp.web", "farm.gate", "rfs.uptodate"}) {
        EXPECT_THAT(findings(read("<failover><![CDATA[a: if (c.x == down) then " + std::string{target} +
                                  "=down;]]></failover>")),
                    IsEmpty())
            << target;
    }
    write("conf/rules.lua", "\nRules = Rules + { z = if_then('custom.z', 'down', Action.set('state.local', 'up')) }\n");
    EXPECT_THAT(findings(read("")), ElementsAre(HasSubstr("conf/rules.lua:2:")));
    EXPECT_THAT(findings(read("")), ElementsAre(HasSubstr("'z' sets state.local")));
}

TEST_F(Book, DifferencesAreNamed) {
    const auto with = [&](const std::string& rule) { return read("<failover><![CDATA[" + rule + "]]></failover>"); };
    const RuleBook a = with("a: if (x.y == down) then stop();");
    EXPECT_EQ(first_difference(a, with("\n\n a: if ( x.y==down ) then stop;")), "");
    EXPECT_EQ(first_difference(a, with("a: if (x.y == up) then stop();")), "a");
    EXPECT_EQ(first_difference(a, with("")), "a");
}

} // namespace
} // namespace stead::host
