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
