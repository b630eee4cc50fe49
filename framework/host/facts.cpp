// SPDX-License-Identifier: Apache-2.0
#include "facts.hpp"

#include "generated.hpp"

#include <stead/base/files.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>

namespace stead::host {

namespace {

constexpr std::size_t key_bytes = 32;
constexpr std::size_t seed_bytes = 16;

Result<std::vector<std::string>> local_addresses() {
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) {
        return os_error("getifaddrs", "local addresses cannot be listed", errno);
    }
    std::vector<std::string> all;
    for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
        std::array<char, INET6_ADDRSTRLEN> text{};
        if (one->ifa_addr == nullptr) {
            continue;
        }
        if (one->ifa_addr->sa_family == AF_INET) {
            const auto* four = reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
            all.emplace_back(::inet_ntop(AF_INET, &four->sin_addr, text.data(), text.size()));
        } else if (one->ifa_addr->sa_family == AF_INET6) {
            const auto* six = reinterpret_cast<const sockaddr_in6*>(one->ifa_addr);
            all.emplace_back(::inet_ntop(AF_INET6, &six->sin6_addr, text.data(), text.size()));
        }
    }
    ::freeifaddrs(list);
    return all;
}

std::uint64_t big_endian(std::string_view bytes) {
    std::uint64_t value = 0;
    for (const char byte : bytes.substr(0, 8)) {
        value = value << 8U | static_cast<unsigned char>(byte);
    }
    return value;
}

Result<std::uint32_t> parse_id(std::string_view text, const std::string& where) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.remove_suffix(1);
    }
    std::uint32_t id = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (failed != std::errc{} || end != text.data() + text.size() || id < 1 || id > limits::modules_max) {
        return Error{Errc::malformed, where,
                     "module id '" + std::string{text} + "'; allowed: 1 to " + std::to_string(limits::modules_max)};
    }
    return id;
}

Result<void> read_secrets(Facts& facts) {
    auto keys = read_keys(facts.paths);
    if (!keys) {
        return keys.error();
    }
    facts.keys = std::move(*keys);
    auto seed = read_file(facts.paths.seed(), 4096);
    if (!seed) {
        return Error{seed.error().code, seed.error().where, seed.error().what + "; run: stead cluster config"};
    }
    if (seed->size() != seed_bytes) {
        return Error{Errc::malformed, facts.paths.seed().string(),
                     "a seed of " + std::to_string(seed->size()) + " bytes; allowed: 16 raw bytes"};
    }
    facts.seed_high = big_endian(*seed);
    facts.seed_low = big_endian(std::string_view{*seed}.substr(8));
    return {};
}

Result<void> read_cluster(Facts& facts, bool network) {
    const auto file = facts.paths.active_cluster();
    const auto text = read_file(file, config::file_bytes_max);
    if (!text) {
        return Error{text.error().code, text.error().where, text.error().what + "; run: stead cluster config"};
    }
    auto parsed = config::parse_cluster(*text, file.string());
    if (!parsed.ok()) {
        return Error{Errc::malformed, {}, errors_of(parsed.findings)};
    }
    facts.cluster = std::move(*parsed.value);
    if (!network) {
        return {};
    }
    if (auto resolved = config::resolve(facts.cluster, file.string()); !resolved) {
        return resolved.error();
    }
    const auto local = local_addresses();
    if (!local) {
        return local.error();
    }
    const auto self = config::identify(facts.cluster, *local, file.string());
    if (!self) {
        return self.error();
    }
    facts.self = *self;
    return {};
}

} // namespace

Result<std::uint32_t> read_id(const std::string& module, const control::Paths& paths) {
    const auto file = paths.module_id(module);
    if (auto text = read_file(file, 64)) {
        return parse_id(*text, file.string());
    }
    const auto json_file = paths.active(module) / "module.json";
    const auto text = read_file(json_file, 65536);
    if (!text) {
        return Error{Errc::not_found, file.string(), "the module has no id; run: stead module install -m " + module};
    }
    boost::system::error_code failed;
    const boost::json::value json = boost::json::parse(*text, failed);
    const auto* object = failed ? nullptr : json.if_object();
    const auto* id = object != nullptr ? object->if_contains("id") : nullptr;
    if (id == nullptr || !id->is_int64()) {
        return Error{Errc::malformed, json_file.string(), "no integer \"id\"; run: stead config -m " + module};
    }
    return parse_id(std::to_string(id->as_int64()), json_file.string());
}

