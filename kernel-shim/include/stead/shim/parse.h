/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef STEAD_SHIM_PARSE_H
#define STEAD_SHIM_PARSE_H

/* From bytes to facts: what the decision needs to know of one frame. Every read is bounds-checked in the form that the
 * kernel's verifier follows, and the same code runs in user space. */

#include <stead/shim/packet.h>

/* ---- hooks: reading at any offset, and what is rare and long, which eBPF keeps in functions of their own ---- */
struct stead_source {
    const __u8* start;
    const __u8* end;
    void* context; /* the includer's own */
    const struct stead_farm_config* config;
    const struct stead_farm_control* control;
};
/* Returns whether there were that many bytes. */
STEAD_INLINE int stead_hook_load(const struct stead_source* source, __u32 offset, void* to, __u32 size);
STEAD_INLINE int stead_hook_walk6(const struct stead_source* source, struct stead_packet* packet);
STEAD_INLINE int stead_hook_quoted(const struct stead_source* source, struct stead_packet* packet);

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

/* Loops below and in send_on() say how they mostly end, so that the compiler leaves their heads on top: kernels
 * before 6.3 refuse a loop whose last instruction falls through to its head. */
#define STEAD_LIKELY(x) __builtin_expect(!!(x), 1)

STEAD_INLINE int stead_vip_of4(const struct stead_farm_config* config, __be32 address) {
    for (int i = 0; i < (int)STEAD_FARM_VIPS_MAX; ++i) {
        if (i >= config->vip_count) {
            break;
        }
        const struct stead_vip* vip = &config->vips[i];
        if (STEAD_LIKELY(vip->address_be[3] == address && vip->address_be[2] == STEAD_MAPPED_BE &&
                         vip->address_be[0] == 0 && vip->address_be[1] == 0)) {
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

#define STEAD_OFFSET_MAX 0x3fffu

STEAD_INLINE int stead_is_extension(__u8 next) {
    return next == 0 || next == 43 || next == 44 || next == 51 || next == 60;
}

/* Walks IPv6 extension headers from packet->transport_offset, where one of type packet->protocol lies, to the transport
 * header. Returns 0 when they are cut short or more than we follow. */
STEAD_INLINE int stead_walk6(const struct stead_source* source, struct stead_packet* packet) {
    __u32 offset = packet->transport_offset;
    __u8 next = packet->protocol;
    for (int i = 0; i < 8; ++i) {
        __u8 header[8] __attribute__((aligned(8)));
        if (STEAD_LIKELY(!stead_is_extension(next))) {
            packet->transport_offset = (__u16)offset;
            packet->protocol = next;
            return offset <= STEAD_OFFSET_MAX;
        }
        if (!stead_hook_load(source, offset, header, sizeof(header))) {
            return 0;
        }
        if (next == 44) { /* fragment */
            __u16 place = STEAD_BE16(*(const __u16*)(header + 2));
            packet->identification = *(const __u32*)(header + 4);
            if (place & 0xfff8) {
                packet->flags |= STEAD_LATER_FRAGMENT;
                packet->protocol = header[0];
                return 1;
            }
            packet->flags |= place & 1 ? STEAD_FIRST_FRAGMENT : 0;
            offset += 8;
        } else {
            offset += next == 51 ? ((__u32)header[1] + 2) * 4 : ((__u32)header[1] + 1) * 8;
        }
        next = header[0];
    }
    return 0;
}

/* The packet that an ICMP error quotes, 8 bytes behind the transport offset: a VIP sent it, so source and destination
 * change places. Eight bytes of its transport header are guaranteed, ports lie in the first four. */
STEAD_INLINE int stead_quoted(const struct stead_source* source, struct stead_packet* packet) {
    struct stead_packet inner;
    __builtin_memset(&inner, 0, sizeof(inner));
    __u32 offset = packet->transport_offset + 8u;
    if (packet->flags & STEAD_V6) {
        struct stead_ip6 ip __attribute__((aligned(8)));
        if (!stead_hook_load(source, offset, &ip, sizeof(ip)) ||
            stead_vip_of6(source->config, ip.source_be) != packet->vip) {
            return 0;
        }
        for (int i = 0; i < 4; ++i) {
            packet->client_be[i] = ip.destination_be[i];
        }
        inner.protocol = ip.next;
        inner.transport_offset = (__u16)(offset + sizeof(ip));
        if (!stead_walk6(source, &inner)) {
            return 0;
        }
        inner.protocol = (__u8)(inner.protocol == STEAD_PROTO_ICMP6 ? (int)STEAD_PROTO_ICMP : inner.protocol);
    } else {
        struct stead_ip4 ip __attribute__((aligned(8)));
        if (!stead_hook_load(source, offset, &ip, sizeof(ip)) ||
            stead_vip_of4(source->config, ip.source_be) != packet->vip) {
            return 0;
        }
        packet->client_be[3] = ip.destination_be;
        packet->identification = ip.id_be;
        inner.protocol = ip.protocol;
        inner.flags = ip.fragment_be & STEAD_BE16(0x1fff) ? STEAD_LATER_FRAGMENT : 0;
        inner.transport_offset = (__u16)(offset + (ip.version_ihl & 15) * 4u);
    }
    packet->flags |= STEAD_ICMP_ERROR | (inner.flags & STEAD_LATER_FRAGMENT);
    packet->protocol = inner.protocol;
    if (inner.flags & STEAD_LATER_FRAGMENT) {
        return 1;
    }
    if (inner.protocol != STEAD_PROTO_TCP && inner.protocol != STEAD_PROTO_UDP) {
        return inner.protocol == STEAD_PROTO_ICMP;
    }
    struct stead_ports ports __attribute__((aligned(8)));
    if (!stead_hook_load(source, inner.transport_offset, &ports, sizeof(ports))) {
        return 0;
    }
    packet->vip_port_be = ports.source_be;
    packet->client_port_be = ports.destination_be;
    return 1;
}

/* Fills in what the transport header says. Returns whether it is whole. */
STEAD_INLINE int stead_parse_transport(const struct stead_source* source, struct stead_packet* packet) {
    if (packet->flags & STEAD_LATER_FRAGMENT) {
        return 1;
    }
    const __u8* at = source->start + (packet->transport_offset & STEAD_OFFSET_MAX);
    if (packet->protocol == STEAD_PROTO_TCP) {
        if (!STEAD_FITS(at, source->end, 20)) {
            return 0;
        }
        packet->tcp_flags = at[13];
        packet->flags |= (at[13] & 0x12) == 0x02 ? STEAD_SYN_ONLY : 0;
        packet->checksum = *(const stead_any16*)(at + 16);
    } else if (packet->protocol == STEAD_PROTO_UDP) {
        if (!STEAD_FITS(at, source->end, 8)) {
            return 0;
        }
        packet->checksum = *(const stead_any16*)(at + 6);
    } else if (packet->protocol == STEAD_PROTO_ICMP) {
        if (!STEAD_FITS(at, source->end, 8)) {
            return 0;
        }
        packet->checksum = *(const stead_any16*)(at + 2);
        __u8 type = at[0];
        int error = (packet->flags & STEAD_V6) ? type >= 1 && type <= 4
                                               : type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
        return !error || stead_hook_quoted(source, packet);
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
    packet->kind = STEAD_IP;
}

STEAD_INLINE void stead_parse_ip6(const __u8* at, const __u8* end, const struct stead_farm_config* config,
                                  struct stead_packet* packet) {
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
    packet->protocol = ip->next;
    packet->transport_offset = (__u16)(packet->network_offset + sizeof(*ip));
    packet->kind = STEAD_IP;
}

/* `packet` comes zeroed. */
STEAD_INLINE void stead_parse(const struct stead_source* source, struct stead_packet* packet) {
    const __u8* start = source->start;
    const __u8* end = source->end;
    const struct stead_ethernet* ethernet = (const struct stead_ethernet*)start;
    if (!STEAD_FITS(start, end, sizeof(*ethernet))) {
        return;
    }
    const __u8* at = start + sizeof(*ethernet);
    __be16 type = ethernet->type_be;
    if (type == STEAD_ETH_VLAN || type == STEAD_ETH_QINQ) {
        for (int i = 0; i < 2 && (type == STEAD_ETH_VLAN || type == STEAD_ETH_QINQ); ++i) {
            if (!STEAD_FITS(at, end, 4)) {
                return;
            }
            type = *(const stead_any16*)(at + 2);
            at += 4;
        }
    }
    packet->network_offset = (__u16)(at - start);
    if (type == STEAD_ETH_IP4) {
        stead_parse_ip4(at, end, source->config, packet);
    } else if (type == STEAD_ETH_IP6) {
        stead_parse_ip6(at, end, source->config, packet);
    } else if (type == STEAD_ETH_ARP) {
        stead_parse_arp(at, end, source->config, packet);
    }
    if (packet->kind == STEAD_FOREIGN) {
        return;
    }
    __builtin_memcpy(packet->source_mac, ethernet->source, 6);
    if (packet->kind != STEAD_IP && packet->kind != STEAD_BROKEN) {
        return;
    }
    __u8 index = packet->vip & (STEAD_FARM_VIPS_MAX - 1);
    const struct stead_vip* vip = &source->config->vips[index];
    if (!stead_mac_equal(ethernet->destination, source->control->own[index].mac)) {
        if (!(ethernet->destination[0] & 1) &&
            !(vip->delivery == STEAD_INVISIBLE && stead_mac_equal(ethernet->destination, vip->vmac))) {
            packet->kind = STEAD_FOREIGN; /* another host's frame that the switch flooded: its owner deals with it */
            return;
        }
        packet->flags |= STEAD_FLOODED;
    }
    int whole = packet->kind == STEAD_IP;
    if (whole && (packet->flags & STEAD_V6) && stead_is_extension(packet->protocol)) {
        whole = stead_hook_walk6(source, packet);
    }
    if (packet->flags & STEAD_V6) {
        packet->protocol = (__u8)(packet->protocol == STEAD_PROTO_ICMP6 ? (int)STEAD_PROTO_ICMP : packet->protocol);
    }
    packet->kind = (__u8)(whole && stead_parse_transport(source, packet) ? STEAD_IP : STEAD_BROKEN);
}

#endif
