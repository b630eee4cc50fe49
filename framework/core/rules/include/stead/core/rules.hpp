// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Failover rules as data, and the classic language that makes them: "label: if (expression) then action();".
/// docs/failover-machine.md has the model. Pure; values only; nothing throws.
namespace stead::rules {

inline constexpr std::size_t text_bytes_max = 64u << 10; ///< of one source
inline constexpr std::size_t rules_max = 1000;           ///< in one source, and of a whole module
inline constexpr std::size_t label_bytes_max = 127;      ///< "t_" and a name, with room
inline constexpr std::size_t nodes_max = 256;            ///< conditions and operators of one expression
inline constexpr int depth_max = 32;                     ///< nested parentheses and negations
inline constexpr std::size_t problems_max = 50;

/// What a rule sees of a resource's value. Any other text is unknown, as is a resource that nobody published.
enum class Verdict : std::uint8_t { unknown, init, up, down };
[[nodiscard]] Verdict verdict_of(std::string_view value) noexcept;
[[nodiscard]] std::string_view name(Verdict verdict) noexcept;

/// The stronger one first: of those that fire together the first is taken.
enum class Action : std::uint8_t { stop, stopstart, wait, swap, restart, assign };
[[nodiscard]] std::string_view name(Action action) noexcept;

/// "class.id", "class.?" (any of the class) or "class.*" (all of them, and at least one).
struct Subject {
    enum class Which : std::uint8_t { named, any, all };
    bool remote{};
    Which which{};
    std::string kind; ///< before the first dot: "tcp"
    std::string id;   ///< after it, empty for wildcards
    bool operator==(const Subject&) const = default;
};

struct Condition {
    Subject subject;
    Verdict verdict{};
    bool equal{true};     ///< false: !=
    int line{}, column{}; ///< where the subject is written, as in Place; 0: nowhere
    /// The same condition, wherever it is written.
    friend bool operator==(const Condition& a, const Condition& b) {
        return a.subject == b.subject && a.verdict == b.verdict && a.equal == b.equal;
    }
};

/// A tree in an array, children before parents; the last node is the root.
struct Expression {
    struct Node {
        enum class Kind : std::uint8_t { condition, cluster, negation, conjunction, disjunction };
        Kind kind{};
        std::uint32_t left{};  ///< condition: index in `conditions`; else a node
        std::uint32_t right{}; ///< conjunction and disjunction
        bool operator==(const Node&) const = default;
    };
    std::vector<Node> nodes;
    std::vector<Condition> conditions;
    bool operator==(const Expression&) const = default;
};

/// Where a rule is written: what a person opens. Lines and columns count from 1, columns in characters.
struct Place {
    std::string file;
    int line{1};
    int column{1};
};

struct Rule {
    std::string label;
    Expression when;
    Action action{};
    std::string target; ///< assign: the resource
    Verdict value{};    ///< assign: what it becomes
    nanoseconds hold{}; ///< how long the expression must hold before the action
    Place place;
};

/// The same rule, wherever it is written.
[[nodiscard]] bool same(const Rule& a, const Rule& b);

struct Problem {
    Place place;
    std::string text; ///< "found 'dwon'; allowed: init, down, up, unknown"
};

/// Rules in the order of the text, and every problem in it. With a problem, `rules` is not to be used.
struct Parsed {
    std::vector<Rule> rules;
    std::vector<Problem> problems;
    [[nodiscard]] bool ok() const noexcept { return problems.empty(); }
};

/// What the mode of a module allows.
struct Dialect {
    bool remote{}; ///< mirror: resources of the other node
    bool swap{};   ///< mirror: roles to exchange
};

/// `start`: where the first character of `text` stands; it is in the places of rules and problems.
[[nodiscard]] Parsed parse_rules(std::string_view text, const Place& start, const Dialect& dialect, nanoseconds hold);

/// One expression without "if" and "then", for rules written in Lua.
struct ParsedExpression {
    Expression expression;
    std::vector<Problem> problems;
};
[[nodiscard]] ParsedExpression parse_expression(std::string_view text, const Place& start, const Dialect& dialect);

/// "stop", "stopstart", "wait", "restart", "swap" within the dialect. Problems: the text for a person.
struct ParsedAction {
    Action action{};
    std::string problem; ///< empty: good
};
[[nodiscard]] ParsedAction parse_action(std::string_view word, const Dialect& dialect);

/// A label: letters, digits, '_', '-', '.', at most label_bytes_max of them.
[[nodiscard]] bool is_label(std::string_view text) noexcept;

} // namespace stead::rules
