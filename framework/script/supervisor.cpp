// SPDX-License-Identifier: Apache-2.0
#include <stead/script/supervisor.hpp>

#include "leash_protocol.h"
#include "lines.hpp"
#include "process.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <future>
#include <list>
#include <sstream>
#include <thread>

namespace stead::script {

namespace {

constexpr std::size_t record_bytes_max = 65536;
constexpr std::size_t line_bytes_max = 4096;
constexpr nanoseconds kill_patience = seconds{5};

/// Also to a process that somebody stopped with SIGSTOP: it goes on, and so sees the signal.
void send(const Fd& pidfd, int signal) {
    ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0);
    ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGCONT, nullptr, 0);
}

/// True when the process ended before `until`.
bool wait_gone(const Fd& pidfd, Instant until) {
    for (;;) {
        const auto left = std::chrono::ceil<milliseconds>(until - BootClock::now()).count();
        pollfd fd{pidfd.get(), POLLIN, 0};
        const int ready = ::poll(&fd, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000)));
        if (ready > 0 || (ready == 0 && left <= 0)) {
            return ready > 0;
        }
    }
}

std::string seconds_text(nanoseconds time) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f s", std::chrono::duration<double>(time).count());
    return text;
}

/// One line of the record: a program that runs, found again by its leash and by its mark.
struct Recorded {
    std::string name;
    pid_t leash{};
    std::uint64_t leash_start{};
    std::int64_t stop_ms{};
    std::string mark;
};

std::vector<Recorded> read_record(const std::filesystem::path& file) {
    std::vector<Recorded> all;
    const auto text = read_file(file, record_bytes_max);
    std::istringstream lines(text ? *text : std::string());
    for (Recorded one; lines >> one.name >> one.leash >> one.leash_start >> one.stop_ms >> one.mark;) {
        if (one.leash > 1 && one.mark.size() == 32) {
            all.push_back(one);
        }
    }
    return all;
}

struct Program {
    SuperviseSpec spec;
    Supervised process;
    std::uint64_t leash_start{};
    std::string mark, hook, hook_id;
    std::shared_ptr<Cancel> cancel; ///< of the run that began it, until that has ended
    Instant began{};
    std::unique_ptr<LineSplitter> out, err;
    bool stopping{};    ///< its end is wanted
    bool hook_failed{}; ///< that started it
    bool ended{};       ///< the program; what it started may still be on its way out
};

class SupervisorThread final : public Supervisor {
public:
    SupervisorThread(Events events, std::filesystem::path record)
        : events_(std::move(events)), record_(std::move(record)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
          thread_([this] { run(); }) {}
    SupervisorThread(const SupervisorThread&) = delete;
    SupervisorThread& operator=(const SupervisorThread&) = delete;
    ~SupervisorThread() override;

    Result<pid_t> start(SuperviseSpec spec, const std::string& hook, const std::string& hook_id,
                        std::shared_ptr<Cancel> cancel) override;
    std::vector<Running> running() const override;
    bool stop(const std::string& name, nanoseconds patience) override;
    void hook_ended(const std::string& hook_id, bool succeeded) override;
    void expect_end(const std::string& start_hook) override;
    void stop_begun_in(const std::string& start_hook, Instant deadline, const Cancel& cancel) override;
    void stop_leftovers() override;

private:
    using Which = std::function<bool(const Program&)>;
    struct Job {
        std::unique_ptr<Program> program;
        std::promise<Result<pid_t>> started;
    };

    void run();
    bool wait_once(); ///< false: told to stop
    void start_jobs();
    Result<pid_t> launch(Program& program);
    void read_output(Fd& fd, LineSplitter& lines);
    void read_end(Program& program);
    void on_end(Program& program, const std::string& how);
    void bury(std::list<std::unique_ptr<Program>>::iterator gone);
    bool stop_all(const Which& which, Instant deadline, const Cancel* cancel);
    void signal_all(const Which& which, int signal);
    void wake() const {
        const std::uint64_t one = 1;
        (void)!::write(wake_.get(), &one, sizeof one);
    }
    void write_record(); // mutex_ held
    void log(int level, const std::string& line) const {
        if (events_.log) {
            events_.log(level, line);
        }
    }
    void publish(const Program& program, std::optional<std::string> value) const {
        if (events_.publish) {
            events_.publish("supervise." + program.spec.name, std::move(value));
        }
    }

    const Events events_;
    const std::filesystem::path record_;
    const Fd wake_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;              ///< programs_ has fewer members
    std::list<std::unique_ptr<Program>> programs_; ///< only the thread adds, removes and reads output
    std::deque<Job> jobs_;
    bool closing_{};
    std::thread thread_; ///< last: it uses the others; the leashes are its children and die with it
};

// ---- Any thread
// --------------------------------------------------------------------------------------------------------------

SupervisorThread::~SupervisorThread() {
    {
        const std::lock_guard lock(mutex_);
        for (const auto& program : programs_) {
            program->stopping = true;
        }
    }
    signal_all([](const Program&) { return true; }, SIGUSR1);
    {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::nanoseconds(kill_patience), [this] { return programs_.empty(); });
        closing_ = true;
    }
    wake();
    thread_.join();
}

