/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef STEAD_SHIM_PARSE_H
#define STEAD_SHIM_PARSE_H

/* From bytes to facts: what the decision needs to know of one frame. Every read is bounds-checked in the form that the
 * kernel's verifier follows, and the same code runs in user space. */

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

struct stead_ethernet {
    __u8 destination[6];
    __u8 source[6];
    __be16 type_be;
} STEAD_ANYWHERE;

struct stead_ip4 {
    __u8 version_ihl, tos;
    __be16 length_be, id_be, fragment_be;
    __u8 ttl, protocol;
    __u16 checksum;
    __be32 source_be, destination_be;
} STEAD_ANYWHERE;

struct stead_ip6 {
    __be32 flow_be;
    __be16 payload_be;
    __u8 next, hops;
    stead_any32 source_be[4], destination_be[4];
} STEAD_ANYWHERE;

struct stead_arp {
    __be16 hardware_be, protocol_be;
    __u8 hardware_size, protocol_size;
    __be16 operation_be;
    __u8 sender_mac[6];
    __be32 sender_be;
    __u8 target_mac[6];
    __be32 target_be;
} __attribute__((packed));

struct stead_ports {
    __be16 source_be, destination_be;
} STEAD_ANYWHERE;

struct stead_neighbour {
    __u8 type, code;
    __u16 checksum;
    __be32 flags_be;
    stead_any32 target_be[4];
} STEAD_ANYWHERE;

#define STEAD_FITS(position, end, size) ((const __u8*)(position) + (size) <= (const __u8*)(end))

STEAD_INLINE int stead_mac_equal(const __u8* a, const __u8* b) {
    const stead_any16* x = (const stead_any16*)a;
    const stead_any16* y = (const stead_any16*)b;
    return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2])) == 0;
}

STEAD_INLINE int stead_vip_of4(const struct stead_farm_config* config, __be32 address) {
    for (int i = 0; i < (int)STEAD_FARM_VIPS_MAX; ++i) {
        if (i >= config->vip_count) {
            break;
        }
        const struct stead_vip* vip = &config->vips[i];
        if (vip->address_be[3] == address && vip->address_be[2] == STEAD_MAPPED_BE && vip->address_be[0] == 0 &&
            vip->address_be[1] == 0) {
            return i;
        }
    }
    return -1;
}

STEAD_INLINE int stead_vip_of6(const struct stead_farm_config* config, const stead_any32* address) {
    for (int i = 0; i < (int)STEAD_FARM_VIPS_MAX; ++i) {
        if (i >= config->vip_count) {
            break;
        }
        const __be32* vip = config->vips[i].address_be;
        if (vip[3] == address[3] && vip[2] == address[2] && vip[1] == address[1] && vip[0] == address[0]) {
            return i;
        }
    }
    return -1;
}

/* Walks IPv6 extension headers. Returns the upper protocol, or -1 when cut short or longer than we follow. */
STEAD_INLINE int stead_walk6(const __u8** position, const __u8* end, __u8 next, struct stead_packet* packet) {
    const __u8* at = *position;
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
        if (next == 44) { /* fragment */
            if (!STEAD_FITS(at, end, 8)) {
                return -1;
            }
            __u16 offset = STEAD_BE16(*(const stead_any16*)(at + 2));
            packet->identification = *(const stead_any32*)(at + 4);
            if (offset & 0xfff8) {
                packet->flags |= STEAD_LATER_FRAGMENT;
            } else if (offset & 1) {
                packet->flags |= STEAD_FIRST_FRAGMENT;
            }
            next = at[0];
            at += 8;
            if (offset & 0xfff8) {
                *position = at;
                return next;
            }
        } else if (next == 0 || next == 43 || next == 60 || next == 51) { /* hop, routing, destination, AH */
            if (!STEAD_FITS(at, end, 8)) {
                return -1;
            }
            __u32 size = next == 51 ? ((__u32)at[1] + 2) * 4 : ((__u32)at[1] + 1) * 8;
            next = at[0];
            at += size;
        } else {
            *position = at;
            return next;
        }
    }
    return -1;
}

/* Ports of the packet that an ICMP error quotes: it was sent by a VIP, so source and destination change places. Eight
 * bytes of its transport header are guaranteed, ports lie in the first four. */
