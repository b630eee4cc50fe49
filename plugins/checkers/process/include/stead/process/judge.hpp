// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/process/spec.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace stead::process {

enum class Verdict : std::uint8_t { init, up, down };
[[nodiscard]] const char* text_of(Verdict verdict) noexcept;

/// Counts of processes in, verdicts and actions out. Pure: no clock, no thread; `now` never goes back.
///
/// A process that was never seen since its class was armed has `grace` to appear: a daemon may enter the table of
/// processes a moment after its start script ended. A restart is asked for when the module is ready, for the host
/// ignores one while scripts run. After a restart, stopstart or stop was asked for, nothing is asked for again until
/// the module disarms the class (the action has begun) or, should it still be ready then, for `polltimer`.
class Judge {
public:
    static constexpr nanoseconds grace = seconds{1};

    struct Decision {
        std::vector<std::size_t> changed; ///< verdicts to publish
        Action action{Action::none};      ///< restart, stopstart or stop: ask the host, once
        std::string reason;
        std::vector<std::string> services; ///< of a restart: these are enough; none: the whole application
        std::vector<std::size_t> handlers; ///< to run now
    };
    struct State {
        bool armed{};
        Verdict verdict{Verdict::init};
        std::optional<std::uint32_t> count; ///< nothing: not looked at since it was armed
    };
    /// What a look at the system gave for one spec.
    struct Sight {
        std::optional<std::uint32_t> count; ///< nothing: it could not be looked at; all stays as it is
        bool each_death_seen{};             ///< else its deaths show at the next look only
        bool lenient{};                     ///< a process that was never seen is not missed
    };

    explicit Judge(Options options);

    /// Arms and disarms. What was armed stays as it is; what is newly armed or disarmed becomes `init`.
    Decision set_armed(Instant now, const std::vector<bool>& armed);
    /// The module is in a stable state, and serves.
    void set_ready(bool ready) noexcept { ready_ = ready; }
    /// Counts of a look that began at `begun`: what was armed later than that is left alone.
    Decision on_sights(Instant now, Instant begun, const std::vector<Sight>& sights);
    Decision on_handler_done(Instant now, std::size_t index, bool ok);
    /// When the next look is due (`never`: nothing is armed).
    [[nodiscard]] Instant next_look() const;

    [[nodiscard]] const Options& options() const noexcept { return options_; }
    [[nodiscard]] const State& state(std::size_t index) const { return watched_[index].state; }
    /// "process nginx: 0 running, at least 1 wanted"
    [[nodiscard]] std::string reason_of(std::size_t index) const;
    /// Is anything of this spec looked for at all (armed, and start_after is over)?
    [[nodiscard]] bool looked_for(std::size_t index, Instant now) const;

private:
    struct Watched {
        State state;
        Instant armed_at{}, judged_from{};
        bool seen{};
        bool handler_runs{};
        bool each_death_seen{};
        Instant looked_at{}, handle_again{};
    };
    void judge(Instant now, std::size_t index, const Sight& sight, Decision& decision);
    void note_action(Instant now, const Decision& decision);
    void act(Instant now, std::size_t index, Action action, const std::string& reason, Decision& decision);

    Options options_;
    std::vector<Watched> watched_;
    bool ready_{};
    bool asked_{}; ///< for an action that has not begun, as far as we know
    Instant asked_at_{};
};

} // namespace stead::process
