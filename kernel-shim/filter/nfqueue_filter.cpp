// SPDX-License-Identifier: Apache-2.0
// The back end for kernels that refuse our eBPF: the same decisions in a thread of ours, fed by NFQUEUE.
#include "attachment.hpp"
#include "neighbour_answer.hpp"
#include "nft_gate.hpp"
#include "packet_burst.hpp"
#include "urgent.hpp"
#include "user_engine.hpp"
#include "verdict_batch.hpp"
#include "xt_rules.hpp"

#include <stead/base/time.hpp>

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>

namespace stead::shim {

namespace {

constexpr std::size_t message_bytes = 8192;
constexpr unsigned burst = 64;          // packets read at once
constexpr unsigned waiting_max = 16384; // packets in the kernel's queue
/// CLOCK_BOOTTIME, as the lease.
std::uint64_t now_ns() { return static_cast<std::uint64_t>(to_ns(BootClock::now())); }

class NfqueueFilter final : public PacketFilter {
public:
    NfqueueFilter(const FilterOptions& options, FarmModel model, std::string why)
        : options_(options),
          engine_(
              std::move(model), [this](const stead_packet& p, const stead_vip& v) { return sockets_.find(p, v); },
              now_ns),
          note_("nfqueue: queue " + std::to_string(options.module_id) + " (" + why + ")") {}

    ~NfqueueFilter() override {
        write_lease(0);
        stop_threads();
        if (queue_ != nullptr) {
            mnl_socket_close(queue_);
        }
        for (const int fd : {raw_, neighbours_, page_fd_, wake_}) {
            if (fd >= 0) {
                ::close(fd);
            }
        }
        if (page_ != nullptr) {
            ::munmap(page_, 4096);
        }
    }

    [[nodiscard]] Result<void> start() {
        if (auto page = make_page(); !page) {
            return page;
        }
        refresh_own();
        gate_ = std::make_unique<NftGate>(options_.module_id, engine_.config(), engine_.control());
        if (auto queue = open_queue(); !queue) {
            return queue;
        }
        if (auto tables = gate_->install(); !tables) {
            return tables;
        }
        if (auto rules = add_queue_rules(engine_.config(), options_.module_id); !rules) {
            return rules;
        }
        server_ = std::thread{[this] { serve(); }};
        renewer_ = std::thread{[this] { renew(); }};
        (void)::pthread_setname_np(server_.native_handle(), "stead-queue");
        (void)::pthread_setname_np(renewer_.native_handle(), "stead-gate");
        return {};
    }

