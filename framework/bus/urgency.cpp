// SPDX-License-Identifier: Apache-2.0
#include "urgency.hpp"

#include <sched.h>

namespace stead::bus {
namespace {

constexpr int lent_priority = 1; // the lowest: the bus threads have 10

bool schedule(pid_t thread, int policy, int priority) noexcept {
    sched_param parameters{};
    parameters.sched_priority = priority;
    return ::sched_setscheduler(thread, policy, &parameters) == 0;
}

} // namespace

Urgency::~Urgency() { take_back_if_due(never); }

void Urgency::lend(Instant now) noexcept {
    if (thread_ != 0 && schedule(thread_, SCHED_RR | SCHED_RESET_ON_FORK, lent_priority)) {
        until_ = now + lent_for;
    }
}

void Urgency::take_back_if_due(Instant now) noexcept {
    if (until_ != never && until_ <= now) {
        until_ = never;
        schedule(thread_, SCHED_OTHER, 0);
    }
}

} // namespace stead::bus
