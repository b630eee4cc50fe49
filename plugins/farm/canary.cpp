// SPDX-License-Identifier: Apache-2.0
#include "canary.hpp"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace stead::farm {
namespace {
constexpr std::uint16_t ether_type = 0x88b5;
constexpr std::uint64_t ns_per_ms = 1'000'000;
constexpr std::uint64_t send_every = 5000 * ns_per_ms;
constexpr std::uint64_t silence_max = 16'000 * ns_per_ms; ///< three lost in a row are no accident
constexpr std::array<char, 8> mark{'s', 't', 'e', 'a', 'd', 'c', 'a', 'n'};

sockaddr_ll address_of(std::uint32_t ifindex) {
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ether_type);
    address.sll_ifindex = static_cast<int>(ifindex);
    return address;
}
} // namespace

Result<std::unique_ptr<Canary>> Canary::open(std::uint32_t ifindex, const net::Mac& own, const net::Mac& vmac,
                                             std::uint8_t module_id) {
    Fd socket{::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    const auto address = address_of(ifindex);
    if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return os_error("canary", "cannot open a packet socket", errno);
    }
    return std::unique_ptr<Canary>(new Canary(std::move(socket), ifindex, own, vmac, module_id));
}

void Canary::send() noexcept {
    std::array<std::uint8_t, 60> frame{};
    std::copy(vmac_.begin(), vmac_.end(), frame.begin());
    std::copy(own_.begin(), own_.end(), frame.begin() + 6);
    frame[12] = ether_type >> 8;
    frame[13] = ether_type & 0xff;
    std::copy(mark.begin(), mark.end(), frame.begin() + 14);
    frame[22] = module_id_;
    const auto address = address_of(ifindex_);
    // A lost one is what the receivers are there to notice.
    static_cast<void>(::sendto(socket_.get(), frame.data(), frame.size(), 0,
                               reinterpret_cast<const sockaddr*>(&address), sizeof address));
}

bool Canary::heard() noexcept {
    bool any = false;
    for (int i = 0; i < 256; ++i) {
        std::array<std::uint8_t, 64> frame{};
        sockaddr_ll from{};
        socklen_t size = sizeof from;
        const auto got =
            ::recvfrom(socket_.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
        if (got < 0) {
            break;
        }
        any |= got >= 23 && from.sll_pkttype != PACKET_OUTGOING &&
               std::equal(vmac_.begin(), vmac_.end(), frame.begin()) &&
               std::memcmp(frame.data() + 14, mark.data(), mark.size()) == 0 && frame[22] == module_id_;
    }
    return any;
}

std::optional<bool> FloodingWatch::look(std::uint64_t now, bool open, bool alone) {
    if (canary_->heard()) {
        heard_at_ = now;
    }
    if (open && now >= sent_at_ + send_every) {
        sent_at_ = now;
        canary_->send();
    }
    if (alone) {
        alone_until_ = now;
    }
    const bool works = now < std::max(heard_at_, alone_until_) + silence_max;
    if (works_ == works || (works && heard_at_ == 0)) {
        return std::nullopt; // as before, or nothing known yet
    }
    works_ = works;
    return works;
}

} // namespace stead::farm
