// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "failover.hpp"

#include <stead/core/loop_guard.hpp>

#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <utility>
#include <vector>

namespace stead::host {

using automaton::State;

/// A module as its host runs it, in virtual time: the real automaton, failover machine and loop guard; each script and
/// moment takes 100 ms. One checker of the given class publishes tcp.x, or another resource, as
/// `finds` says while it is armed, else init.
class Module {
public:
    Module(std::string_view rules, std::uint32_t armed_class, nanoseconds hold = {},
           std::optional<State> active = State::up)
        : Module(compiled(rules, hold, !active), "tcp.x", armed_class, active) {}
    Module(std::vector<rules::Rule> all, std::string resource, std::uint32_t armed_class,
           std::optional<State> active = State::up)
        : machine(active), resource_(std::move(resource)), class_(armed_class) {
        failover.set_rules(std::move(all));
        failover.put_own(resource_, "init", "checker");
        feed(automaton::Start{"test"});
    }
    void find(std::string_view verdict) {
        finds = verdict;
        if ((armed_ & class_) != 0) {
            failover.put_own(resource_, finds, "checker");
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
    static std::vector<rules::Rule> compiled(std::string_view text, nanoseconds hold, bool mirror) {
        auto parsed = rules::parse_rules(text, {}, {.remote = mirror, .swap = mirror}, hold);
        EXPECT_TRUE(parsed.ok());
        return std::move(parsed.rules);
    }
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
            failover.put_own(resource_, "init", "checker");
            feed(automaton::Start{"steadd"});
        }
    }
    void perform(const automaton::Armed& armed) {
        const bool was = (armed_ & class_) != 0;
        armed_ = armed.classes;
        if (const bool is = (armed_ & class_) != 0; is != was) {
            failover.put_own(resource_, is ? finds : "init", "checker");
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

    std::string resource_;
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

} // namespace stead::host
