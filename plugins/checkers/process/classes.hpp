// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace stead::process {

/// Which classes are armed: those of the module's state (pre, both, prim, second, sec), less those that the
/// administrator disabled; others once the administrator enabled them, between start_both and stop_both. What the
/// administrator says is kept in a file.
class Classes {
public:
    /// A file that cannot be read is an empty one.
    explicit Classes(std::filesystem::path file);

    [[nodiscard]] bool armed(const std::string& name, std::uint32_t when) const;
    /// Errors: io; it holds until the module stops all the same.
    [[nodiscard]] Result<void> set(const std::string& name, bool enabled);
    /// Said by the administrator: enabled or disabled; "" when nothing was said.
    [[nodiscard]] std::string said(const std::string& name) const;

private:
    std::filesystem::path file_;
    std::map<std::string, bool> said_;
};

} // namespace stead::process
