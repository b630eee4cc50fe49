// SPDX-License-Identifier: Apache-2.0
#include "mailbox.hpp"

#include <algorithm>

namespace stead::bus {

std::size_t Mailbox::reset(std::uint64_t peer_session_low) {
    const std::size_t lost = give_up();
    peer_session_low_ = peer_session_low;
    next_out_ = 1;
    next_in_ = 1;
    in_.clear();
    return lost;
}

std::size_t Mailbox::give_up() {
    const std::size_t lost = out_.size();
    out_.clear();
    return lost;
}

std::vector<wire::Message> Mailbox::due(Instant now, nanoseconds repeat_max) {
    std::vector<wire::Message> out;
    for (Waiting& waiting : out_) {
        if (waiting.message.sequence == 0) {
            waiting.message.sequence = next_out_++;
            waiting.message.session_low = peer_session_low_;
        }
    }
    for (Waiting& waiting : out_) {
        if (waiting.due <= now) {
            waiting.due = now + waiting.wait;
            waiting.wait = std::max(first_repeat, std::min(waiting.wait * 2, repeat_max));
            waiting.message.base = out_.front().message.sequence;
            out.push_back(waiting.message);
        }
    }
    return out;
}

Instant Mailbox::next_deadline() const noexcept {
    Instant next = never;
    for (const Waiting& waiting : out_) {
        next = std::min(next, waiting.due);
    }
    return next;
}

std::size_t Mailbox::acknowledged(std::uint64_t up_to) {
    std::size_t count = 0;
    while (!out_.empty() && out_.front().message.sequence != 0 && out_.front().message.sequence <= up_to) {
        out_.pop_front();
        ++count;
    }
    return count;
}

void Mailbox::received(wire::Message message) {
    if (message.base > next_in_) { // the sender gave up what came before
        next_in_ = message.base;
        in_.erase(in_.begin(), in_.lower_bound(next_in_));
    }
    if (message.sequence >= next_in_ && message.sequence - next_in_ < limits::peer_messages_in_flight_max) {
        in_.try_emplace(message.sequence, std::move(message));
    }
}

std::vector<wire::Message> Mailbox::take() {
    std::vector<wire::Message> out;
    for (auto at = in_.find(next_in_); at != in_.end() && at->first == next_in_; at = in_.erase(at)) {
        out.push_back(std::move(at->second));
        ++next_in_;
    }
    return out;
}

} // namespace stead::bus
