// SPDX-License-Identifier: Apache-2.0
// What one frame costs the farm filter, by bpf_prog_test_run, beside an empty program in the same run. Run it in a
// private network namespace as root; prints a table and exits 1 when a goal is missed.
#include "ebpf_filter.hpp"
#include "farm.skel.h"
#include "frames.hpp"
#include "judges.hpp"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

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
    bool met = true;
    std::printf("%-30s %8s %8s %8s %8s\n", "ns per frame (best of 5)", "cost", "empty", "above", "goal");
    for (const Row& row : rows) {
        const double above = row.cost_ns - row.empty_ns;
        met = met && above <= row.goal_ns;
        std::printf("%-30s %8.0f %8.0f %8.0f %7s%.0f\n", row.name.c_str(), row.cost_ns, row.empty_ns, above, "<= ",
                    row.goal_ns);
    }
    return met ? 0 : 1;
}
