// SPDX-License-Identifier: Apache-2.0
#include "front_device.hpp"
#include "front_opcodes.hpp"
#include "front_state.hpp"

#include <stead/mirror/content.hpp>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <fcntl.h>

/// One mount: its device, its threads, its end.
namespace stead::mirror {
namespace front {
namespace {

class Mounted final : public Front {
public:
    Mounted(std::shared_ptr<State> state, Device device) : state_(std::move(state)), device_(std::move(device)) {}

    ~Mounted() override {
        abort();
        for (std::thread& thread : threads_) {
            thread.join();
        }
        state_->end();
    }

    void run(unsigned threads) {
        running_ = threads;
        for (unsigned each = 0; each < threads; ++each) {
            threads_.emplace_back([this] { serve(); });
        }
    }

    void abort() noexcept override {
        if (!ended_.exchange(true)) {
            device_.abort();
        }
    }

    bool unmount() override {
        if (ended_.exchange(true)) {
            return true;
        }
        if (device_.unmount()) {
            return true;
        }
        ended_ = false;
        return false;
    }

    void on_end(std::function<void()> ended) override {
        {
            const std::lock_guard lock(mutex_);
            if (!lost_) {
                on_end_ = std::move(ended);
                return;
            }
        }
        ended();
    }

private:
    void serve() {
        fuse_buf request{};
        while (device_.receive(*state_, request)) {
            fuse_session_process_buf(state_->session, &request);
        }
        free(request.mem);
        if (--running_ == 0 && !ended_) {
            std::function<void()> tell;
            {
                const std::lock_guard lock(mutex_);
                lost_ = true;
                tell = std::move(on_end_);
            }
            if (tell) {
                tell();
            }
        }
    }

    std::shared_ptr<State> state_;
    Device device_;
    std::vector<std::thread> threads_;
    std::atomic<unsigned> running_{};
    std::atomic<bool> ended_{};
    std::mutex mutex_;
    bool lost_{};
    std::function<void()> on_end_;
};

} // namespace
} // namespace front

Result<std::unique_ptr<Front>> Front::mount(FrontOptions options) {
    const std::string place = options.mount_point;
    const unsigned threads = options.threads;
    auto state = std::make_shared<front::State>(std::move(options));
    const int root = state->open(*state->root, O_RDONLY | O_DIRECTORY);
    if (root < 0) {
        return os_error(place, "cannot open the replicated directory behind it", -root);
    }
    state->root_fd.reset(root);
    auto limits = probe_limits(root);
    if (!limits) {
        limits.error().where = place;
        return limits.error();
    }
    state->limits = *limits;
    auto device = front::Device::mount(*state);
    if (!device) {
        return device.error();
    }
    auto result = std::make_unique<front::Mounted>(state, std::move(*device));
    result->run(threads);
    if (const auto ready = front::Device::ready(*state); !ready) {
        return ready.error(); // aborts
    }
    return result;
}

} // namespace stead::mirror
