// SPDX-License-Identifier: Apache-2.0
#include <stead/core/rule_engine.hpp>

#include <gmock/gmock.h>

#include <deque>

namespace stead::rules {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr Possible everything{.stop = true, .stopstart = true, .wait = true, .swap = true, .restart = true};
constexpr Possible in_wait{.stop = true, .stopstart = true};
constexpr Possible starting{.stop = true, .stopstart = true, .wait = true};

std::vector<Rule> compile(std::string_view text, nanoseconds hold = {}) {
    Parsed parsed = parse_rules(text, {}, {.remote = true, .swap = true}, hold);
    for (const Problem& problem : parsed.problems) {
        ADD_FAILURE() << problem.text;
    }
    return std::move(parsed.rules);
}

/// An engine in virtual time. Each change and each passing of time returns what fired: "restart web: tcp.a=down".
class Bench {
public:
    explicit Bench(std::string_view rules, nanoseconds hold = {}, const Possible& possible = everything) {
        engine.set_rules(compile(rules, hold));
        engine.set_possible(possible);
        (void)step();
    }
    std::vector<std::string> put(std::string_view resource, Verdict verdict) {
        const bool remote = resource.starts_with("remote.");
        engine.put(remote ? Side::remote : Side::local, remote ? resource.substr(7) : resource, verdict);
        return step();
    }
    std::vector<std::string> down(std::string_view resource) { return put(resource, Verdict::down); }
    std::vector<std::string> up(std::string_view resource) { return put(resource, Verdict::up); }
    std::vector<std::string> now_possible(const Possible& possible) {
        engine.set_possible(possible);
        return step();
    }
    std::vector<std::string> acting(bool on) {
        engine.set_acting(on);
        return step();
    }
    /// As a driver would: one timer, for the deadline that the engine asks for.
    std::vector<std::string> run(nanoseconds span) {
        std::vector<std::string> all;
        const Instant end = now + span;
        while (engine.next_deadline() <= end) {
            now = std::max(now, engine.next_deadline());
            const auto fired = step();
            all.insert(all.end(), fired.begin(), fired.end());
            if (++steps_ > 1000) {
                ADD_FAILURE() << "the engine asks for a timer again and again";
                break;
            }
        }
        now = end;
        return all;
    }
    std::vector<std::string> step() {
        std::vector<std::string> all;
        for (const Firing& one : engine.step(now)) {
            all.push_back((one.acts ? "" : "(off) ") + std::string{name(one.action)} + " " + one.label + ": " +
                          one.because + (one.covered_by.empty() ? "" : "; covered by " + one.covered_by));
        }
        return all;
    }
    std::string hold() const {
        const auto hold = engine.hold();
        return !hold ? "" : (hold->init ? "init" : hold->label) + ": " + hold->because;
    }

