// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/process/judge.hpp>
#include <stead/process/scanner.hpp>
#include <stead/process/units.hpp>

#include <stead/base/files.hpp>

#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

namespace stead::process {

/// Looks at processes and services on a thread of its own: when told to, and at once when one that it knows dies
/// (pidfd). What it saw goes to `tell`, on that thread.
///
/// Threading: look_at() from any thread. Destruction ends the thread; it waits for a look under way, not for systemctl.
class Watcher {
public:
    struct Look {
        Instant begun;
        std::vector<Found> found;         ///< per spec; of those that were wanted
        std::vector<Judge::Sight> sights; ///< the same, for the judge
        std::string trouble;              ///< why something could not be looked at; empty: nothing
    };
    using Tell = std::function<void(Look)>;

    /// Errors: io, when the kernel gives no epoll.
    [[nodiscard]] static Result<std::unique_ptr<Watcher>> start(std::vector<Spec> specs, Tell tell);
    ~Watcher();
    Watcher(const Watcher&) = delete;
    Watcher& operator=(const Watcher&) = delete;

    /// From now on these specs are looked at, the next time at `when` or when one of their processes dies.
    void look_at(Instant when, std::vector<bool> wanted);

private:
    Watcher(std::vector<Spec> specs, Tell tell);
    void run();
    [[nodiscard]] bool wait(); ///< for the next look or event; false: the end
    void look();
    void look_at_units(const std::vector<bool>& wanted, std::vector<bool>& by_name, Look& look);
    void look_at_processes(const std::vector<bool>& by_name, Look& look);
    void follow(Look& look, const std::vector<bool>& wanted);
    [[nodiscard]] bool follow(pid_t pid);

    std::vector<Spec> specs_;
    Tell tell_;
    Scanner scanner_;
    Units units_;
    Fd epoll_, wake_, end_fd_;
    struct Followed {
        Fd fd;
        bool used{};
    };
    std::unordered_map<pid_t, Followed> followed_;
    Instant looked_at_{};
    Instant death_look_{never}; ///< one of them died: not to be put off by look_at()

    std::mutex mutex_; ///< guards what follows
    std::vector<bool> wanted_;
    Instant look_when_{never};
    bool end_{};
    std::thread thread_;
};

} // namespace stead::process
