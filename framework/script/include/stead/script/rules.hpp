// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/core/rules.hpp>

#include <string>
#include <string_view>
#include <vector>

/// Failover rules written in Lua, compiled to what the classic language compiles to.
namespace stead::script {

inline constexpr std::size_t rules_memory_bytes = 16u << 20;
inline constexpr std::uint64_t rules_instructions_max = 10'000'000;

/// What Rules.disable was given.
struct DisabledRule {
    std::string label;
    rules::Place place; ///< where the label is written
    friend bool operator==(const DisabledRule& a, const DisabledRule& b) { return a.label == b.label; }
};

struct LuaRules {
    std::vector<rules::Rule> rules; ///< in the order of their lines
    std::vector<DisabledRule> disabled;
    std::vector<rules::Problem> problems; ///< with one, nothing else is to be used
};

/// Does a text begin with a comment of Lua, as "--Lua Rules"?
[[nodiscard]] bool is_lua_rules(std::string_view text) noexcept;

/// Runs the text once, in a state of its own with limits. `start`: where its first character stands; `hold`: hold time
/// of rules that say none.
[[nodiscard]] LuaRules load_lua_rules(std::string_view text, const rules::Place& start, const rules::Dialect& dialect,
                                      nanoseconds hold);

} // namespace stead::script
