// SPDX-License-Identifier: Apache-2.0
#include "pipe.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace stead::web {
namespace {

Pipe::Outcome of_call(ssize_t got, Pipe::State wait) {
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return {wait, 0};
    }
    return got > 0 ? Pipe::Outcome{Pipe::State::moved, static_cast<std::size_t>(got)} : Pipe::Outcome{};
}

} // namespace

Pipe::Pipe(boost::asio::ip::tcp::socket socket, const TlsContext& tls)
    : socket_(std::move(socket)), tls_(nullptr, &::SSL_free) {
    boost::system::error_code ignored;
    socket_.non_blocking(true, ignored);
    socket_.set_option(boost::asio::ip::tcp::no_delay(true), ignored);
    if (tls) {
        tls_.reset(::SSL_new(tls.get()));
        if (!tls_ || ::SSL_set_fd(tls_.get(), socket_.native_handle()) != 1) {
            socket_.close(ignored); // out of memory: the first read says that it ended
            return;
        }
        ::SSL_set_accept_state(tls_.get());
    }
}

Pipe::Outcome Pipe::read(std::span<char> into) {
    if (!tls_) {
        return of_call(::recv(socket_.native_handle(), into.data(), into.size(), MSG_DONTWAIT), State::wait_read);
    }
    ::ERR_clear_error();
    const int got = ::SSL_read(tls_.get(), into.data(), static_cast<int>(into.size()));
    return got > 0 ? Outcome{State::moved, static_cast<std::size_t>(got)} : failed(got);
}

Pipe::Outcome Pipe::write(std::string_view bytes) {
    if (!tls_) {
        return of_call(::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL),
                       State::wait_write);
    }
    ::ERR_clear_error();
    constexpr std::size_t most = 65536;
    const int put = ::SSL_write(tls_.get(), bytes.data(), static_cast<int>(std::min(bytes.size(), most)));
    return put > 0 ? Outcome{State::moved, static_cast<std::size_t>(put)} : failed(put);
}

Pipe::Outcome Pipe::failed(int result) {
    switch (::SSL_get_error(tls_.get(), result)) {
    case SSL_ERROR_WANT_READ: return {State::wait_read, 0};
    case SSL_ERROR_WANT_WRITE: return {State::wait_write, 0};
    case SSL_ERROR_SSL:
        if (ERR_GET_REASON(::ERR_peek_error()) == SSL_R_HTTP_REQUEST) {
            tls_.reset();
            return {State::clear_text, 0};
        }
        break;
    default: break;
    }
    ::ERR_clear_error();
    return {};
}

void Pipe::finish() {
    if (tls_) {
        ::ERR_clear_error();
        ::SSL_shutdown(tls_.get()); // its own end only; the client's need not be waited for
        tls_.reset();               // what comes now is thrown away without being deciphered
    }
    boost::system::error_code ignored;
    socket_.shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
}

bool Pipe::has_more() const noexcept { return tls_ && ::SSL_pending(tls_.get()) > 0; }

} // namespace stead::web
