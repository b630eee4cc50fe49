// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>

namespace stead::mirror {

/// How long a thread that has nothing to do keeps looking before it sleeps: to wake a processor that sleeps as well
/// takes 40 µs on a virtual machine, as long as half of a write's way to the peer and back. What came soon is expected
/// soon again; what did not come while it looked halves the time (as the kernel's haltpoll governor does).
/// One thread. Pure: time is an argument.
class Eager {
public:
    static constexpr nanoseconds longest = microseconds{150};
    static constexpr nanoseconds shortest = microseconds{20}; ///< below, not at all
    /// Another program got the processor for so long: it is needed elsewhere, and who sleeps is woken sooner than who
    /// waits for his turn.
    static constexpr nanoseconds crowded = microseconds{300};
    static constexpr nanoseconds rest = milliseconds{10};

    /// To look before sleeping, from now on; 0 = sleep at once.
    [[nodiscard]] nanoseconds patience(Instant now) const noexcept {
        return now < rests_until_ ? nanoseconds{} : patience_;
    }
    /// Something came `after` the thread had nothing to do, whether it slept by then or not.
    void came(nanoseconds after) noexcept {
        if (after <= longest) {
            patience_ = longest;
        } else {
            patience_ = patience_ / 2 < shortest ? nanoseconds{} : patience_ / 2;
        }
    }
    /// The processor was given away for `time` while it looked. False: look no more.
    bool gave_way(Instant now, nanoseconds time) noexcept {
        if (time < crowded) {
            return true;
        }
        rests_until_ = now + rest;
        return false;
    }

private:
    nanoseconds patience_{};
    Instant rests_until_{};
};

} // namespace stead::mirror
