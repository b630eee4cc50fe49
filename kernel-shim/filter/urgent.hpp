// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <stdexcept>

/// What a filter in user space needs to keep pace with one in the kernel.
namespace stead::shim {

/// A mutex whose holder runs as urgently as who waits for it: else a thread of the host, put aside by a busy machine
/// while it reads a statistic, would hold up packets and lease. BasicLockable.
class InheritingMutex {
public:
    InheritingMutex() {
        pthread_mutexattr_t attributes;
        if (::pthread_mutexattr_init(&attributes) != 0 ||
            ::pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) != 0 ||
            ::pthread_mutex_init(&mutex_, &attributes) != 0) {
            throw std::runtime_error{"no mutex with priority inheritance"};
        }
        ::pthread_mutexattr_destroy(&attributes);
    }
    ~InheritingMutex() { ::pthread_mutex_destroy(&mutex_); }
    InheritingMutex(const InheritingMutex&) = delete;
    InheritingMutex& operator=(const InheritingMutex&) = delete;

    void lock() { (void)::pthread_mutex_lock(&mutex_); }
    void unlock() { (void)::pthread_mutex_unlock(&mutex_); }

private:
    pthread_mutex_t mutex_{};
};

/// This thread before all that is not real time: frames wait for it, as they would for a soft interrupt. (A nice value
/// counts only against one's own session, where the kernel groups by sessions.) The lowest priority there is: the
/// membership goes first. Without the right to it, a nice value; without that, as it is.
inline void make_this_thread_urgent() {
    const sched_param lowest{.sched_priority = 1};
    if (::pthread_setschedparam(::pthread_self(), SCHED_RR | SCHED_RESET_ON_FORK, &lowest) != 0) {
        (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), -18);
    }
}

} // namespace stead::shim
