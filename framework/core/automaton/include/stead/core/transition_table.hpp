// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

/// The scripts and moments of every change of state, as data.
namespace stead::automaton {

/// Values as in plugin.h's stead_state; they also travel in heartbeats.
enum class State : std::uint8_t { stop = 0, wait = 1, alone = 2, prim = 3, second = 4, up = 5 };
enum class Qualifier : std::uint8_t { not_ready = 0, transient = 1, ready = 2 };
/// As plugin.h's stead_moment.
enum class Moment : std::uint8_t { prepare = 1, open = 2, close = 3, release = 4, retire = 5 };

[[nodiscard]] constexpr std::string_view name(State state) noexcept {
    constexpr std::array<std::string_view, 6> names{"STOP", "WAIT", "ALONE", "PRIM", "SECOND", "UP"};
    return names[static_cast<std::size_t>(state)];
}
[[nodiscard]] constexpr std::string_view name(Qualifier qualifier) noexcept {
    constexpr std::array<std::string_view, 3> names{"NotReady", "Transient", "Ready"};
    return names[static_cast<std::size_t>(qualifier)];
}

/// The state code of a heartbeat: state in the low byte, qualifier in the next; 0 = STOP NotReady.
[[nodiscard]] constexpr std::uint32_t encode(State state, Qualifier qualifier) noexcept {
    return static_cast<std::uint32_t>(state) | static_cast<std::uint32_t>(qualifier) << 8U;
}
[[nodiscard]] constexpr State decode_state(std::uint32_t code) noexcept {
    return (code & 0xffU) <= 5 ? static_cast<State>(code & 0xffU) : State::stop;
}
[[nodiscard]] constexpr Qualifier decode_qualifier(std::uint32_t code) noexcept {
    return (code >> 8U & 0xffU) <= 2 ? static_cast<Qualifier>(code >> 8U & 0xffU) : Qualifier::not_ready;
}

/// One thing to do. stop_* scripts run twice, nicely and then with `force`; force_* only the second time.
enum class Step : std::uint8_t {
    none,
    transition,
    prestart,
    poststop,
    start_both,
    start_prim,
    start_second,
    start_sec,
    stop_both,
    stop_prim,
    stop_second,
    stop_sec,
    force_both,
    force_prim,
    force_second,
    force_sec,
    prepare,
    open,
    close,
    release,
    retire,
};
[[nodiscard]] constexpr bool is_start(Step step) noexcept {
    return step >= Step::start_both && step <= Step::start_sec;
}
[[nodiscard]] constexpr bool is_stop(Step step) noexcept { return step >= Step::stop_both && step <= Step::stop_sec; }
[[nodiscard]] constexpr bool is_force(Step step) noexcept {
    return step >= Step::force_both && step <= Step::force_sec;
}
[[nodiscard]] constexpr bool is_moment(Step step) noexcept { return step >= Step::prepare; }
[[nodiscard]] constexpr Moment moment_of(Step step) noexcept {
    return static_cast<Moment>(static_cast<int>(step) - static_cast<int>(Step::prepare) + 1);
}
/// The hook's file name; empty for none and moments.
[[nodiscard]] constexpr std::string_view hook_name(Step step) noexcept {
    constexpr std::array<std::string_view, 21> names{"",
                                                     "transition",
                                                     "prestart",
                                                     "poststop",
                                                     "start_both",
                                                     "start_prim",
                                                     "start_second",
                                                     "start_sec",
                                                     "stop_both",
                                                     "stop_prim",
                                                     "stop_second",
                                                     "stop_sec",
                                                     "stop_both",
                                                     "stop_prim",
                                                     "stop_second",
                                                     "stop_sec",
                                                     "",
                                                     "",
                                                     "",
                                                     "",
                                                     ""};
    return names[static_cast<std::size_t>(step)];
}

// Classes of checkers, as plugin.h's STEAD_WHEN_*.
inline constexpr std::uint32_t armed_pre = 1, armed_both = 2, armed_prim = 4, armed_second = 8, armed_sec = 16;

/// The class that begins once this script succeeded; 0 for other steps.
[[nodiscard]] constexpr std::uint32_t armed_after(Step step) noexcept {
    switch (step) {
    case Step::prestart: return armed_pre;
    case Step::start_both: return armed_both;
    case Step::start_prim: return armed_prim;
    case Step::start_second: return armed_second;
    case Step::start_sec: return armed_sec;
    default: return 0;
    }
}
/// The class that ends before this script runs.
[[nodiscard]] constexpr std::uint32_t disarmed_before(Step step) noexcept {
    switch (step) {
    case Step::poststop: return armed_pre;
    case Step::stop_both:
    case Step::force_both: return armed_both;
    case Step::stop_prim:
    case Step::force_prim: return armed_prim;
    case Step::stop_second:
    case Step::force_second: return armed_second;
    case Step::stop_sec:
    case Step::force_sec: return armed_sec;
    default: return 0;
    }
}

struct Row {
    State from;
    State to; ///< equal to `from`: the application restart of that state
    std::array<Step, 12> steps;
};

// VOCABULARY's scripts, with the moments of the services between them.
inline constexpr Row transition_table[] = {
    {State::stop, State::wait, {Step::transition, Step::prestart}},
    {State::wait,
     State::up,
     {Step::transition, Step::prepare, Step::start_both, Step::start_prim, Step::start_sec, Step::open}},
    {State::wait,
     State::alone,
     {Step::transition, Step::prepare, Step::start_both, Step::start_prim, Step::start_sec, Step::open}},
    {State::wait, State::prim, {Step::transition, Step::prepare, Step::start_both, Step::start_prim, Step::open}},
    {State::wait, State::second, {Step::transition, Step::start_both, Step::start_second, Step::start_sec}},
    {State::alone, State::prim, {Step::stop_sec, Step::transition}},
    {State::prim, State::alone, {Step::transition, Step::start_sec}},
    {State::second, State::alone, {Step::stop_second, Step::transition, Step::prepare, Step::start_prim, Step::open}},
    {State::alone, State::second, {Step::close, Step::stop_prim, Step::transition, Step::release, Step::start_second}},
    {State::prim,
     State::second,
     {Step::close, Step::stop_prim, Step::transition, Step::release, Step::start_second, Step::start_sec}},
    {State::second,
     State::prim,
     {Step::stop_sec, Step::stop_second, Step::transition, Step::prepare, Step::start_prim, Step::open}},
    {State::prim,
     State::prim,
     {Step::close, Step::stop_prim, Step::stop_both, Step::start_both, Step::start_prim, Step::open}},
    {State::alone,
     State::alone,
     {Step::close, Step::stop_sec, Step::stop_prim, Step::stop_both, Step::start_both, Step::start_prim,
      Step::start_sec, Step::open}},
    {State::up,
     State::up,
     {Step::close, Step::stop_sec, Step::stop_prim, Step::stop_both, Step::start_both, Step::start_prim,
      Step::start_sec, Step::open}},
    {State::second,
     State::second,
     {Step::stop_sec, Step::stop_second, Step::stop_both, Step::start_both, Step::start_second, Step::start_sec}},
    {State::prim, State::wait, {Step::close, Step::stop_prim, Step::stop_both, Step::transition, Step::release}},
    {State::alone,
     State::wait,
     {Step::close, Step::stop_sec, Step::stop_prim, Step::stop_both, Step::transition, Step::release}},
    {State::up,
     State::wait,
     {Step::close, Step::stop_sec, Step::stop_prim, Step::stop_both, Step::transition, Step::release}},
    {State::second, State::wait, {Step::stop_sec, Step::stop_second, Step::stop_both, Step::transition}},
    {State::wait,
     State::stop,
     {Step::force_sec, Step::force_prim, Step::force_second, Step::force_both, Step::retire, Step::poststop,
      Step::transition}},
};

/// The row of a change, or nullptr when there is no such change.
[[nodiscard]] constexpr const Row* find_row(State from, State to) noexcept {
    for (const Row& row : transition_table) {
        if (row.from == from && row.to == to) {
            return &row;
        }
    }
    return nullptr;
}

/// States that a started module may be in, once it is out of WAIT.
[[nodiscard]] constexpr bool is_role(State state) noexcept { return state > State::wait; }

/// How many steps of the row stop something: its way back is that of `to` only after them. An application restart has
/// none, because the way back stops all of it anyway.
[[nodiscard]] constexpr std::size_t steps_down(const Row& row) noexcept {
    std::size_t count = 0;
    for (std::size_t i = 0; i < row.steps.size() && row.from != row.to; ++i) {
        const Step step = row.steps[i];
        if (is_stop(step) || step == Step::close || step == Step::release) {
            count = i + 1;
        }
    }
    return count;
}

/// States in which this node serves clients.
[[nodiscard]] constexpr bool serves(State state) noexcept {
    return state == State::up || state == State::alone || state == State::prim;
}

namespace proof {

[[nodiscard]] constexpr int place(const Row& row, Step wanted) noexcept {
    for (std::size_t i = 0; i < row.steps.size(); ++i) {
        if (row.steps[i] == wanted) {
            return static_cast<int>(i);
        }
    }
    return -1;
}

/// Traffic opens after the last start script and closes before the first stop script; addresses stand round both.
[[nodiscard]] constexpr bool gate_is_safe(const Row& row) noexcept {
    const int open = place(row, Step::open), close = place(row, Step::close);
    const int prepare = place(row, Step::prepare), release = place(row, Step::release);
    const bool restart = row.from == row.to;
    const bool enters = serves(row.to) && (restart || !serves(row.from));
    const bool leaves = serves(row.from) && (restart || !serves(row.to));
    if ((open >= 0) != enters || (close >= 0) != leaves || (prepare >= 0) != (enters && !restart) ||
        (release >= 0) != (leaves && !restart)) {
        return false;
    }
    for (int i = 0; i < static_cast<int>(row.steps.size()); ++i) {
        const Step step = row.steps[static_cast<std::size_t>(i)];
        if (enters && is_start(step) && (i > open || i < prepare)) {
            return false;
        }
        if (leaves && is_stop(step) && (i < close || (release >= 0 && i > release))) {
            return false;
        }
    }
    return true;
}

[[nodiscard]] constexpr bool all_gates_are_safe() noexcept {
    for (const Row& row : transition_table) {
        if (!gate_is_safe(row)) {
            return false;
        }
    }
    return true;
}

/// How many rows lead from one state to another. (Counted, for a comparison of pointers is no constant to UBSan.)
[[nodiscard]] constexpr int rows_between(State from, State to) noexcept {
    int rows = 0;
    for (const Row& row : transition_table) {
        rows += row.from == from && row.to == to ? 1 : 0;
    }
    return rows;
}

[[nodiscard]] constexpr bool rows_are_unique() noexcept {
    for (const Row& row : transition_table) {
        if (rows_between(row.from, row.to) != 1) {
            return false;
        }
    }
    return true;
}

/// STOP is left and reached through WAIT only.
[[nodiscard]] constexpr bool stop_is_behind_wait() noexcept {
    for (const Row& row : transition_table) {
        if ((row.from == State::stop && row.to != State::wait) || (row.to == State::stop && row.from != State::wait)) {
            return false;
        }
    }
    return true;
}

/// A role that is given in any state of a mirror is one row away.
[[nodiscard]] constexpr bool roles_are_connected() noexcept {
    constexpr std::array states{State::wait, State::alone, State::prim, State::second};
    for (const State from : states) {
        for (const State to : states) {
            if ((rows_between(from, to) == 0) != (from == State::wait && to == State::wait)) {
                return false;
            }
        }
    }
    return true;
}

/// Services end what lives as long as the module when all stop scripts are over and no script of the module is to come
/// but poststop.
[[nodiscard]] constexpr bool services_retire_last() noexcept {
    for (const Row& row : transition_table) {
        const int retire = place(row, Step::retire);
        if ((retire >= 0) != (row.to == State::stop) || retire > place(row, Step::poststop)) {
            return false;
        }
        for (int i = retire; i >= 0 && i < static_cast<int>(row.steps.size()); ++i) {
            if (is_force(row.steps[static_cast<std::size_t>(i)])) {
                return false;
            }
        }
    }
    return true;
}

} // namespace proof

static_assert(proof::rows_are_unique(), "one row for one change of state");
static_assert(proof::all_gates_are_safe(), "no traffic before the application runs or after it stops");
static_assert(proof::stop_is_behind_wait(), "a module is never started or stopped without prestart, poststop");
static_assert(proof::roles_are_connected(), "every role can be followed by every other");
static_assert(proof::services_retire_last());
static_assert(proof::rows_between(State::stop, State::up) == 0 && proof::rows_between(State::up, State::stop) == 0);
static_assert(proof::rows_between(State::second, State::up) == 0, "UP is the farm's and the light module's");

} // namespace stead::automaton