Result<pid_t> SupervisorThread::start(SuperviseSpec spec, const std::string& hook, const std::string& hook_id,
                                      std::shared_ptr<Cancel> cancel) {
    auto program = std::make_unique<Program>();
    program->spec = std::move(spec);
    program->hook = hook;
    program->hook_id = hook_id;
    program->cancel = std::move(cancel);
    program->mark = new_hook_id();
    std::future<Result<pid_t>> started;
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_back({std::move(program), {}});
        started = jobs_.back().started.get_future();
    }
    wake();
    return started.get();
}

std::vector<Supervisor::Running> SupervisorThread::running() const {
    const std::lock_guard lock(mutex_);
    std::vector<Running> all;
    for (const auto& program : programs_) {
        if (!program->ended) {
            all.push_back({program->spec.name, program->process.program, program->stopping});
        }
    }
    return all;
}

void SupervisorThread::signal_all(const Which& which, int signal) {
    const std::lock_guard lock(mutex_);
    for (const auto& program : programs_) {
        if (which(*program)) {
            program->stopping = true;
            send(program->process.leash_pidfd, signal);
        }
    }
}

bool SupervisorThread::stop_all(const Which& which, Instant deadline, const Cancel* cancel) {
    const auto none_left = [&] {
        return std::ranges::none_of(programs_, [&](const auto& program) { return which(*program); });
    };
    signal_all(which, SIGTERM);
    std::unique_lock lock(mutex_);
    while (!none_left() && BootClock::now() < deadline && !(cancel != nullptr && cancel->is_set())) {
        changed_.wait_for(lock, milliseconds{50});
    }
    if (none_left()) {
        return true;
    }
    lock.unlock();
    signal_all(which, SIGUSR1);
    lock.lock();
    return changed_.wait_for(lock, std::chrono::nanoseconds(kill_patience), none_left);
}

bool SupervisorThread::stop(const std::string& name, nanoseconds patience) {
    return stop_all([&](const Program& program) { return program.spec.name == name; }, BootClock::now() + patience,
                    nullptr);
}

void SupervisorThread::hook_ended(const std::string& hook_id, bool succeeded) {
    const auto of_hook = [&](const Program& program) { return program.hook_id == hook_id; };
    {
        const std::lock_guard lock(mutex_);
        for (const auto& program : programs_) {
            if (of_hook(*program)) {
                program->cancel.reset();
                program->hook_failed = !succeeded;
            }
        }
    }
    if (!succeeded) {
        stop_all(of_hook, BootClock::now(), nullptr);
    }
}

void SupervisorThread::expect_end(const std::string& start_hook) {
    const std::lock_guard lock(mutex_);
    for (const auto& program : programs_) {
        program->stopping = program->stopping || start_hook.empty() || program->hook == start_hook;
    }
}

void SupervisorThread::stop_begun_in(const std::string& start_hook, Instant deadline, const Cancel& cancel) {
    stop_all([&](const Program& program) { return start_hook.empty() || program.hook == start_hook; }, deadline,
             &cancel);
}

void SupervisorThread::stop_leftovers() {
    {
        const std::lock_guard lock(mutex_);
        if (!programs_.empty()) {
            return; // the record is ours
        }
    }
    stop_supervised(record_, std::chrono::hours{1}, events_.log);
}

