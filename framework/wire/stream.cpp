// SPDX-License-Identifier: Apache-2.0
#include "tls_stream.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace stead::wire {
namespace {

Result<Fd> connect_socket(Address address, const std::string& where, Instant deadline) {
    Fd socket{::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!socket) {
        return os_error(where, "socket", errno);
    }
    const int one = 1;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (::connect(socket.get(), address.get(), address.size) == 0) {
        return socket;
    }
    if (errno != EINPROGRESS) {
        return os_error(where, "cannot connect", errno);
    }
    for (;;) {
        const auto rest = std::chrono::ceil<milliseconds>(deadline - BootClock::now()).count();
        pollfd fd{socket.get(), POLLOUT, 0};
        const int ready = rest > 0 ? ::poll(&fd, 1, static_cast<int>(std::min<std::int64_t>(rest, 60000))) : 0;
        if (rest <= 0) {
            return Error{Errc::timed_out, where, "no answer to the connection attempt"};
        }
        if (ready > 0) {
            int error = 0;
            socklen_t size = sizeof error;
            ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
            if (error != 0) {
                return os_error(where, "cannot connect", error);
            }
            return socket;
        }
        if (ready < 0 && errno != EINTR) {
            return os_error(where, "poll", errno);
        }
    }
}

} // namespace

Result<std::unique_ptr<Stream>> StreamClient::connect(const std::string& address, std::uint16_t port,
                                                      const std::vector<std::string>& keys, milliseconds timeout) {
    const Instant deadline = BootClock::now() + timeout;
    auto parsed = parse_address(address, port);
    if (!parsed) {
        return std::move(parsed).error();
    }
    const std::string where = endpoint_text(*parsed);
    Error last{Errc::denied, where, "there is no cluster key on this node; run 'stead cluster genkey'"};
    for (const PreShared& key : pre_shared(keys)) {
        auto socket = connect_socket(*parsed, where, deadline);
        if (!socket) {
            return std::move(socket).error();
        }
        static const Context context = make_context(false);
        auto stream = std::make_unique<TlsStream>(std::move(*socket), -1, context.get(), Keys{key}, where);
        const auto rest = std::chrono::ceil<milliseconds>(deadline - BootClock::now());
        auto shaken = stream->handshake(false, rest);
        if (shaken) {
            return std::unique_ptr<Stream>{std::move(stream)};
        }
        last = std::move(shaken).error();
        if (last.code != Errc::denied) {
            break;
        }
    }
    return last;
}

} // namespace stead::wire
