// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>

#include <array>
#include <cstdint>
#include <mutex>

namespace stead::mirror {

/// How fast a resync may read: as fast as it can while the application is idle, else so that the application's slower
/// operations (p95) take at most about twice as long as without a resync (additive increase, multiplicative decrease
/// from one and a half times on; Chiu and Jain 1989). Never below floor_bytes: what the application changes meanwhile
/// adds nothing to what is left. An application whose few operations take long is not idle, but slow.
///
/// Threading: every member from any thread.
class Pacer {
public:
    static constexpr std::uint64_t floor_bytes = 4u << 20;   ///< per second
    static constexpr nanoseconds window = milliseconds{200}; ///< of one decision
    static constexpr nanoseconds window_max = seconds{2};    ///< while there are few operations to judge by

    /// `cap`: bytes per second, 0 = none.
    void set_cap(std::uint64_t cap);
    /// The application waits for an answer.
    void asked(Instant now);
    /// It waited so long. `mirrored`: the other node is in sync,
    /// so that this is what an answer takes without a resync; one that this node gives alone says nothing of that.
    void answered(Instant now, nanoseconds latency, bool mirrored);
    /// When so many bytes may be read that are wanted at `now`.
    [[nodiscard]] Instant admit(Instant now, std::uint64_t bytes);
    /// So many bytes are read to be compared.
    void compared(Instant now, std::uint64_t bytes);
    /// How many zones (of `zone` bytes) may be locked at once, from the wait for admit() on: what the application
    /// writes there waits too.
    [[nodiscard]] std::uint32_t at_once(Instant now, std::uint64_t zone);

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
        std::uint64_t operations{}, mirrored{}, read{};
        nanoseconds waited{}; ///< of all operations
    };
    void turn(Instant now);
    [[nodiscard]] static nanoseconds quantile(const Window& window, double part);

    std::mutex mutex_;
    Window present_;
    Instant window_begin_{};
    std::uint64_t waiting_{}; ///< operations without an answer
    Instant next_{};
    std::uint64_t cap_{}, rate_{};
    Figures figures_;
};

} // namespace stead::mirror
