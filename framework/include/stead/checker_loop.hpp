// SPDX-License-Identifier: Apache-2.0
//
// The engine below checker.hpp: one thread that waits for descriptors and timers, and a few threads for calls that
// block. Header-only, compiled into the plugin; the standard library and Linux only.
//
// Threading: one lock per loop. Callbacks run on the loop's thread with the lock held, so the objects that they touch
// need no lock of their own; whoever calls from another thread takes lock() first. Callbacks do not block.
// Errors: the constructor and start() throw std::system_error; an exception of a callback goes to the error handler.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <ctime>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace stead::checker {

/// CLOCK_BOOTTIME, the clock of the host: goes on while the machine is suspended, never jumps.
struct Clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<Clock>;
    static constexpr bool is_steady = true;
    [[nodiscard]] static time_point now() noexcept {
        timespec t{};
        ::clock_gettime(CLOCK_BOOTTIME, &t);
        return time_point{std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec}};
    }
};
using Instant = Clock::time_point;

/// Owns a file descriptor.
class Descriptor {
public:
    Descriptor() noexcept = default;
    explicit Descriptor(int fd) noexcept : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    ~Descriptor() { reset(); }
    void reset() noexcept {
        if (fd_ >= 0) {
            ::close(std::exchange(fd_, -1));
        }
    }
    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }

private:
    int fd_{-1};
};

namespace detail {

[[noreturn]] inline void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

/// Starts a thread that takes no signals: those of the process belong to the host.
template <class Run>
std::thread quiet_thread(const char* name, Run run) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    struct Restore {
        const sigset_t& mask;
        ~Restore() { ::pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
    } const restore{before};
    std::thread thread(std::move(run));
    ::pthread_setname_np(thread.native_handle(), name);
    return thread;
}

/// Threads for calls that block. They are started as needed and never waited for: one that hangs in the kernel must
/// not hold up the end of its module. What they share lives as long as the last of them.
class Pool : public std::enable_shared_from_this<Pool> {
public:
    static constexpr std::size_t threads_max = 16;
    using Call = std::function<void()>;

    Pool() : finished_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
        if (!finished_) {
            fail("eventfd");
        }
    }
    /// Runs `blocking` on a thread of the pool; `done` is then to be had from take().
    void run(Call blocking, Call done) {
        const std::lock_guard lock(mutex_);
        waiting_.push_back({std::move(blocking), std::move(done)});
        if (idle_ < waiting_.size() && threads_ < threads_max) {
            quiet_thread("check-worker", [self = shared_from_this()] { self->serve(); }).detach();
            ++threads_;
        }
        wake_.notify_one();
    }
    [[nodiscard]] std::vector<Call> take() {
        std::uint64_t count = 0;
        (void)!::read(finished_.get(), &count, sizeof count);
        const std::lock_guard lock(mutex_);
        return std::exchange(done_, {});
    }
    [[nodiscard]] int descriptor() const noexcept { return finished_.get(); }
    void close() {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        waiting_.clear();
        wake_.notify_all();
    }

private:
    struct Job {
        Call blocking, done;
    };
    void serve() {
        std::unique_lock lock(mutex_);
        while (!closed_) {
            if (waiting_.empty()) {
                ++idle_;
                wake_.wait(lock);
                --idle_;
                continue;
            }
            Job job = std::move(waiting_.front());
            waiting_.pop_front();
            lock.unlock();
            try {
                job.blocking();
            } catch (const std::exception& e) {
                job.done = [what = std::string{e.what()}] { throw std::runtime_error(what); };
            } catch (...) {
                job.done = [] { throw std::runtime_error("work threw what is no std::exception"); };
            }
            job.blocking = nullptr; // what it holds may have a destructor that takes time
            lock.lock();
            if (!closed_) {
                done_.push_back(std::move(job.done));
                const std::uint64_t one = 1;
                (void)!::write(finished_.get(), &one, sizeof one);
            }
        }
    }
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Job> waiting_;
    std::vector<Call> done_;
    std::size_t threads_{}, idle_{};
    bool closed_{};
    Descriptor finished_;
};

} // namespace detail

class Loop {
public:
    using Task = std::function<void()>;
    using Ready = std::function<void(std::uint32_t events)>; ///< EPOLLIN, …
    using ErrorHandler = std::function<void(const std::string&)>;
    using TimerId = std::uint64_t; ///< 0 = none
    /// A timer that is further away than coarse_from comes at a multiple of tick_length: up to so much late.
    static constexpr std::chrono::milliseconds tick_length{20}, coarse_from{500};

