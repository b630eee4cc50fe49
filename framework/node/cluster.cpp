// SPDX-License-Identifier: Apache-2.0
#include "value_or.hpp"

#include <stead/node/cluster.hpp>

#include <stead/base/files.hpp>
#include <stead/base/log.hpp>
#include <stead/wire/keys.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

namespace stead::node {
namespace fs = std::filesystem;
namespace json = boost::json;
namespace {

constexpr std::size_t xml_bytes_max = 4u << 20;
constexpr std::size_t seed_bytes = 16;

fs::path resolved_file(const control::Paths& paths) { return paths.var / "cluster/resolved.json"; }

std::string digest_text(std::uint64_t digest) {
    std::array<char, 17> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(digest));
    return text.data();
}

json::array strings(const std::vector<std::string>& list) {
    json::array array;
    for (const std::string& text : list) {
        array.emplace_back(text);
    }
    return array;
}

/// A start needs no name service: addresses as they were when `cluster config` ran.
bool use_kept_addresses(config::Cluster& cluster, const fs::path& file) {
    json::error_code error;
    const json::value kept = json::parse(value_or(read_file(file, xml_bytes_max), std::string{}), error);
    const json::object* object = !error ? kept.if_object() : nullptr;
    const json::value* digest = object != nullptr ? object->if_contains("digest") : nullptr;
    const json::value* lans = object != nullptr ? object->if_contains("lans") : nullptr;
    if (digest == nullptr || lans == nullptr || *digest != json::value(digest_text(cluster.digest)) ||
        !lans->is_array() || lans->get_array().size() != cluster.lans.size()) {
        return false;
    }
    const auto restore = [](const json::value* from, std::vector<std::string>& to) {
        if (from == nullptr || !from->is_array() || from->get_array().size() != to.size()) {
            return false;
        }
        for (std::size_t i = 0; i < to.size(); ++i) {
            const json::value& value = from->get_array()[i];
            if (!value.is_string()) {
                return false;
            }
            to[i] = std::string(value.get_string());
        }
        return true;
    };
    config::Cluster copy = cluster;
    for (std::size_t i = 0; i < copy.lans.size(); ++i) {
        const json::object* lan = lans->get_array()[i].if_object();
        if (lan == nullptr || !restore(lan->if_contains("addresses"), copy.lans[i].addresses) ||
            !restore(lan->if_contains("local"), copy.lans[i].local_addresses)) {
            return false;
        }
    }
    cluster = std::move(copy);
    return true;
}

Result<void> keep_addresses(const config::Cluster& cluster, const fs::path& file) {
    json::array lans;
    for (const config::ClusterLan& lan : cluster.lans) {
        lans.push_back(json::object{{"addresses", strings(lan.addresses)}, {"local", strings(lan.local_addresses)}});
    }
    return write_file_atomically(
        file, json::serialize(json::object{{"digest", digest_text(cluster.digest)}, {"lans", std::move(lans)}}));
}

struct Parsed {
    config::Cluster cluster;
    std::vector<config::Finding> warnings;
};

Result<Parsed> parse(const std::string& xml, const std::string& file_name) {
    config::Checked<config::Cluster> checked = config::parse_cluster(xml, file_name);
    if (!checked.ok()) {
        return Error{Errc::malformed, "", findings_text(checked.findings)};
    }
    return Parsed{std::move(*checked.value), std::move(checked.findings)};
}

Result<ActiveCluster> identify(Parsed parsed, const std::string& file_name) {
    const Result<std::vector<std::string>> local = local_addresses();
    if (!local) {
        return local.error();
    }
    const Result<NodeId> self = config::identify(parsed.cluster, *local, file_name);
    if (!self) {
        return self.error();
    }
    return ActiveCluster{std::move(parsed.cluster), *self, {}, std::move(parsed.warnings)};
}

Result<void> make_key(const fs::path& file) {
    std::array<char, wire::cluster_key_bytes> key{};
    if (::getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size())) {
        return os_error("getrandom", "no random bytes", errno);
    }
    log::event("cluster", "made a new cluster key, " + file.string() + "; copy it to the other nodes");
    return write_file_atomically(file, std::string_view(key.data(), key.size()), 0600);
}

std::string seed_from(const std::string& key) {
    const wire::DerivedKey seed = wire::derive("stead", key, "farm table seed");
    return {reinterpret_cast<const char*>(seed.data()), seed_bytes};
}

