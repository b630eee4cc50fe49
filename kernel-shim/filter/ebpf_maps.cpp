// SPDX-License-Identifier: Apache-2.0
// The part of the eBPF back end that reads and writes hash maps: members, flows, statistics.
#include "ebpf_filter.hpp"

#include "farm.skel.h"

#include <stead/base/time.hpp>

#include <bpf/bpf.h>

#include <cerrno>
#include <cstring>
#include <map>

namespace stead::shim {

namespace {

template <class Key>
struct Bytewise {
    bool operator()(const Key& a, const Key& b) const { return std::memcmp(&a, &b, sizeof(Key)) < 0; }
};

/// Makes the set in the map equal to `wanted`: additions first, so that no member is unknown in between.
template <class Key>
Result<void> replace_set(int fd, const std::set<Key, Bytewise<Key>>& wanted, const char* what) {
    const std::uint8_t one = 1;
    for (const Key& key : wanted) {
        if (bpf_map_update_elem(fd, &key, &one, BPF_ANY) != 0) {
            return os_error("farm filter", std::string{"cannot add to the "} + what, errno);
        }
    }
    std::vector<Key> stale;
    Key key{};
    for (bool more = bpf_map_get_next_key(fd, nullptr, &key) == 0; more;
         more = bpf_map_get_next_key(fd, &key, &key) == 0) {
        if (!wanted.contains(key)) {
            stale.push_back(key);
        }
    }
    for (const Key& old : stale) {
        (void)bpf_map_delete_elem(fd, &old);
    }
    return {};
}

} // namespace

Result<void> EbpfFilter::set_members(std::span<const Member> members) {
    std::set<stead_member_mac, Bytewise<stead_member_mac>> macs;
    std::set<stead_member_address, Bytewise<stead_member_address>> addresses;
    std::vector<stead_member_mac> out(STEAD_FARM_NODES_MAX * options_.vips.size());
    for (const Member& member : members) {
        if (index(member.node) >= STEAD_FARM_NODES_MAX) {
            return Error{Errc::out_of_range, "farm filter",
                         "member " + std::to_string(index(member.node)) + "; nodes are 0..63"};
        }
        if (member.node == options_.self) {
            continue;
        }
        stead_member_mac mac{};
        std::memcpy(mac.mac, member.mac.data(), 6);
        macs.insert(mac);
        for (const Ip& ip : member.addresses) {
            stead_member_address address{};
            std::memcpy(address.mac, member.mac.data(), 6);
            std::memcpy(address.address_be, ip.data(), 16);
            addresses.insert(address);
        }
        for (std::size_t v = 0; v < options_.vips.size(); ++v) {
            if (options_.vips[v].ifindex == member.ifindex) {
                out[STEAD_FARM_NODES_MAX * v + index(member.node)] = mac;
            }
        }
    }
    if (auto done = replace_set(bpf_map__fd(bpf_->maps.member_addresses), addresses, "members' addresses"); !done) {
        return done;
    }
    if (auto done = replace_set(bpf_map__fd(bpf_->maps.member_macs), macs, "members' MACs"); !done) {
        return done;
    }
    for (std::uint32_t key = 0; key < out.size(); ++key) {
        if (bpf_map_update_elem(bpf_map__fd(bpf_->maps.members), &key, &out[key], BPF_ANY) != 0) {
            return os_error("farm filter", "cannot write the members", errno);
        }
    }
    refresh_own();
    return {};
}

Result<GroupStats> EbpfFilter::stats(std::uint8_t group) const {
    if (group >= STEAD_FARM_GROUPS_MAX) {
        return Error{Errc::out_of_range, "farm filter", "group " + std::to_string(group) + " is not in 0..15"};
    }
    const int cpus = libbpf_num_possible_cpus();
    std::vector<stead_group_stats> per_cpu(cpus > 0 ? static_cast<std::size_t>(cpus) : 1);
    const std::uint32_t key = group;
    if (bpf_map_lookup_elem(bpf_map__fd(bpf_->maps.stats), &key, per_cpu.data()) != 0) {
        return os_error("farm filter", "cannot read the statistics", errno);
    }
    GroupStats sum;
    for (const stead_group_stats& s : per_cpu) {
        sum.accepted += s.accepted;
        sum.rejected += s.rejected;
        sum.forwarded += s.forwarded;
        sum.in_transition += s.in_transition;
        sum.lease_closed += s.lease_closed;
        sum.duplicates += s.duplicates;
        sum.no_rule += s.no_rule;
        sum.fragments_dropped += s.fragments_dropped;
    }
    return sum;
}

void EbpfFilter::count_flows(std::uint8_t group, std::vector<std::uint32_t>& count) const {
    const int fd = bpf_map__fd(bpf_->maps.flows);
    const auto now = static_cast<std::uint64_t>(to_ns(BootClock::now()));
    stead_flow_key key{};
    for (bool more = bpf_map_get_next_key(fd, nullptr, &key) == 0; more;
         more = bpf_map_get_next_key(fd, &key, &key) == 0) {
        stead_flow_value value{};
        if (key.vip >= model_.config.vip_count || bpf_map_lookup_elem(fd, &key, &value) != 0) {
            continue;
        }
        const std::uint64_t idle = key.protocol == 6 ? STEAD_FLOW_TCP_IDLE_NS : STEAD_FLOW_UDP_IDLE_NS;
        const stead_rule* rule = model_.rule_of(key.vip, key.protocol, key.vip_port_be);
        if (rule != nullptr && rule->group == group && rule->track == STEAD_TRACK_FLOW &&
            rule->key != STEAD_KEY_IP_ID && now < value.seen_boottime_ns + idle) {
            count[bucket_of_flow(model_, *rule, key.client_be, key.client_port_be)] += 1;
        }
    }
}

Result<std::vector<Held>> EbpfFilter::held(std::uint8_t group) const {
    std::vector<std::uint32_t> count(buckets, 0);
    if (auto done = count_connections(model_, group, count); !done) {
        return done.error();
    }
    for (std::uint8_t r = 0; r < model_.config.rule_count; ++r) {
        if (model_.config.rules[r].track == STEAD_TRACK_FLOW && model_.config.rules[r].group == group) {
            count_flows(group, count);
            break;
        }
    }
    return held_from(count);
}

} // namespace stead::shim
