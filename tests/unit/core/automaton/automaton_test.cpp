// SPDX-License-Identifier: Apache-2.0
#include "stage.hpp"

namespace stead::automaton {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const std::vector<std::string> way_up{
    "transition STOP WAIT start", "prestart STOP WAIT start", "transition WAIT UP start", "PREPARE",
    "start_both WAIT UP start",   "start_prim WAIT UP start", "start_sec WAIT UP start",  "OPEN"};
const std::vector<std::string> way_to_stop{"stop_sec force WAIT STOP stop",
                                           "stop_prim force WAIT STOP stop",
                                           "stop_second force WAIT STOP stop",
                                           "stop_both force WAIT STOP stop",
                                           "RETIRE",
                                           "poststop WAIT STOP stop",
                                           "transition WAIT STOP stop"};

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

TEST(Automaton, StartRunsTheClassicScriptsAndOpensLast) {
    Stage stage;
    stage.send(Start{"administrator"});
    EXPECT_EQ(stage.trace, way_up);
    EXPECT_THAT(stage.states, ElementsAre("WAIT Transient", "UP Transient", "UP Ready"));
    EXPECT_THAT(stage.logs, Contains("Action start called by administrator"));
}

TEST(Automaton, StopClosesFirstAndRunsEachStopScriptTwice) {
    Stage stage;
    stage.send(Start{"x"});
    (void)stage.take_trace();
    stage.send(Stop{.then = Stop::Then::stay, .by = "administrator", .at_once = false});
    const std::vector<std::string> down{"CLOSE",
                                        "stop_sec UP WAIT stop",
                                        "stop_sec force UP WAIT stop",
                                        "stop_prim UP WAIT stop",
                                        "stop_prim force UP WAIT stop",
                                        "stop_both UP WAIT stop",
                                        "stop_both force UP WAIT stop",
                                        "transition UP WAIT stop",
                                        "RELEASE"};
    EXPECT_EQ(stage.trace, down + way_to_stop);
    EXPECT_EQ(stage.states.back(), "STOP NotReady");
    EXPECT_EQ(stage.finished, false);
}

TEST(Automaton, ForcestopDrainsNothingAndSkipsNiceScripts) {
    Stage stage;
    stage.send(Start{"x"});
    (void)stage.take_trace();
    stage.send(Stop{.then = Stop::Then::stay, .by = "administrator", .at_once = true});
    EXPECT_EQ(stage.trace.front(), "CLOSE at once");
    EXPECT_THAT(stage.trace, Not(Contains("stop_both UP WAIT stop")));
    EXPECT_THAT(stage.trace, Contains("stop_both force UP WAIT stop"));
    EXPECT_EQ(stage.finished, false);
}

TEST(Automaton, ForcestopDuringAStopHurriesIt) {
    Stage stage;
    stage.send(Start{"x"});
    (void)stage.take_trace();
    stage.hold = "CLOSE";
    stage.send(Stop{.then = Stop::Then::stay, .by = "administrator", .at_once = false});
    EXPECT_THAT(stage.trace, ElementsAre("CLOSE"));
    stage.hold.clear();
    stage.send(Stop{.then = Stop::Then::stay, .by = "administrator", .at_once = true});
    EXPECT_THAT(stage.trace, Contains("CLOSE at once"));
    EXPECT_THAT(stage.trace, Not(Contains("stop_both UP WAIT stop")));
    EXPECT_EQ(stage.finished, false);
}

TEST(Automaton, ForcestopCancelsAHangingNiceScriptButNotTheForcedOne) {
    Stage stage;
    stage.send(Start{"x"});
    stage.hold = "stop_both";
    stage.send(Stop{.then = Stop::Then::stay, .by = "a", .at_once = false});
    ASSERT_EQ(stage.trace.back(), "stop_both UP WAIT stop");
    stage.send(Stop{.then = Stop::Then::stay, .by = "a", .at_once = true});
    EXPECT_EQ(stage.cancels, 1);
    EXPECT_EQ(stage.trace.back(), "stop_both force UP WAIT stop"); // held
    stage.hold.clear();
    stage.release();
    EXPECT_EQ(stage.finished, false);
}

TEST(Automaton, AStartScriptThatFailsStopsTheModuleWithTheReason) {
    Stage stage;
    stage.failing["start_both"] = "start_both: exit 3";
    stage.send(Start{"x"});
    EXPECT_THAT(stage.trace, Not(Contains("OPEN")));
    EXPECT_THAT(stage.trace, Not(Contains("start_prim WAIT UP start")));
    EXPECT_THAT(stage.trace, Contains("CLOSE at once")); // nothing to drain
    EXPECT_THAT(stage.trace, Contains("stop_both UP WAIT stop"));
    EXPECT_THAT(stage.trace, Contains("RELEASE"));
    EXPECT_EQ(stage.states.back(), "STOP NotReady: start_both: exit 3");
    EXPECT_THAT(stage.logs, Contains("Action stop called by start_both: exit 3"));
    EXPECT_EQ(stage.finished, false);
}

TEST(Automaton, APrestartThatFailsStopsBeforeAnythingStarted) {
    Stage stage;
    stage.failing["prestart"] = "prestart: timed out after 300 s";
    stage.send(Start{"x"});
    const std::vector<std::string> begun{"transition STOP WAIT start", "prestart STOP WAIT start"};
    EXPECT_EQ(stage.trace, begun + way_to_stop);
    EXPECT_EQ(stage.states.back(), "STOP NotReady: prestart: timed out after 300 s");
}

TEST(Automaton, AServiceThatRefusesKeepsTrafficOut) {
    for (const char* moment : {"PREPARE", "OPEN"}) {
        Stage stage;
        stage.failing[moment] = "192.0.2.50 is taken by 02:00:00:00:00:01";
        stage.send(Start{"x"});
        EXPECT_EQ(stage.states.back(), "STOP NotReady: 192.0.2.50 is taken by 02:00:00:00:00:01") << moment;
        EXPECT_THAT(stage.trace, Contains("RELEASE")) << moment;
        EXPECT_THAT(stage.states, Not(Contains("UP Ready"))) << moment;
    }
}

TEST(Automaton, FailuresOnTheWayDownAreWarnings) {
    Stage stage;
    stage.send(Start{"x"});
    for (const char* name : {"stop_both", "poststop", "transition", "CLOSE", "RELEASE"}) {
        stage.failing[name] = std::string{name} + " failed";
    }
    stage.send(Stop{.then = Stop::Then::stay, .by = "x", .at_once = false});
    EXPECT_EQ(stage.finished, false);
    EXPECT_THAT(stage.logs, Contains("stop_both failed"));
    EXPECT_THAT(stage.logs, Contains("CLOSE failed"));
}

TEST(Automaton, StopDuringAHangingStartCancelsTheScript) {
    Stage stage;
    stage.hold = "start_both";
    stage.send(Start{"x"});
    stage.send(Stop{.then = Stop::Then::stay, .by = "administrator", .at_once = false});
    EXPECT_EQ(stage.cancels, 1);
    EXPECT_THAT(stage.trace, Not(Contains("start_prim WAIT UP start")));
    EXPECT_THAT(stage.trace, Contains("stop_both force UP WAIT stop"));
    EXPECT_EQ(stage.finished, false);
    EXPECT_EQ(stage.states.back(), "STOP NotReady");
}

TEST(Automaton, StopstartEndsWithTheWishToStartAgainAndAPersonsStopBeatsIt) {
    Stage stage;
    stage.send(Start{"x"});
    stage.send(Stop{.then = Stop::Then::start_again, .by = "errd", .at_once = false});
    EXPECT_EQ(stage.finished, true);
    EXPECT_THAT(stage.trace, Contains("stop_both UP WAIT stopstart"));

    Stage other;
    other.send(Start{"x"});
    other.hold = "CLOSE";
    other.send(Stop{.then = Stop::Then::start_again, .by = "errd", .at_once = false});
    other.send(Stop{.then = Stop::Then::stay, .by = "administrator", .at_once = false});
    other.hold.clear();
    other.release();
    EXPECT_EQ(other.finished, false);
}

TEST(Automaton, RestartClosesAndReopensWithoutLeavingUp) {
    Stage stage;
    stage.send(Start{"x"});
    (void)stage.take_trace();
    stage.states.clear();
    stage.send(Restart{"checker"});
    EXPECT_THAT(stage.trace,
                ElementsAre("CLOSE restart", "stop_sec UP UP restart", "stop_sec force UP UP restart",
                            "stop_prim UP UP restart", "stop_prim force UP UP restart", "stop_both UP UP restart",
                            "stop_both force UP UP restart", "start_both UP UP restart", "start_prim UP UP restart",
                            "start_sec UP UP restart", "OPEN restart"));
    EXPECT_THAT(stage.states, ElementsAre("UP Transient", "UP Ready"));
}

TEST(Automaton, WordsOfARestartAreForItsScriptsOnly) {
    Stage stage;
    stage.send(Start{"x"});
    (void)stage.take_trace();
    stage.send(Restart{"errd", {"-Services", "web,php"}});
    EXPECT_THAT(stage.trace, Contains("stop_both force UP UP restart -Services web,php"));
    EXPECT_THAT(stage.trace, Contains("start_both UP UP restart -Services web,php"));
    (void)stage.take_trace();
    stage.send(Restart{"errd"});
    EXPECT_THAT(stage.trace, Contains("start_both UP UP restart"));
    stage.send(Restart{"errd", {"-Services", "web"}});
    (void)stage.take_trace();
    stage.send(Stop{.then = Stop::Then::start_again, .by = "x", .at_once = false});
    EXPECT_THAT(stage.trace, Not(Contains(HasSubstr("-Services"))));
}

TEST(Automaton, AStopThatNobodyWantedTellsWhy) {
    Stage stage;
    stage.send(Start{"x"});
    stage.send(Stop{.then = Stop::Then::stay, .by = "maxloop", .at_once = false, .reason = "stopped by maxloop: t"});
    EXPECT_EQ(stage.states.back(), "STOP NotReady: stopped by maxloop: t");
    Stage asked;
    asked.send(Start{"x"});
    asked.send(Stop{.then = Stop::Then::stay, .by = "root", .at_once = false});
    EXPECT_EQ(asked.states.back(), "STOP NotReady");
}

TEST(Automaton, RestartWhileStartingIsIgnoredAndCounted) {
    Stage stage;
    stage.hold = "start_both";
    stage.send(Start{"x"});
    stage.send(Restart{"checker"});
    EXPECT_EQ(stage.machine.ignored(), 1U);
    EXPECT_THAT(stage.logs.back(), HasSubstr("restart ignored: the module is UP Transient"));
}

TEST(Automaton, ABlockKeepsItWaitingAndItsEndWakesIt) {
    Stage stage;
    stage.send(Block{.reason = "no view yet", .expected = true});
    stage.send(Start{"x"});
    EXPECT_EQ(stage.states.back(), "WAIT Transient: no view yet");
    stage.send(Block{.reason = "other rules on node2", .expected = false});
    EXPECT_EQ(stage.states.back(), "WAIT NotReady: other rules on node2");
    stage.send(Block{});
    EXPECT_EQ(stage.states.back(), "UP Ready");
    EXPECT_EQ(stage.trace, way_up);
}

TEST(Automaton, WaitGoesDownAndComesBackWhenTheBlockEnds) {
    Stage stage;
    stage.send(Start{"x"});
    (void)stage.take_trace();
    stage.send(Block{.reason = "interface_failure", .expected = false});
    EXPECT_EQ(stage.states.back(), "UP Transient: interface_failure");
    EXPECT_THAT(stage.trace, IsEmpty());
    stage.send(Stop{.then = Stop::Then::wait, .by = "interface_failure", .at_once = false});
    EXPECT_EQ(stage.states.back(), "WAIT NotReady: interface_failure");
    EXPECT_THAT(stage.trace, Contains("stop_both UP WAIT stopwait"));
    stage.send(Block{});
    EXPECT_EQ(stage.states.back(), "UP Ready");
    EXPECT_FALSE(stage.finished);
}

TEST(Automaton, EveryStateAnswersStop) {
    Stage waiting;
    waiting.send(Block{.reason = "no view yet", .expected = true});
    waiting.send(Start{"x"});
    waiting.send(Stop{.then = Stop::Then::stay, .by = "x", .at_once = false});
    EXPECT_EQ(waiting.finished, false);
    EXPECT_EQ(waiting.states.back(), "STOP NotReady");

    Stage stopped;
    stopped.send(Stop{.then = Stop::Then::stay, .by = "x", .at_once = false});
    EXPECT_EQ(stopped.machine.ignored(), 1U);
    EXPECT_FALSE(stopped.finished);
}

/// A row without the moments of the services: "stop_sec transition"; force_* as "force:sec".
std::string scripts_of(State from, State to) {
    const Row* row = find_row(from, to);
    std::string text;
    for (const Step step : row != nullptr ? row->steps : std::array<Step, 12>{}) {
        if (step != Step::none && !is_moment(step)) {
            text +=
                (text.empty() ? "" : " ") + (is_force(step) ? "force:" : std::string{}) + std::string{hook_name(step)};
        }
    }
    return text;
}

TEST(Automaton, EveryRowHasTheClassicScripts) {
    constexpr State stop = State::stop, wait = State::wait, alone = State::alone, prim = State::prim,
                    second = State::second, up = State::up;
    const std::map<std::pair<State, State>, std::string> classic{
        {{stop, wait}, "transition prestart"},
        {{wait, up}, "transition start_both start_prim start_sec"},
        {{wait, alone}, "transition start_both start_prim start_sec"},
        {{wait, prim}, "transition start_both start_prim"},
        {{wait, second}, "transition start_both start_second start_sec"},
        {{alone, prim}, "stop_sec transition"},
        {{prim, alone}, "transition start_sec"},
        {{second, alone}, "stop_second transition start_prim"},
        {{alone, second}, "stop_prim transition start_second"},
        {{prim, second}, "stop_prim transition start_second start_sec"},
        {{second, prim}, "stop_sec stop_second transition start_prim"},
        {{prim, prim}, "stop_prim stop_both start_both start_prim"},
        {{alone, alone}, "stop_sec stop_prim stop_both start_both start_prim start_sec"},
        {{up, up}, "stop_sec stop_prim stop_both start_both start_prim start_sec"},
        {{second, second}, "stop_sec stop_second stop_both start_both start_second start_sec"},
        {{prim, wait}, "stop_prim stop_both transition"},
        {{alone, wait}, "stop_sec stop_prim stop_both transition"},
        {{up, wait}, "stop_sec stop_prim stop_both transition"},
        {{second, wait}, "stop_sec stop_second stop_both transition"},
        {{wait, stop}, "force:stop_sec force:stop_prim force:stop_second force:stop_both poststop transition"},
    };
    for (const State from : {stop, wait, alone, prim, second, up}) {
        for (const State to : {stop, wait, alone, prim, second, up}) {
            const auto row = classic.find({from, to});
            EXPECT_EQ(scripts_of(from, to), row == classic.end() ? "" : row->second) << name(from) << " " << name(to);
        }
    }
}

TEST(Automaton, SaysWhatIsPossible) {
    const auto able = [](const Stage& stage) {
        const Abilities now = stage.machine.able();
        return std::string(now.stop ? "stop " : "") + (now.stopstart ? "stopstart " : "") + (now.wait ? "wait " : "") +
               (now.restart ? "restart " : "");
    };
    Stage stage;
    EXPECT_EQ(able(stage), "");
    stage.send(Block{.reason = "rule", .expected = false, .start = true});
    stage.hold = "prestart";
    stage.send(Start{"x"});
    EXPECT_EQ(able(stage), "stop stopstart ");
    stage.hold = "start_both";
    stage.release();
    EXPECT_TRUE(stage.machine.held());
    EXPECT_EQ(stage.states.back(), "WAIT NotReady: rule");
    EXPECT_EQ(able(stage), "stop stopstart ");
    stage.send(Block{});
    EXPECT_EQ(able(stage), "stop stopstart wait ");
    stage.hold = "stop_both";
    stage.release();
    EXPECT_EQ(able(stage), "stop stopstart wait restart ");
    stage.send(Block{.reason = "rule", .expected = false, .start = true});
    EXPECT_EQ(stage.states.back(), "UP Ready"); // it keeps a module in WAIT and does not take it there
    stage.send(Stop{.then = Stop::Then::wait, .by = "rule", .at_once = false});
    EXPECT_EQ(able(stage), "stop ");
    stage.hold.clear();
    stage.release();
    EXPECT_EQ(stage.states.back(), "WAIT NotReady: rule");
}

TEST(Automaton, CheckersAreArmedAfterTheirScriptsAndDisarmedBefore) {
    Stage stage;
    stage.send(Start{"x"});
    EXPECT_THAT(stage.arming, ElementsAre("prestart STOP WAIT start -> 1", "start_both WAIT UP start -> 3",
                                          "start_prim WAIT UP start -> 7", "start_sec WAIT UP start -> 23"));
    stage.arming.clear();
    stage.send(Restart{"checker"});
    EXPECT_THAT(stage.arming, ElementsAre("CLOSE restart -> 7", "stop_sec force UP UP restart -> 3",
                                          "stop_prim force UP UP restart -> 1", "start_both UP UP restart -> 3",
                                          "start_prim UP UP restart -> 7", "start_sec UP UP restart -> 23"));
    stage.arming.clear();
    stage.send(Block{.reason = "interface_failure", .expected = false});
    stage.send(Stop{.then = Stop::Then::wait, .by = "interface_failure", .at_once = false});
    EXPECT_THAT(stage.arming, ElementsAre("CLOSE -> 7", "stop_sec force UP WAIT stopwait -> 3",
                                          "stop_prim force UP WAIT stopwait -> 1")); // pre goes on probing
    stage.arming.clear();
    stage.send(Stop{.then = Stop::Then::stay, .by = "x", .at_once = false});
    EXPECT_THAT(stage.arming, ElementsAre("RETIRE -> 0"));
}

TEST(Automaton, AScriptThatFailsArmsNothing) {
    Stage stage;
    stage.failing["start_prim"] = "start_prim: exit 1";
    stage.send(Start{"x"});
    EXPECT_THAT(stage.arming, ElementsAre("prestart STOP WAIT start -> 1", "start_both WAIT UP start -> 3",
                                          "stop_prim force UP WAIT stop -> 1", "RETIRE -> 0"));
}

TEST(Automaton, StateCodesTravel) {
    for (const State state : {State::stop, State::wait, State::up}) {
        for (const Qualifier qualifier : {Qualifier::not_ready, Qualifier::transient, Qualifier::ready}) {
            EXPECT_EQ(decode_state(encode(state, qualifier)), state);
            EXPECT_EQ(decode_qualifier(encode(state, qualifier)), qualifier);
        }
    }
    EXPECT_EQ(decode_state(0xffff), State::stop);
    EXPECT_EQ(decode_qualifier(0xffff), Qualifier::not_ready);
}

} // namespace
} // namespace stead::automaton