STEAD_INLINE int stead_parse_quoted(const __u8* at, const __u8* end, const struct stead_farm_config* config,
                                    struct stead_packet* packet) {
    int next;
    int later = 0;
    if (packet->flags & STEAD_V6) {
        const struct stead_ip6* ip = (const struct stead_ip6*)at;
        if (!STEAD_FITS(at, end, sizeof(*ip)) || stead_vip_of6(config, ip->source_be) != packet->vip) {
            return 0;
        }
        for (int i = 0; i < 4; ++i) {
            packet->client_be[i] = ip->destination_be[i];
        }
        struct stead_packet quoted;
        __builtin_memset(&quoted, 0, sizeof(quoted));
        at += sizeof(*ip);
        next = stead_walk6(&at, end, ip->next, &quoted);
        later = quoted.flags & STEAD_LATER_FRAGMENT;
        next = next == STEAD_PROTO_ICMP6 ? (int)STEAD_PROTO_ICMP : next;
    } else {
        const struct stead_ip4* ip = (const struct stead_ip4*)at;
        if (!STEAD_FITS(at, end, sizeof(*ip)) || stead_vip_of4(config, ip->source_be) != packet->vip) {
            return 0;
        }
        packet->client_be[3] = ip->destination_be;
        packet->identification = ip->id_be;
        later = ip->fragment_be & STEAD_BE16(0x1fff);
        __u32 size = (ip->version_ihl & 15) * 4;
        next = ip->protocol;
        at += size < 20 ? 20 : size;
    }
    packet->flags |= STEAD_ICMP_ERROR | (later ? STEAD_LATER_FRAGMENT : 0);
    packet->protocol = (__u8)next;
    if (later || (next != STEAD_PROTO_TCP && next != STEAD_PROTO_UDP)) {
        return next == STEAD_PROTO_ICMP || later;
    }
    const struct stead_ports* ports = (const struct stead_ports*)at;
    if (!STEAD_FITS(at, end, sizeof(*ports))) {
        return 0;
    }
    packet->vip_port_be = ports->source_be;
    packet->client_port_be = ports->destination_be;
    return 1;
}

/* Fills in what the transport header says. Returns whether it is whole. */
STEAD_INLINE int stead_parse_transport(const __u8* at, const __u8* end, const struct stead_farm_config* config,
                                       struct stead_packet* packet) {
    if (packet->flags & STEAD_LATER_FRAGMENT) {
        return 1;
    }
    if (packet->protocol == STEAD_PROTO_TCP) {
        if (!STEAD_FITS(at, end, 20)) {
            return 0;
        }
        packet->tcp_flags = at[13];
        packet->flags |= (at[13] & 0x12) == 0x02 ? STEAD_SYN_ONLY : 0;
        packet->checksum = *(const stead_any16*)(at + 16);
    } else if (packet->protocol == STEAD_PROTO_UDP) {
        if (!STEAD_FITS(at, end, 8)) {
            return 0;
        }
        packet->checksum = *(const stead_any16*)(at + 6);
    } else if (packet->protocol == STEAD_PROTO_ICMP) {
        if (!STEAD_FITS(at, end, 8)) {
            return 0;
        }
        packet->checksum = *(const stead_any16*)(at + 2);
        __u8 type = at[0];
        int error = (packet->flags & STEAD_V6) ? type >= 1 && type <= 4
                                               : type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
        return !error || stead_parse_quoted(at + 8, end, config, packet);
    } else {
        return 1;
    }
    const struct stead_ports* ports = (const struct stead_ports*)at;
    packet->client_port_be = ports->source_be;
    packet->vip_port_be = ports->destination_be;
    return 1;
}

STEAD_INLINE void stead_parse_arp(const __u8* at, const __u8* end, const struct stead_farm_config* config,
                                  struct stead_packet* packet) {
    const struct stead_arp* arp = (const struct stead_arp*)at;
    if (!STEAD_FITS(at, end, sizeof(*arp)) || arp->protocol_be != STEAD_ETH_IP4 || arp->protocol_size != 4) {
        return;
    }
    int vip = stead_vip_of4(config, arp->sender_be);
    if (vip >= 0) {
        packet->kind = STEAD_ARP_CLAIM;
        packet->vip = (__u8)vip;
        return;
    }
    vip = stead_vip_of4(config, arp->target_be);
    if (vip >= 0 && arp->operation_be == STEAD_BE16(1)) {
        packet->kind = STEAD_ARP_REQUEST;
        packet->vip = (__u8)vip;
        packet->client_be[2] = STEAD_MAPPED_BE;
        packet->client_be[3] = arp->sender_be;
    }
}

STEAD_INLINE void stead_parse_ip4(const __u8* at, const __u8* end, const struct stead_farm_config* config,
                                  struct stead_packet* packet) {
    const struct stead_ip4* ip = (const struct stead_ip4*)at;
    if (!STEAD_FITS(at, end, sizeof(*ip))) {
        return;
    }
    int vip = stead_vip_of4(config, ip->destination_be);
    if (vip < 0) {
        return;
    }
    packet->vip = (__u8)vip;
    packet->kind = STEAD_BROKEN;
    packet->client_be[2] = STEAD_MAPPED_BE;
    packet->client_be[3] = ip->source_be;
    packet->protocol = ip->protocol;
    packet->identification = ip->id_be;
    __u16 fragment = STEAD_BE16(ip->fragment_be);
    if (ip->id_be == 0 && (fragment & 0x4000)) {
        packet->flags |= STEAD_NO_ID;
    }
    if (fragment & 0x1fff) {
        packet->flags |= STEAD_LATER_FRAGMENT;
    } else if (fragment & 0x2000) {
        packet->flags |= STEAD_FIRST_FRAGMENT;
    }
    __u32 size = (ip->version_ihl & 15) * 4;
    if (size < sizeof(*ip)) {
        return;
    }
    packet->transport_offset = (__u16)(packet->network_offset + size);
    if (stead_parse_transport(at + size, end, config, packet)) {
        packet->kind = STEAD_IP;
    }
}

