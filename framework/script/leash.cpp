// SPDX-License-Identifier: Apache-2.0
// stead-leash: the parent of one hook. As its subreaper it stays the ancestor of everything that the hook starts,
// whatever sessions and double forks are made on the way, so that on request nothing of it is left. A hook that
// succeeds keeps its daemons: the leash just goes away.
#include "leash_protocol.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
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

long now_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
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

struct Orders {
    bool kill_on_failure{}, kill_always{}, daemon{}, supervise{};
    int stop_signal{SIGTERM};
    long stop_ms{};
    const char* user{""};
    char** program{};
};

/// In the child. A program that is not to run as root must not run at all when that fails.
void become_user(const char* name) {
    errno = 0;
    const passwd* user = ::getpwnam(name);
    if (user == nullptr || ::initgroups(name, user->pw_gid) != 0 || ::setgid(user->pw_gid) != 0 ||
        ::setuid(user->pw_uid) != 0) {
        report('u', errno != 0 ? errno : ENOENT);
        ::_exit(127);
    }
    ::setenv("HOME", user->pw_dir, 1);
    ::setenv("USER", name, 1);
    ::setenv("LOGNAME", name, 1);
}

/// After vfork, in its parent's memory: it allocates nothing and writes only to its own stack. `shell`: the program as
/// /bin/sh runs it.
[[noreturn]] void become(const Orders& orders, char** shell, const sigset_t& signals) {
    ::setsid();
    if (*orders.user != '\0') {
        become_user(orders.user);
    }
    if (orders.supervise) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL); // (changing the user clears it) somebody killed the leash
    }
    ::sigprocmask(SIG_SETMASK, &signals, nullptr);
    ::execv(orders.program[0], orders.program);
    if (errno == ENOEXEC) { // a script without a first line "#!": what shells do with it
        ::execv(shell[0], shell);
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

/// False: the command line is none of ours.
bool read_orders(int argc, char** argv, Orders& orders) {
    if (argc < 3) {
        return false;
    }
    orders.kill_on_failure = std::strchr(argv[1], STEAD_LEASH_KILL_ON_FAILURE) != nullptr;
    orders.kill_always = std::strchr(argv[1], STEAD_LEASH_KILL_ALWAYS) != nullptr;
    orders.daemon = std::strchr(argv[1], STEAD_LEASH_DAEMON) != nullptr;
    orders.supervise = std::strchr(argv[1], STEAD_LEASH_SUPERVISE) != nullptr;
    orders.program = argv + 2;
    if (orders.supervise) {
        if (argc < 3 + STEAD_LEASH_SUPERVISE_WORDS) {
            return false;
        }
        orders.stop_signal = std::atoi(argv[2]);
        orders.stop_ms = std::atol(argv[3]);
        orders.user = argv[4];
        orders.program += STEAD_LEASH_SUPERVISE_WORDS;
    }
    return true;
}

/// Waits for one of the signals until `deadline` (CLOCK_MONOTONIC milliseconds; 0 = for ever). 0: the deadline came.
int next_signal(const sigset_t& watched, long deadline) {
    for (;;) {
        siginfo_t info{};
        const long left = deadline - now_ms();
        if (deadline != 0 && left <= 0) {
            return 0;
        }
        const timespec wait{left / 1000, left % 1000 * 1'000'000};
        const int signal = deadline == 0 ? ::sigwaitinfo(&watched, &info) : ::sigtimedwait(&watched, &info, &wait);
        if (signal > 0) {
            return signal;
        }
    }
}

/// Stays until the program has ended, by itself or on request, and nothing that it started is left.
int watch(pid_t child, const Orders& orders, const sigset_t& watched) {
    long deadline = 0;
    for (;;) {
        const int signal = next_signal(watched, deadline);
        if (signal == SIGTERM && orders.supervise && deadline == 0) {
            ::kill(child, orders.stop_signal);
            ::kill(child, SIGCONT); // a stopped program would not see it
            deadline = now_ms() + std::max(orders.stop_ms, 1L);
            continue;
        }
        if (signal != SIGCHLD && !(signal == SIGTERM && orders.supervise)) {
            kill_descendants();
            report('k', 0);
            return 0;
        }
        int status = 0;
        pid_t reaped = 0;
        while ((reaped = ::waitpid(-1, &status, WNOHANG)) > 0) {
            if (reaped != child) {
                continue;
            }
            if (orders.supervise) {
                report_end(status); // at once: it may take a while to end the rest
                kill_descendants();
                return 0;
            }
            const bool succeeded = WIFEXITED(status) && WEXITSTATUS(status) == 0;
            if (orders.kill_always || (!succeeded && orders.kill_on_failure)) {
                kill_descendants();
            }
            report_end(status);
            return 0;
        }
    }
}

} // namespace

int main(int argc, char** argv) {
    Orders orders;
    if (!read_orders(argc, argv, orders)) {
        std::fprintf(stderr, "usage: stead-leash MODE PROGRAM [ARGUMENT...] (called by stead-host)\n");
        return 64;
    }
    sigset_t watched, before;
    sigemptyset(&watched);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGCHLD);
    if (orders.supervise) {
        sigaddset(&watched, SIGUSR1);
    }
    ::sigprocmask(SIG_BLOCK, &watched, &before);
    ::prctl(PR_SET_CHILD_SUBREAPER, orders.daemon ? 0 : 1);
    // The module host died: its hook must not meet the next host's.
    ::prctl(PR_SET_PDEATHSIG, orders.daemon ? 0 : SIGTERM);
    int started[2];
    if (::fcntl(status_fd, F_SETFD, FD_CLOEXEC) != 0 || ::pipe2(started, O_CLOEXEC) != 0) {
        return 70;
    }
    std::vector<char*> shell{const_cast<char*>("/bin/sh")};
    for (char** a = orders.program; *a != nullptr; ++a) {
        shell.push_back(*a);
    }
    shell.push_back(nullptr);
    // vfork copies no page tables, which is most of what a script of one line costs; not where names of users are
    // looked up between it and the program.
    const pid_t child = orders.supervise ? ::fork() : ::vfork();
    if (child == 0) {
        become(orders, shell.data(), before);
    }
    if (child < 0) {
        report('x', errno);
        return 71;
    }
    hide_output();
    if (orders.daemon || orders.supervise) { // the pipe closes when the program has started, or after its record 'x'
        ::close(started[1]);
        char none;
        (void)!::read(started[0], &none, 1);
        report('p', child);
    }
    return orders.daemon ? 0 : watch(child, orders, watched);
}
