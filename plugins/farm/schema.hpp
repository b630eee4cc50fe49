// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/plugin.h>

#include <array>
#include <cstdint>

/// The elements that the farm plugin owns in userconfig.xml. Names and defaults are the classic ones.
namespace stead::farm {

inline constexpr std::int64_t ms = 1'000'000;

inline constexpr stead_attr_schema farm_attributes[]{
    {"port", STEAD_TYPE_PORT, 0, nullptr, nullptr, nullptr, 1, 65535,
     "UDP port of this module's heartbeats; default 4803 + (module id - 1) * 3"},
    {"pulse", STEAD_TYPE_DURATION, 0, nullptr, nullptr, "ms", 1 * ms, 10'000 * ms,
     "heartbeat period; only to keep a classic timing, else use profile"},
    {"mlost_count", STEAD_TYPE_INTEGER, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 1, 10000,
     "there is no leader to lose: every node is watched by slost_count"},
    {"slost_count", STEAD_TYPE_INTEGER, 0, nullptr, nullptr, nullptr, 2, 10000,
     "missed heartbeats after which a node is taken for dead; with pulse"},
    {"profile", STEAD_TYPE_CHOICE, 0, nullptr, "fast|default|safe", nullptr, 0, 0,
     "timing: takeover after 30 ms, 225 ms or 3 s of silence; default: as cluster.xml says"},
    {"backend", STEAD_TYPE_CHOICE, 0, "auto", "auto|ebpf|nfqueue", nullptr, 0, 0,
     "packet filter; auto takes eBPF and falls back to NFQUEUE"},
    {"partition", STEAD_TYPE_CHOICE, 0, "serve", "serve|majority|witness", nullptr, 0, 0,
     "what a part of a cut farm does: go on; or only with more than half of all nodes (majority); or that, and of two "
     "equal halves the one to which the witness gives its word (witness)"},
    {"witness", STEAD_TYPE_NAME, 0, nullptr, nullptr, nullptr, 0, 0,
     "with partition=\"witness\": a node of cluster.xml that runs stead, but not this module"},
};
inline constexpr stead_attr_schema lan_attributes[]{
    {"name", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0,
     "a lan of cluster.xml for heartbeats; recommended: the network of the virtual address"},
};
inline constexpr stead_attr_schema virtual_interface_attributes[]{
    {"type", STEAD_TYPE_CHOICE, 0, "vmac_directed", "vmac_directed|vmac_invisible|external", nullptr, 0, 0,
     "directed: one node receives and passes on; invisible: switches flood a virtual MAC; external: no virtual IP "
     "here"},
    {"addr", STEAD_TYPE_MAC, 0, nullptr, nullptr, nullptr, 0, 0,
     "virtual MAC (invisible); default 5A:FE and the first virtual IP"},
};
inline constexpr stead_attr_schema virtual_addr_attributes[]{
    {"addr", STEAD_TYPE_ADDRESS, STEAD_ATTR_REQUIRED | STEAD_ATTR_NUMERIC, nullptr, nullptr, nullptr, 0, 0,
     "the virtual IP, v4 or v6, or a name that `config` looks up and that keeps its address until the next one"},
    {"where", STEAD_TYPE_CHOICE, 0, "alias", "alias", nullptr, 0, 0, "farm: on every node"},
    {"check", STEAD_TYPE_BOOLEAN, 0, "on", nullptr, nullptr, 0, 0, "makes the checker ip.<address>"},
    {"connections", STEAD_TYPE_BOOLEAN, 0, "off", nullptr, nullptr, 0, 0, "classic; accepted, no effect"},
    {"netmask", STEAD_TYPE_STRING, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0,
     "a virtual address has no subnet of its own here (/32 or /128)"},
};
inline constexpr stead_attr_schema group_attributes[]{
    {"name", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0,
     "balancing group: resource farm.<name>, log (group <name>)"},
};
inline constexpr stead_attr_schema host_attributes[]{
    {"name", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0, "a node of cluster.xml"},
    {"power", STEAD_TYPE_INTEGER, STEAD_ATTR_DYNAMIC, "1", nullptr, nullptr, 0, 1000,
     "relative weight; 0 = no traffic; while running: stead power -m AM NODE N"},
};
inline constexpr stead_attr_schema rule_attributes[]{
    {"virtual_addr", STEAD_TYPE_STRING, 0, "*", nullptr, nullptr, 0, 0, "a virtual_addr of this module, * = all"},
    {"port", STEAD_TYPE_STRING, 0, "*", nullptr, nullptr, 0, 0, "1..65535, * = all"},
    {"proto", STEAD_TYPE_CHOICE, STEAD_ATTR_REQUIRED, nullptr, "tcp|udp|arp", nullptr, 0, 0,
     "arp: each client has a receiver of its own (directed only)"},
    {"filter", STEAD_TYPE_CHOICE, 0, "on_addr", "on_addr|on_port|on_ipid", nullptr, 0, 0,
     "what is hashed: client address, client address and port, IP id (UDP over IPv4)"},
    {"track", STEAD_TYPE_CHOICE, 0, "socket", "socket|flow|none", nullptr, 0, 0,
     "how connections are recognised while buckets move: sockets of this node, or flows (containers, DNAT, UDP)"},
};

template <std::size_t N>
constexpr stead_elem_schema element(const char* path, std::uint32_t flags, const stead_attr_schema (&attrs)[N],
                                    const char* help) {
    return {path, "farm", flags, static_cast<std::uint32_t>(N), attrs, help};
}

inline constexpr std::array schema{
    element("farm", 0, farm_attributes, "how the nodes watch each other"),
    element("farm/lan", STEAD_ELEM_REPEATABLE, lan_attributes, "a network for heartbeats; none = all of cluster.xml"),
    element("vip/interface_list/interface/virtual_interface", 0, virtual_interface_attributes,
            "how traffic reaches all nodes"),
    element("vip/interface_list/interface/virtual_interface/virtual_addr", STEAD_ELEM_REPEATABLE,
            virtual_addr_attributes, "a virtual IP"),
    stead_elem_schema{"vip/loadbalancing_list", "farm", 0, 0, nullptr, "what is balanced"},
    element("vip/loadbalancing_list/group", STEAD_ELEM_REPEATABLE, group_attributes, "rules with one share table"),
    stead_elem_schema{"vip/loadbalancing_list/group/cluster", "farm", 0, 0, nullptr,
                      "powers of the nodes; absent: all equal"},
    element("vip/loadbalancing_list/group/cluster/host", STEAD_ELEM_REPEATABLE, host_attributes, "power of one node"),
    element("vip/loadbalancing_list/group/rule", STEAD_ELEM_REPEATABLE, rule_attributes, "which packets, by what"),
};

} // namespace stead::farm
