// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/result.hpp>
#include <stead/base/time.hpp>

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace stead::node {

struct Child {
    pid_t pid{};
    Fd pidfd;
};

/// Starts a program in a session of its own, so that it outlives us; output is appended to `output`.
/// Errors: not_found, denied, io, naming the program.
[[nodiscard]] Result<Child> spawn_detached(const std::vector<std::string>& argv, const std::filesystem::path& output);

struct Finished {
    int exit{};        ///< exit code, or 128 + signal
    std::string output; ///< stdout and stderr, at most 1 MiB
};
/// Runs a program to its end on the calling thread. After `limit` its process group is killed.
/// Errors: timed_out, or as spawn_detached.
[[nodiscard]] Result<Finished> run_limited(const std::vector<std::string>& argv, milliseconds limit);

} // namespace stead::node
