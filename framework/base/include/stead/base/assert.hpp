// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace stead {

/// Prints the expression and place to stderr and syslog, then aborts. Never returns.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;

} // namespace stead

/// Checks a fact that only a bug of ours can break. Stays on in release: a wrong node must fall over, for that is
/// what its peers are for.
#define STEAD_ASSERT(expression)                                                                   \
    (static_cast<bool>(expression) ? static_cast<void>(0)                                          \
                                   : ::stead::assertion_failed(#expression, __FILE__, __LINE__))
