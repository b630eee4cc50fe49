// SPDX-License-Identifier: Apache-2.0
#include "pacer.hpp"

#include <algorithm>
#include <cmath>

namespace stead::mirror {
namespace {

constexpr double slots_per_doubling = 4;
constexpr std::uint64_t start_rate = 16u << 20;
constexpr std::uint64_t busy_operations = 5; ///< in a window; fewer say nothing about latency

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
    if (now < window_end_) {
        return;
    }
    const Window over = present_;
    const bool stale = now - window_end_ > window; // nothing was counted for longer than a window
    present_ = Window{};
    window_end_ = now + window;
    if (over.operations < busy_operations || stale) {
        rate_ = 0; // the application is idle: nobody to be kind to
        return;
    }
    figures_.p50 = quantile(over, 0.5);
    figures_.p95 = quantile(over, 0.95);
    if (over.read == 0) {
        const auto quiet = figures_.quiet_p95.count();
        figures_.quiet_p95 = quiet == 0 ? figures_.p95 : nanoseconds{(7 * quiet + figures_.p95.count()) / 8};
        rate_ = 0;
        return;
    }
    if (rate_ == 0) {
        rate_ = start_rate;
    }
    if (figures_.quiet_p95.count() == 0) { // it was never seen without a resync: slowly, to learn it
        figures_.quiet_p95 = figures_.p95;
    }
    figures_.quiet_p95 = std::min(figures_.quiet_p95, figures_.p95 * 2);
    rate_ = figures_.p95 > figures_.quiet_p95 * 2 ? rate_ / 10 * 7 : rate_ + rate_ / 8 + (1u << 20);
    const std::uint64_t per_second = over.dirtied * static_cast<std::uint64_t>(seconds{1} / window);
    rate_ = std::max({rate_, floor_bytes, per_second + per_second / 4});
}

void Pacer::answered(Instant now, nanoseconds latency, std::uint64_t dirtied) {
    const std::lock_guard lock(mutex_);
    turn(now);
    ++present_.counts[slot_of(latency, slots)];
    ++present_.operations;
    present_.dirtied += dirtied;
    ++figures_.operations;
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

Pacer::Figures Pacer::figures(Instant now) {
    const std::lock_guard lock(mutex_);
    turn(now);
    figures_.rate = rate_;
    return figures_;
}

} // namespace stead::mirror
