// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

/// The program itself, without steadd: what it says, where, and how it ends.
namespace stead::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class Program : public ::testing::Test {
protected:
    Program() {
        std::string name = fs::temp_directory_path() / "stead-cli-XXXXXX";
        root_ = ::mkdtemp(name.data());
        for (const char* folder : {"etc", "var", "run"}) {
            fs::create_directory(root_ / folder);
        }
    }
    ~Program() override { fs::remove_all(root_); }

    struct Ended {
        int exit{};
        std::string out, err;
    };
    Ended run(const std::string& arguments, const std::string& limit_s = "20") const {
        const std::string r = root_.string();
        const std::string command = "cd " + r + " && env -u SAFEMODULE STEAD_ETC=" + r + "/etc STEAD_VAR=" + r +
                                    "/var STEAD_RUN=" + r + "/run timeout " + limit_s + " " STEAD_PROGRAM " " +
                                    arguments + " >" + r + "/out 2>" + r + "/err";
        const int status = std::system(command.c_str());
        return {WEXITSTATUS(status), read("out"), read("err")};
    }
    void write(const std::string& name, const std::string& content) const {
        fs::create_directories((root_ / name).parent_path());
        std::ofstream{root_ / name} << content;
    }
    std::string read(const std::string& name) const {
        std::ifstream in{root_ / name};
        return {std::istreambuf_iterator<char>{in}, {}};
    }
    /// One object on stdout, nothing on stderr.
    void fails_in_json(const std::string& arguments, int code, const std::string& words) const {
        const Ended ended = run(arguments);
        EXPECT_EQ(ended.exit, code) << arguments;
        EXPECT_EQ(ended.err, "") << arguments;
        EXPECT_THAT(ended.out, AllOf(StartsWith("{\"error\":\""), HasSubstr(words),
                                     HasSubstr("\"exit\":" + std::to_string(code) + "}\n")))
            << arguments;
    }
    fs::path root_;
};

TEST_F(Program, EveryErrorIsAnObjectWithJson) {
    fails_in_json("strat -m x --json", 64, "did you mean 'start'?");
    fails_in_json("--json state --jsn", 64, "unknown option '--jsn'");
    fails_in_json("start --json", 64, "needs a module");
    fails_in_json("help nosuch --json", 64, "no help on 'nosuch'");
    fails_in_json("state --json", 69, "steadd is not running");
    fails_in_json("logview -m nosuch --json", 66, "is not installed");
    fails_in_json("snapshot x.zip --json", 64, "not an absolute path");
    write("etc/cluster.key", std::string(32, 'k'));
    fails_in_json("cluster genkey --json", 73, "exists already; to renew");
    const Ended plain = run("state -- --json");
    EXPECT_EQ(plain.out, "") << "-- ends options";
    EXPECT_THAT(plain.err, StartsWith("stead: 'state' does not take '--json'"));
}

TEST_F(Program, TextsAreObjectsWithJson) {
    EXPECT_THAT(run("help --json").out, StartsWith("{\"text\":\"stead: makes"));
    EXPECT_THAT(run("start -h --json").out, StartsWith("{\"text\":\"usage: stead start"));
    EXPECT_THAT(run("help").out, StartsWith("stead: makes"));
}

TEST_F(Program, ClassicHelpersAnswer) {
    EXPECT_THAT(run("-p").out, HasSubstr("\nSAFEBIN="));
    EXPECT_THAT(run("-p --json").out, AllOf(StartsWith("{\"SAFE\":\""), HasSubstr("\"SAFEBIN\":\"")));
    EXPECT_EQ(run("-p -H n1").exit, 64);
    EXPECT_EQ(run("-r sh -c '$SAFE/safekit -p -H n1'").exit, 64);
    EXPECT_EQ(run("-r boundcmd 5 true -H").exit, 0) << "-H is the command's";
    const Ended tables = run("-r vip_if_ctrl -l");
    EXPECT_EQ(tables.exit, 64);
    EXPECT_THAT(tables.err, HasSubstr("stead state -v"));
    EXPECT_EQ(run("kill -name=no_such_program -level=test").exit, 1);
    const Ended found = run("kill -name=timeout -argregex=name=timeout -level=test --json");
    EXPECT_EQ(found.exit, 0);
    EXPECT_THAT(found.out, StartsWith("{\"pids\":["));
    fails_in_json("kill -name=x --json", 64, "-level=test|terminate|9|15");
    fails_in_json("boot snmpon --json", 64, "Stead has no SNMP agent");
}

TEST_F(Program, TheKeyIsDeletedOutsideOfAClusterOnly) {
    fails_in_json("cluster delkey --json", 66, "there is no key");
    write("etc/cluster.key", std::string(32, 'k'));
    write("var/cluster/cluster.xml", "<cluster/>");
    fails_in_json("cluster delkey --json", 73, "'stead cluster deconfig' first");
    fs::remove(root_ / "var/cluster/cluster.xml");
    EXPECT_EQ(run("cluster delkey").exit, 0);
    EXPECT_FALSE(fs::exists(root_ / "etc/cluster.key"));
}

TEST_F(Program, WhatIsIgnoredIsWarnedOf) {
    EXPECT_THAT(run("state -H '[https:9453],n1'").err, StartsWith("stead: warning: -H: [https:9453] is ignored"));
    EXPECT_EQ(run("state -H '[https:9453],n1' --json").err, "");
}

TEST_F(Program, BashCompletes) {
    write("stead", "#!/bin/sh\ncase \"$*\" in\n'cluster state --json') echo "
                   "'{\"node\":\"n1\",\"nodes\":[{\"node\":\"n1\"},{\"node\":\"n2\"}]}' ;;\nesac\n");
    fs::permissions(root_ / "stead", fs::perms::owner_all);
    run("help --completion");
    fs::rename(root_ / "out", root_ / "completion");
    const auto complete = [&](const std::string& words) {
        write("try", "PATH=" + root_.string() + ":$PATH; . ./completion\nCOMP_WORDS=(stead " + words +
                         ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_stead\necho \"${COMPREPLY[*]}\"\n");
        EXPECT_EQ(std::system(("cd " + root_.string() + " && bash try >answer 2>&1").c_str()), 0);
        return read("answer");
    };
    EXPECT_EQ(complete("state -H ''"), "n1 n2 *\n");
    EXPECT_EQ(complete("state -H n1,"), "n1,n1 n1,n2\n");
    EXPECT_EQ(complete("help exit"), "exit-codes\n");
    EXPECT_EQ(complete("help wait"), "waitstart waitstop waitstate\n");
    EXPECT_EQ(complete("module new x --template ''"), "farm mirror light\n");
    EXPECT_EQ(complete("boot webo"), "webon weboff\n");
    EXPECT_THAT(complete("cluster ''"), HasSubstr("deconfig"));
}

TEST_F(Program, LogviewPrintsOneObjectALine) {
    write("var/log", "first \"quoted\"\nsecond\n");
    EXPECT_EQ(run("logview --json", "2").out, "{\"line\":\"first \\\"quoted\\\"\"}\n{\"line\":\"second\"}\n");
}

TEST_F(Program, SaysItsVersion) {
    EXPECT_EQ(run("--version").out, "stead " STEAD_VERSION "\n");
    EXPECT_EQ(run("--version --json").out, "{\"version\":\"" STEAD_VERSION "\"}\n");
    for (const char* text : {"help", "help --man", "help --completion"}) {
        EXPECT_THAT(run(text).out, ::testing::AnyOf(HasSubstr("--version"), HasSubstr("\\-\\-version"))) << text;
    }
}

} // namespace
} // namespace stead::cli
