// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/farm/mover.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace stead::farm {

/// Little-endian fields of the farm's peer messages, version 1.
class ByteWriter {
public:
    void u8(std::uint8_t value) { bytes_.push_back(static_cast<char>(value)); }
    void u64(std::uint64_t value) {
        for (int i = 0; i < 8; ++i) {
            u8(static_cast<std::uint8_t>(value >> (8 * i)));
        }
    }
    /// A mask of those that are not 0, then their values.
    void weights(const Weights& weights) {
        NodeSet present;
        for (std::size_t i = 0; i < weights.size(); ++i) {
            if (weights[i] != 0) {
                present.insert(NodeId(i));
            }
        }
        u64(present.bits());
        for (const NodeId node : present) {
            u8(static_cast<std::uint8_t>(weights[index(node)]));
            u8(static_cast<std::uint8_t>(weights[index(node)] >> 8));
        }
    }
    [[nodiscard]] std::string take() { return std::move(bytes_); }

private:
    std::string bytes_;
};

/// Reads them back; beyond the end everything is 0 and good() is false.
class ByteReader {
public:
    explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}
    std::uint8_t u8() {
        if (bytes_.empty()) {
            good_ = false;
            return 0;
        }
        const auto value = static_cast<std::uint8_t>(bytes_.front());
        bytes_.remove_prefix(1);
        return value;
    }
    std::uint64_t u64() {
        std::uint64_t value = 0;
        for (int i = 0; i < 8; ++i) {
            value |= std::uint64_t{u8()} << (8 * i);
        }
        return value;
    }
    Weights weights() {
        Weights result{};
        for (const NodeId node : NodeSet{u64()}) {
            const std::uint16_t low = u8();
            result[index(node)] = static_cast<std::uint16_t>(low | u8() << 8);
        }
        return result;
    }
    [[nodiscard]] std::string_view rest() const noexcept { return bytes_; }
    [[nodiscard]] bool good() const noexcept { return good_; }

private:
    std::string_view bytes_;
    bool good_{true};
};

} // namespace stead::farm
