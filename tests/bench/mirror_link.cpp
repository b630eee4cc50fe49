// SPDX-License-Identifier: Apache-2.0
// The mirror's codec and stream. With a namespace of its own for the peer when run as root: then its packets take the
// way through a veth pair, as between two machines without the wire.
#include <link.hpp>

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

namespace {

using namespace stead;
using namespace stead::mirror;

constexpr std::uint16_t port = 5600;
const std::string key(32, 'k');

Message write_of(Seq seq, std::size_t bytes) {
    return {1, message::Change{seq,
                               operation_of(Content{{1, 2}, change::Write{{1, 2}, 0, std::string(bytes, 'x'), false}}),
                               Level::applied}};
}

/// Of a core, by this thread or process: what others do on the machine does not count.
double cpu_seconds(clockid_t clock) {
    timespec time{};
    ::clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds_since(Instant start) { return std::chrono::duration<double>(BootClock::now() - start).count(); }

void codec() {
    const Message message = write_of(1, 4096);
    constexpr unsigned rounds = 500'000;
    std::size_t bytes = 0;
    const double start = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
    for (unsigned i = 0; i < rounds; ++i) {
        const auto back = decode_message(encode(message));
        bytes += back ? 1 : 0;
    }
    std::printf("codec: %.0f Changes of 4 KiB encoded and decoded per second of one core\n",
                rounds / (cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - start));
    if (bytes != rounds) {
        std::exit(1);
    }
}

/// What the peer does: acknowledges each change.
struct Peer {
    Peer(const std::string& local, const std::string& other) {
        auto made =
            Link::start({false, local, other, port, {key}, seconds{60}},
                        {[] {},
                         [this](std::uint64_t generation, const Message& message) {
                             if (const auto* change = std::get_if<message::Change>(&message.body)) {
                                 ready();
                                 link->send(generation, {1, message::Acked{change->seq, Level::applied, 0, false, {}}});
                             }
                         },
                         [](std::uint64_t, const std::string&) {}});
        if (!made) {
            std::fprintf(stderr, "%s\n", made.error().text().c_str());
            std::exit(1);
        }
        const std::lock_guard lock{mutex};
        link = std::move(*made);
        changed.notify_all();
    }
    void ready() {
        if (!is_ready) {
            std::unique_lock lock{mutex};
            changed.wait(lock, [this] { return link != nullptr; });
            is_ready = true;
        }
    }
    bool is_ready{};
    std::mutex mutex;
    std::condition_variable changed;
    std::unique_ptr<Link> link;
};

/// Sends changes, at most `window` without an acknowledgement.
class Source {
public:
    Source(const std::string& local, const std::string& peer) {
        auto made = Link::start(
            {true, local, peer, port, {key}, seconds{60}},
            {[this] { wake([this] { up_ = true; }); },
             [this](std::uint64_t generation, const Message&) { acked(generation); },
             [](std::uint64_t, const std::string& why) { std::fprintf(stderr, "down: %s\n", why.c_str()); }});
        if (!made) {
            std::fprintf(stderr, "%s\n", made.error().text().c_str());
            std::exit(1);
        }
        link_ = std::move(*made);
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [this] { return up_; });
    }

    /// Messages per second. The next one is sent by the thread that received an acknowledgement, as a core would.
    double run(std::size_t bytes, unsigned window, Seq count) {
        template_ = write_of(0, bytes);
        left_ = count;
        done_ = 0;
        count_ = count;
        const std::uint64_t generation = link_->generation();
        const Instant start = BootClock::now();
        for (unsigned i = 0; i < window; ++i) {
            send(generation);
        }
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [this] { return done_ == count_; });
        return static_cast<double>(count) / seconds_since(start);
    }

private:
    template <class Change>
    void wake(Change change) {
        const std::lock_guard lock{mutex_};
        change();
        changed_.notify_all();
    }
    void send(std::uint64_t generation) {
        Seq before = left_.load();
        while (before > 0 && !left_.compare_exchange_weak(before, before - 1)) {
        }
        if (before > 0) {
            link_->send(generation, template_);
        }
    }
    void acked(std::uint64_t generation) {
        send(generation);
        if (++done_ == count_) {
            wake([] {});
        }
    }

    Message template_;
    std::atomic<Seq> left_{}, done_{};
    Seq count_{};
    std::mutex mutex_;
    std::condition_variable changed_;
    bool up_{};
    std::unique_ptr<Link> link_;
};

void measure(const char* where, const std::string& local, const std::string& peer) {
    Source source(local, peer);
    source.run(4096, 1, 1000);
    double best = 0;
    for (int i = 0; i < 5; ++i) {
        best = std::max(best, source.run(4096, 1, 5000));
    }
    std::printf("%s: %.0f round trips of a 4 KiB Change and its Ack per second, one at a time (%.1f us)\n", where, best,
                1e6 / best);
    for (const unsigned window : {16u, 256u}) {
        const double before = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
        const double rate = source.run(4096, window, 50'000);
        std::printf("%s: %.0f of them with %u in flight, %.1f us of a core each\n", where, rate, window,
                    (cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - before) * 1e6 / 50'000);
    }
    const double before = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
    const double rate = source.run(1 << 20, 8, 2000) * 1.048576;
    std::printf("%s: %.0f MB/s in messages of 1 MiB, %.0f per second of the sender's core\n", where, rate,
                2000 * 1.048576 / (cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - before));
    std::fflush(stdout);
}

/// The peer in a process of its own; `enter` puts it where it shall be.
template <class Enter>
pid_t start_peer(const std::string& local, const std::string& other, Enter enter) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        enter();
        Peer peer(local, other);
        for (;;) {
            ::pause();
        }
    }
    return pid;
}

void stop(pid_t pid) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
}

void shell(const std::string& command) {
    if (std::system(command.c_str()) != 0) {
        std::fprintf(stderr, "failed: %s\n", command.c_str());
        std::exit(1);
    }
}

/// In a network namespace of our own, with the peer in another: nothing of the machine's is touched.
void between_namespaces() {
    if (::geteuid() != 0 || ::unshare(CLONE_NEWNET) != 0) {
        std::printf("namespaces: needs root, left out\n");
        return;
    }
    int inside[2], wired[2];
    if (::pipe(inside) != 0 || ::pipe(wired) != 0) {
        std::exit(1);
    }
    char byte = 0;
    const pid_t pid = start_peer("10.99.0.2", "10.99.0.1", [&] {
        if (::unshare(CLONE_NEWNET) != 0 || ::write(inside[1], &byte, 1) != 1 || ::read(wired[0], &byte, 1) != 1) {
            std::exit(1);
        }
        shell("ip address add 10.99.0.2/24 dev benchb && ip link set benchb up");
    });
    if (::read(inside[0], &byte, 1) != 1) {
        std::exit(1);
    }
    shell("ip link add bencha type veth peer name benchb netns " + std::to_string(pid));
    shell("ip address add 10.99.0.1/24 dev bencha && ip link set bencha up");
    if (::write(wired[1], &byte, 1) != 1) {
        std::exit(1);
    }
    measure("namespaces", "10.99.0.1", "10.99.0.2");
    stop(pid);
}

} // namespace

int main() {
    codec();
    const pid_t pid = start_peer("127.0.0.1", "127.0.0.1", [] {});
    measure("loopback", "127.0.0.1", "127.0.0.1");
    stop(pid);
    between_namespaces();
    return 0;
}
