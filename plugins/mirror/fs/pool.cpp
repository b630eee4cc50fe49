// SPDX-License-Identifier: Apache-2.0
#include "pool.hpp"

namespace stead::mirror {

Pool::Pool(unsigned threads) { resize(threads); }

void Pool::resize(unsigned threads) {
    const std::lock_guard lock(mutex_);
    working_ = threads;
    for (auto number = static_cast<unsigned>(threads_.size()); number < threads; ++number) {
        threads_.emplace_back([this, number] { work(number); });
    }
    more_.notify_all();
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
    bool some_rest = false;
    {
        const std::lock_guard lock(mutex_);
        if (ending_) {
            return;
        }
        jobs_.push_back(std::move(job));
        some_rest = working_ < threads_.size();
    }
    // Those that rest wait for the same, and would let a single call go by.
    some_rest ? more_.notify_all() : more_.notify_one();
}

void Pool::work(unsigned number) {
    std::unique_lock lock(mutex_);
    for (;;) {
        more_.wait(lock, [this, number] { return ending_ || (number < working_ && !jobs_.empty()); });
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
