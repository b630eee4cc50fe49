// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/codec.hpp>

#include "mirror.pb.h"

#include <google/protobuf/arena.h>

#include <array>
#include <string>
#include <string_view>

/// What the parts of the codec share. Bytes = u32 big-endian size of the header, header (protobuf), bulk.
namespace stead::mirror::codec {

using Arena = google::protobuf::Arena;

/// Messages of ordinary size are built and parsed without the heap.
class SmallArena {
public:
    SmallArena() : arena_(block_.data(), block_.size()) {}
    template <class Type>
    [[nodiscard]] Type& make() {
        return *Arena::CreateMessage<Type>(&arena_);
    }

private:
    alignas(8) std::array<char, 2048> block_; // not cleared: it costs more than the rest
    Arena arena_;
};

[[nodiscard]] inline Error malformed(std::string what) { return {Errc::malformed, "mirror message", std::move(what)}; }
[[nodiscard]] Error unknown_kind(const char* of, std::uint32_t kind);

void put_u32(std::string& to, std::uint32_t value);
[[nodiscard]] std::uint32_t get_u32(std::string_view from) noexcept; ///< of its first 4 bytes

/// Header and bulk appended to `to`; the bulk is whatever `append_bulk(std::string&)` appends.
void append_header(std::string& to, const google::protobuf::MessageLite& header, std::size_t bulk_bytes);

struct Parts {
    std::string_view header, bulk;
};
[[nodiscard]] Result<Parts> split(std::string_view bytes);

template <class Enum>
[[nodiscard]] std::uint32_t put_enum(Enum value) noexcept {
    return static_cast<std::uint32_t>(value) + 1;
}
template <class Enum>
[[nodiscard]] bool get_enum(std::uint32_t from, Enum last, Enum& to) noexcept {
    to = static_cast<Enum>(from - 1);
    return from >= 1 && from <= static_cast<std::uint32_t>(last) + 1;
}

void put(const Gen& from, v1::Gen& to);
void put(const Fid& from, v1::Fid& to);
void put(const Target& from, v1::Target& to);
void put(const Record& from, v1::Record& to);
[[nodiscard]] Gen get(const v1::Gen& from) noexcept;
[[nodiscard]] Fid get(const v1::Fid& from) noexcept;
[[nodiscard]] Result<Target> get(const v1::Target& from);
[[nodiscard]] Result<Record> get(const v1::Record& from);

/// The content without its bulk, and the bulk by itself.
void put(const Content& from, v1::Content& to);
[[nodiscard]] std::size_t bulk_bytes(const Content& content) noexcept; ///< at least; for reserve()
void append_bulk(std::string& to, const Content& content);
/// Checked. `bulk` is all there is of it.
[[nodiscard]] Result<Content> get(const v1::Content& from, std::string_view bulk);

} // namespace stead::mirror::codec
