// SPDX-License-Identifier: Apache-2.0
// What one frame costs the farm filter, by bpf_prog_test_run, beside an empty program in the same run. Run it in a
// private network namespace as root. Then frames injected as from the wire, beside xt_cluster and nft jhash. Prints
// tables with the goals; missing one is no failure.
#include "attachment.hpp"
#include "ebpf_filter.hpp"
#include "farm.skel.h"
#include "frames.hpp"
#include "judges.hpp"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

using namespace stead;
using namespace stead::shim;
using namespace stead::shim::test;

namespace {

constexpr std::uint32_t repeats = 1'000'000;
constexpr int rounds = 5;

int empty_program(bpf_prog_type type, int result) {
    const bpf_insn code[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, result}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    return bpf_prog_load(type, "empty", "GPL", code, 2, nullptr);
}

/// The best of some rounds: the machine is shared, so the minimum is the program's own cost.
double cost_ns(int fd, const Bytes& frame, bool xdp) {
    double best = 1e9;
    for (int i = 0; i < rounds; ++i) {
        __sk_buff context{};
        context.ifindex = if_nametoindex("v0");
        bpf_test_run_opts run{};
        run.sz = sizeof(run);
        run.data_in = frame.data();
        run.data_size_in = static_cast<std::uint32_t>(frame.size());
        run.repeat = repeats;
        if (!xdp) {
            run.ctx_in = &context;
            run.ctx_size_in = sizeof(context);
        }
        if (bpf_prog_test_run_opts(fd, &run) != 0) {
            std::fprintf(stderr, "test run: %s\n", std::strerror(errno));
            std::exit(2);
        }
        best = std::min(best, static_cast<double>(run.duration));
    }
    return best;
}

struct Row {
    std::string name;
    double cost_ns, empty_ns, goal_ns;
};

struct Node {
    EbpfFilter filter;
    explicit Node(const State& state) {
        if (auto done = filter.load(options_of(state)); !done) {
            std::fprintf(stderr, "%s\n", done.error().text().c_str());
            std::exit(2);
        }
        const std::vector<Bucket> table(buckets, state.bucket);
        GroupTable group;
        group.live = state.live;
        group.table = table;
        OwnAddresses own;
        own.mac = own_mac;
        filter.set_own(0, own);
        filter.set_own(1, own);
        filter.write_lease(~0ull);
        if (!filter.set_table(group)) {
            std::exit(2);
        }
    }
    int tc() { return bpf_program__fd(filter.programs()->progs.stead_ingress); }
    int xdp() { return bpf_program__fd(filter.programs()->progs.stead_xdp); }
};

Spec spec(bool v6, std::uint8_t flags) {
    Spec s;
    s.destination = vmac4;
    s.source = client_mac;
    s.client = v6 ? ip6(200) : ip4(10, 0, 0, 200);
    s.vip = v6 ? ip6(100) : ip4(10, 0, 0, 100);
    s.tcp_flags = flags;
    return s;
}

constexpr std::uint32_t injected_frames = 500'000;

/// ns per frame when the kernel takes frames as from v0: the program is what sees them first.
double injected_ns(int fd, Bytes frame) {
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
        xdp_md context{};
        context.data_end = static_cast<std::uint32_t>(frame.size());
        context.ingress_ifindex = if_nametoindex("v0");
        bpf_test_run_opts run{};
        run.sz = sizeof(run);
        run.data_in = frame.data();
        run.data_size_in = static_cast<std::uint32_t>(frame.size());
        run.ctx_in = &context;
        run.ctx_size_in = sizeof(context);
        run.repeat = injected_frames;
        run.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
        run.batch_size = 64;
        const auto begin = std::chrono::steady_clock::now();
        if (bpf_prog_test_run_opts(fd, &run) != 0) {
            std::fprintf(stderr, "injected frames: %s\n", std::strerror(errno));
            std::exit(2);
        }
        const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
        best = std::min(best, took.count() / injected_frames);
    }
    return best;
}

bool sh(const char* command) { return std::system(command) == 0; }

/// Frames per second that the NFQUEUE back end rejects while more come than it can take.
double nfqueue_mpps(int pass, const Bytes& frame) {
    State state;
    state.delivery = Delivery::invisible;
    FilterOptions options = options_of(state);
    options.backend = Backend::nfqueue;
    auto filter = PacketFilter::open(options);
    if (!filter) {
        std::printf("nfqueue: %s\n", filter.error().text().c_str());
        return 0;
    }
    const std::vector<Bucket> table(buckets, Bucket{1, 1, {}});
    GroupTable group;
    group.live = state.live;
    group.table = table;
    if (!(*filter)->set_table(group)) {
        std::exit(2);
    }
    (*filter)->write_lease(~0ull);
    const std::uint64_t before = (*filter)->stats(0)->rejected;
    const auto begin = std::chrono::steady_clock::now();
    (void)injected_ns(pass, frame);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    const auto done = static_cast<double>((*filter)->stats(0)->rejected - before);
    (void)(*filter)->detach();
    return done / took.count();
}

