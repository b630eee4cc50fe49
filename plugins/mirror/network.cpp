// SPDX-License-Identifier: Apache-2.0
#include "network.hpp"

#include <stead/net/net.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <vector>

namespace stead::mirror {
namespace {

constexpr std::uint64_t ns_per_ms = 1'000'000;
// A neighbour may lose one, and a switch needs a moment after a port came up.
constexpr std::array<std::uint64_t, 6> burst_ms{0, 50, 200, 1000, 2000, 5000};
constexpr auto probe_time = milliseconds{45};

std::optional<net::Mac> mac_of(const std::string& text) {
    net::Mac mac{};
    const bool whole = std::sscanf(text.c_str(), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &mac[0], &mac[1], &mac[2],
                                   &mac[3], &mac[4], &mac[5]) == 6;
    return whole ? std::optional{mac} : std::nullopt;
}

} // namespace

Network::Network(plugin::Host host, const MirrorOptions& options) : host_(host) {
    for (const auto& vip : options.vips) {
        const auto found = host_.find_interface({vip.interface, vip.address});
        if (!found) {
            throw std::runtime_error("virtual_addr " + vip.address + ": " +
                                     (vip.interface.empty() ? "no interface has a subnet that holds it; give the node "
                                                              "an address there, or name the interface"
                                                            : "there is no interface " + vip.interface));
        }
        places_.push_back({vip, *found, 0, 0});
        host_.watch_link(found->index);
    }
}

std::string Network::add() {
    for (const Place& place : places_) {
        if (const auto error = host_.add_address({place.interface.name, place.vip.address})) {
            return "virtual_addr " + place.vip.address + ": " + *error;
        }
    }
    up_ = true;
    return {};
}

void Network::remove(bool tcp_reset) {
    if (!std::exchange(up_, false)) {
        return;
    }
    std::size_t count = 0;
    for (Place& place : places_) {
        place.at = 0;
        if (tcp_reset) {
            const auto reset = net::reset_connections(place.vip.address);
            count += reset ? *reset : 0;
        }
        host_.remove_address({place.interface.name, place.vip.address});
    }
    if (count > 0) {
        host_.event("connections reset: " + std::to_string(count));
    }
}

void Network::begin_announcing(std::uint64_t now) {
    for (Place& place : places_) {
        place.at = now;
        place.step = 0;
    }
}

std::uint64_t Network::announce(std::uint64_t now) {
    std::uint64_t next = 0;
    for (Place& place : places_) {
        if (!up_ || place.at == 0) {
            continue;
        }
        if (place.at <= now) {
            // The MAC may have changed since (a bond's other link).
            const auto found = host_.find_interface({place.interface.name, place.vip.address});
            if (const auto error =
                    host_.announce({place.interface.name, place.vip.address}, found ? found->mac : place.interface.mac);
                error && place.step == 0) {
                host_.warning("announcing " + place.vip.address + ": " + *error);
            }
            ++place.step;
            const auto interval = static_cast<std::uint64_t>(place.vip.announce_interval.count());
            place.at =
                now + (place.step < burst_ms.size() ? (burst_ms[place.step] - burst_ms[place.step - 1]) * ns_per_ms
                                                    : std::max(interval, 1000 * ns_per_ms));
        }
        next = next == 0 ? place.at : std::min(next, place.at);
    }
    return next;
}

std::string Network::foreign_owner(const std::set<std::string>& friends) const {
    // Not by the host's probe, which tells one answer only: a peer that died may still hold the address and answer
    // before the stranger does.
    std::vector<net::Mac> known;
    for (const std::string& text : friends) {
        if (const auto mac = mac_of(text)) {
            known.push_back(*mac);
        }
    }
    for (const Place& place : places_) {
        known.push_back(place.interface.mac);
        const auto owner = net::probe(place.interface.index, place.vip.address, probe_time, known);
        known.pop_back();
        if (!owner) {
            host_.warning("probe: " + owner.error().text());
        } else if (const std::optional<net::Mac>& mac = *owner) {
            return "virtual_addr " + place.vip.address + " is in use: " + net::to_text(*mac) + " on " +
                   place.interface.name + " answers for it";
        }
    }
    return {};
}

std::set<std::string> Network::macs() const {
    std::set<std::string> all;
    for (const Place& place : places_) {
        all.insert(net::to_text(place.interface.mac));
    }
    return all;
}

void Network::remove_leftovers() {
    for (const Place& place : places_) {
        host_.remove_address({place.interface.name, place.vip.address});
    }
}

void Network::link_up(std::uint32_t ifindex, std::uint64_t now) {
    for (Place& place : places_) {
        if (up_ && place.interface.index == ifindex) {
            place.at = now;
            place.step = 0;
        }
    }
}

} // namespace stead::mirror