    Engine engine;
    Instant now{seconds{1000}};

private:
    int steps_{};
};

TEST(RuleEngine, FiresOnceEachTimeTheExpressionBecomesTrue) {
    Bench bench("web: if (tcp.a == down) then restart();");
    EXPECT_THAT(bench.up("tcp.a"), IsEmpty());
    EXPECT_THAT(bench.down("tcp.a"), ElementsAre("restart web: tcp.a=down"));
    EXPECT_THAT(bench.down("tcp.a"), IsEmpty());
    EXPECT_THAT(bench.run(seconds{3600}), IsEmpty());
    EXPECT_THAT(bench.put("tcp.a", Verdict::init), IsEmpty());
    EXPECT_THAT(bench.down("tcp.a"), ElementsAre("restart web: tcp.a=down"));
}

TEST(RuleEngine, HoldTimeMeansWithoutABreak) {
    Bench bench("web: if (tcp.a == down) then restart();", seconds{15});
    EXPECT_THAT(bench.down("tcp.a"), IsEmpty());
    EXPECT_THAT(bench.run(milliseconds{14999}), IsEmpty());
    EXPECT_THAT(bench.up("tcp.a"), IsEmpty());
    EXPECT_EQ(bench.engine.next_deadline(), never);
    EXPECT_THAT(bench.down("tcp.a"), IsEmpty());
    EXPECT_THAT(bench.run(milliseconds{14999}), IsEmpty());
    EXPECT_THAT(bench.run(milliseconds{1}), ElementsAre("restart web: tcp.a=down"));
    EXPECT_THAT(bench.run(seconds{3600}), IsEmpty());
    EXPECT_EQ(bench.engine.next_deadline(), never);
}

TEST(RuleEngine, WhatCannotBeDoneNowIsDoneWhenItCanIfItStillHolds) {
    Bench bench("web: if (tcp.a == down) then restart();", {}, starting);
    EXPECT_THAT(bench.down("tcp.a"), IsEmpty());
    EXPECT_EQ(bench.engine.next_deadline(), never); // it waits for a state, not for time
    EXPECT_THAT(bench.now_possible(everything), ElementsAre("restart web: tcp.a=down"));
    (void)bench.now_possible(starting);
    (void)bench.up("tcp.a");
    EXPECT_THAT(bench.down("tcp.a"), IsEmpty());
    (void)bench.up("tcp.a");
    EXPECT_THAT(bench.now_possible(everything), IsEmpty());
}

TEST(RuleEngine, TheStrongestActionCoversTheOthers) {
    Bench bench("a: if (tcp.x == down) then restart();\nb: if (tcp.x == down) then wait();\n"
                "c: if (tcp.x == down) then stopstart();\nd: if (tcp.x == down) then rfs.uptodate=up;");
    EXPECT_THAT(bench.down("tcp.x"), ElementsAre("stopstart c: tcp.x=down", "wait b: tcp.x=down; covered by c",
                                                 "restart a: tcp.x=down; covered by c", "assign d: tcp.x=down"));
}

TEST(RuleEngine, AssignmentsThatUndoEachOtherEnd) {
    Bench bench("a: if (c.x != up && tcp.go == up) then c.x=up;\nb: if (c.x == up) then c.x=down;");
    auto fired = bench.up("tcp.go");
    int turns = 0;
    for (; !fired.empty() && turns < 1000; ++turns) {
        ASSERT_EQ(fired.size(), 1U);
        fired = bench.put("c.x", fired[0].find(" a:") != std::string::npos ? Verdict::up : Verdict::down);
    }
    EXPECT_LT(turns, 3 * static_cast<int>(Engine::assignments_max)) << "they would go on for ever";
    EXPECT_THAT(bench.run(seconds{60}), IsEmpty());
    Bench slow("b: if (c.x == up) then d.y=down;");
    for (int turn = 0; turn < 100; ++turn) { // what only happens often is no loop
        EXPECT_THAT(slow.up("c.x"), ElementsAre("assign b: c.x=up"));
        EXPECT_THAT(slow.put("c.x", Verdict::down), IsEmpty());
        (void)slow.run(milliseconds{100});
    }
}

TEST(RuleEngine, Wildcards) {
    Bench any("any: if (p.? == down) then stop();");
    EXPECT_THAT(any.up("p.a"), IsEmpty());
    EXPECT_THAT(any.down("p.b"), ElementsAre("stop any: p.b=down"));
    EXPECT_THAT(any.down("p.c"), IsEmpty()); // true before and after

    Bench all("all: if (p.* == down) then stop();");
    EXPECT_THAT(all.up("p.a"), IsEmpty());
    EXPECT_THAT(all.down("p.b"), IsEmpty());
    EXPECT_THAT(all.down("p.a"), ElementsAre("stop all: p.a=down, p.b=down"));

    Bench other("any: if (p.? != up) then stop();\nall: if (p.* != up) then stop();");
    EXPECT_THAT(other.up("p.a"), IsEmpty());
    EXPECT_THAT(other.put("p.b", Verdict::init), ElementsAre("stop any: p.b=init"));
    EXPECT_THAT(other.down("p.a"), ElementsAre("stop all: p.a=down, p.b=init"));
}

TEST(RuleEngine, NoneOfAClassIsNeitherAnyNorAll) {
    for (const char* condition : {"p.? == down", "p.* == down", "p.? != up", "p.* != up"}) {
        Bench bench("r: if (" + std::string{condition} + ") then stop();");
        EXPECT_THAT(bench.step(), IsEmpty()) << condition;
        (void)bench.up("p.a");
        EXPECT_THAT(bench.put("p.a", Verdict::unknown), IsEmpty()) << condition; // gone again
    }
    Bench none("r: if (!(p.? == up)) then stop();");
    EXPECT_THAT(none.acting(false), IsEmpty());
    Bench seen("r: if (!(p.? == up) && q.x == up) then stop();");
    EXPECT_THAT(seen.up("q.x"), ElementsAre("stop r: q.x=up"));
}

TEST(RuleEngine, AbsentIsUnknown) {
    Bench bench("r: if (tcp.x == unknown && q.go == up) then stop();");
    EXPECT_THAT(bench.up("q.go"), ElementsAre("stop r: q.go=up, tcp.x=unknown"));
    EXPECT_EQ(verdict_of("50%"), Verdict::unknown);
    EXPECT_EQ(verdict_of(""), Verdict::unknown);
}

TEST(RuleEngine, LocalAndRemoteAreTwoResources) {
    Bench bench("far: if (remote.tcp.x == down && local.tcp.x == up) then swap();");
    EXPECT_THAT(bench.up("tcp.x"), IsEmpty());
    EXPECT_THAT(bench.down("remote.tcp.x"), ElementsAre("swap far: remote.tcp.x=down, tcp.x=up"));
}

TEST(RuleEngine, ClusterIsAFactOfTheView) {
    Bench bench("lonely: if (!cluster() && q.go == up) then stop();");
    bench.engine.set_cluster(true);
    EXPECT_THAT(bench.up("q.go"), IsEmpty());
    bench.engine.set_cluster(false);
    EXPECT_THAT(bench.step(), ElementsAre("stop lonely: no other node in the view, q.go=up"));
}

TEST(RuleEngine, TheLogNamesOnlyWhatMadeItTrue) {
    Bench bench("r: if ((a.x == down || b.x == down) && !(c.? == up)) then stop();");
    (void)bench.down("c.one");
    EXPECT_THAT(bench.down("b.x"), ElementsAre("stop r: b.x=down, c.one=down"));
    Bench many("m: if (p.? == down && q.go == up) then stop();");
    for (int i = 10; i < 30; ++i) {
        (void)many.down("p." + std::to_string(i));
    }
    EXPECT_THAT(many.up("q.go"), ElementsAre("stop m: p.10=down, p.11=down, p.12=down, p.13=down, p.14=down, "
                                             "p.15=down, p.16=down, p.17=down and 13 more"));
}

TEST(RuleEngine, AWaitRuleHoldsInWaitWithoutActing) {
    Bench bench("w: if (intf.? == down) then wait();", seconds{15}, in_wait);
    EXPECT_EQ(bench.hold(), "");
    EXPECT_THAT(bench.down("intf.net"), IsEmpty());
    EXPECT_EQ(bench.hold(), "w: intf.net=down"); // hold times are for leaving UP only
    EXPECT_THAT(bench.run(seconds{60}), IsEmpty());
    (void)bench.up("intf.net");
    EXPECT_EQ(bench.hold(), "");
    (void)bench.now_possible(everything);
    EXPECT_THAT(bench.down("intf.net"), IsEmpty());
    EXPECT_THAT(bench.run(seconds{15}), ElementsAre("wait w: intf.net=down"));
}

TEST(RuleEngine, AResourceInInitOfAWaitRuleHoldsInWait) {
    Bench bench("w: if (ping.? == down || tcp.x == down) then wait();\nr: if (custom.c == down) then restart();", {},
                in_wait);
    (void)bench.put("custom.c", Verdict::init); // no wait rule: no reason to wait
    EXPECT_EQ(bench.hold(), "");
    (void)bench.put("tcp.x", Verdict::init);
    EXPECT_EQ(bench.hold(), "init: tcp.x=init");
    (void)bench.put("ping.gw", Verdict::init);
    EXPECT_EQ(bench.hold(), "init: ping.gw=init, tcp.x=init");
    (void)bench.up("tcp.x");
    (void)bench.down("ping.gw");
    EXPECT_EQ(bench.hold(), "w: ping.gw=down");
    (void)bench.put("remote.tcp.x", Verdict::init); // the other node's start is its own affair
    (void)bench.up("ping.gw");
    EXPECT_EQ(bench.hold(), "");
}

TEST(RuleEngine, SwitchedOffItTellsAndDoesNothing) {
    Bench bench("a: if (tcp.x == down) then restart();\nw: if (p.? == down) then wait();");
    EXPECT_THAT(bench.acting(false), IsEmpty());
    EXPECT_THAT(bench.down("tcp.x"), ElementsAre("(off) restart a: tcp.x=down"));
    EXPECT_THAT(bench.down("p.gw"), ElementsAre("(off) wait w: p.gw=down"));
    EXPECT_EQ(bench.hold(), "");
    (void)bench.up("tcp.x");
    EXPECT_THAT(bench.acting(true), ElementsAre("wait w: p.gw=down")); // what holds by now acts
    EXPECT_EQ(bench.hold(), "w: p.gw=down");
    EXPECT_THAT(bench.acting(false), IsEmpty());
    EXPECT_EQ(bench.hold(), "");
    EXPECT_THAT(bench.acting(true), ElementsAre("wait w: p.gw=down")); // off has undone it
    EXPECT_THAT(bench.acting(true), IsEmpty());
    (void)bench.up("p.gw");
    EXPECT_THAT(bench.down("tcp.x"), ElementsAre("restart a: tcp.x=down"));
    EXPECT_THAT(bench.acting(false), IsEmpty());
    EXPECT_THAT(bench.acting(true), IsEmpty()); // it has acted already
}

TEST(RuleEngine, NewRulesKeepWhatTheSameOnesHaveDone) {
    Bench bench("a: if (tcp.x == down) then restart();\nb: if (tcp.x == down) then stop();");
    EXPECT_THAT(bench.down("tcp.x"), ElementsAre("stop b: tcp.x=down", "restart a: tcp.x=down; covered by b"));
    bench.engine.set_rules(compile("a: if (tcp.x == down) then restart();\nb: if (tcp.x != up) then stop();"));
    EXPECT_THAT(bench.step(), ElementsAre("stop b: tcp.x=down")); // another rule now
}

// ---- The matrix: what a checker does x what its rule asks for ------------------------------------------------------

/// A module as far as rules see it: UP, restarting for 2 s, in WAIT, or stopped; the checker of class "both" goes to
/// init while it is not armed, and `sick` says what it finds when it is.
struct Model {
    explicit Model(std::string_view action) : bench("t: if (tcp.x == down) then " + std::string{action} + "();") {}

