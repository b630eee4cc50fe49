// SPDX-License-Identifier: Apache-2.0
#include <stead/process/units.hpp>

#include <stead/base/files.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>

namespace stead::process {
namespace {

constexpr std::size_t output_max = 262144;
constexpr std::size_t pids_of_group_max = 64;

/// Ends and reaps the child on every way out.
class Child {
public:
    explicit Child(pid_t pid) : pid_(pid) {}
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() {
        ::kill(pid_, SIGKILL); // of a child that has ended: no effect, it is not reaped yet
        while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
        }
    }

private:
    pid_t pid_;
};

Result<pid_t> spawn(const std::vector<std::string>& argv, int output) {
    std::vector<char*> c_argv;
    for (const std::string& argument : argv) {
        c_argv.push_back(const_cast<char*>(argument.c_str()));
    }
    c_argv.push_back(nullptr);
    posix_spawn_file_actions_t files{};
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0);
    ::posix_spawn_file_actions_adddup2(&files, output, 1);
    ::posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_RDWR, 0);
    posix_spawnattr_t attributes{};
    ::posix_spawnattr_init(&attributes);
    sigset_t none, all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t pid = 0;
    const int failed = ::posix_spawnp(&pid, c_argv[0], &files, &attributes, c_argv.data(), ::environ);
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&files);
    if (failed != 0) {
        return os_error(argv.front(), "cannot run it", failed);
    }
    return pid;
}

/// Everything until the other end is closed.
Result<std::string> read_all(int from, int cancel_fd, const std::string& program) {
    std::string text;
    const Instant end = BootClock::now() + Units::timeout;
    for (;;) {
        const auto rest = std::chrono::ceil<milliseconds>(end - BootClock::now()).count();
        pollfd events[]{{from, POLLIN, 0}, {cancel_fd, POLLIN, 0}};
        const int ready = rest > 0 ? ::poll(events, 2, static_cast<int>(rest)) : 0;
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        if (ready <= 0 || events[1].revents != 0) {
            return Error{Errc::timed_out, program, ready <= 0 ? "no answer within 2 s" : "cancelled"};
        }
        std::array<char, 8192> part{};
        const ssize_t size = ::read(from, part.data(), part.size());
        if (size <= 0) {
            return text;
        }
        text.append(part.data(), static_cast<std::size_t>(size));
        if (text.size() > output_max) {
            return Error{Errc::out_of_range, program, "answers with more than 256 KiB"};
        }
    }
}

pid_t number(std::string_view text) {
    pid_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

} // namespace

bool Units::here(const std::string& folder) {
    struct stat found {};
    return ::stat(folder.c_str(), &found) == 0 && S_ISDIR(found.st_mode); // what sd_booted(3) asks
}

Units::Units(std::string program, std::string cgroups) : program_(std::move(program)), cgroups_(std::move(cgroups)) {}

Result<std::vector<Found>> Units::query(const std::vector<std::string>& names, int cancel_fd) const {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        return os_error(program_, "pipe", errno);
    }
    const Fd in{ends[0]};
    Fd out{ends[1]};
    std::vector<std::string> argv{program_, "show", "--property=ActiveState,MainPID,ControlGroup", "--"};
    argv.insert(argv.end(), names.begin(), names.end());
    const auto pid = spawn(argv, out.get());
    if (!pid) {
        return pid.error();
    }
    const Child child{*pid};
    out.reset();
    const auto text = read_all(in.get(), cancel_fd, program_);
    if (!text) {
        return text.error();
    }
    // One block of NAME=VALUE lines per unit, with an empty line between two.
    std::vector<Found> all;
    std::string_view rest{*text};
    while (!rest.empty()) {
        const auto end = rest.find("\n\n");
        all.push_back(parse(rest.substr(0, end)));
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 2);
    }
    if (all.size() != names.size() || text->find("ActiveState=") == std::string::npos) {
        return Error{Errc::refused, program_,
                     "answered about " + std::to_string(all.size()) + " of " + std::to_string(names.size()) + " units"};
    }
    return all;
}

Found Units::parse(std::string_view properties) const {
    Found found;
    std::string group;
    while (!properties.empty()) {
        const auto end = std::min(properties.find('\n'), properties.size());
        const std::string_view line = properties.substr(0, end);
        properties.remove_prefix(std::min(end + 1, properties.size()));
        const auto value = line.substr(std::min(line.find('=') + 1, line.size()));
        if (line.starts_with("ActiveState=")) {
            found.count = value == "active" || value == "reloading" ? 1 : 0;
        } else if (line.starts_with("MainPID=") && number(value) > 0) {
            found.pids.push_back(number(value));
        } else if (line.starts_with("ControlGroup=")) {
            group = value;
        }
    }
    if (found.count == 0) {
        found.pids.clear();
    } else if (found.pids.empty() && !group.empty()) { // no main process is known: any of the group may tell
        if (const auto pids = read_file(cgroups_ + group + "/cgroup.procs", 65536)) {
            std::string_view lines{*pids};
            while (!lines.empty() && found.pids.size() < pids_of_group_max) {
                const auto end = std::min(lines.find('\n'), lines.size());
                found.pids.push_back(number(lines.substr(0, end)));
                lines.remove_prefix(std::min(end + 1, lines.size()));
            }
        }
    }
    return found;
}

} // namespace stead::process
