// SPDX-License-Identifier: Apache-2.0
#include "pool.hpp"

namespace stead::mirror {

Pool::Pool(unsigned threads) {
    for (unsigned i = 0; i < threads; ++i) {
        threads_.emplace_back([this] { work(); });
    }
}

Pool::~Pool() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
        jobs_.clear();
    }
    more_.notify_all();
    for (std::thread& thread : threads_) {
        thread.join();
    }
}

void Pool::post(std::function<void()> job) {
    {
        const std::lock_guard lock(mutex_);
        if (ending_) {
            return;
        }
        jobs_.push_back(std::move(job));
    }
    more_.notify_one();
}

void Pool::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        more_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
        if (ending_) {
            return;
        }
        const std::function<void()> job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        job();
        lock.lock();
    }
}

} // namespace stead::mirror
