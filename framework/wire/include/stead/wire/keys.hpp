// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

/// Keys derived from the cluster key. docs/protocol-wire.md names each label.
namespace stead::wire {

inline constexpr std::size_t cluster_key_bytes = 32;
inline constexpr std::size_t key_bytes = 32;
using DerivedKey = std::array<std::uint8_t, key_bytes>;

/// HKDF-SHA256 (RFC 5869), extract then one block of expand. Thread-safe.
[[nodiscard]] DerivedKey derive(std::string_view salt, std::string_view input_key, std::string_view info);
/// The expand step alone, for a key that `derive` has made.
[[nodiscard]] DerivedKey expand(const DerivedKey& from, std::string_view info);

/// Names a cluster key without telling it: 8 hexadecimal digits.
[[nodiscard]] std::string key_name(std::string_view cluster_key);
/// The same as one byte in the clear header of each datagram.
[[nodiscard]] std::uint8_t key_byte(std::string_view cluster_key);

/// 128 bits from the kernel's generator; never zero.
[[nodiscard]] SessionId new_session();

} // namespace stead::wire
