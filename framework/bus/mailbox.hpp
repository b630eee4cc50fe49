// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/limits.hpp>
#include <stead/base/time.hpp>
#include <stead/wire/messages.hpp>

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

namespace stead::bus {

/// Acknowledged, ordered messages to and from one peer's session. Pure: time comes in, messages come out.
class Mailbox {
public:
    static constexpr nanoseconds first_repeat = milliseconds{5};

    /// A new pair of sessions: everything under way is forgotten. Returns how many messages were given up.
    std::size_t reset(std::uint64_t peer_session_low);
    /// Gives up what is not acknowledged.
    std::size_t give_up();

    void post(wire::Message message) { out_.push_back({std::move(message), {}, first_repeat}); }
    /// What to send now, first tries and repeats. `repeat_max`: the longest wait between two tries.
    [[nodiscard]] std::vector<wire::Message> due(Instant now, nanoseconds repeat_max);
    [[nodiscard]] Instant next_deadline() const noexcept;
    /// How many messages this acknowledges.
    std::size_t acknowledged(std::uint64_t up_to);

    void received(wire::Message message);
    /// Messages that may be delivered now, in order.
    [[nodiscard]] std::vector<wire::Message> take();
    [[nodiscard]] std::uint64_t delivered_up_to() const noexcept { return next_in_ - 1; }

private:
    struct Waiting {
        wire::Message message;
        Instant due;
        nanoseconds wait;
    };
    std::uint64_t peer_session_low_{};
    std::uint64_t next_out_{1};
    std::deque<Waiting> out_;
    std::uint64_t next_in_{1};
    std::map<std::uint64_t, wire::Message> in_;
};

} // namespace stead::bus
