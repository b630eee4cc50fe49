// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/crc.hpp>

#include <cstdint>
#include <string_view>

namespace stead::mirror {

/// CRC-32C of what this node keeps for itself on disk.
[[nodiscard]] inline std::uint32_t checksum(std::string_view bytes) {
    boost::crc_optimal<32, 0x1edc6f41, 0xffffffff, 0xffffffff, true, true> crc;
    crc.process_bytes(bytes.data(), bytes.size());
    return crc.checksum();
}

} // namespace stead::mirror
