// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>

#include <array>
#include <cstdint>
#include <mutex>

namespace stead::mirror {

/// How fast a resync may read: as fast as it can while the application is idle, else so that the application's slower
/// operations (p95) take at most about twice as long as without a resync (additive increase, multiplicative decrease;
/// Chiu and Jain 1989). Never below floor_bytes, nor below what the application itself makes dirty.
///
/// Threading: every member from any thread.
class Pacer {
public:
    static constexpr std::uint64_t floor_bytes = 4u << 20;   ///< per second
    static constexpr nanoseconds window = milliseconds{200}; ///< of one decision

    /// `cap`: bytes per second, 0 = none.
    void set_cap(std::uint64_t cap);
    /// The application waited so long for an answer. `dirtied`: bytes that it left for the resync to send.
    void answered(Instant now, nanoseconds latency, std::uint64_t dirtied);
    /// When so many bytes may be read that are wanted at `now`.
    [[nodiscard]] Instant admit(Instant now, std::uint64_t bytes);

    struct Figures {
        nanoseconds p50{}, p95{};   ///< of the last full window with operations
        nanoseconds quiet_p95{};    ///< without a resync
        std::uint64_t operations{}; ///< in all
        std::uint64_t rate{};       ///< bytes per second; 0 = not limited
        std::uint64_t read_bytes{}; ///< in all
    };
    [[nodiscard]] Figures figures(Instant now);

private:
    /// Latencies by powers of the fourth root of two, from 1 us.
    static constexpr std::size_t slots = 96;
    struct Window {
        std::array<std::uint32_t, slots> counts{};
        std::uint64_t operations{}, dirtied{}, read{};
    };
    void turn(Instant now);
    [[nodiscard]] static nanoseconds quantile(const Window& window, double part);

    std::mutex mutex_;
    Window present_;
    Instant window_end_{};
    Instant next_{};
    std::uint64_t cap_{}, rate_{};
    Figures figures_;
};

} // namespace stead::mirror