Result<std::vector<std::string>> read_keys(const control::Paths& paths) {
    std::vector<std::string> keys;
    for (const auto& file : {paths.key(), paths.next_key()}) {
        auto key = read_file(file, 4096);
        if (!key && file == paths.next_key() && key.error().code == Errc::not_found) {
            continue;
        }
        if (!key) {
            return Error{key.error().code, key.error().where,
                         key.error().what + "; the key comes from `stead cluster genkey`, or from another node"};
        }
        if (key->size() != key_bytes) {
            return Error{Errc::malformed, file.string(),
                         "a key of " + std::to_string(key->size()) + " bytes; allowed: 32 raw bytes"};
        }
        keys.push_back(std::move(*key));
    }
    return keys;
}

config::SchemaSet schema_set(const Registry& registry, const control::Paths& paths) {
    config::SchemaSet set;
    set.owners.push_back({"host", config::host_schema()});
    for (const Plugin& plugin : registry.plugins()) {
        set.owners.push_back({plugin.descriptor.id, plugin.schema()});
    }
    if (auto classic = config::read_classic_elements(paths.classic_elements())) {
        set.classic_elements = std::move(*classic);
    }
    set.plugins_folder = registry.folder().string();
    return set;
}

std::string errors_of(const std::vector<config::Finding>& findings) {
    std::string all;
    for (const config::Finding& finding : findings) {
        if (!finding.warning) {
            all += (all.empty() ? "" : "; ") + finding.text();
        }
    }
    return all;
}

script::ModuleFolders Facts::folders() const {
    script::ModuleFolders folders;
    folders.module = module;
    folders.node = cluster.nodes.empty() ? "" : node();
    folders.mode = config.mode_name();
    folders.module_id = module_id;
    folders.bin = bin();
    std::error_code failed;
    const auto conf = active / "conf";
    folders.conf = std::filesystem::is_directory(conf, failed) ? conf : active;
    folders.var = paths.module_var(module);
    folders.prefix = paths.prefix;
    folders.lua_library = paths.lua();
    folders.vars = config.vars;
    folders.macros = config.macros;
    return folders;
}

RuleFiles Facts::rule_files() const {
    return {.defaults = paths.lua() / "rules/default.lua",
            .conf = active / "conf",
            .bin = bin(),
            .userconfig = (active / "conf/userconfig.xml").string()};
}

namespace {

/// A start asks no name service: names stand for what they stood for when `config` ran.
config::Resolver kept_addresses(const std::filesystem::path& active) {
    return [active](const std::string& name) -> Result<std::vector<std::string>> {
        const auto text = read_file(active / "module.json", 65536);
        boost::system::error_code failed;
        const boost::json::value json = boost::json::parse(text ? *text : "{}", failed);
        const auto* kept = failed ? nullptr : json.find_pointer("/addresses/" + name, failed);
        if (kept == nullptr || !kept->is_string()) {
            return Error{Errc::not_found, {}, "the name '" + name + "' has no address here; run: stead config"};
        }
        return std::vector<std::string>{std::string{kept->get_string()}};
    };
}

} // namespace

config::Checked<config::Module> read_config(const Facts& facts) {
    const auto file = facts.active / "conf" / "userconfig.xml";
    const auto text = read_file(file, config::file_bytes_max);
    if (!text) {
        config::Checked<config::Module> missing;
        missing.findings.push_back({.warning = false,
                                    .file = file.string(),
                                    .line = 0,
                                    .message = text.error().what + "; run: stead config -m " + facts.module});
        return missing;
    }
    const config::Surroundings surroundings{facts.cluster.nodes.empty() ? nullptr : &facts.cluster,
                                            kept_addresses(facts.active)};
    auto parsed = config::parse_module(*text, file.string(), facts.schemas, surroundings);
    const auto interfaces = parsed.ok() ? net::interfaces() : Result<std::vector<net::Interface>>{};
    if (parsed.ok() && interfaces) {
        for (std::string& problem : generate_checks(*parsed.value, facts.schemas, *interfaces)) {
            parsed.findings.push_back(
                {.warning = true, .file = file.string(), .line = 0, .message = std::move(problem)});
        }
    }
    return parsed;
}

