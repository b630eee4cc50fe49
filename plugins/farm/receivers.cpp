// SPDX-License-Identifier: Apache-2.0
// Who receives for an address, and who is told so.
#include "plugin.hpp"

#include <charconv>

namespace stead::farm {

void FarmPlugin::push_members() {
    if (!filter_) {
        return;
    }
    std::vector<shim::Member> members;
    for (const auto& [key, value] : member_resources_) {
        std::size_t ordinal = 0;
        std::from_chars(key.second.data() + 9, key.second.data() + key.second.size(), ordinal);
        const auto member = network_.parse_member(NodeId(key.first), ordinal, value);
        if (member && mover_.view().members.contains(member->node)) {
            members.push_back(*member);
        }
    }
    complain(filter_->set_members(members), "members");
}

void FarmPlugin::update_receivers() {
    const NodeSet candidates = mover_.blank() ? NodeSet{} : mover_.participants() & mover_.view().members;
    const bool per_client = options_.has_arp_rule();
    for (std::size_t i = 0; i < network_.places().size(); ++i) {
        const auto& place = network_.places()[i];
        const bool chosen = mover_.rendezvous().choose(place.vip.address, candidates) == host_.self();
        const bool everyone = place.vip.delivery == shim::Delivery::invisible || per_client;
        // Invisible: all may answer, one announces. Directed: one does both.
        complain(filter_->set_receiver(i, everyone ? candidates.contains(self()) : chosen), "receiver");
        const bool announces = chosen && !per_client;
        if (announces != place.receiver) {
            host_.event(announces ? "announcing " + place.vip.address : "no longer announcing " + place.vip.address);
            network_.set_receiver(i, announces, host_.now());
        }
    }
    on_timer(announce_timer);
}

void FarmPlugin::listen_to_clients() {
    for (const auto ifindex : options_.has_arp_rule() ? network_.ifindexes() : std::vector<std::uint32_t>{}) {
        auto opened = Clients::open(ifindex);
        if (opened) {
            clients_.push_back(std::move(opened).value());
        } else {
            host_.warning(opened.error().text() + "; clients learn of a new receiver when their ARP entry is stale");
        }
    }
}

void FarmPlugin::tell_clients(bool all) {
    if (clients_.empty() || mover_.blank() || mover_.groups() == 0) {
        return;
    }
    std::vector<shim::Ip> vips;
    for (const auto& place : network_.places()) {
        vips.push_back(*parse_address(place.vip.address));
    }
    const auto& table = mover_.table(0); // as the filter: whoever owns the client's bucket of the first group
    for (const auto& tap : clients_) {
        tap->poll(vips);
        for (auto& [address, client] : tap->all()) {
            const auto bucket = shim::bucket_of(host_.seed(), shim::Key::address, client.ip, 0, 0);
            const bool mine = table.owner[bucket] == host_.self();
            const bool gained = mine && (all || !client.mine);
            client.mine = mine;
            for (const auto& place : network_.places()) {
                if (!gained || place.ifindex != tap->ifindex() || place.vip.address.find(':') != std::string::npos) {
                    continue;
                }
                complain(net::announce_to(place.ifindex, place.vip.address, place.mac, address, client.mac),
                         "announcement");
            }
        }
    }
}

/// proto="arp": the dead node's clients must not wait until their entries are stale. One node tells everybody, which is
/// right for nobody's share but reaches clients that never asked here; then each node tells its own.
void FarmPlugin::announce_after_death() {
    const NodeSet candidates = mover_.blank() ? NodeSet{} : mover_.participants() & mover_.view().members;
    for (const auto& place : network_.places()) {
        if (mover_.rendezvous().choose(place.vip.address, candidates) == host_.self()) {
            if (const auto error = host_.announce({place.interface, place.vip.address}, place.mac)) {
                host_.warning("announcement of " + place.vip.address + ": " + *error);
            }
        }
    }
    host_.set_timer_in(clients_timer, milliseconds{20});
}

} // namespace stead::farm
