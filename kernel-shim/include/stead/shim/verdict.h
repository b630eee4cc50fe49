/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef STEAD_SHIM_VERDICT_H
#define STEAD_SHIM_VERDICT_H

/* The decision, one source for tc, XDP, NFQUEUE and the tests. Plain C, no memory of its own; whatever differs between
 * the back ends (maps, sockets, the clock) comes through the hooks, which the includer defines after this header.
 * The table of decisions with its reasons: docs/data-path.md. */

#include <stead/shim/hash.h>
#include <stead/shim/parse.h>

enum stead_action {
    STEAD_PASS = 0, /* none of our business */
    STEAD_DROP,
    STEAD_ACCEPT,
    STEAD_FORWARD, /* a copy to each of `targets`; and taken here as well when `here` is set */
    STEAD_ANSWER   /* turn the ARP request or neighbour solicitation into its answer */
};

enum stead_count {
    STEAD_COUNT_ACCEPTED = 0,
    STEAD_COUNT_REJECTED,
    STEAD_COUNT_FORWARDED,
    STEAD_COUNT_IN_TRANSITION,
    STEAD_COUNT_LEASE_CLOSED,
    STEAD_COUNT_DUPLICATES,
    STEAD_COUNT_NO_RULE,
    STEAD_COUNT_FRAGMENTS_DROPPED
};

enum stead_socket { STEAD_SOCKET_NONE = 0, STEAD_SOCKET_COOKIE, STEAD_SOCKET_CONNECTION };

struct stead_decision {
    __u64 targets;
    __u8 action;
    __u8 group;
    __u8 here;
    __u8 check_copy; /* 1: came by itself, 2: was forwarded; the other path may bring it again */
    __u8 remember;   /* the first packet of a flow that is tracked */
    /* What was looked up on the way. */
    __u8 rule; /* 1 + index, 0 = none */
    __u8 entry;
    __u8 generation;
    __u8 step;
    __u16 bucket;
};

/* ---- hooks ---- */
struct stead_env; /* the includer's own */
STEAD_INLINE const struct stead_farm_config* stead_hook_config(struct stead_env* env);
STEAD_INLINE struct stead_farm_control* stead_hook_control(struct stead_env* env);
STEAD_INLINE __u64 stead_hook_now(struct stead_env* env);
/* 1 + index of the rule, 0 = none. `transport`: 0 TCP, 1 UDP. */
STEAD_INLINE __u8 stead_hook_port_rule(struct stead_env* env, __u8 vip, __u32 transport, __be16 port_be);
/* `slot` = 2 * group + generation. */
STEAD_INLINE __u8 stead_hook_table(struct stead_env* env, __u32 slot, __u16 bucket);
STEAD_INLINE const struct stead_bucket_detail* stead_hook_detail(struct stead_env* env, __u32 slot, __u16 bucket);
/* Did a member send this frame on, rather than send it itself? */
STEAD_INLINE int stead_hook_forwarded(struct stead_env* env, const struct stead_packet* packet);
STEAD_INLINE enum stead_socket stead_hook_socket(struct stead_env* env, const struct stead_packet* packet);
STEAD_INLINE struct stead_flow_value* stead_hook_flow(struct stead_env* env, const struct stead_flow_key* key);
STEAD_INLINE void stead_hook_remember_flow(struct stead_env* env, const struct stead_flow_key* key, __u64 now);
/* The entry of one datagram or segment; made with a zero balance when there was none. */
STEAD_INLINE struct stead_copy_value* stead_hook_copy(struct stead_env* env, const struct stead_flow_key* key,
                                                      __u64 now);
STEAD_INLINE struct stead_fragment_value* stead_hook_fragment(struct stead_env* env,
                                                              const struct stead_flow_key* key);
STEAD_INLINE void stead_hook_remember_fragment(struct stead_env* env, const struct stead_flow_key* key,
                                               const struct stead_fragment_value* value);
STEAD_INLINE void stead_hook_count(struct stead_env* env, __u8 group, enum stead_count what);

/* The parts off the fast path, which eBPF keeps in functions of their own: each calls its stead_… below. */
STEAD_INLINE void stead_hook_consider(struct stead_env* env, const struct stead_packet* packet,
                                      struct stead_decision* decision);
