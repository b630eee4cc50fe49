// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <libmnl/libmnl.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace stead::shim {

/// The packets of a queue, as many at once as there are, up to `Burst`. Not thread-safe.
template <unsigned Burst>
class PacketBurst {
public:
    PacketBurst() {
        for (unsigned i = 0; i < Burst; ++i) {
            places_[i] = {memory_.data() + i * packet_bytes, packet_bytes};
            messages_[i].msg_hdr.msg_iov = &places_[i];
            messages_[i].msg_hdr.msg_iovlen = 1;
        }
    }
    PacketBurst(const PacketBurst&) = delete;
    PacketBurst& operator=(const PacketBurst&) = delete;

    /// Does not wait; 0 = nothing was there.
    [[nodiscard]] unsigned receive(mnl_socket* queue) {
        const int got = ::recvmmsg(mnl_socket_get_fd(queue), messages_.data(), Burst, MSG_DONTWAIT, nullptr);
        return got > 0 ? static_cast<unsigned>(got) : 0;
    }
    /// The netlink message that brought a packet; valid until the next receive().
    [[nodiscard]] std::span<const std::uint8_t> operator[](unsigned i) const {
        return {memory_.data() + i * packet_bytes, messages_[i].msg_len};
    }

private:
    static constexpr std::size_t packet_bytes = 67584; ///< the largest packet and its attributes
    std::vector<std::uint8_t> memory_ = std::vector<std::uint8_t>(Burst * packet_bytes);
    std::array<iovec, Burst> places_{};
    std::array<mmsghdr, Burst> messages_{};
};

} // namespace stead::shim
