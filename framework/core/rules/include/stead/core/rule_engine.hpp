// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/core/rules.hpp>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

/// Evaluates rules on change. Pure: equal calls give equal answers. One strand owns it.
namespace stead::rules {

enum class Side : std::uint8_t { local, remote };

/// A rule whose time has come.
struct Firing {
    std::string label;
    Action action{};
    std::string because;    ///< "tcp.web80=down", or several; what made the expression true
    std::string target;     ///< assign
    Verdict value{};        ///< assign
    bool acts{};            ///< false: rules are switched off, this is for the log only
    bool muted{};           ///< assign: it undoes its own condition again and again, and is left out from now on
    std::string covered_by; ///< label of a stronger rule of the same step, which is to be performed instead
};

/// Why the module may not leave WAIT.
struct Hold {
    std::string label;   ///< the rule that holds; empty when `init` is why
    std::string because; ///< "intf.192.0.2.0=down"
    bool init{};         ///< a resource of a wait rule has no verdict yet
    bool operator==(const Hold&) const = default;
};

/// Actions that mean something in the module's present state.
struct Possible {
    bool stop{}, stopstart{}, wait{}, swap{}, restart{};
    bool operator==(const Possible&) const = default;
};

class Engine {
public:
    /// An assignment that fires so often within assignment_span would go on for ever; it is left out until set_rules().
    static constexpr unsigned assignments_max = 20;
    static constexpr nanoseconds assignment_span = seconds{1};

    /// A rule that is the same as one before (label, expression, action) keeps what it has done.
    void set_rules(std::vector<Rule> rules);
    [[nodiscard]] const std::vector<Rule>& rules() const noexcept { return rules_; }

    // Facts. The caller follows a change with step() before time goes on.
    void put(Side side, std::string_view resource, Verdict verdict);
    void set_cluster(bool others);
    void set_possible(const Possible& possible) { possible_ = possible; }
    /// False: rules fire for the log only. When they act again, those that hold fire again.
    void set_acting(bool acting);

    /// What fires now, the strongest action first. `now` never goes back.
    [[nodiscard]] std::vector<Firing> step(Instant now);
    /// When a hold time ends: step() is due then, changes apart. `never`: no timer needed.
    [[nodiscard]] Instant next_deadline() const noexcept;
    /// The first wait rule that is true, else the resources in init that wait rules name. Nothing while not acting.
    [[nodiscard]] std::optional<Hold> hold() const;

private:
    struct Progress {
        bool dirty{true};
        bool holds{};
        bool due{};     // true for long enough; waits only for a state in which it can act
        bool done{};    // fired, and true since
        bool unacted{}; // fired for the log only
        Instant since{};
        Instant burst_since{}; // assignments
        unsigned burst{};
        bool muted{};
    };
    using Resources = std::map<std::string, std::map<std::string, Verdict, std::less<>>, std::less<>>;

    [[nodiscard]] const Resources& side(bool remote) const noexcept { return remote ? remote_ : local_; }
    [[nodiscard]] Verdict verdict(const Subject& subject) const;
    [[nodiscard]] bool met(const Condition& condition) const;
    [[nodiscard]] std::vector<bool> values(const Expression& expression) const;
    [[nodiscard]] std::string because(const Expression& expression) const;
    void witnesses(const Condition& condition, bool value, std::set<std::string>& out) const;
    [[nodiscard]] bool can(Action action) const noexcept;
    static void count_assignment(Progress& one, Instant now);
    void index_rules();

    std::vector<Rule> rules_;
    std::vector<Progress> progress_;
    std::map<std::string, std::set<std::size_t>, std::less<>> by_kind_; // rules that name a class of resources
    std::set<std::size_t> by_cluster_;                                  // rules that ask cluster()
    Resources local_, remote_;
    bool cluster_{};
    bool acting_{true};
    Possible possible_{};
};

} // namespace stead::rules
