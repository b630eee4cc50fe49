// SPDX-License-Identifier: Apache-2.0
// The process checker under a fake host, with real children.
#include "sleeper.hpp"

#include <stead/test/fake_host.hpp>
#include <stead/test/temporary_folder.hpp>

#include <gmock/gmock.h>

#include <thread>

namespace stead::process {
namespace {

using test::Element;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using namespace std::chrono_literals;

const stead_plugin_descriptor& plugin() {
    static const auto& loaded = test::load_plugin(PROCESS_PLUGIN);
    return loaded;
}

using Attributes = std::vector<std::pair<std::string, std::string>>;

Element proc(const std::string& name, Attributes more = {}) {
    Attributes all{{"name", name},   {"service", "off"}, {"class", "both"},   {"action", "restart"},
                   {"atleast", "1"}, {"atmax", "-1"},    {"start_after", "0"}};
    for (auto& [key, value] : more) {
        std::erase_if(all, [&](const auto& one) { return one.first == key; });
        all.emplace_back(key, value);
    }
    return {"proc", all, {}};
}
Element service(std::vector<Element> procs) {
    return {"service", {{"mode", "light"}}, {{"errd", {{"polltimer", "10000000000"}}, std::move(procs)}}};
}

/// The plugin in a host whose timers run, in the thread of the test.
class ProcessPlugin : public ::testing::Test {
protected:
    ProcessPlugin() {
        folder_text_ = folder_.path();
        host_.c.var_folder = plugin::to_c(folder_text_);
    }
    void run(const Element& configuration) {
        running_.emplace(plugin(), host_, configuration);
        state("UP Ready");
    }
    void state(const char* value) {
        plugin().on_resource(running_->self(), host_.c.self, plugin::to_c("state.local"), plugin::to_c(value));
    }
    /// Runs timers that are due until the condition holds.
    template <class Condition>
    bool until(Condition condition, std::chrono::milliseconds timeout = 20s) {
        const auto end = std::chrono::steady_clock::now() + timeout;
        while (!condition()) {
            if (std::chrono::steady_clock::now() > end) {
                return false;
            }
            for (const auto& [id, at] : host_.timers()) {
                if (at != 0 && at <= host_.c.now(&host_)) {
                    host_.timer_ran(id);
                    plugin().on_timer(running_->self(), id);
                }
            }
            std::this_thread::sleep_for(1ms);
        }
        return true;
    }
    bool until_resource(const std::string& name, const std::string& value) {
        return until([&] { return host_.resource(name) == value; });
    }
    std::size_t logged(const std::string& part) {
        const auto log = host_.log();
        return static_cast<std::size_t>(
            std::ranges::count_if(log, [&](const auto& line) { return line.find(part) != std::string::npos; }));
    }
    std::pair<std::int32_t, std::string> command(const char* verb, const std::vector<std::string>& arguments) {
        std::vector<stead_str> argv;
        for (const auto& argument : arguments) {
            argv.push_back(plugin::to_c(argument));
        }
        char out[4096]{};
        const auto code = plugin().on_command(running_->self(), plugin::to_c(verb), argv.data(),
                                              static_cast<std::uint32_t>(argv.size()), out, sizeof out);
        return {code, out};
    }

