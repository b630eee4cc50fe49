// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/control/channel.hpp>
#include <stead/control/module_log.hpp>
#include <stead/control/paths.hpp>
#include <stead/core/loop_guard.hpp>
#include <stead/node/process.hpp>
#include <stead/node/witness.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace stead::node {

/// What is known of a module's state on this node.
struct ModuleState {
    std::string state{"STOP"};
    std::string qualifier{"NotReady"};
    std::string reason;
    std::string started{}; ///< differs after each start of the application; empty: not known
    std::string share{};   ///< of a farm that is UP: "33%", of groups that differ "25%..50%"; else empty
    friend bool operator==(const ModuleState&, const ModuleState&) = default;
};

/// A claim that a plugin, or the module's bus, wants decided by the steadd of another node.
struct WitnessQuestion {
    std::int64_t id{}; ///< the host's; the answer brings it back
    std::string node, key;
    Claim claim;
    milliseconds timeout{};
};

/// Starts, watches, adopts and buries the stead-host of one module. Main thread only; nothing blocks.
class ModuleRunner : public std::enable_shared_from_this<ModuleRunner> {
public:
    struct Events {
        std::function<void(const std::string& module, const ModuleState&)> state;
        /// The host died, not having stopped; its lease is closed. `session` of its bus, 32 hex digits or "".
        std::function<void(const std::string& module, const std::string& session)> died;
        /// A host begins a session; see only_session().
        std::function<void(const std::string& module)> began;
        /// Answered by the request "witness".
        std::function<void(const std::string& module, const WitnessQuestion&)> witness;
    };
    using Done = std::function<void(Result<boost::json::object>)>;

    ModuleRunner(boost::asio::io_context& io, const control::Paths& paths, std::string module, Events events);

    /// Starts the host; done when it has said hello, or with what it wrote when it ended at once. At boot the count of
    /// automatic restarts goes on: it may be one of them that rebooted the server; and a start that fails is tried
    /// again, as after each automatic stopstart, until stop().
    void start(const std::string& by, Done done, bool at_boot = false);
    /// Connects to a host that runs already. False when there is none.
    bool adopt();
    /// No process holds the lock of the host.
    [[nodiscard]] bool is_dead() const;
    /// A host died while there was no steadd, as its socket shows, which it left behind. Unless somebody had stopped
    /// the module it starts again and is counted, as after any death.
    void found_dead();
    /// A host ended as it should while there was no steadd; what it left in host_end(): it may have to start again.
    void found_ended(std::string_view last_word);
    /// Done when the host has exited, however long its scripts take; with timed_out when it answers nothing for
    /// `silence_max` (the stop stays asked). By force a silent host is killed after `forced_silence_max`, any other
    /// after 20 s.
    void stop(bool force, const std::string& by, bool automatic, Done done);
    /// Errors: refused when the module is stopped; timed_out after `silence_max`.
    void request(boost::json::object body, Done done);

    /// The same, for an answer that may take long: timed_out only when the host answers nothing for `silence_max`.
    void request_long(boost::json::object body, Done done);

    static constexpr seconds silence_max{10};
    static constexpr seconds forced_silence_max{3};

    /// A host process is alive.
    [[nodiscard]] bool running() const noexcept { return phase_ != Phase::down; }
    /// It still runs, but is on its way down: who asks for a start now gets one when it is gone.
    [[nodiscard]] bool leaving() const noexcept;
    [[nodiscard]] const ModuleState& state() const noexcept { return state_; }
    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    [[nodiscard]] const std::string& session() const noexcept { return session_; }
    [[nodiscard]] const std::string& config() const noexcept { return config_; }
    /// The one session of this node that may act, 32 hex digits, zeros when there is none; nothing when there may be
    /// another one: a host ended and its lease could not be closed.
    [[nodiscard]] std::optional<std::string> only_session() const;
    /// The same for a module of which no host runs.
    [[nodiscard]] static std::optional<std::string> only_session_of_idle(const control::Paths& paths,
                                                                         const std::string& module);

    /// Calls back with true as soon as `condition` holds (checked at each change), with false after `limit`.
    void wait_for(std::function<bool()> condition, std::optional<seconds> limit, std::function<void(bool)> done);

    /// 'inc', 'check', 'reset' on the count of automatic restarts. True: the limit is reached.
    [[nodiscard]] bool loop(std::string_view op);
    [[nodiscard]] control::ModuleLog& log() noexcept { return log_; }

private:
    enum class Phase : std::uint8_t { down, starting, up };
    struct Pending {
        Done done;
        std::unique_ptr<boost::asio::steady_timer> timer; ///< null: no limit
    };
    struct Waiter {
        std::function<bool()> condition;
        std::function<void(bool)> done;
        std::unique_ptr<boost::asio::steady_timer> timer;
    };

    /// insist: a start that fails is tried again.
    void spawn(bool insist);
    void retry(const std::string& why);
    void try_connect(int attempts_left);
    void hello();
    void on_hello(control::Frame frame);
    void on_frame(control::Frame frame);
    void on_channel_closed(const std::string& reason);
    void watch(Fd pidfd);
    void on_exit();
    [[nodiscard]] std::optional<int> exit_code();
    void on_death(const std::string& how);
    void begin_again(); ///< within the loop guard
    void runs_no_more();
    void reboot();
    void on_reboot_failed(const std::string& why);
    void clean_up(std::function<void()> then);
    [[nodiscard]] bool close_lease(); ///< false: one of them could not be
    void reset_connection();
    void set_state(ModuleState state);
    void set_session(std::string session);
    void check_waiters();
    void finish_start(Result<boost::json::object> result);
    void fail_pending(const std::string& why);
    void kill_later(seconds after);
    void send(boost::json::object body, std::optional<seconds> limit, Done done);
    void watch_answer(std::int64_t id);
    void watch_stop(bool force);
    void on_silent_stop(bool force);
    [[nodiscard]] Error silent(seconds time) const;
    [[nodiscard]] std::string early_output() const;
    [[nodiscard]] automaton::LoopGuard load_guard() const;

    boost::asio::io_context& io_;
    control::Paths paths_;
    std::string module_;
    Events events_;
    control::ModuleLog log_;
    Phase phase_{Phase::down};
    ModuleState state_;
    pid_t pid_{};
    bool ours_{}; ///< our child: its exit code can be read
    std::string session_, config_;
    std::optional<boost::asio::posix::stream_descriptor> pidfd_;
    std::shared_ptr<control::Connection> channel_;
    std::int64_t next_id_{1};
    std::map<std::int64_t, Pending> pending_;
    std::vector<Fd> leases_;
    std::vector<Done> on_start_, on_stop_;
    bool stop_asked_{};
    bool ends_{};                  ///< says the host: it goes down for good, whoever asked for that
    std::optional<int> said_exit_; ///< what the host said of its end
    std::string started_by_;
    boost::asio::steady_timer connect_timer_, kill_timer_, stop_timer_, retry_timer_;
    static constexpr seconds retry_first{1}, retry_longest{16};
    seconds retry_wait_{retry_first};
    bool insist_{};
    std::map<std::int64_t, Waiter> waiters_;
};

} // namespace stead::node
