// SPDX-License-Identifier: Apache-2.0
#include <stead/base/assert.hpp>
#include <stead/core/automaton.hpp>

#include <utility>

namespace stead::automaton {

Effects Automaton::step(const Event& event) {
    std::visit([this](const auto& e) { on(e); }, event);
    return std::exchange(effects_, {});
}

// ---- What is asked for
// --------------------------------------------------------------------------------------------------

void Automaton::on(const Start& event) {
    if (state_ != State::stop || row_ != nullptr) {
        ignore("start");
        return;
    }
    log(Log::Level::event, "Action start called by " + event.by);
    goal_ = Goal::active;
    at_once_ = interrupted_ = false;
    failure_.clear();
    begin(State::wait);
}

void Automaton::on(const Stop& event) {
    if (state_ == State::stop && row_ == nullptr) {
        ignore("stop");
        return;
    }
    const Goal wanted = event.then == Stop::Then::stay          ? Goal::stop
                        : event.then == Stop::Then::start_again ? Goal::start_again
                                                                : Goal::wait;
    // A person's stop beats what is under way; what is under way beats a wish to come back.
    if ((goal_ == Goal::stop && wanted != Goal::stop) || (goal_ == wanted && !(event.at_once && !at_once_))) {
        ignore("stop");
        return;
    }
    const char* verb = wanted == Goal::stop          ? (event.at_once ? "forcestop" : "stop")
                       : wanted == Goal::start_again ? "stopstart"
                                                     : "wait";
    log(Log::Level::event, std::string{"Action "} + verb + " called by " + event.by);
    if (wanted == Goal::stop && !event.reason.empty()) {
        failure_ = event.reason;
    }
    const bool was_going_down = goal_ != Goal::active;
    goal_ = wanted;
    const bool hurry = event.at_once && !at_once_;
    at_once_ = at_once_ || event.at_once;
    if (row_ == nullptr) {
        settle();
    } else if (!was_going_down && (row_->to == active_ || row_->from == State::stop)) {
        interrupt();
    } else if (hurry && waiting_ == Waiting::hook && !interrupted_) {
        const bool last_resort = forced_round_ || is_force(row_->steps[position_ - 1]);
        if (!last_resort) {
            effects_.emplace_back(CancelHook{});
        }
    } else if (hurry && waiting_ == Waiting::services) {
        --position_;
        waiting_ = Waiting::nothing;
        advance(); // asks again, at once
    }
}

void Automaton::on(const Restart& event) {
    if (row_ != nullptr || state_ != active_ || goal_ != Goal::active) {
        ignore("restart");
        return;
    }
    log(Log::Level::event, "Action restart called by " + event.by);
    restart_arguments_ = event.arguments;
    begin(active_);
}

void Automaton::on(const Block& event) {
    block_ = event.reason.empty() ? std::nullopt : std::optional{event};
    if (row_ == nullptr && state_ != State::stop) {
        settle();
    }
}

Abilities Automaton::able() const noexcept {
    const bool up = goal_ == Goal::active;
    const bool stopped = state_ == State::stop && row_ == nullptr;
    return {.stop = !stopped && goal_ != Goal::stop,
            .stopstart = !stopped && up,
            .wait = up && (row_ == nullptr ? state_ == active_ : row_->to == active_),
            .restart = up && row_ == nullptr && state_ == active_};
}

// ---- What happened
// ------------------------------------------------------------------------------------------------------

void Automaton::on(const HookDone& event) {
    if (waiting_ != Waiting::hook) {
        ignore("end of a hook");
        return;
    }
    waiting_ = Waiting::nothing;
    const Step step = row_->steps[position_ - 1];
    if (interrupted_) {
        begin_way_down();
        return;
    }
    if (event.missing && step == Step::prestart) {
        log(Log::Level::warning, "the module has no prestart: leftovers of an unclean end are not stopped");
    }
    if (!event.ok && !event.missing) {
        if (is_start(step) || step == Step::prestart) {
            fail_start(event.reason);
            return;
        }
        log(Log::Level::warning, event.reason);
    }
    if (is_stop(step) && !forced_round_ && !event.missing) {
        run_hook(step, true);
        return;
    }
    arm(armed_ | armed_after(step));
    forced_round_ = false;
    advance();
}

void Automaton::on(const ServicesDone& event) {
    if (waiting_ != Waiting::services) {
        ignore("answer of the services");
        return;
    }
    waiting_ = Waiting::nothing;
    const Step step = row_->steps[position_ - 1];
    if (!event.ok) {
        if (step == Step::prepare || step == Step::open) {
            fail_start(event.reason);
            return;
        }
        log(Log::Level::warning, event.reason);
    }
    if (step == Step::close && row_->to == State::wait) {
        tell(State::wait, Qualifier::transient, failure_);
    }
    advance();
}

// ---- Walking the table
// --------------------------------------------------------------------------------------------------

void Automaton::begin(State to) {
    row_ = find_row(state_, to);
    STEAD_ASSERT(row_ != nullptr);
    position_ = 0;
    forced_round_ = false;
    if (to == active_ || serves(state_)) {
        tell(active_, Qualifier::transient, failure_); // going up, restarting, or draining
    } else {
        tell(State::wait, Qualifier::transient, failure_);
    }
    advance();
}

void Automaton::advance() {
    while (position_ < row_->steps.size() && row_->steps[position_] != Step::none) {
        const Step step = row_->steps[position_++];
        if (is_moment(step)) {
            ask(static_cast<Moment>(static_cast<int>(step) - static_cast<int>(Step::prepare) + 1));
            return;
        }
        run_hook(step, is_force(step) || (is_stop(step) && at_once_));
        return;
    }
    finish_row();
}

void Automaton::finish_row() {
    const Row& done = *std::exchange(row_, nullptr);
    if (done.to == State::wait && serves(done.from)) {
        prepared_ = false;
    }
    if (done.to == State::stop) {
        tell(State::stop, Qualifier::not_ready, failure_);
        const bool again = goal_ == Goal::start_again;
        goal_ = Goal::stop;
        effects_.emplace_back(Finished{again});
        return;
    }
    state_ = done.to;
    settle();
}

void Automaton::settle() {
    if (state_ == active_) {
        if (goal_ != Goal::active) {
            begin(State::wait);
        } else if (block_ && !block_->start) {
            tell(active_, Qualifier::transient, block_->reason);
        } else {
            tell(active_, Qualifier::ready, {});
        }
        return;
    }
    if (goal_ == Goal::stop || goal_ == Goal::start_again) {
        begin(State::stop);
        return;
    }
    if (goal_ == Goal::wait) { // one pass through WAIT; rules that still hold keep it there by a Block
        goal_ = Goal::active;
        at_once_ = false;
    }
    if (block_) {
        tell(State::wait, block_->expected ? Qualifier::transient : Qualifier::not_ready, block_->reason);
        return;
    }
    begin(active_);
}

void Automaton::interrupt() {
    if (waiting_ == Waiting::hook) {
        interrupted_ = true;
        effects_.emplace_back(CancelHook{});
        return;
    }
    waiting_ = Waiting::nothing;
    begin_way_down();
}

void Automaton::begin_way_down() {
    interrupted_ = false;
    waiting_ = Waiting::nothing;
    const bool was_starting_module = row_->from == State::stop;
    row_ = nullptr;
    if (was_starting_module || !prepared_) {
        state_ = State::wait;
        settle();
        return;
    }
    state_ = active_; // as far as scripts and services know
    begin(State::wait);
}

void Automaton::fail_start(const std::string& reason) {
    failure_ = reason;
    log(Log::Level::error, reason);
    if (goal_ == Goal::active || goal_ == Goal::wait) {
        log(Log::Level::event, "Action stop called by " + reason);
        goal_ = Goal::stop;
    }
    begin_way_down();
}

// ---- Effects
// ------------------------------------------------------------------------------------------------------------

std::string_view Automaton::action() const noexcept {
    switch (goal_) {
    case Goal::active: return row_->from == row_->to ? "restart" : "start";
    case Goal::wait: return "stopwait";
    case Goal::stop: return "stop";
    case Goal::start_again: return "stopstart";
    }
    return "";
}

void Automaton::run_hook(Step step, bool force) {
    arm(armed_ & ~disarmed_before(step));
    forced_round_ = force && is_stop(step);
    RunHook hook{.name = std::string{hook_name(step)}, .arguments = {}, .limit = Limit::start};
    if (force) {
        hook.arguments.emplace_back("force");
        hook.limit = Limit::force_stop;
    } else if (is_stop(step)) {
        hook.limit = Limit::nice_stop;
    }
    hook.arguments.emplace_back(name(row_->from));
    hook.arguments.emplace_back(name(row_->to));
    hook.arguments.emplace_back(action());
    if (row_->from == row_->to && (is_stop(step) || is_start(step))) {
        hook.arguments.insert(hook.arguments.end(), restart_arguments_.begin(), restart_arguments_.end());
    }
    waiting_ = Waiting::hook;
    effects_.emplace_back(std::move(hook));
}

void Automaton::ask(Moment moment) {
    prepared_ = prepared_ || moment == Moment::prepare;
    const bool nothing_to_drain = moment == Moment::close && !opened_;
    opened_ = moment == Moment::open || (opened_ && moment != Moment::close);
    waiting_ = Waiting::services;
    effects_.emplace_back(AskServices{.moment = moment,
                                      .from = row_->from,
                                      .to = row_->to,
                                      .restart = row_->from == row_->to,
                                      .at_once = at_once_ || nothing_to_drain});
}

void Automaton::tell(State state, Qualifier qualifier, std::string reason) {
    // While a row is walked, state_ stays its origin; what is told is where the module is on its way.
    if (row_ == nullptr) {
        state_ = state;
    }
    if (told_ && told_state_ == state && qualifier_ == qualifier && reason_ == reason) {
        return;
    }
    told_ = true;
    told_state_ = state;
    qualifier_ = qualifier;
    reason_ = reason;
    effects_.emplace_back(StateChanged{state, qualifier, std::move(reason)});
}

void Automaton::arm(std::uint32_t classes) {
    if (classes != armed_) {
        armed_ = classes;
        effects_.emplace_back(Armed{classes});
    }
}

void Automaton::log(Log::Level level, std::string text) { effects_.emplace_back(Log{level, std::move(text)}); }

void Automaton::ignore(std::string_view event) {
    ++ignored_;
    log(Log::Level::event, std::string{event} + " ignored: the module is " + std::string{name(told_state_)} + " " +
                               std::string{name(qualifier_)} + (goal_ == Goal::active ? "" : ", on its way down"));
}

} // namespace stead::automaton
