// SPDX-License-Identifier: Apache-2.0
// Bytes of a stranger on TCP 4800: TLS ends with an error, and the connection never counts as made with the key.
#include "tls_stream.hpp"

#include <stead/base/assert.hpp>

#include <sys/socket.h>
#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace stead;
    static const wire::Context context = wire::make_context(true);
    int ends[2];
    STEAD_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    const Fd stranger(ends[0]);
    STEAD_ASSERT(::send(stranger.get(), data, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size));
    ::shutdown(stranger.get(), SHUT_WR);
    wire::TlsStream stream{Fd(ends[1]), -1, context.get(), wire::pre_shared({std::string(32, 'k')}), "fuzzer"};
    STEAD_ASSERT(!stream.handshake(true, milliseconds{1000}));
    STEAD_ASSERT(!stream.read_frame(milliseconds{1000}));
    return 0;
}
