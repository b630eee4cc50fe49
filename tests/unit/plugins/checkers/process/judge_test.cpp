// SPDX-License-Identifier: Apache-2.0
#include <stead/process/judge.hpp>

#include <gmock/gmock.h>

namespace stead::process {
namespace {

using std::chrono::hours;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

Spec process(std::string name, Action action = Action::restart) {
    Spec spec;
    spec.name = std::move(name);
    spec.action = action;
    return spec;
}

/// A judge with a clock: looks are instantaneous, and every death is told.
class Bench {
public:
    explicit Bench(std::vector<Spec> specs, nanoseconds polltimer = seconds{10})
        : judge({polltimer, std::move(specs)}) {
        judge.set_ready(true);
    }

    void arm(const std::vector<bool>& armed) { last = judge.set_armed(now, armed); }
    void pass(nanoseconds time) { now += time; }
    Judge::Decision see(const std::vector<std::uint32_t>& counts) {
        std::vector<Judge::Sight> sights;
        for (const std::uint32_t count : counts) {
            sights.push_back({.count = count, .each_death_seen = count > 0, .lenient = lenient});
        }
        return last = judge.on_sights(now, now, sights);
    }
    Verdict verdict(std::size_t index = 0) { return judge.state(index).verdict; }

    Judge judge;
    Instant now{from_ns(1'000'000'000)};
    Judge::Decision last;
    bool lenient{};
};

Spec with_services(std::string name, std::vector<std::string> services) {
    Spec spec = process(std::move(name));
    spec.service = true;
    spec.restart_services = std::move(services);
    return spec;
}

TEST(Judge, ARestartIsOfTheServicesThatAllWhoAskForItName) {
    Bench bench({with_services("a", {"a", "x"}), with_services("b", {"x", "b"}), with_services("c", {}),
                 process("d", Action::stopstart)});
    const auto after = [&](const std::vector<std::uint32_t>& counts) {
        bench.arm({false, false, false, false});
        bench.arm({true, true, true, true});
        bench.see({1, 1, 1, 1});
        bench.see(counts);
        return bench.last.services;
    };
    EXPECT_THAT(after({0, 1, 1, 1}), ElementsAre("a", "x"));
    EXPECT_THAT(after({0, 0, 1, 1}), ElementsAre("a", "x", "b"));
    EXPECT_THAT(after({0, 1, 0, 1}), IsEmpty()) << "c needs everything";
    EXPECT_THAT(after({1, 1, 0, 1}), IsEmpty());
    EXPECT_EQ(bench.last.action, Action::restart);
    after({0, 1, 1, 0});
    EXPECT_EQ(bench.last.action, Action::stopstart);
}

TEST(Judge, AProcessThatDiesIsActedOnOnce) {
    Bench bench({process("nginx")});
    bench.arm({true});
    bench.see({2});
    EXPECT_EQ(bench.verdict(), Verdict::up);
    bench.pass(milliseconds{10});
    bench.see({0});
    EXPECT_EQ(bench.verdict(), Verdict::down);
    EXPECT_EQ(bench.last.action, Action::restart);
    EXPECT_EQ(bench.last.reason, "process nginx: 0 running, at least 1 wanted");
    for (int i = 0; i < 9; ++i) {
        bench.pass(seconds{1});
        EXPECT_EQ(bench.see({0}).action, Action::none) << i;
    }
}

TEST(Judge, AnActionThatDidNotBeginIsAskedForAgainAfterAPolltimer) {
    Bench bench({process("nginx")}, seconds{10});
    bench.arm({true});
    bench.see({1});
    EXPECT_EQ(bench.see({0}).action, Action::restart);
    bench.pass(seconds{10});
    EXPECT_EQ(bench.see({0}).action, Action::restart);
}

TEST(Judge, AnActionThatBeganIsNotAskedForAgainHoweverLongItTakes) {
    Bench bench({process("nginx", Action::stopstart)}, seconds{1});
    bench.arm({true});
    bench.see({1});
    EXPECT_EQ(bench.see({0}).action, Action::stopstart);
    bench.judge.set_ready(false); // connections are drained: the class is still armed
    bench.pass(hours{1});
    EXPECT_EQ(bench.see({0}).action, Action::none);
}

TEST(Judge, ARestartWaitsForTheEndOfTheStart) {
    Bench bench({process("nginx"), process("other", Action::stopstart)});
    bench.judge.set_ready(false);
    bench.arm({true, true});
    bench.see({1, 1});
    EXPECT_EQ(bench.see({0, 1}).action, Action::none);
    EXPECT_EQ(bench.verdict(), Verdict::down);
    bench.judge.set_ready(true);
    bench.pass(seconds{1});
    EXPECT_EQ(bench.see({0, 1}).action, Action::restart);
    bench.arm({false, false});
    bench.judge.set_ready(false);
    bench.arm({true, true});
    bench.see({1, 1});
    EXPECT_EQ(bench.see({1, 0}).action, Action::stopstart) << "this one interrupts a start";
}

TEST(Judge, DisarmedItNeitherTellsNorActs) {
    Bench bench({process("nginx")});
    bench.arm({true});
    bench.see({1});
    bench.arm({false});
    EXPECT_THAT(bench.last.changed, ElementsAre(0));
    EXPECT_EQ(bench.verdict(), Verdict::init);
    bench.see({0});
    EXPECT_EQ(bench.last.action, Action::none);
    EXPECT_THAT(bench.last.changed, IsEmpty());
    EXPECT_EQ(bench.judge.next_look(), never);
}

TEST(Judge, ALookThatBeganBeforeTheArmingIsOfAnotherLife) {
    Bench bench({process("nginx")});
    bench.arm({true});
    bench.see({1});
    const Instant begun = bench.now;
    bench.pass(milliseconds{5});
    bench.arm({false});
    bench.arm({true});
    EXPECT_THAT(bench.judge.on_sights(bench.now, begun, {{.count = 0}}).changed, IsEmpty());
    EXPECT_EQ(bench.verdict(), Verdict::init);
}

TEST(Judge, AfterARestartADeathCountsAtOnceAgain) {
    Bench bench({process("nginx")}, hours{1});
    for (int turn = 0; turn < 4; ++turn) {
        bench.arm({true});
        bench.see({1});
        bench.pass(milliseconds{100});
        EXPECT_EQ(bench.see({0}).action, Action::restart) << turn;
        bench.arm({false});
    }
}

TEST(Judge, AProcessHasASecondToAppear) {
    Bench bench({process("nginx")});
    bench.arm({true});
    bench.see({0});
    EXPECT_EQ(bench.verdict(), Verdict::init);
    EXPECT_EQ(bench.judge.next_look(), bench.now + milliseconds{250});
    bench.pass(milliseconds{750});
    bench.see({0});
    EXPECT_EQ(bench.verdict(), Verdict::init);
    bench.pass(milliseconds{250});
    EXPECT_EQ(bench.see({0}).action, Action::restart);
}

TEST(Judge, AServiceOfUnknownCommandIsMissedOnlyOnceSeen) {
    Bench bench({process("postgresql")});
    bench.lenient = true;
    bench.arm({true});
    bench.see({0});
    bench.pass(hours{1});
    EXPECT_EQ(bench.see({0}).action, Action::none);
    EXPECT_EQ(bench.verdict(), Verdict::init);
    bench.see({1});
    EXPECT_EQ(bench.see({0}).action, Action::restart);
}

TEST(Judge, StartAfterDelaysTheFirstLook) {
    Spec slow = process("java");
    slow.start_after = seconds{20};
    Bench bench({slow});
    bench.arm({true});
    EXPECT_EQ(bench.judge.next_look(), bench.now + seconds{20});
    bench.see({0});
    EXPECT_EQ(bench.verdict(), Verdict::init);
    bench.pass(seconds{20});
    bench.see({0});
    bench.pass(seconds{1});
    EXPECT_EQ(bench.see({0}).action, Action::restart);
}

TEST(Judge, CountBounds) {
    Spec workers = process("worker");
    workers.atleast = 2;
    workers.atmax = 4;
    Spec forbidden = process("rogue", Action::stop);
    forbidden.atleast = 0;
    forbidden.atmax = 0;
    Bench bench({workers, forbidden});
    bench.arm({true, true});
    bench.see({3, 0});
    EXPECT_EQ(bench.verdict(0), Verdict::up);
    EXPECT_EQ(bench.verdict(1), Verdict::up);
    EXPECT_EQ(bench.judge.next_look(), bench.now + seconds{1}) << "too many can only be seen by looking";
    bench.see({5, 0});
    EXPECT_EQ(bench.last.reason, "process worker: 5 running, at most 4 wanted");
    bench.arm({false, true});
    bench.see({0, 1});
    EXPECT_EQ(bench.last.action, Action::stop);
}

TEST(Judge, OfManyDeathsTheStrongestActionIsAskedForOnce) {
    Bench bench({process("a", Action::restart), process("b", Action::stop), process("c", Action::none)});
    bench.arm({true, true, true});
    bench.see({1, 1, 1});
    bench.see({0, 0, 0});
    EXPECT_EQ(bench.last.action, Action::stop);
    EXPECT_EQ(bench.last.reason, "process a: 0 running, at least 1 wanted; process b: 0 running, at least 1 wanted");
    EXPECT_THAT(bench.last.changed, ElementsAre(0, 1, 2));
}

TEST(Judge, ADeathAfterTheRequestWaitsForTheActionUnderWay) {
    Bench bench({process("a", Action::restart), process("b", Action::stopstart)});
    bench.arm({true, true});
    bench.see({1, 1});
    EXPECT_EQ(bench.see({0, 1}).action, Action::restart);
    bench.pass(milliseconds{20});
    EXPECT_EQ(bench.see({0, 0}).action, Action::none);
    EXPECT_EQ(bench.verdict(1), Verdict::down);
}

TEST(Judge, AHandlerThatFailsIsFollowedByAStopstart) {
    Spec spec = process("nginx", Action::handler);
    spec.handler = "cure";
    Bench bench({spec});
    bench.arm({true});
    bench.see({1});
    EXPECT_THAT(bench.see({0}).handlers, ElementsAre(0));
    bench.pass(seconds{60});
    EXPECT_THAT(bench.see({0}).handlers, IsEmpty()) << "it runs still";
    bench.last = bench.judge.on_handler_done(bench.now, 0, false);
    EXPECT_EQ(bench.last.action, Action::stopstart);
    EXPECT_EQ(bench.last.reason, "cure failed for process nginx: 0 running, at least 1 wanted");
}

TEST(Judge, AHandlerThatSucceedsButDoesNotHelpRunsAgainAfterAPolltimer) {
    Spec spec = process("nginx", Action::handler);
    spec.handler = "cure";
    Bench bench({spec}, seconds{10});
    bench.arm({true});
    bench.see({1});
    EXPECT_THAT(bench.see({0}).handlers, ElementsAre(0));
    EXPECT_EQ(bench.judge.on_handler_done(bench.now, 0, true).action, Action::none);
    bench.pass(seconds{9});
    EXPECT_THAT(bench.see({0}).handlers, IsEmpty());
    bench.pass(seconds{1});
    EXPECT_THAT(bench.see({0}).handlers, ElementsAre(0));
}

TEST(Judge, WhatCouldNotBeLookedAtStaysAsItIs) {
    Bench bench({process("nginx")});
    bench.arm({true});
    bench.see({1});
    bench.pass(seconds{1});
    bench.last = bench.judge.on_sights(bench.now, bench.now, {Judge::Sight{}});
    EXPECT_EQ(bench.verdict(), Verdict::up);
    EXPECT_EQ(bench.judge.next_look(), bench.now + seconds{1}) << "and is looked at again soon";
}

TEST(Judge, LooksAreRareWhileDeathsAreTold) {
    Bench bench({process("nginx")}, seconds{30});
    bench.arm({true});
    EXPECT_EQ(bench.judge.next_look(), bench.now);
    bench.see({1});
    EXPECT_EQ(bench.judge.next_look(), bench.now + seconds{30});
}

} // namespace
} // namespace stead::process
