// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/core/automaton.hpp>

#include <gmock/gmock.h>

#include <deque>
#include <map>

namespace stead::automaton {

/// Performs effects as the host would: each hook and moment ends at once unless it is held or told to fail.
class Stage {
public:
    explicit Stage(std::optional<State> active = State::up) : machine(active) {}
    void send(const Event& event) {
        take(machine.step(event));
        pump();
    }
    void pump() {
        while (!pending_.empty()) {
            const Event next = pending_.front();
            pending_.pop_front();
            take(machine.step(next));
        }
    }
    /// Ends what is held.
    void release() {
        ASSERT_EQ(held_.size(), 1U);
        pending_.push_back(held_.front());
        held_.clear();
        pump();
    }
    [[nodiscard]] std::vector<std::string> take_trace() { return std::exchange(trace, {}); }

    Automaton machine;
    std::vector<std::string> trace; // hooks and moments
    std::vector<std::string> states;
    std::vector<std::string> logs;
    std::map<std::string, std::string> failing; // hook or moment -> reason
    std::string hold;                           // the hook or moment that does not end by itself
    int cancels{};
    std::vector<std::string> arming; // "the last hook or moment before -> classes from then on"
    std::optional<bool> finished;

private:
    void take(const Effects& effects) {
        for (const Effect& effect : effects) {
            std::visit([this](const auto& e) { perform(e); }, effect);
        }
    }
    void perform(const RunHook& hook) {
        std::string line = hook.name;
        for (const std::string& argument : hook.arguments) {
            line += " " + argument;
        }
        trace.push_back(line);
        const auto failure = failing.find(hook.name);
        const HookDone done{.ok = failure == failing.end(),
                            .missing = false,
                            .reason = failure == failing.end() ? "" : failure->second};
        end(hook.name, done);
    }
    void perform(const AskServices& ask) {
        static const std::map<Moment, std::string> names{{Moment::prepare, "PREPARE"},
                                                         {Moment::open, "OPEN"},
                                                         {Moment::close, "CLOSE"},
                                                         {Moment::release, "RELEASE"},
                                                         {Moment::retire, "RETIRE"}};
        const std::string name = names.at(ask.moment);
        trace.push_back(name + (ask.restart ? " restart" : "") + (ask.at_once ? " at once" : ""));
        const auto failure = failing.find(name);
        end(name, ServicesDone{failure == failing.end(), failure == failing.end() ? "" : failure->second});
    }
    void end(const std::string& name, const Event& event) {
        if (name == hold) {
            held_.assign(1, event); // a list: GCC 12 cannot follow an optional of a variant
        } else {
            pending_.push_back(event);
        }
    }
    void perform(const CancelHook&) {
        ++cancels;
        ASSERT_EQ(held_.size(), 1U);
        held_.clear();
        pending_.push_back(HookDone{.ok = false, .missing = false, .reason = "cancelled"});
    }
    void perform(const StateChanged& change) {
        states.push_back(std::string{name(change.state)} + " " + std::string{name(change.qualifier)} +
                         (change.reason.empty() ? "" : ": " + change.reason));
    }
    void perform(const RoleChoice& choice) { trace.emplace_back(choice.open ? "choice open" : "choice closed"); }
    void perform(const Log& line) { logs.push_back(line.text); }
    void perform(const Finished& end) { finished = end.start_again; }
    void perform(const Armed& armed) {
        arming.push_back((trace.empty() ? "" : trace.back()) + " -> " + std::to_string(armed.classes));
    }

    std::vector<Event> held_; // at most one
    std::deque<Event> pending_;
};

} // namespace stead::automaton
