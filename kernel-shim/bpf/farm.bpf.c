// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// The farm filter in the kernel: thin programs over verdict.h. One object per module; nothing is pinned.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include <stead/shim/verdict.h>

#define PACKET_HOST 0
#define TCP_LISTEN_STATE 10
#define PULL_BYTES 128u

const volatile struct stead_farm_config config SEC(".rodata");
struct stead_farm_control control SEC(".data.control");

// The compiler would take a const object for the zeros of its initialiser; the loader writes it before the program is
// verified. The verifier sees the real values and drops the branches that cannot be.
static __always_inline const struct stead_farm_config* the_config(void) {
    const struct stead_farm_config* hidden = (const struct stead_farm_config*)&config;
    asm("" : "+r"(hidden));
    return hidden;
}

struct port_rules_of_vip {
    __u8 rule[65536];
};

struct bucket_table {
    __u8 entry[STEAD_FARM_BUCKETS];
};

struct bucket_details {
    struct stead_bucket_detail entry[STEAD_FARM_BUCKETS];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, struct port_rules_of_vip);
} port_rules SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, struct bucket_table);
} tables SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, struct bucket_details);
} details SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, STEAD_FARM_VIPS_MAX * STEAD_FARM_NODES_MAX); // 64 * vip + node
    __type(key, __u32);
    __type(value, struct stead_member_mac);
} members SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, struct stead_member_mac);
    __type(value, __u8);
} member_macs SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, struct stead_member_address);
    __type(value, __u8);
} member_addresses SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 65536);
    __type(key, struct stead_flow_key);
    __type(value, struct stead_flow_value);
} flows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, struct stead_flow_key);
    __type(value, struct stead_copy_value);
} copies SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 4096);
    __type(key, struct stead_flow_key);
    __type(value, struct stead_fragment_value);
} fragments SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, STEAD_FARM_GROUPS_MAX);
    __type(key, __u32);
    __type(value, struct stead_group_stats);
} stats SEC(".maps");

struct stead_env {
    struct __sk_buff* skb; // null in XDP, which asks for nothing that needs it
};

// Global functions: the verifier looks at each of them once, with any input, instead of once per path that leads there.
#define GLOBAL __attribute__((noinline))

STEAD_INLINE int stead_hook_load(const struct stead_source* source, __u32 offset, void* to, __u32 size) {
    return bpf_skb_load_bytes(source->context, offset, to, size) == 0;
}

GLOBAL int farm_walk6(struct __sk_buff* skb, struct stead_packet* packet) {
    struct stead_source source = {0, 0, skb, the_config(), &control};
    return packet ? stead_walk6(&source, packet) : 0;
}

GLOBAL int farm_quoted(struct __sk_buff* skb, struct stead_packet* packet) {
    struct stead_source source = {0, 0, skb, the_config(), &control};
    return packet ? stead_quoted(&source, packet) : 0;
}

// XDP leaves what is rare to tc: there the source has no skb.
STEAD_INLINE int stead_hook_walk6(const struct stead_source* source, struct stead_packet* packet) {
    if (!source->context) {
        return 0;
    }
    struct stead_packet copy = *packet; // so that the caller's stays in registers
    int whole = farm_walk6(source->context, &copy);
    *packet = copy;
    return whole;
}

STEAD_INLINE int stead_hook_quoted(const struct stead_source* source, struct stead_packet* packet) {
    if (!source->context) {
        return 0;
    }
    struct stead_packet copy = *packet;
    int whole = farm_quoted(source->context, &copy);
    *packet = copy;
    return whole;
}

STEAD_INLINE const struct stead_farm_config* stead_hook_config(struct stead_env* env) {
    (void)env;
    return the_config();
}

STEAD_INLINE struct stead_farm_control* stead_hook_control(struct stead_env* env) {
    (void)env;
    return &control;
}

STEAD_INLINE __u64 stead_hook_now(struct stead_env* env) {
    (void)env;
    return bpf_ktime_get_boot_ns();
}

STEAD_INLINE __u8 stead_hook_port_rule(struct stead_env* env, __u8 vip, __u32 transport, __be16 port_be) {
    (void)env;
    __u32 key = vip * 2u + transport;
    const struct port_rules_of_vip* rules = bpf_map_lookup_elem(&port_rules, &key);
    return rules ? rules->rule[port_be] : 0;
}

