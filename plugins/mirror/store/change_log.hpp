// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/mirror/record.hpp>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace stead::mirror {

/// The change log: a file of 512-byte sectors, each with log id, position, CRC and up to 18 entries. A sector is
/// written once; an append begins a new one. Space is filled with zeros ahead of need, so that an append allocates
/// nothing, and neither does a reset of up to 36,000 entries, once there is a spare file.
class ChangeLog {
public:
    static constexpr std::size_t sector_bytes = 512;
    static constexpr std::size_t entries_per_sector = 18;

    explicit ChangeLog(std::filesystem::path file);
    /// Also makes it the one that append() continues, when it is readable.
    [[nodiscard]] LoadedLog load(std::uint64_t id);
    [[nodiscard]] Result<void> reset(std::uint64_t id, const std::vector<LogEntry>& entries);
    /// Reserves the space of the next reset in a second file.
    [[nodiscard]] Result<void> make_spare();
    [[nodiscard]] Result<void> append(const std::vector<LogEntry>& entries);
    /// Why the last reset() or append() failed; 0 = for no reason of the operating system.
    [[nodiscard]] int failed() const noexcept { return failed_; }

private:
    [[nodiscard]] std::string sectors(const std::vector<LogEntry>& entries, std::uint64_t first) const;
    [[nodiscard]] std::filesystem::path spare() const { return file_.string() + ".new"; }
    [[nodiscard]] int exchange();
    [[nodiscard]] int reserve(int fd, std::uint64_t bytes);

    std::filesystem::path file_;
    Fd fd_;
    int failed_{};
    std::uint64_t id_{}, next_{}, reserved_{}; ///< next sector; bytes filled ahead
};

} // namespace stead::mirror
