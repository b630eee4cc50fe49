// SPDX-License-Identifier: Apache-2.0
#include "judges.hpp"

#include "ebpf_filter.hpp"
#include "farm.skel.h"
#include "user_engine.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace stead::shim::test {

namespace {

const Ip vip4 = ip4(10, 0, 0, 100);

template <class Filter>
void apply(Filter& filter, const State& state) {
    std::vector<Bucket> table(buckets, state.only ? Bucket{1, 1, {}} : state.bucket);
    if (state.only) {
        table[*state.only] = state.bucket;
    }
    GroupTable group;
    group.step = state.step;
    group.live = state.live;
    group.table = table;
    ASSERT_TRUE(filter.set_table(group).has_value());
    for (const Bucket& bucket : state.more_groups) {
        table.assign(buckets, bucket);
        ++group.group;
        ASSERT_TRUE(filter.set_table(group).has_value());
    }
    std::vector<Member> members;
    for (int node = 1; node < 4; ++node) {
        members.push_back({NodeId(static_cast<std::uint8_t>(node)),
                           if_nametoindex("v0"),
                           mac_of(node),
                           {address_of(node), ip6(static_cast<std::uint8_t>(10 + node))}});
    }
    ASSERT_TRUE(filter.set_members(members).has_value());
    OwnAddresses own;
    own.mac = own_mac;
    own.address4_be = htonl(0x0a00000a);
    filter.set_own(0, own);
    filter.set_own(1, own);
}

std::uint64_t now_ns() { return static_cast<std::uint64_t>(to_ns(BootClock::now())); }

std::set<int> nodes_of(NodeSet set) {
    std::set<int> out;
    for (const NodeId node : set) {
        out.insert(index(node));
    }
    return out;
}

class EngineJudge final : public Judge {
public:
    EngineJudge(std::string name, const State& state, UserEngine::SocketLookup sockets)
        : name_(std::move(name)), engine_(FarmModel::make(options_of(state)).value(), std::move(sockets), now_ns) {
        apply(engine_, state);
        engine_.control().lease_until_boottime_ns = state.lease ? ~0ull : 0;
        engine_.control().receiver_bits = state.receiver ? 3 : 0;
        engine_.control().draining = state.draining ? 1 : 0;
    }
    Outcome judge(const Bytes& frame) override {
        const Verdict verdict = engine_.decide(frame);
        switch (verdict.action) {
        case Action::pass: return {Fate::pass, {}};
        case Action::drop: return {Fate::drop, {}};
        case Action::accept: return {Fate::take, {}};
        case Action::answer: return {Fate::answer, {}};
        case Action::forward: return {verdict.here ? Fate::forward_and_take : Fate::forward, nodes_of(verdict.targets)};
        }
        return {};
    }
    std::string name() const override { return name_; }
    GroupStats stats(std::uint8_t group) override { return engine_.stats(group); }

private:
    std::string name_;
    UserEngine engine_;
};

bool dropped_by_xdp(EbpfFilter& filter, const Bytes& frame) {
    bpf_test_run_opts run{};
    run.sz = sizeof(run);
    run.data_in = frame.data();
    run.data_size_in = static_cast<std::uint32_t>(frame.size());
    run.repeat = 1;
    if (bpf_prog_test_run_opts(bpf_program__fd(filter.programs()->progs.stead_xdp), &run) != 0) {
        ADD_FAILURE() << "XDP test run: " << std::strerror(errno);
    }
    return run.retval == 1;
}

void load(EbpfFilter& filter, const State& state) {
    const auto loaded = filter.load(options_of(state));
    if (!loaded) {
        ADD_FAILURE() << loaded.error().text();
        return;
    }
    apply(filter, state);
    filter.write_lease(state.lease ? ~0ull : 0);
    EXPECT_TRUE(filter.set_receiver(0, state.receiver).has_value());
    EXPECT_TRUE(filter.set_receiver(1, state.receiver).has_value());
    EXPECT_TRUE(filter.set_draining(state.draining).has_value());
}

class XdpJudge final : public Judge {
public:
    explicit XdpJudge(const State& state) { load(filter_, state); }
    Outcome judge(const Bytes& frame) override {
        return {dropped_by_xdp(filter_, frame) ? Fate::drop : Fate::pass, {}};
    }
    std::string name() const override { return "XDP"; }
    GroupStats stats(std::uint8_t group) override { return filter_.stats(group).value(); }

private:
    EbpfFilter filter_;
};

class TcJudge final : public Judge {
public:
    explicit TcJudge(const State& state) : groups_(static_cast<std::uint8_t>(1 + state.more_groups.size())) {
        load(filter_, state);
        tap_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(3));
        sockaddr_ll where{};
        where.sll_family = AF_PACKET;
        where.sll_protocol = htons(3);
        where.sll_ifindex = static_cast<int>(if_nametoindex("v1"));
        EXPECT_EQ(::bind(tap_, reinterpret_cast<const sockaddr*>(&where), sizeof(where)), 0);
        timeval patience{0, 20000};
        ::setsockopt(tap_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    }
    ~TcJudge() override { ::close(tap_); }

