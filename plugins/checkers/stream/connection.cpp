// SPDX-License-Identifier: Apache-2.0
#include "connection.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <stdexcept>

namespace stead::checkers {

namespace {

std::string text_of(int error) { return std::strerror(error); }

/// Most are; getaddrinfo takes twenty times as long to find it out, and a literal may be probed each second.
std::optional<Endpoint> plain_literal(const std::string& host, std::uint16_t port) {
    Endpoint endpoint;
    auto& four = reinterpret_cast<sockaddr_in&>(endpoint.address);
    if (::inet_pton(AF_INET, host.c_str(), &four.sin_addr) == 1) {
        four.sin_family = AF_INET;
        four.sin_port = htons(port);
        endpoint.size = sizeof four;
        return endpoint;
    }
    auto& six = reinterpret_cast<sockaddr_in6&>(endpoint.address);
    if (::inet_pton(AF_INET6, host.c_str(), &six.sin6_addr) == 1) { // one with a scope is left to getaddrinfo
        six.sin6_family = AF_INET6;
        six.sin6_port = htons(port);
        endpoint.size = sizeof six;
        return endpoint;
    }
    return std::nullopt;
}

std::vector<Endpoint> look_up(const std::string& host, std::uint16_t port, int flags, int& error) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
    std::vector<Endpoint> all;
    if (error != 0) {
        return all;
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, ::freeaddrinfo);
    for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
        Endpoint endpoint;
        std::memcpy(&endpoint.address, one->ai_addr, one->ai_addrlen);
        endpoint.size = one->ai_addrlen;
        all.push_back(endpoint);
    }
    return all;
}

/// One for all connections of a library. It knows the system's certificates.
SSL_CTX* tls_context() {
    static SSL_CTX* const context = [] {
        SSL_CTX* made = SSL_CTX_new(TLS_client_method());
        if (made != nullptr) {
            SSL_CTX_set_min_proto_version(made, TLS1_2_VERSION);
            SSL_CTX_set_default_verify_paths(made);
            SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        }
        return made;
    }();
    return context;
}

/// A connect to a port of ours at which nobody listens may be given that very port as its source, and meet itself.
bool met_itself(int fd, std::uint16_t port) {
    sockaddr_storage mine{};
    sockaddr_storage theirs{};
    socklen_t my_size = sizeof mine;
    socklen_t their_size = sizeof theirs;
    const auto& four = reinterpret_cast<const sockaddr_in&>(mine); // the port is at one place in both families
    return ::getsockname(fd, reinterpret_cast<sockaddr*>(&mine), &my_size) == 0 && ntohs(four.sin_port) == port &&
           ::getpeername(fd, reinterpret_cast<sockaddr*>(&theirs), &their_size) == 0 && my_size == their_size &&
           std::memcmp(&mine, &theirs, my_size) == 0;
}

std::string tls_error(const ssl_st* tls) {
    const long verdict = SSL_get_verify_result(tls); // it has one although nobody asked for it
    if (SSL_get_verify_mode(tls) != SSL_VERIFY_NONE && verdict != X509_V_OK) {
        return std::string{"certificate: "} + X509_verify_cert_error_string(verdict);
    }
    std::array<char, 256> text{};
    const unsigned long code = ERR_get_error();
    if (code == 0) {
        return "the other side ended it";
    }
    ERR_error_string_n(code, text.data(), text.size());
    return text.data();
}

} // namespace

std::vector<Endpoint> literal(const std::string& host, std::uint16_t port) {
    if (const auto plain = plain_literal(host, port)) {
        return {*plain};
    }
    int error = 0;
    return look_up(host, port, AI_NUMERICHOST, error);
}

std::vector<Endpoint> resolve(const std::string& host, std::uint16_t port) {
    int error = 0;
    auto found = look_up(host, port, 0, error);
    if (error != 0) {
        throw std::runtime_error("cannot resolve " + host + ": " + ::gai_strerror(error));
    }
    return found;
}

