// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace stead::automaton {

/// Allows `maxloop` automatic restarts, stopstarts and waits within `interval`; the next one must stop the module.
/// Times are wall-clock seconds, because the count outlives the process and a reboot. Pure.
class LoopGuard {
public:
    /// `interval` 0: no limit.
    LoopGuard(std::uint32_t maxloop, std::chrono::seconds interval) noexcept : maxloop_(maxloop), interval_(interval) {}

    /// Counts one automatic action. False: the limit is reached.
    [[nodiscard]] bool count(std::int64_t now_seconds);
    /// Would the next one be refused?
    [[nodiscard]] bool exhausted(std::int64_t now_seconds) const;
    [[nodiscard]] std::size_t used(std::int64_t now_seconds) const;
    void reset() noexcept { times_.clear(); }

    /// One time per line, for the file in the module's var folder. What does not parse is dropped.
    [[nodiscard]] std::string save() const;
    void load(std::string_view text);

private:
    [[nodiscard]] bool recent(std::int64_t time, std::int64_t now) const noexcept;
    std::uint32_t maxloop_;
    std::chrono::seconds interval_;
    std::vector<std::int64_t> times_;
};

} // namespace stead::automaton
