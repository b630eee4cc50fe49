// SPDX-License-Identifier: Apache-2.0
// Goal: a supervised program outlives its hook, ends with its stop script, and its death is known at once; nothing that
// it started is ever left. Method: real programs under a real leash.
#include "hook_fixture.hpp"

#include <signal.h>
#include <sys/wait.h>

namespace stead::script::test {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Supervise : HookTest {
    /// Runs `text` as bin/<name>.lua.
    HookResult hook(const std::string& name, const std::string& text, std::vector<std::string> arguments = {}) {
        put(name + ".lua", text, false);
        return run(name, std::move(arguments));
    }
    std::string resource(const std::string& name) {
        const std::lock_guard lock(host.mutex);
        const auto found = host.resources.find(name);
        return found == host.resources.end() ? "" : found->second;
    }
    pid_t pid_of(const std::string& name) {
        for (const Supervisor::Running& one : supervisor_->running()) {
            if (one.name == name) {
                return one.pid;
            }
        }
        return 0;
    }
    bool gone(const std::string& word) {
        return soon([&] { return processes_with(word) == 0; });
    }
};

TEST_F(Supervise, AProgramOutlivesItsHookAndEndsWithTheStopScript) {
    const auto started = hook("start_both", R"(
        local p = stead.supervise{name = "app", "sh", "-c", "echo ready $COLOUR $PWD; exec sleep 73001",
                                  env = {COLOUR = "red"}, cwd = "/usr"}
        assert(p.pid > 1 and p:is_running())
        assert(stead.supervised("app").pid == p.pid and stead.supervised("other") == nil)
        local ok, why = pcall(stead.supervise, {name = "app", "sleep", "1"})
        assert(not ok and why:find("app: runs already", 1, true), why))");
    ASSERT_TRUE(started.ok()) << started.reason;
    EXPECT_TRUE(soon([&] { return std::ranges::count(output, "O:[app] ready red /usr") == 1; }));
    EXPECT_EQ(resource("supervise.app"), "up");
    EXPECT_TRUE(soon([] { return processes_with("73001") == 2; })) << "the program and its leash";
    EXPECT_TRUE(hook("transition", "return stead.supervised('app'):is_running()").ok());
    EXPECT_TRUE(run("stop_prim").ok()) << "another class's stop script";
    EXPECT_NE(pid_of("app"), 0);
    EXPECT_EQ(run("stop_both").end, End::not_found) << "no script, and yet:";
    EXPECT_EQ(processes_with("73001"), 0);
    EXPECT_EQ(resource("supervise.app"), "");
    EXPECT_THAT(deaths, IsEmpty());
}

TEST_F(Supervise, ADeathIsKnownAtOnceAndItsGroupDies) {
    ASSERT_TRUE(hook("start_both", R"(
        stead.supervise{name = "a", action = "stopstart",
                        "sh", "-c", "setsid sleep 73011 & (sleep 73012 &) ; exec sleep 73013"})")
                    .ok());
    ASSERT_TRUE(soon([&] { return processes_with("73011") >= 2 && processes_with("73012") >= 2; }));
    const pid_t pid = pid_of("a");
    ASSERT_GT(pid, 1);
    const Instant killed = BootClock::now();
    ::kill(pid, SIGKILL);
    ASSERT_TRUE(soon([&] { return !deaths.empty(); }));
    EXPECT_LT(BootClock::now() - killed, milliseconds{500});
    EXPECT_THAT(deaths, ElementsAre(HasSubstr("stopstart: supervise a: killed by signal 9")));
    EXPECT_EQ(resource("supervise.a"), "down");
    EXPECT_TRUE(gone("73011")) << "in a session of its own";
    EXPECT_TRUE(gone("73012")) << "forked twice";
    ASSERT_TRUE(run("stop_both").ok());
    EXPECT_TRUE(hook("start_both", "stead.supervise{name = 'a', 'sleep', '73014'}").ok()) << "started again";
    EXPECT_EQ(resource("supervise.a"), "up");
}

TEST_F(Supervise, NoActionOnlyTells) {
    ASSERT_TRUE(hook("start_both", "stead.supervise{name = 'n', action = 'noaction', 'sh', '-c', 'exit 7'}").ok());
    EXPECT_TRUE(soon([&] { return host.resources["supervise.n"] == "down"; }));
    EXPECT_THAT(deaths, IsEmpty());
    EXPECT_TRUE(soon([&] { return host.lines.back().find("ended with exit code 7") != std::string::npos; }));
}

TEST_F(Supervise, AProgramThatDiesWhileItsHookRunsFailsTheHookAtOnce) {
    const Instant began = BootClock::now();
    const HookResult result = hook("start_both", R"(
        stead.supervise{name = "bad", "sh", "-c", "sleep 0.2; exit 3"}
        stead.supervise{name = "good", "sleep", "73021"}
        pcall(stead.sleep, "15s"))");
    EXPECT_EQ(result.end, End::failed);
    EXPECT_THAT(result.reason, HasSubstr("supervise bad: ended with exit code 3"));
    EXPECT_LT(BootClock::now() - began, seconds{10});
    EXPECT_EQ(processes_with("73021"), 0) << "what the failed hook began is gone";
    EXPECT_THAT(deaths, IsEmpty()) << "one failure, counted once";
}

TEST_F(Supervise, AFailedHookLeavesNothing) {
    EXPECT_FALSE(hook("start_both", "stead.supervise{name = 'x', 'sleep', '73031'} error('no')").ok());
    const auto tells_end = [](const std::string& line) {
        return line.find("killed, as its hook failed") != std::string::npos ||
               line.find("killed by signal 15") != std::string::npos; // whichever was faster
    };
    EXPECT_TRUE(soon([&] { return std::ranges::any_of(host.lines, tells_end); }));
    EXPECT_EQ(processes_with("73031"), 0);
    EXPECT_THAT(deaths, IsEmpty());
}

TEST_F(Supervise, StopsAsOrderedAndKillsWhatDoesNotListen) {
    ASSERT_TRUE(hook("start_both", R"(
        stead.supervise{name = "kind", stop_signal = "INT",
                        "sh", "-c", "trap 'echo got INT; exit 0' INT; touch $SAFEUSERVAR/kind; " ..
                                    "while :; do sleep 0.05; done"}
        stead.supervise{name = "deaf", stop_timeout = "300ms",
                        "sh", "-c", "trap '' TERM; touch $SAFEUSERVAR/deaf; while :; do sleep 0.05; done #73041"}
        for _, trap in ipairs{"kind", "deaf"} do
          while not stead.file.exists(stead.module.var .. "/" .. trap) do stead.sleep("5ms") end
        end)")
                    .ok());
    const HookResult stopped = hook("stop_both", "assert(stead.supervised('kind'):stop('5s'))");
    EXPECT_TRUE(stopped.ok()) << stopped.reason;
    EXPECT_THAT(output, Contains("O:[kind] got INT"));
    EXPECT_EQ(processes_with("73041"), 0);
    EXPECT_THAT(supervisor_->running(), IsEmpty());
}

TEST_F(Supervise, ForceDoesNotWaitNorDoesACancel) {
    const std::string deaf = "stead.supervise{name = 'd', stop_timeout = '1h', 'sh', '-c', \"trap '' TERM; "
                             "while :; do sleep 0.05; done #73051\"}";
    ASSERT_TRUE(hook("start_both", deaf).ok());
    Instant began = BootClock::now();
    (void)run("stop_both", {"force", "UP", "WAIT", "stop"});
    EXPECT_LT(BootClock::now() - began, seconds{5});
    EXPECT_EQ(processes_with("73051"), 0);
    ASSERT_TRUE(hook("start_both", deaf).ok());
    began = BootClock::now();
    auto stopping = begin("stop_both", {"UP", "WAIT", "stop"});
    ::usleep(100'000);
    runner().cancel();
    (void)stopping.get();
    EXPECT_LT(BootClock::now() - began, seconds{5});
    EXPECT_EQ(processes_with("73051"), 0);
}

TEST_F(Supervise, WhatCannotStartIsAnErrorWithItsLine) {
    const std::pair<const char*, const char*> cases[] = {
        {"stead.supervise{name='x', '/no/such'}", "/no/such"},
        {"stead.supervise{name='x', 'no-such-program'}", "not in PATH"},
        {"stead.supervise{name='x'}", "'[1]'"},
        {"stead.supervise{'sleep', '1'}", "'name'"},
        {"stead.supervise{name='a b', 'sleep', '1'}", "'name'"},
        {"stead.supervise{name='x', 'sleep', '1', user='no-such-user'}", "'user'"},
        {"stead.supervise{name='x', 'sleep', '1', action='explode'}", "restart, stopstart, stop or noaction"},
        {"stead.supervise{name='x', 'sleep', '1', stop_signal='BANG'}", "TERM, INT"},
        {"stead.supervise{name='x', 'sleep', '1', cwd='/no/such/folder'}", "/no/such/folder"},
        {"stead.supervise{name='x', 'sleep', '1', restrat=1}", "allowed: name"}};
    for (const auto& [text, wanted] : cases) {
        const HookResult result = hook("start_both", "\n" + std::string(text));
        EXPECT_EQ(result.end, End::failed) << text;
        EXPECT_THAT(result.reason, HasSubstr("bin/start_both.lua:2: ")) << text;
        EXPECT_THAT(result.reason, HasSubstr(wanted)) << text;
    }
    EXPECT_THAT(supervisor_->running(), IsEmpty());
}

TEST_F(Supervise, AnotherUserIsReallyAnother) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root";
    }
    ASSERT_TRUE(hook("start_both", R"(stead.supervise{name = "u", user = "nobody", "sh", "-c",
                                       "echo $(id -un) $HOME; exec sleep 73061"})")
                    .ok());
    EXPECT_TRUE(soon([&] {
        return std::ranges::any_of(output, [](const auto& line) { return line.starts_with("O:[u] nobody "); });
    }));
}

