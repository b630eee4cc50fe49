// SPDX-License-Identifier: Apache-2.0
#include "sockets.hpp"

#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>

namespace stead::bus {
namespace {

constexpr int receive_queue_bytes = 1 << 20;
constexpr unsigned failures_before_revival = 20;

Result<Address> parse(const std::string& text, std::uint16_t port, const std::string& where) {
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_DGRAM;
    addrinfo* found = nullptr;
    if (::getaddrinfo(text.c_str(), std::to_string(port).c_str(), &hints, &found) != 0 || found == nullptr) {
        return Error{Errc::malformed, where, "'" + text + "' is not an IPv4 or IPv6 address"};
    }
    Address out;
    std::copy_n(reinterpret_cast<const char*>(found->ai_addr), found->ai_addrlen,
                reinterpret_cast<char*>(&out.storage));
    out.size = found->ai_addrlen;
    ::freeaddrinfo(found);
    return out;
}

Result<Fd> bind_socket(const Address& local, const std::string& where, bool even_if_absent) {
    const int family = local.storage.ss_family;
    Fd fd{::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!fd) {
        return os_error(where, "socket", errno);
    }
    const int one = 1;
    if (even_if_absent) {
        ::setsockopt(fd.get(), SOL_IP, IP_FREEBIND, &one, sizeof one); // for IPv6 sockets as well
    }
    if (family == AF_INET6) {
        ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    }
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &receive_queue_bytes, sizeof receive_queue_bytes) != 0) {
        ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_queue_bytes, sizeof receive_queue_bytes);
    }
    const int urgent = 6; // the interface queue's high band
    ::setsockopt(fd.get(), SOL_SOCKET, SO_PRIORITY, &urgent, sizeof urgent);
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&local.storage), local.size) != 0) {
        return os_error(where, "cannot bind", errno);
    }
    return fd;
}

} // namespace

Result<void> Sockets::open(const BusOptions& options) {
    for (const LanOptions& from : options.lans) {
        const std::string where =
            "LAN '" + from.name + "', UDP " + from.local_address + " port " + std::to_string(options.port);
        auto local = parse(from.local_address, options.port, where);
        if (!local) {
            return std::move(local).error();
        }
        Lan lan;
        lan.local = *local;
        for (const NodeId node : options.nodes) {
            if (node == options.self || index(node) >= from.addresses.size() || from.addresses[index(node)].empty()) {
                continue;
            }
            auto peer = parse(from.addresses[index(node)], options.port, where);
            if (!peer) {
                return std::move(peer).error();
            }
            if (peer->storage.ss_family != lan.local.storage.ss_family) {
                return Error{Errc::conflict, where, "'" + from.addresses[index(node)] + "' is of the other IP version"};
            }
            lan.peers[index(node)] = *peer;
        }
        auto fd = bind_socket(lan.local, where, false);
        if (!fd) {
            return std::move(fd).error();
        }
        lan.fd = std::move(*fd);
        lans_.push_back(std::move(lan));
    }
    return {};
}

std::size_t Sockets::send(std::size_t at, NodeSet to, std::span<const std::uint8_t> datagram) {
    Lan& lan = lans_[at];
    std::array<mmsghdr, limits::nodes_max> messages{};
    iovec bytes{const_cast<std::uint8_t*>(datagram.data()), datagram.size()};
    unsigned count = 0;
    for (const NodeId node : to) {
        Address& peer = lan.peers[index(node)];
        if (peer.size != 0) {
            msghdr& head = messages[count++].msg_hdr;
            head.msg_name = &peer.storage;
            head.msg_namelen = peer.size;
            head.msg_iov = &bytes;
            head.msg_iovlen = 1;
        }
    }
    std::size_t sent = 0;
    for (unsigned done = 0; done < count;) {
        const int took = ::sendmmsg(lan.fd.get(), messages.data() + done, count - done, MSG_DONTWAIT);
        if (took > 0) {
            done += static_cast<unsigned>(took);
            sent += static_cast<std::size_t>(took);
            lan.failures = 0;
        } else if (took < 0 && errno == EINTR) {
            continue;
        } else { // this one cannot be reached now; the others may
            ++done;
            ++lan.failures;
        }
    }
    return sent;
}

std::span<const std::span<const std::uint8_t>> Sockets::receive(std::size_t at) {
    std::array<mmsghdr, batch> messages{};
    std::array<iovec, batch> vectors{};
    for (std::size_t i = 0; i < batch; ++i) {
        vectors[i] = {buffers_[i].data(), buffers_[i].size()};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int got = ::recvmmsg(lans_[at].fd.get(), messages.data(), batch, MSG_DONTWAIT, nullptr);
    const std::size_t count = got > 0 ? static_cast<std::size_t>(got) : 0;
    for (std::size_t i = 0; i < count; ++i) {
        received_[i] = {buffers_[i].data(), messages[i].msg_len};
    }
    return {received_.data(), count};
}

bool Sockets::revive(std::size_t at, Instant now) {
    Lan& lan = lans_[at];
    if (lan.failures < failures_before_revival || now - lan.revived < seconds{1}) {
        return false;
    }
    lan.revived = now;
    lan.failures = 0;
    lan.fd.reset(); // first: the port is not shared
    auto fresh = bind_socket(lan.local, "", true);
    if (!fresh) {
        lan.failures = failures_before_revival;
        return false;
    }
    lan.fd = std::move(*fresh);
    return true;
}

} // namespace stead::bus
