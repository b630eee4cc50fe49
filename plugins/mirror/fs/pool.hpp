// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace stead::mirror {

/// Threads that run jobs in the order in which they came; with one thread, one after the other. post() from any thread.
/// The destructor drops what has not begun and waits for the rest.
class Pool {
public:
    explicit Pool(unsigned threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    void post(std::function<void()> job);
    /// How many may work from now on; of more, those rest that have ended their job. On the owner's thread.
    void resize(unsigned threads);

private:
    void work(unsigned number);

    std::mutex mutex_;
    std::condition_variable more_;
    std::deque<std::function<void()>> jobs_;
    bool ending_{};
    unsigned working_{}; ///< threads of a higher number rest
    std::vector<std::thread> threads_;
};

} // namespace stead::mirror
