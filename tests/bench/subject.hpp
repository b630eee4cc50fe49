// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebpf_filter.hpp"
#include "farm.skel.h"
#include "judges.hpp"
#include "measure.hpp"
#include "spread.skel.h"

#include <functional>

namespace stead::bench {

using namespace stead::shim;

/// A node whose programs are loaded and attached nowhere; every bucket of its table is as in `state`.
class Node {
public:
    explicit Node(const test::State& state) {
        FilterOptions options = test::options_of(state);
        if (auto done = filter_.load(options); !done) {
            give_up(done.error().text().c_str(), EINVAL);
        }
        live_ = state.live;
        OwnAddresses own;
        own.mac = test::own_mac;
        filter_.set_own(0, own);
        filter_.set_own(1, own);
        filter_.write_lease(~0ull);
        set_table(std::vector<Bucket>(buckets, state.bucket));
    }
    void set_table(const std::vector<Bucket>& table) {
        GroupTable group;
        group.live = live_;
        group.table = table;
        if (!filter_.set_table(group)) {
            give_up("table", EINVAL);
        }
    }
    [[nodiscard]] int tc() { return bpf_program__fd(filter_.programs()->progs.stead_ingress); }
    [[nodiscard]] int xdp() { return bpf_program__fd(filter_.programs()->progs.stead_xdp); }

private:
    EbpfFilter filter_;
    NodeSet live_;
};

/// Injected frames come from this many clients in turn, and then meet `next` (an XDP program; -1: the answer is
/// `otherwise`).
class Spread {
public:
    Spread(int next, int otherwise) : bpf_(spread_bpf::open()) {
        if (bpf_ == nullptr) {
            give_up("spread", errno);
        }
        bpf_->rodata->otherwise = static_cast<__u32>(otherwise);
        if (spread_bpf::load(bpf_) != 0) {
            give_up("spread", errno);
        }
        const std::uint32_t key = 0;
        if (next >= 0 && bpf_map_update_elem(bpf_map__fd(bpf_->maps.next), &key, &next, BPF_ANY) != 0) {
            give_up("spread: tail call", errno);
        }
    }
    ~Spread() { spread_bpf::destroy(bpf_); }
    Spread(const Spread&) = delete;
    Spread& operator=(const Spread&) = delete;
    void set_clients(std::uint32_t clients) { bpf_->data->clients = clients; }
    [[nodiscard]] int fd() const { return bpf_program__fd(bpf_->progs.spread); }

private:
    spread_bpf* bpf_;
};

inline bool sh(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }

/// A frame from the benchmark's client to the VIP's port 80.
inline test::Spec to_vip(bool v6, std::uint8_t tcp_flags, const Mac& destination) {
    test::Spec spec;
    spec.destination = destination;
    spec.source = test::client_mac;
    spec.client = v6 ? test::ip6(200) : test::ip4(10, 0, 0, 200);
    spec.vip = v6 ? test::ip6(100) : test::ip4(10, 0, 0, 100);
    spec.tcp_flags = tcp_flags;
    return spec;
}

/// The program's main, in the private namespace that root_or_skip made.
template <class Run>
int in_namespace(const Run& run) {
    if (const std::string failed = test::prepare_namespace(); !failed.empty()) {
        std::fprintf(stderr, "failed: %s\n", failed.c_str());
        return 2;
    }
    return run();
}

} // namespace stead::bench
