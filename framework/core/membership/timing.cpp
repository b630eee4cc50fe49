// SPDX-License-Identifier: Apache-2.0
#include <stead/core/membership.hpp>

#include <algorithm>

namespace stead::membership {

Timing fast_timing() noexcept {
    return {.period = milliseconds{5},
            .suspect = milliseconds{15},
            .lease = milliseconds{20},
            .takeover = milliseconds{30}};
}

Timing default_timing() noexcept {
    return {.period = milliseconds{50},
            .suspect = milliseconds{150},
            .lease = milliseconds{200},
            .takeover = milliseconds{225}};
}

Timing safe_timing() noexcept {
    return {.period = milliseconds{500},
            .suspect = milliseconds{1500},
            .lease = milliseconds{2000},
            .takeover = milliseconds{3000}};
}

Timing classic_timing(nanoseconds pulse, unsigned slost_count) noexcept {
    // Below 10 ms a pulse is noise, and with fewer than 4 lost ones there is no room for a lease and a suspicion.
    const nanoseconds period = std::clamp<nanoseconds>(pulse, milliseconds{10}, seconds{60});
    const unsigned lost = std::clamp(slost_count, 4u, 1000u);
    const nanoseconds takeover = period * lost;
    // The slack may not eat the lease when the pulse is very short.
    const nanoseconds slack =
        std::min<nanoseconds>(std::max<nanoseconds>(milliseconds{25}, takeover / 10), takeover / 4);
    const nanoseconds lease = takeover - slack;
    // Suspect early enough that agreement (one period of stability and two rounds) is over when takeover is.
    const nanoseconds suspect = std::max(2 * period, std::min(takeover - 2 * period, lease - period));
    return {.period = period, .suspect = suspect, .lease = lease, .takeover = takeover};
}

} // namespace stead::membership
