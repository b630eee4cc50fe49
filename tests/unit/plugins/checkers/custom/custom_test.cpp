// SPDX-License-Identifier: Apache-2.0
#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stead::test {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// Hooks are recorded; the test says how they end.
struct HookHost : FakeHost {
    struct Call {
        std::uint64_t token;
        std::string name;
        std::vector<std::string> arguments;
        std::uint64_t timeout;
    };
    static HookHost& hooks(void* context) { return static_cast<HookHost&>(of(context)); }

    HookHost() {
        c.start_check = [](void* h, stead_str name, const stead_str* argv, std::uint32_t argc, std::uint64_t timeout) {
            std::vector<std::string> arguments;
            for (std::uint32_t i = 0; i < argc; ++i) {
                arguments.push_back(text(argv[i]));
            }
            return hooks(h).add({0, text(name), std::move(arguments), timeout});
        };
        c.cancel_hook = [](void* h, std::uint64_t given) { hooks(h).add_log("cancel " + std::to_string(given)); };
    }
    std::uint64_t add(Call call) {
        const std::lock_guard lock(calls_mutex_);
        call.token = calls_.size() + 1;
        calls_.push_back(std::move(call));
        started_.notify_all();
        return calls_.size();
    }
    /// The n-th call, from 1; waits for it.
    Call call(std::size_t n) {
        std::unique_lock lock(calls_mutex_);
        if (!started_.wait_for(lock, 20s, [&] { return calls_.size() >= n; })) {
            ADD_FAILURE() << "no call " << n;
            return {};
        }
        return calls_[n - 1];
    }
    std::size_t calls() {
        const std::lock_guard lock(calls_mutex_);
        return calls_.size();
    }

private:
    std::mutex calls_mutex_;
    std::condition_variable started_;
    std::vector<Call> calls_;
};

Element service(std::vector<std::pair<std::string, std::string>> attributes) {
    attributes.emplace_back("ident", "sql");
    return {"service", {}, {{"check", {}, {{"custom", std::move(attributes), {}}}}}};
}

class CustomChecker : public testing::Test {
protected:
    void ends(Running& running, std::uint64_t token, int exit_code) {
        plugin_.on_hook_done(running.self(), token, exit_code);
    }
    const stead_plugin_descriptor& plugin_ = load_plugin(CHECKER_PLUGIN);
    HookHost host_;
};

TEST_F(CustomChecker, RunsWhileItsClassIsArmed) {
    Running running(plugin_, host_, service({{"exec", "sqlcheck"}, {"arg", " 5432  fast "}, {"when", "both"}}));
    EXPECT_THAT(host_.rules(), IsEmpty()) << "the action is noaction when none is given";
    EXPECT_EQ(host_.calls(), 0U);
    running.arm(STEAD_WHEN_BOTH);
    const HookHost::Call call = host_.call(1);
    EXPECT_EQ(call.name, "sqlcheck");
    EXPECT_THAT(call.arguments, ElementsAre("web", "custom.sql", "5432", "fast"));
    EXPECT_EQ(call.timeout, 0U);
    host_.c.publish(&host_, plugin::to_c("custom.sql"), plugin::to_c("down")); // as `safekit set` does
    running.arm(0);
    EXPECT_THAT(host_.log(), Contains("cancel 1"));
    EXPECT_EQ(host_.resource("custom.sql"), "init");
    host_.c.publish(&host_, plugin::to_c("custom.sql"), plugin::to_c("down")); // its last breath
    running.arm(STEAD_WHEN_BOTH);
    EXPECT_EQ(host_.calls(), 1U) << "the one before still runs";
    ends(running, 1, 137);
    EXPECT_EQ(host_.resource("custom.sql"), "init");
    EXPECT_EQ(host_.calls(), 2U);
}

