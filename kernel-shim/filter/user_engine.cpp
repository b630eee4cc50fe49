// SPDX-License-Identifier: Apache-2.0
#include "user_engine.hpp"

#include <stead/shim/verdict.h>

#include <cstring>
#include <set>

namespace stead::shim {

namespace {

struct FlowHash {
    std::size_t operator()(const stead_flow_key& key) const noexcept {
        return std::hash<std::string_view>{}({reinterpret_cast<const char*>(&key), sizeof(key)});
    }
};
struct FlowEqual {
    bool operator()(const stead_flow_key& a, const stead_flow_key& b) const noexcept {
        return std::memcmp(&a, &b, sizeof(a)) == 0;
    }
};

/// Two halves: when the young half is full it becomes the old one. Bounded, and what is used survives.
template <class Value>
class Remembered {
public:
    explicit Remembered(std::size_t half_max) : half_max_(half_max) {}
    Value* find(const stead_flow_key& key) {
        if (const auto i = young_.find(key); i != young_.end()) {
            return &i->second;
        }
        const auto i = old_.find(key);
        return i == old_.end() ? nullptr : put(key, i->second);
    }
    Value* put(const stead_flow_key& key, Value value) {
        if (young_.size() >= half_max_) {
            old_.swap(young_);
            young_.clear();
        }
        return &young_.insert_or_assign(key, value).first->second;
    }
    template <class Visit>
    void each(Visit&& visit) const {
        for (const auto& [key, value] : young_) {
            visit(key, value);
        }
        for (const auto& [key, value] : old_) {
            if (!young_.contains(key)) {
                visit(key, value);
            }
        }
    }

private:
    using Map = std::unordered_map<stead_flow_key, Value, FlowHash, FlowEqual>;
    std::size_t half_max_;
    Map young_;
    Map old_;
};

} // namespace

constexpr std::uint64_t opening_ns = 60'000'000'000;

struct UserEngine::Memory {
    SocketLookup sockets;
    Clock clock;
    std::vector<std::vector<std::uint8_t>> entries;
    std::vector<std::vector<stead_bucket_detail>> details;
    std::set<Mac> macs;
    std::set<std::pair<Mac, Ip>> addresses;
    std::map<std::pair<std::size_t, NodeId>, Mac> out;
    Remembered<stead_flow_value> flows{32768};
    Remembered<stead_flow_value> openings{32768}; ///< the SYNs taken here
    Remembered<stead_copy_value> copies{8192};
    Remembered<stead_fragment_value> fragments{2048};
    std::array<std::array<std::uint64_t, 8>, STEAD_FARM_GROUPS_MAX> counters{};
};

} // namespace stead::shim

struct stead_env {
    const stead::shim::FarmModel* model;
    stead_farm_control* control;
    stead::shim::UserEngine::Memory* memory;
};

