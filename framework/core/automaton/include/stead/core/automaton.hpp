// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/core/transition_table.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

/// What a module does next. Pure: equal (state, event) gives equal effects. One strand owns it. Never throws.
namespace stead::automaton {

// ---- Events ---------------------------------------------------------------------------------------------------------
struct Start {
    std::string by; ///< "administrator", "steadd at boot"
};
struct Stop {
    enum class Then : std::uint8_t { stay, start_again, wait } then{};
    std::string by;
    bool at_once{};       ///< forcestop: no drain, no nice stop scripts; what runs is cancelled
    std::string reason{}; ///< of a stop that no person wants: told with the state from then on
};
struct Restart {
    std::string by;
    std::vector<std::string> arguments{}; ///< its stop_* and start_* scripts get them after their own
};
/// Why the module must not go on from WAIT (or, elsewhere, is not fully in service). An empty reason lifts it.
struct Block {
    std::string reason;
    bool expected{}; ///< a normal part of starting: Transient instead of NotReady
    bool start{};    ///< keeps the module in WAIT only; other states are not concerned
    bool operator==(const Block&) const = default;
};
/// Mirror: where this node belongs. The last one counts, until RoleChoice closes.
struct Role {
    State state{};      ///< wait, alone, prim or second
    std::string reason; ///< "heart: no heartbeat": shown with the state, and in the log as the caller
    bool expected{};    ///< as it should be for now: Transient, where it were NotReady (wait) or Ready (others)
};
struct HookDone {
    bool ok{};
    bool missing{};     ///< there is no such hook
    std::string reason; ///< "start_both: exit 3 after 1.2 s"
};
struct ServicesDone {
    bool ok{};
    std::string reason;
};
using Event = std::variant<Start, Stop, Restart, Block, Role, HookDone, ServicesDone>;

// ---- Effects, to be performed in order
// ---------------------------------------------------------------------------------
enum class Limit : std::uint8_t { start, nice_stop, force_stop };
struct RunHook { ///< HookDone follows
    std::string name;
    std::vector<std::string> arguments;
    Limit limit{};
};
struct CancelHook {}; ///< HookDone of the running hook follows soon
struct AskServices {  ///< ServicesDone follows; an earlier request still open is void
    Moment moment{};
    State from{}, to{};
    bool restart{}, at_once{};
};
struct StateChanged {
    State state{};
    Qualifier qualifier{};
    std::string reason; ///< why it is not Ready, or why it has this role
};
struct Log {
    enum class Level : std::uint8_t { event, warning, error } level{};
    std::string text;
};
struct Finished { ///< STOP was reached; the process may end
    bool start_again{};
};
struct Armed {               ///< checkers of these classes probe from now on, all others do not
    std::uint32_t classes{}; ///< armed_pre and the like
};
/// Mirror: nothing but its role keeps the module where it is, so a service may choose one; or that is over, the role is
/// forgotten, and the module is in WAIT or on its way there. Begins closed.
struct RoleChoice {
    bool open{};
};
using Effect = std::variant<RunHook, CancelHook, AskServices, StateChanged, Log, Finished, Armed, RoleChoice>;
using Effects = std::vector<Effect>;

/// The actions that mean something now. What is left out would be ignored.
struct Abilities {
    bool stop{}, stopstart{}, wait{}, swap{}, restart{};
};

/// Failures. A start_* or prestart that fails, times out or is cancelled stops the module (classic), as does a service
/// that refuses PREPARE or OPEN: every stop script runs, and the reason is in the state and the log. Failures of
/// stop_*, poststop and transition, and of CLOSE, RELEASE and RETIRE, are warnings: stopping goes on.
///
/// Roles. A new role is followed when the row that is being walked is at its end, with two exceptions that break it off
/// for WAIT: the role WAIT, and any role that does not serve when the row leads to one that does. What the row itself
/// stops is stopped first. WAIT from a state that serves means that this node was fenced: no drain, stop scripts run
/// with `force` only.
class Automaton {
public:
    /// `active`: the state that WAIT leads to (UP for farm and light); none: it follows roles (mirror).
    explicit Automaton(std::optional<State> active) noexcept : active_(active) {}