TEST_F(CustomChecker, OneThatDiesIsUnknownAndStartsAgain) {
    Running running(plugin_, host_, service({{"exec", "sqlcheck"}, {"action", "stopstart"}}));
    EXPECT_THAT(host_.rules(), ElementsAre("c_sql: if (custom.sql == down) then stopstart();"));
    running.arm(STEAD_WHEN_PRIM);
    ends(running, host_.call(1).token, 3);
    EXPECT_EQ(host_.resource("custom.sql"), "unknown");
    EXPECT_TRUE(host_.wait_log("bin/sqlcheck: ended, exit code 3; it starts again in 1 s"));
    ends(running, host_.call(2).token, 127);
    EXPECT_TRUE(host_.wait_log("exit code 127: it is not there, or cannot be run; it starts again in 2 s"));
    running.arm(0);
    EXPECT_EQ(host_.resource("custom.sql"), "init");
    std::this_thread::sleep_for(2500ms);
    EXPECT_EQ(host_.calls(), 2U) << "started again while not armed";
}

TEST_F(CustomChecker, TheReasonIsWhatTheScriptSays) {
    Running running(plugin_, host_, service({{"exec", "disk.lua"}, {"interval", "100ms"}, {"timeout", "5s"}}));
    running.arm(STEAD_WHEN_PRIM);
    ends(running, host_.call(1).token, 0);
    EXPECT_EQ(host_.reason("custom.sql"), "");
    host_.set_hook_reason("97 % of /srv is full");
    ends(running, host_.call(2).token, 1);
    EXPECT_TRUE(host_.wait_log("Resource custom.sql set to down: bin/disk: 97 % of /srv is full"));
    EXPECT_EQ(host_.reason("custom.sql"), "bin/disk: 97 % of /srv is full") << "for state -v";
}

TEST_F(CustomChecker, OncePerIntervalTheExitCodeIsTheVerdict) {
    Running running(
        plugin_, host_,
        service({{"exec", "disk.lua"}, {"interval", "100ms"}, {"timeout", "300ms"}, {"action", "restart"}}));
    running.arm(STEAD_WHEN_PRIM);
    EXPECT_EQ(host_.call(1).name, "disk") << "the host finds bin/disk.lua by this name";
    EXPECT_EQ(host_.call(1).timeout, 300'000'000U);
    ends(running, 1, 0);
    EXPECT_EQ(host_.resource("custom.sql"), "up");
    ends(running, host_.call(2).token, 4);
    EXPECT_EQ(host_.resource("custom.sql"), "down");
    EXPECT_TRUE(host_.wait_log("set to down: bin/disk: exit code 4"));
    EXPECT_EQ(host_.reason("custom.sql"), "bin/disk: exit code 4") << "a host that tells no reason";
    ends(running, host_.call(3).token, 0);
    EXPECT_EQ(host_.resource("custom.sql"), "up");
    // One that hangs is ended, and has failed.
    EXPECT_EQ(host_.call(4).token, 4U);
    EXPECT_TRUE(host_.wait("custom.sql", "down"));
    EXPECT_THAT(host_.log(), Contains("cancel 4"));
    EXPECT_TRUE(host_.wait_log("no answer within 300 ms"));
    ends(running, 4, 137);
    ends(running, host_.call(5).token, 0);
    EXPECT_EQ(host_.resource("custom.sql"), "up");
}

TEST_F(CustomChecker, FindsMistakes) {
    EXPECT_THAT(findings(plugin_, service({{"exec", "a"}})), IsEmpty());
    for (const char* bad : {"", "/bin/true", "../a", "sub/a", ".hidden"}) {
        EXPECT_THAT(findings(plugin_, service({{"exec", bad}})), ElementsAre(HasSubstr("custom/@exec"))) << bad;
    }
    EXPECT_THAT(findings(plugin_, service({{"exec", "a"}, {"action", "wait"}})),
                ElementsAre(HasSubstr("when=\"pre\"")));
}

} // namespace
} // namespace stead::test