std::vector<config::Finding> unsupported(const config::Module& module, const Registry& registry) {
    std::vector<config::Finding> findings;
    const auto refuse = [&](std::string message) {
        findings.push_back(
            {.warning = false, .file = "userconfig.xml", .line = module.service.line, .message = std::move(message)});
    };
    const std::string_view mode = module.mode_name();
    const auto serves = [&](const Plugin& plugin) {
        return plugin.descriptor.kind == STEAD_KIND_SERVICE &&
               std::ranges::any_of(plugin.schema(), [&](const stead_elem_schema& element) {
                   return element.modes != nullptr &&
                          ("|" + std::string{element.modes} + "|").find("|" + std::string{mode} + "|") !=
                              std::string::npos;
               });
    };
    if (module.mode != config::Module::Mode::light && std::ranges::none_of(registry.plugins(), serves)) {
        refuse("service/@mode: no plugin in " + registry.folder().string() + " serves mode '" + std::string{mode} +
               "'; install the " + std::string{mode} + " plugin there, or choose another mode");
    }
    if (module.settings.automatic_reboot && module.settings.loop_interval == nanoseconds{0}) {
        refuse(
            "service/@automatic_reboot: 'on' with loop_interval 0, which switches the loop guard off: the server might "
            "reboot again and again; allowed: off, or a loop_interval above 0");
    }
    return findings;
}

Result<Facts> read_facts(const std::string& module, const control::Paths& paths, const Registry& registry, bool network,
                         const std::filesystem::path& active) {
    Facts facts;
    facts.module = module;
    facts.active = active.empty() ? paths.active(module) : active;
    facts.paths = paths;
    facts.schemas = schema_set(registry, paths);
    auto id = read_id(module, paths);
    if (!id) {
        return id.error();
    }
    facts.module_id = *id;
    std::error_code failed;
    const bool alone = !network && !std::filesystem::exists(paths.active_cluster(), failed); // hooks may come first
    if (auto read = alone ? Result<void>{} : read_cluster(facts, network); !read) {
        return read.error();
    }
    auto parsed = read_config(facts);
    if (!parsed.ok()) {
        return Error{Errc::malformed, {}, errors_of(parsed.findings)};
    }
    if (const std::string refused = errors_of(unsupported(*parsed.value, registry)); network && !refused.empty()) {
        return Error{Errc::unsupported, {}, refused};
    }
    facts.config = std::move(*parsed.value);
    facts.warnings = std::move(parsed.findings);
    facts.rules = read_rules(facts.config, facts.rule_files());
    if (const std::string wrong = errors_of(facts.rules.findings); !wrong.empty()) {
        return Error{Errc::malformed, {}, wrong};
    }
    if (network) {
        if (auto read = read_secrets(facts); !read) {
            return read.error();
        }
    }
    return facts;
}

namespace {

Result<membership::Timing> timing_for(const config::Cluster& cluster, const stead_bus_wish& wish) {
    std::string profile = wish.profile.size > 0 ? std::string{wish.profile.data, wish.profile.size} : std::string{};
    const auto classic = [](nanoseconds pulse, unsigned slost_count) {
        return membership::classic_timing(pulse, slost_count);
    };
    if (wish.pulse_ns > 0) {
        auto timing = classic(nanoseconds{static_cast<std::int64_t>(wish.pulse_ns)},
                              wish.slost_count > 0 ? wish.slost_count : 10);
        const nanoseconds lease{static_cast<std::int64_t>(wish.lease_ns)};
        timing.lease = lease > nanoseconds{0} ? std::min(lease, timing.lease) : timing.lease;
        return timing;
    }
    if (profile.empty() && cluster.pulse) {
        return classic(*cluster.pulse, cluster.slost_count.value_or(10));
    }
    if (profile.empty()) {
        profile = cluster.profile.value_or("default");
    }
    if (profile == "fast") {
        return membership::fast_timing();
    }
    if (profile == "default") {
        return membership::default_timing();
    }
    if (profile == "safe") {
        return membership::safe_timing();
    }
    return Error{Errc::out_of_range, "profile", "'" + profile + "'; allowed: fast, default, safe"};
}

Result<stead_bus_wish> wish_of(const Facts& facts, const Registry& registry, std::optional<config::CTree>& keep_alive) {
    stead_bus_wish wish{};
    for (const Plugin& plugin : registry.plugins()) {
        if (plugin.descriptor.bus_wish == nullptr || !facts.config.uses(facts.schemas, plugin.descriptor.id)) {
            continue;
        }
        if (wish.struct_size != 0) {
            return Error{Errc::conflict, plugin.descriptor.id, "a second plugin wants to shape the module's bus"};
        }
        keep_alive.emplace(facts.config.part_for(facts.schemas, plugin.descriptor.id));
        wish.struct_size = sizeof wish;
        std::array<char, 512> err{};
        if (plugin.descriptor.bus_wish(keep_alive->root(), &wish, err.data(), err.size()) != 0) {
            return Error{Errc::refused, plugin.descriptor.id, err.data()};
        }
    }
    return wish;
}

/// Of a timing that the module has for itself: one node's lease is safe only with the same takeover on the others.
/// cluster.xml's own is in its digest already.
std::uint64_t timing_digest(const membership::Timing& timing, const stead_bus_wish& wish) {
    if (wish.pulse_ns == 0 && wish.profile.size == 0) {
        return 0;
    }
    std::uint64_t hash = 0xcbf29ce484222325u; // FNV-1a, of words
    for (const nanoseconds length : {timing.period, timing.suspect, timing.lease, timing.takeover}) {
        hash = (hash ^ static_cast<std::uint64_t>(length.count())) * 0x100000001b3u;
    }
    return hash;
}

/// The node that decides between two halves of the others, and so is none of them.
Result<void> take_witness(const Facts& facts, const stead_bus_wish& wish, bus::BusOptions& options) {
    if (options.partition != membership::Options::Partition::witness) {
        return {};
    }
    const std::string name{wish.witness.data, wish.witness.size};
    const std::optional<NodeId> witness = facts.cluster.find(name);
    if (!witness) {
        return Error{Errc::not_found, "witness '" + name + "'", "is no node of cluster.xml"};
    }
    if (*witness == facts.self) {
        return Error{Errc::refused, facts.node(),
                     "this node is the witness of the farm, which decides between two halves of the others: it cannot "
                     "serve in it; name another node in farm/@witness, or run the module elsewhere"};
    }
    options.nodes.erase(*witness);
    options.witness = name;
    return {};
}

} // namespace

