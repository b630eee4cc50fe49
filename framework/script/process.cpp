// SPDX-License-Identifier: Apache-2.0
#include "process.hpp"

#include "leash_protocol.h"

#include <stead/base/assert.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace stead::script {

Cancel::Cancel() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void Cancel::set() noexcept {
    set_.store(true, std::memory_order_release);
    const std::uint64_t one = 1;
    (void)!::write(event_.get(), &one, sizeof one);
}

void Cancel::fail(std::string reason) {
    {
        const std::lock_guard lock(mutex_);
        failure_ = std::move(reason);
    }
    set();
}

std::string Cancel::failure() const {
    const std::lock_guard lock(mutex_);
    return failure_;
}

std::string new_hook_id() {
    std::array<unsigned char, 16> bytes{};
    STEAD_ASSERT(::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (const unsigned char b : bytes) {
        text += digits[b >> 4];
        text += digits[b & 15];
    }
    return text;
}

std::string find_program(std::string_view program, std::string_view path) {
    if (program.find('/') != std::string_view::npos) {
        return std::string(program);
    }
    while (!path.empty()) {
        const std::size_t colon = path.find(':');
        const std::string_view folder = path.substr(0, colon);
        path.remove_prefix(colon == std::string_view::npos ? path.size() : colon + 1);
        if (folder.empty() || folder.front() != '/') {
            continue; // the working folder is no place for programs of root
        }
        std::string candidate = std::string(folder) + "/" + std::string(program);
        std::error_code ec;
        if (::access(candidate.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(candidate, ec)) {
            return candidate;
        }
    }
    return {};
}

std::optional<std::uint64_t> process_start_time(pid_t pid) {
    const auto text = read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
    if (!text) {
        return std::nullopt;
    }
    const std::size_t name_end = text->rfind(')');
    char state = 0;
    unsigned long long start = 0;
    if (name_end == std::string::npos ||
        std::sscanf(text->c_str() + name_end + 1,
                    " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state,
                    &start) != 2 ||
        state == 'Z' || state == 'X') {
        return std::nullopt;
    }
    return start;
}

namespace {

constexpr seconds kill_max{3};
constexpr milliseconds unclear_max{500}; // a stranger that wiped its arguments holds us up no longer than this

enum class Marked { no, yes, unclear };

/// In the middle of exec a process has neither environment nor arguments; it may be one of ours.
Marked is_marked(const std::string& pid, const std::string& marker) {
    const auto text = read_file("/proc/" + pid + "/environ", 4u << 20);
    if (!text || !text->empty()) {
        return text && text->find(marker) != std::string::npos ? Marked::yes : Marked::no;
    }
    const auto arguments = read_file("/proc/" + pid + "/cmdline", 4096);
    char program[8];
    const bool is_kernel_thread = ::readlink(("/proc/" + pid + "/exe").c_str(), program, sizeof program) < 0;
    return arguments && arguments->empty() && !is_kernel_thread ? Marked::unclear : Marked::no;
}

} // namespace

bool kill_marked(const std::string& hook_id) {
    char link[32] = {};
    if (::readlink("/proc/self", link, sizeof link - 1) <= 0 || std::atoi(link) != ::getpid()) {
        return false; // /proc of another pid namespace would name strangers
    }
    const std::string marker = "STEAD_HOOK_ID=" + hook_id;
    const Instant begun = BootClock::now();
    for (;;) {
        bool found = false, unclear = false;
        DIR* folder = ::opendir("/proc");
        while (const dirent* entry = folder != nullptr ? ::readdir(folder) : nullptr) {
            const pid_t pid = std::atoi(entry->d_name);
            if (pid <= 1 || pid == ::getpid()) {
                continue;
            }
            const Marked marked = is_marked(entry->d_name, marker);
            if (marked == Marked::no || !process_start_time(pid)) {
                continue;
            }
            (marked == Marked::yes ? found : unclear) = true;
            if (marked == Marked::yes) {
                ::kill(pid, SIGKILL);
            }
        }
        if (folder != nullptr) {
            ::closedir(folder);
        }
        const nanoseconds took = BootClock::now() - begun;
        if (!found && (!unclear || took > unclear_max)) {
            return folder != nullptr;
        }
        if (took > kill_max) {
            return false;
        }
        std::this_thread::sleep_for(milliseconds{2});
    }
}

namespace {

/// A descriptor above the range that the child's own are moved to.
Fd above_nine(Fd fd) { return fd ? Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 10)) : Fd(); }

struct Pipe {
    Fd read, write;
};

std::optional<Pipe> make_pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
        return std::nullopt;
    }
    Pipe pipe{Fd(ends[0]), above_nine(Fd(ends[1]))};
    ::fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK);
    return pipe.write ? std::optional<Pipe>(std::move(pipe)) : std::nullopt;
}

