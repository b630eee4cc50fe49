// SPDX-License-Identifier: Apache-2.0
#include "rule_names.hpp"

#include <stead/test/temporary_folder.hpp>

#include <gmock/gmock.h>

#include <fstream>

namespace stead::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr stead_attr_schema text(const char* name) {
    return {name, STEAD_TYPE_STRING, 0, nullptr, nullptr, nullptr, 0, 0, "help"};
}
constexpr stead_attr_schema named[] = {text("ident"), text("when"), text("name")};
constexpr std::uint32_t many = STEAD_ELEM_REPEATABLE;
constexpr stead_elem_schema checkers[] = {
    {"check/tcp", nullptr, many, 3, named, "help"},    {"check/module", nullptr, many, 3, named, "help"},
    {"check/custom", nullptr, many, 3, named, "help"}, {"check/oracle", nullptr, many, 0, nullptr, "help"},
    {"errd", nullptr, 0, 0, nullptr, "help"},          {"errd/proc", nullptr, many, 3, named, "help"}};
constexpr stead_attr_schema addr[] = {text("addr")};
constexpr stead_elem_schema farm[] = {
    {"vip/interface_list/interface/virtual_interface", nullptr, 0, 0, nullptr, "help"},
    {"vip/interface_list/interface/virtual_interface/virtual_addr", nullptr, many, 1, addr, "help"}};
constexpr stead_elem_schema weather[] = {{"weather", nullptr, 0, 0, nullptr, "help"}};

class Names : public ::testing::Test {
protected:
    config::Module module(const std::string& elements, std::span<const stead_elem_schema> http = {}) {
        schemas_.owners = {{"host", config::host_schema()},
                           {"checkers.all", checkers},
                           {"checkers.http", http},
                           {"acme.weather", weather},
                           {"farm", farm}};
        auto parsed = config::parse_module("<safe><service mode=\"light\">" + elements + "</service></safe>", "u.xml",
                                           schemas_, {});
        EXPECT_TRUE(parsed.ok()) << (parsed.findings.empty() ? "" : parsed.findings[0].text());
        return parsed.ok() ? *parsed.value : config::Module{};
    }
    static std::vector<rules::Rule> compiled(const std::string& text) {
        auto parsed = rules::parse_rules(text, {.file = "u.xml", .line = 7, .column = 1}, {}, {});
        EXPECT_TRUE(parsed.ok());
        return std::move(parsed.rules);
    }
    static std::vector<std::string> texts(const std::vector<config::Finding>& findings) {
        std::vector<std::string> all;
        for (const config::Finding& one : findings) {
            EXPECT_TRUE(one.warning);
            all.push_back(one.text());
        }
        return all;
    }
    std::vector<std::string> unpublished(const std::string& elements, const std::string& rules) {
        const config::Module configured = module(elements);
        return texts(unpublished_names(compiled(rules), configured, schemas_, bin_.path()));
    }
    [[nodiscard]] const config::SchemaSet& schemas() const { return schemas_; }
    void script(const std::string& name, const std::string& body) { std::ofstream(bin_.path() / name) << body; }

private:
    config::SchemaSet schemas_;
    stead::testing::TemporaryFolder bin_;
};

const std::string web = "<check><tcp ident=\"web80\"/><tcp ident=\"db\"/></check>";

TEST_F(Names, ASlipIsToldWithItsPlaceAndTheNearestName) {
    EXPECT_THAT(
        unpublished(web, "a: if (tcp.db == down) then stop();\nb: if (tcp.db == up && tcp.wbe80 == down) then stop();"),
        ElementsAre("u.xml:8:24: failover rules: 'b' names tcp.wbe80, which nothing here publishes; did you mean "
                    "'tcp.web80'?"));
    EXPECT_THAT(unpublished(web, "a: if (tpc.? == down) then stop();"), ElementsAre(HasSubstr("u.xml:7:8")));
    EXPECT_THAT(unpublished(web, "a: if (quite.another == down) then stop();"),
                ElementsAre(HasSubstr("published are tcp.db, tcp.web80")));
    EXPECT_THAT(unpublished("", "a: if (tcp.x == down) then stop();"),
                ElementsAre(HasSubstr("no checker is configured")));
}

TEST_F(Names, WhatMayBePublishedIsNotTold) {
    const std::string all =
        "<errd><proc name=\"nginx\"/><proc name=\"nginx\"/><proc name=\"a b\"/></errd>"
        "<check><tcp ident=\"web80\"/><module name=\"db\"/></check><vip><interface_list><interface><virtual_interface>"
        "<virtual_addr addr=\"192.0.2.50\"/></virtual_interface></interface></interface_list></vip>";
    const auto told = [&](const std::string& name) {
        return unpublished(all, "a: if (" + name + " == down) then stop();").size();
    };
    for (const char* name : {"tcp.web80", "tcp.?", "tcp.*", "local.tcp.web80", "state.local", "rfs.uptodate",
                             "farm.web", "usersetting.errd", "weather.rain", "oracle.delphi", "proc.nginx",
                             "proc.nginx.2", "proc.a_b", "module.db_127.0.0.1", "ip.192.0.2.50", "intf.192.0.2.0"}) {
        EXPECT_EQ(told(name), 0U) << name;
    }
    for (const char* name : {"proc.ngix", "proc.nginx.3", "module.db", "ip.192.0.2.51", "splitbrain.uptodate", "http.?",
                             "custom.x", "errd.nginx", "checkers.tcp", "to.x"}) {
        EXPECT_EQ(told(name), 1U) << name;
    }
}

