// SPDX-License-Identifier: Apache-2.0
// The NFQUEUE back end when its thread is late: a packet counts for the table that held when it came, not for the one
// that holds when somebody looks at it. The thread is stopped by another process, as a busy processor would stop it.
#include <stead/base/files.hpp>
#include <stead/base/time.hpp>
#include <stead/filter/packet_filter.hpp>

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace stead::shim {
namespace {

constexpr std::uint8_t module_id = 9;
constexpr int datagrams = 20;

void run(const std::string& command) { ASSERT_EQ(std::system((command + " 2>/dev/null").c_str()), 0) << command; }

Ip mapped(std::uint8_t last) { return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last}; }

std::string first_line(const std::filesystem::path& path) {
    std::string line;
    std::ifstream file{path};
    std::getline(file, line);
    return line;
}

/// Stops one thread of this process, from another one.
class Stopper {
public:
    Stopper() {
        if (::pipe(order_) != 0 || ::pipe(answer_) != 0) {
            std::abort();
        }
        child_ = ::fork();
        if (child_ == 0) {
            serve();
        }
    }
    ~Stopper() {
        ::close(order_[1]);
        ::waitpid(child_, nullptr, 0);
        for (const int fd : {order_[0], answer_[0], answer_[1]}) {
            ::close(fd);
        }
    }
    Stopper(const Stopper&) = delete;
    Stopper& operator=(const Stopper&) = delete;
    bool stop(pid_t thread) { return order(thread); }
    bool go_on() { return order(0); }

private:
    bool order(pid_t thread) {
        bool done = false;
        return ::write(order_[1], &thread, sizeof thread) == sizeof thread &&
               ::read(answer_[0], &done, sizeof done) == sizeof done && done;
    }
    [[noreturn]] void serve() {
        ::close(order_[1]);
        pid_t stopped = 0; // none: nothing goes on
        for (pid_t thread = 0; ::read(order_[0], &thread, sizeof thread) == sizeof thread;) {
            const bool done = thread != 0 ? ::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) == 0 &&
                                                ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) == 0 &&
                                                ::waitpid(thread, nullptr, __WALL) == thread
                                          : ::ptrace(PTRACE_DETACH, stopped, nullptr, nullptr) == 0;
            stopped = thread;
            if (::write(answer_[1], &done, sizeof done) != sizeof done) {
                break;
            }
        }
        ::_exit(0); // a thread that it still held goes on
    }
    int order_[2]{}, answer_[2]{};
    pid_t child_{};
};

