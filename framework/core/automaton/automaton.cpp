// SPDX-License-Identifier: Apache-2.0
#include <stead/base/assert.hpp>
#include <stead/core/automaton.hpp>

#include <array>
#include <utility>

namespace stead::automaton {

Effects Automaton::step(const Event& event) {
    std::visit([this](const auto& e) { on(e); }, event);
    offer_choice();
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
    want(wanted);
    const bool more_urgent = event.at_once && !at_once_;
    at_once_ = at_once_ || event.at_once;
    if (row_ == nullptr) {
        settle();
        return;
    }
    const bool leaves = is_role(row_->to) || row_->from == State::stop;
    if (!was_going_down && !interrupted_ && leaves) {
        interrupt(more_urgent);
    } else if (more_urgent) {
        hurry();
    }
}

void Automaton::on(const Restart& event) {
    if (!able().restart) {
        ignore("restart");
        return;
    }
    log(Log::Level::event, "Action restart called by " + event.by);
    restart_arguments_ = event.arguments;
    begin(state_);
}

void Automaton::on(const Block& event) {
    block_ = event.reason.empty() ? std::nullopt : std::optional{event};
    if (row_ == nullptr && state_ != State::stop) {
        settle();
    }
}

void Automaton::on(const Role& event) {
    if (!choice_ || event.state == State::stop || event.state == State::up) {
        ignore("role " + std::string{name(event.state)});
        return;
    }
    if (!role_ || role_->state != event.state) {
        static constexpr std::array<std::string_view, 6> verbs{"", "wait", "alone", "prim", "second", ""};
        log(Log::Level::event, "Action " + std::string{verbs[static_cast<std::size_t>(event.state)]} + " called by " +
                                   (event.reason.empty() ? "its service" : event.reason));
    }
    role_ = event;
    const bool fenced = event.state == State::wait && (serves(state_) || (row_ != nullptr && serves(row_->to)));
    const bool more_urgent = fenced && !at_once_;
    at_once_ = at_once_ || fenced;
    if (row_ == nullptr) {
        settle();
        return;
    }
    const bool leaves = is_role(row_->to) && (event.state == State::wait || (serves(row_->to) && !serves(event.state)));
    if (leaves && !interrupted_) {
        interrupt(more_urgent);
    } else if (more_urgent) {
        hurry();
    }
}

Abilities Automaton::able() const noexcept {
    const bool up = goal_ == Goal::active;
    const bool stopped = state_ == State::stop && row_ == nullptr;
    const bool stable = up && row_ == nullptr && is_role(state_);
    return {.stop = !stopped && goal_ != Goal::stop,
            .stopstart = !stopped && up,
            .wait = stable || (up && row_ != nullptr && is_role(row_->to)),
            .swap = stable && (state_ == State::prim || state_ == State::second),
            .restart = stable};
}

State Automaton::wanted() const noexcept { return active_ ? *active_ : role_ ? role_->state : State::wait; }

bool Automaton::may_choose() const noexcept {
    if (!follows_roles() || goal_ != Goal::active) {
        return false;
    }
    if (row_ != nullptr) {
        return row_->from != State::stop;
    }
    return is_role(state_) || (state_ == State::wait && !block_);
}

void Automaton::offer_choice() {
    if (may_choose() == choice_) {
        return;
    }
    choice_ = !choice_;
    if (!choice_) {
        role_.reset();
    }
    effects_.emplace_back(RoleChoice{choice_});
}

void Automaton::want(Goal goal) {
    goal_ = goal;
    offer_choice();
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
    if (interrupted_ && position_ > steps_down(*row_)) {
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
    if (step == Step::close && row_->to != row_->from) {
        tell(row_->to, Qualifier::transient, why());
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
    if (serves(state_) && serves(to) && state_ != to) {
        // It serves all along: PRIM and ALONE differ in what the other node is.
    } else if (serves(state_)) {
        tell(state_, Qualifier::transient, why()); // restarting, or draining
    } else {
        tell(is_role(to) ? to : State::wait, Qualifier::transient, why());
    }
    advance();
}

void Automaton::advance() {
    if (interrupted_ && position_ >= steps_down(*row_)) {
        begin_way_down();
        return;
    }
    if (position_ < row_->steps.size() && row_->steps[position_] != Step::none) {
        const Step step = row_->steps[position_++];
        if (is_moment(step)) {
            ask(moment_of(step));
            return;
        }
        run_hook(step, is_force(step) || (is_stop(step) && at_once_));
        return;
    }
    finish_row();
}

void Automaton::finish_row() {
    const Row& done = *std::exchange(row_, nullptr);
    if (done.to == State::wait) {
        begun_ = false;
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

void Automaton::settle() { is_role(state_) ? settle_in_role() : settle_in_wait(); }

void Automaton::settle_in_role() {
    if (goal_ != Goal::active) {
        begin(State::wait);
    } else if (wanted() != state_) {
        begin(wanted());
    } else if (block_ && !block_->start) {
        tell(state_, Qualifier::transient, block_->reason);
    } else {
        tell(state_, role_ && role_->expected ? Qualifier::transient : Qualifier::ready, why());
    }
}

void Automaton::settle_in_wait() {
    if (goal_ == Goal::stop || goal_ == Goal::start_again) {
        begin(State::stop);
        return;
    }
    if (goal_ == Goal::wait) { // one pass through WAIT; rules that still hold keep it there by a Block
        goal_ = Goal::active;
    }
    at_once_ = false;
    if (block_) {
        tell(State::wait, block_->expected ? Qualifier::transient : Qualifier::not_ready, block_->reason);
    } else if (wanted() != State::wait) {
        begin(wanted());
    } else {
        const bool expected = !role_ || role_->expected;
        tell(State::wait, expected ? Qualifier::transient : Qualifier::not_ready,
             role_ ? role_->reason : "no role yet");
    }
}

void Automaton::interrupt(bool urgent) {
    if (position_ <= steps_down(*row_)) { // stops something itself; the way down of `to` would leave that out
        interrupted_ = true;
        if (urgent) {
            hurry();
        }
    } else if (waiting_ == Waiting::hook) {
        interrupted_ = true;
        effects_.emplace_back(CancelHook{});
    } else {
        begin_way_down();
    }
}

void Automaton::hurry() {
    const bool goes_up = row_->from == State::stop || (is_role(row_->to) && position_ > steps_down(*row_));
    if (goes_up) { // what starts was cancelled already
        return;
    }
    const Step step = row_->steps[position_ - 1];
    if (waiting_ == Waiting::services) {
        ask(moment_of(step)); // again, at once
    } else if (!forced_round_ && !is_force(step)) {
        effects_.emplace_back(CancelHook{});
    }
}

void Automaton::begin_way_down() {
    interrupted_ = false;
    waiting_ = Waiting::nothing;
    const Row& left = *std::exchange(row_, nullptr);
    if (left.from == State::stop || !begun_) {
        state_ = State::wait;
        settle();
        return;
    }
    state_ = left.to; // as far as scripts and services know
    begin(State::wait);
}

void Automaton::fail_start(const std::string& reason) {
    failure_ = reason;
    log(Log::Level::error, reason);
    if (goal_ == Goal::active || goal_ == Goal::wait) {
        log(Log::Level::event, "Action stop called by " + reason);
        want(Goal::stop);
    }
    begin_way_down();
}

// ---- Effects
// ------------------------------------------------------------------------------------------------------------

std::string_view Automaton::action() const noexcept {
    switch (goal_) {
    case Goal::active:
        return row_->from == row_->to                           ? "restart"
               : row_->to == State::wait && is_role(row_->from) ? "stopwait"
                                                                : "start";
    case Goal::wait: return "stopwait";
    case Goal::stop: return "stop";
    case Goal::start_again: return "stopstart";
    }
    return "";
}

const std::string& Automaton::why() const noexcept {
    return failure_.empty() && role_ && goal_ == Goal::active ? role_->reason : failure_;
}

void Automaton::run_hook(Step step, bool force) {
    begun_ = begun_ || is_start(step);
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
    begun_ = begun_ || moment == Moment::prepare;
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
