// SPDX-License-Identifier: Apache-2.0
// What the NFQUEUE back end rejects while more comes than it can take, beside the barest loop that reads the same
// packets and drops them all: what the difference is, is ours; the rest is the kernel's way to user space and back. Run
// it in a private network namespace as root.
#include "subject.hpp"
#include "urgent.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace stead::bench {
namespace {

constexpr std::uint32_t frames = 400'000;
constexpr std::uint16_t bare_queue = 40;
constexpr int rounds = 7;

double process_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

/// Reads bursts, drops them with one message, looks at nothing but the packet's number.
class BareLoop {
public:
    BareLoop() : wake_(::eventfd(0, EFD_CLOEXEC)), socket_(mnl_socket_open(NETLINK_NETFILTER)) {
        const int size = 8 << 20, one = 1;
        if (socket_ == nullptr || mnl_socket_bind(socket_, 0, MNL_SOCKET_AUTOPID) < 0) {
            give_up("bare loop", errno);
        }
        ::setsockopt(mnl_socket_get_fd(socket_), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
        ::setsockopt(mnl_socket_get_fd(socket_), SOL_NETLINK, NETLINK_NO_ENOBUFS, &one, sizeof(one));
        char buffer[512];
        nlmsghdr* message = nfq_nlmsg_put(buffer, NFQNL_MSG_CONFIG, bare_queue);
        nfq_nlmsg_cfg_put_cmd(message, AF_UNSPEC, NFQNL_CFG_CMD_BIND);
        mnl_socket_sendto(socket_, message, message->nlmsg_len);
        message = nfq_nlmsg_put(buffer, NFQNL_MSG_CONFIG, bare_queue);
        nfq_nlmsg_cfg_put_params(message, NFQNL_COPY_PACKET, 0xffff);
        nfq_nlmsg_cfg_put_qmaxlen(message, 16384);
        mnl_socket_sendto(socket_, message, message->nlmsg_len);
        thread_ = std::thread{[this] { serve(); }};
    }
    ~BareLoop() {
        ::eventfd_write(wake_, 1);
        thread_.join();
        mnl_socket_close(socket_);
        ::close(wake_);
    }
    BareLoop(const BareLoop&) = delete;
    BareLoop& operator=(const BareLoop&) = delete;
    [[nodiscard]] std::uint64_t count() const { return count_; }

private:
    void serve() {
        make_this_thread_urgent(); // as the back end's
        constexpr unsigned burst = 64;
        constexpr std::size_t bytes = 67584;
        std::vector<std::uint8_t> memory(burst * bytes);
        std::vector<mmsghdr> messages(burst);
        std::vector<iovec> places(burst);
        for (unsigned i = 0; i < burst; ++i) {
            places[i] = {memory.data() + i * bytes, bytes};
            messages[i].msg_hdr.msg_iov = &places[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        const int fd = mnl_socket_get_fd(socket_);
        pollfd waits[2] = {{fd, POLLIN, 0}, {wake_, POLLIN, 0}};
        while (::poll(waits, 2, -1) >= 0 && waits[1].revents == 0) {
            const int got = ::recvmmsg(fd, messages.data(), burst, MSG_DONTWAIT, nullptr);
            if (got <= 0) {
                continue;
            }
            const auto* last = static_cast<const nlmsghdr*>(places[static_cast<std::size_t>(got - 1)].iov_base);
            const auto* first =
                reinterpret_cast<const nlattr*>(reinterpret_cast<const char*>(last) + NLMSG_LENGTH(sizeof(nfgenmsg)));
            const auto* header = static_cast<const nfqnl_msg_packet_hdr*>(mnl_attr_get_payload(first));
            char buffer[128];
            nlmsghdr* verdict = nfq_nlmsg_put(buffer, NFQNL_MSG_VERDICT_BATCH, bare_queue);
            nfq_nlmsg_verdict_put(verdict, static_cast<int>(ntohl(header->packet_id)), NF_DROP);
            mnl_socket_sendto(socket_, verdict, verdict->nlmsg_len);
            count_ = count_ + static_cast<std::uint64_t>(got);
        }
    }
    int wake_;
    mnl_socket* socket_;
    std::atomic<std::uint64_t> count_{};
    std::thread thread_;
};

struct Figures {
    std::vector<double> offered, mpps, ns;
    void add(double handled, double wall_us, double reader_ns) {
        offered.push_back(frames / wall_us);
        mpps.push_back(handled / wall_us);
        ns.push_back(reader_ns / handled);
    }
    void print(const char* name) const {
        std::printf("%-32s %8.2f %8.2f %10.0f %14.2f\n", name, median(offered), median(mpps), median(ns),
                    1000 / median(ns));
    }
};

/// One turn: floods from here; what the other threads of the process did meanwhile is the reader's work.
template <class Count>
void turn(int program, const Bytes& frame, const Count& count, Figures& figures) {
    const std::uint64_t before = count();
    const auto begin = std::chrono::steady_clock::now();
    const double others = process_ns() - thread_ns();
    injected_ns(program, frame, frames);
    const double spent = process_ns() - thread_ns() - others;
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    figures.add(static_cast<double>(count() - before), took.count(), spent);
}

} // namespace

int run() {
    Spread passing(-1, XDP_PASS);
    passing.set_clients(4096);
    const auto own_mac_of_v0 = own_addresses(if_nametoindex("v0"), FarmModel{}.config).mac;
    const Bytes frame = test::frame(to_vip(false, test::ack, own_mac_of_v0));
    Figures bare, ours, mixed;
    for (int round = 0; round < rounds; ++round) {
        if (sh("iptables-legacy -w 5 -t raw -A PREROUTING -i v0 -j NFQUEUE --queue-num " +
               std::to_string(bare_queue))) {
            const BareLoop loop;
            turn(
                passing.fd(), frame, [&] { return loop.count(); }, bare);
            sh("iptables-legacy -w 5 -t raw -D PREROUTING -i v0 -j NFQUEUE --queue-num " + std::to_string(bare_queue));
        }
        for (Figures* figures : {&ours, &mixed}) {
            test::State state;
            state.delivery = Delivery::invisible;
            FilterOptions options = test::options_of(state);
            options.backend = Backend::nfqueue;
            auto filter = PacketFilter::open(options);
            if (!filter) {
                std::printf("nfqueue: %s\n", filter.error().text().c_str());
                return 0;
            }
            std::vector<Bucket> table(buckets, Bucket{1, 1, {}});
            for (std::size_t b = 0; figures == &mixed && b < table.size(); b += 3) {
                table[b] = {0, 0, {}}; // one of three nodes
            }
            GroupTable group;
            group.live = state.live;
            group.table = table;
            (*filter)->write_lease(~0ull);
            const auto tabled = (*filter)->set_table(group);
            const auto ready = tabled ? (*filter)->set_members({}) : tabled; // learns its MAC, opens the last gate
            if (!ready) {
                give_up(ready.error().text().c_str(), EINVAL);
            }
            turn(
                passing.fd(), frame,
                [&] {
                    const auto stats = (*filter)->stats(0).value();
                    return stats.rejected + stats.accepted;
                },
                *figures);
            (void)(*filter)->detach();
        }
    }
    std::printf("%-32s %8s %8s %10s %14s\n", "NFQUEUE, Mpps (medians)", "offered", "decided", "ns each",
                "of a whole core");
    bare.print("bare loop that drops everything");
    ours.print("Stead, all another's");
    mixed.print("Stead, every third bucket mine");
    std::printf("goal: 0.3 Mpps of a core that others leave alone (offered, decided: with the load there was)\n");
    Rows rows{"nfqueue"};
    rows.add("bare loop", 0, 1000 / median(bare.ns));
    rows.add("Stead, reject", 0, 1000 / median(ours.ns));
    rows.add("Stead, mixed", 0, 1000 / median(mixed.ns));
    return 0;
}

} // namespace stead::bench

int main() { return stead::bench::in_namespace(stead::bench::run); }