void compare_injected(Node& others) {
    Spec own = spec(false, ack);
    const int passing = empty_program(BPF_PROG_TYPE_XDP, XDP_PASS),
              dropping = empty_program(BPF_PROG_TYPE_XDP, XDP_DROP);
    const OwnAddresses v0 = own_addresses(if_nametoindex("v0"), FarmModel{}.config);
    const Bytes flooded = frame(own);
    own.destination = v0.mac;
    const Bytes direct = frame(own);
    struct Line {
        const char* name;
        double ns;
    };
    std::vector<Line> lines;
    lines.push_back({"generator alone (XDP drop)", injected_ns(dropping, flooded)});
    lines.push_back({"Stead, XDP reject", injected_ns(others.xdp(), flooded)});
    const double xdp_ns = lines.back().ns;
    if (auto done = attach_tc(if_nametoindex("v0"), Direction::ingress, 7, others.tc()); !done) {
        std::fprintf(stderr, "%s\n", done.error().text().c_str());
        std::exit(2);
    }
    lines.push_back({"Stead, tc reject", injected_ns(passing, flooded)});
    detach_tc(if_nametoindex("v0"), Direction::ingress, 7);
    double cluster_ns = 0, jhash_ns = 0;
    const char* cluster = "-t mangle PREROUTING -i v0 -m cluster --cluster-total-nodes 3 --cluster-local-nodemask 7 "
                          "--cluster-hash-seed 1 -j DROP 2>/dev/null";
    const std::string add = "iptables-legacy -w 5 " + std::string{cluster}.replace(10, 0, "-A ");
    const std::string remove = "iptables-legacy -w 5 " + std::string{cluster}.replace(10, 0, "-D ");
    if (sh(add.c_str())) {
        cluster_ns = injected_ns(passing, direct);
        lines.push_back({"xt_cluster reject", cluster_ns});
        (void)sh(remove.c_str());
    } else {
        std::printf("xt_cluster is not to be had here\n");
    }
    if (sh("nft 'table ip peer { chain in { type filter hook prerouting priority -300; "
           "iifname v0 jhash ip saddr mod 65536 seed 1 >= 0 drop; }; }' 2>/dev/null")) {
        jhash_ns = injected_ns(passing, direct);
        lines.push_back({"nft jhash reject", jhash_ns});
        (void)sh("nft delete table ip peer");
    } else {
        std::printf("nft jhash is not to be had here\n");
    }
    std::printf("\n%-30s %8s %8s\n", "injected frames (best of 3)", "ns", "Mpps");
    for (const Line& line : lines) {
        std::printf("%-30s %8.0f %8.2f  ", line.name, line.ns, 1000 / line.ns);
        for (int i = 0; i < static_cast<int>(line.ns / 25); ++i) {
            std::putchar('#');
        }
        std::putchar('\n');
    }
    if (cluster_ns > 0) {
        std::printf("XDP beside xt_cluster: %.1f x (goal >= 4)\n", cluster_ns / xdp_ns);
    }
    if (jhash_ns > 0) {
        std::printf("XDP beside nft jhash:  %.1f x (goal >= 3)\n", jhash_ns / xdp_ns);
    }
    std::printf("NFQUEUE rejects %.2f Mpps under overload (goal >= 0.3)\n", nfqueue_mpps(passing, direct));
}

} // namespace

int main() {
    if (const std::string failed = prepare_namespace(); !failed.empty()) {
        std::fprintf(stderr, "failed: %s\n", failed.c_str());
        return 2;
    }
    State mine, others, moving, holder;
    mine.delivery = others.delivery = moving.delivery = holder.delivery = Delivery::invisible;
    others.bucket = {1, 1, {}};
    moving.bucket = {0, 0, NodeSet{NodeId{1}}};
    holder.bucket = {1, 1, NodeSet{NodeId{0}}};
    Node node_mine{mine}, node_others{others}, node_moving{moving}, node_holder{holder};
    const int empty_tc = empty_program(BPF_PROG_TYPE_SCHED_CLS, -1);
    const int empty_xdp = empty_program(BPF_PROG_TYPE_XDP, XDP_DROP);
    const Bytes segment = frame(spec(false, ack)), segment6 = frame(spec(true, ack));
    const double tc0 = cost_ns(empty_tc, segment, false), xdp0 = cost_ns(empty_xdp, segment, true);
    std::vector<Row> rows;
    rows.push_back({"tc  settled reject", cost_ns(node_others.tc(), segment, false), tc0, 50});
    rows.push_back({"tc  settled reject IPv6", cost_ns(node_others.tc(), segment6, false), tc0, 50});
    rows.push_back({"XDP settled reject", cost_ns(node_others.xdp(), segment, true), xdp0, 50});
    rows.push_back({"XDP settled reject IPv6", cost_ns(node_others.xdp(), segment6, true), xdp0, 50});
    rows.push_back({"tc  settled accept", cost_ns(node_mine.tc(), segment, false), tc0, 100});
    rows.push_back({"tc  settled accept IPv6", cost_ns(node_mine.tc(), segment6, false), tc0, 100});
    rows.push_back({"tc  transition, no socket", cost_ns(node_moving.tc(), segment, false), tc0, 180});
    {
        const Connection connection{false};
        rows.push_back({"tc  transition, socket here", cost_ns(node_holder.tc(), segment, false), tc0, 180});
    }
    std::printf("%-30s %8s %8s %8s %8s\n", "ns per frame (best of 5)", "cost", "empty", "above", "goal");
    for (const Row& row : rows) {
        const double above = row.cost_ns - row.empty_ns;
        std::printf("%-30s %8.0f %8.0f %8.0f %7s%.0f\n", row.name.c_str(), row.cost_ns, row.empty_ns, above,
                    "<= ", row.goal_ns);
    }
    compare_injected(node_others);
    return 0;
}
