// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/wire/keys.hpp>
#include <stead/wire/stream.hpp>

#include <openssl/ssl.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// What client and server of the streams share: addresses, keys, and TLS over one socket.
namespace stead::wire {

struct PreShared {
    std::string identity; // "stead-1a2b3c4d"
    DerivedKey secret;
};
/// The keys that the callbacks of one connection look at; lives as long as the connection.
using Keys = std::vector<PreShared>;
/// `use`: streams of different uses do not open each other's.
inline constexpr char requests_use[] = "psk";
inline constexpr char duplex_use[] = "duplex psk";
[[nodiscard]] Keys pre_shared(const std::vector<std::string>& keys, const char* use = requests_use);

struct FreeSsl {
    void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
    void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
};
using Context = std::unique_ptr<SSL_CTX, FreeSsl>;
using Session = std::unique_ptr<SSL, FreeSsl>;
[[nodiscard]] Context make_context(bool server);

struct Address {
    sockaddr_storage storage{};
    socklen_t size{};
    [[nodiscard]] sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
};
[[nodiscard]] Result<Address> parse_address(const std::string& text, std::uint16_t port);
[[nodiscard]] std::string host_text(const Address& address);     ///< "10.0.0.1", "fd00::1"
[[nodiscard]] std::string endpoint_text(const Address& address); ///< "10.0.0.1:4800", "[fd00::1]:4800"

[[nodiscard]] Result<Fd> listen_on(Address address, const std::string& where);

/// TLS over a non-blocking socket through memory buffers: every wait is a poll with a deadline, and no SIGPIPE.
class TlsStream final : public Stream {
public:
    /// `stop_fd`: readable = give up at once; -1 for none.
    TlsStream(Fd socket, int stop_fd, SSL_CTX* context, Keys keys, std::string peer);
    ~TlsStream() override;
    [[nodiscard]] Result<void> handshake(bool server, milliseconds timeout);
    [[nodiscard]] Result<std::string> read_frame(milliseconds timeout) override;
    [[nodiscard]] Result<void> write_frame(std::string_view frame, milliseconds timeout) override;
    [[nodiscard]] const std::string& peer() const noexcept override { return peer_; }

private:
    Error fail(Errc code, std::string what);
    [[nodiscard]] Result<void> wait(short events, Instant deadline);
    [[nodiscard]] Result<void> flush(Instant deadline);
    [[nodiscard]] Result<bool> feed(Instant deadline);
    template <class Call>
    [[nodiscard]] Result<int> drive(Call call, Instant deadline);
    [[nodiscard]] Result<void> read_exactly(void* to, std::size_t size, Instant deadline, bool may_end);

    Fd socket_;
    int stop_fd_;
    Keys keys_;
    Session ssl_;
    BIO* in_{};  // owned by ssl_
    BIO* out_{}; // owned by ssl_
    std::string pending_;
    std::string peer_;
    bool dead_{};
};

} // namespace stead::wire
