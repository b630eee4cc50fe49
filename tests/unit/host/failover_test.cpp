// SPDX-License-Identifier: Apache-2.0
#include "failover_module.hpp"

#include <gmock/gmock.h>

namespace stead::host {
namespace {

using automaton::State;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(Failover, ASwapIsForRolesThatCanBeExchanged) {
    Module module("away: if (local.tcp.x == down || remote.tcp.y == down) then swap();", automaton::armed_pre, {},
                  std::nullopt);
    module.run(seconds{1});
    module.role(State::alone);
    module.find("down");
    module.run(seconds{1});
    EXPECT_THAT(module.take_actions(), IsEmpty()) << "there is nobody to exchange with";
    module.role(State::prim);
    module.run(seconds{1});
    EXPECT_THAT(module.take_actions(), ElementsAre("swap"));
    EXPECT_EQ(module.state(), "SECOND Ready");
    module.find("up");
    module.failover.put_remote("tcp.y", "down");
    module.publish("any.thing", "up");
    module.run(seconds{1});
    EXPECT_THAT(module.take_actions(), ElementsAre("swap")) << "a resource of the other node counts too";
    EXPECT_EQ(module.state(), "PRIM Ready");
}

struct Row {
    const char* action;
    std::uint32_t armed_class;
    const char* findings; ///< a second each, then the last for ever: u(p), d(own), i(nit)
    std::vector<std::string> actions;
    const char* state;
};

// Goal: what a checker does x what its rule asks for, as the classic product answers. Method: the machinery of the
// host in virtual time; a row says which actions follow and where the module ends.
TEST(FailoverMatrix, CheckerStatesByActions) {
    using V = std::vector<std::string>;
    constexpr std::uint32_t both = automaton::armed_both, pre = automaton::armed_pre;
    const V thrice_restart{"restart", "restart", "restart", "maxloop"};
    const V thrice_stopstart{"stopstart", "stopstart", "stopstart", "maxloop"};
    const V thrice_wait{"wait", "wait", "wait", "maxloop"};
    const std::vector<Row> rows{
        {"restart", both, "ii", {}, "UP Ready"},
        {"restart", both, "uu", {}, "UP Ready"},
        {"restart", both, "uduu", V{"restart"}, "UP Ready"},
        {"restart", both, "udiu", V{"restart"}, "UP Ready"},
        {"restart", both, "ududududu", thrice_restart, "STOP NotReady"},
        {"restart", both, "uddddd", thrice_restart, "STOP NotReady"},
        {"stopstart", both, "ii", {}, "UP Ready"},
        {"stopstart", both, "uu", {}, "UP Ready"},
        {"stopstart", both, "ududududu", thrice_stopstart, "STOP NotReady"},
        {"stopstart", both, "uddddd", thrice_stopstart, "STOP NotReady"},
        {"stop", both, "ii", {}, "UP Ready"},
        {"stop", both, "uu", {}, "UP Ready"},
        {"stop", both, "udud", V{"stop"}, "STOP NotReady"},
        {"stop", pre, "d", V{"stop"}, "STOP NotReady"},
        {"wait", pre, "ii", {}, "WAIT Transient: no verdict yet: tcp.x=init"},
        {"wait", pre, "uu", {}, "UP Ready"},
        {"wait", pre, "d", {}, "WAIT NotReady: t"},
        {"wait", pre, "du", {}, "UP Ready"},
        {"wait", pre, "iiu", {}, "UP Ready"},
        {"wait", pre, "ud", V{"wait"}, "WAIT NotReady: t"},
        {"wait", pre, "uddd", V{"wait"}, "WAIT NotReady: t"},
        {"wait", pre, "udu", V{"wait"}, "UP Ready"},
        {"wait", pre, "udi", V{"wait"}, "WAIT Transient: no verdict yet: tcp.x=init"},
        {"wait", pre, "udududud", thrice_wait, "STOP NotReady"},
        {"stopstart", pre, "d", thrice_stopstart, "STOP NotReady"},
    };
    for (const Row& row : rows) {
        const std::string what = std::string{row.action} + " " + row.findings;
        Module module("t: if (tcp.x == down) then " + std::string{row.action} + "();", row.armed_class);
        if (row.findings[0] != 'u') {
            module.find(row.findings[0] == 'd' ? "down" : "init");
        }
        for (const char finding : std::string_view{row.findings}) {
            module.find(finding == 'u' ? "up" : finding == 'd' ? "down" : "init");
            module.run(seconds{1});
        }
        module.run(seconds{30});
        EXPECT_EQ(module.take_actions(), row.actions) << what;
        EXPECT_EQ(module.state(), row.state) << what;
    }
}

TEST(Failover, ARestartAskedForDuringTheStartFollowsIt) {
    Module module("t: if (tcp.x == down) then restart();", automaton::armed_both);
    module.finds = "down"; // from the moment it is armed, before the module is Ready
    module.run(milliseconds{750});
    EXPECT_THAT(module.take_actions(), IsEmpty());
    module.run(milliseconds{200});
    EXPECT_THAT(module.take_actions(), ElementsAre("restart"));
    module.finds = "up";
    module.run(seconds{5});
    EXPECT_THAT(module.take_actions(), IsEmpty());
    EXPECT_EQ(module.state(), "UP Ready");
}

TEST(Failover, TheHoldTimeOfAWaitRuleIsForLeavingUpOnly) {
    Module module("w: if (tcp.x == down) then wait();", automaton::armed_pre, seconds{15});
    module.find("down");
    module.run(seconds{60});
    EXPECT_EQ(module.state(), "WAIT NotReady: w");
    module.find("up");
    module.run(seconds{5});
    EXPECT_EQ(module.state(), "UP Ready");
    EXPECT_THAT(module.lines, Contains("Action wakeup called by Implicit_wakeup: w does not hold any more"));
    module.find("down");
    module.run(seconds{14});
    EXPECT_EQ(module.state(), "UP Ready");
    module.run(seconds{3});
    EXPECT_EQ(module.state(), "WAIT NotReady: w");
    EXPECT_THAT(module.take_actions(), ElementsAre("wait"));
}

TEST(Failover, AWaitWinsOverARestartOfTheSameMoment) {
    Module module("r: if (tcp.x == down) then restart();\nw: if (tcp.x == down) then wait();", automaton::armed_pre);
    module.find("up");
    module.run(seconds{5});
    module.find("down");
    module.run(seconds{5});
    EXPECT_THAT(module.take_actions(), ElementsAre("wait"));
    EXPECT_THAT(module.lines, Contains("Rule r: tcp.x=down; its restart is covered by w"));
    EXPECT_EQ(module.state(), "WAIT NotReady: w");
    module.find("up");
    module.run(seconds{5});
    EXPECT_EQ(module.state(), "UP Ready");
}

TEST(Failover, SwitchedOffItTellsAndHoldsNothing) {
    Module module("r: if (tcp.x == down) then restart();\nw: if (custom.w == down) then wait();",
                  automaton::armed_both);
    module.turn("failover", false);
    module.publish("custom.w", "down");
    module.run(seconds{5});
    EXPECT_EQ(module.state(), "UP Ready");
    module.find("down");
    EXPECT_THAT(module.lines, Contains("Rule r: tcp.x=down; no restart, failover is off"));
    module.run(seconds{5});
    EXPECT_THAT(module.take_actions(), IsEmpty());
    module.turn("failover", true);
    module.run(seconds{5});
    EXPECT_THAT(module.take_actions(), ElementsAre("wait"));
    EXPECT_EQ(module.state(), "WAIT NotReady: w");
}

TEST(Failover, ResourcesOfCheckersThatAreOffAreUnknown) {
    Module module("r: if (tcp.x != up && custom.go == up) then restart();\ng: if (tcp.? == down) then stop();",
                  automaton::armed_both);
    module.find("up");
    module.run(seconds{5});
    module.turn("checker", false);
    module.find("down");
    module.run(seconds{5});
    EXPECT_EQ(module.state(), "UP Ready");
    module.publish("custom.go", "up");
    EXPECT_THAT(module.lines, Contains("Action restart called by r: custom.go=up, tcp.x=unknown"));
    module.find("up");
    module.run(seconds{5});
    module.turn("checker", true);
    module.run(seconds{5});
    EXPECT_EQ(module.state(), "UP Ready");
    module.find("down");
    module.run(seconds{5});
    EXPECT_THAT(module.state(), HasSubstr("STOP"));
}

} // namespace
} // namespace stead::host
