// SPDX-License-Identifier: Apache-2.0
#include "codec.hpp"

#include <stead/base/assert.hpp>

namespace stead::mirror::codec {

Error unknown_kind(const char* of, std::uint32_t kind) {
    return malformed(std::string{of} + " of kind " + std::to_string(kind) + ", which this program does not know");
}

void put_u32(std::string& to, std::uint32_t value) {
    const std::array<char, 4> bytes{static_cast<char>(value >> 24), static_cast<char>(value >> 16),
                                    static_cast<char>(value >> 8), static_cast<char>(value)};
    to.append(bytes.data(), bytes.size());
}

std::uint32_t get_u32(std::string_view from) noexcept {
    const auto byte = [&](std::size_t at) { return std::uint32_t{static_cast<unsigned char>(from[at])}; };
    return byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
}

void append_header(std::string& to, const google::protobuf::MessageLite& header, std::size_t bulk_bytes) {
    const std::size_t size = header.ByteSizeLong();
    STEAD_ASSERT(size <= codec_limits::header_max);
    const std::size_t needed = to.size() + 4 + size + bulk_bytes;
    if (to.capacity() < needed) {
        to.reserve(needed);
    }
    put_u32(to, static_cast<std::uint32_t>(size));
    const std::size_t at = to.size();
    to.resize(at + size);
    header.SerializeWithCachedSizesToArray(reinterpret_cast<std::uint8_t*>(to.data() + at));
}

Result<Parts> split(std::string_view bytes) {
    if (bytes.size() < 4) {
        return malformed(std::to_string(bytes.size()) + " bytes, at least 4 are needed");
    }
    const std::size_t header = get_u32(bytes);
    bytes.remove_prefix(4);
    if (header > codec_limits::header_max || header > bytes.size()) {
        return malformed("header of " + std::to_string(header) + " bytes, " + std::to_string(bytes.size()) +
                         " are there and " + std::to_string(codec_limits::header_max) + " are allowed");
    }
    const Parts parts{bytes.substr(0, header), bytes.substr(header)};
    if (parts.bulk.size() > codec_limits::bulk_max) {
        return malformed("data of " + std::to_string(parts.bulk.size()) + " bytes, " +
                         std::to_string(codec_limits::bulk_max) + " are allowed");
    }
    return parts;
}

void put(const Gen& from, v1::Gen& to) {
    to.set_high(from.high);
    to.set_low(from.low);
}

void put(const Fid& from, v1::Fid& to) {
    to.set_high(from.high);
    to.set_low(from.low);
}

void put(const Target& from, v1::Target& to) {
    to.set_kind(put_enum(from.kind));
    to.set_high(from.fid.high);
    to.set_low(from.fid.low);
    to.set_index(from.index);
}

Gen get(const v1::Gen& from) noexcept { return {from.high(), from.low()}; }
Fid get(const v1::Fid& from) noexcept { return {from.high(), from.low()}; }

Result<Target> get(const v1::Target& from) {
    Target to{{}, {from.high(), from.low()}, from.index()};
    if (!get_enum(from.kind(), TargetKind::zone, to.kind)) {
        return unknown_kind("target", from.kind());
    }
    const std::uint64_t index_max = to.kind == TargetKind::zone ? codec_limits::file_max / zone_bytes : 0;
    if (to.index > index_max) {
        return malformed("target with index " + std::to_string(to.index) + ", the highest is " +
                         std::to_string(index_max));
    }
    return to;
}

} // namespace stead::mirror::codec
