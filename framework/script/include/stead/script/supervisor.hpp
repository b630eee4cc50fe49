// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/script/script.hpp>

#include <vector>

namespace stead::script {

class Cancel;

/// A program that Stead keeps, as stead.supervise{} asked for it.
struct SuperviseSpec {
    std::string name;
    std::vector<std::string> argv;                  ///< argv[0] is an absolute path
    std::map<std::string, std::string> environment; ///< the whole of it, but STEAD_HOOK_ID
    std::filesystem::path folder, leash;
    std::string user; ///< empty: ours
    int stop_signal{15};
    milliseconds stop_timeout{seconds{10}};
    std::string action{"restart"}; ///< what a death leads to: restart, stopstart, stop, noaction
};

/// Keeps the programs that hooks begin with stead.supervise{}: they outlive the hook, their output is the user log's,
/// their death is known at once, and they end with the module. Each runs under a stead-leash, which ends everything
/// that the program started when the program ends, when it is to stop, and when this process dies.
/// The resource supervise.<name> is "up", then "down" after a death; a program that was stopped on purpose has none.
///
/// Threading: every function from any thread. Events come on the supervisor's own thread.
class Supervisor {
public:
    struct Events {
        /// No value: the resource is removed.
        std::function<void(const std::string& resource, std::optional<std::string> value)> publish;
        /// Not for "noaction", nor while the hook that began the program runs: that hook fails.
        std::function<void(const std::string& name, const std::string& action, const std::string& reason)> died;
        std::function<void(int level, std::string_view line)> log; ///< 0 debug .. 3 error
        HookRunner::Output output;
    };
    struct Running {
        std::string name;
        pid_t pid{};
        bool stopping{};
    };
    static constexpr std::size_t programs_max = 64;

    /// `record`: where running programs are written down, for the next host after a crash of this one.
    [[nodiscard]] static std::shared_ptr<Supervisor> create(Events events, std::filesystem::path record);
    /// Kills what still runs. Afterwards no event comes.
    virtual ~Supervisor() = default;

    /// Starts one program for the hook `hook` whose run is `hook_id`; a death before hook_ended() fails that run by
    /// `cancel`. Returns its pid. Errors: conflict (the name runs), out_of_range (too many), refused (cannot start).
    [[nodiscard]] virtual Result<pid_t> start(SuperviseSpec spec, const std::string& hook, const std::string& hook_id,
                                              std::shared_ptr<Cancel> cancel) = 0;
    [[nodiscard]] virtual std::vector<Running> running() const = 0;
    /// Stops one as its spec says, at the latest after `patience`. False: it is still there.
    virtual bool stop(const std::string& name, nanoseconds patience) = 0;

    // For the runner of hooks.
    /// What that run began is killed unless it succeeded.
    virtual void hook_ended(const std::string& hook_id, bool succeeded) = 0;
    /// The script that stops what `start_hook` began is about to run: deaths are no failures any more.
    virtual void expect_end(const std::string& start_hook) = 0;
    /// Stops what `start_hook` began ("": everything), killing it when `deadline` comes or `cancel` is set.
    virtual void stop_begun_in(const std::string& start_hook, Instant deadline, const Cancel& cancel) = 0;
    /// Ends what an earlier host left, as the record says.
    virtual void stop_leftovers() = 0;
};

/// Ends the programs in the record of a host that died, each within its own stop time or `patience`.
void stop_supervised(const std::filesystem::path& record, nanoseconds patience,
                     const std::function<void(int level, std::string_view line)>& log);

} // namespace stead::script