STEAD_INLINE void stead_hook_decide_rare(struct stead_env* env, const struct stead_packet* packet,
                                         struct stead_decision* decision);
STEAD_INLINE void stead_hook_aftermath(struct stead_env* env, const struct stead_packet* packet,
                                       struct stead_decision* decision, __u64 now);

#define STEAD_BIT(node) (1ull << ((node) & 63))

STEAD_INLINE void stead_drop(struct stead_decision* decision) { decision->action = STEAD_DROP; }

STEAD_INLINE void stead_accept(struct stead_decision* decision) { decision->action = STEAD_ACCEPT; }

STEAD_INLINE void stead_forward(struct stead_decision* decision, __u64 targets) {
    decision->action = targets ? STEAD_FORWARD : STEAD_DROP;
    decision->targets = targets;
}

STEAD_INLINE __u32 stead_lowest(__u64 set) {
    __u32 n = 0;
    if (!(set & 0xffffffffull)) {
        n += 32, set >>= 32;
    }
    if (!(set & 0xffff)) {
        n += 16, set >>= 16;
    }
    if (!(set & 0xff)) {
        n += 8, set >>= 8;
    }
    if (!(set & 0xf)) {
        n += 4, set >>= 4;
    }
    if (!(set & 0x3)) {
        n += 2, set >>= 2;
    }
    return n + !(set & 1);
}

STEAD_INLINE void stead_flow_key_of(const struct stead_packet* packet, struct stead_flow_key* key) {
    key->client_be[0] = packet->client_be[0];
    key->client_be[1] = packet->client_be[1];
    key->client_be[2] = packet->client_be[2];
    key->client_be[3] = packet->client_be[3];
    key->client_port_be = packet->client_port_be;
    key->vip_port_be = packet->vip_port_be;
    key->identification = 0;
    key->protocol = packet->protocol;
    key->vip = packet->vip;
    key->checksum = 0;
}

STEAD_INLINE void stead_fragment_key_of(const struct stead_packet* packet, struct stead_flow_key* key) {
    stead_flow_key_of(packet, key);
    key->client_port_be = 0;
    key->vip_port_be = 0;
    key->identification = packet->identification;
}

/* What everybody thinks of one bucket now. */
struct stead_situation {
    __u64 live;
    __u64 holders; /* live members, without us, that may have connections here */
    __u8 self;
    __u8 owner;
    __u8 next;
    __u8 step;
    __u8 moving;
    __u8 forwarded;
    __u8 flooded; /* nobody sends it on: each has it */
};

/* Who takes new flows that no member forwarded. */
STEAD_INLINE __u8 stead_taker(const struct stead_situation* s) {
    if (!s->moving) {
        return s->owner;
    }
    __u8 first = s->flooded ? STEAD_STEP_TAKE : STEAD_STEP_FORWARD;
    return s->step >= first ? s->next : s->owner;
}

/* May a frame that a member forwarded be taken here? The members are one step apart at most. */
STEAD_INLINE int stead_takes_forwarded(const struct stead_situation* s) {
    if (s->self == s->owner) {
        return !s->moving || s->step <= STEAD_STEP_FORWARD;
    }
    return s->moving && s->self == s->next;
}

STEAD_INLINE void stead_new_flow(const struct stead_situation* s, const struct stead_packet* packet,
                                 struct stead_decision* decision) {
    int copies = s->moving && s->self == s->next && s->step >= STEAD_STEP_TAKE;
    if (s->forwarded) {
        if (!stead_takes_forwarded(s)) {
            stead_drop(decision);
            return;
        }
        stead_accept(decision);
        /* A copy that took the direct way may still come once we take those; told apart by its IP id. */
        int early = s->moving && s->self == s->next && s->step == STEAD_STEP_FORWARD && !(packet->flags & STEAD_NO_ID);
        decision->check_copy = copies || early ? 2 : 0;
        return;
    }
    __u8 taker = stead_taker(s);
    if (s->flooded && s->moving && s->self == s->owner &&
        (s->step == STEAD_STEP_FORWARD || s->step == STEAD_STEP_TAKE)) {
        stead_forward(decision, STEAD_BIT(s->next));
    } else if (taker == s->self) {
        stead_accept(decision);
        decision->check_copy = copies ? 1 : 0;
    } else if (!s->flooded && taker < STEAD_FARM_NODES_MAX) {
        stead_forward(decision, STEAD_BIT(taker));
    } else {
        stead_drop(decision);
    }
}

