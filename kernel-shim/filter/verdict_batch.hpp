// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter/nfnetlink_queue.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace stead::shim {

/// Verdicts on a burst of packets in one send. A run of equal ones is one message: it covers every packet up to the
/// last, and those before have theirs. The kernel reads as many messages as one send brings.
template <std::size_t Burst>
class VerdictBatch {
public:
    explicit VerdictBatch(std::uint16_t queue) : queue_(queue) {}

    /// In the order of the packets' numbers; at most `Burst` of them before send().
    void add(std::uint32_t packet_id, int verdict) {
        if (run_ > 0 && verdict != verdict_) {
            end_run();
        }
        verdict_ = verdict;
        last_ = packet_id;
        ++run_;
    }
    void send(mnl_socket* socket) {
        end_run();
        if (size_ > 0) {
            (void)mnl_socket_sendto(socket, bytes_.data(), size_); // a packet without verdict stays where it is
            size_ = 0;
        }
    }

private:
    void end_run() {
        if (run_ == 0) {
            return;
        }
        nlmsghdr* message =
            nfq_nlmsg_put(bytes_.data() + size_, run_ == 1 ? NFQNL_MSG_VERDICT : NFQNL_MSG_VERDICT_BATCH, queue_);
        nfq_nlmsg_verdict_put(message, static_cast<int>(last_), verdict_);
        size_ += NLMSG_ALIGN(message->nlmsg_len);
        run_ = 0;
    }

    static constexpr std::size_t message_bytes = 64; ///< more than one verdict needs
    std::uint16_t queue_;
    alignas(nlmsghdr) std::array<char, Burst * message_bytes> bytes_{};
    std::size_t size_{};
    unsigned run_{};
    int verdict_{};
    std::uint32_t last_{};
};

} // namespace stead::shim
