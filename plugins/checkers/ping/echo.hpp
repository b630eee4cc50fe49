// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/checker_loop.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include <sys/socket.h>

namespace stead::checkers {

/// Echo requests to one address, ICMP or ICMPv6, by an unprivileged socket where the kernel allows it
/// (net.ipv4.ping_group_range), else by a raw one. Not thread-safe; never blocks.
class Echo {
public:
    /// Throws std::system_error, naming what the system wants, when no socket can be had.
    Echo(const sockaddr_storage& to, socklen_t size);

    [[nodiscard]] int descriptor() const noexcept { return socket_.get(); }
    [[nodiscard]] bool raw() const noexcept { return raw_; }
    /// Sends one more request. The text says why it could not be sent.
    [[nodiscard]] std::optional<std::string> send();
    enum class Heard : std::uint8_t { nothing, reply, error };
    /// Reads what is there. `error`: the network says that the address cannot be reached, `why` how.
    [[nodiscard]] Heard receive(std::string& why);

private:
    static constexpr std::size_t payload_bytes = 16;
    [[nodiscard]] bool is_reply(const std::uint8_t* data, std::size_t size) const noexcept;
    void open(bool raw);

    sockaddr_storage to_{};
    socklen_t size_{};
    bool six_{}, raw_{};
    checker::Descriptor socket_;
    std::uint16_t id_{}, sequence_{};
    std::array<std::uint8_t, payload_bytes> mark_{}; ///< random: tells our replies from those to other programs
};

} // namespace stead::checkers
