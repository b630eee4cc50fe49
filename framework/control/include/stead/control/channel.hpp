// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/limits.hpp>
#include <stead/base/result.hpp>
#include <stead/base/time.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/json/value.hpp>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// JSON objects in frames over unix stream sockets: stead <-> steadd <-> stead-host.
/// A frame is a big-endian u32 length and so many bytes of JSON text, at most stream_frame_bytes_max. File descriptors
/// travel with the first byte of a frame; the object then says how many in its field "fds".
namespace stead::control {

inline constexpr std::size_t frame_descriptors_max = 8;

struct Frame {
    boost::json::value body;
    std::vector<Fd> fds;
};

/// One frame as bytes. Errors: out_of_range.
[[nodiscard]] Result<std::string> encode_frame(const boost::json::value& body);

/// Bytes in, frames out. After an error the stream is lost: close it.
class FrameDecoder {
public:
    void feed(std::string_view bytes) { buffer_.append(bytes); }
    void feed(Fd descriptor) { fds_.push_back(std::move(descriptor)); }
    /// The next whole frame, or nothing yet. Errors: out_of_range (length), malformed (not a JSON object, or
    /// descriptors announced that did not come).
    [[nodiscard]] Result<std::optional<Frame>> next();
    /// Part of a frame is waiting for its rest.
    [[nodiscard]] bool in_frame() const noexcept { return offset_ < buffer_.size(); }

private:
    std::string buffer_;
    std::size_t offset_{};
    std::deque<Fd> fds_;
};

struct PeerCredentials {
    pid_t pid{};
    uid_t uid{};
    gid_t gid{};
};

/// Blocking end, for the CLI and for tests. One thread.
class Client {
public:
    /// Errors: not_found or refused when nobody listens there, denied, timed_out.
    [[nodiscard]] static Result<Client> connect(const std::filesystem::path& socket, milliseconds timeout);
    [[nodiscard]] static Client adopt(Fd socket) { return Client(std::move(socket)); }

    [[nodiscard]] Result<void> send(const boost::json::value& body, std::span<const int> fds = {},
                                    milliseconds timeout = seconds{10});
    /// Errors: timed_out; refused when the peer closed; malformed, out_of_range.
    [[nodiscard]] Result<Frame> receive(milliseconds timeout);
    [[nodiscard]] int native_handle() const noexcept { return socket_.get(); }

private:
    explicit Client(Fd socket) : socket_(std::move(socket)) {}
    Fd socket_;
    FrameDecoder decoder_;
};

/// Asynchronous end of one connection. All calls and callbacks on the executor given (a strand, or an io_context run
/// by one thread). It lives until closed by either side; callbacks are dropped then.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    using OnFrame = std::function<void(const std::shared_ptr<Connection>&, Frame)>;
    /// `reason` is empty when the peer closed between frames.
    using OnClosed = std::function<void(const std::shared_ptr<Connection>&, const std::string& reason)>;

    [[nodiscard]] static std::shared_ptr<Connection> adopt(const boost::asio::any_io_executor& executor, Fd socket);
    /// Non-blocking connect to a unix socket: succeeds or fails at once. Errors as Client::connect.
    [[nodiscard]] static Result<std::shared_ptr<Connection>> connect(const boost::asio::any_io_executor& executor,
                                                                     const std::filesystem::path& socket);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    /// Begins to read. Call once.
    void start(OnFrame on_frame, OnClosed on_closed);
    /// Queues one frame (`fds` are kept until sent, then closed here). A peer that lets more than 32 MiB wait is
    /// closed. False: longer than a frame may be, and not sent; the connection goes on.
    bool send(const boost::json::value& body, std::vector<Fd> fds = {});
    /// Sends what is queued, then closes. on_closed does not follow.
    void finish();
    void close();
    [[nodiscard]] bool open() const noexcept;
    [[nodiscard]] PeerCredentials peer() const noexcept;

private:
    struct State;
    explicit Connection(std::unique_ptr<State> state);
    void wait_read();
    void wait_write();
    void read_some();
    void write_some();
    void fail(const std::string& reason);
    std::unique_ptr<State> state_;
};

/// Listens on a unix socket. A stale socket file is replaced; a live one is an error (conflict), but one that goes
/// within two seconds is waited for: it may be of a process that was just killed.
class Server {
public:
    using OnAccept = std::function<void(std::shared_ptr<Connection>)>;
    /// `group`: name of the group that may connect besides the owner; ignored when it does not exist.
    [[nodiscard]] static Result<std::unique_ptr<Server>> listen(const boost::asio::any_io_executor& executor,
                                                                const std::filesystem::path& socket, mode_t mode,
                                                                const char* group, OnAccept on_accept);
    /// Stops accepting and removes the socket file.
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

private:
    struct State;
    explicit Server(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
};

} // namespace stead::control