void SupervisorThread::write_record() {
    std::ostringstream text;
    for (const auto& program : programs_) {
        text << program->spec.name << " " << program->process.leash << " " << program->leash_start << " "
             << program->spec.stop_timeout.count() << " " << program->mark << "\n";
    }
    if (const auto written = write_file_atomically(record_, text.str(), 0600); !written) {
        log(2, "supervised programs are not written down: " + written.error().text());
    }
}

// ---- The thread
// --------------------------------------------------------------------------------------------------------------

void SupervisorThread::run() {
    while (wait_once()) {
    }
}

Result<pid_t> SupervisorThread::launch(Program& program) {
    const SuperviseSpec& spec = program.spec;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& other : programs_) {
            if (other->spec.name == spec.name) {
                return Error{Errc::conflict, spec.name, "runs already, pid " + std::to_string(other->process.program)};
            }
        }
        if (programs_.size() >= programs_max) {
            return Error{Errc::out_of_range, spec.name,
                         "one too many: a module supervises at most " + std::to_string(programs_max) + " programs"};
        }
    }
    ProcessSpec process;
    process.argv = spec.argv;
    process.environment = spec.environment;
    process.environment["STEAD_HOOK_ID"] = program.mark;
    process.folder = spec.folder;
    process.leash = spec.leash;
    auto started = spawn_supervised(process, {spec.stop_signal, spec.stop_timeout, spec.user});
    if (!started) {
        return started.error();
    }
    program.process = std::move(*started);
    program.leash_start = process_start_time(program.process.leash).value_or(0);
    program.began = BootClock::now();
    const auto splitter = [this, name = spec.name](bool is_error) {
        return std::make_unique<LineSplitter>(line_bytes_max, [this, name, is_error](std::string_view line) {
            if (events_.output) {
                events_.output("[" + name + "] " + std::string(line), is_error);
            }
        });
    };
    program.out = splitter(false);
    program.err = splitter(true);
    return program.process.program;
}

void SupervisorThread::start_jobs() {
    for (;;) {
        Job job;
        {
            const std::lock_guard lock(mutex_);
            if (jobs_.empty()) {
                return;
            }
            job = std::move(jobs_.front());
            jobs_.pop_front();
        }
        const Result<pid_t> started = launch(*job.program);
        if (started) {
            publish(*job.program, "up");
            log(1, "supervise " + job.program->spec.name + ": " + job.program->spec.argv.front() + " runs, pid " +
                       std::to_string(*started));
            const std::lock_guard lock(mutex_);
            programs_.push_back(std::move(job.program));
            write_record();
        }
        job.started.set_value(started);
    }
}

void SupervisorThread::read_output(Fd& fd, LineSplitter& lines) {
    char buffer[16384];
    for (int turn = 0; fd && turn < 16; ++turn) { // a program that only writes must not keep the others waiting
        const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
        if (got > 0) {
            lines.add(std::string_view(buffer, static_cast<std::size_t>(got)));
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            lines.finish();
            fd.reset();
        } else {
            return;
        }
    }
}

void SupervisorThread::on_end(Program& program, const std::string& how) {
    const std::string reason =
        "supervise " + program.spec.name + ": " + how + " after " + seconds_text(BootClock::now() - program.began);
    const bool harmless = program.spec.action == "noaction";
    bool wanted = false, hook_runs = false;
    {
        const std::lock_guard lock(mutex_);
        if (program.ended) {
            return;
        }
        program.ended = true;
        wanted = program.stopping;
        hook_runs = program.cancel != nullptr;
        if (hook_runs && !wanted && !harmless) {
            program.cancel->fail(reason); // under the lock: hook_ended() cannot pass in between
        }
    }
    if (wanted) {
        log(1, reason);
        return;
    }
    log(3, reason + "; action " + program.spec.action);
    publish(program, "down");
    if (!harmless && !hook_runs && events_.died) {
        events_.died(program.spec.name, program.spec.action, reason);
    }
}