    [[nodiscard]] Effects step(const Event& event);

    /// As last told: while a change is under way, where the module is going.
    [[nodiscard]] State state() const noexcept { return told_state_; }
    [[nodiscard]] Qualifier qualifier() const noexcept { return qualifier_; }
    [[nodiscard]] const std::string& reason() const noexcept { return reason_; }
    /// Events that had no meaning in their state.
    [[nodiscard]] std::uint64_t ignored() const noexcept { return ignored_; }
    /// Asked to stop, or stopping because something failed.
    [[nodiscard]] bool stopping() const noexcept { return goal_ != Goal::active; }
    /// On its way to STOP, to stay there.
    [[nodiscard]] bool ends() const noexcept { return goal_ == Goal::stop; }
    [[nodiscard]] Abilities able() const noexcept;
    /// In WAIT, and only a block or its role keeps it there.
    [[nodiscard]] bool held() const noexcept {
        return row_ == nullptr && state_ == State::wait && goal_ == Goal::active;
    }
    /// Scripts and services are being asked, one after the other.
    [[nodiscard]] bool changing() const noexcept { return row_ != nullptr; }

private:
    enum class Goal : std::uint8_t { active, wait, stop, start_again };
    enum class Waiting : std::uint8_t { nothing, hook, services };

    void on(const Start& event);
    void on(const Stop& event);
    void on(const Restart& event);
    void on(const Block& event);
    void on(const Role& event);
    void on(const HookDone& event);
    void on(const ServicesDone& event);

    void begin(State to); // starts the row state_ -> to
    void advance();       // performs steps until one must be waited for
    void finish_row();
    void settle(); // in a state, no row: where next?
    void settle_in_role();
    void settle_in_wait();
    void interrupt(bool urgent); // leaves a row that leads to a role for the way down
    void hurry();                // on the way down: what runs or is asked now gives way
    void begin_way_down();
    void want(Goal goal);
    void offer_choice();
    void fail_start(const std::string& reason);
    void run_hook(Step step, bool force);
    void ask(Moment moment);
    void tell(State state, Qualifier qualifier, std::string reason);
    void arm(std::uint32_t classes);
    void log(Log::Level level, std::string text);
    void ignore(std::string_view event);
    [[nodiscard]] bool follows_roles() const noexcept { return !active_.has_value(); }
    [[nodiscard]] State wanted() const noexcept; // with nothing in the way
    [[nodiscard]] bool may_choose() const noexcept;
    [[nodiscard]] const std::string& why() const noexcept;
    [[nodiscard]] std::string_view action() const noexcept;

    std::optional<State> active_;
    State state_{State::stop}; // origin of the row being walked, else where we are
    State told_state_{State::stop};
    bool told_{};
    Qualifier qualifier_{Qualifier::not_ready};
    std::string reason_;

    Goal goal_{Goal::stop};
    bool at_once_{};      // forcestop, or fenced
    bool interrupted_{};  // the row is to be left as soon as the running hook, and what stops in the row, ended
    bool begun_{};        // PREPARE was asked or a start script ran: the way down is owed
    bool opened_{};       // OPEN was asked: there may be connections to drain
    std::string failure_; // why we stop by ourselves
    std::vector<std::string> restart_arguments_; // of the restart row being walked
    std::optional<Block> block_;
    std::optional<Role> role_;
    bool choice_{}; // as last told by RoleChoice
    std::uint32_t armed_{};

    const Row* row_{};
    std::size_t position_{};
    bool forced_round_{}; // the running stop_* script is in its second round
    Waiting waiting_{Waiting::nothing};
    std::uint64_t ignored_{};
    Effects effects_;
};

} // namespace stead::automaton
