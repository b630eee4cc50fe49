// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "flat_map.hpp"

#include <algorithm>
#include <array>

namespace stead::mirror {

/// Targets that a side's disk may have lost, with the seq that last touched them, for both sides in one table: a
/// mirrored write touches it once. What is forgotten is only passed over, and leaves when the table is next rebuilt:
/// a checkpoint costs nothing, and everything is O(1) amortised.
class Unsynced {
public:
    enum Side : std::uint8_t { self, peer };

    void touch(Side side, const Target& target, Seq seq) { raise(side, entry(target), seq); }
    void touch_both(const Target& target, Seq seq) {
        Touched& touched = entry(target);
        raise(self, touched, seq);
        raise(peer, touched, seq);
    }
    /// Everything last touched at or before `through`.
    void forget(Side side, Seq through) {
        forgotten_[side] = std::max(forgotten_[side], through + 1);
        if (empty(self) && empty(peer)) {
            table_.clear();
            rebuild_at_ = rebuild_min;
        }
    }
    [[nodiscard]] bool contains(Side side, const Target& target) const noexcept {
        const Touched* touched = table_.find(target);
        return touched != nullptr && live(side, *touched);
    }
    [[nodiscard]] bool empty(Side side) const noexcept { return newest_[side] <= forgotten_[side]; }
    /// An upper bound.
    [[nodiscard]] std::size_t size(Side side) const noexcept { return empty(side) ? 0 : table_.size(); }
    template <class Function>
    void for_each(Side side, Function function) const {
        table_.for_each([&](const Target& target, const Touched& touched) {
            if (live(side, touched)) {
                function(target);
            }
        });
    }

private:
    static constexpr std::size_t rebuild_min = 4096;
    struct Touched {
        std::array<Seq, 2> at{}; ///< seq + 1; 0 = not
    };
    [[nodiscard]] bool live(Side side, const Touched& touched) const noexcept {
        return touched.at[side] > forgotten_[side];
    }
    void raise(Side side, Touched& touched, Seq seq) noexcept {
        touched.at[side] = std::max({touched.at[side], seq + 1, forgotten_[side] + 1});
        newest_[side] = std::max(newest_[side], touched.at[side]);
    }
    Touched& entry(const Target& target) {
        if (table_.size() >= rebuild_at_) {
            table_.keep_if([&](const Target&, const Touched& t) { return live(self, t) || live(peer, t); });
            rebuild_at_ = std::max(rebuild_min, table_.size() * 2);
        }
        return table_[target];
    }

    FlatMap<Target, Touched> table_;
    std::array<Seq, 2> forgotten_{}, newest_{};
    std::size_t rebuild_at_{rebuild_min};
};

} // namespace stead::mirror
