// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/time.hpp>

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace stead::script {

/// A request to stop, visible to poll() as well as to a check. Thread-safe; once set it stays set.
class Cancel {
public:
    Cancel();
    void set() noexcept;
    /// Stops it as a failure, with this reason.
    void fail(std::string reason);
    /// Empty: not failed (cancelled, or not set).
    [[nodiscard]] std::string failure() const;
    [[nodiscard]] bool is_set() const noexcept { return set_.load(std::memory_order_acquire); }
    [[nodiscard]] int fd() const noexcept { return event_.get(); }

private:
    Fd event_;
    std::atomic<bool> set_{false};
    mutable std::mutex mutex_;
    std::string failure_; ///< guarded by mutex_
};

struct ProcessSpec {
    std::vector<std::string> argv;                  ///< argv[0] is an absolute path
    std::map<std::string, std::string> environment; ///< the whole of it
    std::filesystem::path folder;                   ///< working folder; empty: /
    std::filesystem::path leash;                    ///< libexec/stead/stead-leash; empty: without
    std::string hook_id;                            ///< value of STEAD_HOOK_ID, by which stragglers are found
    std::string input;                              ///< for stdin; empty: /dev/null
    Instant deadline{never};
    bool kill_leftovers_on_failure{}; ///< an exit code other than 0 ends all that the process started
    bool kill_leftovers{};            ///< so does exit code 0
    std::function<void(std::string_view bytes, bool is_error)> output;
};

struct ProcessEnd {
    enum class How { exited, signalled, timed_out, cancelled, not_started } how{};
    int code{};        ///< exit status, signal number or errno
    std::string error; ///< not_started: why
};

/// What a process wrote and did not finish reading stays readable here: a daemon that a successful hook left behind
/// may go on writing.
struct ProcessPipes {
    Fd out, err;
};

/// Runs one program in its own session and waits for its end (not for the end of daemons it left). Blocks; any thread.
/// `left` receives the pipes when a process still holds them open.
[[nodiscard]] ProcessEnd run_process(const ProcessSpec& spec, const Cancel& cancel, ProcessPipes* left = nullptr);

/// Starts a daemon in its own session, not a child of this process. Errors: refused, io. Returns its pid.
[[nodiscard]] Result<pid_t> spawn_daemon(const ProcessSpec& spec, const std::filesystem::path& log_file);

/// How a supervised program ends.
struct StopOrders {
    int signal{15};
    milliseconds patience{seconds{10}}; ///< then what is left is killed
    std::string user;                   ///< empty: ours
};

/// A program under its leash. SIGTERM to the leash stops it as ordered, SIGUSR1 kills; when the leash is gone,
/// nothing of it is left. The death of the thread that called spawn_supervised is a SIGTERM too.
struct Supervised {
    pid_t leash{}, program{};
    Fd leash_pidfd, status; ///< status: one stead_leash_record at the program's end, at once
    ProcessPipes pipes;
};

/// Starts it; done when the program has been executed. Errors: refused (cannot, no such user), not_found (leash).
[[nodiscard]] Result<Supervised> spawn_supervised(const ProcessSpec& spec, const StopOrders& stop);

/// Kills every process whose environment carries this hook id, until none is left (at most 3 s). False: some are left.
bool kill_marked(const std::string& hook_id);

/// Start time of a process in clock ticks since boot: with the pid it names one process for ever. Empty: gone, zombie.
[[nodiscard]] std::optional<std::uint64_t> process_start_time(pid_t pid);

/// The absolute path of `program` looked up in `path` (colon separated); empty when it is not there.
[[nodiscard]] std::string find_program(std::string_view program, std::string_view path);

/// A random word for STEAD_HOOK_ID.
[[nodiscard]] std::string new_hook_id();

} // namespace stead::script
