// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <filesystem>
#include <optional>
#include <span>

namespace stead::host {

/// Loads the libraries one after the other in a child process, so that one which is half a file, or whose constructors
/// abort, exit or never end, takes only that child with it. The first such one as an error that names the file; a
/// library that the loader refuses in good order is none. At most 3 s for each.
///
/// To be called before this process has threads. What constructors write goes nowhere.
[[nodiscard]] std::optional<Error> try_loading(std::span<const std::filesystem::path> files);

} // namespace stead::host
