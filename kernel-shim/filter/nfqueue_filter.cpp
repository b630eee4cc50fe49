// SPDX-License-Identifier: Apache-2.0
// The back end for kernels that refuse our eBPF: the same decisions in a thread of ours, fed by NFQUEUE.
#include "attachment.hpp"
#include "user_engine.hpp"

#include <stead/base/time.hpp>

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/if_packet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <thread>

namespace stead::shim {

namespace {

constexpr std::size_t receive_bytes = 1 << 18;
constexpr std::size_t message_bytes = 8192;

std::uint64_t now_ns() { return static_cast<std::uint64_t>(to_ns(BootClock::now())); }

/// Runs one of the system's tools, quietly.
bool run(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }

std::string address_text(const stead_vip& vip, bool& v6) {
    char text[INET6_ADDRSTRLEN]{};
    v6 = vip.address_be[0] != 0 || vip.address_be[1] != 0 || vip.address_be[2] != STEAD_MAPPED_BE;
    ::inet_ntop(v6 ? AF_INET6 : AF_INET, v6 ? &vip.address_be[0] : &vip.address_be[3], text, sizeof(text));
    return text;
}

std::string table_name(std::uint8_t module_id) { return "stead_m" + std::to_string(module_id); }

/// The rules of one module: `-A` to add, `-D` to remove.
std::string queue_rule(const stead_vip& vip, std::uint8_t module_id, const char* action) {
    bool v6 = false;
    const std::string address = address_text(vip, v6);
    return std::string{v6 ? "ip6tables-legacy" : "iptables-legacy"} + " -w -t raw " + action + " PREROUTING -i " +
           interface_name(vip.ifindex) + " -d " + address + " -j NFQUEUE --queue-num " + std::to_string(module_id);
}

class NfqueueFilter final : public PacketFilter {
public:
    NfqueueFilter(const FilterOptions& options, FarmModel model, std::string why)
        : options_(options), engine_(std::move(model),
                                     [this](const stead_packet& p, const stead_vip& v) { return sockets_.find(p, v); },
                                     now_ns),
          note_("nfqueue: queue " + std::to_string(options.module_id) + " (" + why + ")") {}

    ~NfqueueFilter() override {
        write_lease(0);
        stop_thread();
        if (queue_ != nullptr) {
            mnl_socket_close(queue_);
        }
        if (raw_ >= 0) {
            ::close(raw_);
        }
        if (page_ != nullptr) {
            ::munmap(page_, 4096);
        }
        if (page_fd_ >= 0) {
            ::close(page_fd_);
        }
        if (wake_ >= 0) {
            ::close(wake_);
        }
    }

    [[nodiscard]] Result<void> start() {
        for (const Vip& vip : options_.vips) {
            if (vip.delivery == Delivery::invisible || vip.arp_per_client) {
                return Error{Errc::unsupported, "farm filter",
                             "the nfqueue back end serves type=\"vmac_directed\" with one receiver; "
                             "vmac_invisible and <rule proto=\"arp\"> need backend=\"ebpf\""};
            }
        }
        if (auto page = make_page(); !page) {
            return page;
        }
        refresh_own();
        if (auto queue = open_queue(); !queue) {
            return queue;
        }
        if (auto rules = add_rules(); !rules) {
            return rules;
        }
        thread_ = std::thread{[this] { serve(); }};
        return {};
    }

    Result<void> set_table(const GroupTable& table) override {
        const std::lock_guard lock{mutex_};
        return engine_.set_table(table);
    }
    Result<void> set_members(std::span<const Member> members) override {
        const std::lock_guard lock{mutex_};
        refresh_own();
        return engine_.set_members(members);
    }
    Result<void> set_receiver(std::size_t vip, bool receiver) override {
        if (vip >= options_.vips.size()) {
            return Error{Errc::out_of_range, "farm filter", "virtual address " + std::to_string(vip) +
                                                                "; there are " + std::to_string(options_.vips.size())};
        }
        const std::lock_guard lock{mutex_};
        const auto bit = static_cast<std::uint16_t>(1u << vip);
        std::uint16_t& bits = engine_.control().receiver_bits;
        bits = static_cast<std::uint16_t>(receiver ? bits | bit : bits & ~bit);
        return gate_neighbours(vip, receiver);
    }
    Result<void> set_draining(bool draining) override {
        const std::lock_guard lock{mutex_};
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
    std::string backend_note() const override { return note_; }
    std::string audit() override {
        std::string missing;
        for (std::size_t v = 0; v < options_.vips.size(); ++v) {
            if (!run(queue_rule(engine_.config().vips[v], options_.module_id, "-C"))) {
                missing += (missing.empty() ? "" : "; ") + std::string{"the NFQUEUE rule of a virtual address is gone"};
            }
        }
        return missing;
    }
    Result<void> detach() override {
        write_lease(0);
        stop_thread();
        for (std::size_t v = 0; v < options_.vips.size(); ++v) {
            (void)run(queue_rule(engine_.config().vips[v], options_.module_id, "-D"));
        }
        (void)run("nft delete table arp " + table_name(options_.module_id));
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
            nfq_nlmsg_cfg_put_qmaxlen(message, 16384);
        } else {
            nfq_nlmsg_cfg_put_cmd(message, AF_UNSPEC, command);
        }
        return mnl_socket_sendto(queue_, message, message->nlmsg_len) >= 0;
    }

