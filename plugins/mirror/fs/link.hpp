// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/base/time.hpp>
#include <stead/mirror/codec.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

/// The stream to the peer: one ordered TLS 1.3 PSK connection, made again whenever it is gone.
namespace stead::mirror {

struct LinkOptions {
    bool connects{};         ///< node 0 connects, node 1 accepts
    std::string local, peer; ///< numeric addresses
    std::uint16_t port{};
    std::vector<std::string> keys; ///< 32 bytes each; the first is used to connect, the others if the peer lacks it
    /// A peer that acknowledges no segment, or whose buffers stay full, for so long is gone. Longer than the core's
    /// slow_peer: the bus and that decide earlier, and a node that is only starved shall not lose its stream.
    milliseconds dead_after{15'000};
};

/// Threading: send() and close() from any thread; never block. The events come one at a time on the link's own thread,
/// in order: up, received…, down. They may call send() and close(); they must not throw or destroy the link.
class Link {
public:
    struct Events {
        std::function<void()> up;
        std::function<void(std::uint64_t generation, Message)> received;
        std::function<void(std::uint64_t generation, const std::string& reason)> down;
    };
    /// Port 0 takes a free one. Errors: the address that cannot be bound, or is none; no key.
    [[nodiscard]] static Result<std::unique_ptr<Link>> start(LinkOptions options, Events events);
    /// Ends the connection; no event comes after it.
    virtual ~Link() = default;
    [[nodiscard]] virtual std::uint16_t port() const noexcept = 0; ///< listened at; where it connects to
    /// Queued and written in order. Dropped when the connection is not that of `generation` any more.
    virtual void send(std::uint64_t generation, const Message& message) = 0;
    /// Ends the connection of `generation` at once; down() does not follow for it, unless it was being called already
    /// on the link's thread. A new one is tried.
    virtual void close(std::uint64_t generation) = 0;
    /// Counts connections; 0 = none now.
    [[nodiscard]] virtual std::uint64_t generation() const noexcept = 0;
    struct Counters {
        std::uint64_t bytes_in{}, bytes_out{}; ///< of finished handshakes, as on the wire
        std::uint64_t messages_in{}, messages_out{}, connections{};
        std::uint64_t refused{};      ///< attempts from elsewhere, without the key, with garbage, too slow
        std::uint64_t queued_bytes{}; ///< given to send(), not yet taken by the socket
    };
    [[nodiscard]] virtual Counters counters() const noexcept = 0;
};

} // namespace stead::mirror
