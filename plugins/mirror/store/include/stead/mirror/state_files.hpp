// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/mirror/core.hpp>

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

/// Record and change log on disk: docs/protocol-mirror.md, section 2. One thread at a time, except that append() and
/// persist() may run beside each other. Every call returns when the bytes are durable. Errors name the file.
namespace stead::mirror {

class StateFiles {
public:
    /// Makes the folder if missing, and reserves space for the next log where it can.
    [[nodiscard]] static Result<std::unique_ptr<StateFiles>> open(const std::filesystem::path& folder);
    virtual ~StateFiles() = default;

    /// The newest one; none when there has never been one. An error when it may be damaged: this node must start
    /// neither as if it were new nor as what it was before.
    [[nodiscard]] virtual Result<std::optional<Record>> load_record() = 0;
    /// The log named by the record; `readable` false when it is missing or damaged before its tail.
    [[nodiscard]] virtual LoadedLog load_log(std::uint64_t id) = 0;

    [[nodiscard]] virtual Result<void> persist(const Record& record) = 0;
    [[nodiscard]] virtual Result<void> reset_log(std::uint64_t id, const std::vector<LogEntry>& entries) = 0;
    [[nodiscard]] virtual Result<void> append_log(const std::vector<LogEntry>& entries) = 0;
    /// Makes the space of the next log, so that reset_log() costs one write and one flush. May run beside all others.
    virtual void prepare_log() = 0;
    /// Why the last reset_log() or append_log() failed; 0 = for no reason of the operating system.
    [[nodiscard]] virtual int log_errno() const noexcept = 0;
};

} // namespace stead::mirror
