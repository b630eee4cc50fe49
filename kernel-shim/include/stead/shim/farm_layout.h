/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef STEAD_SHIM_FARM_LAYOUT_H
#define STEAD_SHIM_FARM_LAYOUT_H

/* What the farm filter's kernel programs and its user space share, byte for byte. Fixed widths, byte order in the name
 * (_be), padding named, sizes pinned. A change of any of it raises the version; the loader and the programs are always
 * replaced together, so that an older layout is never read, only recognised. */

#include <linux/types.h>

#define STEAD_FARM_LAYOUT_VERSION 1u
#define STEAD_FARM_BUCKETS 65536u
#define STEAD_FARM_VIPS_MAX 16u
#define STEAD_FARM_RULES_MAX 64u
#define STEAD_FARM_GROUPS_MAX 16u
#define STEAD_FARM_NODES_MAX 64u
#define STEAD_FARM_NO_NODE 0xffu

/* One byte per bucket is all that a settled packet reads. */
#define STEAD_BUCKET_NODE 0x3fu      /* who owns it */
#define STEAD_BUCKET_NONE 0x40u      /* nobody does */
#define STEAD_BUCKET_UNSETTLED 0x80u /* the details say more */

#define STEAD_FRAGMENT_LIFETIME_NS 2000000000ull
#define STEAD_FLOW_UDP_IDLE_NS 60000000000ull
#define STEAD_FLOW_TCP_IDLE_NS 3600000000000ull

enum stead_key { STEAD_KEY_ADDRESS = 0, STEAD_KEY_PORT = 1, STEAD_KEY_IP_ID = 2 };
enum stead_track { STEAD_TRACK_NONE = 0, STEAD_TRACK_SOCKET = 1, STEAD_TRACK_FLOW = 2 };
enum stead_delivery { STEAD_DIRECTED = 0, STEAD_INVISIBLE = 1 };
enum stead_step {
    STEAD_STEP_SETTLED = 0,
    STEAD_STEP_ACCEPT_FORWARDED = 1,
    STEAD_STEP_FORWARD = 2,
    STEAD_STEP_TAKE = 3,
    STEAD_STEP_RELEASE = 4
};

struct stead_vip {
    __be32 address_be[4]; /* IPv6, or IPv4 mapped as ::ffff:a.b.c.d */
    __u32 ifindex;
    __u8 delivery; /* enum stead_delivery */
    __u8 arp_per_client;
    __u8 vmac[6];
    __u8 fragment_rule[2]; /* TCP, UDP: 1 + rule of a later fragment, 0 = ask the fragment memory */
    __u8 pad_zero[2];
};

struct stead_rule {
    __u8 key;   /* enum stead_key */
    __u8 track; /* enum stead_track */
    __u8 group;
    __u8 pad_zero;
};

/* Read-only for the programs; constant after load. */
struct stead_farm_config {
    __u64 seed[2];
    __u64 duplicate_window_ns;
    __u32 version;
    __u8 self;
    __u8 vip_count;
    __u8 rule_count;
    __u8 group_count;
    struct stead_vip vips[STEAD_FARM_VIPS_MAX];
    struct stead_rule rules[STEAD_FARM_RULES_MAX];
};

/* The words that change while packets pass. The lease comes first: its page is shared with the bus and steadd. */
struct stead_farm_control {
    __u64 lease_until_boottime_ns;
    __u32 version;
    __u8 module_id;
    __u8 draining;
    __u16 receiver_bits; /* bit v: this node answers for vip v */
    __u32 group_word[STEAD_FARM_GROUPS_MAX]; /* generation in bit 0, step in bits 8..15: one store switches both */
    __u64 live[STEAD_FARM_GROUPS_MAX][2];    /* per generation */
    struct {
        __u8 mac[6]; /* our own MAC on the VIP's interface */
        __u8 pad_zero[2];
        __be32 address4_be; /* our own addresses there; zero = none */
        __be32 address6_be[4];
        __u32 pad2_zero;
    } own[STEAD_FARM_VIPS_MAX];
};

/* What an unsettled bucket is about. */
struct stead_bucket_detail {
    __u8 owner;
    __u8 next;
    __u8 pad_zero[6];
    __u64 holders;
};

struct stead_member_mac {
    __u8 mac[6];
    __u8 pad_zero[2];
};

struct stead_member_address {
    __u8 mac[6];
    __u8 pad_zero[2];
    __be32 address_be[4];
};

/* A connection, or with the identification filled in one datagram, or a fragmented one. */
struct stead_flow_key {
    __be32 client_be[4];
    __be16 client_port_be;
    __be16 vip_port_be;
    __u32 identification;
    __u8 protocol;
    __u8 vip;
    __u16 checksum;
};

struct stead_flow_value {
    __u64 seen_boottime_ns;
};

struct stead_copy_value {
    __u64 since_boottime_ns;
    __s64 balance; /* frames that came by themselves minus frames that a member forwarded */
};

struct stead_fragment_value {
    __u64 until_boottime_ns;
    __u64 clones;
    __u8 action;
    __u8 group;
    __u8 pad_zero[6];
};

struct stead_group_stats {
    __u64 accepted;
    __u64 rejected;
    __u64 forwarded;
    __u64 in_transition;
    __u64 lease_closed;
    __u64 duplicates;
    __u64 no_rule;
    __u64 fragments_dropped;
};

#ifdef __cplusplus
#define STEAD_LAYOUT(fact) static_assert(fact, #fact)
#else
#define STEAD_LAYOUT(fact) _Static_assert(fact, #fact)
#endif
STEAD_LAYOUT(sizeof(struct stead_vip) == 32);
STEAD_LAYOUT(sizeof(struct stead_rule) == 4);
STEAD_LAYOUT(sizeof(struct stead_farm_config) == 32 + 16 * 32 + 64 * 4);
STEAD_LAYOUT(sizeof(struct stead_farm_control) == 16 + 16 * 4 + 16 * 16 + 16 * 32);
STEAD_LAYOUT(sizeof(struct stead_bucket_detail) == 16);
STEAD_LAYOUT(sizeof(struct stead_member_address) == 24);
STEAD_LAYOUT(sizeof(struct stead_flow_key) == 28);
STEAD_LAYOUT(sizeof(struct stead_copy_value) == 16);
STEAD_LAYOUT(sizeof(struct stead_fragment_value) == 24);
STEAD_LAYOUT(sizeof(struct stead_group_stats) == 64);

#endif
