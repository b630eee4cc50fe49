// SPDX-License-Identifier: Apache-2.0
#include <stead/process/judge.hpp>

#include <stead/base/assert.hpp>

#include <algorithm>
#include <iterator>

namespace stead::process {
namespace {

constexpr nanoseconds look_soon = milliseconds{250}; // while a process may still be appearing
constexpr nanoseconds look_often = seconds{1};       // while one is missing, or its death would not be told

} // namespace

const char* text_of(Verdict verdict) noexcept {
    return verdict == Verdict::up ? "up" : verdict == Verdict::down ? "down" : "init";
}

Judge::Judge(Options options) : options_(std::move(options)), watched_(options_.specs.size()) {}

Judge::Decision Judge::set_armed(Instant now, const std::vector<bool>& armed) {
    STEAD_ASSERT(armed.size() == watched_.size());
    Decision decision;
    for (std::size_t i = 0; i < watched_.size(); ++i) {
        Watched& one = watched_[i];
        if (one.state.armed == armed[i]) {
            continue;
        }
        const bool told = one.state.verdict != Verdict::init;
        one = Watched{};
        one.state.armed = armed[i];
        one.armed_at = one.looked_at = now;
        one.judged_from = now + options_.specs[i].start_after;
        if (told) {
            decision.changed.push_back(i);
        }
        if (!armed[i]) {
            asked_ = false; // the action that was asked for has begun
        }
    }
    return decision;
}

bool Judge::looked_for(std::size_t index, Instant now) const {
    const Watched& one = watched_[index];
    return one.state.armed && now >= one.judged_from;
}

Judge::Decision Judge::on_sights(Instant now, Instant begun, const std::vector<Sight>& sights) {
    STEAD_ASSERT(sights.size() == watched_.size());
    Decision decision;
    for (std::size_t i = 0; i < watched_.size(); ++i) {
        if (watched_[i].state.armed && begun >= watched_[i].judged_from) {
            watched_[i].looked_at = now;
            watched_[i].each_death_seen = false;
            if (sights[i].count) {
                judge(now, i, sights[i], decision);
            }
        }
    }
    note_action(now, decision);
    return decision;
}

void Judge::note_action(Instant now, const Decision& decision) {
    if (decision.action != Action::none) {
        asked_ = true;
        asked_at_ = now;
    }
}

void Judge::judge(Instant now, std::size_t index, const Sight& sight, Decision& decision) {
    const Spec& spec = options_.specs[index];
    Watched& one = watched_[index];
    one.state.count = sight.count;
    one.each_death_seen = sight.each_death_seen;
    one.seen = one.seen || *sight.count > 0;
    const bool good = spec.in_bounds(*sight.count);
    if (!good && *sight.count < spec.atleast && one.state.verdict == Verdict::init &&
        (now < one.judged_from + grace || (sight.lenient && !one.seen))) {
        return;
    }
    const Verdict verdict = good ? Verdict::up : Verdict::down;
    if (verdict != one.state.verdict) {
        one.state.verdict = verdict;
        one.handle_again = Instant{};
        decision.changed.push_back(index);
    }
    if (!good && spec.action != Action::none && !one.handler_runs && now >= one.handle_again) {
        act(now, index, spec.action, reason_of(index), decision);
    }
}

void Judge::act(Instant now, std::size_t index, Action action, const std::string& reason, Decision& decision) {
    const bool under_way = asked_ && (!ready_ || now < asked_at_ + options_.polltimer);
    if (under_way || (action == Action::restart && !ready_)) {
        return; // the next look asks again
    }
    if (action == Action::handler) {
        watched_[index].handler_runs = true;
        decision.handlers.push_back(index);
        return;
    }
    const bool first = decision.action == Action::none;
    const auto& services = options_.specs[index].restart_services;
    if (services.empty() || (!first && decision.services.empty())) {
        decision.services.clear(); // one of those that are due needs the whole application
    } else {
        std::ranges::copy_if(services, std::back_inserter(decision.services), [&](const std::string& one) {
            return std::ranges::find(decision.services, one) == decision.services.end();
        });
    }
    decision.action = std::max(decision.action, action);
    decision.reason += (decision.reason.empty() ? "" : "; ") + reason;
}

Judge::Decision Judge::on_handler_done(Instant now, std::size_t index, bool ok) {
    Decision decision;
    Watched& one = watched_[index];
    if (!one.handler_runs) {
        return decision; // of an arming that is over
    }
    one.handler_runs = false;
    one.handle_again = now + options_.polltimer;
    if (!ok) {
        act(now, index, Action::stopstart, options_.specs[index].handler + " failed for " + reason_of(index), decision);
        note_action(now, decision);
    }
    return decision;
}

Instant Judge::next_look() const {
    Instant next = never;
    for (std::size_t i = 0; i < watched_.size(); ++i) {
        const Watched& one = watched_[i];
        if (!one.state.armed) {
            continue;
        }
        Instant due = one.looked_at + options_.polltimer;
        if (one.looked_at < one.judged_from || (one.looked_at == one.armed_at && !one.state.count)) {
            due = one.judged_from; // not looked at yet
        } else if (one.state.verdict == Verdict::init && one.looked_at < one.judged_from + grace) {
            due = one.looked_at + look_soon;
        } else if (one.state.verdict != Verdict::up || !one.each_death_seen || options_.specs[i].atmax >= 0) {
            due = one.looked_at + look_often;
        }
        next = std::min(next, std::max(due, one.judged_from));
    }
    return next;
}

std::string Judge::reason_of(std::size_t index) const {
    const Spec& spec = options_.specs[index];
    const std::uint32_t count = watched_[index].state.count.value_or(0);
    std::string bound = spec.atmax < 0 || count < spec.atleast ? "at least " + std::to_string(spec.atleast)
                                                               : "at most " + std::to_string(spec.atmax);
    return std::string{spec.service ? "service " : "process "} + spec.name + ": " + std::to_string(count) +
           " running, " + bound + " wanted";
}

} // namespace stead::process