    void probe(Verdict verdict) {
        found = verdict;
        if (armed) {
            take(bench.put("tcp.x", verdict));
        }
    }
    void run(nanoseconds span) {
        take(bench.run(span));
        if (busy_until && bench.now >= *busy_until) { // the scripts are done
            busy_until.reset();
            armed = true;
            take(bench.now_possible(everything));
            take(bench.put("tcp.x", found));
        }
        if (state == "WAIT" && bench.hold().empty()) {
            state = "UP";
            armed = true;
            take(bench.now_possible(everything));
            take(bench.put("tcp.x", found));
        }
    }
    void take(const std::vector<std::string>& fired) {
        for (const std::string& one : fired) {
            const std::string action = one.substr(0, one.find(' '));
            actions.push_back(action);
            if (action != "stop" && ++counted > 3) {
                actions.back() = "maxloop";
                state = "STOP";
            }
            if (action == "stop") {
                state = "STOP";
            }
            if (state == "STOP") {
                armed = false;
                (void)bench.now_possible({});
                return;
            }
            armed = false;
            take(bench.put("tcp.x", Verdict::init));
            if (action == "wait") {
                state = "WAIT";
                take(bench.now_possible(in_wait));
            } else {
                busy_until = bench.now + seconds{2};
                take(bench.now_possible(action == "restart" ? starting : Possible{.stop = true}));
            }
        }
    }