STEAD_INLINE __u8 stead_hook_table(struct stead_env* env, __u32 slot, __u16 bucket) {
    (void)env;
    const struct bucket_table* table = bpf_map_lookup_elem(&tables, &slot);
    return table ? table->entry[bucket] : STEAD_BUCKET_NONE;
}

STEAD_INLINE const struct stead_bucket_detail* stead_hook_detail(struct stead_env* env, __u32 slot, __u16 bucket) {
    (void)env;
    const struct bucket_details* table = bpf_map_lookup_elem(&details, &slot);
    return table ? &table->entry[bucket] : 0;
}

STEAD_INLINE int stead_hook_forwarded(struct stead_env* env, const struct stead_packet* packet) {
    (void)env;
    struct stead_member_address key = {{0}, {0}, {0}};
    __builtin_memcpy(key.mac, packet->source_mac, 6);
    if (!bpf_map_lookup_elem(&member_macs, &key)) {
        return 0;
    }
    key.address_be[0] = packet->client_be[0];
    key.address_be[1] = packet->client_be[1];
    key.address_be[2] = packet->client_be[2];
    key.address_be[3] = packet->client_be[3];
    return bpf_map_lookup_elem(&member_addresses, &key) ? 0 : 1;
}

STEAD_INLINE int valid_cookie(struct __sk_buff* skb, struct bpf_sock* listener, const struct stead_packet* packet) {
    void* data = (void*)(long)skb->data;
    void* end = (void*)(long)skb->data_end;
    void* network = data + (packet->network_offset & 0x3f);
    void* transport = data + (packet->transport_offset & 0x7fff);
    if (transport + 20 > end) {
        return 0;
    }
    if (packet->flags & STEAD_V6) {
        return network + 40 <= end && bpf_tcp_check_syncookie(listener, network, 40, transport, 20) == 0;
    }
    return network + 20 <= end && bpf_tcp_check_syncookie(listener, network, 20, transport, 20) == 0;
}

