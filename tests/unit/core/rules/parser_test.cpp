// SPDX-License-Identifier: Apache-2.0
#include <stead/core/rules.hpp>

#include <gmock/gmock.h>

namespace stead::rules {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr Dialect farm{};
constexpr Dialect mirror{.remote = true, .swap = true};
const Place start{.file = "userconfig.xml", .line = 10, .column = 5};

Parsed parse(std::string_view text, const Dialect& dialect = farm) {
    return parse_rules(text, start, dialect, seconds{15});
}

/// "line:column: text" of each problem.
std::vector<std::string> problems(std::string_view text, const Dialect& dialect = farm) {
    std::vector<std::string> all;
    for (const Problem& problem : parse(text, dialect).problems) {
        EXPECT_EQ(problem.place.file, "userconfig.xml");
        all.push_back(std::to_string(problem.place.line) + ":" + std::to_string(problem.place.column) + ": " +
                      problem.text);
    }
    return all;
}

/// An expression with every operator in parentheses, to see how it was understood.
std::string show(const Expression& expression, std::size_t at) {
    using Kind = Expression::Node::Kind;
    const auto& node = expression.nodes[at];
    switch (node.kind) {
    case Kind::cluster: return "cluster()";
    case Kind::negation: return "!" + show(expression, node.left);
    case Kind::conjunction:
    case Kind::disjunction:
        return "(" + show(expression, node.left) + (node.kind == Kind::conjunction ? " && " : " || ") +
               show(expression, node.right) + ")";
    case Kind::condition: break;
    }
    const Condition& one = expression.conditions[node.left];
    const auto which = one.subject.which;
    return (one.subject.remote ? "remote." : "") + one.subject.kind + "." +
           (which == Subject::Which::any   ? "?"
            : which == Subject::Which::all ? "*"
                                           : one.subject.id) +
           (one.equal ? " == " : " != ") + std::string{name(one.verdict)};
}

std::string show(std::string_view text, const Dialect& dialect = farm) {
    const ParsedExpression parsed = parse_expression(text, start, dialect);
    EXPECT_THAT(parsed.problems, IsEmpty()) << text;
    return parsed.expression.nodes.empty() ? "" : show(parsed.expression, parsed.expression.nodes.size() - 1);
}

TEST(RuleParser, TakesTheClassicForms) {
    const Parsed parsed = parse("web_down: if (tcp.web80 == down) then restart();\n"
                                "  any_ping : if ( ping.? == down ) then wait ( ) ;"
                                "all: if(heartbeat.* == down)then stopstart;");
    ASSERT_THAT(parsed.problems, IsEmpty());
    ASSERT_THAT(parsed.rules, SizeIs(3));
    EXPECT_EQ(parsed.rules[0].label, "web_down");
    EXPECT_EQ(parsed.rules[0].action, Action::restart);
    EXPECT_EQ(parsed.rules[0].hold, seconds{15});
    EXPECT_EQ(parsed.rules[0].place.line, 10);
    EXPECT_EQ(parsed.rules[0].place.column, 5);
    EXPECT_EQ(parsed.rules[1].action, Action::wait);
    EXPECT_EQ(parsed.rules[1].place.line, 11);
    EXPECT_EQ(parsed.rules[1].place.column, 3);
    EXPECT_EQ(parsed.rules[1].when.conditions[0].subject.which, Subject::Which::any);
    EXPECT_EQ(parsed.rules[2].when.conditions[0].subject.which, Subject::Which::all);
    EXPECT_EQ(parsed.rules[2].action, Action::stopstart);
}

TEST(RuleParser, BindsNotBeforeAndBeforeOr) {
    EXPECT_EQ(show("a.x == up || b.y == down && !c.z == init"), "(a.x == up || (b.y == down && !c.z == init))");
    EXPECT_EQ(show("(a.x == up || b.y == down) && c.z != unknown"), "((a.x == up || b.y == down) && c.z != unknown)");
    EXPECT_EQ(show("!(a.x==up&&b.y!=up)"), "!(a.x == up && b.y != up)");
    EXPECT_EQ(show("cluster() && a.x == up"), "(cluster() && a.x == up)");
}

TEST(RuleParser, ResourcesMayBeAddresses) {
    EXPECT_EQ(show("ip.2001:db8::50 == down"), "ip.2001:db8::50 == down");
    EXPECT_EQ(show("intf.192.0.2.0==down"), "intf.192.0.2.0 == down");
    EXPECT_EQ(show("module.other_192.0.2.1 == down"), "module.other_192.0.2.1 == down");
    EXPECT_EQ(show("local.tcp.web == down"), "tcp.web == down");
    EXPECT_EQ(show("state.local != up"), "state.local != up"); // a class of that name, no side
    EXPECT_EQ(show("remote.tcp.web == down", mirror), "remote.tcp.web == down");
}

TEST(RuleParser, CommentsAndSpaceStandAnywhere) {
    const Parsed parsed = parse("// first\n/* second\n third */ x /*a*/ : if ( /*b*/ tcp.a/*c*/==/**/down ) // d\n"
                                "then stop(/**/);/* end */");
    EXPECT_THAT(parsed.problems, IsEmpty());
    ASSERT_THAT(parsed.rules, SizeIs(1));
    EXPECT_EQ(parsed.rules[0].place.line, 12);
}

TEST(RuleParser, ARuleMaySetAResource) {
    const Parsed parsed = parse("force: if (rfs.uptodate == unknown) then rfs.uptodate=up;", mirror);
    ASSERT_THAT(parsed.problems, IsEmpty());
    EXPECT_EQ(parsed.rules[0].action, Action::assign);
    EXPECT_EQ(parsed.rules[0].target, "rfs.uptodate");
    EXPECT_EQ(parsed.rules[0].value, Verdict::up);
}

TEST(RuleParser, TellsEveryProblemWithItsPlaceAndWhatIsAllowed) {
    EXPECT_THAT(problems("a: if (tcp.x == dwon) then stop();\n"
                         "b: if (tcp == down) then stop();\n"
                         "c: if (tcp.x = down) then stop();\n"
                         "d: if (tcp.x == down) then reboot();\n"
                         "e: if (tcp.x == down then stop();\n"
                         "good: if (tcp.x == down) then stop();\n"
                         "f if (tcp.x == down) then stop();\n"
                         "g: if (tcp.x == down) then stop()"),
                ElementsAre("10:21: found 'dwon'; allowed: init, down, up, unknown",
                            "11:8: found 'tcp'; allowed: a resource class.id, class.? or class.*",
                            "12:14: found '='; allowed: == or !=",
                            "13:28: found 'reboot'; allowed: stop(), stopstart(), wait(), restart()",
                            "14:22: found 'then'; allowed: &&, ||, or ')'",
                            "16:3: found 'if'; allowed: ':' after the label",
                            "17:34: found the end of the text; allowed: ';' at the end of the rule"));
}

TEST(RuleParser, ColumnsCountCharacters) {
    EXPECT_THAT(problems("/* \xc3\xa9\xe2\x82\xac */ a: if (tcp.x == \xc3\xa9t\xc3\xa9) then stop();"),
                ElementsAre("10:30: found '\xc3\xa9'; allowed: a state: init, down, up, unknown"));
}

TEST(RuleParser, RolesAndRemoteResourcesAreTheMirrors) {
    EXPECT_THAT(problems("a: if (remote.tcp.x == down) then stop();"),
                ElementsAre("10:12: 'remote.tcp.x': a rule of this module sees the resources of its own node only; "
                            "allowed: tcp.x"));
    EXPECT_THAT(problems("a: if (tcp.x == down) then swap();"),
                ElementsAre("10:32: swap() exchanges the roles of a mirror module, and this module has none; allowed: "
                            "stop(), stopstart(), wait(), restart()"));
    EXPECT_THAT(problems("a: if (remote.tcp.x == down) then swap();", mirror), IsEmpty());
}

TEST(RuleParser, OneLabelOneRule) {
    EXPECT_THAT(problems("a: if (t.x == up) then stop();\nb: if (t.x == up) then stop();\n"
                         "a: if (t.y == up) then stop();"),
                ElementsAre("12:1: a second rule 'a'; the first is in line 10"));
}

TEST(RuleParser, WildcardsStandForTheWholeId) {
    EXPECT_THAT(problems("a: if (tcp.web* == up) then stop();"),
                ElementsAre("10:12: 'tcp.web*': a wildcard stands for the whole id; allowed: tcp.? (any of them) or "
                            "tcp.* (all of them)"));
    EXPECT_THAT(problems("a: if (?.web == up) then stop();"), SizeIs(1));
}

TEST(RuleParser, EverythingHasALimit) {
    EXPECT_THAT(problems(std::string(text_bytes_max + 1, ' ')), SizeIs(1));
    const std::string deep = "a: if " + std::string(5000, '(') + "t.x == up" + std::string(5000, ')') + " then stop();";
    EXPECT_THAT(problems(deep), SizeIs(1));
    EXPECT_THAT(problems("a: if " + std::string(5000, '!') + "t.x == up then stop();"), SizeIs(1));
    std::string wide = "a: if t.x == up";
    for (int i = 0; i < 300; ++i) {
        wide += " && t.x == up";
    }
    EXPECT_THAT(problems(wide + " then stop();"), SizeIs(1));
    std::string many;
    for (std::size_t i = 0; i < rules_max + 200; ++i) {
        many += "r" + std::to_string(i) + ": if t.x == up then stop();\n";
    }
    EXPECT_THAT(problems(many), SizeIs(problems_max));
    EXPECT_THAT(problems(std::string(1000, ';')), SizeIs(problems_max));
    EXPECT_THAT(problems(std::string(200, 'a') + ": if t.x == up then stop();"), SizeIs(1));
    EXPECT_THAT(problems("/* never ends"), ElementsAre("10:5: a comment does not end: '*/' is missing"));
}

} // namespace
} // namespace stead::rules