Connection::Connection(checker::Loop& loop, Options options, Callbacks callbacks)
    : loop_(loop), options_(std::move(options)), callbacks_(std::move(callbacks)), tls_(nullptr, SSL_free) {}

Connection::~Connection() { drop_socket(); }

void Connection::close() noexcept {
    phase_ = Phase::closed;
    drop_socket();
}

void Connection::drop_socket() noexcept {
    tls_.reset(); // without a close_notify: nobody waits for it
    if (socket_) {
        if (watched_ != 0) {
            loop_.unwatch(socket_.get());
            watched_ = 0;
        }
        socket_.reset();
    }
}

void Connection::end(const std::string& reason) {
    if (phase_ == Phase::closed) {
        return;
    }
    const auto self = shared_from_this(); // on_end may drop the last owner
    close();
    callbacks_.on_end(reason);
}

void Connection::watch(std::uint32_t events) {
    if (events != watched_) {
        loop_.watch(socket_.get(), events, [self = shared_from_this()](std::uint32_t now) { self->ready(now); });
        watched_ = events;
    }
}

void Connection::open() {
    const auto self = shared_from_this(); // a callback may drop the last owner before this returns
    endpoints_ = literal(options_.host, options_.port);
    if (!endpoints_.empty()) {
        connect_next({});
        return;
    }
    struct Found {
        std::vector<Endpoint> endpoints;
        std::string error;
    };
    const auto found = std::make_shared<Found>();
    loop_.work(
        [found, host = options_.host, port = options_.port] {
            try {
                found->endpoints = resolve(host, port);
            } catch (const std::exception& e) {
                found->error = e.what();
            }
        },
        [self = shared_from_this(), found] {
            if (self->phase_ == Phase::resolving) {
                self->endpoints_ = std::move(found->endpoints);
                self->connect_next(found->error);
            }
        });
}

/// `reason`: why the one before was no good.
void Connection::connect_next(const std::string& reason) {
    std::string why = reason;
    while (next_ < endpoints_.size()) {
        drop_socket();
        const Endpoint& endpoint = endpoints_[next_++];
        const auto* address = reinterpret_cast<const sockaddr*>(&endpoint.address);
        socket_ = checker::Descriptor(
            ::socket(endpoint.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
        if (!socket_) {
            why = "socket: " + text_of(errno);
            continue;
        }
        phase_ = Phase::connecting;
        // On this machine the handshake is over as the call returns, and only a second one says so: that saves local
        // probes the way through the loop.
        if (::connect(socket_.get(), address, endpoint.size) == 0 ||
            (errno == EINPROGRESS && ::connect(socket_.get(), address, endpoint.size) == 0)) {
            connected();
            return;
        }
        if (errno == EINPROGRESS || errno == EALREADY) {
            watch(EPOLLOUT);
            return;
        }
        why = text_of(errno);
    }
    end(why.empty() ? "no address" : why);
}

void Connection::connected() {
    if (met_itself(socket_.get(), options_.port)) {
        connect_next(text_of(ECONNREFUSED));
        return;
    }
    if (!options_.tls) {
        phase_ = Phase::open;
        callbacks_.on_open();
        if (phase_ == Phase::open) {
            watch(EPOLLIN | (unsent_.empty() ? 0U : static_cast<std::uint32_t>(EPOLLOUT)));
        }
        return;
    }
    start_tls();
}

void Connection::start_tls() {
    SSL_CTX* context = tls_context();
    tls_.reset(context != nullptr ? SSL_new(context) : nullptr);
    if (tls_ == nullptr || SSL_set_fd(tls_.get(), socket_.get()) != 1) {
        end("TLS is not available");
        return;
    }
    const std::string& name = options_.server_name.empty() ? options_.host : options_.server_name;
    const bool is_literal = !literal(name, 0).empty();
    if (!is_literal) {
        SSL_set_tlsext_host_name(tls_.get(), name.c_str());
    }
    if (options_.verify) {
        SSL_set_verify(tls_.get(), SSL_VERIFY_PEER, nullptr);
        if (is_literal) {
            X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls_.get()), name.c_str());
        } else {
            SSL_set1_host(tls_.get(), name.c_str());
        }
    }
    phase_ = Phase::handshake;
    handshake();
}