TEST_F(Supervise, AKilledLeashTakesItsProgramAlong) {
    ASSERT_TRUE(hook("start_both", "stead.supervise{name = 'l', 'sh', '-c', 'sleep 73071 & exec sleep 73072'}").ok());
    ASSERT_TRUE(soon([&] { return processes_with("73071") > 0; }));
    for (const auto& entry : fs::directory_iterator("/proc")) {
        const auto text = read_file(entry.path() / "cmdline", 1u << 20);
        if (text && text->find("stead-leash") != std::string::npos && text->find("73072") != std::string::npos) {
            ::kill(std::stoi(entry.path().filename().string()), SIGKILL);
        }
    }
    EXPECT_TRUE(soon([&] { return !deaths.empty(); }));
    EXPECT_TRUE(gone("73071"));
    EXPECT_TRUE(gone("73072"));
}

TEST_F(Supervise, ManyLinesAndManyProgramsDoNotHoldEachOtherUp) {
    ASSERT_TRUE(hook("start_both", R"(
        stead.supervise{name = "loud", "sh", "-c", "while :; do echo x; done"}
        for i = 1, 63 do stead.supervise{name = "s" .. i, "sleep", "73081"} end
        local ok, why = pcall(stead.supervise, {name = "more", "sleep", "73081"})
        assert(not ok and why:find("at most 64", 1, true), why))")
                    .ok());
    EXPECT_EQ(supervisor_->running().size(), 64u);
    const Instant began = BootClock::now();
    (void)run("poststop");
    EXPECT_LT(BootClock::now() - began, seconds{15});
    EXPECT_THAT(supervisor_->running(), IsEmpty());
    EXPECT_EQ(processes_with("73081"), 0);
}

