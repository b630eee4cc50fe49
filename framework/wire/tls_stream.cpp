// SPDX-License-Identifier: Apache-2.0
#include "tls_stream.hpp"

#include <stead/base/assert.hpp>
#include <stead/base/limits.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <utility>

namespace stead::wire {
namespace {

constexpr char stream_label[] = "stead stream v1";

SSL_SESSION* make_psk_session(SSL* ssl, const DerivedKey& secret) {
    static constexpr unsigned char aes_256_gcm_sha384[] = {0x13, 0x02};
    SSL_SESSION* session = SSL_SESSION_new();
    const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, aes_256_gcm_sha384);
    if (session == nullptr || cipher == nullptr ||
        SSL_SESSION_set1_master_key(session, secret.data(), secret.size()) != 1 ||
        SSL_SESSION_set_cipher(session, cipher) != 1 ||
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1) {
        SSL_SESSION_free(session);
        return nullptr;
    }
    return session;
}

int client_psk(SSL* ssl, const EVP_MD* digest, const unsigned char** id, std::size_t* id_bytes, SSL_SESSION** out) {
    const auto* keys = static_cast<const Keys*>(SSL_get_app_data(ssl));
    *out = nullptr;
    if (digest != nullptr && EVP_MD_get_type(digest) != NID_sha384) {
        return 1; // the server chose another suite: go on without a key, which fails for lack of a certificate
    }
    *out = make_psk_session(ssl, keys->front().secret);
    *id = reinterpret_cast<const unsigned char*>(keys->front().identity.data());
    *id_bytes = keys->front().identity.size();
    return *out != nullptr ? 1 : 0;
}

int server_psk(SSL* ssl, const unsigned char* id, std::size_t id_bytes, SSL_SESSION** out) {
    const auto* keys = static_cast<const Keys*>(SSL_get_app_data(ssl));
    const std::string_view wanted{reinterpret_cast<const char*>(id), id_bytes};
    *out = nullptr;
    for (const PreShared& key : *keys) {
        if (key.identity == wanted) {
            *out = make_psk_session(ssl, key.secret);
            return *out != nullptr ? 1 : 0;
        }
    }
    return 1;
}

} // namespace

Keys pre_shared(const std::vector<std::string>& keys, const char* use) {
    Keys out;
    for (const std::string& key : keys) {
        out.push_back({"stead-" + key_name(key), derive(stream_label, key, use)});
    }
    return out;
}

Context make_context(bool server) {
    Context context{SSL_CTX_new(server ? TLS_server_method() : TLS_client_method())};
    STEAD_ASSERT(context != nullptr);
    STEAD_ASSERT(SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) == 1);
    STEAD_ASSERT(SSL_CTX_set_ciphersuites(context.get(), "TLS_AES_256_GCM_SHA384") == 1);
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context.get(), 0);
    SSL_CTX_set_options(context.get(), SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    // No authority is trusted, so that a peer that answers with a certificate instead of the key is refused.
    SSL_CTX_set_verify(context.get(), server ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, nullptr);
    if (server) {
        SSL_CTX_set_psk_find_session_callback(context.get(), server_psk);
    } else {
        SSL_CTX_set_psk_use_session_callback(context.get(), client_psk);
    }
    return context;
}

Result<Address> parse_address(const std::string& text, std::uint16_t port) {
    Address out;
    auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
    if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        out.size = sizeof *v4;
    } else if (inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        out.size = sizeof *v6;
    } else {
        return Error{Errc::malformed, "TCP " + std::to_string(port), "'" + text + "' is not an IPv4 or IPv6 address"};
    }
    return out;
}

std::string host_text(const Address& address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    const void* bytes =
        address.storage.ss_family == AF_INET
            ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr)
            : &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr;
    inet_ntop(address.storage.ss_family, bytes, text.data(), text.size());
    return text.data();
}

std::string endpoint_text(const Address& address) {
    const bool v4 = address.storage.ss_family == AF_INET;
    const std::uint16_t port = v4 ? reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port
                                  : reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port;
    return (v4 ? host_text(address) : "[" + host_text(address) + "]") + ":" + std::to_string(ntohs(port));
}

