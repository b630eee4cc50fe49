// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <utility>

namespace stead::process {

/// A child with a name of its own, which sleeps until it is killed.
class Sleeper {
public:
    explicit Sleeper(const char* name) {
        std::array<int, 2> ready{};
        EXPECT_EQ(::pipe(ready.data()), 0);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::prctl(PR_SET_NAME, name);
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::close(ready[0]);
            ::close(ready[1]); // the parent reads the end: the name is set
            for (;;) {
                ::pause();
            }
        }
        ::close(ready[1]);
        char ignored = 0;
        EXPECT_EQ(::read(ready[0], &ignored, 1), 0);
        ::close(ready[0]);
    }
    Sleeper(const Sleeper&) = delete;
    Sleeper& operator=(const Sleeper&) = delete;
    ~Sleeper() {
        if (pid_ != 0) {
            kill();
            wait();
        }
    }
    void kill() const { ::kill(pid_, SIGKILL); }
    /// Until it has ended; the signal that ended it.
    int wait() {
        int status = 0;
        ::waitpid(std::exchange(pid_, 0), &status, 0);
        return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    }

private:
    pid_t pid_{};
};

} // namespace stead::process