STEAD_INLINE enum stead_socket stead_hook_socket(struct stead_env* env, const struct stead_packet* packet) {
    struct bpf_sock_tuple tuple = {};
    const struct stead_vip* vip = &the_config()->vips[packet->vip & (STEAD_FARM_VIPS_MAX - 1)];
    struct bpf_sock* found;
    if (packet->flags & STEAD_V6) {
        for (int i = 0; i < 4; ++i) {
            tuple.ipv6.saddr[i] = packet->client_be[i];
            tuple.ipv6.daddr[i] = vip->address_be[i];
        }
        tuple.ipv6.sport = packet->client_port_be;
        tuple.ipv6.dport = packet->vip_port_be;
        found = bpf_skc_lookup_tcp(env->skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
    } else {
        tuple.ipv4.saddr = packet->client_be[3];
        tuple.ipv4.daddr = vip->address_be[3];
        tuple.ipv4.sport = packet->client_port_be;
        tuple.ipv4.dport = packet->vip_port_be;
        found = bpf_skc_lookup_tcp(env->skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
    }
    if (!found) {
        return STEAD_SOCKET_NONE;
    }
    enum stead_socket answer = STEAD_SOCKET_CONNECTION;
    if (found->state == TCP_LISTEN_STATE) {
        answer = !(packet->flags & STEAD_ICMP_ERROR) && valid_cookie(env->skb, found, packet) ? STEAD_SOCKET_COOKIE
                                                                                             : STEAD_SOCKET_NONE;
    }
    bpf_sk_release(found);
    return answer;
}

STEAD_INLINE struct stead_flow_value* stead_hook_flow(struct stead_env* env, const struct stead_flow_key* key) {
    (void)env;
    return bpf_map_lookup_elem(&flows, key);
}

STEAD_INLINE void stead_hook_remember_flow(struct stead_env* env, const struct stead_flow_key* key, __u64 now) {
    (void)env;
    struct stead_flow_value* old = bpf_map_lookup_elem(&flows, key);
    if (old) {
        old->seen_boottime_ns = now;
        return;
    }
    struct stead_flow_value value = {now};
    bpf_map_update_elem(&flows, key, &value, BPF_ANY);
}

STEAD_INLINE struct stead_copy_value* stead_hook_copy(struct stead_env* env, const struct stead_flow_key* key,
                                                      __u64 now) {
    (void)env;
    struct stead_copy_value* copy = bpf_map_lookup_elem(&copies, key);
    if (!copy) {
        struct stead_copy_value value = {now, 0};
        bpf_map_update_elem(&copies, key, &value, BPF_NOEXIST);
        copy = bpf_map_lookup_elem(&copies, key);
    }
    return copy;
}

STEAD_INLINE struct stead_fragment_value* stead_hook_fragment(struct stead_env* env,
                                                              const struct stead_flow_key* key) {
    (void)env;
    return bpf_map_lookup_elem(&fragments, key);
}

STEAD_INLINE void stead_hook_remember_fragment(struct stead_env* env, const struct stead_flow_key* key,
                                               const struct stead_fragment_value* value) {
    (void)env;
    bpf_map_update_elem(&fragments, key, value, BPF_ANY);
}

STEAD_INLINE void stead_hook_count(struct stead_env* env, __u8 group, enum stead_count what) {
    (void)env;
    __u32 key = group;
    __u64* counters = bpf_map_lookup_elem(&stats, &key);
    if (counters) {
        counters[what]++;
    }
}

// ---- tc, what a verdict means ----

#define GLOBAL_PART(name, call)                                                                                        \
    GLOBAL int name(struct __sk_buff* skb, struct stead_packet* packet, struct stead_decision* decision) {             \
        struct stead_env env = {skb};                                                                                  \
        if (!packet || !decision) {                                                                                    \
            return 0;                                                                                                  \
        }                                                                                                              \
        call;                                                                                                          \
        return 0;                                                                                                      \
    }

GLOBAL_PART(farm_consider, stead_consider(&env, packet, decision))
GLOBAL_PART(farm_rare, stead_decide_rare(&env, packet, decision))
GLOBAL_PART(farm_aftermath, stead_aftermath(&env, packet, decision, bpf_ktime_get_boot_ns()))
GLOBAL_PART(farm_neighbour, stead_decide_neighbour(&env, packet, decision))

#define CALL_PART(name)                                                                                                \
    do {                                                                                                               \
        struct stead_packet packet_copy = *packet; /* so that the caller's stay in registers */                        \
        struct stead_decision decision_copy = *decision;                                                               \
        name(env->skb, &packet_copy, &decision_copy);                                                                  \
        *decision = decision_copy;                                                                                     \
        decision->group &= STEAD_FARM_GROUPS_MAX - 1;                                                                  \
    } while (0)

STEAD_INLINE void stead_hook_consider(struct stead_env* env, const struct stead_packet* packet,
                                      struct stead_decision* decision) {
    CALL_PART(farm_consider);
}

STEAD_INLINE void stead_hook_decide_rare(struct stead_env* env, const struct stead_packet* packet,
                                         struct stead_decision* decision) {
    CALL_PART(farm_rare);
}

STEAD_INLINE void stead_hook_aftermath(struct stead_env* env, const struct stead_packet* packet,
                                       struct stead_decision* decision, __u64 now) {
    (void)now;
    CALL_PART(farm_aftermath);
}

STEAD_INLINE void decide_neighbour(struct stead_env* env, const struct stead_packet* packet,
                                   struct stead_decision* decision) {
    CALL_PART(farm_neighbour);
}

GLOBAL int send_on(struct __sk_buff* skb, struct stead_packet* packet, struct stead_decision* decision) {
    if (!packet || !decision) {
        return TC_ACT_SHOT;
    }
    __u64 targets = decision->targets;
    __u8 macs[12];
    __builtin_memcpy(macs + 6, control.own[packet->vip & (STEAD_FARM_VIPS_MAX - 1)].mac, 6);
    for (int i = 0; i < (int)STEAD_FARM_NODES_MAX; ++i) {
        if (STEAD_LIKELY(!targets)) {
            break;
        }
        __u32 key = 64u * packet->vip + (stead_lowest(targets) & (STEAD_FARM_NODES_MAX - 1));
        targets &= targets - 1;
        const struct stead_member_mac* out = bpf_map_lookup_elem(&members, &key);
        if (out && (out->mac[0] | out->mac[1] | out->mac[2] | out->mac[3] | out->mac[4] | out->mac[5])) {
            __builtin_memcpy(macs, out->mac, 6);
            bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0);
            if (!targets && !decision->here) {
                return bpf_redirect(skb->ifindex, 0);
            }
            bpf_clone_redirect(skb, skb->ifindex, 0);
        }
    }
    if (!decision->here) {
        return TC_ACT_SHOT;
    }
    bpf_skb_change_type(skb, PACKET_HOST);
    return TC_ACT_UNSPEC;
}

GLOBAL int answer_arp(struct __sk_buff* skb, struct stead_packet* packet) {
    if (!packet) {
        return TC_ACT_SHOT;
    }
    const struct stead_vip* vip = &the_config()->vips[packet->vip & (STEAD_FARM_VIPS_MAX - 1)];
    struct stead_arp arp __attribute__((aligned(8)));
    __u8 macs[12];
    if (bpf_skb_load_bytes(skb, packet->network_offset, &arp, sizeof(arp)) < 0) {
        return TC_ACT_SHOT;
    }
    __builtin_memcpy(macs, packet->source_mac, 6);
    __builtin_memcpy(macs + 6, control.own[packet->vip & (STEAD_FARM_VIPS_MAX - 1)].mac, 6);
    arp.operation_be = STEAD_BE16(2);
    __be32 address = arp.target_be;
    __builtin_memcpy(arp.target_mac, arp.sender_mac, 6);
    arp.target_be = arp.sender_be;
    __builtin_memcpy(arp.sender_mac, vip->vmac, 6);
    arp.sender_be = address;
    bpf_skb_store_bytes(skb, packet->network_offset, &arp, sizeof(arp), 0);
    bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0);
    return bpf_redirect(skb->ifindex, 0);
}

