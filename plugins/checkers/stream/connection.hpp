// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/checker_loop.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <sys/socket.h>

struct ssl_st;

namespace stead::checkers {

struct Endpoint {
    sockaddr_storage address{};
    socklen_t size{};
};

/// Every address of a name or a literal, for `port`. Blocks when it is a name. Throws std::runtime_error.
[[nodiscard]] std::vector<Endpoint> resolve(const std::string& host, std::uint16_t port);
/// The same for a literal only; empty = it is a name.
[[nodiscard]] std::vector<Endpoint> literal(const std::string& host, std::uint16_t port);

/// One TCP connection of a probe, with TLS if wanted. All members in the loop; a callback may close().
///
/// Names are resolved at each connection, on a thread of the loop's pool; the addresses are tried one after the other.
/// Lifetime: held by shared_ptr; after close() no callback comes. Errors: on_end gives the reason, once.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    struct Options {
        std::string host;
        std::uint16_t port{};
        bool tls{};
        bool verify{};           ///< the certificate, and that it is for `server_name`
        std::string server_name; ///< empty: `host`; also sent as SNI when it is a name
    };
    struct Callbacks {
        std::function<void()> on_open; ///< connected, TLS handshake done
        std::function<void(std::string_view)> on_data;
        std::function<void(const std::string& reason)> on_end; ///< refused, failed, or "closed by the other side"
    };
    static constexpr std::string_view closed_by_peer = "closed by the other side";

    Connection(checker::Loop& loop, Options options, Callbacks callbacks);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection();

    void open();
    /// What the kernel does not take at once is sent later.
    void send(std::string_view bytes);
    void close() noexcept;

private:
    enum class Phase : std::uint8_t { resolving, connecting, handshake, open, closed };
    void connect_next(const std::string& reason);
    void connected();
    void start_tls();
    void handshake();
    void ready(std::uint32_t events);
    void write_more();
    void read_more();
    void end(const std::string& reason);
    void watch(std::uint32_t events);
    void drop_socket() noexcept;

    checker::Loop& loop_;
    const Options options_;
    Callbacks callbacks_;
    Phase phase_{Phase::resolving};
    std::vector<Endpoint> endpoints_;
    std::size_t next_{};
    checker::Descriptor socket_;
    std::uint32_t watched_{};
    std::unique_ptr<ssl_st, void (*)(ssl_st*)> tls_;
    std::string unsent_;
};

} // namespace stead::checkers
