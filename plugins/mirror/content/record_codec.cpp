// SPDX-License-Identifier: Apache-2.0
#include "codec.hpp"

#include <stead/base/assert.hpp>

#include <boost/crc.hpp>

/// The record on disk: magic (8), format (4), size (4), protobuf, zeros, CRC-32C of all before it (4). Big-endian.
namespace stead::mirror {
namespace {

constexpr std::string_view magic{"STEADMIR"};
constexpr std::uint32_t format = 1;
constexpr std::uint32_t node_max = 63; ///< index in the cluster: a mirror's two nodes may be any
constexpr std::size_t header_bytes = 16, crc_bytes = 4;
constexpr std::size_t room = record_bytes - header_bytes - crc_bytes;

std::uint32_t crc_of(std::string_view bytes) {
    boost::crc_optimal<32, 0x1edc6f41, 0xffffffff, 0xffffffff, true, true> crc; // Castagnoli's polynomial
    crc.process_bytes(bytes.data(), bytes.size());
    return crc.checksum();
}

Error unsound(std::string what, Errc code = Errc::malformed) { return {code, "mirror record", std::move(what)}; }

} // namespace

namespace codec {

void put(const Record& from, v1::Record& to) {
    const auto put_some = [](const Gen& gen, auto make) {
        if (!gen.none()) {
            put(gen, *make());
        }
    };
    put_some(from.mirror, [&] { return to.mutable_mirror(); });
    put_some(from.current, [&] { return to.mutable_current(); });
    put_some(from.base, [&] { return to.mutable_base(); });
    put_some(from.inconsistent, [&] { return to.mutable_inconsistent(); });
    std::size_t used = from.history.size();
    while (used > 0 && from.history[used - 1].none()) {
        --used;
    }
    for (std::size_t i = 0; i < used; ++i) {
        put(from.history[i], *to.add_history());
    }
    to.set_node(from.node);
    to.set_epoch(from.epoch);
    to.set_role(put_enum(from.role));
    to.set_in_sync(from.in_sync);
    to.set_outdated(from.outdated);
    to.set_clean(from.clean);
    to.set_since_clean(from.since_clean);
    to.set_log(from.log);
    to.set_log_is_intent(from.log_is_intent);
    to.set_unknown(from.unknown);
}

Result<Record> get(const v1::Record& from) {
    Record to;
    if (from.node() > node_max || holder(from.epoch()) > node_max) {
        return malformed("record of node " + std::to_string(from.node()) + " and epoch held by " +
                         std::to_string(holder(from.epoch())) + ", nodes are 0 to " + std::to_string(node_max));
    }
    if (!get_enum(from.role(), Role::alone, to.role)) {
        return unknown_kind("role", from.role());
    }
    if (from.history_size() > static_cast<int>(history_max)) {
        return malformed("history of " + std::to_string(from.history_size()) + " generations, " +
                         std::to_string(history_max) + " are allowed");
    }
    to.mirror = get(from.mirror());
    to.current = get(from.current());
    to.base = get(from.base());
    to.inconsistent = get(from.inconsistent());
    for (int i = 0; i < from.history_size(); ++i) {
        to.history[static_cast<std::size_t>(i)] = get(from.history(i));
    }
    to.node = static_cast<std::uint8_t>(from.node());
    to.epoch = from.epoch();
    to.in_sync = from.in_sync();
    to.outdated = from.outdated();
    to.clean = from.clean();
    to.since_clean = from.since_clean();
    to.log = from.log();
    to.log_is_intent = from.log_is_intent();
    to.unknown = from.unknown();
    return to;
}

} // namespace codec

std::string encode(const Record& record, std::uint64_t serial) {
    v1::Record body;
    codec::put(record, body);
    body.set_serial(serial);
    const std::string bytes = body.SerializeAsString();
    STEAD_ASSERT(bytes.size() <= room);
    std::string out{magic};
    codec::put_u32(out, format);
    codec::put_u32(out, static_cast<std::uint32_t>(bytes.size()));
    out += bytes;
    out.resize(record_bytes - crc_bytes);
    codec::put_u32(out, crc_of(out));
    return out;
}

Result<std::pair<Record, std::uint64_t>> decode_record(std::string_view bytes) {
    if (bytes.size() != record_bytes || !bytes.starts_with(magic)) {
        return unsound("not a record of " + std::to_string(record_bytes) + " bytes");
    }
    const std::string_view covered = bytes.substr(0, record_bytes - crc_bytes);
    if (crc_of(covered) != codec::get_u32(bytes.substr(covered.size()))) {
        return unsound("the checksum is wrong: torn or damaged");
    }
    if (const std::uint32_t found = codec::get_u32(bytes.substr(magic.size())); found != format) {
        return unsound("format " + std::to_string(found) + ", this program knows " + std::to_string(format) +
                           "; use the release that wrote it, or a later one",
                       Errc::unsupported);
    }
    const std::size_t size = codec::get_u32(bytes.substr(magic.size() + 4));
    v1::Record body;
    if (size > room || !body.ParseFromArray(bytes.data() + header_bytes, static_cast<int>(size))) {
        return unsound("its fields do not parse");
    }
    auto record = codec::get(body);
    if (!record) {
        return unsound(record.error().what);
    }
    return std::pair{*record, body.serial()};
}

} // namespace stead::mirror
