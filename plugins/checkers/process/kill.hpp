// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/process/spec.hpp>

#include <span>
#include <string>
#include <string_view>

namespace stead::process {

/// `stead kill -name=NAME [-argregex=ERE] [-level=test|terminate|9|15]`: what was asked for.
struct KillWish {
    Spec spec;
    int signal{}; ///< 0: only list

    /// Errors: malformed, out_of_range, naming the argument and what is allowed.
    [[nodiscard]] static Result<KillWish> parse(std::span<const std::string_view> arguments);
};

/// Sends the signal to every process that fits, of this moment; says which. Never to this program or its ancestors.
/// Errors: io.
[[nodiscard]] Result<std::string> perform_kill(const KillWish& wish);

} // namespace stead::process