struct advertisement {
    struct stead_ip6 ip;
    struct stead_neighbour neighbour;
    __u8 option[8];
} __attribute__((packed));

GLOBAL int answer_solicitation(struct __sk_buff* skb, struct stead_packet* packet) {
    if (!packet) {
        return TC_ACT_SHOT;
    }
    const struct stead_vip* vip = &the_config()->vips[packet->vip & (STEAD_FARM_VIPS_MAX - 1)];
    struct advertisement reply __attribute__((aligned(8))) = {};
    __u8 macs[12];
    __u32 offset = packet->network_offset;
    int anonymous = !(packet->client_be[0] | packet->client_be[1] | packet->client_be[2] | packet->client_be[3]);
    if (bpf_skb_change_tail(skb, offset + sizeof(reply), 0) < 0) {
        return TC_ACT_SHOT;
    }
    reply.ip.flow_be = 0x00000060; // version 6, as loaded
    reply.ip.payload_be = STEAD_BE16(32);
    reply.ip.next = STEAD_PROTO_ICMP6;
    reply.ip.hops = 255;
    for (int i = 0; i < 4; ++i) {
        reply.ip.source_be[i] = vip->address_be[i];
        reply.ip.destination_be[i] = packet->client_be[i];
        reply.neighbour.target_be[i] = vip->address_be[i];
    }
    __builtin_memcpy(macs, packet->source_mac, 6);
    if (anonymous) { // to all nodes, ff02::1
        reply.ip.destination_be[0] = 0x000002ff;
        reply.ip.destination_be[3] = 0x01000000;
        __builtin_memcpy(macs, "\x33\x33\x00\x00\x00\x01", 6);
    }
    __builtin_memcpy(macs + 6, control.own[packet->vip & (STEAD_FARM_VIPS_MAX - 1)].mac, 6);
    reply.neighbour.type = 136;
    reply.neighbour.flags_be = anonymous ? 0x00000020 : 0x00000060; // override, and solicited, as loaded
    reply.option[0] = 2;
    reply.option[1] = 1;
    __builtin_memcpy(reply.option + 2, vip->vmac, 6);
    __u32 pseudo[10];
    __builtin_memcpy(pseudo, reply.ip.source_be, 32);
    pseudo[8] = 0x20000000; // 32 bytes, as loaded
    pseudo[9] = 0x3a000000; // ICMPv6
    __s64 sum = bpf_csum_diff(0, 0, pseudo, sizeof(pseudo), 0);
    __u32 body[8];
    __builtin_memcpy(body, &reply.neighbour, 32);
    sum = bpf_csum_diff(0, 0, body, sizeof(body), (__u32)sum);
    __u32 folded = (__u32)sum;
    folded = (folded & 0xffff) + (folded >> 16);
    folded = (folded & 0xffff) + (folded >> 16);
    reply.neighbour.checksum = (__u16)~folded;
    bpf_skb_store_bytes(skb, offset, &reply, sizeof(reply), 0);
    bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0);
    return bpf_redirect(skb->ifindex, 0);
}