    Outcome judge(const Bytes& frame) override {
        const bool early = dropped_by_xdp(filter_, frame);
        const GroupStats before = all_groups();
        Bytes out(frame.size() + 256);
        __sk_buff context{};
        context.ifindex = if_nametoindex("v0");
        bpf_test_run_opts run{};
        run.sz = sizeof(run);
        run.data_in = frame.data();
        run.data_size_in = static_cast<std::uint32_t>(frame.size());
        run.data_out = out.data();
        run.data_size_out = static_cast<std::uint32_t>(out.size());
        run.ctx_in = &context;
        run.ctx_size_in = sizeof(context);
        run.repeat = 1;
        if (bpf_prog_test_run_opts(bpf_program__fd(filter_.programs()->progs.stead_ingress), &run) != 0) {
            ADD_FAILURE() << "test run: " << std::strerror(errno);
        }
        const Outcome outcome = outcome_of(static_cast<int>(run.retval), before, out);
        if (early) {
            EXPECT_EQ(outcome, (Outcome{Fate::drop, {}})) << "XDP dropped what tc does not";
        }
        return outcome;
    }
    std::string name() const override { return "tc"; }
    GroupStats stats(std::uint8_t group) override { return filter_.stats(group).value(); }

private:
    GroupStats all_groups() {
        GroupStats sum;
        for (std::uint8_t group = 0; group < groups_; ++group) {
            const GroupStats one = stats(group);
            sum.accepted += one.accepted;
            sum.forwarded += one.forwarded;
        }
        return sum;
    }

    Outcome outcome_of(int action, const GroupStats& before, const Bytes& out) {
        const GroupStats after = all_groups();
        Outcome outcome;
        const bool forwarded = after.forwarded != before.forwarded;
        if (forwarded) {
            outcome.fate = action == TC_ACT_UNSPEC ? Fate::forward_and_take : Fate::forward;
            if (action == TC_ACT_REDIRECT) {
                outcome.targets.insert(node_of(out.data()));
            }
            // Everything that left before the last copy; the veth delivers in order and at once.
            std::uint8_t buffer[2048];
            while (::recv(tap_, buffer, sizeof(buffer), 0) > 0) {
                outcome.targets.insert(node_of(buffer));
            }
        } else if (action == TC_ACT_REDIRECT) {
            outcome.fate = Fate::answer;
            EXPECT_EQ(std::memcmp(out.data(), client_mac.data(), 6), 0) << "the answer goes to who asked";
            EXPECT_EQ(std::memcmp(out.data() + 6, own_mac.data(), 6), 0) << "never from the virtual MAC";
        } else if (action == TC_ACT_SHOT) {
            outcome.fate = Fate::drop;
        } else {
            outcome.fate = after.accepted != before.accepted ? Fate::take : Fate::pass;
        }
        return outcome;
    }

    static int node_of(const std::uint8_t* bytes) {
        EXPECT_EQ(std::memcmp(bytes + 6, own_mac.data(), 6), 0) << "a forwarded frame has our MAC as source";
        for (int node = 1; node < 64; ++node) {
            if (std::memcmp(bytes, mac_of(node).data(), 6) == 0) {
                return node;
            }
        }
        return -1;
    }

