// SPDX-License-Identifier: Apache-2.0
#include <stead/control/command.hpp>

#include <gmock/gmock.h>

#include <set>

namespace stead::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Result<Invocation> parse(std::vector<std::string_view> words, std::string_view module = {}) {
    return parse_command(words, module);
}

std::string error_of(std::vector<std::string_view> words) {
    const Result<Invocation> parsed = parse(std::move(words));
    return parsed ? "no error" : parsed.error().text();
}

TEST(CommandParser, AMessageMayBeginWithADash) {
    const std::array<std::string_view, 5> words{"printi", "-m", "web", "--- begun ---", "-5 degrees"};
    const auto got = parse_command(words, "");
    ASSERT_TRUE(got) << got.error().text();
    EXPECT_EQ(got->module, "web");
    EXPECT_EQ(got->arguments, (std::vector<std::string>{"--- begun ---", "-5 degrees"}));
}

TEST(CommandTable, EveryVerbIsUniqueAndExplained) {
    std::set<std::string_view> verbs;
    for (const Command& command : commands()) {
        EXPECT_TRUE(verbs.insert(command.verb).second) << command.verb;
        EXPECT_FALSE(command.help.empty()) << command.verb;
        std::set<std::string_view> names;
        for (const Option& option : command.used_options()) {
            EXPECT_TRUE(names.insert(option.name).second) << command.verb << option.name;
            EXPECT_FALSE(option.help.empty()) << command.verb << option.name;
            EXPECT_THAT(help_for(command), HasSubstr(std::string(option.help)));
        }
        const std::string own = std::string(command.verb) + " -h";
        std::vector<std::string_view> words{command.verb.substr(0, command.verb.find(' '))};
        if (command.verb.find(' ') != command.verb.npos) {
            words.push_back(command.verb.substr(command.verb.find(' ') + 1));
        }
        words.push_back("-h");
        const Result<Invocation> help = parse(words);
        ASSERT_TRUE(help) << own;
        EXPECT_TRUE(help->help);
        EXPECT_EQ(help->command, &command) << own;
        EXPECT_THAT(help_overview(), HasSubstr(std::string(command.verb)));
        EXPECT_THAT(bash_completion(), HasSubstr(std::string(words[0])));
    }
}

TEST(CommandTable, HelpOnAGroupIsOfItsCommands) {
    const Result<Invocation> help = parse({"cluster", "--help"});
    ASSERT_TRUE(help && help->help);
    EXPECT_EQ(help->command, nullptr);
    const std::string text = help_overview(help->group);
    EXPECT_THAT(text, HasSubstr("  cluster genkey"));
    EXPECT_THAT(text, ::testing::Not(HasSubstr("  stopstart")));
}

TEST(CommandTable, TheVerbsThatOthersRelyOn) {
    for (const char* verb : {"start",
                             "stop",
                             "restart",
                             "stopstart",
                             "forcestop",
                             "shutdown",
                             "waitstart",
                             "waitstop",
                             "waitstate",
                             "state",
                             "level",
                             "log",
                             "logview",
                             "printi",
                             "printw",
                             "printe",
                             "set",
                             "get",
                             "confcheck",
                             "config",
                             "confinfo",
                             "deconfig",
                             "update",
                             "cluster config",
                             "cluster confcheck",
                             "cluster confinfo",
                             "cluster state",
                             "cluster genkey",
                             "cluster deconfig",
                             "cluster delkey",
                             "kill",
                             "-p",
                             "-r",
                             "cluster check",
                             "module install",
                             "module package",
                             "module uninstall",
                             "module list",
                             "module listid",
                             "module getports",
                             "boot",
                             "power",
                             "incloop",
                             "checkloop",
                             "resetloop",
                             "swap",
                             "prim",
                             "second",
                             "primforce",
                             "secondforce",
                             "rfsverify",
                             "rfsdiff",
                             "rfssync",
                             "mirror status",
                             "mirror lost"}) {
        EXPECT_NE(find_command(verb), nullptr) << verb;
    }
}

