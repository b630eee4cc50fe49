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
    /// `incloop` of a script: counts the action that it is about to ask for. False: the limit is reached.
    [[nodiscard]] bool announce(std::int64_t now_seconds, std::string_view who);
    /// An action that a script asks for. Announced by the same one (or by one without a name) within announced_for, it
    /// is counted already: a handler that calls incloop and then restart -i for one death has used one of maxloop.
    [[nodiscard]] bool count_of(std::int64_t now_seconds, std::string_view who);
    static constexpr std::chrono::seconds announced_for{300}; ///< as long as a handler may run
    /// Would the next one be refused?
    [[nodiscard]] bool exhausted(std::int64_t now_seconds) const;
    [[nodiscard]] std::size_t used(std::int64_t now_seconds) const;
    void reset() noexcept {
        times_.clear();
        announced_.clear();
    }

    /// One time per line, for the file in the module's var folder. What does not parse is dropped. Announcements end
    /// with this object.
    [[nodiscard]] std::string save() const;
    void load(std::string_view text);

private:
    [[nodiscard]] bool recent(std::int64_t time, std::int64_t now) const noexcept;
    std::uint32_t maxloop_;
    std::chrono::seconds interval_;
    std::vector<std::int64_t> times_;
    struct Announced {
        std::string who;
        std::int64_t at{};
    };
    std::vector<Announced> announced_; ///< counted, and not yet asked for; the oldest first
};

} // namespace stead::automaton
