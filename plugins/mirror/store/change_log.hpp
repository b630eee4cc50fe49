// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/mirror/record.hpp>

#include <array>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace stead::mirror {

/// The change log: a file of 512-byte sectors, each with log id, position, CRC and up to 18 entries. A sector is
/// written once; an append begins a new one. Space is filled with zeros ahead of need, so that an append allocates
/// nothing.
/// There are two such files. A new log goes into the one that the record on disk does not name, so that a crash before
/// the record names the new log finds the old one as it was; prepare() has its space ready, so that a new log, which an
/// application waits for, costs one write and one flush.
///
/// Threading: prepare() may run beside everything; the others one at a time.
class ChangeLog {
public:
    static constexpr std::size_t sector_bytes = 512;
    static constexpr std::size_t entries_per_sector = 18;

    /// `file` and `file`.1.
    explicit ChangeLog(const std::filesystem::path& file);
    /// Also makes it the one that append() continues, when it is readable.
    [[nodiscard]] LoadedLog load(std::uint64_t id);
    /// The log of this id counts: the record on disk names it; 0 = none does.
    void named(std::uint64_t id);
    /// Fills the file of the next log with zeros, if that was not done. An error costs time at the next reset() only.
    void prepare();
    [[nodiscard]] Result<void> reset(std::uint64_t id, const std::vector<LogEntry>& entries);
    [[nodiscard]] Result<void> append(const std::vector<LogEntry>& entries);
    /// Takes the space of both files, where no log is in them yet, so that a full disk keeps nobody from noting what he
    /// changes.
    void take_space() const;
    /// Why the last reset() or append() failed; 0 = for no reason of the operating system.
    [[nodiscard]] int failed() const noexcept { return failed_; }

private:
    [[nodiscard]] std::string sectors(const std::vector<LogEntry>& entries, std::uint64_t first) const;
    [[nodiscard]] int reserve(int fd, std::uint64_t bytes);
    [[nodiscard]] static std::optional<std::uint32_t> round_of(std::string_view bytes, std::uint64_t id);
    [[nodiscard]] static std::uint32_t last_round(const std::filesystem::path& file);
    [[nodiscard]] static LoadedLog read(std::string_view bytes, std::uint64_t id, std::uint64_t& next);
    [[nodiscard]] int make_ready(std::size_t slot);
    [[nodiscard]] std::size_t spare() const noexcept;

    struct Slot {
        std::filesystem::path file;
        std::uint64_t id{}; ///< 0 = none that could count
        Fd ready;           ///< open, full of zeros on disk
    };
    std::mutex mutex_; ///< slots_, active_, named_
    std::array<Slot, 2> slots_;
    std::size_t active_{1}; ///< the one that append() continues
    std::uint64_t named_{};

    Fd fd_;
    int failed_{};
    std::uint64_t id_{}, next_{}, reserved_{}; ///< next sector; bytes filled ahead
    std::uint32_t round_{}, last_round_{};     ///< of this log; of the last one that was begun
};

} // namespace stead::mirror