TEST(CommandParser, OptionsMayStandAnywhere) {
    for (const auto& words : std::vector<std::vector<std::string_view>>{
             {"state", "-m", "web", "-lq", "-H", "*", "--json"}, {"-H", "*", "--json", "-m", "web", "state", "-lq"}}) {
        const Result<Invocation> parsed = parse(words);
        ASSERT_TRUE(parsed) << parsed.error().text();
        EXPECT_EQ(parsed->command->verb, "state");
        EXPECT_EQ(parsed->module, "web");
        EXPECT_EQ(parsed->nodes, "*");
        EXPECT_TRUE(parsed->json);
        EXPECT_TRUE(parsed->has("lq"));
    }
}

TEST(CommandParser, TheSameLetterMeansWhatTheVerbSays) {
    const Result<Invocation> parsed = parse({"set", "-r", "custom.x", "-v", "up", "-i", "me", "-m", "web"});
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->option("r"), "custom.x");
    EXPECT_EQ(parsed->option("v"), "up");
    EXPECT_EQ(parsed->by, "me");
    EXPECT_EQ(parse({"module", "getports", "-i", "3"})->option("i"), "3");
}

TEST(CommandParser, ModuleComesFromTheEnvironmentUnlessGiven) {
    EXPECT_EQ(parse({"start"}, "web")->module, "web");
    EXPECT_EQ(parse({"start", "-m", "db"}, "web")->module, "db");
    EXPECT_EQ(parse({"cluster", "state"}, "web")->module, "");
}

TEST(CommandParser, InstallLineOfTheDocumentation) {
    const Result<Invocation> parsed = parse({"module", "install", "-m", "web", "-M", "3", "/tmp/web.safe"});
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->option("M"), "3");
    EXPECT_THAT(parsed->arguments, ElementsAre("/tmp/web.safe"));
}

TEST(CommandParser, TwoCommandsAreSpelledAsOptions) {
    const auto module = parse({"-H", "n1,n2", "-E", "AM"});
    ASSERT_TRUE(module) << module.error().text();
    EXPECT_EQ(module->command->verb, "-E");
    EXPECT_EQ(module->nodes, "n1,n2");
    EXPECT_EQ(module->arguments, std::vector<std::string>{"AM"});
    const auto cluster = parse({"-G", "-H", "*", "--json"});
    ASSERT_TRUE(cluster) << cluster.error().text();
    EXPECT_EQ(cluster->command->verb, "-G");
    EXPECT_TRUE(cluster->json);
    EXPECT_FALSE(parse({"-H", "*", "-E"})) << "which module?";
}

TEST(CommandParser, MessagesMayHoldDashes) {
    EXPECT_THAT(parse({"printi", "-m", "web", "a", "-b", "c"})->arguments, ElementsAre("a", "-b", "c"));
    EXPECT_THAT(parse({"printi", "-m", "web", "--", "-b"})->arguments, ElementsAre("-b"));
    EXPECT_THAT(parse({"printi", "-m", "web", "--", "a", "-i", "me"})->arguments, ElementsAre("a", "-i", "me"));
}

TEST(CommandParser, OptionsMayFollowAMessage) {
    for (const char* verb : {"printi", "printw", "printe"}) {
        const Result<Invocation> parsed = parse({verb, "disk", "is", "full", "-m", "web", "-i", "me"});
        ASSERT_TRUE(parsed) << parsed.error().text();
        EXPECT_EQ(parsed->module, "web");
        EXPECT_EQ(parsed->by, "me");
        EXPECT_THAT(parsed->arguments, ElementsAre("disk", "is", "full"));
    }
}