TlsStream::TlsStream(Fd socket, int stop_fd, SSL_CTX* context, Keys keys, std::string peer)
    : socket_(std::move(socket)), stop_fd_(stop_fd), keys_(std::move(keys)), ssl_(SSL_new(context)),
      peer_(std::move(peer)) {
    STEAD_ASSERT(ssl_ != nullptr);
    SSL_set_app_data(ssl_.get(), &keys_);
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    STEAD_ASSERT(in_ != nullptr && out_ != nullptr);
    BIO_set_mem_eof_return(in_, -1);
    SSL_set_bio(ssl_.get(), in_, out_);
}

TlsStream::~TlsStream() {
    if (!dead_) {
        SSL_shutdown(ssl_.get());
        (void)flush(BootClock::now() + milliseconds{200});
    }
    ERR_clear_error();
}

Result<void> TlsStream::handshake(bool server, milliseconds timeout) {
    const Instant deadline = BootClock::now() + timeout;
    if (server) {
        SSL_set_accept_state(ssl_.get());
    } else {
        SSL_set_connect_state(ssl_.get());
    }
    if (auto done = drive([this] { return SSL_do_handshake(ssl_.get()); }, deadline); !done) {
        return std::move(done).error();
    }
    if (auto flushed = flush(deadline); !flushed) {
        return flushed;
    }
    if (SSL_session_reused(ssl_.get()) != 1) { // TLS 1.3 counts the use of a pre-shared key as reuse
        return fail(Errc::denied, "the connection was not made with the cluster key");
    }
    return {};
}

Result<std::string> TlsStream::read_frame(milliseconds timeout) {
    const Instant deadline = BootClock::now() + timeout;
    std::array<std::uint8_t, 4> head{};
    if (auto got = read_exactly(head.data(), head.size(), deadline, true); !got) {
        return std::move(got).error();
    }
    const std::uint32_t size =
        std::uint32_t{head[0]} << 24 | std::uint32_t{head[1]} << 16 | std::uint32_t{head[2]} << 8 | head[3];
    if (size > limits::stream_frame_bytes_max) {
        return fail(Errc::out_of_range, "frame of " + std::to_string(size) + " bytes, the maximum is " +
                                            std::to_string(limits::stream_frame_bytes_max));
    }
    std::string frame;
    while (frame.size() < size) { // grown as bytes arrive: a claimed length alone costs no memory
        const std::size_t part = std::min<std::size_t>(size - frame.size(), 65536);
        const std::size_t at = frame.size();
        frame.resize(at + part);
        if (auto got = read_exactly(frame.data() + at, part, deadline, false); !got) {
            return std::move(got).error();
        }
    }
    return frame;
}

Result<void> TlsStream::write_frame(std::string_view frame, milliseconds timeout) {
    if (frame.size() > limits::stream_frame_bytes_max) {
        return Error{Errc::out_of_range, peer_,
                     "frame of " + std::to_string(frame.size()) + " bytes, the maximum is " +
                         std::to_string(limits::stream_frame_bytes_max)};
    }
    const Instant deadline = BootClock::now() + timeout;
    const auto size = static_cast<std::uint32_t>(frame.size());
    std::string bytes;
    bytes.reserve(size + 4);
    for (int shift = 24; shift >= 0; shift -= 8) {
        bytes.push_back(static_cast<char>(size >> shift & 0xff));
    }
    bytes.append(frame);
    for (std::size_t at = 0; at < bytes.size();) {
        const int part = static_cast<int>(std::min<std::size_t>(bytes.size() - at, 65536));
        const auto wrote = drive([&] { return SSL_write(ssl_.get(), bytes.data() + at, part); }, deadline);
        if (!wrote) {
            return std::move(wrote).error();
        }
        at += static_cast<std::size_t>(*wrote);
        if (auto flushed = flush(deadline); !flushed) {
            return flushed;
        }
    }
    return {};
}

Error TlsStream::fail(Errc code, std::string what) {
    dead_ = true;
    return Error{code, peer_, std::move(what)};
}

