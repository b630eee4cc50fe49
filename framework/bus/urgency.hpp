// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>

#include <sys/types.h>

namespace stead::bus {

/// Lends the owner's strand real-time scheduling while it turns a new view into tables and announcements: on a busy
/// machine those wait for a processor longer than the whole agreement takes. Never for longer than `lent_for` at a
/// time, and below the bus thread, which takes it back: a plugin that spins cannot keep a processor.
/// Children and threads that the strand starts meanwhile are not real-time. Bus thread only.
class Urgency {
public:
    static constexpr nanoseconds lent_for = seconds{1};

    /// `thread`: kernel id of the strand's thread; 0 = lend nothing.
    explicit Urgency(pid_t thread) noexcept : thread_(thread) {}
    Urgency(const Urgency&) = delete;
    Urgency& operator=(const Urgency&) = delete;
    ~Urgency();
    void lend(Instant now) noexcept;
    void take_back_if_due(Instant now) noexcept;
    [[nodiscard]] Instant due() const noexcept { return until_; } ///< `never` while nothing is lent

private:
    pid_t thread_;
    Instant until_{never};
};

} // namespace stead::bus
