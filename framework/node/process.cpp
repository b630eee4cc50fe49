// SPDX-License-Identifier: Apache-2.0
#include <stead/node/process.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

extern char** environ; // NOLINT

namespace stead::node {
namespace {

constexpr std::size_t output_bytes_max = 1u << 20;

Fd open_pidfd(pid_t pid) { return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

/// `output` becomes the child's stdout and stderr.
Result<Child> spawn(const std::vector<std::string>& argv, int output) {
    std::vector<char*> raw;
    for (const std::string& word : argv) {
        raw.push_back(const_cast<char*>(word.c_str()));
    }
    raw.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t pid = 0;
    const int error = ::posix_spawn(&pid, raw[0], &actions, &attributes, raw.data(), environ);
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        return os_error(argv[0], "cannot start", error);
    }
    return Child{pid, open_pidfd(pid)};
}

int reap(pid_t pid) {
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

} // namespace

Result<Child> spawn_detached(const std::vector<std::string>& argv, const std::filesystem::path& output) {
    const Fd file(::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
    if (!file) {
        return os_error(output.string(), "cannot open", errno);
    }
    return spawn(argv, file.get());
}

Result<Finished> run_limited(const std::vector<std::string>& argv, milliseconds limit) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        return os_error(argv[0], "no pipe", errno);
    }
    const Fd reader(ends[0]);
    Fd writer(ends[1]);
    const Result<Child> child = spawn(argv, writer.get());
    writer.reset();
    if (!child) {
        return child.error();
    }
    Finished finished;
    const Instant deadline = BootClock::now() + limit;
    std::array<char, 16384> bytes;
    bool ended = false;
    for (bool open = true; open;) {
        std::array<pollfd, 2> entries{{{reader.get(), POLLIN, 0}, {child->pidfd.get(), POLLIN, 0}}};
        const auto left = std::chrono::ceil<milliseconds>(deadline - BootClock::now()).count();
        const int ready =
            ::poll(entries.data(), child->pidfd ? 2 : 1, ended ? 0 : static_cast<int>(std::max<std::int64_t>(left, 0)));
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        if (ready <= 0 && !ended) {
            ::kill(-child->pid, SIGKILL);
            reap(child->pid);
            return Error{Errc::timed_out, argv[0],
                         "not finished within " + std::to_string(limit.count()) + " ms; killed"};
        }
        ended = ended || (entries[1].revents & POLLIN) != 0;
        const bool readable = entries[0].revents != 0;
        if (readable) {
            const ssize_t got = ::read(reader.get(), bytes.data(), bytes.size());
            open = got > 0;
            if (got > 0 && finished.output.size() < output_bytes_max) {
                finished.output.append(bytes.data(), static_cast<std::size_t>(got));
            }
        } else if (ended) {
            open = false; // a grandchild may hold the pipe: its output is not waited for
        }
    }
    finished.exit = reap(child->pid);
    return finished;
}

} // namespace stead::node
