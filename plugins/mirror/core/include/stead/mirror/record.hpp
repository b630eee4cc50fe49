// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/types.hpp>

#include <cstdint>
#include <vector>

/// What is on disk besides the data: docs/protocol-mirror.md, section 2.
namespace stead::mirror {

inline constexpr std::size_t history_max = 16;

/// Mirror and generation where there are no data.
inline constexpr Gen roles_only{1, 1};

struct Record {
    Gen mirror;
    std::uint8_t node{};
    Epoch epoch{};
    Gen current;                            ///< none = this node has no data yet
    Gen base;                               ///< none = nothing was changed alone
    std::array<Gen, history_max> history{}; ///< newest first
    Role role{Role::none};                  ///< alone = the last holder
    bool in_sync{}, outdated{}, clean{};
    bool since_clean{};   ///< what it did since a clean stop is all in its dirty set
    Gen inconsistent;     ///< source of an unfinished resync
    std::uint64_t log{};  ///< id of the log that counts; 0 = none
    bool log_is_intent{}; ///< what it holds was only intended: the peer has it as well
    bool unknown{};       ///< what this node changed is not accounted for: compare everything
    bool operator==(const Record&) const = default;

    void push_history(const Gen& gen) noexcept;
    [[nodiscard]] bool has_been(const Gen& gen) const noexcept; ///< in the history
};

enum class Mark : std::uint8_t {
    dirty,    ///< changed here since base
    unsynced, ///< the disk of one side may have lost it
    intent,   ///< about to be sent
};

/// Zones are rounded to extents in the log: `target.index` is the extent's.
struct LogEntry {
    Target target;
    Mark mark{};
    auto operator<=>(const LogEntry&) const = default;
};

/// What the driver found at start.
struct LoadedLog {
    std::uint64_t id{};
    bool readable{}; ///< false: missing, or an entry before the tail is damaged
    std::vector<LogEntry> entries;
};

} // namespace stead::mirror