void Connection::handshake() {
    ERR_clear_error();
    const int done = SSL_connect(tls_.get());
    if (done == 1) {
        phase_ = Phase::open;
        callbacks_.on_open();
        if (phase_ == Phase::open) {
            watch(EPOLLIN | (unsent_.empty() ? 0U : static_cast<std::uint32_t>(EPOLLOUT)));
        }
        return;
    }
    switch (SSL_get_error(tls_.get(), done)) {
    case SSL_ERROR_WANT_READ: watch(EPOLLIN); break;
    case SSL_ERROR_WANT_WRITE: watch(EPOLLOUT); break;
    default: end("TLS handshake: " + tls_error(tls_.get()));
    }
}

void Connection::ready(std::uint32_t events) {
    if (phase_ == Phase::connecting) {
        int error = 0;
        socklen_t size = sizeof error;
        ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) {
            connect_next(text_of(error));
        } else {
            connected();
        }
    } else if (phase_ == Phase::handshake) {
        handshake();
    } else if (phase_ == Phase::open) {
        if ((events & EPOLLOUT) != 0) {
            write_more();
        }
        if (phase_ == Phase::open && (events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) {
            read_more();
        }
    }
}

void Connection::send(std::string_view bytes) {
    unsent_ += bytes;
    write_more();
}

void Connection::write_more() {
    while (!unsent_.empty()) {
        long sent = 0;
        if (tls_ != nullptr) {
            ERR_clear_error();
            const int done = SSL_write(tls_.get(), unsent_.data(), static_cast<int>(unsent_.size()));
            const int why = SSL_get_error(tls_.get(), done);
            if (done <= 0 && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
                end("TLS: " + tls_error(tls_.get()));
                return;
            }
            sent = done;
        } else {
            sent = ::send(socket_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
            if (sent < 0 && errno != EAGAIN && errno != EINTR) {
                end("send: " + text_of(errno));
                return;
            }
        }
        if (sent <= 0) {
            watch(EPOLLIN | EPOLLOUT);
            return;
        }
        unsent_.erase(0, static_cast<std::size_t>(sent));
    }
    watch(EPOLLIN);
}

void Connection::read_more() {
    std::array<char, 16384> buffer{};
    // A few rounds at most, so that one that floods us does not hold up the others.
    for (int round = 0; round < 4 && phase_ == Phase::open; ++round) {
        long got = 0;
        if (tls_ != nullptr) {
            ERR_clear_error();
            const int done = SSL_read(tls_.get(), buffer.data(), static_cast<int>(buffer.size()));
            const int why = SSL_get_error(tls_.get(), done);
            if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
                return;
            }
            if (why == SSL_ERROR_SSL) { // an alert, such as that of a server that wants a certificate of ours
                end("TLS: " + tls_error(tls_.get()));
                return;
            }
            got = done;
        } else {
            got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
                return;
            }
        }
        if (got <= 0) {
            end(got < 0 && tls_ == nullptr ? "receive: " + text_of(errno) : std::string{closed_by_peer});
            return;
        }
        callbacks_.on_data(std::string_view(buffer.data(), static_cast<std::size_t>(got)));
    }
    if (phase_ == Phase::open && tls_ != nullptr && SSL_pending(tls_.get()) > 0) {
        // Decrypted already: no event of the socket will tell.
        loop_.after(std::chrono::nanoseconds{0}, [self = shared_from_this()] {
            if (self->phase_ == Phase::open) {
                self->read_more();
            }
        });
    }
}

} // namespace stead::checkers