Result<void> ensure_secrets(const control::Paths& paths) {
    std::error_code error;
    fs::create_directories(paths.etc, error);
    fs::create_directories(paths.seed().parent_path(), error);
    if (!fs::exists(paths.key(), error)) {
        if (Result<void> made = make_key(paths.key()); !made) {
            return made;
        }
    }
    const Result<std::vector<std::string>> keys = read_keys(paths);
    if (!keys) {
        return keys.error();
    }
    if (fs::exists(paths.seed(), error)) {
        return {};
    }
    // Derived, so that nodes that were given the same key agree without talking; kept, so that a new key changes
    // nothing.
    return write_file_atomically(paths.seed(), seed_from((*keys)[0]), 0600);
}

} // namespace

bool seed_is_derived(const control::Paths& paths, const std::string& key) {
    return value_or(read_file(paths.seed(), 4096), std::string{}) == seed_from(key);
}

std::string findings_text(const std::vector<config::Finding>& findings) {
    std::string text;
    for (const config::Finding& finding : findings) {
        text.append(text.empty() ? "" : "\n").append(finding.warning ? "warning: " : "").append(finding.text());
    }
    return text;
}

Result<std::vector<std::string>> local_addresses() {
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) {
        return os_error("getifaddrs", "cannot list local addresses", errno);
    }
    std::vector<std::string> addresses;
    for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
        if (entry->ifa_addr == nullptr) {
            continue;
        }
        std::array<char, INET6_ADDRSTRLEN> text{};
        const int family = entry->ifa_addr->sa_family;
        const void* address =
            family == AF_INET ? static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(entry->ifa_addr)->sin_addr)
            : family == AF_INET6
                ? static_cast<const void*>(&reinterpret_cast<sockaddr_in6*>(entry->ifa_addr)->sin6_addr)
                : nullptr;
        if (address != nullptr && ::inet_ntop(family, address, text.data(), text.size()) != nullptr) {
            addresses.emplace_back(text.data());
        }
    }
    ::freeifaddrs(list);
    return addresses;
}

Result<std::vector<std::string>> read_keys(const control::Paths& paths) {
    std::vector<std::string> keys;
    for (const fs::path& file : {paths.key(), paths.next_key()}) {
        Result<std::string> key = read_file(file, 4096);
        if (!key) {
            if (key.error().code == Errc::not_found && !keys.empty()) {
                continue;
            }
            if (key.error().code == Errc::not_found) {
                return Error{
                    Errc::not_found, file.string(),
                    "there is no cluster key; 'stead cluster genkey' makes one on the first node, then copy it "
                    "to the others"};
            }
            return key.error();
        }
        if (key->size() != wire::cluster_key_bytes) {
            return Error{Errc::malformed, file.string(),
                         std::to_string(key->size()) + " bytes; a key has exactly 32 raw bytes"};
        }
        struct stat info {};
        if (::stat(file.c_str(), &info) == 0 && (info.st_mode & 077) != 0) {
            log::warning("cluster", file.string() + " can be read by others; run: chmod 600 " + file.string());
        }
        keys.push_back(std::move(*key));
    }
    return keys;
}

Result<ActiveCluster> check_cluster(const std::string& xml, const std::string& file_name) {
    Result<Parsed> parsed = parse(xml, file_name);
    if (!parsed) {
        return parsed.error();
    }
    if (Result<void> resolved = config::resolve(parsed->cluster, file_name); !resolved) {
        return resolved.error();
    }
    return identify(std::move(*parsed), file_name);
}

