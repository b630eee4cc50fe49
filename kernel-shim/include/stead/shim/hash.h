/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef STEAD_SHIM_HASH_H
#define STEAD_SHIM_HASH_H

/* The bucket of a key: SipHash-1-3, keyed with the farm's seed, over
 *   on_addr  address                     (4 bytes for IPv4, 16 for IPv6, network order)
 *   on_port  address, port               (6 or 18 bytes)
 *   on_ipid  0.0.0.0, IP id              (6 bytes)
 * of which the low 16 bits are taken. Keyed, so that no client can choose its server; the 1-3 variant, because the
 * output is never shown and each frame pays for it. */

#include <stead/shim/packet.h>

#define STEAD_ROTATE(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define STEAD_SIP_ROUND                                                                                               \
    do {                                                                                                              \
        v0 += v1, v2 += v3;                                                                                           \
        v1 = STEAD_ROTATE(v1, 13) ^ v0, v3 = STEAD_ROTATE(v3, 16) ^ v2;                                               \
        v0 = STEAD_ROTATE(v0, 32);                                                                                    \
        v2 += v1, v0 += v3;                                                                                           \
        v1 = STEAD_ROTATE(v1, 17) ^ v2, v3 = STEAD_ROTATE(v3, 21) ^ v0;                                               \
        v2 = STEAD_ROTATE(v2, 32);                                                                                    \
    } while (0)

/* `words` whole words, then the last bytes and the length in bytes. */
STEAD_INLINE __u64 stead_siphash13(const __u64* seed, __u64 word0, __u64 word1, int words, __u64 last, __u64 size) {
    __u64 v0 = seed[0] ^ 0x736f6d6570736575ull;
    __u64 v1 = seed[1] ^ 0x646f72616e646f6dull;
    __u64 v2 = seed[0] ^ 0x6c7967656e657261ull;
    __u64 v3 = seed[1] ^ 0x7465646279746573ull;
    if (words == 2) {
        v3 ^= word0;
        STEAD_SIP_ROUND;
        v0 ^= word0;
        v3 ^= word1;
        STEAD_SIP_ROUND;
        v0 ^= word1;
    }
    last |= size << 56;
    v3 ^= last;
    STEAD_SIP_ROUND;
    v0 ^= last;
    v2 ^= 0xff;
    STEAD_SIP_ROUND;
    STEAD_SIP_ROUND;
    STEAD_SIP_ROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

/* `extra_be`: the port or IP id as loaded from the frame. */
STEAD_INLINE __u16 stead_bucket(const __u64* seed, __u8 key, int v6, const __be32* client_be, __u16 extra_be) {
    __u64 size = key == STEAD_KEY_ADDRESS ? 0 : 2;
    __u64 extra = key == STEAD_KEY_ADDRESS ? 0 : extra_be;
    if (key == STEAD_KEY_IP_ID) {
        return (__u16)stead_siphash13(seed, 0, 0, 0, extra << 32, 6);
    }
    if (!v6) {
        return (__u16)stead_siphash13(seed, 0, 0, 0, client_be[3] | extra << 32, 4 + size);
    }
    return (__u16)stead_siphash13(seed, client_be[0] | (__u64)client_be[1] << 32,
                                  client_be[2] | (__u64)client_be[3] << 32, 2, extra, 16 + size);
}

#endif