    explicit Loop(ErrorHandler on_error)
        : on_error_(std::move(on_error)), epoll_(::epoll_create1(EPOLL_CLOEXEC)),
          timer_(::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC)),
          pool_(std::make_shared<detail::Pool>()) {
        if (!epoll_ || !timer_) {
            detail::fail("epoll");
        }
        watch(timer_.get(), EPOLLIN, [this](std::uint32_t) { armed_for_ = Instant::min(); }); // spent
        watch(pool_->descriptor(), EPOLLIN, [this](std::uint32_t) {
            for (const Task& done : pool_->take()) {
                guarded(done);
            }
        });
    }
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    ~Loop() {
        stop();
        pool_->close();
    }

    void start() {
        thread_ = detail::quiet_thread("checks", [this] { run(); });
    }
    /// No callback runs once it has returned. Not from a callback.
    void stop() {
        if (!thread_.joinable()) {
            return;
        }
        {
            const auto guard = lock();
            quit_ = true;
            set_timer(Instant{std::chrono::nanoseconds{1}}); // long ago: wakes the thread
        }
        thread_.join();
    }
    [[nodiscard]] std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_); }

    // What follows: in a callback, or with the lock held.

    /// Calls `ready` while one of `events` is there. Watching a descriptor again replaces both. Throws when the kernel
    /// refuses the descriptor.
    void watch(int fd, std::uint32_t events, Ready ready) {
        const auto found = watched_.find(fd);
        const bool known = found != watched_.end();
        Watched& watched = known ? found->second : watched_[fd];
        watched = {known ? watched.generation : ++generation_, std::make_shared<Ready>(std::move(ready))};
        epoll_event event{};
        event.events = events;
        event.data.u64 = tag(fd, watched.generation);
        if (::epoll_ctl(epoll_.get(), known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0) {
            watched_.erase(fd);
            detail::fail("epoll_ctl");
        }
    }
    /// To be called before the descriptor is closed.
    void unwatch(int fd) noexcept {
        if (watched_.erase(fd) != 0) {
            ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
        }
    }

    TimerId at(Instant when, Task task) {
        const TimerId id = ++last_timer_;
        when = std::max(when, round_); // behind all that are due: nobody starves
        if (when - Clock::now() >= coarse_from) {
            when = next_tick(when);
        }
        timers_.emplace(std::pair{when, id}, std::move(task));
        timer_times_.emplace(id, when);
        if (!dispatching_ && when < armed_for_) {
            set_timer(when);
        }
        return id;
    }
    TimerId after(std::chrono::nanoseconds delay, Task task) { return at(Clock::now() + delay, std::move(task)); }
    /// Sets `id` to 0; no effect on one that ran.
    void cancel(TimerId& id) noexcept {
        if (const auto found = timer_times_.find(std::exchange(id, 0)); found != timer_times_.end()) {
            timers_.erase(std::pair{found->second, found->first});
            timer_times_.erase(found);
        }
    }

    /// Runs `blocking` on a thread of the pool, without the lock, then `done` in the loop, unless that has ended. When
    /// `blocking` throws, `done` is left out and the error handler gets the text. At most Pool::threads_max run at a
    /// time; further ones wait.
    void work(Task blocking, Task done) { pool_->run(std::move(blocking), std::move(done)); }

private:
    struct Watched {
        std::uint32_t generation{};
        std::shared_ptr<Ready> ready; ///< shared: a callback may unwatch itself
    };
    /// Of the descriptor's number and its use: an event of a former use of the number is recognised.
    static std::uint64_t tag(int fd, std::uint32_t generation) noexcept {
        return std::uint64_t{generation} << 32 | static_cast<std::uint32_t>(fd);
    }

    void run() {
        std::array<epoll_event, 64> events{};
        for (;;) {
            const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), -1);
            const auto guard = lock();
            if (quit_) {
                return;
            }
            dispatching_ = true;
            // Descriptors first: after a pause of the whole process, an answer that is there is not late.
            for (int i = 0; i < count; ++i) {
                dispatch(events[static_cast<std::size_t>(i)]);
            }
            run_timers();
            dispatching_ = false;
            const Instant next = timers_.empty() ? Instant::max() : timers_.begin()->first.first;
            if (next != armed_for_) {
                set_timer(next);
            }
        }
    }

    void dispatch(const epoll_event& event) {
        const int fd = static_cast<int>(static_cast<std::uint32_t>(event.data.u64));
        const auto found = watched_.find(fd);
        if (found == watched_.end() || tag(fd, found->second.generation) != event.data.u64) {
            return;
        }
        const std::shared_ptr<Ready> ready = found->second.ready;
        guarded([&] { (*ready)(event.events); });
    }

    void run_timers() {
        const Instant now = Clock::now();
        round_ = now + std::chrono::nanoseconds{1}; // timers that callbacks set wait for the next round
        while (!timers_.empty() && timers_.begin()->first.first <= now) {
            const auto first = timers_.begin();
            const TimerId id = first->first.second;
            const Task task = std::move(first->second);
            timers_.erase(first);
            timer_times_.erase(id);
            guarded(task);
        }
        round_ = {};
    }

    /// Hundreds of checks, each at a moment of its own, would wake the processor as often: a tick's run together.
    static Instant next_tick(Instant when) noexcept {
        const auto over = when.time_since_epoch() % tick_length;
        return over == std::chrono::nanoseconds{0} || when > Instant::max() - tick_length ? when
                                                                                          : when + (tick_length - over);
    }

    void set_timer(Instant when) noexcept {
        armed_for_ = when;
        const auto since = when == Instant::max() ? std::chrono::nanoseconds{0} // disarms
                                                  : std::max(when.time_since_epoch(), std::chrono::nanoseconds{1});
        const auto whole = std::chrono::duration_cast<std::chrono::seconds>(since);
        itimerspec spec{};
        spec.it_value.tv_sec = whole.count();
        spec.it_value.tv_nsec = (since - whole).count();
        ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr);
    }

    template <class Call>
    void guarded(const Call& call) noexcept {
        try {
            call();
        } catch (const std::exception& e) {
            on_error_(e.what());
        } catch (...) {
            on_error_("a callback threw what is no std::exception");
        }
    }

    ErrorHandler on_error_;
    Descriptor epoll_, timer_;
    std::shared_ptr<detail::Pool> pool_;
    std::thread thread_;
    std::mutex mutex_; // guards what follows, and what callbacks touch
    bool quit_{}, dispatching_{};
    Instant armed_for_{Instant::max()}, round_{};
    std::unordered_map<int, Watched> watched_;
    std::uint32_t generation_{};
    std::map<std::pair<Instant, TimerId>, Task> timers_;
    std::unordered_map<TimerId, Instant> timer_times_;
    TimerId last_timer_{};
};

} // namespace stead::checker
