// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace stead::host {

struct Subnet {
    int family{};
    std::array<std::uint8_t, 16> bytes{}; ///< an IPv4 address in the first four
    unsigned prefix{};

    [[nodiscard]] bool holds(const Subnet& address) const;
    [[nodiscard]] bool single() const; ///< one address, and no network around it
    [[nodiscard]] std::string network() const;
    /// The last address, of IPv4 networks the broadcast address.
    [[nodiscard]] std::string last() const;
};

/// "192.0.2.11/24"; without a prefix it is a single address.
[[nodiscard]] std::optional<Subnet> parse_subnet(const std::string& text);

} // namespace stead::host
