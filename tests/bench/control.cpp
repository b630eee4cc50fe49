// SPDX-License-Identifier: Apache-2.0
// What one node's bus costs in a group of N: a real bus with its sockets and its thread on the loopback, and N - 1
// members played by another thread, which hear one another without a wire. Processor time is the scheduler's own count
// of the bus thread, what the kernel does for it in its system calls included.
#include <stead/bus/bus.hpp>
#include <stead/core/whiteboard.hpp>
#include <stead/wire/messages.hpp>
#include <stead/wire/sealed.hpp>

#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

namespace stead::bench {
namespace {

constexpr std::uint16_t port = 48123;
constexpr std::uint64_t cluster = 0x1234567890abcdef;
const std::string key(32, 'k');

[[noreturn]] void give_up(const std::string& what) {
    std::fprintf(stderr, "%s\n", what.c_str());
    std::exit(2);
}

std::string address_of(std::size_t node) { return "127.0.1." + std::to_string(node + 1); }

sockaddr_in socket_address(std::size_t node) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(0x7f000100U | static_cast<std::uint32_t>(node + 1));
    return address;
}

NodeSet first(std::size_t count) {
    NodeSet set;
    for (std::size_t i = 0; i < count; ++i) {
        set.insert(NodeId(i));
    }
    return set;
}

/// All members but node 0.
class Others {
public:
    Others(std::size_t count, const membership::Timing& timing) : reads_every_(timing.period / 10) {
        for (std::size_t i = 1; i < count; ++i) {
            members_.push_back(std::make_unique<Member>(i, count, timing));
        }
        thread_ = std::thread{[this] { run(); }};
    }
    ~Others() {
        end_ = true;
        thread_.join();
    }
    Others(const Others&) = delete;
    Others& operator=(const Others&) = delete;

private:
    struct Member {
        Member(std::size_t number, std::size_t count, const membership::Timing& timing)
            : self(NodeId(number)), session{0x1000 + number, 0x2000 + number}, socket(::socket(AF_INET, SOCK_DGRAM, 0)),
              sealer({cluster, GroupId{}}, self, session, key),
              opener({cluster, GroupId{}}, self, session, first(count), {key}), core({.self = self,
                                                                                      .session = session,
                                                                                      .nodes = first(count),
                                                                                      .lans = 1,
                                                                                      .timing = timing,
                                                                                      .random_seed = number},
                                                                                     BootClock::now()) {
            const sockaddr_in here = socket_address(number);
            if (::bind(socket, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0) {
                give_up("cannot bind " + address_of(number));
            }
            membership::SetLocal local;
            local.whiteboard_digest = whiteboard::Board{self, session}.digest(); // nothing there to ask for
            (void)core.step(BootClock::now(), local);
        }
        ~Member() { ::close(socket); }
        NodeId self;
        SessionId session;
        int socket;
        wire::Sealer sealer;
        wire::Opener opener;
        wire::Codec codec;
        wire::PeerClocks clocks{};
        membership::Core core;
    };

    void run() {
        sched_param urgent{};
        urgent.sched_priority = 5;
        (void)::pthread_setschedparam(::pthread_self(), SCHED_FIFO, &urgent); // else a busy machine is what we measure
        // No wait for the sockets: the kernel would charge the wake-up of this thread to the bus, once a datagram, and
        // real members of a large group are not woken by them either when they are at rest (read_late()).
        for (Instant reads = BootClock::now(); !end_;) {
            Instant next = reads;
            for (const auto& member : members_) {
                next = std::min(next, member->core.next_deadline());
            }
            std::this_thread::sleep_for(next - BootClock::now());
            if (reads <= BootClock::now()) {
                reads = BootClock::now() + reads_every_;
                for (const auto& member : members_) {
                    while (receive(*member)) {
                    }
                }
            }
            for (const auto& member : members_) {
                if (member->core.next_deadline() <= BootClock::now()) {
                    step(*member, membership::Tick{});
                }
            }
        }
    }
    bool receive(Member& member) {
        std::array<std::uint8_t, 2048> bytes{};
        const ssize_t size = ::recv(member.socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
        if (size <= 0) {
            return false;
        }
        const Instant now = BootClock::now();
        member.clocks[index(member.self)] = {member.session, now};
        const auto opened = member.opener.open(now, LanId{}, {bytes.data(), static_cast<std::size_t>(size)});
        auto datagram = opened.drop == wire::Drop::none
                            ? member.codec.decode(opened.node, opened.session, opened.payload, member.clocks)
                            : Result<wire::Datagram>{wire::Datagram{}};
        if (datagram && datagram->heartbeat) {
            step(member, membership::Received{LanId{}, *datagram->heartbeat});
        }
        return true;
    }
    /// Heartbeats that this brings forth are handed on until there are no more.
    void step(Member& member, const membership::Input& input) {
        std::deque<std::pair<Member*, membership::Heartbeat>> under_way;
        const auto collect = [&](Member& from, const std::vector<membership::Output>& outputs) {
            for (const membership::Output& output : outputs) {
                if (const auto* beat = std::get_if<membership::Send>(&output)) {
                    to_node_0(from, beat->heartbeat);
                    under_way.emplace_back(&from, beat->heartbeat);
                }
            }
        };
        collect(member, member.core.step(BootClock::now(), input));
        for (; !under_way.empty(); under_way.pop_front()) {
            for (const auto& other : members_) {
                if (other.get() != under_way.front().first) {
                    collect(*other, other->core.step(BootClock::now(),
                                                     membership::Received{LanId{}, under_way.front().second}));
                }
            }
        }
    }
    void to_node_0(Member& from, const membership::Heartbeat& heartbeat) {
        wire::Datagram datagram;
        datagram.heartbeat = heartbeat;
        const auto sealed = from.sealer.seal(LanId{}, from.codec.encode(datagram));
        const sockaddr_in to = socket_address(0);
        (void)::sendto(from.socket, sealed.data(), sealed.size(), MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&to),
                       sizeof to);
    }