TEST_F(Names, AScriptOrARuleMayPublish) {
    const std::string rule = "a: if (custom.app == down) then stop();";
    EXPECT_THAT(unpublished(web, rule), ElementsAre(HasSubstr("custom.app")));
    EXPECT_THAT(unpublished(web, rule + "b: if (tcp.db == down) then custom.app=down;"), IsEmpty());
    script("rules.lua", "-- custom.app");
    EXPECT_THAT(unpublished(web, rule), ElementsAre(HasSubstr("custom.app"))) << "rules read it, they do not write it";
    script("watch", "safekit set -r custom.app -v down -i watch\n");
    EXPECT_THAT(unpublished(web, rule), IsEmpty());
}

TEST(Set, WhatSteadAndItsServicesWriteIsTheirs) {
    for (const char* name : {"state.local", "state.remote", "usersetting.checker", "config.same", "farm.web",
                             "farm.filter", "rfs.uptodate", "mirror.role", "heart.flow", "heartbeat.default"}) {
        const auto done = may_be_set(name);
        ASSERT_FALSE(done.has_value()) << name;
        EXPECT_EQ(done.error().code, Errc::refused);
        EXPECT_THAT(done.error().text(), AllOf(HasSubstr(name), HasSubstr("allowed: custom.NAME"))) << name;
    }
    for (const char* name : {"nodot", "", ".disk", "custom.", "custom.a b", " custom.a", "custom.\n"}) {
        const auto done = may_be_set(name);
        ASSERT_FALSE(done) << name;
        EXPECT_THAT(done.error().text(), HasSubstr("no rule can name it; allowed: CLASS.NAME")) << name;
        EXPECT_EQ(done.error().text().find('\n'), std::string::npos) << name;
    }
    EXPECT_THAT(may_be_set("usersetting.errd").error().text(), HasSubstr("'stead errd'"));
    for (const char* name : {"custom.app", "weather.rain", "farm.gate", "tcp.web80"}) {
        EXPECT_TRUE(may_be_set(name).has_value()) << name;
    }
}

TEST_F(Names, AWaitRuleNeedsACheckThatIsArmedBeforeTheStart) {
    const auto told = [&](const std::string& check, const std::string& rule) {
        return texts(unarmed_waits(compiled(rule), module("<check>" + check + "</check>"), "u.xml"));
    };
    const std::string wait = "w: if (tcp.? == down) then wait();";
    EXPECT_THAT(told("<tcp ident=\"a\" when=\"both\"/>", wait),
                ElementsAre(AllOf(HasSubstr("u.xml:1: tcp/@when: 'both', and the wait rule 'w' names tcp.a"),
                                  HasSubstr("allowed with a wait rule: pre"))));
    EXPECT_THAT(told("<tcp ident=\"a\" when=\"pre\"/>", wait), IsEmpty());
    EXPECT_THAT(told("<tcp ident=\"a\" when=\"both\"/>", "w: if (tcp.? == down) then restart();"), IsEmpty());
    EXPECT_THAT(told("<tcp ident=\"a\" when=\"both\"/>", "w: if (tcp.b == down) then wait();"), IsEmpty());
}

// Goal: what Rules.disable is given is compared with all rules there are, those of checkers too, at `config`.
TEST_F(Names, ADisabledLabelThatNoRuleHasIsTold) {
    static constexpr stead_attr_schema acting[] = {
        text("ident"), {"action", STEAD_TYPE_STRING, 0, "noaction", nullptr, nullptr, 0, 0, "help"}};
    static constexpr stead_elem_schema http[] = {{"check/http", nullptr, many, 2, acting, "help"}};
    const config::Module configured = module(
        "<check><http ident=\"front\" action=\"restart\"/><http ident=\"quiet\"/><tcp ident=\"theirs\"/></check>",
        http);
    const auto told = [&](const std::string& label) {
        RuleBook book;
        book.defaults = compiled("ip_failure: if (ip.? == down) then stopstart();");
        book.own = compiled("mine: if (http.front == down) then stop();");
        book.disabled = {{label, {.file = "conf/rules.lua", .line = 9, .column = 16}}};
        return texts(unknown_labels(book, configured, schemas()));
    };
    for (const char* label : {"ip_failure", "mine", "h_front", "any_theirs_rule"}) {
        EXPECT_THAT(told(label), IsEmpty()) << label;
    }
    EXPECT_THAT(told("ip_failur"),
                ElementsAre("conf/rules.lua:9:16: failover rules: Rules.disable(\"ip_failur\"): no rule has this "
                            "label; did you mean 'ip_failure'?"));
    EXPECT_THAT(told("http_front"), ElementsAre(HasSubstr("did you mean 'h_front'?")));
    EXPECT_THAT(told("h_quiet"), ElementsAre(HasSubstr("no rule has this label"))) << "its action is noaction";
    EXPECT_THAT(told("quite_another_thing"), ElementsAre(HasSubstr("there are h_front, ip_failure, mine")));
}

} // namespace
} // namespace stead::host
