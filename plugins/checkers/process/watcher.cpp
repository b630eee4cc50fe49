// SPDX-License-Identifier: Apache-2.0
#include <stead/process/watcher.hpp>

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

namespace stead::process {
namespace {

constexpr std::size_t followed_max = 1024;           // descriptors; what is beyond is looked at every second
constexpr nanoseconds look_pause = milliseconds{50}; // processes that die by the dozen cost one look
constexpr std::uint64_t wake_mark = 0;               // no process has this pid

int open_pidfd(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

} // namespace

Result<std::unique_ptr<Watcher>> Watcher::start(std::vector<Spec> specs, Tell tell) {
    std::unique_ptr<Watcher> watcher{new Watcher(std::move(specs), std::move(tell))};
    watcher->epoll_ = Fd{::epoll_create1(EPOLL_CLOEXEC)};
    watcher->wake_ = Fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    watcher->end_fd_ = Fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = wake_mark;
    if (!watcher->epoll_ || !watcher->wake_ || !watcher->end_fd_ ||
        ::epoll_ctl(watcher->epoll_.get(), EPOLL_CTL_ADD, watcher->wake_.get(), &event) != 0) {
        return os_error("errd", "cannot watch processes", errno);
    }
    sigset_t all, old;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &old); // signals are for the program's own threads
    watcher->thread_ = std::thread([self = watcher.get()] { self->run(); });
    ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
    return watcher;
}

Watcher::Watcher(std::vector<Spec> specs, Tell tell)
    : specs_(std::move(specs)), tell_(std::move(tell)), scanner_(specs_), wanted_(specs_.size()) {}

Watcher::~Watcher() {
    {
        const std::lock_guard lock(mutex_);
        end_ = true;
    }
    if (thread_.joinable()) {
        ::eventfd_write(end_fd_.get(), 1); // a look at units ends
        ::eventfd_write(wake_.get(), 1);
        thread_.join();
    }
}

void Watcher::look_at(Instant when, std::vector<bool> wanted) {
    {
        const std::lock_guard lock(mutex_);
        wanted_ = std::move(wanted);
        look_when_ = when;
    }
    ::eventfd_write(wake_.get(), 1);
}

void Watcher::run() {
    while (wait()) {
        bool due = death_look_ <= BootClock::now();
        {
            const std::lock_guard lock(mutex_);
            due = due || look_when_ <= BootClock::now();
            look_when_ = due ? never : look_when_;
        }
        if (due) {
            death_look_ = never;
            look();
        }
    }
}

bool Watcher::wait() {
    Instant until = death_look_;
    {
        const std::lock_guard lock(mutex_);
        until = std::min(until, look_when_);
    }
    int timeout = -1;
    if (until != never) {
        const auto rest = std::chrono::ceil<milliseconds>(until - BootClock::now()).count();
        timeout = static_cast<int>(std::clamp<std::int64_t>(rest, 0, 60'000));
    }
    std::array<epoll_event, 64> events{};
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout);
    for (int i = 0; i < count; ++i) {
        const auto mark = events[static_cast<std::size_t>(i)].data.u64;
        if (mark == wake_mark) {
            eventfd_t ignored = 0;
            ::eventfd_read(wake_.get(), &ignored);
        } else if (followed_.erase(static_cast<pid_t>(mark)) != 0) { // closing takes it out of the epoll set
            death_look_ = std::min(death_look_, std::max(BootClock::now(), looked_at_ + look_pause));
        }
    }
    const std::lock_guard lock(mutex_);
    return !end_;
}

void Watcher::look() {
    std::vector<bool> wanted;
    {
        const std::lock_guard lock(mutex_);
        wanted = wanted_;
    }
    Look look;
    look.begun = BootClock::now();
    look.found.resize(specs_.size());
    look.sights.resize(specs_.size());
    std::vector<bool> by_name = wanted;
    look_at_units(wanted, by_name, look);
    look_at_processes(by_name, look);
    follow(look, wanted);
    looked_at_ = BootClock::now();
    tell_(std::move(look));
}

void Watcher::look_at_processes(const std::vector<bool>& by_name, Look& look) {
    if (std::ranges::find(by_name, true) == by_name.end()) {
        return;
    }
    if (auto scanned = scanner_.scan(by_name, look.found); !scanned) {
        look.trouble = scanned.error().text();
        return;
    }
    for (std::size_t i = 0; i < specs_.size(); ++i) {
        if (by_name[i]) {
            look.sights[i].count = look.found[i].count;
            look.sights[i].lenient = specs_[i].service; // a unit's command may have another name
        }
    }
}

void Watcher::look_at_units(const std::vector<bool>& wanted, std::vector<bool>& by_name, Look& look) {
    std::vector<std::string> names;
    std::vector<std::size_t> indexes;
    for (std::size_t i = 0; i < specs_.size(); ++i) {
        if (specs_[i].service && wanted[i]) {
            names.push_back(specs_[i].name);
            indexes.push_back(i);
        }
    }
    if (names.empty()) {
        return;
    }
    if (!Units::here()) {
        look.trouble = "no systemd here: services are watched as processes of the same name";
        return;
    }
    for (const std::size_t i : indexes) {
        by_name[i] = false;
    }
    auto answer = units_.query(names, end_fd_.get());
    if (!answer) {
        look.trouble = answer.error().text();
        return;
    }
    for (std::size_t i = 0; i < indexes.size(); ++i) {
        look.found[indexes[i]] = std::move((*answer)[i]);
        look.sights[indexes[i]].count = look.found[indexes[i]].count;
    }
}

void Watcher::follow(Look& look, const std::vector<bool>& wanted) {
    for (auto& [pid, one] : followed_) {
        one.used = false;
    }
    for (std::size_t i = 0; i < specs_.size(); ++i) {
        if (!wanted[i]) {
            continue;
        }
        Judge::Sight& sight = look.sights[i];
        sight.each_death_seen = !look.found[i].pids.empty();
        for (const pid_t pid : look.found[i].pids) {
            sight.each_death_seen = follow(pid) && sight.each_death_seen;
        }
    }
    std::erase_if(followed_, [](const auto& one) { return !one.second.used; });
}

bool Watcher::follow(pid_t pid) {
    if (const auto known = followed_.find(pid); known != followed_.end()) {
        known->second.used = true;
        return true;
    }
    if (followed_.size() >= followed_max) {
        return false;
    }
    Fd fd{open_pidfd(pid)};
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = static_cast<std::uint64_t>(pid);
    if (!fd || ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) {
        return false; // gone already, or a kernel before 5.3: the next look tells
    }
    followed_.emplace(pid, Followed{std::move(fd), true});
    return true;
}

} // namespace stead::process
