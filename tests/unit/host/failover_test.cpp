// SPDX-License-Identifier: Apache-2.0
#include "failover.hpp"

#include <stead/core/loop_guard.hpp>

#include <gmock/gmock.h>

#include <deque>

namespace stead::host {
namespace {

using automaton::State;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// A module as its host runs it, in virtual time: the real automaton, failover machine and loop guard; each script and
/// moment takes 100 ms. One checker of the given class publishes what `finds` says while it is armed, else init.
class Module {
public:
    Module(std::string_view rules, std::uint32_t armed_class, nanoseconds hold = {},
           std::optional<State> active = State::up)
        : machine(active), class_(armed_class) {
        const bool mirror = !active;
        auto parsed = rules::parse_rules(rules, {}, {.remote = mirror, .swap = mirror}, hold);
        EXPECT_TRUE(parsed.ok());
        failover.set_rules(std::move(parsed.rules));
        failover.put_own("tcp.x", "init", "checker");
        feed(automaton::Start{"test"});
    }
    void find(std::string_view verdict) {
        finds = verdict;
        if ((armed_ & class_) != 0) {
            failover.put_own("tcp.x", finds, "checker");
            evaluate();
        }
    }
    void run(nanoseconds span) {
        const Instant end = now_ + span;
        for (;;) {
            const Instant scripts = pending_.empty() ? never : pending_.front().at;
            const Instant next = std::min(scripts, failover.next_deadline());
            if (next > end) {
                break;
            }
            now_ = std::max(now_, next);
            if (scripts <= now_) {
                const automaton::Event event = pending_.front().event;
                pending_.pop_front();
                feed(event);
            } else {
                evaluate();
            }
            ASSERT_LT(++steps_, 10000) << "it goes round and round";
        }
        now_ = end;
    }
    void publish(std::string_view name, std::string_view value) {
        failover.put_own(std::string{name}, value, "");
        evaluate();
    }
    void role(State state) { feed(automaton::Role{.state = state, .reason = {}, .expected = false}); }
    void turn(std::string_view name, bool on) {
        failover.set_switch(name, on);
        evaluate();
    }
    [[nodiscard]] std::string state() const {
        return std::string{name(machine.state())} + " " + std::string{name(machine.qualifier())} +
               (machine.reason().empty() ? "" : ": " + machine.reason());
    }
    /// The actions taken so far: "restart", "maxloop".
    [[nodiscard]] std::vector<std::string> take_actions() { return std::exchange(actions_, {}); }

    Failover failover;
    automaton::Automaton machine;
    std::vector<std::string> lines;
    std::string finds{"up"};

private:
    struct Later {
        Instant at;
        automaton::Event event;
    };

    void feed(const automaton::Event& event) {
        for (const automaton::Effect& effect : machine.step(event)) {
            std::visit([this](const auto& e) { perform(e); }, effect);
        }
        evaluate();
    }
    void perform(const automaton::RunHook&) { later(automaton::HookDone{.ok = true, .missing = false, .reason = {}}); }
    void perform(const automaton::AskServices&) {
        std::erase_if(pending_,
                      [](const Later& one) { return std::holds_alternative<automaton::ServicesDone>(one.event); });
        later(automaton::ServicesDone{true, {}});
    }
    void perform(const automaton::RoleChoice&) {}
    void perform(const automaton::CancelHook&) { pending_.front().at = now_; }
    void perform(const automaton::StateChanged&) {}
    void perform(const automaton::Log& line) { lines.push_back(line.text); }
    void perform(const automaton::Finished& done) {
        if (done.start_again) { // a new host: it knows nothing of the old one
            failover.put_own("tcp.x", "init", "checker");
            feed(automaton::Start{"steadd"});
        }
    }
    void perform(const automaton::Armed& armed) {
        const bool was = (armed_ & class_) != 0;
        armed_ = armed.classes;
        if (const bool is = (armed_ & class_) != 0; is != was) {
            failover.put_own("tcp.x", is ? finds : "init", "checker");
        }
    }
    void later(const automaton::Event& event) { pending_.push_back({now_ + milliseconds{100}, event}); }

    void evaluate() {
        if (evaluating_) {
            return;
        }
        evaluating_ = true;
        for (bool again = true; again;) {
            const auto outcome = failover.step(now_, machine);
            lines.insert(lines.end(), outcome.lines.begin(), outcome.lines.end());
            const automaton::Block block = outcome.block.value_or(automaton::Block{});
            const bool released = block.reason.empty() && !told_.reason.empty();
            if (!released && block != told_) {
                feed(told_ = block);
            }
            if (outcome.order) {
                act(*outcome.order);
            }
            if (released) {
                feed(told_ = block);
            }
            again = outcome.order.has_value() || released;
        }
        evaluating_ = false;
    }
    void act(const Failover::Order& order) {
        using Then = automaton::Stop::Then;
        actions_.push_back(order.action);
        if (order.action != "stop" && !guard_.count(now_.time_since_epoch() / seconds{1})) {
            actions_.back() = "maxloop";
            feed(automaton::Stop{.then = Then::stay, .by = "maxloop", .at_once = false});
        } else if (order.action == "restart") {
            feed(automaton::Restart{order.by});
        } else if (order.action == "swap") {
            role(machine.state() == State::prim ? State::second : State::prim);
        } else {
            feed(automaton::Stop{.then = order.action == "wait"   ? Then::wait
                                         : order.action == "stop" ? Then::stay
                                                                  : Then::start_again,
                                 .by = order.by,
                                 .at_once = false});
        }
    }

    std::uint32_t class_;
    std::uint32_t armed_{};
    Instant now_{seconds{1000}};
    std::deque<Later> pending_;
    automaton::LoopGuard guard_{3, seconds{86400}};
    automaton::Block told_;
    std::vector<std::string> actions_;
    bool evaluating_{};
    int steps_{};
};

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
