// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/mirror/content.hpp>

#include <string>
#include <string_view>

/// Bytes of messages, contents, records and log entries: mirror.proto, package stead.mirror.v1. Decoding never throws and
/// never trusts: every size, count, enumeration and name is checked. Errors: malformed, with what and where.
namespace stead::mirror {

[[nodiscard]] std::string encode(const Message& message);
[[nodiscard]] Result<Message> decode_message(std::string_view bytes);

/// At most 1000 bytes: it travels as a message of the module's bus.
[[nodiscard]] std::string encode(const BusMessage& message);
[[nodiscard]] Result<BusMessage> decode_bus_message(std::string_view bytes);

[[nodiscard]] std::string encode(const Content& content);
[[nodiscard]] Result<Content> decode_content(std::string_view bytes);

/// 512 bytes with format version, serial and CRC-32C (docs/protocol-mirror.md, section 2). None: not a sound record.
[[nodiscard]] std::string encode(const Record& record, std::uint64_t serial);
[[nodiscard]] Result<std::pair<Record, std::uint64_t>> decode_record(std::string_view bytes);

} // namespace stead::mirror
