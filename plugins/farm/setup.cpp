// SPDX-License-Identifier: Apache-2.0
// What happens without a running instance, or before there is one.
#include "plugin.hpp"

#include "schema.hpp"

#include <algorithm>
#include <stdexcept>

namespace stead::farm {
namespace {

constexpr std::uint64_t ns_per_ms = 1'000'000;

Mover::Options mover_options(const plugin::Host& host, const FarmOptions& options) {
    Mover::Options result;
    result.self = NodeId(host.self());
    result.seed = host.seed();
    result.groups = options.groups.size();
    result.duplicate_window = 2 * options.period;
    result.movecap = options.movecap;
    return result;
}

FarmOptions read_checked(const plugin::Config& config) {
    return read_options(config, [](std::uint32_t line, bool warning, const std::string& text) {
        if (!warning) {
            throw std::runtime_error("line " + std::to_string(line) + ": " + text);
        }
    });
}

/// Places of the addresses that are not external, in configuration order, as the filter numbers them.
std::vector<shim::Rule> filter_rules(const FarmOptions& options, const std::vector<Network::Place>& places) {
    std::vector<shim::Rule> rules;
    for (std::size_t group = 0; group < options.groups.size(); ++group) {
        for (const auto& rule : options.groups[group].rules) {
            if (rule.arp) {
                continue;
            }
            shim::Rule out{std::nullopt, rule.protocol, rule.port,
                           rule.key,     rule.track,    static_cast<std::uint8_t>(group)};
            for (std::size_t i = 0; rule.address && i < places.size(); ++i) {
                if (places[i].vip.address == *rule.address) {
                    out.vip = i;
                }
            }
            rules.push_back(out);
        }
    }
    return rules;
}

std::unique_ptr<shim::PacketFilter> open_filter(plugin::Host& host, const FarmOptions& options,
                                                const Network& network) {
    if (network.places().empty()) {
        return nullptr; // type="external"
    }
    shim::FilterOptions filter;
    filter.module_id = static_cast<std::uint8_t>(host.module_id());
    filter.self = NodeId(host.self());
    filter.backend = options.backend;
    filter.seed = host.seed();
    filter.vips = network.filter_vips(options.has_arp_rule());
    filter.rules = filter_rules(options, network.places());
    filter.groups = static_cast<std::uint8_t>(std::max<std::size_t>(options.groups.size(), 1));
    filter.duplicate_window = 2 * options.period;
    auto opened = shim::PacketFilter::open(filter);
    if (!opened) {
        throw std::runtime_error("packet filter: " + opened.error().text());
    }
    host.event("packet filter: " + opened.value()->backend_note());
    return std::move(opened).value();
}

std::unique_ptr<FloodingWatch> open_flooding_watch(plugin::Host& host, const Network& network) {
    for (const auto& place : network.places()) {
        if (place.vip.delivery == shim::Delivery::invisible) {
            auto opened =
                Canary::open(place.ifindex, place.mac, place.vip.vmac, static_cast<std::uint8_t>(host.module_id()));
            if (opened) {
                return std::make_unique<FloodingWatch>(std::move(opened).value());
            }
            host.warning(opened.error().text());
            break;
        }
    }
    return nullptr;
}

} // namespace

FarmPlugin::FarmPlugin(plugin::Host host, plugin::Config config)
    : host_(host), options_(read_checked(config)), network_(host, options_), mover_(mover_options(host, options_)),
      wish_(options_.powers(std::string{host.node()})), filter_(open_filter(host_, options_, network_)),
      flooding_(open_flooding_watch(host_, network_)) {
    add_rules();
    listen_to_clients();
    host_.set_config(options_.digest(host_.seed()));
}

FarmPlugin::~FarmPlugin() {
    if (filter_ && released_) {
        complain(filter_->detach(), "detaching the filter");
    } // else the addresses are still up: the filter stays, closed
}

void FarmPlugin::add_rules() {
    if (const auto refused = host_.add_rule("address_taken: if (farm.address == down) then wait();")) {
        throw std::runtime_error("rule address_taken: " + *refused);
    }
}

void FarmPlugin::on_update(plugin::Config config) {
    add_rules(); // the host forgets those of before
    if (wish_.configure(read_checked(config).powers(std::string{host_.node()}))) {
        std::string text;
        for (const auto power : wish_.powers()) {
            text += " " + std::to_string(power);
        }
        host_.event("power of this node is now" + text);
        apply_weight();
    }
}

void FarmPlugin::check(plugin::Config config, const plugin::Report& report) {
    static_cast<void>(read_options(config, [&](std::uint32_t line, bool warning, const std::string& text) {
        warning ? report.warning(line, text) : report.error(line, text);
    }));
}

void FarmPlugin::cleanup(plugin::Host host, plugin::Config config) {
    const auto options = read_options(config, [](std::uint32_t, bool, const std::string&) {});
    std::vector<std::uint32_t> ifindexes;
    for (const auto& vip : options.vips) {
        const auto found = vip.external ? std::nullopt : host.find_interface({vip.interface, vip.address});
        if (!found) {
            continue;
        }
        host.remove_address({found->name, vip.address});
        if (vip.delivery == shim::Delivery::invisible) {
            static_cast<void>(net::remove_unicast_filter(found->index, vip.vmac));
        }
        ifindexes.push_back(found->index);
    }
    // The filter goes last: while an address is up it keeps this node from answering for all.
    if (auto done = shim::remove_leftovers(static_cast<std::uint8_t>(host.module_id()), ifindexes); !done) {
        throw std::runtime_error(done.error().text());
    }
}

void FarmPlugin::bus_wish(plugin::Config config, stead_bus_wish& wish) {
    const auto farm = config.child("farm");
    if (!farm) {
        return;
    }
    if (farm->attribute("port")) {
        wish.port = static_cast<std::uint32_t>(farm->integer("port"));
    }
    if (farm->attribute("pulse") || farm->attribute("slost_count")) {
        wish.pulse_ns = farm->attribute("pulse") ? static_cast<std::uint64_t>(farm->duration("pulse").count())
                                                 : 100 * ns_per_ms; // the classic default
        wish.slost_count =
            farm->attribute("slost_count") ? static_cast<std::uint32_t>(farm->integer("slost_count")) : 10;
    }
    wish.profile = plugin::to_c(farm->attribute("profile").value_or(std::string_view{}));
    const auto partition = farm->attribute("partition").value_or("serve");
    wish.partition = partition == "majority"  ? STEAD_PARTITION_MAJORITY
                     : partition == "witness" ? STEAD_PARTITION_WITNESS
                                              : STEAD_PARTITION_SERVE;
    if (wish.partition == STEAD_PARTITION_WITNESS) {
        wish.witness = plugin::to_c(farm->attribute("witness").value_or(std::string_view{}));
    }
    for (const auto& lan : farm->children("lan")) {
        if (wish.lan_count == STEAD_LANS_MAX) {
            throw std::runtime_error("farm: more than 8 lans");
        }
        wish.lans[wish.lan_count++] = plugin::to_c(lan.string("name"));
    }
}

} // namespace stead::farm

STEAD_EXPORT_SERVICE(stead::farm::FarmPlugin, "farm", "1.0.0", stead::farm::schema)