    Result<void> set_table(const GroupTable& table) override {
        const std::lock_guard lock{mutex_};
        judge_waiting();
        return engine_.set_table(table);
    }
    Result<void> set_members(std::span<const Member> members) override {
        {
            const std::lock_guard lock{mutex_};
            judge_waiting();
            refresh_own();
            if (auto done = engine_.set_members(members); !done) {
                return done;
            }
        }
        {
            const std::lock_guard lock{gate_mutex_};
            if (auto done = gate_->refresh(); !done) {
                return done;
            }
        }
        return renew_gate(); // new tables begin closed
    }
    Result<void> set_receiver(std::size_t vip, bool receiver) override {
        if (vip >= options_.vips.size()) {
            return Error{Errc::out_of_range, "farm filter",
                         "virtual address " + std::to_string(vip) + "; there are " +
                             std::to_string(options_.vips.size())};
        }
        {
            const std::lock_guard lock{mutex_};
            const auto bit = static_cast<std::uint16_t>(1u << vip);
            std::uint16_t& bits = engine_.control().receiver_bits;
            bits = static_cast<std::uint16_t>(receiver ? bits | bit : bits & ~bit);
        }
        return renew_gate(); // so that the announcement that follows gets out
    }
    Result<void> set_draining(bool draining) override {
        const std::lock_guard lock{mutex_};
        judge_waiting();
        engine_.control().draining = draining ? 1 : 0;
        return {};
    }
    void write_lease(std::uint64_t until_boottime_ns) noexcept override {
        if (page_ != nullptr) {
            std::atomic_ref<__u64>{page_->lease_until_boottime_ns}.store(until_boottime_ns, std::memory_order_release);
        }
    }
    int lease_fd() const noexcept override { return page_fd_; }
    Result<GroupStats> stats(std::uint8_t group) const override {
        if (group >= STEAD_FARM_GROUPS_MAX) {
            return Error{Errc::out_of_range, "farm filter", "group " + std::to_string(group) + " is not in 0..15"};
        }
        const std::lock_guard lock{mutex_};
        return engine_.stats(group);
    }
    Result<std::vector<Held>> held(std::uint8_t group) const override {
        std::vector<std::uint32_t> count(buckets, 0);
        if (auto done = count_connections(engine_.model(), group, count); !done) {
            return done.error();
        }
        const std::lock_guard lock{mutex_};
        engine_.count_flows(group, count);
        return held_from(count);
    }
    std::string backend_note() const override {
        return note_ + ", packets that came to the last gate after the lease: " + std::to_string(gate_->dropped());
    }
    Audit audit() override {
        Audit found;
        const auto put_back = [&found](const char* what, const Result<void>& done) {
            if (done) {
                found.repaired.push_back(std::string{what} + "; put back");
            } else {
                found.missing = std::string{what} + "; " + done.error().text();
                found.open = true;
            }
        };
        if (!queue_rules_present(engine_.config(), options_.module_id)) {
            put_back("the NFQUEUE rules in the raw table were taken away",
                     add_queue_rules(engine_.config(), options_.module_id));
        }
        const std::lock_guard lock{gate_mutex_};
        if (!gate_->present()) {
            put_back("an nf_tables chain of the module was taken away", gate_->install()); // open with the next renewal
        } else if (!gate_error_.empty() && found.missing.empty()) {
            found.missing = gate_error_;
        }
        return found;
    }
    Result<void> detach() override {
        write_lease(0);
        stop_threads();
        remove_queue_rules(options_.module_id);
        if (gate_ != nullptr) {
            gate_->remove();
        }
        return {};
    }

private:
    [[nodiscard]] Result<void> make_page() {
        page_fd_ = ::memfd_create("stead-lease", MFD_CLOEXEC);
        if (page_fd_ < 0 || ::ftruncate(page_fd_, 4096) != 0) {
            return os_error("farm filter", "cannot make the lease page", errno);
        }
        void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd_, 0);
        if (page == MAP_FAILED) {
            return os_error("farm filter", "cannot map the lease page", errno);
        }
        page_ = static_cast<stead_farm_control*>(page);
        engine_.use_control(page_);
        page_->version = STEAD_FARM_LAYOUT_VERSION;
        page_->module_id = options_.module_id;
        return {};
    }

    void refresh_own() {
        for (std::size_t v = 0; v < options_.vips.size(); ++v) {
            engine_.set_own(v, own_addresses(options_.vips[v].ifindex, engine_.config()));
        }
    }

    [[nodiscard]] bool configure(std::uint8_t command, bool copy) {
        char buffer[message_bytes];
        nlmsghdr* message = nfq_nlmsg_put(buffer, NFQNL_MSG_CONFIG, options_.module_id);
        if (copy) {
            nfq_nlmsg_cfg_put_params(message, NFQNL_COPY_PACKET, 0xffff);
            nfq_nlmsg_cfg_put_qmaxlen(message, waiting_max);
        } else {
            nfq_nlmsg_cfg_put_cmd(message, AF_UNSPEC, command);
        }
        return mnl_socket_sendto(queue_, message, message->nlmsg_len) >= 0;
    }

    [[nodiscard]] Result<void> open_queue() {
        queue_ = mnl_socket_open(NETLINK_NETFILTER);
        raw_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
        neighbours_ = open_neighbour_questions();
        wake_ = ::eventfd(0, EFD_CLOEXEC);
        if (queue_ == nullptr || raw_ < 0 || wake_ < 0 || neighbours_ < 0 ||
            mnl_socket_bind(queue_, 0, MNL_SOCKET_AUTOPID) < 0) {
            return os_error("farm filter", "cannot open NFQUEUE", errno);
        }
        const int size = 8 << 20, one = 1;
        const int fd = mnl_socket_get_fd(queue_);
        ::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
        ::setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &one, sizeof(one));
        if (!configure(NFQNL_CFG_CMD_BIND, false) || !configure(0, true)) {
            return os_error("farm filter", "cannot bind queue " + std::to_string(options_.module_id), errno);
        }
        return {};
    }

    void stop_threads() {
        const std::uint64_t one = 1;
        (void)!::write(wake_, &one, sizeof(one));
        for (std::thread* thread : {&server_, &renewer_}) {
            if (thread->joinable()) {
                thread->join();
            }
        }
    }