void SupervisorThread::read_end(Program& program) {
    stead_leash_record record{};
    const ssize_t got = ::read(program.process.status.get(), &record, sizeof record);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got != static_cast<ssize_t>(sizeof record)) {
        program.process.status.reset();
        return; // the end of the leash says the rest
    }
    std::string how;
    if (record.kind == 'e') {
        how = "ended with exit code " + std::to_string(record.value);
    } else if (record.kind == 's') {
        how = "killed by signal " + std::to_string(record.value) + " (" + ::strsignal(record.value) + ")";
    } else {
        const std::lock_guard lock(mutex_);
        how = program.hook_failed ? "killed, as its hook failed" : "killed, as it did not stop in time";
    }
    on_end(program, how);
}

void SupervisorThread::bury(std::list<std::unique_ptr<Program>>::iterator gone) {
    Program& program = **gone;
    read_end(program); // written before the leash went
    ::waitpid(program.process.leash, nullptr, 0);
    if (!program.ended) {
        on_end(program, "ended together with its leash, which somebody killed");
    }
    kill_marked(program.mark);
    read_output(program.process.pipes.out, *program.out);
    read_output(program.process.pipes.err, *program.err);
    bool wanted = false;
    {
        const std::lock_guard lock(mutex_);
        wanted = program.stopping;
    }
    if (wanted) { // before those who wait for its end go on
        publish(program, std::nullopt);
    }
    bool late = false;
    std::unique_ptr<Program> last;
    {
        const std::lock_guard lock(mutex_);
        late = program.stopping && !wanted;
        last = std::move(*gone);
        programs_.erase(gone);
        write_record();
    }
    if (late) {
        publish(*last, std::nullopt);
    }
    last->out->finish();
    last->err->finish();
    changed_.notify_all();
}

bool SupervisorThread::wait_once() {
    std::vector<pollfd> fds{{wake_.get(), POLLIN, 0}};
    for (const auto& program : programs_) {
        fds.push_back({program->process.status.get(), POLLIN, 0});
        fds.push_back({program->process.pipes.out.get(), POLLIN, 0});
        fds.push_back({program->process.pipes.err.get(), POLLIN, 0});
        fds.push_back({program->process.leash_pidfd.get(), POLLIN, 0});
    }
    if (::poll(fds.data(), fds.size(), -1) < 0) {
        return errno == EINTR;
    }
    std::uint64_t count = 0;
    (void)!::read(wake_.get(), &count, sizeof count);
    {
        const std::lock_guard lock(mutex_);
        if (closing_) {
            return false;
        }
    }
    std::size_t i = 1;
    for (auto one = programs_.begin(); one != programs_.end(); i += 4) {
        const auto present = one++;
        Supervised& process = (*present)->process;
        if (fds[i].revents != 0) {
            read_end(**present);
        }
        if (fds[i + 1].revents != 0) {
            read_output(process.pipes.out, *(*present)->out);
        }
        if (fds[i + 2].revents != 0) {
            read_output(process.pipes.err, *(*present)->err);
        }
        if (fds[i + 3].revents != 0) {
            bury(present);
        }
    }
    start_jobs();
    return true;
}

} // namespace

std::shared_ptr<Supervisor> Supervisor::create(Events events, std::filesystem::path record) {
    return std::make_shared<SupervisorThread>(std::move(events), std::move(record));
}

void stop_supervised(const std::filesystem::path& record, nanoseconds patience,
                     const std::function<void(int level, std::string_view line)>& log) {
    const Instant last = BootClock::now() + patience;
    for (const Recorded& one : read_record(record)) {
        const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, one.leash, 0)));
        // Read after the open: what the descriptor names cannot change any more.
        if (pidfd && process_start_time(one.leash) == one.leash_start) {
            log(2, "supervise " + one.name + ": left over from an earlier stead-host, is stopped");
            send(pidfd, SIGTERM); // (the death of that host told it already)
            const Instant until = BootClock::now() + milliseconds{one.stop_ms} + seconds{2};
            if (!wait_gone(pidfd, std::min(until, last))) {
                send(pidfd, SIGUSR1);
            }
            if (!wait_gone(pidfd, BootClock::now() + seconds{3})) {
                send(pidfd, SIGKILL);
            }
        }
        if (!kill_marked(one.mark)) {
            log(3, "supervise " + one.name + ": processes left over from an earlier stead-host do not end");
        }
    }
    std::error_code ignored;
    std::filesystem::remove(record, ignored);
}

} // namespace stead::script