Fd open_input(const std::string& input) {
    if (input.empty()) {
        return above_nine(Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)));
    }
    Fd file(::memfd_create("stead-hook-input", MFD_CLOEXEC));
    std::string_view rest = input;
    while (file && !rest.empty()) {
        const ssize_t put = ::write(file.get(), rest.data(), rest.size());
        if (put <= 0) {
            return Fd();
        }
        rest.remove_prefix(static_cast<std::size_t>(put));
    }
    ::lseek(file.get(), 0, SEEK_SET);
    return above_nine(std::move(file));
}

struct Started {
    pid_t pid{};
    int error{}; ///< errno
    Fd pidfd;
};

class SpawnAttributes {
public:
    SpawnAttributes() {
        ::posix_spawnattr_init(&attributes_);
        ::posix_spawn_file_actions_init(&actions_);
        sigset_t set;
        sigemptyset(&set);
        ::posix_spawnattr_setsigmask(&attributes_, &set);
        sigfillset(&set);
        ::posix_spawnattr_setsigdefault(&attributes_, &set);
        ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    }
    SpawnAttributes(const SpawnAttributes&) = delete;
    SpawnAttributes& operator=(const SpawnAttributes&) = delete;
    ~SpawnAttributes() {
        ::posix_spawnattr_destroy(&attributes_);
        ::posix_spawn_file_actions_destroy(&actions_);
    }
    posix_spawnattr_t attributes_;
    posix_spawn_file_actions_t actions_;
};

std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> result;
    for (std::string& word : words) {
        result.push_back(word.data());
    }
    result.push_back(nullptr);
    return result;
}

Started spawn(const ProcessSpec& spec, std::vector<std::string> argv, const std::array<int, 4>& fds) {
    SpawnAttributes spawn_with;
    for (int to = 0; to < 4; ++to) {
        if (fds[static_cast<std::size_t>(to)] >= 0) {
            ::posix_spawn_file_actions_adddup2(&spawn_with.actions_, fds[static_cast<std::size_t>(to)], to);
        }
    }
    ::posix_spawn_file_actions_addclosefrom_np(&spawn_with.actions_, fds[3] >= 0 ? 4 : 3);
    const std::string folder = spec.folder.empty() ? "/" : spec.folder.string();
    ::posix_spawn_file_actions_addchdir_np(&spawn_with.actions_, folder.c_str());
    std::vector<std::string> environment;
    for (const auto& [name, value] : spec.environment) {
        environment.push_back(name + "=" + value);
    }
    Started started;
    std::vector<char*> words = pointers(argv), names = pointers(environment);
    started.error = ::posix_spawn(&started.pid, words[0], &spawn_with.actions_, &spawn_with.attributes_, words.data(),
                                  names.data());
    if (started.error == ENOEXEC) {
        argv.insert(argv.begin(), "/bin/sh");
        words = pointers(argv);
        started.error = ::posix_spawn(&started.pid, words[0], &spawn_with.actions_, &spawn_with.attributes_,
                                      words.data(), names.data());
    }
    if (started.error == 0) {
        started.pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, started.pid, 0)));
    }
    return started;
}

std::vector<std::string> with_leash(const ProcessSpec& spec, const std::string& mode) {
    std::vector<std::string> argv = spec.argv;
    if (!spec.leash.empty()) {
        argv.insert(argv.begin(), {spec.leash.string(), mode});
    }
    return argv;
}

ProcessEnd not_started(int error, const ProcessSpec& spec) {
    std::error_code ec;
    if (!spec.folder.empty() && !std::filesystem::is_directory(spec.folder, ec)) {
        return {ProcessEnd::How::not_started, error, "working folder " + spec.folder.string() + " is not there"};
    }
    std::string why = std::strerror(error);
    if (error == ENOENT && std::filesystem::exists(spec.argv.front(), ec)) {
        why = "the interpreter named in its first line is not there";
    }
    return {ProcessEnd::How::not_started, error, "cannot start " + spec.argv.front() + ": " + why};
}

/// One running process and its pipes.
class Watch {
public:
    Watch(const ProcessSpec& spec, Started started, ProcessPipes pipes, Fd status)
        : spec_(spec), started_(std::move(started)), pipes_(std::move(pipes)), status_(std::move(status)) {}