    /// The last gate behind the queue: a verdict that a pause delayed meets a closed one. Nobody judges meanwhile: else
    /// one pause could delay both a verdict and the renewal, which then would let it through.
    [[nodiscard]] Result<void> renew_gate() {
        const std::lock_guard no_verdict{mutex_};
        return renew_gate_locked();
    }
    [[nodiscard]] Result<void> renew_gate_locked() {
        const std::lock_guard lock{gate_mutex_};
        std::uint32_t claims = std::atomic_ref<__u16>{page_->receiver_bits}.load(std::memory_order_relaxed);
        for (std::size_t v = 0; v < options_.vips.size(); ++v) {
            claims |= options_.vips[v].arp_per_client ? 1u << v : 0u;
        }
        auto done = gate_->renew(page_->lease_until_boottime_ns, claims);
        gate_error_ = done ? std::string{} : done.error().text();
        return done;
    }

    /// Twice a heartbeat: a lease is some heartbeats long.
    void renew() {
        const auto period = std::chrono::ceil<std::chrono::milliseconds>(options_.duplicate_window / 4);
        const int wait_ms = static_cast<int>(std::clamp<std::int64_t>(period.count(), 2, 100));
        make_this_thread_urgent();
        pollfd wait{wake_, POLLIN, 0};
        while (::poll(&wait, 1, wait_ms) <= 0) {
            (void)renew_gate();
        }
    }

    void serve() {
        make_this_thread_urgent();
        pollfd waits[3] = {{mnl_socket_get_fd(queue_), POLLIN, 0}, {neighbours_, POLLIN, 0}, {wake_, POLLIN, 0}};
        for (;;) {
            if (::poll(waits, 3, -1) < 0) {
                if (errno == EINTR) {
                    continue;
                }
                return;
            }
            if (waits[2].revents != 0) {
                return;
            }
            if (waits[1].revents != 0) {
                answer_neighbours();
            }
            if (waits[0].revents != 0) {
                const std::lock_guard lock{mutex_};
                (void)judge_burst();
            }
        }
    }

    /// Reads, judges and answers some of the packets that wait; how many. mutex_ is held from the reading on.
    unsigned judge_burst() {
        const unsigned got = burst_.receive(queue_);
        for (unsigned i = 0; i < got; ++i) {
            const auto message = burst_[i];
            (void)mnl_cb_run(message.data(), message.size(), 0, 0, &NfqueueFilter::on_packet, this);
        }
        verdicts_.send(queue_);
        return got;
    }

    /// Before a change: what came earlier is judged by what held when it came, as a filter in the kernel would have
    /// done. The members change step by step, and each counts on it: a packet that waited here while two steps passed
    /// would be taken by the owner of each. mutex_ is held.
    void judge_waiting() {
        for (unsigned judged = 0; judged < waiting_max;) {
            const unsigned got = judge_burst();
            if (got == 0) {
                return;
            }
            judged += got;
        }
    }

    void answer_neighbours() {
        std::uint8_t question[2048];
        sockaddr_ll from{};
        for (unsigned i = 0; i < burst; ++i) {
            socklen_t size = sizeof(from);
            const ssize_t got = ::recvfrom(neighbours_, question, sizeof(question), MSG_DONTWAIT,
                                           reinterpret_cast<sockaddr*>(&from), &size);
            if (got <= 0) {
                return;
            }
            const std::lock_guard lock{mutex_};
            const auto answer =
                answer_to({question, static_cast<std::size_t>(got)}, static_cast<std::uint32_t>(from.sll_ifindex));
            if (answer.empty()) {
                continue;
            }
            if (!gate_->open()) {
                (void)renew_gate_locked(); // the lease is young: the gate would drop the answer
            }
            from.sll_halen = 6;
            std::memcpy(from.sll_addr, answer.data(), 6);
            (void)::sendto(raw_, answer.data(), answer.size(), 0, reinterpret_cast<const sockaddr*>(&from),
                           sizeof(from));
        }
    }

    /// Empty: not ours to answer. mutex_ is held.
    [[nodiscard]] std::vector<std::uint8_t> answer_to(std::span<const std::uint8_t> question, std::uint32_t ifindex) {
        const Verdict verdict = engine_.decide(question);
        const bool asked = verdict.packet.kind == STEAD_ARP_REQUEST || verdict.packet.kind == STEAD_NS;
        const stead_vip& vip = engine_.config().vips[verdict.packet.vip];
        if (!asked || verdict.action == Action::drop || vip.ifindex != ifindex) {
            return {};
        }
        const std::uint8_t* own = engine_.control().own[verdict.packet.vip].mac;
        return neighbour_answer(question, verdict.packet, vip, own, vip.delivery == STEAD_INVISIBLE ? vip.vmac : own);
    }

    static int on_packet(const nlmsghdr* message, void* self) {
        static_cast<NfqueueFilter*>(self)->decide(message);
        return MNL_CB_OK;
    }

