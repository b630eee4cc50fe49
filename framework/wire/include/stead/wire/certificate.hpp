// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

/// A certificate that a node signs itself, for HTTPS without an authority. Any thread; no state.
namespace stead::wire {

struct SelfSigned {
    std::string certificate, key; ///< PEM; the key has no password
};

/// Whom a certificate speaks for.
struct Subjects {
    std::vector<std::string> names;     ///< DNS names; the first is the common name
    std::vector<std::string> addresses; ///< numeric, IPv4 and IPv6
    friend bool operator==(const Subjects&, const Subjects&) = default;
};

/// P-256, valid from yesterday (clocks differ) for `days`. Errors: io, when the library refuses a part.
[[nodiscard]] Result<SelfSigned> self_signed(const Subjects& subjects, std::chrono::days days);

/// Is `certificate` (PEM) good for all of them, and still for `days`? False for what is no certificate too.
[[nodiscard]] bool still_good(std::string_view certificate, const Subjects& subjects, std::chrono::days days);

} // namespace stead::wire