/* A TCP segment that is not a SYN, or an ICMP error about one, in an unsettled bucket, with no connection here. */
STEAD_INLINE void stead_no_connection(const struct stead_situation* s, enum stead_socket socket,
                                      struct stead_decision* decision) {
    if (socket == STEAD_SOCKET_COOKIE) {
        stead_accept(decision);
        return;
    }
    __u8 taker = stead_taker(s);
    int taken = s->forwarded ? stead_takes_forwarded(s) : taker == s->self;
    if (s->flooded || s->forwarded) {
        if (taken && !s->holders) {
            stead_accept(decision); /* nobody has it: let the reset out */
        } else {
            stead_drop(decision); /* a living holder may have it: silence */
        }
        return;
    }
    __u64 targets = s->holders | (taker < STEAD_FARM_NODES_MAX ? STEAD_BIT(taker) : 0);
    targets &= ~STEAD_BIT(s->self);
    if (targets) {
        stead_forward(decision, targets);
    } else if (taken) {
        stead_accept(decision);
    } else {
        stead_drop(decision);
    }
}

/* Tracked datagrams in an unsettled bucket. Only the one that knows a flow can tell it from a new one, so they pass
 * along the living holders in ascending order; each takes what it knows, and the taker, at the end, the rest. */
STEAD_INLINE void stead_datagram(const struct stead_situation* s, const struct stead_packet* packet, int known,
                                 struct stead_decision* decision) {
    __u8 last = s->moving && s->step >= STEAD_STEP_FORWARD ? s->next : s->owner;
    __u64 others = s->holders;
    if (last < STEAD_FARM_NODES_MAX) {
        others &= ~STEAD_BIT(last);
    }
    if (!others && !(s->moving && s->self == s->owner)) {
        if (known && s->forwarded) {
            stead_accept(decision);
        } else {
            stead_new_flow(s, packet, decision);
        }
        return;
    }
    if (!s->forwarded && s->flooded && (others & (STEAD_BIT(s->self) - 1))) {
        stead_drop(decision); /* an earlier holder looks first, and forwards what it does not know */
        return;
    }
    if (!s->forwarded && s->flooded && s->self == last && others) {
        stead_drop(decision);
        return;
    }
    if (!s->forwarded && !s->flooded && (others & (STEAD_BIT(s->self) - 1))) {
        stead_forward(decision, STEAD_BIT(stead_lowest(others)));
        return;
    }
    if (known) {
        stead_accept(decision);
        return;
    }
    __u64 later = others & ~(STEAD_BIT(s->self) | (STEAD_BIT(s->self) - 1));
    if (s->self == last && s->forwarded) {
        stead_accept(decision);
    } else if (s->self == last) {
        stead_forward(decision, STEAD_BIT(stead_lowest(others)));
    } else if (later) {
        stead_forward(decision, STEAD_BIT(stead_lowest(later)));
    } else if (last < STEAD_FARM_NODES_MAX) {
        stead_forward(decision, STEAD_BIT(last));
    } else {
        stead_drop(decision);
    }
}

/* What this node remembers of the packet's connection: a tracked flow (`known`), or a socket. */
STEAD_INLINE enum stead_socket stead_evidence(struct stead_env* env, const struct stead_packet* packet, __u8 track,
                                              int segment, int* known) {
    if (track == STEAD_TRACK_FLOW && !(packet->flags & STEAD_SYN_ONLY)) {
        struct stead_flow_key key;
        stead_flow_key_of(packet, &key);
        const struct stead_flow_value* flow = stead_hook_flow(env, &key);
        __u64 idle = packet->protocol == STEAD_PROTO_TCP ? STEAD_FLOW_TCP_IDLE_NS : STEAD_FLOW_UDP_IDLE_NS;
        *known = flow && stead_hook_now(env) - flow->seen_boottime_ns < idle;
        return segment && *known ? STEAD_SOCKET_CONNECTION : STEAD_SOCKET_NONE;
    }
    return segment && track == STEAD_TRACK_SOCKET ? stead_hook_socket(env, packet) : STEAD_SOCKET_NONE;
}

