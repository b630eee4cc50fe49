// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/web/tls.hpp>

#include <boost/asio/ip/tcp.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

struct ssl_st;

namespace stead::web {

/// A client's bytes, in clear or by TLS. Nothing here blocks: what cannot go on now says which event of the socket it
/// waits for. The handshake is a part of the first reads.
class Pipe {
public:
    enum class State {
        moved,      ///< `bytes` of them
        wait_read,  ///< again when the socket can be read
        wait_write, ///< again when it can be written
        ended,      ///< the client's end, or an error
        clear_text  ///< HTTP where TLS was due; write() goes out in clear from now on
    };
    struct Outcome {
        State state{State::ended};
        std::size_t bytes{};
    };

    /// `tls` null: in clear.
    Pipe(boost::asio::ip::tcp::socket socket, const TlsContext& tls);
    [[nodiscard]] Outcome read(std::span<char> into);
    [[nodiscard]] Outcome write(std::string_view bytes);
    /// Nothing is written any more; the client is told so. What it still sends can be read, deciphered or not.
    void finish();
    /// Bytes have come that only read() shows: no event of the socket will tell.
    [[nodiscard]] bool has_more() const noexcept;
    [[nodiscard]] bool is_tls() const noexcept { return tls_ != nullptr; }
    [[nodiscard]] boost::asio::ip::tcp::socket& socket() noexcept { return socket_; }

private:
    [[nodiscard]] Outcome failed(int result);

    boost::asio::ip::tcp::socket socket_;
    std::unique_ptr<ssl_st, void (*)(ssl_st*)> tls_;
};

} // namespace stead::web
