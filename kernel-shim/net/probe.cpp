// SPDX-License-Identifier: Apache-2.0
#include "frames.hpp"

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>

namespace stead::net {
namespace {

/// ARP frames, or ICMPv6 neighbour advertisements, and nothing else: the socket hears all traffic otherwise.
Result<void> set_receive_filter(int socket, int family) {
    sock_filter arp[]{
        {BPF_LD | BPF_H | BPF_ABS, 0, 0, 12},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, ETH_P_ARP},
        {BPF_RET | BPF_K, 0, 0, 256},
        {BPF_RET | BPF_K, 0, 0, 0},
    };
    sock_filter advertisement[]{
        {BPF_LD | BPF_H | BPF_ABS, 0, 0, 12}, {BPF_JMP | BPF_JEQ | BPF_K, 0, 5, ETH_P_IPV6},
        {BPF_LD | BPF_B | BPF_ABS, 0, 0, 20}, {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, IPPROTO_ICMPV6},
        {BPF_LD | BPF_B | BPF_ABS, 0, 0, 54}, {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 136},
        {BPF_RET | BPF_K, 0, 0, 256},         {BPF_RET | BPF_K, 0, 0, 0},
    };
    sock_fprog program{};
    program.filter = family == AF_INET ? arp : advertisement;
    program.len = family == AF_INET ? std::size(arp) : std::size(advertisement);
    if (::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) {
        return os_error("packet socket", "cannot attach a filter", errno);
    }
    return {};
}

/// The MAC that the frame gives for `ip`, if it is an answer about it.
std::optional<Mac> answer_in(std::span<const std::uint8_t> frame, const IpBytes& ip) {
    const auto size = ip.size();
    const std::size_t address_at = ip.family == AF_INET ? 28 : 62; // ARP sender, NA target
    if (frame.size() < address_at + size ||
        !std::equal(ip.bytes.begin(), ip.bytes.begin() + static_cast<std::ptrdiff_t>(size),
                    frame.begin() + static_cast<std::ptrdiff_t>(address_at))) {
        return std::nullopt;
    }
    Mac mac{};
    std::size_t mac_at = 6; // the frame's source, when an NA carries no option
    if (ip.family == AF_INET) {
        mac_at = 22;
    } else if (frame.size() >= 86 && frame[78] == 2 && frame[79] == 1) {
        mac_at = 80;
    }
    std::copy_n(frame.begin() + static_cast<std::ptrdiff_t>(mac_at), mac.size(), mac.begin());
    return mac;
}

class PacketClaims final : public Claims {
public:
    PacketClaims(Fd socket, std::uint32_t ifindex, IpBytes ip, std::vector<std::uint8_t> question)
        : socket_(std::move(socket)), ifindex_(ifindex), ip_(ip), question_(std::move(question)) {}

    [[nodiscard]] int fd() const noexcept override { return socket_.get(); }

    [[nodiscard]] std::vector<Mac> heard() override {
        std::vector<Mac> macs;
        for (;;) {
            std::uint8_t frame[256];
            sockaddr_ll from{};
            socklen_t from_size = sizeof from;
            const ssize_t size =
                ::recvfrom(socket_.get(), frame, sizeof frame, 0, reinterpret_cast<sockaddr*>(&from), &from_size);
            if (size < 0 && errno == ENETDOWN) {
                continue; // told once when the link goes down
            }
            if (size < 0) {
                return macs;
            }
            if (from.sll_pkttype != PACKET_OUTGOING) {
                if (const auto mac = answer_in({frame, static_cast<std::size_t>(size)}, ip_)) {
                    macs.push_back(*mac);
                }
            }
        }
    }

    [[nodiscard]] Result<void> ask() override { return send_frame(socket_.get(), ifindex_, question_); }

private:
    Fd socket_;
    std::uint32_t ifindex_;
    IpBytes ip_;
    std::vector<std::uint8_t> question_;
};

} // namespace

Result<std::unique_ptr<Claims>> Claims::open(std::uint32_t ifindex, const std::string& address) {
    const auto ip = parse_ip(address);
    if (!ip) {
        return ip.error();
    }
    const auto own = mac_of(ifindex);
    if (!own) {
        return own.error();
    }
    // ETH_P_ALL hears frames before tc does. A socket of one protocol would hear only what our own filter lets pass.
    auto socket = open_packet_socket(ifindex, ETH_P_ALL);
    if (!socket) {
        return socket.error();
    }
    const int on = 1; // what we send costs nothing then; a kernel before 4.20 cannot, and marks those frames
    ::setsockopt(socket.value().get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
    if (auto set = set_receive_filter(socket.value().get(), ip.value().family); !set) {
        return set.error();
    }
    IpBytes nobody;
    nobody.family = AF_INET;
    const Arp ask{ArpOperation::request, own.value(), nobody, Mac{}, ip.value()};
    auto question = ip.value().family == AF_INET ? arp_frame(broadcast_mac, own.value(), ask)
                                                 : solicitation_frame(own.value(), ip.value());
    return std::unique_ptr<Claims>(
        std::make_unique<PacketClaims>(std::move(socket).value(), ifindex, ip.value(), std::move(question)));
}

Result<std::optional<Mac>> probe(std::uint32_t ifindex, const std::string& address, nanoseconds timeout,
                                 std::span<const Mac> known) {
    const auto claims = Claims::open(ifindex, address);
    if (!claims) {
        return claims.error();
    }
    const Instant end = BootClock::now() + timeout;
    Instant next_send = BootClock::now();
    for (;;) {
        const Instant now = BootClock::now();
        if (now >= next_send) {
            if (auto sent = claims.value()->ask(); !sent) {
                return sent.error();
            }
            next_send = now + std::max<nanoseconds>(timeout / 2, milliseconds{10}); // twice: one may be lost
        }
        for (const Mac& mac : claims.value()->heard()) {
            if (std::ranges::find(known, mac) == known.end()) {
                return std::optional{mac};
            }
        }
        if (now >= end) {
            return std::optional<Mac>{};
        }
        const auto wait = std::chrono::ceil<milliseconds>(std::min(end, next_send) - now);
        pollfd readable{claims.value()->fd(), POLLIN, 0};
        ::poll(&readable, 1, static_cast<int>(std::max<std::int64_t>(wait.count(), 1)));
    }
}

} // namespace stead::net