    void decide(const nlmsghdr* message) {
        nlattr* attributes[NFQA_MAX + 1]{};
        if (nfq_nlmsg_parse(message, attributes) < 0 || attributes[NFQA_PACKET_HDR] == nullptr) {
            return;
        }
        const auto* header =
            static_cast<const nfqnl_msg_packet_hdr*>(mnl_attr_get_payload(attributes[NFQA_PACKET_HDR]));
        bool take = false;
        if (attributes[NFQA_PAYLOAD] != nullptr) {
            take = decide_packet(*header, attributes);
        }
        verdicts_.add(ntohl(header->packet_id), take ? NF_ACCEPT : NF_DROP);
    }

    /// Rebuilds the frame: NFQUEUE gives the packet, the source MAC apart; the destination was our own, or the stack
    /// would not have brought the packet here.
    [[nodiscard]] bool decide_packet(const nfqnl_msg_packet_hdr& header, nlattr** attributes) {
        const auto* bytes = static_cast<const std::uint8_t*>(mnl_attr_get_payload(attributes[NFQA_PAYLOAD]));
        const std::size_t size = mnl_attr_get_payload_len(attributes[NFQA_PAYLOAD]);
        frame_.assign(14, 0);
        if (attributes[NFQA_HWADDR] != nullptr) {
            const auto* from = static_cast<const nfqnl_msg_packet_hw*>(mnl_attr_get_payload(attributes[NFQA_HWADDR]));
            std::memcpy(frame_.data() + 6, from->hw_addr, 6);
        }
        std::memcpy(frame_.data() + 12, &header.hw_protocol, 2);
        frame_.insert(frame_.end(), bytes, bytes + size);
        const std::uint32_t ifindex = attributes[NFQA_IFINDEX_INDEV] != nullptr
                                          ? ntohl(mnl_attr_get_u32(attributes[NFQA_IFINDEX_INDEV]))
                                          : options_.vips[0].ifindex;
        for (std::size_t v = 0; v < options_.vips.size(); ++v) {
            if (options_.vips[v].ifindex == ifindex) {
                std::memcpy(frame_.data(), engine_.control().own[v].mac, 6);
            }
        }
        const Verdict verdict = engine_.decide(frame_);
        if (verdict.action == Action::forward) {
            for (const NodeId node : verdict.targets) {
                send_on(node, verdict.packet.vip, ifindex);
            }
            return verdict.here;
        }
        return verdict.action == Action::accept || verdict.action == Action::pass;
    }

    void send_on(NodeId node, std::size_t vip, std::uint32_t ifindex) {
        const Mac* mac = engine_.member_mac(vip, node);
        if (mac == nullptr) {
            return;
        }
        std::memcpy(frame_.data(), mac->data(), 6);
        std::memcpy(frame_.data() + 6, engine_.control().own[vip].mac, 6);
        sockaddr_ll to{};
        to.sll_family = AF_PACKET;
        to.sll_ifindex = static_cast<int>(ifindex);
        to.sll_halen = 6;
        std::memcpy(to.sll_addr, mac->data(), 6);
        (void)::sendto(raw_, frame_.data(), frame_.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to));
    }

    FilterOptions options_;
    SocketTable sockets_;
    UserEngine engine_;
    std::string note_;
    mutable InheritingMutex mutex_; ///< the engine and the queue's socket; taken before gate_mutex_
    InheritingMutex gate_mutex_;
    std::unique_ptr<NftGate> gate_;
    std::string gate_error_;
    std::thread server_, renewer_;
    std::vector<std::uint8_t> frame_;
    mnl_socket* queue_{};
    PacketBurst<burst> burst_;
    VerdictBatch<burst> verdicts_{options_.module_id};
    int raw_{-1}, neighbours_{-1}, wake_{-1}, page_fd_{-1};
    stead_farm_control* page_{};
};

} // namespace

void remove_nfqueue_leftovers(std::uint8_t module_id) {
    // A queue that nobody reads drops what the rules send it, so a dead process leaves a closed filter.
    remove_queue_rules(module_id);
    NftGate::remove(module_id);
}

Result<std::unique_ptr<PacketFilter>> open_nfqueue(const FilterOptions& options, const std::string& why) {
    auto model = FarmModel::make(options);
    if (!model) {
        return model.error();
    }
    auto filter = std::make_unique<NfqueueFilter>(options, std::move(*model), why);
    if (auto done = filter->start(); !done) {
        (void)filter->detach();
        return done.error();
    }
    return std::unique_ptr<PacketFilter>{std::move(filter)};
}

} // namespace stead::shim
