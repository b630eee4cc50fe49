// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// Gives each injected frame another client, then lets the program under test have it. IPv4 without options behind
// Ethernet; the IP id takes up what the address changes, so that the header's checksum stays right.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

volatile __u32 clients = 1; // a power of two, at most 65536
const volatile __u32 otherwise = XDP_DROP;

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} next SEC(".maps");

__u32 count;

SEC("xdp")
int spread(struct xdp_md* xdp) {
    __u8* data = (void*)(long)xdp->data;
    if (data + 34 > (__u8*)(long)xdp->data_end) {
        return XDP_ABORTED;
    }
    __u16* id = (void*)(data + 18);
    __u16* address = (void*)(data + 28);
    __u16 before = *address;
    __u16 after = (__u16)((count++ * 40503u) & (clients - 1));
    __u32 sum = (__u32)*id + before + (__u16)~after;
    sum = (sum & 0xffff) + (sum >> 16);
    *id = (__u16)((sum & 0xffff) + (sum >> 16));
    *address = after;
    bpf_tail_call(xdp, &next, 0);
    return otherwise;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