    Bench bench;
    bool armed{true};
    Verdict found{Verdict::up};
    std::string state{"UP"};
    int counted{};
    std::optional<Instant> busy_until;
    std::vector<std::string> actions;
};

struct Row {
    const char* action;
    const char* checker; // what it finds, a second each: u, d, i
    std::vector<std::string> actions;
    const char* state;
};

TEST(RuleMatrix, CheckerStatesByActions) {
    const std::vector<Row> rows{
        {"restart", "iiii", {}, "UP"},
        {"restart", "uuuu", {}, "UP"},
        {"restart", "uduuuuuu", {"restart"}, "UP"},
        {"restart", "udddddddddddddddd", {"restart", "restart", "restart", "maxloop"}, "STOP"},
        {"restart", "uduuuuduuuuduuuuduuuu", {"restart", "restart", "restart", "maxloop"}, "STOP"},
        {"stopstart", "iiii", {}, "UP"},
        {"stopstart", "uuuu", {}, "UP"},
        {"stopstart", "uduuuuuu", {"stopstart"}, "UP"},
        {"stopstart", "udddddddddddddddd", {"stopstart", "stopstart", "stopstart", "maxloop"}, "STOP"},
        {"stopstart", "uduuuuduuuuduuuuduuuu", {"stopstart", "stopstart", "stopstart", "maxloop"}, "STOP"},
        {"stop", "iiii", {}, "UP"},
        {"stop", "uuuu", {}, "UP"},
        {"stop", "uduuuuuu", {"stop"}, "STOP"},
        {"stop", "udddddd", {"stop"}, "STOP"},
        {"stop", "ududud", {"stop"}, "STOP"},
    };
    for (const Row& row : rows) {
        Model model(row.action);
        for (const char c : std::string_view{row.checker}) {
            model.probe(c == 'u' ? Verdict::up : c == 'd' ? Verdict::down : Verdict::init);
            model.run(seconds{1});
        }
        EXPECT_EQ(model.actions, row.actions) << row.action << " " << row.checker;
        EXPECT_EQ(model.state, row.state) << row.action << " " << row.checker;
    }
}

} // namespace
} // namespace stead::rules
