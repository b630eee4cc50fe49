// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/limits.hpp>
#include <stead/bus/bus.hpp>

#include <sys/socket.h>

#include <array>
#include <span>
#include <vector>

namespace stead::bus {

struct Address {
    sockaddr_storage storage{};
    socklen_t size{}; ///< 0 = not on this LAN
};

/// One non-blocking UDP socket per LAN, bound to the node's own address there. Outlives addresses and interfaces that
/// come and go: a LAN that keeps failing gets a new socket once a second. Bus thread only, after open().
class Sockets {
public:
    static constexpr std::size_t batch = 32;
    static constexpr std::size_t receive_bytes = 2048; // larger than any of ours: a longer one shows as too long

    /// Errors: io with the address that cannot be bound, malformed, out_of_range.
    [[nodiscard]] Result<void> open(const BusOptions& options);
    [[nodiscard]] std::size_t lans() const noexcept { return lans_.size(); }
    [[nodiscard]] int fd(std::size_t lan) const noexcept { return lans_[lan].fd.get(); }
    [[nodiscard]] bool reaches(std::size_t lan, NodeId node) const noexcept {
        return lans_[lan].peers[index(node)].size != 0;
    }
    /// Sends one datagram to several nodes; how many the kernel took.
    [[nodiscard]] std::size_t send(std::size_t lan, NodeSet to, std::span<const std::uint8_t> datagram);
    /// Up to `batch` datagrams, valid until the next call. Empty: nothing is waiting.
    [[nodiscard]] std::span<const std::span<const std::uint8_t>> receive(std::size_t lan);
    /// Replaces the socket of a LAN that has failed for a second; true when the descriptor is a new one.
    [[nodiscard]] bool revive(std::size_t lan, Instant now);

private:
    struct Lan {
        Fd fd;
        Address local;
        std::array<Address, limits::nodes_max> peers;
        unsigned failures{}; ///< in a row
        Instant revived{};
    };
    std::vector<Lan> lans_;
    std::vector<std::array<std::uint8_t, receive_bytes>> buffers_{batch};
    std::array<std::span<const std::uint8_t>, batch> received_{};
};

} // namespace stead::bus
