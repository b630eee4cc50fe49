// SPDX-License-Identifier: Apache-2.0
#include <stead/core/rules.hpp>

#include <algorithm>
#include <array>

namespace stead::rules {

namespace {

constexpr std::array<std::string_view, 4> verdict_names{"unknown", "init", "up", "down"};
constexpr std::array<std::string_view, 6> action_names{"stop", "stopstart", "wait", "swap", "restart", "assign"};

} // namespace

Verdict verdict_of(std::string_view value) noexcept {
    const auto at = std::ranges::find(verdict_names, value);
    return at == verdict_names.end() ? Verdict::unknown : static_cast<Verdict>(at - verdict_names.begin());
}

std::string_view name(Verdict verdict) noexcept { return verdict_names[static_cast<std::size_t>(verdict)]; }

std::string_view name(Action action) noexcept { return action_names[static_cast<std::size_t>(action)]; }

ParsedAction parse_action(std::string_view word, const Dialect& dialect) {
    const auto at = std::ranges::find(action_names, word);
    if (at == action_names.end() || word == name(Action::assign)) {
        return {{},
                "found '" + std::string{word} + "'; allowed: stop(), stopstart(), wait(), restart()" +
                    (dialect.swap ? ", swap()" : "")};
    }
    const auto action = static_cast<Action>(at - action_names.begin());
    if (action == Action::swap && !dialect.swap) {
        return {{},
                "swap() exchanges the roles of a mirror module, and this module has none; allowed: stop(), "
                "stopstart(), wait(), restart()"};
    }
    return {action, {}};
}

bool same(const Rule& a, const Rule& b) {
    return a.label == b.label && a.action == b.action && a.hold == b.hold && a.target == b.target &&
           a.value == b.value && a.when == b.when;
}

bool is_label(std::string_view text) noexcept {
    constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    return !text.empty() && text.size() <= label_bytes_max && text.find_first_not_of(allowed) == std::string_view::npos;
}

} // namespace stead::rules
