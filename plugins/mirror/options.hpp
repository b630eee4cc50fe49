// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>
#include <stead/mirror/crontab.hpp>
#include <stead/mirror/settings.hpp>
#include <stead/plugin.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace stead::mirror {

/// A mirror's configuration as plain values.
struct MirrorOptions {
    struct Vip {
        std::string interface; ///< empty: the one that carries the subnet
        std::string address;
        nanoseconds announce_interval{seconds{60}};
    };
    std::vector<Vip> vips;
    bool tcp_reset{true};
    bool failover{true};
    std::string default_prim{"alone"}; ///< "alone", "lastprim" or a node
    std::uint32_t heart_port{};        ///< 0 = from the module id
    nanoseconds pulse{milliseconds{100}}, timeout{seconds{2}};
    std::vector<std::string> lans;             ///< of heartbeats; empty = all
    std::map<std::string, std::string> idents; ///< of their resources, by lan; one that is not there: its name
    std::string flow_lan;                      ///< of the replication; empty = the first heartbeat's
    std::uint32_t stream_port{};               ///< 0 = from the module id
    bool replicates{};                         ///< there is an <rfs>
    std::vector<ReplicatedDirectory> directories;
    Ack ack{Ack::apply};
    bool intent{}, acl{true};
    std::uint32_t readers{6};
    std::uint64_t resync_bytes_per_second{};
    nanoseconds slow_peer{seconds{10}};
    std::optional<Crontab> sync_at;   ///< when a node that is behind is let in; none: always
    std::optional<Crontab> verify_at; ///< when a primary compares both copies
    nanoseconds sync_delta{};         ///< how old a copy may be that an isolated node serves; up to a minute: never

    std::string sync_at_text; ///< as it is written
    /// What must be equal on both nodes.
    [[nodiscard]] std::uint64_t digest() const;
    /// What should be equal, or the nodes behave differently after a failover: by attribute.
    [[nodiscard]] std::map<std::string, std::string> alike() const;
};

/// Called for each finding: line, warning (else error), text.
using Finding = std::function<void(std::uint32_t line, bool warning, const std::string& text)>;
[[nodiscard]] MirrorOptions read_options(const plugin::Config& service, const Finding& finding);
/// What read_options cannot know: whether this node has something else where a replicated directory is to be.
void check_places(const plugin::Config& service, const Finding& finding);

} // namespace stead::mirror
