// SPDX-License-Identifier: Apache-2.0
#include "failover.hpp"

namespace stead::host {

using rules::Verdict;

void Failover::put_own(const std::string& name, std::optional<std::string_view> value, std::string_view owner) {
    const Verdict verdict = value ? rules::verdict_of(*value) : Verdict::unknown;
    if (value) {
        own_.insert_or_assign(name, Own{verdict, std::string{owner}});
    } else {
        own_.erase(name);
    }
    engine_.put(rules::Side::local, name, is_on(owner) ? verdict : Verdict::unknown);
}

void Failover::put_remote(std::string_view name, std::optional<std::string_view> value) {
    engine_.put(rules::Side::remote, name, value ? rules::verdict_of(*value) : Verdict::unknown);
}

void Failover::set_switch(std::string_view name, bool on) {
    if (on) {
        off_.erase(std::string{name});
    } else {
        off_.emplace(name);
    }
    if (name == "failover") {
        engine_.set_acting(on);
        return;
    }
    for (const auto& [resource, own] : own_) {
        if (own.owner == name) {
            engine_.put(rules::Side::local, resource, on ? own.verdict : Verdict::unknown);
        }
    }
}

Failover::Outcome Failover::step(Instant now, const automaton::Automaton& machine) {
    const automaton::Abilities able = machine.able();
    engine_.set_possible({.stop = able.stop,
                          .stopstart = able.stopstart,
                          .wait = able.wait,
                          .swap = able.swap,
                          .restart = able.restart});
    Outcome out;
    take_firings(engine_.step(now), out);
    take_hold(machine, out);
    return out;
}

void Failover::take_firings(std::vector<rules::Firing> fired, Outcome& out) {
    for (rules::Firing& one : fired) {
        const std::string action{name(one.action)};
        const std::string by = one.label + ": " + one.because;
        if (!one.acts) {
            out.lines.push_back("Rule " + by + "; no " + action + ", failover is off");
        } else if (one.muted) {
            out.lines.push_back("Rule " + by + "; it would set " + one.target + "=" + std::string{name(one.value)} +
                                " more than " + std::to_string(rules::Engine::assignments_max) +
                                " times in a second, so it is left out until the module starts anew: does another rule "
                                "take it back?");
        } else if (one.action == rules::Action::assign) {
            out.lines.push_back("Rule " + by + "; sets " + one.target + "=" + std::string{name(one.value)});
            out.assignments.emplace_back(one.target, name(one.value));
        } else if (!one.covered_by.empty()) {
            out.lines.push_back("Rule " + by + "; its " + action + " is covered by " + one.covered_by);
        } else {
            out.order = Order{action, by};
        }
    }
}

void Failover::take_hold(const automaton::Automaton& machine, Outcome& out) {
    const auto hold = engine_.hold();
    const std::string label = hold && !hold->init ? hold->label : "";
    if (hold) {
        out.block = automaton::Block{
            .reason = hold->init ? "no verdict yet: " + hold->because : label, .expected = hold->init, .start = true};
    }
    if (!machine.held()) {
        held_by_.clear();
        return;
    }
    if (label != held_by_ && !label.empty()) {
        out.lines.push_back("Rule " + label + ": " + hold->because + "; the module stays in WAIT");
    }
    if (!held_by_.empty() && label.empty()) {
        out.lines.push_back("Action wakeup called by Implicit_wakeup: " + held_by_ + " does not hold any more");
    }
    held_by_ = label;
}

} // namespace stead::host