Result<void> TlsStream::wait(short events, Instant deadline) {
    for (;;) {
        const auto rest = std::chrono::ceil<milliseconds>(deadline - BootClock::now()).count();
        if (rest <= 0) {
            return fail(Errc::timed_out, "no answer in time");
        }
        std::array<pollfd, 2> fds{pollfd{socket_.get(), events, 0}, pollfd{stop_fd_, POLLIN, 0}};
        const int ready = ::poll(fds.data(), fds.size(), static_cast<int>(std::min<std::int64_t>(rest, 60000)));
        if (ready < 0 && errno != EINTR) {
            dead_ = true;
            return os_error(peer_, "poll", errno);
        }
        if (fds[1].revents != 0) {
            return fail(Errc::refused, "the server stops");
        }
        if (ready > 0 && fds[0].revents != 0) {
            return {};
        }
    }
}

/// Everything that TLS wants to say goes to the socket.
Result<void> TlsStream::flush(Instant deadline) {
    for (;;) {
        if (pending_.empty()) {
            const std::size_t size = BIO_ctrl_pending(out_);
            if (size == 0) {
                return {};
            }
            pending_.resize(size);
            const int got = BIO_read(out_, pending_.data(), static_cast<int>(size));
            STEAD_ASSERT(got == static_cast<int>(size));
        }
        const ssize_t sent = ::send(socket_.get(), pending_.data(), pending_.size(), MSG_NOSIGNAL);
        if (sent >= 0) {
            pending_.erase(0, static_cast<std::size_t>(sent));
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (auto waited = wait(POLLOUT, deadline); !waited) {
                return waited;
            }
        } else if (errno != EINTR) {
            const int number = errno;
            dead_ = true;
            return os_error(peer_, "send", number);
        }
    }
}

/// Bytes from the socket to TLS; false at the end of the stream.
Result<bool> TlsStream::feed(Instant deadline) {
    std::array<char, 16384> buffer{};
    for (;;) {
        const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
        if (got > 0) {
            STEAD_ASSERT(BIO_write(in_, buffer.data(), static_cast<int>(got)) == static_cast<int>(got));
            return true;
        }
        if (got == 0) {
            return false;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (auto waited = wait(POLLIN, deadline); !waited) {
                return std::move(waited).error();
            }
        } else if (errno != EINTR) {
            const int number = errno;
            dead_ = true;
            return os_error(peer_, "receive", number);
        }
    }
}

/// Repeats an SSL call until it succeeds, moving bytes as it asks. not_found: the peer closed in good order.
template <class Call>
Result<int> TlsStream::drive(Call call, Instant deadline) {
    if (dead_) {
        return Error{Errc::io, peer_, "this connection has failed before"};
    }
    for (;;) {
        ERR_clear_error();
        const int done = call();
        const int why = done > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), done);
        const unsigned long code = ERR_peek_error();
        if (auto flushed = flush(deadline); !flushed && done <= 0) {
            return std::move(flushed).error();
        }
        if (done > 0) {
            return done;
        }
        if (why == SSL_ERROR_ZERO_RETURN) {
            return fail(Errc::not_found, "the peer closed the connection");
        }
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
            return fail(Errc::denied,
                        "TLS: " +
                            std::string{ERR_reason_error_string(code) != nullptr ? ERR_reason_error_string(code)
                                                                                 : "unknown failure"} +
                            "; do both nodes have the same cluster key?");
        }
        if (why == SSL_ERROR_WANT_READ) {
            const auto fed = feed(deadline);
            if (!fed) {
                return std::move(fed).error();
            }
            if (!*fed) {
                return fail(Errc::io, "the connection broke off");
            }
        }
    }
}

Result<void> TlsStream::read_exactly(void* to, std::size_t size, Instant deadline, bool may_end) {
    for (std::size_t at = 0; at < size;) {
        const auto got = drive(
            [&] { return SSL_read(ssl_.get(), static_cast<char*>(to) + at, static_cast<int>(size - at)); }, deadline);
        if (!got) {
            Error error = std::move(got).error();
            if (error.code == Errc::not_found && !(may_end && at == 0)) {
                error.code = Errc::io;
            }
            return error;
        }
        at += static_cast<std::size_t>(*got);
    }
    return {};
}

} // namespace stead::wire