TEST(CommandParser, ErrorsNameTheNearestValidWord) {
    EXPECT_THAT(error_of({"sart", "-m", "x"}), HasSubstr("did you mean 'start'?"));
    EXPECT_THAT(error_of({"sotp"}), HasSubstr("did you mean 'stop'?"));
    EXPECT_THAT(error_of({"statee"}), HasSubstr("did you mean 'state'?"));
    EXPECT_THAT(error_of({"stat"}), HasSubstr("did you mean 'state'?"));
    EXPECT_THAT(error_of({"star", "-m", "x"}), HasSubstr("did you mean 'start'?"));
    EXPECT_THAT(error_of({"cluster", "chek"}), HasSubstr("did you mean 'check'?"));
    EXPECT_THAT(error_of({"state", "-qq"}), HasSubstr("unknown option '-qq'"));
    EXPECT_THAT(error_of({"state", "--jsn"}), HasSubstr("did you mean '--json'?"));
    EXPECT_THAT(error_of({"boot", "-m", "x", "onn"}), HasSubstr("did you mean 'on'?"));
    EXPECT_THAT(error_of({"waitstate", "-m", "x", "up"}), HasSubstr("not one of STOP, WAIT"));
    EXPECT_EQ(error_of({"xyzzy"}), "unknown command 'xyzzy'; 'stead help' lists all commands");
    EXPECT_EQ(error_of({"sart"}), "unknown command 'sart'; did you mean 'start'? 'stead help' lists all commands");
}

TEST(CommandParser, AChoiceMayBeLeftOut) {
    EXPECT_TRUE(parse({"clean", "-m", "x"}));
    EXPECT_THAT(parse({"clean", "-m", "x", "all"})->arguments, ElementsAre("all"));
    EXPECT_THAT(error_of({"clean", "-m", "x", "everything"}), HasSubstr("not one of all, log, process, resource"));
    EXPECT_THAT(parse({"rfssync", "external", "prim", "4711", "-m", "x"})->arguments,
                ElementsAre("external", "prim", "4711"));
    EXPECT_THAT(error_of({"rfssync", "-m", "x", "externl"}), HasSubstr("did you mean 'external'?"));
    EXPECT_THAT(parse({"mirror", "lost", "export", "/tmp/x", "-m", "x"})->arguments, ElementsAre("export", "/tmp/x"));
    EXPECT_THAT(error_of({"mirror", "-m", "x"}), HasSubstr("needs one of: status, lost"));
    EXPECT_THAT(parse({"cluster", "config", "lock"})->arguments, ElementsAre("lock")) << "the file is left out";
    EXPECT_THAT(parse({"cluster", "config", "x.xml", "unlock"})->arguments, ElementsAre("x.xml", "unlock"));
    EXPECT_THAT(error_of({"cluster", "config", "x.xml", "lokc"}), HasSubstr("not one of lock, unlock"));
}

TEST(CommandParser, NumbersAreChecked) {
    EXPECT_THAT(error_of({"module", "install", "-m", "x", "-M", "65"}),
                HasSubstr("'65': allowed: a number from 1 to 64"));
    EXPECT_THAT(error_of({"module", "getports", "-i", "0"}), HasSubstr("1 to 64"));
    EXPECT_THAT(error_of({"power", "-m", "x", "n1", "x"}), HasSubstr("power: N 'x': allowed: a number from 0 to 1000"));
    EXPECT_THAT(error_of({"power", "-m", "x", "n1", "1001"}), HasSubstr("1000"));
    EXPECT_TRUE(parse({"power", "-m", "x", "n1", "default"}));
    EXPECT_THAT(error_of({"waitstart", "-m", "x", "-t", "0.4s"}),
                HasSubstr("'0.4s': allowed: a whole number of seconds"));
    EXPECT_THAT(error_of({"log", "-s", "many"}), HasSubstr("'many': allowed: a whole number of lines"));
}