// The host dies: its programs are stopped by their leashes; were they not, the next host's prestart does it.
TEST_F(Supervise, ADeadHostsProgramsEnd) {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "the thread sanitizer allows no thread after fork";
#endif
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        ::setsid();
        const bool started = hook("start_both", R"(stead.supervise{name = "db", stop_timeout = "30s", "sh", "-c",
                "trap 'sleep 0.3; touch $SAFEUSERVAR/clean; exit 0' TERM; touch $SAFEUSERVAR/ready; " ..
                "while :; do sleep 0.05; done #73091"}
                 while not stead.file.exists(stead.module.var .. "/ready") do stead.sleep("5ms") end)")
                                 .ok();
        ::kill(started ? ::getpid() : 0, SIGKILL);
        ::_exit(1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_TRUE(fs::exists(root / "supervised"));
    (void)run("prestart");
    EXPECT_EQ(processes_with("73091"), 0);
    EXPECT_TRUE(fs::exists(folders.var / "clean")) << "stopped as ordered, and waited for";
    EXPECT_FALSE(fs::exists(root / "supervised"));
}

TEST_F(Supervise, OutsideOfAModulesLifeThereIsNone) {
    runner_ = HookRunner::create(folders, host, to_output());
    const HookResult result = hook("config", "stead.supervise{name='x', 'sleep', '1'}");
    EXPECT_THAT(result.reason, HasSubstr("only a hook of a module's start or stop may"));
}

} // namespace stead::script::test
