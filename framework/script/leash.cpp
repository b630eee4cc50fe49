// SPDX-License-Identifier: Apache-2.0
// stead-leash: the parent of one hook. As its subreaper it stays the ancestor of everything that the hook starts,
// whatever sessions and double forks are made on the way, so that on request nothing of it is left. A hook that
// succeeds keeps its daemons: the leash just goes away.
#include "leash_protocol.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

namespace {

constexpr int status_fd = 3;

void report(char kind, int value) {
    const stead_leash_record record{kind, {}, value};
    (void)!::write(status_fd, &record, sizeof record);
}

void pause_ms(long milliseconds) {
    const timespec t{0, milliseconds * 1'000'000};
    ::nanosleep(&t, nullptr);
}

struct Relation {
    pid_t pid, parent;
};

/// /proc of another pid namespace would name strangers.
bool proc_is_ours() {
    char link[32] = {};
    return ::readlink("/proc/self", link, sizeof link - 1) > 0 && std::atoi(link) == ::getpid();
}

std::vector<Relation> all_processes() {
    std::vector<Relation> result;
    DIR* folder = ::opendir("/proc");
    if (folder == nullptr) {
        return result;
    }
    while (const dirent* entry = ::readdir(folder)) {
        const pid_t pid = std::atoi(entry->d_name);
        if (pid <= 0) {
            continue;
        }
        char path[64];
        std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
        const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            continue;
        }
        char text[512];
        const ssize_t got = ::read(fd, text, sizeof text - 1);
        ::close(fd);
        text[got > 0 ? got : 0] = '\0';
        const char* end_of_name = std::strrchr(text, ')');
        int parent = 0;
        if (end_of_name != nullptr && std::sscanf(end_of_name + 1, " %*c %d", &parent) == 1) {
            result.push_back({pid, parent});
        }
    }
    ::closedir(folder);
    return result;
}

std::vector<pid_t> descendants() {
    const std::vector<Relation> all = all_processes();
    std::vector<pid_t> found{::getpid()};
    for (std::size_t i = 0; i < found.size(); ++i) {
        for (const Relation& r : all) {
            if (r.parent == found[i] && std::find(found.begin(), found.end(), r.pid) == found.end()) {
                found.push_back(r.pid);
            }
        }
    }
    found.erase(found.begin());
    return found;
}

/// Ends every descendant and reaps it. Stops them first, so that a fork bomb cannot outrun the list.
void kill_descendants() {
    const bool can_scan = proc_is_ours();
    for (int round = 0; round < 2000; ++round) {
        if (can_scan) {
            std::size_t known = 0;
            for (int pass = 0; pass < 20; ++pass) {
                const std::vector<pid_t> list = descendants();
                for (const pid_t pid : list) {
                    ::kill(pid, SIGSTOP);
                }
                if (list.size() == known) {
                    break;
                }
                known = list.size();
            }
            for (const pid_t pid : descendants()) {
                ::kill(pid, SIGKILL);
            }
        }
        pid_t reaped = 0;
        do {
            reaped = ::waitpid(-1, nullptr, WNOHANG);
        } while (reaped > 0);
        if (reaped < 0 && errno == ECHILD) {
            return;
        }
        pause_ms(1);
    }
}

[[noreturn]] void become(char** argv, const sigset_t& signals) {
    ::setsid();
    ::sigprocmask(SIG_SETMASK, &signals, nullptr);
    ::execv(argv[0], argv);
    if (errno == ENOEXEC) { // a script without a first line "#!": what shells do with it
        std::vector<char*> shell{const_cast<char*>("/bin/sh")};
        for (char** a = argv; *a != nullptr; ++a) {
            shell.push_back(*a);
        }
        shell.push_back(nullptr);
        ::execv(shell[0], shell.data());
    }
    report('x', errno);
    ::_exit(127);
}

void hide_output() {
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; ++fd) {
        ::dup2(null, fd);
    }
}

/// The program's end as a record; true when it succeeded.
bool report_end(int status) {
    if (WIFSIGNALED(status)) {
        report('s', WTERMSIG(status));
        return false;
    }
    report('e', WEXITSTATUS(status));
    return WEXITSTATUS(status) == 0;
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: stead-leash MODE PROGRAM [ARGUMENT...] (called by stead-host)\n");
        return 64;
    }
    const bool kill_on_failure = std::strchr(argv[1], STEAD_LEASH_KILL_ON_FAILURE) != nullptr;
    const bool daemon = std::strchr(argv[1], STEAD_LEASH_DAEMON) != nullptr;
    sigset_t watched, before;
    sigemptyset(&watched);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &watched, &before);
    ::prctl(PR_SET_CHILD_SUBREAPER, daemon ? 0 : 1);
    ::prctl(PR_SET_PDEATHSIG, daemon ? 0 : SIGTERM); // the module host died: its hook must not meet the next host's
    int started[2];
    if (::fcntl(status_fd, F_SETFD, FD_CLOEXEC) != 0 || ::pipe2(started, O_CLOEXEC) != 0) {
        return 70;
    }
    const pid_t child = ::fork();
    if (child == 0) {
        become(argv + 2, before);
    }
    if (child < 0) {
        report('x', errno);
        return 71;
    }
    hide_output();
    if (daemon) { // the pipe closes when the program has started, or after its record 'x'
        ::close(started[1]);
        char none;
        (void)!::read(started[0], &none, 1);
        report('p', child);
        return 0;
    }
    for (;;) {
        siginfo_t info{};
        const int signal = ::sigwaitinfo(&watched, &info);
        if (signal == SIGTERM) {
            kill_descendants();
            report('k', 0);
            return 0;
        }
        int status = 0;
        pid_t reaped = 0;
        while (signal == SIGCHLD && (reaped = ::waitpid(-1, &status, WNOHANG)) > 0) {
            if (reaped != child) {
                continue;
            }
            const bool succeeded = WIFEXITED(status) && WEXITSTATUS(status) == 0;
            if (!succeeded && kill_on_failure) {
                kill_descendants();
            }
            report_end(status);
            return 0;
        }
    }
}
