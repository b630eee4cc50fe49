// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/log.hpp>
#include <stead/base/result.hpp>

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

/// The log that `stead log -m AM` shows. One line per record:
///   2026-11-23 00:10:11.123456 | module | I | source | text
/// Letters: D debug (shown with -A only), I event, W warning, E error. Local time.
namespace stead::control {

/// Appends lines; any number of processes may share one file (O_APPEND, one write per line). When the file would grow
/// beyond `bytes_max` it becomes `<file>.1`, replacing the one before. Thread-safe. A write that fails is lost: a full
/// disk must not stop a module.
class ModuleLog {
public:
    ModuleLog(std::filesystem::path file, std::string module, std::uint64_t bytes_max = 4u << 20);

    /// 0, or the errno that says why it is not in the file: most writers have nobody to tell.
    int write(log::Level level, std::string_view source, std::string_view text);
    /// A line as it is (the user log: output of hooks).
    void write_raw(std::string_view line);
    /// From the next line on.
    void set_bytes_max(std::uint64_t bytes_max);

private:
    int append(std::string_view line); // mutex_ held
    void open_or_rotate(std::size_t line_bytes);
    std::mutex mutex_;
    std::filesystem::path file_;
    std::string module_;
    std::uint64_t bytes_max_;
    Fd fd_;
};

/// One record as it stands in the log, with its newline. Line breaks in `text` become " / ".
[[nodiscard]] std::string log_line(std::string_view module, log::Level level, std::string_view source,
                                   std::string_view text);
/// The last `lines` lines of the log and its predecessor; debug lines only when `verbose`. A missing log is empty.
[[nodiscard]] Result<std::vector<std::string>> log_tail(const std::filesystem::path& file, std::size_t lines,
                                                        bool verbose);

} // namespace stead::control