    nanoseconds reads_every_;
    std::vector<std::unique_ptr<Member>> members_;
    std::atomic<bool> end_{};
    std::thread thread_;
};

std::set<std::string> threads() {
    std::set<std::string> found;
    for (const auto& task : std::filesystem::directory_iterator{"/proc/self/task"}) {
        found.insert(task.path().filename());
    }
    return found;
}

struct Usage {
    double cpu_s{};
    double turns{}; ///< times that the thread was put on a processor
};

Usage usage_of(const std::string& thread) {
    std::ifstream file{"/proc/self/task/" + thread + "/schedstat"};
    double run_ns = 0, wait_ns = 0, turns = 0;
    file >> run_ns >> wait_ns >> turns;
    return {run_ns / 1e9, turns};
}

void measure(std::size_t count, const membership::Timing& timing, int seconds_long) {
    bus::BusOptions options;
    options.self = NodeId{};
    options.nodes = first(count);
    bus::LanOptions lan;
    lan.name = "default";
    lan.local_address = address_of(0);
    for (std::size_t i = 0; i < count; ++i) {
        options.node_names.push_back("node" + std::to_string(i + 1));
        lan.addresses.push_back(address_of(i));
    }
    options.lans.push_back(lan);
    options.port = port;
    options.keys = {key};
    options.cluster_id = cluster;
    options.timing = timing;
    Others others{count, timing};
    const auto before = threads();
    auto bus = bus::Bus::start(
        options, {}, [](const std::function<void()>&) {}, [](std::uint64_t) {});
    if (!bus) {
        give_up(bus.error().text());
    }
    std::string thread;
    for (const std::string& now : threads()) {
        thread = before.contains(now) ? thread : now;
    }
    const Instant end = BootClock::now() + seconds{30};
    while ((*bus)->view().members != options.nodes) {
        if (BootClock::now() > end) {
            give_up("no view of all " + std::to_string(count) + " nodes after 30 s");
        }
        ::usleep(10000);
    }
    ::sleep(1);
    const auto sent = (*bus)->counters();
    std::vector<double> cpu;
    double turns = 0;
    for (int round = 0; round < seconds_long; ++round) {
        const Usage used = usage_of(thread);
        ::sleep(1);
        const Usage later = usage_of(thread);
        cpu.push_back(100 * (later.cpu_s - used.cpu_s));
        turns += later.turns - used.turns;
    }
    const auto counted = (*bus)->counters();
    std::ranges::sort(cpu);
    const auto per_second = [&](std::uint64_t a, std::uint64_t b) { return static_cast<double>(b - a) / seconds_long; };
    std::printf(
        "| %zu | %.0f | %.0f | %.2f | %.0f | %.2f | %.2f |\n", count,
        per_second(sent.datagrams_in, counted.datagrams_in), per_second(sent.datagrams_out, counted.datagrams_out),
        per_second(sent.bytes_in, counted.bytes_in) * 8 / 1e6, turns / seconds_long, cpu[cpu.size() / 2], cpu.front());
    std::fflush(stdout);
    if (counted.membership.views_installed != sent.membership.views_installed) {
        std::printf("(the view changed meanwhile: the machine was too busy)\n");
    }
}

} // namespace
} // namespace stead::bench

int main(int argc, char** argv) {
    const int seconds_long = argc > 1 ? std::atoi(argv[1]) : 5;
    std::printf(
        "| nodes | datagrams in /s | out /s | Mbit/s in | turns /s | %% of one core, median of seconds | least |\n"
        "|---|---|---|---|---|---|---|\n");
    for (const std::size_t count : {3U, 12U, 24U, 64U}) {
        stead::bench::measure(count, stead::membership::default_timing(), seconds_long);
    }
    return 0;
}
