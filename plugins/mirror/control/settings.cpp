// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/channel.hpp>
#include <stead/mirror/settings.hpp>

#include <boost/json/array.hpp>

namespace stead::mirror {
namespace json = boost::json;
namespace {

json::array to_array(const std::vector<std::string>& texts) {
    json::array array;
    for (const std::string& text : texts) {
        array.emplace_back(text);
    }
    return array;
}

std::vector<std::string> texts_of(const json::object& object, std::string_view name) {
    std::vector<std::string> result;
    if (const json::value* value = object.if_contains(name); value != nullptr && value->is_array()) {
        for (const json::value& one : value->get_array()) {
            if (one.is_string()) {
                result.emplace_back(one.get_string());
            }
        }
    }
    return result;
}

} // namespace

json::object to_json(const Settings& s) {
    json::array directories;
    for (const ReplicatedDirectory& d : s.directories) {
        directories.push_back(json::object{{"path", d.path},
                                           {"hidden_suffix", d.hidden_suffix},
                                           {"read_only", d.read_only},
                                           {"to_check", to_array(d.to_check)},
                                           {"excluded", to_array(d.excluded)},
                                           {"excluded_regex", to_array(d.excluded_regex)}});
    }
    json::array keys;
    for (const std::string& key : s.keys) {
        keys.emplace_back(to_hex(key));
    }
    return {{"do", "start"},
            {"module", s.module},
            {"node", s.node},
            {"state_folder", s.state_folder},
            {"directories", std::move(directories)},
            {"ack", static_cast<int>(s.ack)},
            {"intent_log", s.intent_log},
            {"witness", s.witness},
            {"probe_vip", s.probe_vip},
            {"failover", s.failover},
            {"note_sent", s.note_sent},
            {"acl", s.acl},
            {"local_address", s.local_address},
            {"port", s.port},
            {"keys", std::move(keys)},
            {"slow_peer_ns", s.slow_peer.count()},
            {"heard_for_ns", s.heard_for.count()},
            {"checkpoint_every_ns", s.checkpoint_every.count()},
            {"resync_bytes_per_second", s.resync_bytes_per_second},
            {"readers", s.readers},
            {"batch", s.batch},
            {"peer_heard", s.peer_heard},
            {"full_sync", s.full_sync}};
}

Settings settings_from(const json::object& object) {
    Settings s;
    s.module = text_of(object, "module");
    s.node = static_cast<std::uint8_t>(number_of(object, "node"));
    s.state_folder = text_of(object, "state_folder");
    if (const json::value* value = object.if_contains("directories"); value != nullptr && value->is_array()) {
        for (const json::value& one : value->get_array()) {
            if (one.is_object()) {
                const json::object& d = one.get_object();
                s.directories.push_back({text_of(d, "path"), text_of(d, "hidden_suffix"), flag_of(d, "read_only"),
                                         texts_of(d, "to_check"), texts_of(d, "excluded"),
                                         texts_of(d, "excluded_regex")});
            }
        }
    }
    s.ack = static_cast<Ack>(number_of(object, "ack"));
    s.intent_log = flag_of(object, "intent_log");
    s.witness = flag_of(object, "witness");
    s.probe_vip = flag_of(object, "probe_vip");
    s.failover = flag_of(object, "failover");
    s.note_sent = flag_of(object, "note_sent");
    s.acl = flag_of(object, "acl");
    s.local_address = text_of(object, "local_address");
    s.port = static_cast<std::uint16_t>(number_of(object, "port"));
    for (const std::string& key : texts_of(object, "keys")) {
        s.keys.push_back(from_hex(key));
    }
    s.slow_peer = nanoseconds{number_of(object, "slow_peer_ns", s.slow_peer.count())};
    s.heard_for = nanoseconds{number_of(object, "heard_for_ns", s.heard_for.count())};
    s.checkpoint_every = nanoseconds{number_of(object, "checkpoint_every_ns", s.checkpoint_every.count())};
    s.resync_bytes_per_second = static_cast<std::uint64_t>(number_of(object, "resync_bytes_per_second"));
    s.readers = static_cast<std::uint32_t>(number_of(object, "readers", s.readers));
    s.batch = flag_of(object, "batch");
    s.peer_heard = flag_of(object, "peer_heard");
    s.full_sync = flag_of(object, "full_sync");
    return s;
}

} // namespace stead::mirror
