// SPDX-License-Identifier: Apache-2.0
// Bytes of a stranger on a replication port: the stream ends with an error, is never taken as made with the key, and no
// frame comes out of it.
#include <stead/base/assert.hpp>
#include <stead/wire/duplex_stream.hpp>

#include <sys/epoll.h>
#include <sys/socket.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace stead;
    int ends[2];
    STEAD_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    const Fd stranger(ends[0]);
    STEAD_ASSERT(::send(stranger.get(), data, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size));
    ::shutdown(stranger.get(), SHUT_WR);
    const auto stream =
        wire::DuplexStream::make(Fd(ends[1]), wire::DuplexStream::Side::server, {std::string(32, 'k')}, "fuzzer", {});
    stream->send(std::string(wire::DuplexStream::head_bytes, '\0') + "waits");
    const auto result = stream->ready(EPOLLIN | EPOLLRDHUP, [](std::string_view) {
        STEAD_ASSERT(false);
        return false;
    });
    STEAD_ASSERT(!result && !stream->shaken() && stream->queued_bytes() == 0);
    return 0;
}
