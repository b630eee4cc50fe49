// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/net/net.hpp>

#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace stead::net {

/// An address as the kernel wants it: 4 or 16 bytes in network order.
struct IpBytes {
    int family{AF_UNSPEC};
    std::array<std::uint8_t, 16> bytes{};
    [[nodiscard]] std::size_t size() const noexcept { return family == AF_INET ? 4 : 16; }
    [[nodiscard]] int prefix_max() const noexcept { return family == AF_INET ? 32 : 128; }
    friend bool operator==(const IpBytes&, const IpBytes&) = default;
};
[[nodiscard]] Result<IpBytes> parse_ip(const std::string& text);
[[nodiscard]] std::string to_text(const IpBytes& ip);
[[nodiscard]] std::string interface_name(std::uint32_t ifindex);

struct NlSocketFree {
    void operator()(nl_sock* s) const noexcept { nl_socket_free(s); }
};
struct NlMessageFree {
    void operator()(nl_msg* m) const noexcept { nlmsg_free(m); }
};
using NlSocket = std::unique_ptr<nl_sock, NlSocketFree>;
using NlMessage = std::unique_ptr<nl_msg, NlMessageFree>;

[[nodiscard]] Result<NlSocket> open_route_socket();
/// Sends one request and waits for its acknowledgement. Returns 0 or a libnl error code (-NLE_…).
[[nodiscard]] int request(nl_sock* socket, nl_msg* message);
/// Dumps all objects of a type ("RTM_GETLINK"); `each` sees every message.
[[nodiscard]] Result<void> dump(nl_sock* socket, int type, int family,
                                const std::function<void(const nlmsghdr*)>& each);

} // namespace stead::net
