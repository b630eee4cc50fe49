// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/types.hpp>

#include <map>
#include <vector>

namespace stead::mirror {

/// First come, first served, per FID. Two requests conflict if they share a FID, unless both only name different zones.
class Locks {
public:
    /// True when `ticket` has all its locks now; else release() will return it one day.
    bool request(Ticket ticket, const std::vector<Target>& targets);
    /// Gives up its locks or its place in the queue. Returns those that have all their locks now, in order of request.
    [[nodiscard]] std::vector<Ticket> release(Ticket ticket);
    void clear();
    [[nodiscard]] bool empty() const noexcept { return held_.empty(); }

private:
    struct Entry {
        Ticket ticket{};
        std::vector<Target> targets; ///< of this FID
    };
    [[nodiscard]] bool first(Ticket ticket) const;

    std::map<Fid, std::vector<Entry>> queues_;
    std::map<Ticket, std::vector<Fid>> held_; ///< or waited for
    std::map<Ticket, bool> granted_;
};

/// What an operation has to lock: a write inside a file leaves its attributes to others.
[[nodiscard]] std::vector<Target> lock_targets(const Operation& operation);

} // namespace stead::mirror
