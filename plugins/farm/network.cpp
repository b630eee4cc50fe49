// SPDX-License-Identifier: Apache-2.0
#include "network.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace stead::farm {
namespace {

// Neighbours may lose one, and switches need a moment after a port came up.
constexpr std::uint64_t burst_ms[]{0, 50, 200, 1000};
constexpr std::uint64_t contested_interval_ms = 250;
constexpr std::uint64_t ns_per_ms = 1'000'000;
constexpr auto probe_time = milliseconds{45}; // on the strand: see plugin.h

} // namespace

Network::Network(plugin::Host host, const FarmOptions& options) : host_(host) {
    for (const auto& vip : options.vips) {
        if (vip.external) {
            continue;
        }
        const auto found = host_.find_interface({vip.interface, vip.address});
        if (!found) {
            throw std::runtime_error("virtual_addr " + vip.address + ": " +
                                     (vip.interface.empty()
                                          ? "no interface has a subnet that holds it; give the node an "
                                            "address there, or name the interface"
                                          : "there is no interface " + vip.interface));
        }
        Place place;
        place.vip = vip;
        place.interface = found->name;
        place.ifindex = found->index;
        place.mac = found->mac;
        places_.push_back(std::move(place));
        host_.watch_link(found->index);
    }
}

std::vector<shim::Vip> Network::filter_vips(bool arp_per_client) const {
    std::vector<shim::Vip> vips;
    for (const auto& place : places_) {
        vips.push_back(
            {*parse_address(place.vip.address), place.ifindex, place.vip.delivery, place.vip.vmac, arp_per_client});
    }
    return vips;
}

std::vector<std::uint32_t> Network::ifindexes() const {
    std::vector<std::uint32_t> all;
    for (const auto& place : places_) {
        if (std::find(all.begin(), all.end(), place.ifindex) == all.end()) {
            all.push_back(place.ifindex);
        }
    }
    return all;
}

bool Network::links_up() const {
    return std::all_of(places_.begin(), places_.end(), [](const Place& place) { return place.up; });
}

std::string Network::foreign_owner(const std::vector<shim::Mac>& friends, bool served) {
    for (const auto& place : places_) {
        plugin::Mac mac{};
        if (host_.probe({place.interface, place.vip.address}, probe_time, mac) != plugin::Host::Probe::taken ||
            mac == place.mac || std::find(friends.begin(), friends.end(), mac) != friends.end()) {
            continue;
        }
        const std::string taken = "virtual_addr " + place.vip.address + " is in use: " + net::to_text(mac) + " on " +
                                  place.interface + " answers for it and is ";
        if (mac != place.vip.vmac) {
            return taken + "no member of this farm, or one that runs with another cluster.xml or key";
        }
        if (!served) {
            return taken + "another farm, or members of this one that this node does not hear ('stead cluster check' "
                           "compares the modules' ids and looks at the networks)";
        }
    }
    return {};
}

bool Network::own_addresses_tentative() const {
    const auto all = net::interfaces();
    return all && std::any_of(all->begin(), all->end(), [&](const net::Interface& link) {
               return link.up && link.tentative && std::any_of(places_.begin(), places_.end(), [&](const Place& place) {
                          return place.ifindex == link.index && place.vip.address.find(':') != std::string::npos;
                      });
           });
}

void Network::set_sysctl(const std::string& name, const std::string& value) {
    auto old = net::set_sysctl(name, value);
    if (!old) {
        host_.warning("cannot set net/" + name + " to " + value + ": " + old.error().text());
    } else if (old.value() != value) {
        host_.event("net/" + name + ": " + old.value() + " -> " + value);
        old_sysctls_.emplace(name, old.value());
    }
}

std::string Network::add_addresses() {
    for (const auto& place : places_) {
        // The node's own ARP requests must not carry the virtual IP as sender (the egress guard is the second line).
        set_sysctl("ipv4/conf/" + place.interface + "/arp_announce", "2");
        if (const auto error = host_.add_address({place.interface, place.vip.address})) {
            return *error;
        }
        if (place.vip.delivery == shim::Delivery::invisible) {
            if (auto done = net::add_unicast_filter(place.ifindex, place.vip.vmac); !done) {
                return done.error().text();
            }
        }
    }
    return {};
}

void Network::remove_addresses() {
    for (auto& place : places_) {
        place.receiver = false;
        place.announce_at = 0;
        host_.remove_address({place.interface, place.vip.address});
        if (place.vip.delivery == shim::Delivery::invisible) {
            if (auto done = net::remove_unicast_filter(place.ifindex, place.vip.vmac); !done) {
                host_.warning(done.error().text());
            }
        }
    }
    for (const auto& [name, value] : old_sysctls_) {
        if (auto done = net::set_sysctl(name, value); !done) {
            host_.warning(done.error().text());
        }
    }
    old_sysctls_.clear();
}

void Network::set_link(std::uint32_t ifindex, bool up, std::uint64_t now) {
    for (auto& place : places_) {
        if (place.ifindex != ifindex || place.up == up) {
            continue;
        }
        place.up = up;
        place.burst = 0; // neighbours and switches may have forgotten
        place.announce_at = up && place.receiver ? now : 0;
    }
}