    ProcessEnd run(const Cancel& cancel);
    ProcessPipes& pipes() noexcept { return pipes_; }

private:
    /// Reads what is there, at most `most` bytes; closes the pipe at its end.
    void read_some(Fd& fd, bool is_error, std::size_t most);
    /// Waits until the process ends or `deadline`; true when it ended. `cancel` may be null.
    bool wait_end(Instant deadline, const Cancel* cancel);
    ProcessEnd kill_all(ProcessEnd::How how);
    ProcessEnd reap();

    const ProcessSpec& spec_;
    Started started_;
    ProcessPipes pipes_;
    Fd status_;
};

void Watch::read_some(Fd& fd, bool is_error, std::size_t most) {
    char buffer[16384];
    while (fd && most > 0) {
        const ssize_t got = ::read(fd.get(), buffer, std::min(sizeof buffer, most));
        if (got > 0) {
            most -= static_cast<std::size_t>(got);
            if (spec_.output) {
                spec_.output(std::string_view(buffer, static_cast<std::size_t>(got)), is_error);
            }
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            fd.reset();
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

int milliseconds_until(Instant deadline) {
    if (deadline == never) {
        return -1;
    }
    const auto left = std::chrono::ceil<milliseconds>(deadline - BootClock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
}

bool Watch::wait_end(Instant deadline, const Cancel* cancel) {
    for (;;) {
        pollfd fds[4] = {{started_.pidfd.get(), POLLIN, 0},
                         {pipes_.out.get(), POLLIN, 0},
                         {pipes_.err.get(), POLLIN, 0},
                         {cancel != nullptr ? cancel->fd() : -1, POLLIN, 0}};
        const int ready = ::poll(fds, 4, milliseconds_until(deadline));
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        STEAD_ASSERT(ready >= 0);
        if (fds[1].revents != 0) {
            read_some(pipes_.out, false, 65536);
        }
        if (fds[2].revents != 0) {
            read_some(pipes_.err, true, 65536);
        }
        if (fds[0].revents != 0) {
            return true;
        }
        if ((cancel != nullptr && cancel->is_set()) || BootClock::now() >= deadline) {
            return false;
        }
    }
}

ProcessEnd Watch::kill_all(ProcessEnd::How how) {
    if (!spec_.leash.empty()) {
        ::syscall(SYS_pidfd_send_signal, started_.pidfd.get(), SIGTERM, nullptr, 0);
        if (!wait_end(BootClock::now() + seconds{3}, nullptr)) {
            ::kill(-started_.pid, SIGKILL);
        }
    } else {
        ::kill(-started_.pid, SIGKILL);
    }
    kill_marked(spec_.hook_id);
    (void)reap();
    return {how, 0, {}};
}

ProcessEnd Watch::reap() {
    siginfo_t info{};
    while (::waitid(P_PID, static_cast<id_t>(started_.pid), &info, WEXITED) != 0 && errno == EINTR) {
    }
    stead_leash_record record{};
    if (status_) {
        if (::read(status_.get(), &record, sizeof record) != static_cast<ssize_t>(sizeof record)) {
            kill_marked(spec_.hook_id); // somebody killed the leash
            return {ProcessEnd::How::signalled, info.si_code == CLD_EXITED ? SIGKILL : info.si_status, {}};
        }
        switch (record.kind) {
        case 'x': return not_started(record.value, spec_);
        case 'e': return {ProcessEnd::How::exited, record.value, {}};
        default: return {ProcessEnd::How::signalled, record.kind == 's' ? record.value : SIGKILL, {}};
        }
    }
    const bool exited = info.si_code == CLD_EXITED;
    if (spec_.kill_leftovers || (spec_.kill_leftovers_on_failure && !(exited && info.si_status == 0))) {
        kill_marked(spec_.hook_id);
    }
    return {exited ? ProcessEnd::How::exited : ProcessEnd::How::signalled, info.si_status, {}};
}

ProcessEnd Watch::run(const Cancel& cancel) {
    if (!wait_end(spec_.deadline, &cancel)) {
        return kill_all(cancel.is_set() ? ProcessEnd::How::cancelled : ProcessEnd::How::timed_out);
    }
    ProcessEnd end = reap();
    // What was written before the end is in the pipes; a daemon that goes on writing must not hold us.
    constexpr std::size_t pipe_bytes_max = 1u << 20;
    read_some(pipes_.out, false, pipe_bytes_max);
    read_some(pipes_.err, true, pipe_bytes_max);
    return end;
}

} // namespace

ProcessEnd run_process(const ProcessSpec& spec, const Cancel& cancel, ProcessPipes* left) {
    STEAD_ASSERT(!spec.argv.empty());
    auto out = make_pipe(), err = make_pipe(), status = make_pipe();
    const Fd input = open_input(spec.input);
    if (!out || !err || !status || !input) {
        return {ProcessEnd::How::not_started, errno, std::string("no descriptors left: ") + std::strerror(errno)};
    }
    const bool leashed = !spec.leash.empty();
    Started started = spawn(spec,
                            with_leash(spec, spec.kill_leftovers              ? "a"
                                             : spec.kill_leftovers_on_failure ? "k"
                                                                              : "-"),
                            {input.get(), out->write.get(), err->write.get(), leashed ? status->write.get() : -1});
    out->write.reset();
    err->write.reset();
    status->write.reset();
    if (started.error != 0) {
        return not_started(started.error, spec);
    }
    if (!started.pidfd) {
        ::kill(-started.pid, SIGKILL);
        ::waitpid(started.pid, nullptr, 0);
        return {ProcessEnd::How::not_started, errno, std::string("pidfd_open: ") + std::strerror(errno)};
    }
    Watch watch(spec, std::move(started), {std::move(out->read), std::move(err->read)},
                leashed ? std::move(status->read) : Fd());
    ProcessEnd end = watch.run(cancel);
    if (left != nullptr) {
        *left = std::move(watch.pipes());
    }
    return end;
}

namespace {
Error no_leash() {
    return Error{Errc::not_found, "libexec/stead/stead-leash", "is missing: the installation is incomplete"};
}
} // namespace

Result<pid_t> spawn_daemon(const ProcessSpec& spec, const std::filesystem::path& log_file) {
    if (spec.leash.empty()) {
        return no_leash();
    }
    const Fd input = above_nine(Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)));
    const std::string target = log_file.empty() ? "/dev/null" : log_file.string();
    const Fd log = above_nine(Fd(::open(target.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640)));
    auto status = make_pipe();
    if (!input || !log || !status) {
        return os_error(target, "cannot open", errno);
    }
    const Started started =
        spawn(spec, with_leash(spec, "d"), {input.get(), log.get(), log.get(), status->write.get()});
    status->write.reset();
    if (started.error != 0) {
        return Error{Errc::refused, "", not_started(started.error, spec).error};
    }
    ::waitpid(started.pid, nullptr, 0);
    stead_leash_record record{};
    if (::read(status->read.get(), &record, sizeof record) != static_cast<ssize_t>(sizeof record)) {
        return Error{Errc::io, spec.argv.front(), "stead-leash ended without an answer"};
    }
    if (record.kind != 'p') {
        return Error{Errc::refused, "", not_started(record.value, spec).error};
    }
    return static_cast<pid_t>(record.value);
}

Result<Supervised> spawn_supervised(const ProcessSpec& spec, const StopOrders& stop) {
    if (spec.leash.empty()) {
        return no_leash();
    }
    auto out = make_pipe(), err = make_pipe(), status = make_pipe();
    const Fd input = above_nine(Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)));
    if (!out || !err || !status || !input) {
        return os_error(spec.argv.front(), "no descriptors left", errno);
    }
    std::vector<std::string> argv{spec.leash.string(), std::string(1, STEAD_LEASH_SUPERVISE),
                                  std::to_string(stop.signal), std::to_string(stop.patience.count()), stop.user};
    argv.insert(argv.end(), spec.argv.begin(), spec.argv.end());
    Started started =
        spawn(spec, std::move(argv), {input.get(), out->write.get(), err->write.get(), status->write.get()});
    out->write.reset();
    err->write.reset();
    status->write.reset();
    if (started.error != 0) {
        return Error{Errc::refused, "", not_started(started.error, spec).error};
    }
    ::fcntl(status->read.get(), F_SETFL, 0); // the first record comes within the time that an exec takes
    stead_leash_record record{};
    const bool answered = ::read(status->read.get(), &record, sizeof record) == static_cast<ssize_t>(sizeof record);
    ::fcntl(status->read.get(), F_SETFL, O_NONBLOCK);
    if (!answered || record.kind != 'p' || !started.pidfd) {
        ::kill(started.pid, SIGUSR1);
        ::waitpid(started.pid, nullptr, 0);
        return record.kind == 'u'   ? Error{Errc::refused, "user '" + stop.user + "'", std::strerror(record.value)}
               : record.kind == 'x' ? Error{Errc::refused, "", not_started(record.value, spec).error}
                                    : Error{Errc::io, spec.argv.front(), "stead-leash ended without an answer"};
    }
    return Supervised{started.pid,
                      static_cast<pid_t>(record.value),
                      std::move(started.pidfd),
                      std::move(status->read),
                      {std::move(out->read), std::move(err->read)}};
}

} // namespace stead::script
