// SPDX-License-Identifier: Apache-2.0
#include <stead/script/rules.hpp>

#include <gmock/gmock.h>

namespace stead::script {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr rules::Dialect farm{};
constexpr rules::Dialect mirror{.remote = true, .swap = true};

LuaRules load(std::string_view text, const rules::Dialect& dialect = farm) {
    return load_lua_rules(text, {.file = "rules.lua", .line = 1, .column = 1}, dialect, seconds{15});
}

std::vector<std::string> problems(std::string_view text, const rules::Dialect& dialect = farm) {
    std::vector<std::string> all;
    for (const rules::Problem& one : load(text, dialect).problems) {
        all.push_back(std::to_string(one.place.line) + ":" + std::to_string(one.place.column) + ": " + one.text);
    }
    return all;
}

TEST(LuaRules, CompileToWhatTheClassicLanguageCompilesTo) {
    const LuaRules loaded = load(R"lua(--Lua Rules
Rules = Rules + { b=if_then("custom.X","down",Action.stopstart), _group="checker" }
Rules = Rules + {
  a = if_then("tcp.? == down && !(p.* != up)", Action.wait, { handle_time = "2s" }),
}
Rules.c = if_then("ip.2001:db8::1", "up", Action.restart)
Rules.disable("ip_failure"))lua");
    ASSERT_THAT(loaded.problems, IsEmpty());
    ASSERT_EQ(loaded.disabled.size(), 1U);
    EXPECT_EQ(loaded.disabled[0].label, "ip_failure");
    EXPECT_EQ(loaded.disabled[0].place.file, loaded.rules[0].place.file);
    auto classic = rules::parse_rules("b: if (custom.X == down) then stopstart();\n"
                                      "a: if (tcp.? == down && !(p.* != up)) then wait();\n"
                                      "c: if (ip.2001:db8::1 == up) then restart();",
                                      {}, farm, seconds{15});
    ASSERT_THAT(loaded.rules, SizeIs(3));
    classic.rules[1].hold = seconds{2};
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_TRUE(rules::same(loaded.rules[i], classic.rules[i])) << i;
    }
    EXPECT_EQ(loaded.rules[1].place.line, 4);
}

TEST(LuaRules, AreToldByTheirFirstLine) {
    EXPECT_TRUE(is_lua_rules("\n  --Lua Rules\nRules = Rules + {}"));
    EXPECT_TRUE(is_lua_rules("-- lua rules\nRules = Rules + {}")) << "a blank, and other letters";
    EXPECT_FALSE(is_lua_rules("a: if (x.y == down) then stop();"));
    EXPECT_FALSE(is_lua_rules(""));
}

TEST(LuaRules, MaySetAResource) {
    const LuaRules loaded = load(
        R"lua(Rules = Rules + { f = if_then("remote.rfs.uptodate == down", Action.set("rfs.uptodate", "up")) })lua",
        mirror);
    ASSERT_THAT(loaded.problems, IsEmpty());
    EXPECT_EQ(loaded.rules[0].action, rules::Action::assign);
    EXPECT_EQ(loaded.rules[0].target, "rfs.uptodate");
    EXPECT_EQ(loaded.rules[0].value, rules::Verdict::up);
    EXPECT_THAT(problems(R"lua(Action.set("rfs.?", "up"))lua"), SizeIs(1));
    EXPECT_THAT(problems(R"lua(Action.set("rfs.x", "green"))lua"), SizeIs(1));
}