    testing::TemporaryFolder folder_;
    std::string folder_text_;
    test::FakeHost host_;
    std::optional<test::Running> running_;
};

TEST_F(ProcessPlugin, OneRestartPerDeath) {
    auto child = std::make_optional<Sleeper>("stead-p-one");
    run(service({proc("stead-p-one")}));
    EXPECT_EQ(host_.resource("proc.stead-p-one"), "init");
    running_->arm(STEAD_WHEN_PRE | STEAD_WHEN_BOTH);
    ASSERT_TRUE(until_resource("proc.stead-p-one", "up"));
    const auto killed = std::chrono::steady_clock::now();
    child.reset();
    ASSERT_TRUE(until([&] { return logged("request restart") == 1; }));
    EXPECT_LT(std::chrono::steady_clock::now() - killed, 1s);
    EXPECT_EQ(host_.resource("proc.stead-p-one"), "down");
    state("UP Transient");
    running_->arm(STEAD_WHEN_PRE); // stop_both
    EXPECT_EQ(host_.resource("proc.stead-p-one"), "init");
    child.emplace("stead-p-one");
    running_->arm(STEAD_WHEN_PRE | STEAD_WHEN_BOTH);
    state("UP Ready");
    ASSERT_TRUE(until_resource("proc.stead-p-one", "up"));
    EXPECT_EQ(logged("request"), 1U);
    child.reset();
    ASSERT_TRUE(until([&] { return logged("request restart") == 2; }));
    EXPECT_THAT(host_.history("proc.stead-p-one"), ElementsAre("init", "up", "down", "init", "up", "down"));
    EXPECT_THAT(host_.log(), Contains("request restart: process stead-p-one: 0 running, at least 1 wanted"));
}

TEST_F(ProcessPlugin, ARestartNamesTheServicesThatAreEnough) {
    auto child = std::make_optional<Sleeper>("stead-p-srv");
    run(service({proc("stead-p-srv", {{"service", "on"}, {"restart_services", "stead-p-srv,php"}})}));
    running_->arm(STEAD_WHEN_PRE | STEAD_WHEN_BOTH);
    ASSERT_TRUE(until_resource("proc.stead-p-srv", "up"));
    child.reset();
    ASSERT_TRUE(until([&] { return logged("request restart") == 1; }));
    EXPECT_EQ(logged("request restart -Services stead-p-srv,php: service stead-p-srv: 0 running"), 1U);
}

TEST_F(ProcessPlugin, CountBoundsAndNoaction) {
    auto first = std::make_optional<Sleeper>("stead-p-few");
    const Sleeper second("stead-p-few");
    run(service(
        {proc("stead-p-few", {{"atleast", "2"}, {"action", "noaction"}}), proc("stead-p-none", {{"atmax", "0"}})}));
    running_->arm(STEAD_WHEN_BOTH);
    ASSERT_TRUE(until_resource("proc.stead-p-few", "up"));
    ASSERT_TRUE(until_resource("proc.stead-p-none", "up"));
    first.reset();
    ASSERT_TRUE(until_resource("proc.stead-p-few", "down"));
    EXPECT_EQ(logged("request"), 0U);
    const Sleeper forbidden("stead-p-none");
    ASSERT_TRUE(until_resource("proc.stead-p-none", "down"));
    EXPECT_EQ(logged("request restart: process stead-p-none: 1 running, at most 0 wanted"), 1U);
    first.emplace("stead-p-few");
    EXPECT_TRUE(until_resource("proc.stead-p-few", "up")) << "back without an action: seen as well";
}

TEST_F(ProcessPlugin, AHandlerActsAndAFailedOneIsFollowedByAStopstart) {
    host_.c.start_hook = [](void* h, stead_str name, const stead_str* argv, std::uint32_t argc, std::uint64_t) {
        std::string line = "hook " + test::FakeHost::text(name);
        for (std::uint32_t i = 0; i < argc; ++i) {
            line += " " + test::FakeHost::text(argv[i]);
        }
        test::FakeHost::of(h).add_log(line);
        return std::uint64_t{77};
    };
    auto child = std::make_optional<Sleeper>("stead-p-hand");
    run(service({proc("stead-p-hand", {{"action", "cure"}})}));
    running_->arm(STEAD_WHEN_BOTH);
    ASSERT_TRUE(until_resource("proc.stead-p-hand", "up"));
    child.reset();
    ASSERT_TRUE(until([&] { return logged("hook cure web proc.stead-p-hand") == 1; }));
    EXPECT_EQ(logged("request"), 0U);
    plugin().on_hook_done(running_->self(), 77, 3);
    EXPECT_EQ(logged("request stopstart: cure failed for process stead-p-hand: 0 running"), 1U);
}

TEST_F(ProcessPlugin, AMissingHandlerIsAFailedOne) {
    host_.c.start_hook = [](void* h, stead_str, const stead_str*, std::uint32_t, std::uint64_t) {
        test::FakeHost::of(h).add_log("asked for the hook");
        return std::uint64_t{78};
    };
    run(service({proc("stead-p-gone", {{"action", "cure"}})}));
    running_->arm(STEAD_WHEN_BOTH);
    ASSERT_TRUE(until([&] { return logged("asked for the hook") == 1; }));
    plugin().on_hook_done(running_->self(), 78, 127);
    EXPECT_EQ(logged("request stopstart"), 1U);
    EXPECT_EQ(logged("is not in bin"), 1U);
}

TEST_F(ProcessPlugin, ClassesOfTheAdministratorArePersistent) {
    const Sleeper child("stead-p-class");
    const Element configuration = service({proc("stead-p-class", {{"class", "night"}}), proc("stead-p-b")});
    run(configuration);
    running_->arm(STEAD_WHEN_BOTH);
    EXPECT_THAT(command("errd", {"list"}).second, HasSubstr("proc.stead-p-class init class=night not armed"));
    EXPECT_EQ(command("errd", {"enable", "nosuch"}).first, -1);
    EXPECT_THAT(command("errd", {"enable", "nosuch"}).second, HasSubstr("there are: night both"));
    EXPECT_EQ(command("errd", {"enable", "night"}).first, 0);
    EXPECT_EQ(command("errd", {"disable", "both"}).first, 0);
    ASSERT_TRUE(until_resource("proc.stead-p-class", "up"));
    EXPECT_THAT(command("errd", {"list"}).second,
                AllOf(HasSubstr("proc.stead-p-class up class=night(enabled) armed action=restart count=1 pids="),
                      HasSubstr("proc.stead-p-b init class=both(disabled) not armed")));
    const std::string listed = command("errd", {"list", "--json"}).second;
    EXPECT_THAT(listed,
                AllOf(HasSubstr(R"("resource":"proc.stead-p-class","value":"up","class":"night","armed":true)"),
                      HasSubstr(R"("count":1,"pids":[)"), HasSubstr(R"("enabled":true)"),
                      HasSubstr(R"("count":null,"pids":[],"enabled":false)"), HasSubstr(R"("complete":true})")));
    running_->arm(0);
    EXPECT_EQ(host_.resource("proc.stead-p-class"), "init") << "never while the application is stopped";
    running_.reset();
    run(configuration);
    running_->arm(STEAD_WHEN_BOTH);
    EXPECT_TRUE(until_resource("proc.stead-p-class", "up"));
    EXPECT_EQ(host_.resource("proc.stead-p-b"), "init");
}

TEST_F(ProcessPlugin, AnUpdateChangesWhatIsWatched) {
    const Sleeper child("stead-p-upd");
    run(service({proc("stead-p-old")}));
    running_->arm(STEAD_WHEN_BOTH);
    EXPECT_EQ(running_->update(service({proc("stead-p-upd")})), "");
    EXPECT_EQ(host_.resource("proc.stead-p-old"), "");
    EXPECT_TRUE(until_resource("proc.stead-p-upd", "up"));
    EXPECT_THAT(running_->update(service({proc("a b")})), HasSubstr("without blanks"));
    EXPECT_EQ(host_.resource("proc.stead-p-upd"), "up") << "what was stays";
}

TEST_F(ProcessPlugin, WithoutErrdNothingIsWatched) {
    run({"service", {{"mode", "light"}}, {}});
    running_->arm(STEAD_WHEN_BOTH);
    EXPECT_EQ(command("errd", {"list"}).second, "nothing is watched: there is no <proc>");
    EXPECT_EQ(command("power", {}).first, -2);
}

TEST(ProcessCheck, FindingsHaveAPlace) {
    EXPECT_THAT(test::findings(plugin(), service({proc("x", {{"nameregex", "a(b"}})})),
                ElementsAre(HasSubstr("7: errd/proc/@nameregex: 'a(b'")));
    EXPECT_THAT(test::findings(plugin(), service({proc("x", {{"action", "../evil"}})})),
                ElementsAre(HasSubstr("7: errd/proc/@action: '../evil'")));
    EXPECT_THAT(test::findings(plugin(), service({proc("x", {{"atleast", "5"}, {"atmax", "3"}})})),
                ElementsAre(HasSubstr("7: errd/proc/@atmax: '3'")));
    const auto services = [](Attributes more) {
        more.emplace_back("restart_services", "a,b");
        return test::findings(plugin(), service({proc("x", std::move(more))}));
    };
    EXPECT_THAT(services({{"service", "on"}}), IsEmpty());
    EXPECT_THAT(services({}), ElementsAre(HasSubstr("7: errd/proc/@restart_services: 'a,b': allowed: only with "
                                                    "service=\"yes\" and action=\"restart\"; here service is no")));
    EXPECT_THAT(services({{"service", "on"}, {"action", "stop"}}), ElementsAre(HasSubstr("and action stop")));
    for (const char* bad : {"a,,b", "a b", ",", "a,", "$(reboot)"}) {
        EXPECT_THAT(test::findings(plugin(), service({proc("x", {{"service", "on"}, {"restart_services", bad}})})),
                    ElementsAre(HasSubstr("names of services without blanks")))
            << bad;
    }
    EXPECT_THAT(test::findings(plugin(), service({proc("java"), proc("java"), proc("a@b")})),
                ElementsAre(HasSubstr("warning: errd/proc/@name: 'java': its resource is proc.java.2"),
                            HasSubstr("warning: errd/proc/@name: 'a@b': its resource is proc.a_b")));
    EXPECT_STREQ(plugin().switch_name, "errd");
}

} // namespace
} // namespace stead::process
