// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>

namespace stead {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

/// CLOCK_BOOTTIME: monotonic, goes on during suspend, comparable with bpf_ktime_get_boot_ns(). All deadlines use it.
struct BootClock {
    using duration = nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<BootClock, duration>;
    static constexpr bool is_steady = true;

    /// Thread-safe. Cores never call it: time is an argument there.
    [[nodiscard]] static time_point now() noexcept {
        timespec t{};
        ::clock_gettime(CLOCK_BOOTTIME, &t);
        return time_point{seconds{t.tv_sec} + nanoseconds{t.tv_nsec}};
    }
};

/// A point in boot time; `time_since_epoch().count()` is nanoseconds since boot.
using Instant = BootClock::time_point;

/// Later than every deadline: "no timer needed".
inline constexpr Instant never = Instant::max();

[[nodiscard]] constexpr std::int64_t to_ns(Instant t) noexcept { return t.time_since_epoch().count(); }
[[nodiscard]] constexpr Instant from_ns(std::int64_t ns) noexcept { return Instant{nanoseconds{ns}}; }

} // namespace stead
