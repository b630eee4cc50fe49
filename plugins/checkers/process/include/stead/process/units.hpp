// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/process/scanner.hpp>

#include <string>
#include <vector>

namespace stead::process {

/// Services as systemd sees them, by `systemctl show`.
///
/// Threading: one thread at a time; query() blocks for at most `timeout`, or until `cancel_fd` becomes readable.
class Units {
public:
    static constexpr nanoseconds timeout = seconds{2};

    /// True where systemd is this machine's (or container's) service manager.
    [[nodiscard]] static bool here(const std::string& folder = "/run/systemd/system");

    explicit Units(std::string program = "systemctl", std::string cgroups = "/sys/fs/cgroup");

    /// One Found per name, in order: count 1 and the pids to watch (the main one, else those of the control group)
    /// for a unit that is active, 0 for any other. Errors: io, timed_out; refused when systemctl does not answer
    /// about every name.
    [[nodiscard]] Result<std::vector<Found>> query(const std::vector<std::string>& names, int cancel_fd) const;

private:
    [[nodiscard]] Found parse(std::string_view properties) const;
    std::string program_, cgroups_;
};

} // namespace stead::process
