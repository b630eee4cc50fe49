// SPDX-License-Identifier: Apache-2.0
#include "hook_fixture.hpp"

#include <signal.h>
#include <sys/wait.h>

#include <thread>

namespace stead::script::test {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

struct ProgramHook : HookTest {};

TEST_F(ProgramHook, SucceedsWithItsArgumentsAndOutput) {
    const HookResult result = shell("echo \"$1 $2 $3\"; echo oops >&2", {"WAIT", "UP", "start"});
    EXPECT_EQ(result.end, End::succeeded) << result.reason;
    EXPECT_THAT(output, testing::UnorderedElementsAre("O:WAIT UP start", "E:oops"));
    EXPECT_GT(result.took.count(), 0);
}

TEST_F(ProgramHook, SaysHowItFailed) {
    HookResult result = shell("exit 3");
    EXPECT_EQ(result.end, End::failed);
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_EQ(result.reason, "exit 3");
    result = shell("kill -9 $$");
    EXPECT_EQ(result.end, End::killed);
    EXPECT_THAT(result.reason, HasSubstr("signal 9"));
    put("odd", "#!/no/such/interpreter\n", true);
    result = run("odd");
    EXPECT_EQ(result.end, End::failed);
    EXPECT_THAT(result.reason, HasSubstr("interpreter"));
    put("bare", "echo bare shell\n", true);
    EXPECT_TRUE(run("bare").ok());
    EXPECT_THAT(output, Contains("O:bare shell"));
    EXPECT_EQ(run("missing").end, End::not_found);
}

/// As classic scripts end, whose exit codes nobody looks at.
TEST_F(ProgramHook, ALoneTestAtTheEndThatDoesNotHoldIsNoFailure) {
    const std::string mark = std::to_string(::getpid()) + "3"; // others may run the same test
    const auto ended = [&](const std::string& name, const std::string& text) {
        put(name, "#!/bin/sh\nres=${RES:-0}\nsetsid sleep " + mark + " >/dev/null 2>&1 &\n" + text, true);
        const HookResult result = run(name, {"WAIT", "UP", "start"});
        const bool left = result.ok() ? soon([&] { return processes_with(mark) > 0; }) : processes_with(mark) > 0;
        (void)!std::system(("pkill -f 'sleep [" + mark.substr(0, 1) + "]" + mark.substr(1) + "'").c_str());
        EXPECT_EQ(left, result.ok()) << name << ": daemons of a script that succeeded stay, others do not";
        return result.end;
    };
    EXPECT_EQ(ended("start_both", "[ $res -ne 0 ] && { $SAFE/safekit stop -i start_both; }\n\n# end\n"),
              End::succeeded);
    EXPECT_THAT(host.lines.back(), HasSubstr("start_both: its exit code 1 is that of its last command, the test"));
    EXPECT_EQ(ended("start_prim", "[ $res -ne 0 ] && {\n  echo failed >&2\n  false\n}\n"), End::succeeded);
    EXPECT_EQ(ended("stop_both", "[[ $res != 0 ]] && echo failed 2>&1"), End::failed) << "sh has no [[: 127";
    EXPECT_EQ(ended("prestart", "test $res -ne 0 && echo failed >/dev/null 2>&1;\n"), End::succeeded);
    EXPECT_EQ(ended("start_sec", "[ $res -ne 0 ] && exit 1\n"), End::failed) << "means its code";
    EXPECT_EQ(ended("start_sec", "false || exit 1\n[ $res -ne 0 ] && echo failed\n"), End::failed) << "it was that one";
    EXPECT_EQ(ended("start_sec", "set -e\nfalse\n[ $res -ne 0 ] && echo failed\n"), End::failed);
    EXPECT_EQ(ended("start_sec", "[ -n \"$NO\" ] && exit 0\n[ $res -ne 0 ] && echo failed\n"), End::succeeded);
    EXPECT_EQ(ended("start_second", "[ -e /nothing ] && true || false\n"), End::failed);
    EXPECT_EQ(ended("poststop", "f() {\n[ $res -ne 0 ] && echo x\n}\nf\n"), End::failed) << "no lone test";
    EXPECT_EQ(ended("transition", "exit 3\n[ $res -ne 0 ] && echo x\n"), End::failed);
    EXPECT_EQ(ended("check", "[ $res -ne 0 ] && echo x\n"), End::failed) << "the script of a check";
}

TEST_F(ProgramHook, RefusesTwinsAndFilesThatAreNotExecutable) {
    put("both", "#!/bin/sh\n", true);
    put("both.lua", "", false);
    ASSERT_FALSE(runner().has("both"));
    EXPECT_EQ(runner().has("both").error().code, Errc::conflict);
    EXPECT_EQ(run("both").end, End::failed);
    put("plain", "#!/bin/sh\n", false);
    ASSERT_FALSE(runner().has("plain"));
    EXPECT_THAT(runner().has("plain").error().text(), HasSubstr("chmod +x"));
    put("windows", "#!/bin/sh\r\nexit 0\r\n", true);
    ASSERT_FALSE(runner().has("windows"));
    EXPECT_THAT(runner().has("windows").error().text(), HasSubstr("bin/windows:1: ends with CR LF"));
    EXPECT_THAT(runner().has("windows").error().text(), HasSubstr("sed -i 's/\\r$//' bin/windows"));
    put("foreign", "#! /no/such/ksh -e\nexit 0\n", true);
    ASSERT_FALSE(runner().has("foreign"));
    EXPECT_THAT(runner().has("foreign").error().text(), HasSubstr("bin/foreign:1: the script is for /no/such/ksh,"));
    put("foreign", "#! /no/such/ksh -e\nexit 0\n", true);
    ASSERT_FALSE(runner().has("foreign"));
    EXPECT_THAT(runner().has("foreign").error().text(),
                HasSubstr("bin/foreign:1: the script is for /no/such/ksh, which is not"));
    EXPECT_FALSE(*runner().has("nothing"));
    EXPECT_FALSE(runner().has("../both"));
}

TEST_F(ProgramHook, TimeoutKillsGrandchildrenSessionsAndDoubleForks) {
    limits.timeout = milliseconds{600};
    const std::string mark = std::to_string(::getpid()) + "7";
    const HookResult result =
        shell("sleep 4" + mark + " &\nsetsid sleep 4" + mark + " &\n" + "(setsid sh -c 'sleep 4" + mark +
              " & exit 0' &)\n" + "env -i setsid sh -c '/bin/sleep 4" + mark + " & exit 0' &\nsleep 300");
    EXPECT_EQ(result.end, End::timed_out);
    EXPECT_THAT(result.reason, HasSubstr("600 ms"));
    EXPECT_LT(result.took, seconds{5});
    EXPECT_EQ(processes_with("4" + mark), 0);
}

TEST_F(ProgramHook, WithoutTheLeashTheMarkStillFindsThem) {
    folders.prefix = root / "nowhere";
    limits.timeout = milliseconds{500};
    const std::string mark = std::to_string(::getpid()) + "8";
    const HookResult result =
        shell("setsid sleep 4" + mark + " &\n(setsid sh -c 'sleep 4" + mark + " & exit 0' &)\nsleep 300");
    EXPECT_EQ(result.end, End::timed_out);
    EXPECT_EQ(processes_with("4" + mark), 0);
    EXPECT_EQ(shell("exit 4").exit_code, 4);
    EXPECT_TRUE(shell("exit 0").ok());
}

TEST_F(ProgramHook, FailureEndsWhatItStartedSuccessKeepsDaemons) {
    const std::string mark = std::to_string(::getpid()) + "9";
    EXPECT_EQ(shell("setsid sleep 4" + mark + " &\nexit 1").end, End::failed);
    EXPECT_EQ(processes_with("4" + mark), 0);
    const Instant began = BootClock::now();
    const HookResult result = shell("setsid sleep 4" + mark + " & echo $! > " + (root / "pid").string());
    EXPECT_TRUE(result.ok()) << result.reason;
    EXPECT_LT(BootClock::now() - began, seconds{10}) << "the daemon holds the pipe; that must not hold us";
    EXPECT_TRUE(soon([&] { return processes_with("4" + mark) == 1; })) << "setsid has yet to become sleep";
    const auto pid = read_file(root / "pid", 100);
    ASSERT_TRUE(pid);
    ::kill(std::atoi(pid->c_str()), SIGKILL);
}

// Goal: a check that runs each second leaves nothing behind, whatever it forks and however it ends.
TEST_F(ProgramHook, WithoutLeaveToKeepThemDaemonsEndWithIt) {
    limits.keeps_daemons = false;
    const std::string mark = std::to_string(::getpid()) + "5";
    const std::string forks = "setsid sleep 4" + mark + " &\n(setsid sh -c 'sleep 4" + mark + " & exit 0' &)\n";
    for (const auto& prefix : {folders.prefix, root / "nowhere"}) { // with the leash and without
        folders.prefix = prefix;
        EXPECT_TRUE(shell(forks + "sleep 0.2; exit 0").ok());
        EXPECT_EQ(processes_with("4" + mark), 0);
        EXPECT_EQ(shell(forks + "sleep 0.2; exit 3").exit_code, 3);
        EXPECT_EQ(processes_with("4" + mark), 0);
    }
}

TEST_F(ProgramHook, ADaemonMayGoOnWriting) {
    const HookResult result =
        shell("(sleep 0.3; echo later; sleep 0.2; echo alive > " + (root / "alive").string() + ") &\necho now");
    EXPECT_TRUE(result.ok());
    for (int i = 0; i < 200 && !fs::exists(root / "alive"); ++i) {
        std::this_thread::sleep_for(milliseconds{50});
    }
    EXPECT_TRUE(fs::exists(root / "alive")) << "it did not die of SIGPIPE";
    const std::lock_guard lock(host.mutex);
    EXPECT_THAT(output, ElementsAre("O:now", "O:later"));
}

TEST_F(ProgramHook, DoesNotOutliveAHostThatDied) {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "the thread sanitizer allows no thread after fork";
#endif
    const std::string mark = "4" + std::to_string(::getpid()) + "6";
    put("shook", "#!/bin/sh\nsetsid sleep " + mark + " &\nsleep 1; sleep 300\n", true);
    const pid_t child = ::fork();
    if (child == 0) {
        (void)begin("shook");
        ::pause();
    }
    const auto wait_for = [&](int count) {
        for (int i = 0; i < 400 && processes_with(mark) != count; ++i) {
            std::this_thread::sleep_for(milliseconds{25});
        }
        return processes_with(mark) == count;
    };
    EXPECT_TRUE(wait_for(1));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_TRUE(wait_for(0));
}

TEST_F(ProgramHook, ForkBombEnds) {
    limits.timeout = milliseconds{700};
    const std::string mark = "bomb" + std::to_string(::getpid());
    const HookResult result =
        shell("bomb() { for i in 1 2 3; do sh -c 'sleep 33; : " + mark + "' & done; sleep 0.05; }\n" +
              "n=0; while [ $n -lt 40 ]; do n=$((n+1)); (bomb &) ; done; sleep 300");
    EXPECT_EQ(result.end, End::timed_out);
    EXPECT_EQ(processes_with(mark), 0);
}

TEST_F(ProgramHook, CancelInTheMiddle) {
    auto future = [&] {
        put("shook", "#!/bin/sh\necho started; sleep 300\n", true);
        return begin("shook");
    }();
    for (;;) {
        const std::lock_guard lock(host.mutex);
        if (!output.empty()) {
            break;
        }
    }
    runner().cancel();
    const HookResult result = future.get();
    EXPECT_EQ(result.end, End::cancelled);
    EXPECT_LT(result.took, seconds{10});
}

TEST_F(ProgramHook, CutsLongLinesAndEscapesBinary) {
    limits.output_line_bytes = 100;
    EXPECT_TRUE(shell("head -c 5000000 /dev/zero | tr '\\0' x; echo; "
                      "printf 'a\\001\\377\\303\\251b\\n'; printf tail")
                    .ok());
    ASSERT_EQ(output.size(), 3u);
    EXPECT_EQ(output[0], "O:" + std::string(100, 'x') + " [cut: longer than 100 bytes]");
    EXPECT_EQ(output[1], "O:a\\x01\\xff\xc3\xa9"
                         "b");
    EXPECT_EQ(output[2], "O:tail");
}

TEST_F(ProgramHook, ManyLinesArriveInOrder) {
    EXPECT_TRUE(shell("i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done").ok());
    ASSERT_EQ(output.size(), 3000u);
    for (std::size_t i = 0; i < output.size(); ++i) {
        ASSERT_EQ(output[i], "O:" + std::to_string(i));
    }
}

TEST_F(ProgramHook, GetsTheClassicEnvironmentAndNothingElse) {
    ::setenv("STEAD_TEST_STRAY", "1", 1);
    EXPECT_TRUE(shell("env | sort; pwd; readlink /proc/self/fd/0").ok());
    ::unsetenv("STEAD_TEST_STRAY");
    EXPECT_THAT(output, Contains("O:SAFEMODULE=web"));
    EXPECT_THAT(output, Contains("O:SERVICES=nginx"));
    EXPECT_THAT(output, Contains("O:SAFE=" STEAD_STAGE "/libexec/stead/compat"));
    EXPECT_THAT(output, Contains("O:SAFEVAR=" + root.string()));
    EXPECT_THAT(output, Contains("O:SAFEUSERVAR=" + (root / "modules/web").string()));
    EXPECT_THAT(output, Contains("O:SAFEUSERBIN=" + (root / "bin").string()));
    EXPECT_THAT(output, Contains("O:/dev/null"));
    EXPECT_THAT(output, testing::Not(Contains(HasSubstr("STRAY"))));
}

TEST_F(ProgramHook, AVariablePathGoesBeforeTheSystems) {
    folders.vars["PATH"] = "/opt/app/bin:/sbin";
    folders.vars["HOME"] = "/srv/app";
    EXPECT_TRUE(shell("echo $PATH; echo $HOME; ls / >/dev/null || exit 1").ok());
    EXPECT_THAT(output, Contains(testing::StartsWith("O:/opt/app/bin:/sbin:/usr/local/sbin:")));
    EXPECT_THAT(output, Contains("O:/srv/app"));
}

TEST_F(ProgramHook, AThousandLeaveNothingBehind) {
    put("quick", "#!/bin/sh\n:\n", true);
    put("quickl.lua", "return true", false);
    ASSERT_TRUE(run("quick").ok());
    const int before = open_descriptors();
    for (int i = 0; i < 500; ++i) {
        ASSERT_TRUE(run("quick").ok());
        ASSERT_TRUE(run("quickl").ok());
    }
    EXPECT_EQ(open_descriptors(), before);
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "no child, no zombie is left";
    EXPECT_EQ(errno, ECHILD);
}

} // namespace stead::script::test
