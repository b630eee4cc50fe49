// SPDX-License-Identifier: Apache-2.0
// Mirror: the automaton follows the roles that a service gives, row by row.
#include "stage.hpp"

namespace stead::automaton {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;
using testing::Not;

constexpr State stop = State::stop, wait = State::wait, alone = State::alone, prim = State::prim,
                second = State::second;

Role role(State state, std::string reason = "heart", bool expected = false) {
    return {.state = state, .reason = std::move(reason), .expected = expected};
}
Stop stop_by(const char* by, bool at_once = false) { return {.then = Stop::Then::stay, .by = by, .at_once = at_once}; }

/// A mirror that is started and was given the role (WAIT: none), with its traces cleared.
class Mirror : public Stage {
public:
    explicit Mirror(State state = wait) : Stage(std::nullopt) {
        send(Start{"administrator"});
        if (state != wait) {
            send(role(state));
        }
        trace.clear();
        states.clear();
        logs.clear();
    }
};

TEST(Mirror, WaitsForARoleAfterItsStart) {
    Stage stage(std::nullopt);
    stage.send(Start{"administrator"});
    EXPECT_THAT(stage.trace, ElementsAre("transition STOP WAIT start", "prestart STOP WAIT start", "choice open"));
    EXPECT_THAT(stage.states, ElementsAre("WAIT Transient", "WAIT Transient: no role yet"));
    stage.send(role(wait, "not uptodate"));
    EXPECT_EQ(stage.states.back(), "WAIT NotReady: not uptodate");
    stage.send(role(wait, "handshake", true));
    EXPECT_EQ(stage.states.back(), "WAIT Transient: handshake");
}

struct Walk {
    State from, to;
    std::vector<std::string> trace;
};

std::string shown(const std::string& script, const Walk& walk, const char* action) {
    return script + " " + std::string{name(walk.from)} + " " + std::string{name(walk.to)} + " " + action;
}

// VOCABULARY 5 with the moments of the services. "!" in front: the stop script runs with `force` only.
const std::vector<Walk> walks{
    {wait, alone, {"transition", "PREPARE", "start_both", "start_prim", "start_sec", "OPEN"}},
    {wait, prim, {"transition", "PREPARE", "start_both", "start_prim", "OPEN"}},
    {wait, second, {"transition", "start_both", "start_second", "start_sec"}},
    {alone, prim, {"stop_sec", "transition"}},
    {prim, alone, {"transition", "start_sec"}},
    {second, alone, {"stop_second", "transition", "PREPARE", "start_prim", "OPEN"}},
    {alone, second, {"CLOSE", "stop_prim", "transition", "RELEASE", "start_second"}},
    {prim, second, {"CLOSE", "stop_prim", "transition", "RELEASE", "start_second", "start_sec"}},
    {second, prim, {"stop_sec", "stop_second", "transition", "PREPARE", "start_prim", "OPEN"}},
    {prim, wait, {"CLOSE at once", "!stop_prim", "!stop_both", "transition", "RELEASE at once"}},
    {alone, wait, {"CLOSE at once", "!stop_sec", "!stop_prim", "!stop_both", "transition", "RELEASE at once"}},
    {second, wait, {"stop_sec", "stop_second", "stop_both", "transition"}},
};

std::vector<std::string> expected(const Walk& walk, const char* action) {
    std::vector<std::string> lines;
    for (const std::string& step : walk.trace) {
        const bool moment = std::isupper(static_cast<unsigned char>(step.front())) != 0;
        if (moment) {
            lines.push_back(step);
        } else if (step.front() == '!') {
            lines.push_back(shown(step.substr(1) + " force", walk, action));
        } else {
            lines.push_back(shown(step, walk, action));
            if (step.starts_with("stop_")) {
                lines.push_back(shown(step + " force", walk, action));
            }
        }
    }
    return lines;
}

TEST(Mirror, ARoleWalksItsRowAndEndsReady) {
    for (const Walk& walk : walks) {
        Mirror stage(walk.from);
        stage.send(role(walk.to, "why"));
        const char* action = walk.to == wait ? "stopwait" : "start";
        EXPECT_THAT(stage.trace, ElementsAreArray(expected(walk, action))) << name(walk.from) << " " << name(walk.to);
        EXPECT_EQ(stage.states.back(),
                  std::string{name(walk.to)} + (walk.to == wait ? " NotReady" : " Ready") + ": why");
        std::string verb{name(walk.to)};
        std::ranges::transform(verb, verb.begin(), [](unsigned char c) { return std::tolower(c); });
        EXPECT_THAT(stage.logs, ElementsAre("Action " + verb + " called by why"));
    }
}

TEST(Mirror, StopLeavesEachRoleByItsRow) {
    for (const Walk& walk : walks) {
        if (walk.to != wait) {
            continue;
        }
        Mirror stage(walk.from);
        stage.send(stop_by("administrator"));
        Walk nice = walk;
        for (std::string& step : nice.trace) {
            step = step.starts_with("!") ? step.substr(1) : step.substr(0, step.find(" at once"));
        }
        std::vector<std::string> lines{"choice closed"};
        for (const std::string& line : expected(nice, "stop")) {
            lines.push_back(line);
        }
        for (const char* line :
             {"stop_sec force WAIT STOP stop", "stop_prim force WAIT STOP stop", "stop_second force WAIT STOP stop",
              "stop_both force WAIT STOP stop", "RETIRE", "poststop WAIT STOP stop", "transition WAIT STOP stop"}) {
            lines.emplace_back(line);
        }
        EXPECT_THAT(stage.trace, ElementsAreArray(lines)) << name(walk.from);
        EXPECT_EQ(stage.finished, false);
    }
}

TEST(Mirror, RestartStaysInItsRole) {
    const std::vector<Walk> restarts{
        {prim, prim, {"CLOSE restart", "stop_prim", "stop_both", "start_both", "start_prim", "OPEN restart"}},
        {alone,
         alone,
         {"CLOSE restart", "stop_sec", "stop_prim", "stop_both", "start_both", "start_prim", "start_sec",
          "OPEN restart"}},
        {second, second, {"stop_sec", "stop_second", "stop_both", "start_both", "start_second", "start_sec"}},
    };
    for (const Walk& walk : restarts) {
        Mirror stage(walk.from);
        stage.send(Restart{"checker"});
        EXPECT_THAT(stage.trace, ElementsAreArray(expected(walk, "restart"))) << name(walk.from);
        EXPECT_EQ(stage.states.back(), std::string{name(walk.from)} + " Ready: heart");
    }
}

TEST(Mirror, ClassesAreArmedAsTheStateSays) {
    const std::map<State, std::uint32_t> armed{{wait, armed_pre},
                                               {alone, armed_pre | armed_both | armed_prim | armed_sec},
                                               {prim, armed_pre | armed_both | armed_prim},
                                               {second, armed_pre | armed_both | armed_second | armed_sec}};
    for (const Walk& walk : walks) {
        Mirror stage(walk.from);
        stage.send(role(walk.to));
        ASSERT_FALSE(stage.arming.empty());
        const std::string last = stage.arming.back();
        EXPECT_EQ(last.substr(last.rfind(' ') + 1), std::to_string(armed.at(walk.to)))
            << name(walk.from) << " " << name(walk.to) << ": " << last;
    }
}

TEST(Mirror, TheSameStateAgainChangesWhatIsShownOnly) {
    Mirror stage(second);
    stage.send(role(second, "resync 12 %", true));
    EXPECT_EQ(stage.states.back(), "SECOND Transient: resync 12 %");
    stage.send(role(second, "uptodate"));
    EXPECT_EQ(stage.states.back(), "SECOND Ready: uptodate");
    EXPECT_THAT(stage.trace, IsEmpty());
    EXPECT_THAT(stage.logs, IsEmpty());
}

TEST(Mirror, PrimAndAloneStayReadyBetweenThem) { // a balancer must not see a node that serves as gone
    Mirror stage(alone);
    stage.send(role(prim));
    stage.send(role(alone));
    EXPECT_THAT(stage.states, ElementsAre("PRIM Ready: heart", "ALONE Ready: heart"));
}

TEST(Mirror, ASwapShowsWhatServesAndWhatDoesNot) {
    Mirror from(prim);
    from.send(role(second, "swap"));
    EXPECT_THAT(from.states, ElementsAre("PRIM Transient: swap", "SECOND Transient: swap", "SECOND Ready: swap"));
    Mirror to(second);
    to.send(role(prim, "swap"));
    EXPECT_THAT(to.states, ElementsAre("PRIM Transient: swap", "PRIM Ready: swap"));
}

TEST(Mirror, ANewRoleIsFollowedAfterTheRow) {
    Mirror stage;
    stage.hold = "start_both";
    stage.send(role(alone));
    stage.send(role(prim));
    EXPECT_EQ(stage.cancels, 0);
    stage.hold.clear();
    stage.release();
    EXPECT_THAT(stage.trace, Contains("OPEN"));
    EXPECT_THAT(stage.trace, Contains("stop_sec ALONE PRIM start"));
    EXPECT_EQ(stage.states.back(), "PRIM Ready: heart");
    EXPECT_THAT(stage.states, Not(Contains("ALONE Ready: heart")));

    Mirror late(second);
    late.hold = "stop_sec";
    late.send(role(prim));
    late.send(role(alone)); // the peer died meanwhile: the row ends in PRIM first
    late.hold.clear();
    late.release();
    EXPECT_THAT(late.trace, Contains("start_prim SECOND PRIM start"));
    EXPECT_EQ(late.trace.back(), "start_sec PRIM ALONE start");
    EXPECT_EQ(late.states.back(), "ALONE Ready: heart");
}

TEST(Mirror, WaitBreaksOffAStartAndLeavesAtOnce) {
    for (const char* held : {"start_both", "start_prim", "OPEN"}) {
        Mirror stage;
        stage.hold = held;
        stage.send(role(prim));
        stage.send(role(wait, "fenced"));
        EXPECT_EQ(stage.cancels, stage.hold == "OPEN" ? 0 : 1) << held;
        EXPECT_THAT(stage.trace, Not(Contains("start_sec WAIT ALONE start")));
        EXPECT_THAT(stage.trace, Contains("CLOSE at once"));
        EXPECT_THAT(stage.trace, Contains("stop_prim force PRIM WAIT stopwait"));
        EXPECT_THAT(stage.trace, Not(Contains("stop_prim PRIM WAIT stopwait")));
        EXPECT_THAT(stage.trace, Contains("RELEASE at once"));
        EXPECT_EQ(stage.states.back(), "WAIT NotReady: fenced");
        stage.trace.clear();
        stage.hold.clear();
        stage.send(role(prim)); // the hurry is over with the way down
        EXPECT_THAT(stage.trace, Contains("start_prim WAIT PRIM start"));
        stage.send(stop_by("x"));
        EXPECT_THAT(stage.trace, Contains("stop_prim PRIM WAIT stop"));
    }
}

TEST(Mirror, ARoleThatDoesNotServeBreaksOffAStartThatWould) {
    Mirror stage;
    stage.hold = "start_prim";
    stage.send(role(alone));
    stage.send(role(second, "the other one serves"));
    EXPECT_EQ(stage.cancels, 1);
    EXPECT_THAT(stage.trace, Contains("stop_both ALONE WAIT stopwait"));
    EXPECT_EQ(stage.trace.back(), "start_sec WAIT SECOND start");
    EXPECT_EQ(stage.states.back(), "SECOND Ready: the other one serves");

    Mirror not_serving;
    not_serving.hold = "start_second";
    not_serving.send(role(second));
    not_serving.send(role(prim));
    EXPECT_EQ(not_serving.cancels, 0);
}

TEST(Mirror, WhatARowStopsIsStoppedBeforeItIsBrokenOff) {
    Mirror promoted(second); // stop_second is in no way down of ALONE
    promoted.hold = "stop_second";
    promoted.send(role(alone));
    promoted.send(role(wait, "fenced"));
    EXPECT_EQ(promoted.trace,
              (std::vector<std::string>{"stop_second SECOND ALONE start", "stop_second force SECOND ALONE start"}))
        << "the nice one gives way to the forced one";
    promoted.hold.clear();
    promoted.release();
    EXPECT_THAT(promoted.trace, Not(Contains("PREPARE")));
    EXPECT_THAT(promoted.trace, Not(Contains("start_prim SECOND ALONE start")));
    EXPECT_EQ(promoted.trace[2], "CLOSE at once");
    EXPECT_THAT(promoted.trace, Contains("stop_both force ALONE WAIT stopwait"));
    EXPECT_EQ(promoted.states.back(), "WAIT NotReady: fenced");

    Mirror swapped(prim); // neither is RELEASE in that of SECOND
    swapped.hold = "CLOSE";
    swapped.send(role(second, "swap"));
    swapped.send(role(wait, "fenced"));
    swapped.hold.clear();
    swapped.release();
    EXPECT_THAT(swapped.trace,
                ElementsAre("CLOSE", "CLOSE at once", "stop_prim force PRIM SECOND start",
                            "transition PRIM SECOND start", "RELEASE at once", "stop_sec force SECOND WAIT stopwait",
                            "stop_second force SECOND WAIT stopwait", "stop_both force SECOND WAIT stopwait",
                            "transition SECOND WAIT stopwait"));
}

TEST(Mirror, StopDuringASwapLeavesNothingBehind) {
    Mirror stage(prim);
    stage.hold = "stop_prim";
    stage.send(role(second, "swap"));
    stage.send(stop_by("administrator"));
    EXPECT_EQ(stage.cancels, 0) << "it stops already";
    stage.hold.clear();
    stage.release();
    EXPECT_THAT(stage.trace, Contains("RELEASE"));
    EXPECT_THAT(stage.trace, Not(Contains("start_second PRIM SECOND stop")));
    EXPECT_EQ(stage.finished, false);

    Mirror hurried(prim);
    hurried.hold = "stop_prim";
    hurried.send(role(second, "swap"));
    hurried.send(stop_by("administrator", true));
    EXPECT_EQ(hurried.cancels, 1);
    hurried.hold.clear();
    hurried.release();
    EXPECT_EQ(hurried.finished, false);
}

TEST(Mirror, AStartScriptThatFailsInARowStopsTheModule) {
    Mirror stage(second);
    stage.failing["start_prim"] = "start_prim: exit 3";
    stage.send(role(alone));
    EXPECT_THAT(stage.trace, Contains("stop_both ALONE WAIT stop"));
    EXPECT_THAT(stage.trace, Contains("RELEASE"));
    EXPECT_THAT(stage.trace, Contains("RETIRE"));
    EXPECT_EQ(stage.states.back(), "STOP NotReady: start_prim: exit 3");
}

TEST(Mirror, ABlockKeepsRolesAwayUntilItEnds) {
    Stage stage(std::nullopt);
    stage.send(Block{.reason = "no view yet", .expected = true});
    stage.send(Start{"x"});
    EXPECT_EQ(stage.states.back(), "WAIT Transient: no view yet");
    EXPECT_THAT(stage.trace, Not(Contains("choice open")));
    stage.send(role(prim));
    EXPECT_EQ(stage.machine.ignored(), 1U);
    stage.send(Block{});
    EXPECT_EQ(stage.trace.back(), "choice open");
    EXPECT_EQ(stage.states.back(), "WAIT Transient: no role yet");
    stage.send(role(wait, "handshake", true));
    stage.send(Block{.reason = "interface_failure", .expected = false, .start = true});
    EXPECT_EQ(stage.trace.back(), "choice closed");
    EXPECT_EQ(stage.states.back(), "WAIT NotReady: interface_failure");
    stage.send(Block{});
    EXPECT_EQ(stage.trace.back(), "choice open");
    EXPECT_EQ(stage.states.back(), "WAIT Transient: no role yet");
}

TEST(Mirror, ABlockOfTheBusIsShownInARole) { // what follows from it is for the service to say: it has the view too
    Mirror stage(prim);
    stage.send(Block{.reason = "in no view", .expected = false});
    EXPECT_EQ(stage.states.back(), "PRIM Transient: in no view");
    EXPECT_THAT(stage.trace, IsEmpty());
    stage.send(role(alone));
    EXPECT_EQ(stage.states.back(), "ALONE Transient: in no view");
    stage.send(Block{});
    EXPECT_EQ(stage.states.back(), "ALONE Ready: heart");
}

TEST(Mirror, AStopwaitTakesTheChoiceAwayAndGivesItBack) {
    Mirror stage(prim);
    stage.send(Block{.reason = "interface_failure", .expected = false, .start = true});
    EXPECT_THAT(stage.trace, IsEmpty());
    stage.send(Stop{.then = Stop::Then::wait, .by = "interface_failure", .at_once = false});
    EXPECT_EQ(stage.trace.front(), "choice closed");
    EXPECT_THAT(stage.trace, Contains("stop_prim PRIM WAIT stopwait"));
    EXPECT_THAT(stage.trace, Not(Contains("choice open")));
    EXPECT_EQ(stage.states.back(), "WAIT NotReady: interface_failure");
    stage.send(Block{});
    EXPECT_EQ(stage.trace.back(), "choice open");
    EXPECT_EQ(stage.states.back(), "WAIT Transient: no role yet");

    Mirror at_rest(second); // the rule did not hold any more when WAIT was reached: closed and opened all the same
    at_rest.send(Stop{.then = Stop::Then::wait, .by = "rule", .at_once = false});
    EXPECT_EQ(at_rest.trace.front(), "choice closed");
    EXPECT_EQ(at_rest.trace.back(), "choice open");
}

TEST(Mirror, SaysWhatIsPossible) {
    const auto able = [](const Stage& stage) {
        const Abilities now = stage.machine.able();
        return std::string(now.stop ? "stop " : "") + (now.stopstart ? "stopstart " : "") + (now.wait ? "wait " : "") +
               (now.swap ? "swap " : "") + (now.restart ? "restart " : "");
    };
    EXPECT_EQ(able(Mirror(wait)), "stop stopstart ");
    EXPECT_EQ(able(Mirror(alone)), "stop stopstart wait restart ");
    EXPECT_EQ(able(Mirror(prim)), "stop stopstart wait swap restart ");
    EXPECT_EQ(able(Mirror(second)), "stop stopstart wait swap restart ");
}

TEST(Mirror, AFarmHasNoRoles) {
    Stage stage;
    stage.send(Start{"x"});
    stage.send(role(prim));
    EXPECT_EQ(stage.machine.ignored(), 1U);
    EXPECT_EQ(stage.states.back(), "UP Ready");
}

} // namespace
} // namespace stead::automaton
