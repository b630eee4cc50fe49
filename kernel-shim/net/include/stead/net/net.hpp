// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/base/time.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

/// Addresses, links, announcements and probes, by netlink and AF_PACKET.
namespace stead::net {

using Mac = std::array<std::uint8_t, 6>;
/// "02:00:5e:10:00:01"
[[nodiscard]] std::string to_text(const Mac& mac);

struct Interface {
    std::string name;
    std::uint32_t index{};
    Mac mac{};
    bool up{}; ///< administratively up with carrier
    std::uint32_t mtu{};
    std::vector<std::string> addresses; ///< "192.0.2.11/24", "fe80::1/64"
    bool tentative{};                   ///< the kernel still looks for duplicates of one of them (IPv6), about 2 s
};

[[nodiscard]] Result<std::vector<Interface>> interfaces();
/// The interface whose subnet carries `address` (longest prefix; the address itself need not be present).
/// Errors: not_found, naming the subnets there are.
[[nodiscard]] Result<Interface> interface_for(const std::string& address);

/// Adds /32 or /128, noprefixroute; IPv6 nodad, preferred_lft 0. Already there with the same flags is success.
[[nodiscard]] Result<void> add_address(std::uint32_t ifindex, const std::string& address);
/// Not there is success.
[[nodiscard]] Result<void> remove_address(std::uint32_t ifindex, const std::string& address);

/// Gratuitous ARP (request and reply form) or unsolicited neighbour advertisement with override.
[[nodiscard]] Result<void> announce(std::uint32_t ifindex, const std::string& address, const Mac& mac);
/// The same to one client only.
[[nodiscard]] Result<void> announce_to(std::uint32_t ifindex, const std::string& address, const Mac& mac,
                                       const std::string& client_address, const Mac& client_mac);
/// Asks who has the address (ARP probe, or NS from ::). The first MAC that answered within `timeout`, if any did.
/// Answers of `known` do not count: another owner may answer after them.
[[nodiscard]] Result<std::optional<Mac>> probe(std::uint32_t ifindex, const std::string& address, nanoseconds timeout,
                                               std::span<const Mac> known = {});

/// Resets the TCP connections that have this local address, whoever's they are; peers get a RST. How many there were.
/// Errors: unsupported by the kernel, denied.
[[nodiscard]] Result<std::size_t> reset_connections(const std::string& address);

/// Hears who claims an address on one interface: the sender of an ARP frame, the target of a neighbour advertisement.
/// It listens before tc, so a filter that drops foreign claims does not blind it. One thread at a time.
class Claims {
public:
    [[nodiscard]] static Result<std::unique_ptr<Claims>> open(std::uint32_t ifindex, const std::string& address);
    virtual ~Claims() = default;
    [[nodiscard]] virtual int fd() const noexcept = 0;
    /// MACs that claimed the address since the last call, in order; those of frames that this machine sent are left
    /// out. Never blocks.
    [[nodiscard]] virtual std::vector<Mac> heard() = 0;
    /// Asks who has the address (ARP probe, or NS from ::): answers are heard soon after.
    [[nodiscard]] virtual Result<void> ask() = 0;
};

/// Unicast filter entry (`bridge fdb add … self permanent`), so that frames to a virtual MAC are received without
/// promiscuous mode. Already there / not there is success.
[[nodiscard]] Result<void> add_unicast_filter(std::uint32_t ifindex, const Mac& mac);
[[nodiscard]] Result<void> remove_unicast_filter(std::uint32_t ifindex, const Mac& mac);

/// Writes a value below /proc/sys/net ("ipv4/conf/eth0/arp_announce": slashes, for interface names may hold dots);
/// returns the old one. Errors: not_found, denied or io with the path.
[[nodiscard]] Result<std::string> set_sysctl(const std::string& name, const std::string& value);

/// Netlink events. poll() never blocks; give fd() to the event loop and call it when readable.
class Watch {
public:
    struct Events {
        std::function<void(std::uint32_t ifindex, const std::string& name, bool up)> link;          ///< deleted = down
        std::function<void(std::uint32_t ifindex, const std::string& address, bool added)> address; ///< without prefix
    };
    [[nodiscard]] static Result<std::unique_ptr<Watch>> open(Events events);
    virtual ~Watch() = default;
    [[nodiscard]] virtual int fd() const noexcept = 0;
    /// Delivers what has arrived. After an overflow of the socket it re-reads everything and delivers the differences.
    virtual void poll() = 0;
};

} // namespace stead::net
