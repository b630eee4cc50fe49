// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/result.hpp>
#include <stead/base/time.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// A node-to-node stream that is read and written at the same time: docs/protocol-wire.md, section 5. TLS 1.3 with a
/// key derived from the cluster key, as in stream.hpp but with another label. Frames: big-endian u32 length and so many
/// bytes.
namespace stead::wire {

/// One connection over a non-blocking socket, driven by one owner with epoll; anybody may send.
///
/// Threading: ready() and destruction on the owner's thread; send(), shut() and the counters on any. None blocks, and
/// ready() calls back without any lock held.
/// Lifetime:  whoever may still send holds it (shared_ptr).
class DuplexStream {
public:
    enum class Side : std::uint8_t { client, server };
    struct Options {
        std::size_t frame_bytes_max{16u << 20};
        /// Records sent under one traffic key before it is renewed; TLS 1.3 allows 2^24.5 of AES-GCM.
        std::uint64_t records_per_key{1u << 22};
    };
    /// Bytes at the front of what send() takes, in which it puts the length.
    static constexpr std::size_t head_bytes = 4;

    /// `socket` is connected or connecting, and to be watched by the owner with epoll_events. A client shows `keys[0]`,
    /// a server accepts any of them. `peer` names it in errors.
    [[nodiscard]] static std::shared_ptr<DuplexStream> make(Fd socket, Side side, const std::vector<std::string>& keys,
                                                            std::string peer, Options options);
    static const std::uint32_t epoll_events; ///< edge-triggered
    virtual ~DuplexStream() = default;
    [[nodiscard]] virtual int fd() const noexcept = 0;

    /// A whole frame, valid during the call. False: read no more, for now the stream is somebody else's or dead.
    using Frame = std::function<bool(std::string_view frame)>;
    /// Owner: epoll reported `events`. Goes on with the handshake, reads, calls `frame` for each, and writes what is
    /// queued. True: there may be more to read: call again, with 0, after whatever else is due. An Error is final and
    /// comes at each later call: denied (not our key, or no TLS), out_of_range (frame too long), not_found (the peer
    /// closed), io.
    [[nodiscard]] virtual Result<bool> ready(std::uint32_t events, const Frame& frame) = 0;
    /// The handshake has succeeded: both sides have the key.
    [[nodiscard]] virtual bool shaken() const noexcept = 0;

    /// `framed` = head_bytes of anything, then the frame; at most Options::frame_bytes_max. Goes out at once, on this
    /// thread, unless another one is writing (which takes it along) or the socket is full (the owner goes on then).
    /// Sent in order of the calls. Dropped when the stream is dead. Before the handshake has ended it waits.
    virtual void send(std::string framed) = 0;
    /// Ends it at once: the owner's epoll wakes, and ready() gives an Error.
    virtual void shut() noexcept = 0;

    [[nodiscard]] virtual std::uint64_t queued_bytes() const noexcept = 0; ///< given to send(), not yet to the socket
    [[nodiscard]] virtual std::uint64_t bytes_in() const noexcept = 0;     ///< as on the wire
    [[nodiscard]] virtual std::uint64_t bytes_out() const noexcept = 0;
};

/// A listening socket, non-blocking; port 0 takes a free one. Errors name the address.
[[nodiscard]] Result<Fd> listen_at(const std::string& address, std::uint16_t port);
[[nodiscard]] std::uint16_t port_of(const Fd& listener);

struct Accepted {
    Fd socket; ///< none: nobody is waiting
    std::string host;
    std::string endpoint; ///< host and port
};
[[nodiscard]] Accepted accept_from(const Fd& listener);

/// Begins to connect from `local`; the outcome shows in DuplexStream::ready(). Errors: addresses, routes.
[[nodiscard]] Result<Fd> begin_connect(const std::string& local, const std::string& address, std::uint16_t port);
/// No delay for small frames, large buffers where permitted. A peer that acknowledges nothing, or whose buffer stays
/// full, for `dead_after`, also while nothing is sent, ends the connection.
void tune(const Fd& socket, milliseconds dead_after);

/// The same textual form for equal addresses. Error: not a numeric address.
[[nodiscard]] Result<std::string> canonical_address(const std::string& address);

} // namespace stead::wire