Result<bus::BusOptions> bus_options(const Facts& facts, const Registry& registry) {
    std::optional<config::CTree> keep_alive; // the wish points into it
    const auto wish = wish_of(facts, registry, keep_alive);
    if (!wish) {
        return wish.error();
    }
    const auto timing = timing_for(facts.cluster, *wish);
    if (!timing) {
        return timing.error();
    }
    bus::BusOptions options;
    options.group = GroupId(facts.module_id);
    options.self = facts.self;
    options.node_names = facts.cluster.nodes;
    options.keys = facts.keys;
    options.cluster_id = facts.cluster.digest;
    options.timing = *timing;
    options.config = timing_digest(*timing, *wish);
    options.partition = static_cast<membership::Options::Partition>(std::min(wish->partition, 2U));
    const std::uint32_t base = wish->port_base != 0 ? wish->port_base : 4803;
    const std::uint32_t step = wish->port_base != 0 ? wish->port_step : 3;
    options.port = static_cast<std::uint16_t>(wish->port != 0 ? wish->port : base + (facts.module_id - 1) * step);
    std::vector<std::size_t> lans;
    for (std::uint32_t i = 0; i < std::min(wish->lan_count, STEAD_LANS_MAX); ++i) {
        const std::string name{wish->lans[i].data, wish->lans[i].size};
        const auto lan = facts.cluster.find_lan(name);
        if (!lan) {
            return Error{Errc::not_found, "lan '" + name + "'", "cluster.xml has no LAN of that name"};
        }
        lans.push_back(index(*lan));
    }
    for (std::size_t i = 0; lans.size() < facts.cluster.lans.size() && wish->lan_count == 0; ++i) {
        lans.push_back(i);
    }
    for (const std::size_t lan : lans) {
        const config::ClusterLan& from = facts.cluster.lans[lan];
        bus::LanOptions to;
        to.name = from.name;
        to.addresses = from.addresses;
        const std::string& local = from.local_addresses[index(facts.self)];
        to.local_address = local.empty() ? from.addresses[index(facts.self)] : local;
        for (std::size_t node = 0; node < from.addresses.size(); ++node) {
            if (!from.addresses[node].empty()) {
                options.nodes.insert(NodeId(node));
            }
        }
        if (!to.local_address.empty()) {
            options.lans.push_back(std::move(to));
        }
    }
    if (auto named = take_witness(facts, *wish, options); !named) {
        return named.error();
    }
    if (options.lans.empty()) {
        return Error{Errc::not_found, facts.node(), "this node is on none of the module's LANs"};
    }
    return options;
}

std::vector<std::string> heartbeat_resources(const config::Module& module, const std::vector<bus::LanOptions>& lans) {
    const config::Element* heart = module.service.child("heart");
    std::vector<std::string> names;
    for (const bus::LanOptions& lan : lans) {
        std::string ident = lan.name;
        for (const config::Element& beat : heart != nullptr ? heart->children : std::vector<config::Element>{}) {
            if (beat.name == "heartbeat" && beat.attribute("name") == lan.name) {
                ident = beat.attribute("ident").value_or(lan.name);
            }
        }
        names.push_back("heartbeat." + ident);
    }
    return names;
}

} // namespace stead::host
