// SPDX-License-Identifier: Apache-2.0
// Goal: kind of checker x what it finds x action, with the rules that real plugins generate and the default rules that
// are shipped. Method: each plugin is made under a fake host, which gets its rules; they are merged with default.lua as
// the host does it, and run in the module of failover_module.hpp, in virtual time.
#include "failover_module.hpp"
#include "rule_book.hpp"

#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>

namespace stead::host {
namespace {

using test::Element;
using testing::ElementsAre;
using Actions = std::vector<std::string>;

constexpr std::uint32_t pre = automaton::armed_pre, both = automaton::armed_both;

struct Kind {
    const char* tag;
    const char* file;
    Element element; ///< without when and action
    std::string resource;
    const char* label;          ///< of the rule that the plugin adds; "" = the default rule is for it
    const char* default_action; ///< what becomes of down when nothing is written; "" = nothing
    const char* default_when;
    std::vector<std::string> actions_pre, actions_both; ///< that may be written
};

std::vector<Kind> kinds() {
    const Element to{"to", {{"addr", "192.0.2.1"}, {"port", "80"}}, {}};
    const Element to_addr{"to", {{"addr", "192.0.2.1"}}, {}};
    const std::vector<std::string> when_pre{"wait", "noaction"}, when_both{"restart", "stopstart", "stop", "noaction"};
    return {
        {"tcp", TCP_PLUGIN, {"tcp", {{"ident", "x"}}, {to}}, "tcp.x", "t_x", "restart", "prim", when_pre, when_both},
        {"http",
         HTTP_PLUGIN,
         {"http", {{"ident", "x"}}, {to}},
         "http.x",
         "h_x",
         "restart",
         "prim",
         when_pre,
         when_both},
        {"ping",
         PING_PLUGIN,
         {"ping", {{"ident", "x"}}, {to_addr}},
         "ping.x",
         "p_x",
         "wait",
         "pre",
         when_pre,
         when_both},
        {"custom",
         CUSTOM_PLUGIN,
         {"custom", {{"ident", "x"}, {"exec", "x"}}, {}},
         "custom.x",
         "c_x",
         "",
         "prim",
         when_pre,
         when_both},
        {"module",
         MODULE_PLUGIN,
         {"module", {{"name", "other"}}, {}},
         "module.other_127.0.0.1",
         "",
         "wait",
         "pre",
         {},
         {}},
        {"intf",
         INTF_PLUGIN,
         {"intf", {{"ident", "x"}}, {{"to", {{"name", "eth0"}}, {}}}},
         "intf.x",
         "",
         "wait",
         "pre",
         {},
         {}},
        {"ip", IP_PLUGIN, {"ip", {{"ident", "x"}}, {to_addr}}, "ip.x", "", "stopstart", "prim", {}, {}},
    };
}

/// The rules in force for one configured check: shipped defaults, the plugin's own.
std::vector<rules::Rule> rules_of(const Kind& kind, const std::string& when, const std::string& action) {
    Element element = kind.element;
    if (!when.empty()) {
        element.attributes.emplace_back("when", when);
    }
    if (!action.empty()) {
        element.attributes.emplace_back("action", action);
    }
    test::FakeHost host;
    const test::Running running(test::load_plugin(kind.file), host, {"service", {}, {{"check", {}, {element}}}});
    std::vector<rules::Rule> generated;
    for (const std::string& text : host.rules()) {
        auto parsed = rules::parse_rules(text, {}, {}, {}); // with the hold time of Slot::add_rule
        EXPECT_TRUE(parsed.ok()) << text;
        generated.insert(generated.end(), parsed.rules.begin(), parsed.rules.end());
        EXPECT_EQ(parsed.rules.at(0).label, kind.label) << text;
    }
    config::Module module;
    module.mode = config::Module::Mode::light;
    const RuleBook book = read_rules(
        module, {.defaults = DEFAULT_RULES, .conf = "/nonexistent", .bin = "/nonexistent", .userconfig = "u.xml"});
    EXPECT_TRUE(book.findings.empty());
    std::vector<script::DisabledRule> unknown;
    return merged(book, generated, unknown);
}

struct Expected {
    Actions actions;
    std::string state;
};

/// The classic semantics, once for all kinds. Findings, a second each: u(p), d(own), i(nit).
Expected expected(const std::string& action, bool is_pre, const std::string& findings) {
    const std::string up = "UP Ready";
    const bool down = findings.find('d') != std::string::npos, flaps = findings.find("udud") != std::string::npos;
    if (action == "wait") {
        return findings == "ii"  ? Expected{{}, "WAIT Transient"}
               : findings == "d" ? Expected{{}, "WAIT NotReady"}
               : flaps           ? Expected{{"wait", "wait", "wait", "maxloop"}, "STOP NotReady"}
               : down            ? Expected{{"wait"}, "WAIT NotReady"}
                                 : Expected{{}, up};
    }
    if (!down || action.empty() || action == "noaction") {
        return {{}, up};
    }
    if (action == "stop") {
        return {{"stop"}, "STOP NotReady"};
    }
    (void)is_pre;
    return {{action, action, action, "maxloop"}, "STOP NotReady"};
}

void expect_row(const Kind& kind, const std::string& when, const std::string& action, const std::string& findings) {
    const std::string shown = action.empty() ? kind.default_action : action;
    const std::string armed = when.empty() ? kind.default_when : when;
    SCOPED_TRACE(std::string{kind.tag} + " when=" + armed + " action=" + action + " finds " + findings);
    Module module(rules_of(kind, when, action), kind.resource,
                  armed == "pre"    ? pre
                  : armed == "both" ? both
                                    : automaton::armed_prim);
    const auto word = [](char finding) { return finding == 'u' ? "up" : finding == 'd' ? "down" : "init"; };
    if (findings[0] != 'u') {
        module.find(word(findings[0]));
    }
    for (const char finding : findings) {
        module.find(word(finding));
        module.run(seconds{2}); // longer than the hold time of ip_failure
    }
    module.run(seconds{30});
    const Expected wanted = expected(shown, armed == "pre", findings);
    EXPECT_EQ(module.take_actions(), wanted.actions);
    EXPECT_THAT(module.state(), testing::StartsWith(wanted.state));
}

TEST(CheckerMatrix, KindByFindingByAction) {
    for (const Kind& kind : kinds()) {
        for (const char* findings : {"ii", "uu", "d", "udddd", "udududududu"}) {
            const bool waits = std::string_view{kind.default_action} == "wait";
            if (waits || findings[0] == 'u' || findings[0] == 'i') {
                expect_row(kind, "", "", findings); // nothing written: the defaults
            }
            for (const std::string& action : kind.actions_pre) {
                expect_row(kind, "pre", action, findings);
            }
            for (const std::string& action : kind.actions_both) {
                expect_row(kind, "both", action, findings);
            }
        }
    }
}

/// Stead puts an address back within 200 ms: that is no failure.
TEST(CheckerMatrix, AnAddressThatIsBackAtOnceIsNoFailure) {
    const Kind ip = kinds().back();
    Module module(rules_of(ip, "", ""), ip.resource, automaton::armed_prim);
    module.run(seconds{5});
    for (int turn = 0; turn < 10; ++turn) {
        module.find("down");
        module.run(milliseconds{600});
        module.find("up");
        module.run(seconds{1});
    }
    EXPECT_EQ(module.take_actions(), Actions{});
    EXPECT_EQ(module.state(), "UP Ready");
}

} // namespace
} // namespace stead::host