/// One node at a0; what comes from the LAN is put in at b0, the other end of the cable.
class Queue : public testing::Test {
protected:
    void SetUp() override {
        std::system("ip link del a0 2>/dev/null");
        run("ip link set lo up && ip link add a0 address 02:00:00:00:00:01 type veth peer name b0");
        run("sysctl -qw net.ipv6.conf.a0.disable_ipv6=1 net.ipv6.conf.b0.disable_ipv6=1");
        run("ip addr add 192.0.2.1/24 dev a0 && ip addr add 192.0.2.100/32 dev a0");
        run("ip link set a0 up && ip link set b0 up");
        FilterOptions options;
        options.module_id = module_id;
        options.self = NodeId{0};
        options.backend = Backend::nfqueue;
        options.seed = {11, 12};
        options.duplicate_window = milliseconds{100};
        options.vips.push_back({mapped(100), if_nametoindex("a0"), Delivery::directed, {}, false});
        options.rules = {Rule{{}, IPPROTO_UDP, 53, Key::port, Track::none, 0}};
        auto filter = PacketFilter::open(options);
        ASSERT_TRUE(filter) << filter.error().text();
        filter_ = std::move(*filter);
        application_ = Fd{::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)};
        sockaddr_in here{};
        here.sin_family = AF_INET;
        here.sin_port = htons(53);
        here.sin_addr.s_addr = ::inet_addr("192.0.2.100");
        ASSERT_EQ(::bind(application_.get(), reinterpret_cast<const sockaddr*>(&here), sizeof here), 0);
        lan_ = Fd{::socket(AF_PACKET, SOCK_RAW, 0)};
        filter_->write_lease(static_cast<std::uint64_t>(to_ns(BootClock::now() + seconds{3600})));
    }
    void TearDown() override {
        (void)stopper_.go_on(); // its thread has to end
        filter_.reset();
        std::system("ip link del a0 2>/dev/null");
    }

    void set_owner(std::uint8_t owner) {
        const std::vector<Bucket> table(buckets, Bucket{owner, owner, {}});
        ASSERT_TRUE(filter_->set_table({0, Step::settled, NodeSet{NodeId{0}} | NodeSet{NodeId{1}}, table}));
    }
    void send(int count) {
        std::array<std::uint8_t, 14 + 20 + 8 + 4> frame{};
        frame[0] = 0x02; // a0's
        frame[5] = 0x01;
        frame[12] = 0x08;
        iphdr ip{};
        ip.version = 4;
        ip.ihl = 5;
        ip.ttl = 64;
        ip.protocol = IPPROTO_UDP;
        ip.tot_len = htons(static_cast<std::uint16_t>(frame.size() - 14));
        ip.saddr = ::inet_addr("192.0.2.200");
        ip.daddr = ::inet_addr("192.0.2.100");
        sockaddr_ll to{};
        to.sll_family = AF_PACKET;
        to.sll_ifindex = static_cast<int>(if_nametoindex("b0"));
        for (int i = 0; i < count; ++i) {
            ip.id = htons(static_cast<std::uint16_t>(++sent_));
            ip.check = 0;
            std::uint32_t sum = 0;
            for (std::size_t word = 0; word < 10; ++word) {
                std::uint16_t value = 0;
                std::memcpy(&value, reinterpret_cast<const char*>(&ip) + 2 * word, 2);
                sum += value;
            }
            sum = (sum & 0xffff) + (sum >> 16);
            ip.check = static_cast<std::uint16_t>(~((sum & 0xffff) + (sum >> 16)));
            udphdr udp{};
            udp.source = htons(static_cast<std::uint16_t>(20000 + sent_));
            udp.dest = htons(53);
            udp.len = htons(12);
            std::memcpy(frame.data() + 14, &ip, sizeof ip);
            std::memcpy(frame.data() + 34, &udp, sizeof udp);
            ASSERT_EQ(
                ::sendto(lan_.get(), frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to),
                static_cast<ssize_t>(frame.size()));
        }
    }
    /// What reached the application; waits until nothing is on its way.
    int taken() {
        EXPECT_TRUE(eventually([] { return waiting() == 0; }));
        int count = 0;
        for (char datagram[64]; ::recv(application_.get(), datagram, sizeof datagram, 0) > 0;) {
            ++count;
        }
        return count;
    }
    /// Packets that the kernel holds for a verdict.
    static int waiting() {
        std::ifstream file{"/proc/self/net/netfilter/nfnetlink_queue"};
        for (std::string line; std::getline(file, line);) {
            std::istringstream words{line};
            int queue = 0, port = 0, total = -1;
            words >> queue >> port >> total;
            if (queue == module_id) {
                return total;
            }
        }
        return -1;
    }
    template <class Condition>
    static bool eventually(Condition&& holds) {
        for (const Instant end = BootClock::now() + seconds{10}; BootClock::now() < end;) {
            if (holds()) {
                return true;
            }
            ::usleep(1000);
        }
        return false;
    }
    void open_gate() {
        set_owner(0);
        ASSERT_TRUE(eventually([this] {
            send(1);
            return taken() > 0;
        })) << "the gate did not open";
    }
    static pid_t thread_named(const std::string& name) {
        for (const auto& task : std::filesystem::directory_iterator{"/proc/self/task"}) {
            if (first_line(task.path() / "comm") == name) {
                return static_cast<pid_t>(std::stoi(task.path().filename()));
            }
        }
        return 0;
    }

    Stopper stopper_; // first: a process without threads is forked
    std::unique_ptr<PacketFilter> filter_;
    Fd application_, lan_;
    int sent_{};
};

TEST_F(Queue, APacketThatWaitedIsNotTakenByItsNextOwner) {
    open_gate();
    set_owner(1);
    ASSERT_TRUE(stopper_.stop(thread_named("stead-queue")));
    send(datagrams);
    ASSERT_TRUE(eventually([] { return waiting() == datagrams; }));
    set_owner(0); // its owner at that time, node 1, has taken them
    ASSERT_TRUE(stopper_.go_on());
    EXPECT_EQ(taken(), 0);
    send(datagrams);
    EXPECT_EQ(taken(), datagrams);
}

TEST_F(Queue, APacketThatWaitedIsTakenByTheOwnerOfItsTime) {
    open_gate();
    ASSERT_TRUE(stopper_.stop(thread_named("stead-queue")));
    send(datagrams);
    ASSERT_TRUE(eventually([] { return waiting() == datagrams; }));
    set_owner(1); // who has dropped them
    ASSERT_TRUE(stopper_.go_on());
    EXPECT_EQ(taken(), datagrams);
    send(datagrams);
    EXPECT_EQ(taken(), 0);
}

TEST_F(Queue, APacketThatWaitedBeyondTheLeaseIsDropped) {
    open_gate();
    ASSERT_TRUE(stopper_.stop(thread_named("stead-queue")));
    send(datagrams);
    ASSERT_TRUE(eventually([] { return waiting() == datagrams; }));
    filter_->write_lease(static_cast<std::uint64_t>(to_ns(BootClock::now())));
    ASSERT_TRUE(stopper_.go_on());
    EXPECT_EQ(taken(), 0);
}

} // namespace
} // namespace stead::shim
