// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"

#include <stead/net/net.hpp>

#include <map>
#include <string>
#include <vector>

namespace stead::farm {

/// The virtual addresses on this node: interfaces, addresses, kernel settings, who announces what and when.
/// Strand only. Errors by exception in the constructor (plugin `create` fails), by text elsewhere.
class Network {
public:
    Network(plugin::Host host, const FarmOptions& options);

    struct Place {
        FarmOptions::Vip vip;
        std::string interface;
        std::uint32_t ifindex{};
        shim::Mac mac{};
        bool receiver{};
        bool up{true};
        std::uint64_t received{};    ///< frames, when they were counted last
        bool silent{};               ///< none came since the time before
        std::uint32_t burst{};       ///< announcements of the burst already sent
        std::uint64_t announce_at{}; ///< 0 = nothing due
    };
    [[nodiscard]] const std::vector<Place>& places() const noexcept { return places_; }
    [[nodiscard]] std::vector<shim::Vip> filter_vips(bool arp_per_client) const;
    [[nodiscard]] std::vector<std::uint32_t> ifindexes() const;
    [[nodiscard]] bool links_up() const;

    /// Somebody else answers for one of our addresses: "192.0.2.50 is answered for by 02:…". `friends`: MACs of
    /// members. Not `served`: no member that this node hears serves, so that the virtual MAC is not theirs.
    [[nodiscard]] std::string foreign_owner(const std::vector<shim::Mac>& friends, bool served);
    /// An interface with an IPv6 virtual address has one of its own that is still probed for duplicates: without it the
    /// kernel cannot ask for the MAC of a client it does not know.
    [[nodiscard]] bool own_addresses_tentative() const;
    /// Empty when all is there.
    [[nodiscard]] std::string add_addresses();
    void remove_addresses();

    void set_link(std::uint32_t ifindex, bool up, std::uint64_t now);
    /// Once a second: which interfaces hear nothing at all.
    void count_frames();
    /// `address` is on an interface with a virtual address; `silent`: which hears nothing.
    [[nodiscard]] bool carries(const std::string& address, bool silent) const;
    /// Whoever sends to the old MAC of the receiver must hear of the new one: a bond's failover, a bridge's new port.
    void look_at_macs(std::uint64_t now);
    void set_receiver(std::size_t place, bool receiver, std::uint64_t now);
    /// While a member is missing that never said goodbye, it may announce as well, on another side of a cut: neighbours
    /// must hear us again soon after the cut heals, so announcements are repeated four times a second.
    void set_contested(bool contested, std::uint64_t now);
    /// Sends what is due; returns when it wants to be called again (0 = not).
    [[nodiscard]] std::uint64_t announce_due(std::uint64_t now);

    /// "eth0=02:00:…;192.0.2.11;2001:db8::11" of one interface, for the other members, by ordinal of the interface.
    [[nodiscard]] std::vector<std::string> published() const;
    /// What a member published about its interface number `ordinal`, as the filter wants it.
    [[nodiscard]] std::optional<shim::Member> parse_member(NodeId node, std::size_t ordinal,
                                                           std::string_view text) const;

private:
    void set_sysctl(const std::string& name, const std::string& value);

    plugin::Host host_;
    bool contested_{};
    std::vector<Place> places_;
    std::map<std::string, std::string> old_sysctls_;
};

} // namespace stead::farm
