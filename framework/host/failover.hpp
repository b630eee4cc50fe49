// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/core/automaton.hpp>
#include <stead/core/rule_engine.hpp>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stead::host {

/// One module's failover machine: what its rules ask of its automaton, and what the administrator's switches keep from
/// them. No I/O, no clock; the strand owns it.
class Failover {
public:
    /// One action for the automaton, to be counted as automatic.
    struct Order {
        std::string action; ///< "restart"
        std::string by;     ///< "t_web80: tcp.web80=down"
    };
    struct Outcome {
        std::vector<std::string> lines; ///< for the module's log
        std::vector<std::pair<std::string, std::string>> assignments;
        std::optional<Order> order;
        std::optional<automaton::Block> block; ///< why the module may not leave WAIT
    };

    void set_rules(std::vector<rules::Rule> rules) { engine_.set_rules(std::move(rules)); }
    [[nodiscard]] const std::vector<rules::Rule>& rules() const noexcept { return engine_.rules(); }

    /// A resource of this node. `owner` is the switch of the checker that publishes it ("checker", "errd"), or empty.
    void put_own(const std::string& name, std::optional<std::string_view> value, std::string_view owner);
    void put_remote(std::string_view name, std::optional<std::string_view> value);
    void set_cluster(bool others) { engine_.set_cluster(others); }
    /// "failover": rules act. Any other name: resources that its checkers own are seen.
    void set_switch(std::string_view name, bool on);
    [[nodiscard]] bool is_on(std::string_view name) const { return !off_.contains(name); }

    /// Evaluates. Perform the outcome and call it again: an action may make another one possible.
    [[nodiscard]] Outcome step(Instant now, const automaton::Automaton& machine);
    [[nodiscard]] Instant next_deadline() const noexcept { return engine_.next_deadline(); }

private:
    struct Own {
        rules::Verdict verdict{};
        std::string owner;
    };
    void take_firings(std::vector<rules::Firing> fired, Outcome& out);
    void take_hold(const automaton::Automaton& machine, Outcome& out);

    rules::Engine engine_;
    std::map<std::string, Own, std::less<>> own_;
    std::set<std::string, std::less<>> off_; // switches
    std::string held_by_;                    // label of the wait rule that was logged
};

} // namespace stead::host
