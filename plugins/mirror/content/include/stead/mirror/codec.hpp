// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/mirror/content.hpp>

#include <string>
#include <string_view>

/// Bytes of messages, contents and records: mirror.proto, package stead.mirror.v1. Pure and thread-safe. Decoding never
/// throws, except when memory ends, and never trusts: every size, count, enumeration and name is checked. Unknown
/// fields of a later version are ignored, unknown kinds are errors that name them. Errors: malformed, with what and
/// where.
namespace stead::mirror {

/// Limits of what is decoded, in bytes unless said. What exceeds them is refused.
namespace codec_limits {
inline constexpr std::size_t header_max = 8u << 20; ///< all of a message but bulk data
inline constexpr std::size_t bulk_max = 64u << 20;  ///< bytes of a file, entries of a listing, xattrs
inline constexpr std::size_t message_max = 4 + header_max + bulk_max;
inline constexpr std::size_t bus_message_max = 1000;
inline constexpr std::size_t write_max = 4u << 20; ///< bytes of a file in one change
inline constexpr std::size_t name_max = 255;       ///< of a directory entry, of an xattr
inline constexpr std::size_t link_max = 4095;      ///< where a symlink points
inline constexpr std::size_t xattr_value_max = 64u << 10;
inline constexpr std::size_t ranges_max = 512u << 10;                ///< of zones with data, in one inode
inline constexpr std::size_t targets_max = operation_zones_max + 64; ///< targets of an operation
inline constexpr std::size_t marks_max = 64u << 10;                  ///< marks in one message
inline constexpr std::uint64_t lacking_max = 1u << 20;               ///< zones in one acknowledgement
inline constexpr std::uint64_t file_max = INT64_MAX;                 ///< end of a write or a range; size of a file
} // namespace codec_limits

/// What decoding would refuse: a sender that has doubts about what the kernel or a tree gave it asks first.
[[nodiscard]] Result<void> check(const Content& content);

[[nodiscard]] std::string encode(const Message& message);
/// Appends the encoding: a caller that frames it copies nothing twice.
void encode(const Message& message, std::string& to);
[[nodiscard]] Result<Message> decode_message(std::string_view bytes);

/// At most 1000 bytes: it travels as a message of the module's bus.
[[nodiscard]] std::string encode(const BusMessage& message);
[[nodiscard]] Result<BusMessage> decode_bus_message(std::string_view bytes);

[[nodiscard]] std::string encode(const Content& content);
[[nodiscard]] Result<Content> decode_content(std::string_view bytes);

inline constexpr std::size_t record_bytes = 512;
/// 512 bytes with format version, serial and CRC-32C (docs/protocol-mirror.md, sections 2 and 13). Errors: malformed,
/// not a sound record; unsupported, sound but of a later format.
[[nodiscard]] std::string encode(const Record& record, std::uint64_t serial);
[[nodiscard]] Result<std::pair<Record, std::uint64_t>> decode_record(std::string_view bytes);

} // namespace stead::mirror
