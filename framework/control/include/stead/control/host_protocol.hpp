// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

/// What steadd and stead-host say to each other on /run/stead/host/<AM>.sock (frames of channel.hpp). The host serves;
/// any number of connections. Hosts outlive steadd, also over an upgrade: fields are added, never changed.
///
/// Request   {"id":7, "verb":"stop", …}
/// Answer    {"id":7, "ok":true, …}   or   {"id":7, "ok":false, "code":"refused", "error":"text for a person"}
/// Events, to every connection that said hello:
///   {"event":"state", "state":"UP", "qualifier":"Ready", "reason":"", "started":"1764172800000000"}
///       `started` is a stamp of the last start of the application; a farm that is UP has also "share":"33%", of groups
///       that differ "25%..50%"
///   {"event":"witness", "question":3, "node":"node3", "key":"claim", "counter":"17", "holder":0, "timeout_ms":2000}
///       a claim for the steadd of that node to decide; the request "witness" brings the answer
///   {"event":"claim", …}
///       the same with "holder" and "nodes" (a bit each) as text: of several nodes together. Counter "0" only asks
///   {"event":"finished", "exit":75}
///       last, before the host exits with that code: for a steadd that adopted it
///
/// | verb      | fields                                        | answer |
/// |-----------|-----------------------------------------------|--------|
/// | hello     | version                                       | version, module, pid, session (32 hex digits of its |
/// |           |                                               | bus), config (hex), state, qualifier, reason; with |
/// |           |                                               | the lease descriptors, one page each |
/// | state     | verbose (bool)                                | state, qualifier, reason; verbose: "resources": |
/// |           |                                               | [{"node","name","value"}], "view":{"epoch","id", |
/// |           |                                               | "members":[names]}, "notes":[lines], "counters":{…} |
/// | start     | by                                            | start again from STOP, when the host still runs |
/// | stop      | force (bool), by, automatic (bool)            | when STOP is reached; the host then exits 0 |
/// | restart   | by, automatic                                 | when accepted |
/// | stopstart | by, automatic                                 | when accepted |
/// | set       | resource, value, by, silent, log              | - |
/// | get       | resource                                      | value |
/// | command   | command, argv, by, automatic                  | text, of the plugin that owns the command ("power", |
/// |           |                                               | "swap"); may take as long as the plugin likes |
/// | update    | -                                             | text: what was changed; refused when it cannot be |
/// | loop      | op: inc, check, reset                         | reached (bool) |
/// | switch    | name: failover, checker, errd; argv: on, off; | text |
/// |           | errd: list, enable CLASS, disable CLASS; by   | |
/// | peer_died | node, session                                 | - |
/// | peer_past | node, session (zeros: none runs): no other    | - |
/// |           | session of that node can act any more         | |
/// | rekey     | -                                             | - : cluster.key and cluster.key.next are read again |
/// |           |                                               | and given to the bus; refused says why not |
/// | witness   | question; verdict: granted, refused,          | - : the answer to the event "witness" or "claim" |
/// |           | unanswered; why; counter, holder, nodes:      | |
/// |           | what is held, as text                         | |
/// | print     | level: i, w, e; text; by                      | - |
/// | dump      | -                                             | everything, for support |
///
/// `automatic` is true when the caller gave -i: it counts in maxloop.
namespace stead::control::host_protocol {

inline constexpr std::int64_t version = 1;

/// What a host writes into its lock file: whether each host before it is known to act no more. steadd empties the file
/// when this one does not, and tells the other nodes what the file says.
inline constexpr std::string_view past_over = "past over\n", past_unknown = "past unknown\n";

/// Exit codes of stead-host.
inline constexpr int exit_stopped = 0;
inline constexpr int exit_start_again = 75; ///< start me again at once; not counted as a death
inline constexpr int exit_reboot = 76;      ///< reboot the server; start me again when that cannot be done

} // namespace stead::control::host_protocol