void Network::count_frames() {
    std::ifstream table{"/proc/net/dev"};
    for (std::string line; std::getline(table, line);) {
        const std::size_t colon = std::min(line.find(':'), line.size());
        const std::size_t begin = std::min(line.find_first_not_of(' '), colon);
        std::istringstream words{line.substr(std::min(colon + 1, line.size()))};
        std::uint64_t bytes{}, frames{}; // received; more columns follow
        if (!(words >> bytes >> frames)) {
            continue;
        }
        for (auto& place : places_) {
            if (place.interface == std::string_view{line}.substr(begin, colon - begin)) {
                place.silent = frames == place.received;
                place.received = frames;
            }
        }
    }
}

bool Network::carries(const std::string& address, bool silent) const {
    const auto all = net::interfaces();
    return all && std::ranges::any_of(all.value(), [&](const net::Interface& link) {
               const bool has = std::ranges::any_of(link.addresses, [&](const std::string& one) {
                   return parse_address(one.substr(0, one.find('/'))) == parse_address(address);
               });
               return has && std::ranges::any_of(places_, [&](const Place& place) {
                          return place.ifindex == link.index && (place.silent || !silent);
                      });
           });
}

void Network::look_at_macs(std::uint64_t now) {
    const auto all = net::interfaces();
    for (const auto& link : all ? all.value() : std::vector<net::Interface>{}) {
        for (auto& place : places_) {
            if (place.ifindex != link.index || place.mac == link.mac) {
                continue;
            }
            host_.event(place.interface + " has another MAC now: " + net::to_text(link.mac));
            place.mac = link.mac;
            place.burst = 0;
            place.announce_at = place.receiver ? now : 0;
        }
    }
}

void Network::set_receiver(std::size_t index, bool receiver, std::uint64_t now) {
    auto& place = places_[index];
    if (place.receiver != receiver) {
        place.receiver = receiver;
        place.burst = 0;
        place.announce_at = receiver ? now : 0;
    }
}

void Network::set_contested(bool contested, std::uint64_t now) {
    if (contested_ == contested) {
        return;
    }
    contested_ = contested;
    for (auto& place : places_) {
        place.announce_at = place.receiver ? now : 0;
    }
}

std::uint64_t Network::announce_due(std::uint64_t now) {
    std::uint64_t next = 0;
    for (auto& place : places_) {
        if (place.announce_at == 0) {
            continue;
        }
        if (place.announce_at <= now) {
            const auto& mac = place.vip.delivery == shim::Delivery::invisible ? place.vip.vmac : place.mac;
            if (const auto error = host_.announce({place.interface, place.vip.address}, mac)) {
                host_.warning("announcement of " + place.vip.address + ": " + *error);
            }
            ++place.burst;
            const auto interval = static_cast<std::uint64_t>(place.vip.announce_interval.count());
            const auto wait = place.burst < std::size(burst_ms)
                                  ? (burst_ms[place.burst] - burst_ms[place.burst - 1]) * ns_per_ms
                                  : std::max<std::uint64_t>(interval, 1000 * ns_per_ms);
            place.announce_at = now + (contested_ ? std::min(wait, contested_interval_ms * ns_per_ms) : wait);
        }
        next = next == 0 ? place.announce_at : std::min(next, place.announce_at);
    }
    return next;
}

std::vector<std::string> Network::published() const {
    std::vector<std::string> result;
    const auto all = net::interfaces();
    for (const auto ifindex : ifindexes()) {
        std::string text;
        if (all) {
            for (const auto& link : all.value()) {
                if (link.index != ifindex) {
                    continue;
                }
                text = net::to_text(link.mac);
                for (const auto& with_prefix : link.addresses) {
                    const std::string address = with_prefix.substr(0, with_prefix.find('/'));
                    const bool virtual_one = std::any_of(places_.begin(), places_.end(), [&](const Place& place) {
                        return parse_address(place.vip.address) == parse_address(address);
                    });
                    if (!virtual_one && text.size() + address.size() < 250) {
                        text += ";" + address;
                    }
                }
            }
        }
        result.push_back(text);
    }
    return result;
}

std::optional<shim::Member> Network::parse_member(NodeId node, std::size_t ordinal, std::string_view text) const {
    const auto own = ifindexes();
    const auto mac = parse_mac(text.substr(0, 17));
    if (!mac || ordinal >= own.size()) {
        return std::nullopt;
    }
    shim::Member member;
    member.node = node;
    member.ifindex = own[ordinal];
    member.mac = *mac;
    text.remove_prefix(17);
    while (!text.empty()) {
        text.remove_prefix(1);
        const auto end = text.find(';');
        if (const auto ip = parse_address(std::string{text.substr(0, end)})) {
            member.addresses.push_back(*ip);
        }
        text.remove_prefix(std::min(end, text.size()));
    }
    return member;
}

} // namespace stead::farm
