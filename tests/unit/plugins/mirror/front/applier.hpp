// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/tree.hpp>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

namespace stead::mirror {

/// Stands for the mirror's core: performs what the front submits.
class Applier {
public:
    enum class Mode {
        at_once, ///< the answer comes before submit() returns
        later,   ///< from another thread, in order
        held,    ///< as later, but only after let_go()
    };
    Applier(Tree& tree, Mode mode) : tree_(tree), mode_(mode) {
        if (mode != Mode::at_once) {
            thread_ = std::thread([this] { run(); });
        }
    }
    ~Applier() { stop(); }
    Applier(const Applier&) = delete;
    Applier& operator=(const Applier&) = delete;

    void submit(Operation operation, std::function<void(int)> answer);
    /// The next operations are not performed but answered with this error; 0 = performed again.
    void fail_with(int error) { failure_ = error; }
    void let_go();
    /// Operations that wait in mode held.
    [[nodiscard]] std::size_t waiting() const;
    void wait_for(std::size_t operations);
    /// Drops what waits, as a node that stops serving does.
    void stop();
    [[nodiscard]] std::size_t count(const std::string& kind) const;

private:
    void run();
    int perform(const Operation& operation);

    Tree& tree_;
    const Mode mode_;
    std::atomic<int> failure_{};
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::pair<Operation, std::function<void(int)>>> queue_;
    std::map<std::string, std::size_t> counts_;
    bool open_{};
    bool stopping_{};
    std::thread thread_;
};

} // namespace stead::mirror
