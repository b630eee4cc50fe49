// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/base/time.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// Node-to-node streams: TLS 1.3 with a pre-shared key derived from the cluster key, no certificates. Frames are a
/// big-endian u32 length and so many bytes, at most limits::stream_frame_bytes_max, any number in both directions.
namespace stead::wire {

/// One connection. One thread at a time. Closing is by destruction.
/// Errors: timed_out, denied (keys differ), out_of_range (frame too large), io. After any error the stream is dead.
class Stream {
public:
    virtual ~Stream() = default;
    /// The next frame. not_found: the peer closed the connection in good order between two frames.
    [[nodiscard]] virtual Result<std::string> read_frame(milliseconds timeout) = 0;
    [[nodiscard]] virtual Result<void> write_frame(std::string_view frame, milliseconds timeout) = 0;
    /// "10.0.0.1:4800" or "[fd00::1]:4800".
    [[nodiscard]] virtual const std::string& peer() const noexcept = 0;
};

class StreamClient {
public:
    /// Blocks for at most `timeout`. `address` is numeric. Tries keys[0], then keys[1] when the peer does not know
    /// the first (rotation). denied: the peer has none of our keys.
    [[nodiscard]] static Result<std::unique_ptr<Stream>> connect(const std::string& address, std::uint16_t port,
                                                                 const std::vector<std::string>& keys,
                                                                 milliseconds timeout);
};

/// Listens, and serves each connection on a thread of its own.
class StreamServer {
public:
    /// Called when the handshake has succeeded; the connection closes when it returns. Must not throw. While the
    /// server is being destroyed, reads and writes fail at once.
    using Handler = std::function<void(Stream&)>;
    static constexpr unsigned connections_max = 64;
    /// Connections of one address that have not yet shown the key, for which they have 2 s. One more, or one more than
    /// `connections_max`, closes the oldest of those; when all have shown the key the new one is closed.
    static constexpr unsigned strangers_per_host_max = 8;

    /// Numeric addresses; port 0 takes a free one (tests). An address that cannot be bound is an io error.
    [[nodiscard]] static Result<std::unique_ptr<StreamServer>> start(const std::vector<std::string>& addresses,
                                                                     std::uint16_t port,
                                                                     const std::vector<std::string>& keys,
                                                                     Handler handler);
    /// Ends all connections and joins all threads.
    virtual ~StreamServer() = default;
    /// Frees the port at once; connections that there are go on. Not thread-safe.
    virtual void stop_listening() = 0;
    /// After stop_listening(): waits until the connections have ended by themselves, at most so long.
    virtual void drain(milliseconds limit) = 0;
    [[nodiscard]] virtual std::uint16_t port() const noexcept = 0;
    /// Thread-safe; for connections from now on.
    virtual void set_keys(std::vector<std::string> keys) = 0;
    /// Handshakes that failed (no common key, garbage, too slow). Thread-safe.
    [[nodiscard]] virtual std::uint64_t refused() const noexcept = 0;
};

} // namespace stead::wire
