// SPDX-License-Identifier: Apache-2.0
#include "echo.hpp"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include <sys/random.h>

namespace stead::checkers {

namespace {

/// ICMP_FILTER of linux/icmp.h, which cannot be included beside netinet's header.
constexpr int icmp_filter_option = 1;

constexpr std::size_t header_bytes = 8; ///< type, code, checksum, id, sequence: the same in both families

void put16(std::uint8_t* at, std::uint16_t value) noexcept {
    at[0] = static_cast<std::uint8_t>(value >> 8);
    at[1] = static_cast<std::uint8_t>(value & 0xff);
}
std::uint16_t get16(const std::uint8_t* at) noexcept { return static_cast<std::uint16_t>(at[0] << 8 | at[1]); }

/// Of an even number of bytes.
std::uint16_t internet_checksum(std::span<const std::uint8_t> bytes) noexcept {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
        sum += get16(&bytes[i]);
    }
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return static_cast<std::uint16_t>(~sum & 0xffff);
}

} // namespace

Echo::Echo(const sockaddr_storage& to, socklen_t size) : to_(to), size_(size), six_(to.ss_family == AF_INET6) {
    if (::getrandom(mark_.data(), mark_.size(), 0) < 0 || ::getrandom(&id_, sizeof id_, 0) < 0) {
        checker::detail::fail("getrandom");
    }
    open(false);
    if (!socket_) {
        open(true);
    }
    if (!socket_) {
        checker::detail::fail("no ICMP socket: widen net.ipv4.ping_group_range or give CAP_NET_RAW");
    }
    if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&to_), size_) != 0) {
        checker::detail::fail("no way there");
    }
}

void Echo::open(bool raw) {
    raw_ = raw;
    socket_ = checker::Descriptor(::socket(to_.ss_family, (raw ? SOCK_RAW : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC,
                                           six_ ? static_cast<int>(IPPROTO_ICMPV6) : static_cast<int>(IPPROTO_ICMP)));
    if (!socket_ || !raw) {
        return;
    }
    // A raw socket sees every ICMP packet from there; the kernel drops what is no reply.
    if (six_) {
        icmp6_filter filter{};
        ICMP6_FILTER_SETBLOCKALL(&filter);
        ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter);
        ::setsockopt(socket_.get(), IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter);
    } else {
        const std::uint32_t dropped = ~(1U << ICMP_ECHOREPLY);
        ::setsockopt(socket_.get(), SOL_RAW, icmp_filter_option, &dropped, sizeof dropped);
    }
}

std::optional<std::string> Echo::send() {
    std::array<std::uint8_t, header_bytes + payload_bytes> packet{};
    packet[0] = six_ ? static_cast<std::uint8_t>(ICMP6_ECHO_REQUEST) : static_cast<std::uint8_t>(ICMP_ECHO);
    put16(&packet[4], id_); // an unprivileged socket puts its own number there
    put16(&packet[6], ++sequence_);
    std::ranges::copy(mark_, packet.begin() + header_bytes);
    if (!six_) { // the kernel computes that of ICMPv6
        put16(&packet[2], internet_checksum(packet));
    }
    if (::send(socket_.get(), packet.data(), packet.size(), MSG_NOSIGNAL) < 0) {
        return std::string{std::strerror(errno)};
    }
    return std::nullopt;
}

bool Echo::is_reply(const std::uint8_t* data, std::size_t size) const noexcept {
    if (raw_ && !six_) { // with the IP header in front
        const std::size_t ip_bytes = size > 0 ? (data[0] & 0x0fU) * 4U : 0;
        if (size < ip_bytes + header_bytes) {
            return false;
        }
        data += ip_bytes;
        size -= ip_bytes;
    }
    const int reply = six_ ? static_cast<int>(ICMP6_ECHO_REPLY) : static_cast<int>(ICMP_ECHOREPLY);
    return size == header_bytes + payload_bytes && data[0] == reply && (!raw_ || get16(data + 4) == id_) &&
           std::memcmp(data + header_bytes, mark_.data(), mark_.size()) == 0;
}

Echo::Heard Echo::receive(std::string& why) {
    std::array<std::uint8_t, 512> buffer{};
    for (;;) {
        const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
        if (got < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                return Heard::nothing;
            }
            why = std::strerror(errno);
            return Heard::error;
        }
        if (is_reply(buffer.data(), static_cast<std::size_t>(got))) {
            return Heard::reply;
        }
    }
}

} // namespace stead::checkers
