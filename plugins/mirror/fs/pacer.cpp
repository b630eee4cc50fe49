// SPDX-License-Identifier: Apache-2.0
#include "pacer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace stead::mirror {
namespace {

constexpr double slots_per_doubling = 4;
constexpr std::uint64_t start_rate = 16u << 20;
constexpr std::uint64_t busy_operations = 5; ///< in a window; fewer say little about latency

std::size_t slot_of(nanoseconds latency, std::size_t slots) {
    const double us = std::max(1.0, static_cast<double>(latency.count()) / 1000.0);
    return std::min(slots - 1, static_cast<std::size_t>(std::log2(us) * slots_per_doubling));
}

nanoseconds upper_end(std::size_t slot) {
    return nanoseconds{
        static_cast<std::int64_t>(1000.0 * std::exp2(static_cast<double>(slot + 1) / slots_per_doubling))};
}

} // namespace

void Pacer::set_cap(std::uint64_t cap) {
    const std::lock_guard lock(mutex_);
    cap_ = cap;
}

nanoseconds Pacer::quantile(const Window& window, double part) {
    const auto wanted = static_cast<std::uint64_t>(part * static_cast<double>(window.operations));
    std::uint64_t seen = 0;
    for (std::size_t slot = 0; slot < slots; ++slot) {
        seen += window.counts[slot];
        if (seen > wanted) {
            return upper_end(slot);
        }
    }
    return {};
}

/// Closes the window that is over and decides about the next.
void Pacer::turn(Instant now) {
    const nanoseconds lasted = now - window_begin_;
    if (lasted < window) {
        return;
    }
    const bool few = present_.operations < busy_operations;
    if (few && lasted < window_max && (present_.operations > 0 || waiting_ > 0)) {
        return;
    }
    const Window over = present_;
    present_ = Window{};
    window_begin_ = now;
    if (few && over.waited < lasted / 4) {
        rate_ = 0; // the application is idle: nobody to be kind to
        return;
    }
    figures_.p50 = quantile(over, 0.5);
    figures_.p95 = quantile(over, 0.95);
    if (over.read == 0) {
        if (over.mirrored == over.operations) {
            const auto quiet = figures_.quiet_p95.count();
            figures_.quiet_p95 = quiet == 0 ? figures_.p95 : nanoseconds{(7 * quiet + figures_.p95.count()) / 8};
        }
        rate_ = start_rate; // should one begin
        return;
    }
    if (rate_ == 0) {
        rate_ = start_rate;
    }
    if (figures_.quiet_p95.count() == 0) { // it was never seen without a resync: slowly, to learn it
        figures_.quiet_p95 = figures_.p95;
    }
    figures_.quiet_p95 = std::min(figures_.quiet_p95, figures_.p95 * 2);
    rate_ = figures_.p95 > figures_.quiet_p95 * 3 / 2 ? rate_ / 10 * 7 : rate_ + rate_ / 8 + (1u << 20);
    rate_ = std::max(rate_, floor_bytes);
}

void Pacer::asked(Instant now) {
    const std::lock_guard lock(mutex_);
    turn(now);
    ++waiting_;
}

void Pacer::answered(Instant now, nanoseconds latency, bool mirrored) {
    const std::lock_guard lock(mutex_);
    waiting_ -= waiting_ > 0 ? 1 : 0;
    ++present_.counts[slot_of(latency, slots)];
    ++present_.operations;
    present_.mirrored += mirrored ? 1 : 0;
    present_.waited += latency;
    ++figures_.operations;
    turn(now);
}

Instant Pacer::admit(Instant now, std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    turn(now);
    present_.read += bytes;
    figures_.read_bytes += bytes;
    std::uint64_t rate = rate_ == 0 ? cap_ : rate_;
    if (cap_ != 0) {
        rate = std::min(rate, cap_);
    }
    if (rate == 0) {
        next_ = now;
        return now;
    }
    const Instant start = std::max(now, next_);
    next_ = start + nanoseconds{static_cast<std::int64_t>(bytes * 1'000'000'000ull / rate)};
    return start;
}

void Pacer::compared(Instant now, std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    turn(now);
    present_.read += bytes;
}

std::uint32_t Pacer::at_once(Instant now, std::uint64_t zone) {
    constexpr nanoseconds locked = milliseconds{10};
    const std::lock_guard lock(mutex_);
    turn(now);
    const std::uint64_t rate = rate_ == 0 ? 0 : cap_ == 0 ? rate_ : std::min(rate_, cap_);
    if (rate == 0) {
        return std::numeric_limits<std::uint32_t>::max();
    }
    const std::uint64_t zones = rate / static_cast<std::uint64_t>(seconds{1} / locked) / zone;
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(zones, 1, 1000));
}

Pacer::Figures Pacer::figures(Instant now) {
    const std::lock_guard lock(mutex_);
    turn(now);
    figures_.rate = rate_;
    return figures_;
}

} // namespace stead::mirror
