// SPDX-License-Identifier: Apache-2.0
#include <stead/base/assert.hpp>
#include <stead/core/rule_engine.hpp>

#include <algorithm>
#include <utility>

namespace stead::rules {

namespace {

using Kind = Expression::Node::Kind;
using Which = Subject::Which;

constexpr std::size_t witnesses_max = 8; // a log line is for a person

std::string shown(const Subject& subject, std::string_view id, Verdict verdict) {
    return (subject.remote ? "remote." : "") + subject.kind + "." + std::string{id} + "=" + std::string{name(verdict)};
}

std::string joined(const std::set<std::string>& found) {
    std::string text;
    std::size_t written = 0;
    for (const std::string& one : found) {
        if (written++ == witnesses_max) {
            return text + " and " + std::to_string(found.size() - witnesses_max) + " more";
        }
        text += (text.empty() ? "" : ", ") + one;
    }
    return text;
}

} // namespace

// ---- Facts

void Engine::set_rules(std::vector<Rule> rules) {
    std::vector<Progress> progress(rules.size());
    for (std::size_t i = 0; i < rules.size(); ++i) {
        for (std::size_t old = 0; old < rules_.size(); ++old) {
            if (same(rules[i], rules_[old])) {
                progress[i] = progress_[old];
            }
        }
        progress[i].dirty = true;
        progress[i].muted = false;
        progress[i].burst = 0;
    }
    rules_ = std::move(rules);
    progress_ = std::move(progress);
    index_rules();
}

void Engine::index_rules() {
    by_kind_.clear();
    by_cluster_.clear();
    for (std::size_t i = 0; i < rules_.size(); ++i) {
        for (const Condition& condition : rules_[i].when.conditions) {
            by_kind_[condition.subject.kind].insert(i);
        }
        if (std::ranges::any_of(rules_[i].when.nodes, [](const auto& node) { return node.kind == Kind::cluster; })) {
            by_cluster_.insert(i);
        }
    }
}

void Engine::put(Side where, std::string_view resource, Verdict verdict) {
    const std::size_t dot = resource.find('.');
    if (dot == std::string_view::npos || dot == 0 || dot + 1 == resource.size()) {
        return; // no rule can name it
    }
    const auto kind = resource.substr(0, dot);
    const auto id = resource.substr(dot + 1);
    Resources& all = where == Side::remote ? remote_ : local_;
    auto group = all.find(kind);
    const bool known = group != all.end() && group->second.contains(id);
    if (known ? group->second.find(id)->second == verdict : verdict == Verdict::unknown) {
        return;
    }
    if (verdict == Verdict::unknown) { // as if it were not there: wildcards pass it over
        group->second.erase(group->second.find(id));
    } else {
        all[std::string{kind}].insert_or_assign(std::string{id}, verdict);
    }
    if (const auto touched = by_kind_.find(kind); touched != by_kind_.end()) {
        for (const std::size_t rule : touched->second) {
            progress_[rule].dirty = true;
        }
    }
}

void Engine::set_cluster(bool others) {
    if (std::exchange(cluster_, others) != others) {
        for (const std::size_t rule : by_cluster_) {
            progress_[rule].dirty = true;
        }
    }
}

void Engine::set_acting(bool acting) {
    const bool back = acting && !acting_;
    acting_ = acting;
    if (!acting) {
        return;
    }
    for (std::size_t i = 0; i < progress_.size(); ++i) {
        Progress& one = progress_[i];
        // What a wait rule did before is undone since then; all others have acted, and need not again.
        one.done = one.done && !one.unacted && !(back && rules_[i].action == Action::wait);
        one.unacted = false;
    }
}

// ---- Evaluation

Verdict Engine::verdict(const Subject& subject) const {
    const auto group = side(subject.remote).find(subject.kind);
    if (group == side(subject.remote).end()) {
        return Verdict::unknown;
    }
    const auto found = group->second.find(subject.id);
    return found == group->second.end() ? Verdict::unknown : found->second;
}

bool Engine::met(const Condition& condition) const {
    const Subject& subject = condition.subject;
    const auto fits = [&](Verdict verdict) { return (verdict == condition.verdict) == condition.equal; };
    if (subject.which == Which::named) {
        return fits(verdict(subject));
    }
    const auto group = side(subject.remote).find(subject.kind);
    if (group == side(subject.remote).end() || group->second.empty()) {
        return false;
    }
    const auto one_fits = [&](const auto& resource) { return fits(resource.second); };
    return subject.which == Which::any ? std::ranges::any_of(group->second, one_fits)
                                       : std::ranges::all_of(group->second, one_fits);
}

std::vector<bool> Engine::values(const Expression& expression) const {
    std::vector<bool> value(expression.nodes.size());
    for (std::size_t i = 0; i < value.size(); ++i) {
        const auto& node = expression.nodes[i];
        switch (node.kind) {
        case Kind::condition: value[i] = met(expression.conditions[node.left]); break;
        case Kind::cluster: value[i] = cluster_; break;
        case Kind::negation: value[i] = !value[node.left]; break;
        case Kind::conjunction: value[i] = value[node.left] && value[node.right]; break;
        case Kind::disjunction: value[i] = value[node.left] || value[node.right]; break;
        }
    }
    return value;
}

/// The resources that make a condition what it is.
void Engine::witnesses(const Condition& condition, bool value, std::set<std::string>& out) const {
    const Subject& subject = condition.subject;
    if (subject.which == Which::named) {
        out.insert(shown(subject, subject.id, verdict(subject)));
        return;
    }
    const auto group = side(subject.remote).find(subject.kind);
    if (group == side(subject.remote).end()) {
        return;
    }
    for (const auto& [id, verdict] : group->second) {
        if (((verdict == condition.verdict) == condition.equal) == value) {
            out.insert(shown(subject, id, verdict));
        }
    }
}

/// From the root down, only through nodes that have the value their parent needed.
std::string Engine::because(const Expression& expression) const {
    const std::vector<bool> value = values(expression);
    std::vector<bool> matters(value.size());
    std::set<std::string> found;
    if (!matters.empty()) {
        matters.back() = true;
    }
    for (std::size_t i = matters.size(); i-- > 0;) {
        const auto& node = expression.nodes[i];
        if (!matters[i]) {
            continue;
        }
        switch (node.kind) {
        case Kind::condition: witnesses(expression.conditions[node.left], value[i], found); break;
        case Kind::cluster: found.insert(cluster_ ? "cluster()" : "no other node in the view"); break;
        case Kind::negation: matters[node.left] = true; break;
        case Kind::conjunction:
        case Kind::disjunction:
            for (const std::uint32_t child : {node.left, node.right}) {
                matters[child] = matters[child] || value[child] == value[i];
            }
            break;
        }
    }
    return joined(found);
}

bool Engine::can(Action action) const noexcept {
    switch (action) {
    case Action::stop: return possible_.stop;
    case Action::stopstart: return possible_.stopstart;
    case Action::wait: return possible_.wait;
    case Action::swap: return possible_.swap;
    case Action::restart: return possible_.restart;
    case Action::assign: return true;
    }
    return false;
}

void Engine::count_assignment(Progress& one, Instant now) {
    if (one.burst == 0 || now - one.burst_since >= assignment_span) {
        one.burst_since = now;
        one.burst = 0;
    }
    one.muted = ++one.burst > assignments_max;
}

std::vector<Firing> Engine::step(Instant now) {
    std::vector<Firing> fired;
    for (std::size_t i = 0; i < rules_.size(); ++i) {
        Progress& one = progress_[i];
        const Rule& rule = rules_[i];
        if (std::exchange(one.dirty, false)) {
            const std::vector<bool> value = values(rule.when);
            const bool holds = !value.empty() && value.back();
            if (holds && !one.holds) {
                one.since = now;
            }
            one.holds = holds;
            one.due = one.due && holds;
            one.done = one.done && holds;
            one.unacted = one.unacted && holds;
        }
        one.due = one.due || (one.holds && now - one.since >= rule.hold);
        if (!one.due || one.done || one.muted || (acting_ && !can(rule.action))) {
            continue;
        }
        one.done = true;
        one.unacted = !acting_;
        if (rule.action == Action::assign && acting_) {
            count_assignment(one, now);
        }
        fired.push_back({.label = rule.label,
                         .action = rule.action,
                         .because = because(rule.when),
                         .target = rule.target,
                         .value = rule.value,
                         .acts = acting_,
                         .muted = one.muted,
                         .covered_by = {}});
    }
    std::ranges::stable_sort(fired, {}, &Firing::action);
    for (Firing& one : fired) {
        if (one.acts && one.action != Action::assign && &one != &fired.front()) {
            one.covered_by = fired.front().label;
        }
    }
    return fired;
}

Instant Engine::next_deadline() const noexcept {
    Instant next = never;
    for (std::size_t i = 0; i < rules_.size(); ++i) {
        const Progress& one = progress_[i];
        if (one.dirty) {
            return Instant{};
        }
        if (one.holds && !one.due) {
            next = std::min(next, one.since + rules_[i].hold);
        }
    }
    return next;
}

std::optional<Hold> Engine::hold() const {
    if (!acting_) {
        return std::nullopt;
    }
    std::set<std::string> waiting;
    for (const Rule& rule : rules_) {
        if (rule.action != Action::wait) {
            continue;
        }
        if (const auto value = values(rule.when); !value.empty() && value.back()) {
            return Hold{rule.label, because(rule.when), false};
        }
        for (const Condition& condition : rule.when.conditions) {
            const Subject& subject = condition.subject;
            if (!subject.remote && (subject.which != Which::named || verdict(subject) == Verdict::init)) {
                witnesses({subject, Verdict::init, true}, true, waiting);
            }
        }
    }
    return waiting.empty() ? std::nullopt : std::optional{Hold{{}, joined(waiting), true}};
}

} // namespace stead::rules
