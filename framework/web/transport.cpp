// SPDX-License-Identifier: Apache-2.0
#include "transport.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <utility>

namespace stead::web {
namespace {

int length_of(std::size_t size) { return static_cast<int>(std::min<std::size_t>(size, INT_MAX)); }

Transport::Step plain(ssize_t done, Transport::Next wait) {
    using Next = Transport::Next;
    if (done > 0) {
        return {static_cast<std::size_t>(done), Next::go_on};
    }
    return {0, done < 0 && (errno == EAGAIN || errno == EINTR) ? wait : Next::close};
}

} // namespace

Transport::Transport(boost::asio::ip::tcp::socket socket, const TlsIdentity& identity)
    : socket_(std::move(socket)), identity_(identity),
      tls_(identity ? ::SSL_new(identity.get()) : nullptr, ::SSL_free) {
    if (tls_) {
        ::SSL_set_fd(tls_.get(), socket_.native_handle());
        ::SSL_set_accept_state(tls_.get());
    }
}

Transport::Step Transport::step_of(int result) const {
    if (result > 0) {
        return {static_cast<std::size_t>(result), Next::go_on};
    }
    const int error = ::SSL_get_error(tls_.get(), result);
    ::ERR_clear_error(); // the queue is the thread's, and the next session must not find it
    return {0, error == SSL_ERROR_WANT_READ    ? Next::wait_read
               : error == SSL_ERROR_WANT_WRITE ? Next::wait_write
                                               : Next::close};
}

Transport::Step Transport::read(std::span<char> into) {
    if (tls_) {
        return step_of(::SSL_read(tls_.get(), into.data(), length_of(into.size())));
    }
    return plain(::recv(socket_.native_handle(), into.data(), into.size(), MSG_DONTWAIT), Next::wait_read);
}

Transport::Step Transport::write(std::string_view from) {
    if (tls_) {
        return step_of(::SSL_write(tls_.get(), from.data(), length_of(from.size())));
    }
    return plain(::send(socket_.native_handle(), from.data(), from.size(), MSG_DONTWAIT | MSG_NOSIGNAL),
                 Next::wait_write);
}

bool Transport::has_more() const noexcept { return tls_ && ::SSL_pending(tls_.get()) > 0; }

Transport::Step Transport::discard() {
    std::array<char, 4096> bytes;
    return plain(::recv(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT), Next::wait_read);
}

void Transport::end_writing() {
    if (tls_) {
        ::SSL_shutdown(tls_.get()); // a word to the client, if there is room for it
        ::ERR_clear_error();
    }
    boost::system::error_code ignored;
    socket_.shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
}

} // namespace stead::web
