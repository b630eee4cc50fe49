// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/farm/mover.hpp>

#include <cstdint>
#include <optional>
#include <vector>

namespace stead::farm {

/// How much of the traffic this node asks for: its gate, its powers, and how far a slow start is. Values only.
class Wish {
public:
    explicit Wish(std::vector<std::uint32_t> configured) : configured_(std::move(configured)) {}

    /// `slowly`: with a tenth at first; step() adds one at a time.
    void open(bool slowly) {
        open_ = true;
        percent_ = slowly ? 100 / slow_steps : 100;
    }
    void close() { open_ = false; }
    /// Whether there is more to come.
    bool step() {
        percent_ = std::min(percent_ + 100 / slow_steps, 100u);
        return open_ && percent_ < 100;
    }
    /// New powers of the configuration, one per group, end an override; false when they are the old ones.
    bool configure(std::vector<std::uint32_t> powers) {
        if (powers == configured_) {
            return false;
        }
        configured_ = std::move(powers);
        override_.reset();
        return true;
    }
    /// `stead power`: this power in every group; nothing = as configured.
    void set_override(std::optional<std::uint32_t> power) { override_ = power; }

    [[nodiscard]] bool is_open() const noexcept { return open_; }
    [[nodiscard]] unsigned percent() const noexcept { return percent_; }
    [[nodiscard]] std::vector<std::uint32_t> powers() const {
        return override_ ? std::vector<std::uint32_t>(configured_.size(), *override_) : configured_;
    }

    static constexpr unsigned slow_steps = 10;

private:
    std::vector<std::uint32_t> configured_;
    std::optional<std::uint32_t> override_;
    bool open_{};
    unsigned percent_{100};
};

} // namespace stead::farm