/* A later fragment goes where its first went, when that is known. */
STEAD_INLINE int stead_follow_first(struct stead_env* env, const struct stead_packet* packet,
                                    struct stead_decision* decision) {
    struct stead_flow_key key;
    stead_fragment_key_of(packet, &key);
    const struct stead_fragment_value* first = stead_hook_fragment(env, &key);
    if (!first || first->until_boottime_ns < stead_hook_now(env)) {
        return 0;
    }
    decision->group = first->group;
    decision->action = first->action;
    decision->targets = first->clones;
    return 1;
}

/* Everything but the cheap case: an unsettled bucket, a frame to send on, or a node that drains. Returns the action
 * before the lease. */
STEAD_INLINE void stead_consider(struct stead_env* env, const struct stead_packet* packet,
                                 struct stead_decision* decision) {
    const struct stead_farm_config* config = stead_hook_config(env);
    const struct stead_farm_control* control = stead_hook_control(env);
    /* Never null, whatever the number: older verifiers forget that a test of the number was one of the pointer. */
    const struct stead_rule* rule = &config->rules[(decision->rule - 1) & (STEAD_FARM_RULES_MAX - 1)];
    __u8 track = (__u8)(decision->rule ? (int)rule->track : (int)STEAD_TRACK_NONE);
    __u8 entry = decision->entry;
    __u32 group = decision->group & (STEAD_FARM_GROUPS_MAX - 1);
    __u32 generation = decision->generation & 1;
    struct stead_situation s;
    __builtin_memset(&s, 0, sizeof(s));
    int draining = control->draining;
    s.self = config->self;
    s.owner = s.next = entry & STEAD_BUCKET_NONE ? STEAD_FARM_NO_NODE : entry & STEAD_BUCKET_NODE;
    s.step = decision->step;
    s.live = control->live[group][generation];
    s.flooded = packet->flags & STEAD_FLOODED ? 1 : 0;
    if (entry & STEAD_BUCKET_UNSETTLED) {
        const struct stead_bucket_detail* detail = stead_hook_detail(env, 2u * group + generation, decision->bucket);
        if (!detail) {
            stead_drop(decision);
            return;
        }
        stead_hook_count(env, (__u8)group, STEAD_COUNT_IN_TRANSITION);
        s.owner = detail->owner;
        s.next = detail->next;
        s.moving = s.step != STEAD_STEP_SETTLED && s.next != s.owner;
        s.holders = detail->holders;
        if (s.moving) {
            s.holders |= (s.owner < STEAD_FARM_NODES_MAX ? STEAD_BIT(s.owner) : 0) |
                         (s.next < STEAD_FARM_NODES_MAX ? STEAD_BIT(s.next) : 0);
        }
        s.holders &= s.live & ~STEAD_BIT(s.self);
    }
    int segment = packet->protocol == STEAD_PROTO_TCP && !(packet->flags & STEAD_SYN_ONLY) &&
                  !(packet->flags & STEAD_LATER_FRAGMENT) && track != STEAD_TRACK_NONE;
    int unsettled = (entry & STEAD_BUCKET_UNSETTLED) || draining;
    /* It has no ports to find a connection or flow by, which may have decided about the first. */
    int tracked = track == STEAD_TRACK_FLOW || (track == STEAD_TRACK_SOCKET && packet->protocol == STEAD_PROTO_TCP);
    if ((packet->flags & STEAD_LATER_FRAGMENT) && unsettled && tracked && stead_follow_first(env, packet, decision)) {
        return;
    }
    int known = 0;
    enum stead_socket socket = unsettled ? stead_evidence(env, packet, track, segment, &known) : STEAD_SOCKET_NONE;
    if (socket == STEAD_SOCKET_CONNECTION) {
        stead_accept(decision);
        return;
    }
    if (draining && known && !segment) {
        stead_accept(decision);
        return;
    }
    s.forwarded = (__u8)stead_hook_forwarded(env, packet);
    if (!s.forwarded && config->vips[packet->vip & (STEAD_FARM_VIPS_MAX - 1)].delivery == STEAD_INVISIBLE) {
        s.flooded = 1; /* invisible farms send nothing on but what a planned move asks for */
    }
    if (segment && unsettled) {
        stead_no_connection(&s, socket, decision);
    } else if (track == STEAD_TRACK_FLOW && packet->protocol == STEAD_PROTO_UDP && unsettled) {
        stead_datagram(&s, packet, known, decision);
    } else {
        stead_new_flow(&s, packet, decision);
    }
    if (draining && decision->action == STEAD_ACCEPT) {
        stead_drop(decision); /* no new ones, and silence to the rest: somebody else may have it by now */
    }
}

