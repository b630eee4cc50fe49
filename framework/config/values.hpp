// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/config/config.hpp>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace stead::config {

/// An address without brackets in its shortest spelling, or a host name as it is. nullopt: neither.
[[nodiscard]] std::optional<std::string> normal_address(std::string_view text);
/// Is it an address written with digits (and not a name)?
[[nodiscard]] bool is_numeric_address(std::string_view text);
[[nodiscard]] bool is_host_name(std::string_view text);
[[nodiscard]] bool is_name(std::string_view text);

/// The value as plugin.h promises it, or the end of a message: "'5x' is not a time; allowed: ...".
[[nodiscard]] Result<std::string> normalise(std::string_view text, const stead_attr_schema& schema);

/// "a time such as 10s (d h m s ms us)", "one of on, off", ...
[[nodiscard]] std::string allowed_text(const stead_attr_schema& schema);

/// The candidate that `word` may be a slip for, or "".
[[nodiscard]] std::string nearest(std::string_view word, std::span<const std::string> candidates);

[[nodiscard]] std::vector<std::string> split(std::string_view text, char separator);
[[nodiscard]] std::string join(std::span<const std::string> parts, std::string_view separator);

/// FNV-1a over strings with their lengths, so that neighbours cannot be confused.
class Digest {
public:
    Digest& add(std::string_view text);
    Digest& add(std::uint64_t number);
    [[nodiscard]] std::uint64_t value() const noexcept { return hash_; }

private:
    std::uint64_t hash_{0xcbf29ce484222325u};
};

/// "5s", "1500ms": exact, in the largest unit that is.
[[nodiscard]] std::string duration_text(std::int64_t ns);

} // namespace stead::config