STEAD_INLINE void stead_parse_ip6(const __u8* start, const __u8* at, const __u8* end,
                                  const struct stead_farm_config* config, struct stead_packet* packet) {
    const struct stead_ip6* ip = (const struct stead_ip6*)at;
    if (!STEAD_FITS(at, end, sizeof(*ip))) {
        return;
    }
    const struct stead_neighbour* neighbour = (const struct stead_neighbour*)(at + sizeof(*ip));
    if (ip->next == STEAD_PROTO_ICMP6 && STEAD_FITS(neighbour, end, sizeof(*neighbour)) &&
        neighbour->type >= 133 && neighbour->type <= 137) {
        if (neighbour->type == 135 || neighbour->type == 136) {
            int target = stead_vip_of6(config, neighbour->target_be);
            if (target >= 0) {
                packet->kind = (__u8)(neighbour->type == 135 ? STEAD_NS : STEAD_NA_CLAIM);
                packet->vip = (__u8)target;
                for (int i = 0; i < 4; ++i) {
                    packet->client_be[i] = ip->source_be[i];
                }
                packet->flags |= STEAD_V6;
            }
        }
        return;
    }
    int vip = stead_vip_of6(config, ip->destination_be);
    if (vip < 0) {
        return;
    }
    packet->vip = (__u8)vip;
    packet->kind = STEAD_BROKEN;
    packet->flags |= STEAD_V6 | STEAD_NO_ID;
    for (int i = 0; i < 4; ++i) {
        packet->client_be[i] = ip->source_be[i];
    }
    const __u8* upper = at + sizeof(*ip);
    int next = stead_walk6(&upper, end, ip->next, packet);
    if (next < 0) {
        return;
    }
    packet->protocol = (__u8)(next == STEAD_PROTO_ICMP6 ? (int)STEAD_PROTO_ICMP : next);
    packet->transport_offset = (__u16)(upper - start);
    if (stead_parse_transport(upper, end, config, packet)) {
        packet->kind = STEAD_IP;
    }
}

/* `packet` comes zeroed. */
STEAD_INLINE void stead_parse(const void* frame, const void* frame_end, const struct stead_farm_config* config,
                              const struct stead_farm_control* control, struct stead_packet* packet) {
    const __u8* start = (const __u8*)frame;
    const __u8* end = (const __u8*)frame_end;
    const struct stead_ethernet* ethernet = (const struct stead_ethernet*)start;
    if (!STEAD_FITS(start, end, sizeof(*ethernet))) {
        return;
    }
    const __u8* at = start + sizeof(*ethernet);
    __be16 type = ethernet->type_be;
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
        if (type == STEAD_ETH_VLAN || type == STEAD_ETH_QINQ) {
            if (!STEAD_FITS(at, end, 4)) {
                return;
            }
            type = *(const stead_any16*)(at + 2);
            at += 4;
        }
    }
    packet->network_offset = (__u16)(at - start);
    if (type == STEAD_ETH_IP4) {
        stead_parse_ip4(at, end, config, packet);
    } else if (type == STEAD_ETH_IP6) {
        stead_parse_ip6(start, at, end, config, packet);
    } else if (type == STEAD_ETH_ARP) {
        stead_parse_arp(at, end, config, packet);
    }
    if (packet->kind != STEAD_IP && packet->kind != STEAD_BROKEN) {
        return;
    }
    __builtin_memcpy(packet->source_mac, ethernet->source, 6);
    const __u8* own = control->own[packet->vip & (STEAD_FARM_VIPS_MAX - 1)].mac;
    if (stead_mac_equal(ethernet->destination, own)) {
        return;
    }
    const struct stead_vip* vip = &config->vips[packet->vip & (STEAD_FARM_VIPS_MAX - 1)];
    if ((ethernet->destination[0] & 1) ||
        (vip->delivery == STEAD_INVISIBLE && stead_mac_equal(ethernet->destination, vip->vmac))) {
        packet->flags |= STEAD_FLOODED;
    } else {
        packet->kind = STEAD_FOREIGN; /* another host's frame that the switch flooded: its owner deals with it */
    }
}

#endif