/* The rule of a later fragment, 0 = the fragment memory decides. Others: by port. */
STEAD_INLINE __u8 stead_rule_of(struct stead_env* env, const struct stead_packet* packet) {
    __u32 transport = packet->protocol == STEAD_PROTO_UDP;
    if (packet->flags & STEAD_LATER_FRAGMENT) {
        return stead_hook_config(env)->vips[packet->vip & (STEAD_FARM_VIPS_MAX - 1)].fragment_rule[transport];
    }
    return stead_hook_port_rule(env, packet->vip, transport, packet->vip_port_be);
}

STEAD_INLINE void stead_decide_fragment(struct stead_env* env, const struct stead_packet* packet,
                                        struct stead_decision* decision) {
    if (!stead_follow_first(env, packet, decision)) {
        stead_hook_count(env, 0, STEAD_COUNT_FRAGMENTS_DROPPED);
        stead_drop(decision);
    }
}

/* ICMP errors under on_ipid: the id inside is the server's, so everybody gets them. */
STEAD_INLINE void stead_decide_everybody(struct stead_env* env, const struct stead_packet* packet,
                                         struct stead_decision* decision) {
    const struct stead_farm_config* config = stead_hook_config(env);
    stead_accept(decision);
    if (!(packet->flags & STEAD_FLOODED) &&
        config->vips[packet->vip & (STEAD_FARM_VIPS_MAX - 1)].delivery == STEAD_DIRECTED &&
        !stead_hook_forwarded(env, packet)) {
        __u64 live = stead_hook_control(env)->live[decision->group & (STEAD_FARM_GROUPS_MAX - 1)]
                                                  [decision->generation & 1];
        decision->targets = live & ~STEAD_BIT(config->self);
        decision->here = 1;
        decision->action = decision->targets ? STEAD_FORWARD : STEAD_ACCEPT;
    }
}

/* No table decides these: a later fragment without a rule, or an ICMP error for everybody. */
STEAD_INLINE void stead_decide_rare(struct stead_env* env, const struct stead_packet* packet,
                                    struct stead_decision* decision) {
    if (decision->rule) {
        stead_decide_everybody(env, packet, decision);
    } else {
        stead_decide_fragment(env, packet, decision);
    }
}

/* A frame to a VIP, before lease, copies and memory. */
STEAD_INLINE void stead_decide_ip(struct stead_env* env, const struct stead_packet* packet,
                                  struct stead_decision* decision) {
    const struct stead_farm_config* config = stead_hook_config(env);
    const struct stead_farm_control* control = stead_hook_control(env);
    __u8 key = STEAD_KEY_ADDRESS;
    __u8 group = 0;
    stead_drop(decision);
    if (packet->protocol == STEAD_PROTO_TCP || packet->protocol == STEAD_PROTO_UDP) {
        decision->rule = stead_rule_of(env, packet);
        if (!decision->rule) {
            if (packet->flags & STEAD_LATER_FRAGMENT) {
                stead_hook_decide_rare(env, packet, decision);
            } else {
                stead_hook_count(env, 0, STEAD_COUNT_NO_RULE);
            }
            return;
        }
        const struct stead_rule* rule = &config->rules[(decision->rule - 1) & (STEAD_FARM_RULES_MAX - 1)];
        key = rule->key;
        group = rule->group & (STEAD_FARM_GROUPS_MAX - 1);
        decision->remember = rule->track == STEAD_TRACK_FLOW;
    } else if (packet->protocol != STEAD_PROTO_ICMP) {
        stead_hook_count(env, 0, STEAD_COUNT_NO_RULE);
        return;
    }
    decision->group = group;
    __u32 word = *(const volatile __u32*)&control->group_word[group];
    decision->generation = word & 1;
    decision->step = (__u8)(word >> 8);
    __u16 extra = packet->client_port_be;
    if (key == STEAD_KEY_IP_ID) {
        if (packet->flags & STEAD_ICMP_ERROR) {
            stead_hook_decide_rare(env, packet, decision);
            return;
        }
        key = packet->flags & STEAD_NO_ID ? STEAD_KEY_PORT : STEAD_KEY_IP_ID;
        extra = key == STEAD_KEY_IP_ID ? (__u16)packet->identification : extra;
    }
    decision->bucket = stead_bucket(config->seed, key, packet->flags & STEAD_V6, packet->client_be, extra);
    decision->entry = stead_hook_table(env, 2u * group + (word & 1), decision->bucket);
    if (decision->entry == config->self && !control->draining) {
        stead_accept(decision);
    } else if ((decision->entry & STEAD_BUCKET_UNSETTLED) || !(packet->flags & STEAD_FLOODED) || control->draining) {
        stead_hook_consider(env, packet, decision);
    }
}