SEC("tc")
int stead_ingress(struct __sk_buff* skb) {
    struct stead_packet packet = {};
    struct stead_decision decision = {};
    if ((__u32)((long)skb->data_end - (long)skb->data) < PULL_BYTES && skb->len > skb->data_end - skb->data) {
        bpf_skb_pull_data(skb, skb->len < PULL_BYTES ? skb->len : PULL_BYTES);
    }
    struct stead_env env = {skb};
    struct stead_source source = {(void*)(long)skb->data, (void*)(long)skb->data_end, skb, the_config(), &control};
    stead_parse(&source, &packet);
    if (packet.kind == STEAD_FOREIGN) {
        return TC_ACT_UNSPEC;
    }
    if (packet.kind == STEAD_IP || packet.kind == STEAD_BROKEN) {
        stead_verdict(&env, &packet, &decision);
    } else {
        decide_neighbour(&env, &packet, &decision);
    }
    if (decision.action == STEAD_DROP) {
        return TC_ACT_SHOT;
    }
    if (decision.action == STEAD_ACCEPT) {
        if (skb->pkt_type != PACKET_HOST) {
            bpf_skb_change_type(skb, PACKET_HOST);
        }
        return TC_ACT_UNSPEC;
    }
    struct stead_packet packet_copy = packet;
    struct stead_decision decision_copy = decision;
    if (decision.action == STEAD_FORWARD) {
        return send_on(skb, &packet_copy, &decision_copy);
    }
    if (decision.action == STEAD_ANSWER) {
        return packet.kind == STEAD_NS ? answer_solicitation(skb, &packet_copy) : answer_arp(skb, &packet_copy);
    }
    return TC_ACT_UNSPEC;
}

// ---- tc egress: nothing leaves that would teach a switch or a neighbour something wrong ----

static __always_inline int may_claim(__u8 vip) {
    const struct stead_vip* v = &the_config()->vips[vip & (STEAD_FARM_VIPS_MAX - 1)];
    int receiver = (control.receiver_bits >> (vip & (STEAD_FARM_VIPS_MAX - 1))) & 1;
    return (receiver || v->arp_per_client) &&
           bpf_ktime_get_boot_ns() < *(volatile __u64*)&control.lease_until_boottime_ns;
}

