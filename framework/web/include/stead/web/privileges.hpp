// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <cstddef>

namespace stead::web {

/// Gives up for ever what this process will not need: user (stead-web, else nobody), groups, capabilities, new
/// privileges by exec, more processes, files, core dumps. Without root only the latter. Call before any client is
/// heard. Returns how many descriptors may be open: as many as wished, or what the system allows.
/// Errors: io, when a part of it is not possible; then do not serve.
[[nodiscard]] Result<std::size_t> drop_privileges(std::size_t descriptors);

} // namespace stead::web