/* Has the other path brought this frame already? Counting both ways lets equal datagrams through, each once. */
STEAD_INLINE int stead_is_copy(struct stead_env* env, const struct stead_packet* packet, __u8 way, __u64 now) {
    struct stead_flow_key key;
    stead_flow_key_of(packet, &key);
    key.identification = packet->identification;
    key.checksum = packet->checksum;
    struct stead_copy_value* copy = stead_hook_copy(env, &key, now);
    if (!copy) {
        return 0;
    }
    if (now - copy->since_boottime_ns > stead_hook_config(env)->duplicate_window_ns) {
        copy->since_boottime_ns = now;
        copy->balance = 0;
    }
    __s64 before = __sync_fetch_and_add(&copy->balance, way == 1 ? 1 : -1);
    return way == 1 ? before < 0 : before > 0;
}

STEAD_INLINE void stead_remember_fragment(struct stead_env* env, const struct stead_packet* packet,
                                          const struct stead_decision* decision, __u64 now) {
    struct stead_flow_key key;
    struct stead_fragment_value value;
    __builtin_memset(&value, 0, sizeof(value));
    stead_fragment_key_of(packet, &key);
    value.until_boottime_ns = now + STEAD_FRAGMENT_LIFETIME_NS;
    value.clones = decision->targets;
    value.action = decision->action;
    value.group = decision->group;
    stead_hook_remember_fragment(env, &key, &value);
}

/* What some frames leave behind, or meet: fragments to come, flows, copies. The lease runs. */
STEAD_INLINE void stead_aftermath(struct stead_env* env, const struct stead_packet* packet,
                                  struct stead_decision* decision, __u64 now) {
    if (packet->flags & STEAD_FIRST_FRAGMENT) {
        stead_remember_fragment(env, packet, decision, now);
    }
    if (decision->action != STEAD_ACCEPT) {
        return;
    }
    if (decision->check_copy && stead_is_copy(env, packet, decision->check_copy, now)) {
        stead_drop(decision);
        stead_hook_count(env, decision->group & (STEAD_FARM_GROUPS_MAX - 1), STEAD_COUNT_DUPLICATES);
        return;
    }
    if (decision->remember && !(packet->flags & (STEAD_LATER_FRAGMENT | STEAD_ICMP_ERROR))) {
        struct stead_flow_key key;
        stead_flow_key_of(packet, &key);
        stead_hook_remember_flow(env, &key, now);
    }
}

/* What was decided becomes true only while the lease runs. Rejects read no clock. */
STEAD_INLINE void stead_settle(struct stead_env* env, const struct stead_packet* packet,
                               struct stead_decision* decision) {
    if (decision->action == STEAD_DROP && !(packet->flags & STEAD_FIRST_FRAGMENT)) {
        stead_hook_count(env, decision->group, STEAD_COUNT_REJECTED);
        return;
    }
    __u64 now = stead_hook_now(env);
    if (now >= *(const volatile __u64*)&stead_hook_control(env)->lease_until_boottime_ns) {
        stead_drop(decision);
        stead_hook_count(env, decision->group, STEAD_COUNT_LEASE_CLOSED);
        return;
    }
    if (decision->check_copy || decision->remember || (packet->flags & STEAD_FIRST_FRAGMENT)) {
        stead_hook_aftermath(env, packet, decision, now);
    }
    stead_hook_count(env, decision->group,
                     decision->action == STEAD_ACCEPT    ? STEAD_COUNT_ACCEPTED
                     : decision->action == STEAD_FORWARD ? STEAD_COUNT_FORWARDED
                                                         : STEAD_COUNT_REJECTED);
}

