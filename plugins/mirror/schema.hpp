// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/settings.hpp>
#include <stead/plugin.h>

#include <array>
#include <cstdint>

/// The elements that the mirror plugin owns in userconfig.xml. Names and defaults are the classic ones, but for the
/// heartbeat's timing.
namespace stead::mirror {

inline constexpr std::int64_t ms = 1'000'000;
inline constexpr std::int64_t second = 1'000 * ms;

inline constexpr stead_attr_schema heart_attributes[]{
    {"port", STEAD_TYPE_PORT, 0, nullptr, nullptr, nullptr, 1, 65535,
     "UDP port of this module's heartbeats; default 8888 + (module id - 1)"},
    {"pulse", STEAD_TYPE_DURATION, 0, "100ms", nullptr, "ms", 5 * ms, 10 * second,
     "heartbeat period; needs a restart: a lease that was given counts on it"},
    {"timeout", STEAD_TYPE_DURATION, 0, "2s", nullptr, "ms", 50 * ms, 600 * second,
     "silence after which the other node is taken for dead; at least three periods; needs a restart, as pulse does"},
    {"permanent_arp", STEAD_TYPE_BOOLEAN, STEAD_ATTR_DYNAMIC | STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0,
     "heartbeats need no pinned ARP entry"},
};
inline constexpr stead_attr_schema heartbeat_attributes[]{
    {"name", STEAD_TYPE_NAME, 0, nullptr, nullptr, nullptr, 0, 0, "a lan of cluster.xml; default: all of them"},
    {"ident", STEAD_TYPE_NAME, 0, nullptr, nullptr, nullptr, 0, 0,
     "resource heartbeat.<ident>, default the name; flow = replication uses this lan"},
    {"pulse", STEAD_TYPE_DURATION, STEAD_ATTR_DYNAMIC | STEAD_ATTR_IGNORED, nullptr, nullptr, "ms", 0, 0,
     "all heartbeats of a module have the timing of <heart>"},
    {"timeout", STEAD_TYPE_DURATION, STEAD_ATTR_DYNAMIC | STEAD_ATTR_IGNORED, nullptr, nullptr, "ms", 0, 0,
     "all heartbeats of a module have the timing of <heart>"},
};
inline constexpr stead_attr_schema server_attributes[]{
    {"addr", STEAD_TYPE_STRING, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0,
     "addresses come from cluster.xml since 7.2"},
};
inline constexpr stead_attr_schema virtual_addr_attributes[]{
    {"addr", STEAD_TYPE_ADDRESS, STEAD_ATTR_REQUIRED | STEAD_ATTR_NUMERIC, nullptr, nullptr, nullptr, 0, 0,
     "the virtual IP, v4 or v6, or a name that `config` looks up and that keeps its address until the next one"},
    {"where", STEAD_TYPE_CHOICE, 0, "one_side_alias", "one_side_alias|one_side", nullptr, 0, 0,
     "on the active node only; the two words mean the same here"},
    {"check", STEAD_TYPE_BOOLEAN, 0, "on", nullptr, nullptr, 0, 0, "makes the checker ip.<address>"},
    {"connections", STEAD_TYPE_BOOLEAN, 0, "off", nullptr, nullptr, 0, 0, "classic; accepted, no effect"},
    {"netmask", STEAD_TYPE_STRING, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0,
     "a virtual address has no subnet of its own here (/32 or /128)"},
};
inline constexpr stead_attr_schema rfs_attributes[]{
    {"ack", STEAD_TYPE_CHOICE, 0, nullptr, "commit|receipt|apply|disk", nullptr, 0, 0,
     "when a write is answered: written here | received there | applied on both (default) | on both disks; fsync: "
     "always both disks; needs a restart of both nodes: they must agree whether it is commit"},
    {"async", STEAD_TYPE_CHOICE, STEAD_ATTR_DYNAMIC, nullptr, "second|none", nullptr, 0, 0,
     "classic: second = ack receipt, none = ack disk; beside ack it has no effect"},
    {"intent", STEAD_TYPE_BOOLEAN, 0, "off", nullptr, nullptr, 0, 0,
     "write down what is about to be sent, so that a power loss of both nodes needs no full comparison"},
    {"acl", STEAD_TYPE_BOOLEAN, 0, "on", nullptr, nullptr, 0, 0, "POSIX ACLs"},
    {"mountoversuffix", STEAD_TYPE_STRING, 0, "_For_SafeKit_Replication", nullptr, nullptr, 0, 0,
     "the data of <dir> lie in <dir><suffix>/data while the module runs"},
    {"nbrei", STEAD_TYPE_INTEGER, STEAD_ATTR_DYNAMIC, "6", nullptr, nullptr, 1, readers_max,
     "how parallel a resync reads"},
    {"reiallowedbw", STEAD_TYPE_INTEGER, STEAD_ATTR_DYNAMIC, "0", nullptr, nullptr, 0, 1'000'000'000,
     "cap of a resync in KB/s; 0 = as fast as the application leaves room"},
    {"slow_peer", STEAD_TYPE_DURATION, 0, "10s", nullptr, "s", 1 * second, 3600 * second,
     "a peer that is heard but acknowledges nothing for so long is left behind"},
    {"syncdelta", STEAD_TYPE_DURATION, 0, "0m", nullptr, "m", 0, 525'600 * 60 * second,
     "above 1m: an isolated node that is behind serves its copy if it was in sync so short a time ago; what was "
     "acknowledged since is lost"},
    {"syncat", STEAD_TYPE_STRING, 0, nullptr, nullptr, nullptr, 0, 0,
     "replicate in batches: times at which the secondary is let in, synchronised, and waits again, as in crontab: "
     "minute hour day-of-month month day-of-week; default: continuously"},
    {"verifyat", STEAD_TYPE_STRING, STEAD_ATTR_DYNAMIC, nullptr, nullptr, nullptr, 0, 0,
     "times at which the primary compares both copies exactly, as in crontab, such as 0 3 * * sun; what differs is "
     "told, not repaired; default: only by stead rfsverify"},
    {"locktimeout", STEAD_TYPE_DURATION, STEAD_ATTR_IGNORED, nullptr, nullptr, "s", 0, 0, "see slow_peer"},
    {"sendtimeout", STEAD_TYPE_DURATION, STEAD_ATTR_IGNORED, nullptr, nullptr, "s", 0, 0, "see slow_peer"},
    {"reitimeout", STEAD_TYPE_DURATION, STEAD_ATTR_DYNAMIC | STEAD_ATTR_IGNORED, nullptr, nullptr, "s", 0, 0,
     "see slow_peer"},
    {"iotimeout", STEAD_TYPE_DURATION, STEAD_ATTR_WINDOWS, nullptr, nullptr, "s", 0, 0, "Windows"},
    {"allocthreshold", STEAD_TYPE_STRING, STEAD_ATTR_WINDOWS, nullptr, nullptr, nullptr, 0, 0, "Windows"},
    {"roflags", STEAD_TYPE_STRING, STEAD_ATTR_WINDOWS, nullptr, nullptr, nullptr, 0, 0, "Windows"},
    {"nfsbox_options", STEAD_TYPE_STRING, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0, "there is no NFS"},
    {"packetsize", STEAD_TYPE_STRING, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0, "there is no NFS"},
    {"reipacketsize", STEAD_TYPE_STRING, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0, "zones are 64 KiB"},
    {"ruzone_blocksize", STEAD_TYPE_STRING, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0, "zones are 64 KiB"},
    {"reicommit", STEAD_TYPE_STRING, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0,
     "a resync is flushed at its end"},
    {"reidetail", STEAD_TYPE_BOOLEAN, STEAD_ATTR_DYNAMIC | STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0,
     "see stead mirror status"},
    {"namespacepolicy", STEAD_TYPE_STRING, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0,
     "every change is accounted by zone"},
    {"nbremconn", STEAD_TYPE_INTEGER, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0,
     "one connection carries all changes in their order, pipelined: more would gain nothing and could not keep it"},
    {"checktime", STEAD_TYPE_DURATION, STEAD_ATTR_IGNORED, nullptr, nullptr, "ms", 0, 0,
     "the process behind the mount is watched itself"},
    {"checkintv", STEAD_TYPE_DURATION, STEAD_ATTR_IGNORED, nullptr, nullptr, "s", 0, 0,
     "the process behind the mount is watched itself"},
    {"scripts", STEAD_TYPE_BOOLEAN, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0,
     "no _rfs_* script is called: watch the resources rfs.* with a rule, or use the scripts of the states"},
    {"mountover", STEAD_TYPE_STRING, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0, "always"},
    {"port", STEAD_TYPE_PORT, 0, nullptr, nullptr, nullptr, 1, 65535,
     "TCP port of the replication; default 5600 + (module id - 1) * 4"},
};
inline constexpr stead_attr_schema flow_attributes[]{
    {"name", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0,
     "the lan of cluster.xml for replication; better: <heartbeat ident=\"flow\">"},
};
inline constexpr stead_attr_schema replicated_attributes[]{
    {"dir", STEAD_TYPE_PATH, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0,
     "a directory, the same on both nodes"},
    {"mode", STEAD_TYPE_CHOICE, 0, nullptr, "read_only", nullptr, 0, 0, "read_only: the secondary shows its copy"},
};
inline constexpr stead_attr_schema tocheck_attributes[]{
    {"path", STEAD_TYPE_STRING, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0,
     "must exist below dir, else nothing starts: guards against an empty or wrong disk"},
};
inline constexpr stead_attr_schema notreplicated_attributes[]{
    {"path", STEAD_TYPE_STRING, 0, nullptr, nullptr, nullptr, 0, 0, "below dir; stays on its node, with all below it"},
    {"regexpath", STEAD_TYPE_STRING, 0, nullptr, nullptr, nullptr, 0, 0,
     "POSIX extended regular expression for whole paths below dir"},
};

template <std::size_t N>
constexpr stead_elem_schema element(const char* path, std::uint32_t flags, const stead_attr_schema (&attrs)[N],
                                    const char* help) {
    return {path, "mirror", flags, static_cast<std::uint32_t>(N), attrs, help};
}

inline constexpr std::array schema{
    element("heart", 0, heart_attributes, "how the two nodes watch each other"),
    element("heart/heartbeat", STEAD_ELEM_REPEATABLE, heartbeat_attributes, "a network for heartbeats"),
    element("heart/server", STEAD_ELEM_REPEATABLE, server_attributes, "before 7.2"),
    element("heart/heartbeat/server", STEAD_ELEM_REPEATABLE, server_attributes, "before 7.2"),
    stead_elem_schema{"vip/interface_list/interface/real_interface", "mirror", 0, 0, nullptr,
                      "addresses that only the active node has"},
    element("vip/interface_list/interface/real_interface/virtual_addr", STEAD_ELEM_REPEATABLE, virtual_addr_attributes,
            "a virtual IP"),
    element("rfs", 0, rfs_attributes, "directories that are the same on both nodes"),
    element("rfs/flow", 0, flow_attributes, "network of the replication"),
    element("rfs/replicated", STEAD_ELEM_REPEATABLE, replicated_attributes, "a replicated directory"),
    element("rfs/replicated/tocheck", STEAD_ELEM_REPEATABLE, tocheck_attributes, "a file that must be there"),
    element("rfs/replicated/notreplicated", STEAD_ELEM_REPEATABLE, notreplicated_attributes, "what is left out"),
};

} // namespace stead::mirror
