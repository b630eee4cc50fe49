// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>
#include <stead/mirror/types.hpp>

#include <boost/json/object.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// What stead-fs is told at its start, as one JSON object.
namespace stead::mirror {

struct ReplicatedDirectory {
    std::string path;
    std::string hidden_suffix;
    bool read_only{};                  ///< the secondary shows it, read-only
    std::vector<std::string> to_check; ///< must exist when this node has data
    std::vector<std::string> excluded, excluded_regex;
};

/// Of stead-fs, when it has said why in a message "failed".
constexpr int exit_cannot_start = 2, exit_gave_up = 3;

constexpr std::uint32_t readers_max = 16; ///< of Settings::readers

/// How the text begins with which a comparison that found differences is answered.
inline constexpr std::string_view copies_differ = "the copies differ";

struct Settings {
    std::string module;
    std::uint8_t node{};      ///< index of this node in the cluster
    std::string state_folder; ///< record, change log, undo log
    std::vector<ReplicatedDirectory> directories;
    Ack ack{Ack::apply};
    bool intent_log{}, witness{}, probe_vip{}, failover{true}, acl{true};
    bool note_sent{};              ///< what resyncs sent is compared before the role goes back
    std::string local_address;     ///< of this node, for the stream
    std::uint16_t port{};          ///< TCP, of both nodes
    std::vector<std::string> keys; ///< 32 bytes each
    nanoseconds slow_peer{seconds{10}};
    nanoseconds heard_for{seconds{2}}; ///< how long a node that died silently still counts as heard
    nanoseconds checkpoint_every{seconds{30}};
    std::uint64_t resync_bytes_per_second{}; ///< 0 = no cap
    std::uint32_t readers{6};                ///< 1 to readers_max; copies of a resync under way at once, times 4
    bool batch{};                            ///< as a target it waits until it is let in, and leaves once equal
    bool peer_heard{};                       ///< the bus hears the peer as stead-fs starts
    bool full_sync{};                        ///< compare everything at the next handshake
};

[[nodiscard]] boost::json::object to_json(const Settings& settings);
[[nodiscard]] Settings settings_from(const boost::json::object& object);

} // namespace stead::mirror