    EbpfFilter filter_;
    std::uint8_t groups_;
    int tap_{-1};
};

sockaddr_storage endpoint(const Ip& ip, bool v6, std::uint16_t port) {
    sockaddr_storage out{};
    if (v6) {
        auto* a = reinterpret_cast<sockaddr_in6*>(&out);
        a->sin6_family = AF_INET6;
        a->sin6_port = htons(port);
        std::memcpy(&a->sin6_addr, ip.data(), 16);
    } else {
        auto* a = reinterpret_cast<sockaddr_in*>(&out);
        a->sin_family = AF_INET;
        a->sin_port = htons(port);
        std::memcpy(&a->sin_addr, ip.data() + 12, 4);
    }
    return out;
}

} // namespace

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
    static const char* names[] = {"pass", "take", "drop", "forward", "forward and take", "answer"};
    out << names[static_cast<int>(outcome.fate)];
    for (const int node : outcome.targets) {
        out << " " << node;
    }
    return out;
}

FilterOptions options_of(const State& state) {
    FilterOptions o;
    o.module_id = 7;
    o.self = NodeId{0};
    o.seed = hash_seed;
    o.groups = static_cast<std::uint8_t>(1 + state.more_groups.size());
    Vip v;
    v.address = vip4;
    v.ifindex = if_nametoindex("v0");
    v.delivery = state.delivery;
    v.vmac = vmac4;
    v.arp_per_client = state.arp_per_client;
    o.vips.push_back(v);
    v.address = ip6(100);
    o.vips.push_back(v);
    o.rules = state.rules;
    o.duplicate_window = seconds{5};
    return o;
}

std::unique_ptr<Judge> direct_judge(const State& state) {
    return std::make_unique<EngineJudge>("direct", state, [state](const stead_packet& p, const stead_vip&) {
        return SocketState{state.socket && p.client_port_be == htons(40000) && p.vip_port_be == htons(80)};
    });
}

std::unique_ptr<Judge> nfqueue_judge(const State& state) {
    auto table = std::make_shared<SocketTable>();
    return std::make_unique<EngineJudge>(
        "nfqueue", state, [table](const stead_packet& p, const stead_vip& vip) { return table->find(p, vip); });
}

std::unique_ptr<Judge> tc_judge(const State& state) { return std::make_unique<TcJudge>(state); }

std::unique_ptr<Judge> xdp_judge(const State& state) { return std::make_unique<XdpJudge>(state); }

std::string prepare_namespace() {
    for (const char* command : {"ip link add v0 type veth peer name v1", "sysctl -qw net.ipv6.conf.v0.disable_ipv6=1",
                                "sysctl -qw net.ipv6.conf.v1.disable_ipv6=1", "ip link set v0 up", "ip link set v1 up",
                                "ip addr add 10.0.0.100/32 dev lo", "ip addr add 10.0.0.200/32 dev lo",
                                "ip addr add fd00::64/128 dev lo nodad", "ip addr add fd00::c8/128 dev lo nodad"}) {
        if (std::system(command) != 0) {
            return command;
        }
    }
    return {};
}

Connection::Connection(bool v6) {
    const int family = v6 ? AF_INET6 : AF_INET;
    const Ip client = v6 ? ip6(200) : ip4(10, 0, 0, 200);
    const Ip vip = v6 ? ip6(100) : vip4;
    const int one = 1;
    const linger reset{1, 0}; // no time-wait left for the next fixture
    listener_ = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    client_ = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    ::setsockopt(client_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    ::setsockopt(client_, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    const sockaddr_storage there = endpoint(vip, v6, 80);
    const sockaddr_storage here = endpoint(client, v6, 40000);
    const socklen_t size = v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<const sockaddr*>(&there), size), 0) << std::strerror(errno);
    EXPECT_EQ(::listen(listener_, 8), 0);
    EXPECT_EQ(::bind(client_, reinterpret_cast<const sockaddr*>(&here), size), 0) << std::strerror(errno);
    EXPECT_EQ(::connect(client_, reinterpret_cast<const sockaddr*>(&there), size), 0) << std::strerror(errno);
    server_ = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    EXPECT_GE(server_, 0);
    ::setsockopt(server_, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

Connection::~Connection() {
    ::close(client_);
    ::close(server_);
    ::close(listener_);
}

} // namespace stead::shim::test
