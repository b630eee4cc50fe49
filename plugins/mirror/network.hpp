// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"

#include <stead/plugin.hpp>

#include <set>
#include <string>
#include <vector>

namespace stead::mirror {

/// The virtual addresses of the active node. One thread.
class Network {
public:
    /// Throws std::runtime_error: an address without an interface.
    Network(plugin::Host host, const MirrorOptions& options);

    [[nodiscard]] bool empty() const noexcept { return places_.empty(); }
    /// The text of what went wrong; empty = all are up.
    [[nodiscard]] std::string add();
    void remove(bool tcp_reset);
    /// Tells the neighbours, and when to do so next (CLOCK_BOOTTIME, ns; 0 = not at all). A burst after
    /// begin_announcing().
    void begin_announcing(std::uint64_t now);
    [[nodiscard]] std::uint64_t announce(std::uint64_t now);
    /// Does another machine answer for one of the addresses, not counting those with a MAC of `friends`? Blocks up to
    /// 50 ms for each.
    [[nodiscard]] std::string foreign_owner(const std::set<std::string>& friends) const;
    /// Of the interfaces that carry the addresses, as text.
    [[nodiscard]] std::set<std::string> macs() const;
    /// What a dead host of this module may have left.
    void remove_leftovers();
    /// After a link came back: neighbours may have forgotten.
    void link_up(std::uint32_t ifindex, std::uint64_t now);

private:
    struct Place {
        MirrorOptions::Vip vip;
        plugin::InterfaceInfo interface;
        std::uint64_t at{};
        std::size_t step{};
    };
    plugin::Host host_;
    std::vector<Place> places_;
    bool up_{};
};

} // namespace stead::mirror