STEAD_INLINE int stead_hook_load(const stead_source* source, __u32 offset, void* to, __u32 size) {
    if (static_cast<std::size_t>(source->end - source->start) < std::size_t{offset} + size) {
        return 0;
    }
    std::memcpy(to, source->start + offset, size);
    return 1;
}
STEAD_INLINE int stead_hook_walk6(const stead_source* source, stead_packet* packet) {
    return stead_walk6(source, packet);
}
STEAD_INLINE int stead_hook_quoted(const stead_source* source, stead_packet* packet) {
    return stead_quoted(source, packet);
}
STEAD_INLINE const stead_farm_config* stead_hook_config(stead_env* env) { return &env->model->config; }
STEAD_INLINE stead_farm_control* stead_hook_control(stead_env* env) { return env->control; }
STEAD_INLINE __u64 stead_hook_now(stead_env* env) { return env->memory->clock(); }
STEAD_INLINE __u8 stead_hook_port_rule(stead_env* env, __u8 vip, __u32 transport, __be16 port_be) {
    return env->model->port_rules[2u * vip + transport][port_be];
}
STEAD_INLINE __u8 stead_hook_table(stead_env* env, __u32 slot, __u16 bucket) {
    return slot < env->memory->entries.size() ? env->memory->entries[slot][bucket] : __u8{STEAD_BUCKET_NONE};
}
STEAD_INLINE const stead_bucket_detail* stead_hook_detail(stead_env* env, __u32 slot, __u16 bucket) {
    return &env->memory->details[slot][bucket];
}
STEAD_INLINE int stead_hook_forwarded(stead_env* env, const stead_packet* packet) {
    stead::shim::Mac mac;
    stead::shim::Ip ip;
    std::memcpy(mac.data(), packet->source_mac, 6);
    std::memcpy(ip.data(), packet->client_be, 16);
    return env->memory->macs.contains(mac) && !env->memory->addresses.contains({mac, ip}) ? 1 : 0;
}
STEAD_INLINE stead_socket stead_hook_socket(stead_env* env, const stead_packet* packet) {
    if (env->memory->sockets(*packet, env->model->config.vips[packet->vip]).connection) {
        return STEAD_SOCKET_CONNECTION;
    }
    // A SYN cookie cannot be checked outside the kernel; but only who took the SYN can have made it.
    stead_flow_key key;
    stead_flow_key_of(packet, &key);
    const stead_flow_value* opening = env->memory->openings.find(key);
    return opening != nullptr && env->memory->clock() - opening->seen_boottime_ns < stead::shim::opening_ns
               ? STEAD_SOCKET_COOKIE
               : STEAD_SOCKET_NONE;
}
STEAD_INLINE stead_flow_value* stead_hook_flow(stead_env* env, const stead_flow_key* key) {
    return env->memory->flows.find(*key);
}
STEAD_INLINE void stead_hook_remember_flow(stead_env* env, const stead_flow_key* key, __u64 now) {
    env->memory->flows.put(*key, {now});
}
STEAD_INLINE stead_copy_value* stead_hook_copy(stead_env* env, const stead_flow_key* key, __u64 now) {
    stead_copy_value* copy = env->memory->copies.find(*key);
    return copy != nullptr ? copy : env->memory->copies.put(*key, {now, 0});
}
STEAD_INLINE stead_fragment_value* stead_hook_fragment(stead_env* env, const stead_flow_key* key) {
    return env->memory->fragments.find(*key);
}
STEAD_INLINE void stead_hook_remember_fragment(stead_env* env, const stead_flow_key* key,
                                               const stead_fragment_value* value) {
    env->memory->fragments.put(*key, *value);
}
STEAD_INLINE void stead_hook_count(stead_env* env, __u8 group, stead_count what) {
    env->memory->counters[group][what] += 1;
}
STEAD_INLINE void stead_hook_consider(stead_env* env, const stead_packet* packet, stead_decision* decision) {
    stead_consider(env, packet, decision);
}
STEAD_INLINE void stead_hook_decide_rare(stead_env* env, const stead_packet* packet, stead_decision* decision) {
    stead_decide_rare(env, packet, decision);
}
STEAD_INLINE void stead_hook_aftermath(stead_env* env, const stead_packet* packet, stead_decision* decision,
                                       __u64 now) {
    stead_aftermath(env, packet, decision, now);
}