Result<ActiveCluster> load_cluster(const control::Paths& paths) {
    const fs::path file = paths.active_cluster();
    const Result<std::string> xml = read_file(file, xml_bytes_max);
    if (!xml && xml.error().code != Errc::not_found) {
        return xml.error();
    }
    std::error_code ignored;
    if (!xml && fs::exists(paths.left_cluster(), ignored)) {
        return Error{Errc::not_found, paths.edited_cluster().string(),
                     "this node has left its cluster; 'stead cluster config' applies this file again"};
    }
    if (!xml) {
        const Result<std::string> edited = read_file(paths.edited_cluster(), xml_bytes_max);
        if (!edited) {
            return Error{Errc::not_found, paths.edited_cluster().string(),
                         "this node belongs to no cluster yet; write this file, then run 'stead cluster config'"};
        }
        return apply_cluster(paths, *edited, paths.edited_cluster().string());
    }
    Result<Parsed> parsed = parse(*xml, file.string());
    if (!parsed) {
        return parsed.error();
    }
    if (!use_kept_addresses(parsed->cluster, resolved_file(paths))) {
        if (Result<void> resolved = config::resolve(parsed->cluster, file.string()); !resolved) {
            return resolved.error();
        }
    }
    Result<ActiveCluster> active = identify(std::move(*parsed), file.string());
    Result<std::vector<std::string>> keys = read_keys(paths);
    if (!active || !keys) {
        return active ? keys.error() : active.error();
    }
    active->keys = std::move(*keys);
    return active;
}

Result<ActiveCluster> apply_cluster(const control::Paths& paths, const std::string& xml, const std::string& file_name) {
    Result<ActiveCluster> active = check_cluster(xml, file_name);
    if (!active) {
        return active;
    }
    if (Result<void> secrets = ensure_secrets(paths); !secrets) {
        return secrets.error();
    }
    Result<std::vector<std::string>> keys = read_keys(paths);
    if (!keys) {
        return keys.error();
    }
    active->keys = std::move(*keys);
    if (Result<void> kept = keep_addresses(active->cluster, resolved_file(paths)); !kept) {
        return kept.error();
    }
    if (Result<void> written = write_file_atomically(paths.active_cluster(), xml); !written) {
        return written.error();
    }
    std::error_code ignored;
    fs::remove(paths.left_cluster(), ignored); // means nothing beside an active file
    return active;
}

Result<void> forget_cluster(const control::Paths& paths) {
    if (Result<void> marked = write_file_atomically(paths.left_cluster(), "\n"); !marked) {
        return marked;
    }
    // The seed is that of the first key here; with the next one the node asks its cluster.
    for (const fs::path& file : {resolved_file(paths), paths.seed(), paths.active_cluster()}) {
        std::error_code error;
        fs::remove(file, error);
        if (error) {
            return os_error(file.string(), "cannot be removed", error.value());
        }
    }
    return sync_folder(paths.active_cluster().parent_path());
}

std::vector<std::string> ActiveCluster::addresses_of(NodeId node) const {
    std::vector<std::string> addresses;
    const auto add = [&](const config::ClusterLan& lan) {
        if (!lan.addresses[index(node)].empty()) {
            addresses.push_back(lan.addresses[index(node)]);
        }
    };
    add(cluster.lans[cluster.command_lan]);
    for (std::size_t i = 0; i < cluster.lans.size(); ++i) {
        if (i != cluster.command_lan) {
            add(cluster.lans[i]);
        }
    }
    return addresses;
}

std::vector<std::string> ActiveCluster::own_addresses() const {
    std::vector<std::string> addresses;
    for (const config::ClusterLan& lan : cluster.lans) {
        const std::string& local = lan.local_addresses[index(self)];
        const std::string& address = local.empty() ? lan.addresses[index(self)] : local;
        if (!address.empty() && std::find(addresses.begin(), addresses.end(), address) == addresses.end()) {
            addresses.push_back(address);
        }
    }
    return addresses;
}

bus::BusOptions ActiveCluster::bus_options() const {
    bus::BusOptions options;
    options.group = node_group;
    options.self = self;
    options.node_names = cluster.nodes;
    for (std::size_t i = 0; i < cluster.nodes.size(); ++i) {
        options.nodes.insert(NodeId(i));
    }
    for (const config::ClusterLan& lan : cluster.lans) {
        const std::string& local = lan.local_addresses[index(self)];
        options.lans.push_back({lan.name, "", lan.addresses, local.empty() ? lan.addresses[index(self)] : local});
    }
    options.port = cluster.port;
    options.keys = keys;
    options.cluster_id = cluster.digest;
    options.timing = cluster.profile == "fast"   ? membership::fast_timing()
                     : cluster.profile == "safe" ? membership::safe_timing()
                     : cluster.pulse && !cluster.profile
                         ? membership::classic_timing(*cluster.pulse, cluster.slost_count.value_or(10))
                         : membership::default_timing();
    options.realtime = false; // nobody's traffic depends on the node group
    return options;
}

} // namespace stead::node
