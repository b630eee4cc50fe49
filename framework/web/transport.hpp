// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/web/tls_identity.hpp>

#include <boost/asio/ip/tcp.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

struct ssl_st;

namespace stead::web {

/// The bytes of one client, plain or in TLS. Nothing blocks; the handshake goes on inside read().
class Transport {
public:
    enum class Next : std::uint8_t { go_on, wait_read, wait_write, close };
    struct Step {
        std::size_t bytes{};
        Next next{};
    };

    /// `identity` null: plain.
    Transport(boost::asio::ip::tcp::socket socket, const TlsIdentity& identity);

    [[nodiscard]] Step read(std::span<char> into);
    [[nodiscard]] Step write(std::string_view from);
    /// Bytes that read() gives without the socket.
    [[nodiscard]] bool has_more() const noexcept;
    /// Takes what still comes, whatever it is.
    [[nodiscard]] Step discard();
    /// Nothing more is written.
    void end_writing();
    [[nodiscard]] boost::asio::ip::tcp::socket& socket() noexcept { return socket_; }

private:
    [[nodiscard]] Step step_of(int result) const;

    boost::asio::ip::tcp::socket socket_;
    TlsIdentity identity_; ///< outlives tls_
    std::unique_ptr<ssl_st, void (*)(ssl_st*)> tls_;
};

} // namespace stead::web