static __always_inline int guard_arp(struct __sk_buff* skb, const struct stead_packet* packet) {
    const struct stead_vip* vip = &the_config()->vips[packet->vip & (STEAD_FARM_VIPS_MAX - 1)];
    struct stead_arp arp __attribute__((aligned(8)));
    if (bpf_skb_load_bytes(skb, packet->network_offset, &arp, sizeof(arp)) < 0) {
        return TC_ACT_SHOT;
    }
    if (arp.operation_be == STEAD_BE16(1) && arp.sender_be != arp.target_be) {
        __be32 own = control.own[packet->vip & (STEAD_FARM_VIPS_MAX - 1)].address4_be;
        if (!own) {
            return TC_ACT_SHOT;
        }
        bpf_skb_store_bytes(skb, packet->network_offset + __builtin_offsetof(struct stead_arp, sender_be), &own, 4, 0);
        return TC_ACT_UNSPEC;
    }
    if (vip->delivery == STEAD_INVISIBLE && !stead_mac_equal(arp.sender_mac, vip->vmac)) {
        return TC_ACT_SHOT;
    }
    return may_claim(packet->vip) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

static __always_inline int guard_advertisement(struct __sk_buff* skb, const struct stead_packet* packet) {
    const struct stead_vip* vip = &the_config()->vips[packet->vip & (STEAD_FARM_VIPS_MAX - 1)];
    if (vip->delivery == STEAD_INVISIBLE) {
        __u8 option[8] __attribute__((aligned(8)));
        __u32 at = packet->network_offset + sizeof(struct stead_ip6) + sizeof(struct stead_neighbour);
        if (bpf_skb_load_bytes(skb, at, option, sizeof(option)) < 0 || option[0] != 2 ||
            !stead_mac_equal(option + 2, vip->vmac)) {
            return TC_ACT_SHOT;
        }
    }
    return may_claim(packet->vip) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

// A solicitation of our own with a VIP as source would tell the neighbour where the VIP is: it gets our own address.
static __always_inline int guard_solicitation(struct __sk_buff* skb) {
    void* data = (void*)(long)skb->data;
    void* end = (void*)(long)skb->data_end;
    struct stead_ethernet* ethernet = data;
    struct stead_ip6* ip = data + sizeof(*ethernet);
    struct stead_neighbour* neighbour = (void*)(ip + 1);
    if ((void*)(neighbour + 1) > end || ethernet->type_be != STEAD_ETH_IP6 || ip->next != STEAD_PROTO_ICMP6 ||
        neighbour->type != 135) {
        return TC_ACT_UNSPEC;
    }
    int vip = stead_vip_of6(the_config(), ip->source_be);
    if (vip < 0) {
        return TC_ACT_UNSPEC;
    }
    __be32 own[4], old[4];
    for (int i = 0; i < 4; ++i) {
        old[i] = ip->source_be[i];
        own[i] = control.own[vip & (STEAD_FARM_VIPS_MAX - 1)].address6_be[i];
    }
    if (!(own[0] | own[1] | own[2] | own[3])) {
        return TC_ACT_SHOT;
    }
    __s64 change = bpf_csum_diff(old, sizeof(old), own, sizeof(own), 0);
    __u32 at = sizeof(*ethernet) + sizeof(*ip) + __builtin_offsetof(struct stead_neighbour, checksum);
    bpf_l4_csum_replace(skb, at, 0, (__u64)change, BPF_F_PSEUDO_HDR);
    bpf_skb_store_bytes(skb, sizeof(*ethernet) + __builtin_offsetof(struct stead_ip6, source_be), own, sizeof(own), 0);
    return TC_ACT_UNSPEC;
}

SEC("tc")
int stead_egress(struct __sk_buff* skb) {
    struct stead_ethernet ethernet __attribute__((aligned(8)));
    if (bpf_skb_load_bytes(skb, 0, &ethernet, sizeof(ethernet)) < 0) {
        return TC_ACT_UNSPEC;
    }
    for (int i = 0; i < (int)STEAD_FARM_VIPS_MAX; ++i) {
        if (i >= the_config()->vip_count) {
            break;
        }
        if (the_config()->vips[i].delivery == STEAD_INVISIBLE &&
            stead_mac_equal(ethernet.source, the_config()->vips[i].vmac)) {
            return TC_ACT_SHOT;
        }
    }
    if (ethernet.type_be == STEAD_ETH_IP4) {
        return TC_ACT_UNSPEC;
    }
    struct stead_packet packet = {};
    struct stead_source source = {(void*)(long)skb->data, (void*)(long)skb->data_end, skb, the_config(), &control};
    stead_parse(&source, &packet);
    if (packet.kind == STEAD_ARP_CLAIM) {
        return guard_arp(skb, &packet);
    }
    if (packet.kind == STEAD_NA_CLAIM) {
        return guard_advertisement(skb, &packet);
    }
    return ethernet.type_be == STEAD_ETH_IP6 ? guard_solicitation(skb) : TC_ACT_UNSPEC;
}

// Early rejects. Everything else is tc's: it has the sockets, the frame's type and the way out.
SEC("xdp")
int stead_xdp(struct xdp_md* xdp) {
    struct stead_env env = {0};
    struct stead_packet packet = {};
    __u8 group = 0;
    struct stead_source source = {(void*)(long)xdp->data, (void*)(long)xdp->data_end, 0, the_config(), &control};
    stead_parse(&source, &packet);
    if (!stead_surely_not_ours(&env, &packet, &group)) {
        return XDP_PASS;
    }
    stead_hook_count(&env, group, STEAD_COUNT_REJECTED);
    return XDP_DROP;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
