// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "flat_map.hpp"

#include <vector>

namespace stead::mirror {

/// First come, first served, per FID. Two requests conflict if they share a FID, unless both only name zones, and the
/// ranges that these span do not meet. One that only `follows` waits for those before it, and nobody waits for it. A
/// request costs what is locked and waited for on its own FIDs, nothing else.
class Locks {
public:
    /// True when `ticket` has all its locks now; else release() will return it one day.
    bool request(Ticket ticket, const std::vector<Target>& targets, bool follows = false);
    /// Gives up its locks or its place in the queue. Returns those that have all their locks now, in order of request.
    [[nodiscard]] std::vector<Ticket> release(Ticket ticket);
    void clear();
    [[nodiscard]] bool empty() const noexcept { return held_.empty(); }

private:
    struct Entry {
        Ticket ticket{};
        std::uint64_t first{}, last{}; ///< zones; everything = 0 to the end
        bool follows{};
        [[nodiscard]] bool blocks(const Entry& later) const noexcept {
            return !follows && first <= later.last && later.first <= last;
        }
    };
    struct Held { ///< or waited for
        std::vector<Fid> fids;
        std::size_t blockers{}; ///< earlier entries that it conflicts with
    };

    FlatMap<Fid, std::vector<Entry>> queues_; ///< in order of request
    FlatMap<Ticket, Held> held_;
};

/// What an operation has to lock: a write inside a file leaves its attributes to others.
[[nodiscard]] std::vector<Target> lock_targets(const Operation& operation);

} // namespace stead::mirror