TEST(CommandParser, WhatSteadDoesNotHaveIsSaidWithWhatToUse) {
    for (const Absent& absent : absent_commands()) {
        std::vector<std::string_view> words{absent.words.substr(0, absent.words.find(' '))};
        if (words[0] != absent.words) {
            words.push_back(absent.words.substr(words[0].size() + 1));
        }
        words.insert(words.begin(), {"-m", "web"});
        EXPECT_EQ(error_of(words), "'" + std::string(absent.words) + "': " + std::string(absent.instead));
        EXPECT_EQ(find_command(absent.words), nullptr);
    }
    EXPECT_TRUE(parse({"printi", "-m", "web", "uninstall"}));
}

TEST(CommandParser, HowNodesAreReachedIsNotOfTheCommandLine) {
    const auto prefixed = parse({"state", "-H", "[https:9453],n1,n2"});
    ASSERT_TRUE(prefixed) << prefixed.error().text();
    EXPECT_EQ(prefixed->nodes, "n1,n2");
    EXPECT_THAT(prefixed->warnings, ElementsAre(HasSubstr("-H: [https:9453] is ignored")));
    EXPECT_EQ(parse({"state", "-H", "http://n1:9010,n2"})->nodes, "n1,n2");
    EXPECT_TRUE(parse({"state", "-H", "n1,n2"})->warnings.empty());
    EXPECT_THAT(error_of({"state", "-H", "[http:9010]"}), HasSubstr("names no node"));
}

TEST(CommandParser, ClassicHelpersAreCommandsOfThisNode) {
    EXPECT_THAT(error_of({"-p", "-H", "n1"}), HasSubstr("'-p' cannot be sent to other nodes"));
    EXPECT_THAT(error_of({"-r"}), HasSubstr("needs COMMAND"));
    EXPECT_EQ(parse({"-m", "web", "-r", "x"})->command->verb, "-r");
    EXPECT_EQ(parse({"set", "-r", "custom.x", "-v", "up", "-m", "web"})->command->verb, "set");
    const auto kill = parse({"kill", "-name=nginx", "-argregex=a|b=c", "-level=test"});
    ASSERT_TRUE(kill) << kill.error().text();
    EXPECT_EQ(kill->option("name"), "nginx");
    EXPECT_EQ(kill->option("argregex"), "a|b=c");
    EXPECT_THAT(error_of({"kill", "-name=nginx", "-level=hard"}), HasSubstr("not one of test, terminate, 9, 15"));
}

TEST(CommandParser, ErrorsSayWhatIsMissing) {
    EXPECT_THAT(error_of({"start"}), HasSubstr("needs a module: add -m AM"));
    EXPECT_THAT(error_of({"start", "-m"}), HasSubstr("option '-m' needs AM"));
    EXPECT_THAT(error_of({"state", "-H", ""}), HasSubstr("option '-H' is empty; it needs NODES"));
    EXPECT_THAT(error_of({"state", "-m", ""}), HasSubstr("option '-m' is empty; it needs AM"));
    EXPECT_THAT(error_of({"cluster"}), HasSubstr("needs one of: config, deconfig, confcheck"));
    EXPECT_THAT(error_of({"power", "-m", "x", "n1"}), HasSubstr("needs N"));
    EXPECT_THAT(error_of({"start", "-m", "x", "y"}), HasSubstr("does not take 'y'"));
    EXPECT_THAT(error_of({"start", "-m", "../x"}), HasSubstr("not a module name"));
    EXPECT_THAT(error_of({"power", "-H", "*", "-m", "x", "n1", "3"}), HasSubstr("cannot be sent to other nodes"));
}

TEST(CommandParser, NothingTypedIsHelp) { EXPECT_TRUE(parse({})->help); }

TEST(CommandHelp, ExitCodesOfStatesAreListedAndErrorsAreFar) {
    EXPECT_THAT(help_exit_codes(), HasSubstr("SECOND"));
    for (int code = 0; code <= static_cast<int>(Errc::io); ++code) {
        EXPECT_GE(exit_code::of(static_cast<Errc>(code)), 64);
    }
}

} // namespace
} // namespace stead::control
