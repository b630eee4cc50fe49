// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/base/time.hpp>
#include <stead/web/routes.hpp>
#include <stead/web/tls.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

/// One port of HTTP or HTTPS: many clients, hostile ones too, on one thread. One holds no more than a socket until it
/// sends something, and one header's bytes then. When places run out, the client that has been idle longest goes.
namespace stead::web {

/// What requests are answered from. Called on the server's thread.
struct Backend {
    std::function<bool(std::string_view module)> is_ready;
    std::function<void(const Question&, std::string_view token, std::function<void(Reply)>)> ask;
    std::string version;
    bool api{true};
    /// Stamp of the last start of a ready module, the ETag of its health URL; null or empty = none.
    std::function<std::string(std::string_view module)> started{};
    /// Is this the node's token? Null: no caller has it.
    std::function<bool(std::string_view token)> knows{};
};

struct ServerLimits {
    std::size_t connections_max{8192};
    std::size_t per_source_max{512};      ///< of one IPv4 address or one IPv6 /64
    milliseconds request_limit{5000};     ///< from the first moment to the end of the header, however slow the bytes
    milliseconds keep_alive_limit{15000}; ///< from one answer to the next request
    milliseconds answer_limit{15000};     ///< until the answer is read by the client
};

struct ServerCounters {
    std::uint64_t accepted{}, answered{}, evicted{}, timed_out{}, malformed{};
    std::size_t open{};
};

class HttpServer {
public:
    /// `address` empty: every address, IPv4 and IPv6. Port 0: any free one. `tls` null: plain HTTP.
    /// Errors: conflict when the port is taken, io; `where` names address and port.
    [[nodiscard]] static Result<std::unique_ptr<HttpServer>> listen(boost::asio::io_context& io,
                                                                    const std::string& address, std::uint16_t port,
                                                                    Backend backend, const ServerLimits& limits = {},
                                                                    TlsContext tls = {});
    ~HttpServer();
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;
    [[nodiscard]] std::uint16_t port() const;
    [[nodiscard]] ServerCounters counters() const;

    struct State;

private:
    explicit HttpServer(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
};

/// Who asks for the API.
struct Caller {
    boost::asio::ip::address peer, own; ///< the connection's two ends
    std::string_view host;              ///< header field
    bool tls{};
    bool has_token{}; ///< this node's
};
/// May this client use the API? Nothing, or why not. Callers of this machine may, if `host` is no name that somebody
/// else may point at it (DNS rebinding); from another machine those who show the token, over TLS.
[[nodiscard]] std::optional<Refusal> api_refusal(bool enabled, const Caller& caller);
/// The token of "Bearer …"; empty = none.
[[nodiscard]] std::string_view bearer_token(std::string_view authorization) noexcept;

} // namespace stead::web