TEST(LuaRules, TellEveryProblemOfOneRun) {
    EXPECT_THAT(problems(R"lua(Rules = Rules + {
  a = if_then("custom.X", "dwon", Action.stop),
  b = if_then("custom", "down", Action.stop),
  c = if_then("tcp.x == down & tcp.y == down", Action.stop),
  d = if_then("tcp.x", "down", Action.reboot),
  e = "restart",
  f = if_then("remote.tcp.x", "down", Action.swap),
  g = if_then("tcp.x", "down", Action.stop, { holdtime = 3 }),
  h = if_then("tcp.x"),
  ["bad label"] = if_then("tcp.x", "down", Action.stop),
})lua"),
                testing::UnorderedElementsAre(
                    "2:28: found 'dwon'; allowed: init, down, up, unknown",
                    "3:16: found 'custom'; allowed: a resource class.id, class.? or class.*",
                    "4:30: found '&'; allowed: &&, ||, or the end of the expression",
                    "5:3: no Action.reboot; allowed: Action.stop, Action.stopstart, Action.wait, Action.restart, "
                    "Action.swap (mirror), Action.set(\"class.id\", \"up\")",
                    HasSubstr("rule 'e': found 'restart'; allowed: if_then(...)"),
                    HasSubstr("7:16: 'remote.tcp.x': a rule of this module sees the resources of its own node only"),
                    HasSubstr("swap() exchanges the roles of a mirror module"),
                    HasSubstr("options: found 'holdtime'; allowed: handle_time"), HasSubstr("if_then with 1 arguments"),
                    HasSubstr("found 'bad label'; allowed: a label of letters")));
}

TEST(LuaRules, LuasOwnErrorsHaveAPlace) {
    EXPECT_THAT(problems("Rules = Rules + {\n  a = if_then(\"tcp.x\" \"down\", Action.stop)\n}"),
                ElementsAre(HasSubstr("2:23: ')' expected near '\"down\"'")));
    EXPECT_THAT(problems("\nlocal x = nil + 1"), ElementsAre(HasSubstr("2:1: attempt to perform arithmetic")));
    const LuaRules shifted = load_lua_rules("x = = 1", {.file = "u.xml", .line = 20, .column = 30}, farm, {});
    ASSERT_THAT(shifted.problems, SizeIs(1));
    EXPECT_EQ(shifted.problems[0].place.line, 20);
    EXPECT_EQ(shifted.problems[0].place.column, 32); // the first '=' of that line
}

TEST(LuaRules, ReachNothingAndEnd) {
    for (const char* text :
         {"os.execute('true')", "io.open('/etc/passwd')", "require('x')", "load('x=1')", "dofile('x')", "print('x')",
          "pcall(error)", "setmetatable({}, {})", "string.dump(if_then)", "debug.sethook()", "collectgarbage()",
          "coroutine.create(print)"}) {
        EXPECT_THAT(problems(text), SizeIs(1)) << text;
    }
    EXPECT_THAT(problems("while true do end"), ElementsAre(HasSubstr("more than 10 million instructions")));
    EXPECT_THAT(problems("local t = {} for i = 1, 1e9 do t[i] = {} end"), ElementsAre(HasSubstr("16 MiB")));
    EXPECT_THAT(problems("local s = 'x' while true do s = s .. s end"), ElementsAre(HasSubstr("memory")));
    EXPECT_THAT(problems("error({})"), ElementsAre(HasSubstr("raised an error that is no text, but a table")));
    EXPECT_THAT(problems("error(nil)"), ElementsAre(HasSubstr("but a nil")));
    EXPECT_THAT(problems("for i = 1, 1e6 do Rules = Rules + { ['a' .. i] = if_then('a.b', 'up', Action.stop) } end"),
                testing::Contains(HasSubstr("more than 2000 calls of if_then; allowed: 1000 rules")));
    EXPECT_THAT(problems("string.match(('a'):rep(1e6), '.-.-.-.-.-b')"),
                ElementsAre(HasSubstr("it hangs in a built-in function")));
    EXPECT_THAT(problems("Rules = { a = 1 }"), ElementsAre(HasSubstr("Rules was replaced")));
    EXPECT_THAT(problems("Rules = Rules + 3"), SizeIs(1));
    EXPECT_THAT(problems("Rules = Rules + { if_then('a.b', 'up', Action.stop) }"), SizeIs(1));
    EXPECT_THAT(problems("\x1bLua"), SizeIs(1));
    EXPECT_THAT(problems(std::string(rules::text_bytes_max + 1, ' ')), SizeIs(1));
}

} // namespace
} // namespace stead::script
