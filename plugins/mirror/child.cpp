// SPDX-License-Identifier: Apache-2.0
#include "child.hpp"

#include <sys/syscall.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace stead::mirror {
namespace {

constexpr int channel_fd = 3, lease_fd_there = 4;

/// posix_spawn with two descriptors placed at 3 and 4 and every signal at its default.
Result<pid_t> spawn(const std::string& program, const std::string& module, int channel, int lease) {
    // First to numbers above those wanted, so that neither overwrites the other.
    const Fd high_channel{::fcntl(channel, F_DUPFD_CLOEXEC, 10)}, high_lease{::fcntl(lease, F_DUPFD_CLOEXEC, 10)};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_adddup2(&actions, high_channel.get(), channel_fd);
    ::posix_spawn_file_actions_adddup2(&actions, high_lease.get(), lease_fd_there);
    sigset_t none, all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    std::string name = program, argument = module;
    std::array<char*, 3> argv{name.data(), argument.data(), nullptr};
    pid_t pid = -1;
    const int failed = ::posix_spawn(&pid, program.c_str(), &actions, &attributes, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (failed != 0) {
        return os_error(program, "cannot be started", failed);
    }
    return pid;
}

} // namespace

Result<std::unique_ptr<Child>> Child::start(boost::asio::io_context& io, const std::string& program,
                                            const std::string& module, int lease_fd, Handlers handlers) {
    auto ends = Channel::pair();
    if (!ends) {
        return ends.error();
    }
    const auto pid = spawn(program, module, ends->second.get(), lease_fd);
    if (!pid) {
        return pid.error();
    }
    Fd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0))};
    return std::unique_ptr<Child>(new Child(io, *pid, std::move(pidfd), std::move(ends->first), std::move(handlers)));
}

Child::Child(boost::asio::io_context& io, pid_t pid, Fd pidfd, Fd socket, Handlers handlers)
    : pid_(pid), channel_(std::move(socket)), readable_(io, ::fcntl(channel_.fd(), F_DUPFD_CLOEXEC, 3)),
      exited_(io, pidfd.release()), handlers_(std::move(handlers)) {
    read();
    watch();
}

Child::~Child() {
    if (!gone_) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
}

void Child::send(const boost::json::object& message) noexcept { channel_.send(message); }
void Child::kill() noexcept {
    if (!gone_) {
        ::kill(pid_, SIGKILL);
    }
}

void Child::drain() {
    for (;;) {
        const auto message = channel_.receive();
        if (!message) {
            if (message.error().code == Errc::malformed) {
                continue;
            }
            return;
        }
        handlers_.message(*message);
    }
}

void Child::read() {
    readable_.async_wait(boost::asio::posix::stream_descriptor::wait_read, [this](boost::system::error_code error) {
        if (error || gone_) {
            return;
        }
        std::array<char, 1> peeked{};
        const ssize_t size = ::recv(channel_.fd(), peeked.data(), peeked.size(), MSG_PEEK | MSG_DONTWAIT);
        drain();
        if (size != 0) { // else it closed its end: the pidfd tells the rest
            read();
        }
    });
}

void Child::watch() {
    exited_.async_wait(boost::asio::posix::stream_descriptor::wait_read, [this](boost::system::error_code error) {
        if (error) {
            return;
        }
        int status = 0;
        if (::waitpid(pid_, &status, WNOHANG) != pid_) {
            watch();
            return;
        }
        drain(); // its last words
        gone_ = true;
        const bool exited = WIFEXITED(status);
        const int code = exited ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        handlers_.ended(code, exited ? "with exit code " + std::to_string(code)
                                     : std::string{"by signal "} + ::strsignal(WTERMSIG(status)));
    });
}

} // namespace stead::mirror
