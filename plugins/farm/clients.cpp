// SPDX-License-Identifier: Apache-2.0
#include "clients.hpp"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>

namespace stead::farm {
namespace {

constexpr std::size_t clients_max = 4096;
constexpr std::size_t arp_bytes = 42;
constexpr std::size_t sender_mac = 22, sender_ip = 28, target_ip = 38;

// ARP requests only: the socket would copy all traffic otherwise.
sock_filter program[]{
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_ARP, 0, 3),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, 64),          BPF_STMT(BPF_RET | BPF_K, 0),
};

shim::Ip mapped(const std::uint8_t* four) {
    shim::Ip ip{};
    ip[10] = ip[11] = 0xff;
    std::copy_n(four, 4, ip.begin() + 12);
    return ip;
}

} // namespace

Result<std::unique_ptr<Clients>> Clients::open(std::uint32_t ifindex) {
    Fd socket{::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    const sock_fprog code{static_cast<unsigned short>(std::size(program)), program};
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(ifindex);
    if (!socket || ::setsockopt(socket.get(), SOL_SOCKET, SO_ATTACH_FILTER, &code, sizeof code) != 0 ||
        ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return os_error("clients' ARP requests", "cannot open a packet socket", errno);
    }
    return std::unique_ptr<Clients>(new Clients(std::move(socket), ifindex));
}

void Clients::poll(const std::vector<shim::Ip>& vips) {
    for (int i = 0; i < 1024; ++i) { // a flood of requests must not hold the strand
        std::array<std::uint8_t, 64> frame{};
        sockaddr_ll from{};
        socklen_t size = sizeof from;
        const auto got =
            ::recvfrom(socket_.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
        if (got < 0) {
            return;
        }
        const bool asks_for_us = got >= static_cast<ssize_t>(arp_bytes) && from.sll_pkttype != PACKET_OUTGOING &&
                                 std::find(vips.begin(), vips.end(), mapped(frame.data() + target_ip)) != vips.end();
        const auto ip = mapped(frame.data() + sender_ip);
        if (!asks_for_us || std::find(vips.begin(), vips.end(), ip) != vips.end()) {
            continue;
        }
        std::array<char, INET_ADDRSTRLEN> text{};
        inet_ntop(AF_INET, frame.data() + sender_ip, text.data(), text.size());
        const auto known = all_.find(text.data());
        if (known == all_.end() && all_.size() >= clients_max) {
            continue;
        }
        auto& client = known == all_.end() ? all_[text.data()] : known->second;
        client.ip = ip;
        std::copy_n(frame.begin() + sender_mac, client.mac.size(), client.mac.begin());
    }
}

} // namespace stead::farm