namespace stead::shim {

UserEngine::UserEngine(FarmModel model, SocketLookup sockets, Clock clock)
    : model_(std::move(model)), memory_(std::make_unique<Memory>()) {
    memory_->sockets = std::move(sockets);
    memory_->clock = std::move(clock);
    memory_->entries.assign(2u * model_.config.group_count, std::vector<std::uint8_t>(buckets, STEAD_BUCKET_NONE));
    memory_->details.assign(2u * model_.config.group_count, std::vector<stead_bucket_detail>(buckets));
}

UserEngine::~UserEngine() = default;

Verdict UserEngine::decide(std::span<const std::uint8_t> frame) {
    Verdict verdict;
    stead_env env{&model_, control_, memory_.get()};
    stead_decision decision{};
    const stead_source source{frame.data(), frame.data() + frame.size(), nullptr, &model_.config, control_};
    stead_parse(&source, &verdict.packet);
    stead_verdict(&env, &verdict.packet, &decision);
    verdict.action = static_cast<Action>(decision.action);
    if (decision.action == STEAD_ACCEPT && (verdict.packet.flags & STEAD_SYN_ONLY) != 0) {
        stead_flow_key key;
        stead_flow_key_of(&verdict.packet, &key);
        memory_->openings.put(key, {memory_->clock()});
    }
    verdict.here = decision.here != 0;
    verdict.targets = NodeSet{decision.targets};
    return verdict;
}

Result<void> UserEngine::set_table(const GroupTable& table) {
    auto encoded = EncodedTable::make(table, model_.config.group_count);
    if (!encoded) {
        return encoded.error();
    }
    const std::uint32_t generation = (control_->group_word[table.group] & 1) ^ 1;
    memory_->entries[2u * table.group + generation] = std::move(encoded->entries);
    memory_->details[2u * table.group + generation] = std::move(encoded->details);
    control_->live[table.group][generation] = table.live.bits();
    control_->group_word[table.group] = generation | static_cast<std::uint32_t>(table.step) << 8;
    return {};
}

Result<void> UserEngine::set_members(std::span<const Member> members) {
    memory_->macs.clear();
    memory_->addresses.clear();
    memory_->out.clear();
    for (const Member& member : members) {
        if (index(member.node) >= STEAD_FARM_NODES_MAX) {
            return Error{Errc::out_of_range, "farm filter",
                         "member " + std::to_string(index(member.node)) + "; nodes are 0..63"};
        }
        if (index(member.node) == model_.config.self) {
            continue;
        }
        memory_->macs.insert(member.mac);
        for (const Ip& ip : member.addresses) {
            memory_->addresses.insert({member.mac, ip});
        }
        for (std::size_t v = 0; v < model_.config.vip_count; ++v) {
            if (model_.config.vips[v].ifindex == member.ifindex) {
                memory_->out[{v, member.node}] = member.mac;
            }
        }
    }
    return {};
}

const Mac* UserEngine::member_mac(std::size_t vip, NodeId node) const {
    const auto i = memory_->out.find({vip, node});
    return i == memory_->out.end() ? nullptr : &i->second;
}

void UserEngine::set_own(std::size_t vip, const OwnAddresses& own) {
    std::memcpy(control_->own[vip].mac, own.mac.data(), 6);
    control_->own[vip].address4_be = own.address4_be;
    std::memcpy(control_->own[vip].address6_be, own.address6_be.data(), 16);
}

void UserEngine::use_control(stead_farm_control* elsewhere) {
    *elsewhere = *control_;
    control_ = elsewhere;
}

GroupStats UserEngine::stats(std::uint8_t group) const {
    const auto& c = memory_->counters[group];
    return {c[STEAD_COUNT_ACCEPTED],      c[STEAD_COUNT_REJECTED],         c[STEAD_COUNT_FORWARDED],
            c[STEAD_COUNT_IN_TRANSITION], c[STEAD_COUNT_LEASE_CLOSED],     c[STEAD_COUNT_DUPLICATES],
            c[STEAD_COUNT_NO_RULE],       c[STEAD_COUNT_FRAGMENTS_DROPPED]};
}

void UserEngine::count_flows(std::uint8_t group, std::vector<std::uint32_t>& count) const {
    const std::uint64_t now = memory_->clock();
    memory_->flows.each([&](const stead_flow_key& key, const stead_flow_value& value) {
        const std::uint64_t idle = key.protocol == 6 ? STEAD_FLOW_TCP_IDLE_NS : STEAD_FLOW_UDP_IDLE_NS;
        const stead_rule* rule = model_.rule_of(key.vip, key.protocol, key.vip_port_be);
        if (rule != nullptr && rule->group == group && rule->track == STEAD_TRACK_FLOW &&
            rule->key != STEAD_KEY_IP_ID && now < value.seen_boottime_ns + idle) {
            count[bucket_of_flow(model_, *rule, key.client_be, key.client_port_be)] += 1;
        }
    });
}

} // namespace stead::shim