    [[nodiscard]] Result<void> open_queue() {
        queue_ = mnl_socket_open(NETLINK_NETFILTER);
        raw_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
        wake_ = ::eventfd(0, EFD_CLOEXEC);
        if (queue_ == nullptr || raw_ < 0 || wake_ < 0 || mnl_socket_bind(queue_, 0, MNL_SOCKET_AUTOPID) < 0) {
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

    /// What lets ARP through: nothing, until this node is the receiver.
    [[nodiscard]] Result<void> gate_neighbours(std::size_t vip, bool receiver) {
        bool v6 = false;
        const std::string address = address_text(engine_.config().vips[vip], v6);
        if (v6) {
            return {};
        }
        const std::string command = std::string{"nft "} + (receiver ? "delete" : "add") + " element arp " +
                                    table_name(options_.module_id) + " silent '{ " + address + " }'";
        if (!run(command) && !receiver) {
            return Error{Errc::io, "nft", "cannot close ARP for " + address + ": '" + command + "' failed"};
        }
        return {};
    }

    [[nodiscard]] Result<void> add_rules() {
        const std::string table = table_name(options_.module_id);
        (void)run("nft delete table arp " + table);
        const std::string ruleset = "table arp " + table +
                                    " { set silent { type ipv4_addr; }; chain in { type filter hook input priority 0; "
                                    "arp daddr ip @silent drop; }; chain out { type filter hook output priority 0; "
                                    "arp saddr ip @silent drop; }; }";
        if (!run("nft '" + ruleset + "'")) {
            return Error{Errc::unsupported, "nft", "cannot add the ARP gate of the nfqueue back end (table arp " + table +
                                                       "); is nf_tables in this kernel?"};
        }
        for (std::size_t v = 0; v < options_.vips.size(); ++v) {
            const stead_vip& vip = engine_.config().vips[v];
            while (run(queue_rule(vip, options_.module_id, "-D"))) { // what a dead process left
            }
            if (!run(queue_rule(vip, options_.module_id, "-A"))) {
                return Error{Errc::unsupported, "iptables-legacy",
                             "'" + queue_rule(vip, options_.module_id, "-A") + "' failed; is xt_NFQUEUE in this kernel?"};
            }
            if (auto gate = gate_neighbours(v, false); !gate) {
                return gate;
            }
        }
        return {};
    }

    void stop_thread() {
        if (thread_.joinable()) {
            const std::uint64_t one = 1;
            (void)!::write(wake_, &one, sizeof(one));
            thread_.join();
        }
    }

    void serve() {
        std::vector<char> buffer(receive_bytes);
        pollfd waits[2] = {{mnl_socket_get_fd(queue_), POLLIN, 0}, {wake_, POLLIN, 0}};
        for (;;) {
            if (::poll(waits, 2, -1) < 0 && errno != EINTR) {
                return;
            }
            if ((waits[1].revents & POLLIN) != 0) {
                return;
            }
            const ssize_t got = mnl_socket_recvfrom(queue_, buffer.data(), buffer.size());
            if (got > 0) {
                const std::lock_guard lock{mutex_};
                (void)mnl_cb_run(buffer.data(), static_cast<std::size_t>(got), 0, 0, &NfqueueFilter::on_packet, this);
            }
        }
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
        char buffer[message_bytes];
        nlmsghdr* answer = nfq_nlmsg_put(buffer, NFQNL_MSG_VERDICT, options_.module_id);
        nfq_nlmsg_verdict_put(answer, static_cast<int>(ntohl(header->packet_id)), take ? NF_ACCEPT : NF_DROP);
        (void)mnl_socket_sendto(queue_, answer, answer->nlmsg_len);
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
    mutable std::mutex mutex_;
    std::thread thread_;
    std::vector<std::uint8_t> frame_;
    mnl_socket* queue_{};
    int raw_{-1}, wake_{-1}, page_fd_{-1};
    stead_farm_control* page_{};
};

} // namespace

void remove_nfqueue_leftovers(std::uint8_t module_id) {
    // A closed queue drops what the rule sends it, so a dead process leaves a closed filter; here it is taken away.
    const std::string end = "--queue-num " + std::to_string(module_id);
    for (const char* family : {"", "6"}) {
        const std::string tool = "ip" + std::string{family} + "tables-legacy -w -t raw";
        (void)run("grep -q raw /proc/net/ip" + std::string{family} + "_tables_names && " + tool +
                  " -S PREROUTING | sed -n 's/^-A \\(.*" + end + "\\)$/-D \\1/p' | while read -r rule; do " + tool +
                  " $rule; done");
    }
    (void)run("nft delete table arp " + table_name(module_id));
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