/* ARP and neighbour discovery about a VIP. */
STEAD_INLINE void stead_decide_neighbour(struct stead_env* env, const struct stead_packet* packet,
                                         struct stead_decision* decision) {
    const struct stead_farm_config* config = stead_hook_config(env);
    const struct stead_farm_control* control = stead_hook_control(env);
    const struct stead_vip* vip = &config->vips[packet->vip & (STEAD_FARM_VIPS_MAX - 1)];
    stead_drop(decision);
    if (packet->kind == STEAD_ARP_CLAIM || packet->kind == STEAD_NA_CLAIM) {
        return; /* a peer's announcement, or an impostor's: our own stack must not believe either */
    }
    int mine = (control->receiver_bits >> (packet->vip & (STEAD_FARM_VIPS_MAX - 1))) & 1;
    if (vip->arp_per_client && vip->delivery == STEAD_DIRECTED) {
        __u32 word = *(const volatile __u32*)&control->group_word[0];
        __u16 bucket = stead_bucket(config->seed, STEAD_KEY_ADDRESS, packet->flags & STEAD_V6, packet->client_be, 0);
        __u8 entry = stead_hook_table(env, word & 1, bucket);
        mine = (entry & (STEAD_BUCKET_NODE | STEAD_BUCKET_NONE)) == config->self;
    }
    if (!mine || stead_hook_now(env) >= *(const volatile __u64*)&control->lease_until_boottime_ns) {
        return;
    }
    decision->action = vip->delivery == STEAD_DIRECTED ? STEAD_PASS : STEAD_ANSWER;
}

/* The whole decision on one parsed frame. */
STEAD_INLINE void stead_verdict(struct stead_env* env, const struct stead_packet* packet,
                                struct stead_decision* decision) {
    decision->action = STEAD_PASS;
    if (packet->kind == STEAD_FOREIGN) {
        return;
    }
    if (packet->kind == STEAD_IP) {
        stead_decide_ip(env, packet, decision);
        stead_settle(env, packet, decision);
    } else if (packet->kind == STEAD_BROKEN) {
        stead_drop(decision);
        stead_hook_count(env, 0, STEAD_COUNT_NO_RULE);
        stead_hook_count(env, 0, STEAD_COUNT_REJECTED);
    } else {
        stead_decide_neighbour(env, packet, decision);
    }
}

/* XDP's part: is this flooded frame surely not ours? Never reads the clock, never touches a memory. */
STEAD_INLINE int stead_surely_not_ours(struct stead_env* env, const struct stead_packet* packet, __u8* group) {
    const struct stead_farm_config* config = stead_hook_config(env);
    if (packet->kind != STEAD_IP || !(packet->flags & STEAD_FLOODED) ||
        (packet->flags & (STEAD_FIRST_FRAGMENT | STEAD_ICMP_ERROR)) || stead_hook_control(env)->draining) {
        return 0;
    }
    __u8 key = STEAD_KEY_ADDRESS;
    __u16 extra = packet->client_port_be;
    *group = 0;
    if (packet->protocol == STEAD_PROTO_TCP || packet->protocol == STEAD_PROTO_UDP) {
        __u8 number = stead_rule_of(env, packet);
        if (!number) {
            return 0;
        }
        const struct stead_rule* rule = &config->rules[(number - 1) & (STEAD_FARM_RULES_MAX - 1)];
        *group = rule->group & (STEAD_FARM_GROUPS_MAX - 1);
        key = rule->key;
        if (key == STEAD_KEY_IP_ID) {
            key = packet->flags & STEAD_NO_ID ? STEAD_KEY_PORT : STEAD_KEY_IP_ID;
            extra = key == STEAD_KEY_IP_ID ? (__u16)packet->identification : extra;
        }
    } else if (packet->protocol != STEAD_PROTO_ICMP) {
        return 0;
    }
    __u32 word = *(const volatile __u32*)&stead_hook_control(env)->group_word[*group];
    __u16 bucket = stead_bucket(config->seed, key, packet->flags & STEAD_V6, packet->client_be, extra);
    __u8 entry = stead_hook_table(env, 2u * *group + (word & 1), bucket);
    return !(entry & STEAD_BUCKET_UNSETTLED) && entry != config->self;
}

#endif
