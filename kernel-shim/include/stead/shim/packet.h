/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef STEAD_SHIM_PACKET_H
#define STEAD_SHIM_PACKET_H

/* What the decision needs to know of one frame, and the words in which it is said. */

#include <stead/shim/farm_layout.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the bucket hash reads network bytes as little-endian words"
#endif

#define STEAD_INLINE static inline __attribute__((always_inline, unused))
/* Frames lie at odd places. The kernel's eBPF loads there as on any address of x86 and arm64, and a packed type would
 * make its compiler load byte by byte; elsewhere the compiler must know. */
#ifdef __bpf__
#define STEAD_ANYWHERE
typedef __u16 stead_any16;
typedef __u32 stead_any32;
#else
#define STEAD_ANYWHERE __attribute__((packed, aligned(1)))
typedef __u16 stead_any16 __attribute__((aligned(1), may_alias));
typedef __u32 stead_any32 __attribute__((aligned(1), may_alias));
#endif

#define STEAD_BE16(x) ((__u16)(((x) >> 8) | (((x) & 0xff) << 8)))
#define STEAD_MAPPED_BE 0xffff0000u /* the third word of ::ffff:a.b.c.d, as loaded */

#define STEAD_ETH_IP4 STEAD_BE16(0x0800)
#define STEAD_ETH_IP6 STEAD_BE16(0x86dd)
#define STEAD_ETH_ARP STEAD_BE16(0x0806)
#define STEAD_ETH_VLAN STEAD_BE16(0x8100)
#define STEAD_ETH_QINQ STEAD_BE16(0x88a8)

enum {
    STEAD_PROTO_ICMP = 1,
    STEAD_PROTO_TCP = 6,
    STEAD_PROTO_UDP = 17,
    STEAD_PROTO_ICMP6 = 58
};

enum stead_kind {
    STEAD_FOREIGN = 0, /* not for a VIP of ours: none of our business */
    STEAD_IP,          /* to a VIP */
    STEAD_ARP_REQUEST, /* asks for a VIP */
    STEAD_ARP_CLAIM,   /* says that a VIP is at somebody's */
    STEAD_NS,          /* neighbour solicitation for a VIP */
    STEAD_NA_CLAIM,    /* neighbour advertisement for a VIP */
    STEAD_BROKEN       /* to a VIP, but cut short or with too many headers */
};

enum {
    STEAD_SYN_ONLY = 1,      /* TCP: SYN without ACK */
    STEAD_LATER_FRAGMENT = 2, /* no ports here */
    STEAD_FIRST_FRAGMENT = 4,
    STEAD_ICMP_ERROR = 8, /* ports and protocol are those of the packet inside, seen from the client */
    STEAD_NO_ID = 16,     /* the IP id says nothing: IPv6, or 0 with DF */
    STEAD_FLOODED = 32,   /* not to our own MAC: others may have it too */
    STEAD_V6 = 64
};

struct stead_packet {
    __be32 client_be[4];
    __be16 client_port_be;
    __be16 vip_port_be;
    __u32 identification; /* IP id or fragment id, as loaded */
    __u16 checksum;
    __u8 kind;
    __u8 flags;
    __u8 protocol; /* ICMP for both families; an error: that of the packet inside */
    __u8 vip;
    __u8 tcp_flags;
    __u8 pad_zero;
    __u8 source_mac[6];
    __u16 network_offset;
    __u16 transport_offset;
};

#endif
