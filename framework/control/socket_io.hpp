// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/control/channel.hpp>

#include <sys/un.h>

namespace stead::control {

/// Errors: out_of_range when the path does not fit a socket address.
[[nodiscard]] Result<sockaddr_un> unix_address(const std::filesystem::path& path);

/// One recvmsg into the decoder. >0 bytes, 0 the peer closed, -1 errno (EAGAIN included).
[[nodiscard]] ssize_t receive_into(int socket, FrameDecoder& decoder);

/// One sendmsg; descriptors go with the first byte. >=0 bytes, -1 errno.
[[nodiscard]] ssize_t send_from(int socket, std::string_view bytes, std::span<const int> fds);

/// The object as it goes on the wire: with "fds" when there are descriptors.
[[nodiscard]] Result<std::string> encode_with_descriptors(const boost::json::value& body, std::size_t count);

/// A connected non-blocking unix socket.
[[nodiscard]] Result<Fd> connect_unix(const std::filesystem::path& path);

} // namespace stead::control
