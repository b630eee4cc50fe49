// SPDX-License-Identifier: Apache-2.0
#include "codec.hpp"

#include <stead/base/assert.hpp>

#include <algorithm>
#include <utility>

namespace stead::mirror {
namespace codec {
namespace {

constexpr std::size_t fid_bytes = 16;
constexpr std::uint32_t errno_max = 4095;

void put_u64(std::string& to, std::uint64_t value) {
    put_u32(to, static_cast<std::uint32_t>(value >> 32));
    put_u32(to, static_cast<std::uint32_t>(value));
}

std::uint64_t get_u64(std::string_view from) noexcept {
    return std::uint64_t{get_u32(from)} << 32 | get_u32(from.substr(4));
}

/// All 0 is left out: the bytes are those of a version that does not know it.
template <class Header>
void put(const message::Progress& from, Header& to) {
    if (from == message::Progress{}) {
        return;
    }
    v1::Progress& what = *to.mutable_progress();
    what.set_targets(from.targets);
    what.set_targets_left(from.targets_left);
    what.set_zones(from.zones);
    what.set_zones_left(from.zones_left);
}

message::Progress get(const v1::Progress& from) {
    return {from.targets(), from.targets_left(), from.zones(), from.zones_left()};
}

struct Put {
    v1::Message& to;

    void operator()(const message::Hello& from) const {
        v1::Hello& what = *to.mutable_hello();
        const Facts& facts = from.facts;
        what.set_version(facts.version);
        codec::put(facts.incarnation, *what.mutable_incarnation());
        codec::put(facts.peer_incarnation, *what.mutable_peer_incarnation());
        codec::put(facts.record, *what.mutable_record());
        what.set_seq(facts.seq);
        what.set_serving(facts.serving);
        what.set_accept_loss(facts.accept_loss);
        what.set_dirty_known(facts.dirty_known);
        what.set_memory(facts.memory);
        what.set_intent_known(facts.intent_known);
        what.set_may_be_ahead(facts.may_be_ahead);
        what.set_sync_failed(facts.sync_failed);
        what.set_held(facts.held);
        what.set_leaves(facts.leaves);
    }
    void operator()(const message::Marks& from) const {
        v1::Marks& what = *to.mutable_marks();
        for (const LogEntry& mark : from.marks) {
            v1::LogEntry& entry = *what.add_marks();
            codec::put(mark.target, *entry.mutable_target());
            entry.set_mark(put_enum(mark.mark));
        }
        what.set_last(from.last);
    }
    void operator()(const message::Begin& from) const {
        v1::Begin& what = *to.mutable_begin();
        codec::put(from.mirror, *what.mutable_mirror());
        codec::put(from.current, *what.mutable_current());
        what.set_anything(from.anything);
        what.set_keep_undo(from.keep_undo);
        put(from.progress, what);
        if (from.extent) {
            what.set_extent(put_enum(*from.extent));
        }
    }
    void operator()(const message::BeginAck&) const { to.mutable_begin_ack(); }
    void operator()(const message::Change& from) const {
        v1::Change& what = *to.mutable_change();
        what.set_seq(from.seq);
        what.set_wanted(put_enum(from.wanted));
        what.set_operation(put_enum(from.operation.kind));
        what.set_durable(from.operation.durable);
        what.set_whole_inode(from.operation.whole_inode);
        for (const Target& target : from.operation.targets) {
            codec::put(target, *what.add_targets());
        }
        if (from.operation.payload != nullptr) {
            codec::put(*from.operation.payload, *what.mutable_content());
        }
    }
    void operator()(const message::Copy& from) const {
        STEAD_ASSERT(from.payload != nullptr);
        v1::Copy& what = *to.mutable_copy();
        what.set_seq(from.seq);
        codec::put(from.target, *what.mutable_target());
        codec::put(*from.payload, *what.mutable_content());
        put(from.progress, what);
    }
    void operator()(const message::Probe& from) const {
        v1::Probe& what = *to.mutable_probe();
        what.set_seq(from.seq);
        codec::put(from.target, *what.mutable_target());
        what.set_digest(from.digest);
        put(from.progress, what);
    }
    void operator()(const message::Acked& from) const {
        v1::Acked& what = *to.mutable_acked();
        what.set_seq(from.seq);
        what.set_level(put_enum(from.level));
        what.set_error(static_cast<std::uint32_t>(from.error));
        what.set_equal(from.equal);
        for (const Zones& zones : from.lacking) {
            what.add_lacking(zones.first);
            what.add_lacking(zones.count);
        }
    }
    void operator()(const message::Durable& from) const { to.mutable_durable()->set_seq(from.seq); }
    void operator()(const message::End& from) const {
        v1::End& what = *to.mutable_end();
        what.set_durable(from.durable);
        codec::put(from.current, *what.mutable_current());
        for (const Gen& gen : from.history) {
            codec::put(gen, *what.add_history());
        }
    }
    void operator()(const message::EndAck&) const { to.mutable_end_ack(); }
    void operator()(const message::Handover& from) const { to.mutable_handover()->set_flushed(from.flushed); }
    void operator()(const message::Taken&) const { to.mutable_taken(); }
    void operator()(const message::Stale&) const { to.mutable_stale(); }
};

Result<message::Body> get(const v1::Hello& from) {
    Facts to;
    if (from.version() < 1 || from.version() > UINT16_MAX) {
        return malformed("hello of version " + std::to_string(from.version()) + ", 1 to 65535 are versions");
    }
    auto record = codec::get(from.record());
    if (!record) {
        return std::move(record).error();
    }
    to.version = static_cast<std::uint16_t>(from.version());
    to.incarnation = codec::get(from.incarnation());
    to.peer_incarnation = codec::get(from.peer_incarnation());
    to.record = *record;
    to.seq = from.seq();
    to.serving = from.serving();
    to.accept_loss = from.accept_loss();
    to.dirty_known = from.dirty_known();
    to.memory = from.memory();
    to.intent_known = from.intent_known();
    to.may_be_ahead = from.may_be_ahead();
    to.sync_failed = from.sync_failed();
    to.held = from.held();
    to.leaves = from.leaves();
    return message::Body{message::Hello{to}};
}

Result<message::Body> get(const v1::Marks& from) {
    message::Marks to;
    if (static_cast<std::size_t>(from.marks_size()) > codec_limits::marks_max) {
        return malformed(std::to_string(from.marks_size()) + " marks, " + std::to_string(codec_limits::marks_max) +
                         " are allowed");
    }
    to.last = from.last();
    to.marks.reserve(static_cast<std::size_t>(from.marks_size()));
    for (const v1::LogEntry& entry : from.marks()) {
        auto target = codec::get(entry.target());
        if (!target) {
            return std::move(target).error();
        }
        LogEntry& mark = to.marks.emplace_back(LogEntry{*target, {}});
        if (!get_enum(entry.mark(), Mark::intent, mark.mark)) {
            return unknown_kind("mark", entry.mark());
        }
    }
    return message::Body{std::move(to)};
}

/// Copies last: what stands before them in the variant are the changes.
bool is_copy(const Content& content) noexcept {
    return std::holds_alternative<copy::Listing>(content.what) || std::holds_alternative<copy::Inode>(content.what) ||
           std::holds_alternative<copy::Zone>(content.what);
}

Result<message::Body> get(const v1::Begin& from) {
    message::Begin to{codec::get(from.mirror()), codec::get(from.current()), from.anything(), from.keep_undo(),
                      get(from.progress())};
    if (from.extent() != 0 && !get_enum(from.extent(), Extent::everything, to.extent.emplace())) {
        return unknown_kind("extent", from.extent());
    }
    return message::Body{to};
}

Result<message::Body> get(const v1::Change& from, std::string_view bulk) {
    message::Change to;
    to.seq = from.seq();
    if (!get_enum(from.wanted(), Level::flushed, to.wanted)) {
        return unknown_kind("level", from.wanted());
    }
    if (!get_enum(from.operation(), OpKind::sync, to.operation.kind)) {
        return unknown_kind("operation", from.operation());
    }
    if (from.targets_size() == 0 || static_cast<std::size_t>(from.targets_size()) > codec_limits::targets_max) {
        return malformed("operation of " + std::to_string(from.targets_size()) + " targets, 1 to " +
                         std::to_string(codec_limits::targets_max) + " are allowed");
    }
    to.operation.targets.reserve(static_cast<std::size_t>(from.targets_size()));
    for (const v1::Target& one : from.targets()) {
        auto target = codec::get(one);
        if (!target) {
            return std::move(target).error();
        }
        to.operation.targets.push_back(*target);
    }
    to.operation.durable = from.durable();
    to.operation.whole_inode = from.whole_inode();
    if (to.operation.kind == OpKind::sync) {
        return from.has_content() || !bulk.empty() ? malformed("sync with a content, it has none")
                                                   : Result<message::Body>{std::move(to)};
    }
    auto content = codec::get(from.content(), bulk);
    if (!content) {
        return std::move(content).error();
    }
    if (is_copy(*content)) {
        return malformed("change with the content of a copy");
    }
    to.operation.payload = std::make_shared<const Content>(std::move(*content));
    return message::Body{std::move(to)};
}

bool fits(const Target& target, const Content& content) noexcept {
    switch (target.kind) {
    case TargetKind::directory: return std::holds_alternative<copy::Listing>(content.what);
    case TargetKind::inode: return std::holds_alternative<copy::Inode>(content.what);
    case TargetKind::zone: return std::holds_alternative<copy::Zone>(content.what);
    }
    return false;
}

Result<message::Body> get(const v1::Copy& from, std::string_view bulk) {
    auto target = codec::get(from.target());
    if (!target) {
        return std::move(target).error();
    }
    auto content = codec::get(from.content(), bulk);
    if (!content) {
        return std::move(content).error();
    }
    if (!fits(*target, *content)) {
        return malformed("copy whose content is not of its target's kind");
    }
    return message::Body{
        message::Copy{from.seq(), *target, std::make_shared<const Content>(std::move(*content)), get(from.progress())}};
}

Result<message::Body> get(const v1::Probe& from) {
    const auto target = codec::get(from.target());
    return target ? Result<message::Body>{message::Probe{from.seq(), *target, from.digest(), get(from.progress())}}
                  : target.error();
}

Result<message::Body> get(const v1::Acked& from, std::string_view bulk) {
    message::Acked to;
    to.seq = from.seq();
    if (!get_enum(from.level(), Level::flushed, to.level)) {
        return unknown_kind("level", from.level());
    }
    if (from.error() > errno_max || bulk.size() % fid_bytes != 0) {
        return malformed("acknowledgement with error " + std::to_string(from.error()) + " and " +
                         std::to_string(bulk.size()) + " bytes of FIDs; up to " + std::to_string(errno_max) +
                         " and multiples of 16 are allowed");
    }
    to.error = static_cast<int>(from.error());
    to.equal = from.equal();
    to.created.reserve(bulk.size() / fid_bytes);
    for (; !bulk.empty(); bulk.remove_prefix(fid_bytes)) {
        to.created.push_back({get_u64(bulk), get_u64(bulk.substr(8))});
    }
    std::uint64_t zones = 0;
    for (int i = 0; i + 1 < from.lacking_size(); i += 2) {
        const Zones next{from.lacking(i), from.lacking(i + 1)};
        if (next.first > codec_limits::file_max / zone_bytes || next.count > codec_limits::lacking_max - zones) {
            return malformed("more than " + std::to_string(codec_limits::lacking_max) + " zones lack");
        }
        zones += next.count;
        to.lacking.push_back(next);
    }
    return message::Body{std::move(to)};
}

Result<message::Body> get(const v1::End& from) {
    message::End to{from.durable(), codec::get(from.current()), {}};
    if (static_cast<std::size_t>(from.history_size()) > history_max) {
        return malformed("history of " + std::to_string(from.history_size()) + " generations, " +
                         std::to_string(history_max) + " are allowed");
    }
    for (int i = 0; i < from.history_size(); ++i) {
        to.history[static_cast<std::size_t>(i)] = codec::get(from.history(i));
    }
    return message::Body{to};
}

/// The payload whose bulk follows; nullptr = none.
const Content* payload_of(const message::Body& body) noexcept {
    if (const auto* change = std::get_if<message::Change>(&body)) {
        return change->operation.payload.get();
    }
    const auto* copy = std::get_if<message::Copy>(&body);
    return copy != nullptr ? copy->payload.get() : nullptr;
}

Result<message::Body> get_body(const v1::Message& from, std::string_view bulk) {
    using Case = v1::Message;
    const auto kind = from.body_case();
    if (!bulk.empty() && kind != Case::kChange && kind != Case::kCopy && kind != Case::kAcked) {
        return malformed("message of kind " + std::to_string(from.kind()) + " with data behind it, it has none");
    }
    switch (kind) {
    case Case::kHello: return get(from.hello());
    case Case::kMarks: return get(from.marks());
    case Case::kBegin: return get(from.begin());
    case Case::kBeginAck: return message::Body{message::BeginAck{}};
    case Case::kChange: return get(from.change(), bulk);
    case Case::kCopy: return get(from.copy(), bulk);
    case Case::kProbe: return get(from.probe());
    case Case::kAcked: return get(from.acked(), bulk);
    case Case::kDurable: return message::Body{message::Durable{from.durable().seq()}};
    case Case::kEnd: return get(from.end());
    case Case::kEndAck: return message::Body{message::EndAck{}};
    case Case::kHandover: return message::Body{message::Handover{from.handover().flushed()}};
    case Case::kTaken: return message::Body{message::Taken{}};
    case Case::kStale: return message::Body{message::Stale{}};
    case Case::BODY_NOT_SET: break;
    }
    return unknown_kind("message", from.kind());
}

} // namespace
} // namespace codec

void encode(const Message& message, std::string& to) {
    codec::SmallArena arena;
    auto& header = arena.make<v1::Message>();
    header.set_epoch(message.epoch);
    std::visit(codec::Put{header}, message.body);
    header.set_kind(static_cast<std::uint32_t>(header.body_case()));
    if (const Content* payload = codec::payload_of(message.body)) {
        codec::append_header(to, header, codec::bulk_bytes(*payload));
        codec::append_bulk(to, *payload);
        return;
    }
    const auto* acked = std::get_if<message::Acked>(&message.body);
    const std::size_t fids = acked != nullptr ? acked->created.size() : 0;
    codec::append_header(to, header, fids * codec::fid_bytes);
    for (std::size_t i = 0; i < fids; ++i) {
        codec::put_u64(to, acked->created[i].high);
        codec::put_u64(to, acked->created[i].low);
    }
}

std::string encode(const Message& message) {
    std::string out;
    encode(message, out);
    return out;
}

Result<Message> decode_message(std::string_view bytes) {
    const auto parts = codec::split(bytes);
    if (!parts) {
        return parts.error();
    }
    codec::SmallArena arena;
    auto& header = arena.make<v1::Message>();
    if (!header.ParseFromArray(parts->header.data(), static_cast<int>(parts->header.size()))) {
        return codec::malformed("header that does not parse");
    }
    if (header.kind() != static_cast<std::uint32_t>(header.body_case())) {
        return codec::unknown_kind("message", header.kind());
    }
    auto body = codec::get_body(header, parts->bulk);
    if (!body) {
        return std::move(body).error();
    }
    return Message{header.epoch(), std::move(*body)};
}

std::string encode(const BusMessage& message) {
    v1::BusMessage out;
    out.set_epoch(message.epoch);
    if (const auto* outdate = std::get_if<message::Outdate>(&message.body)) {
        out.mutable_outdate()->set_nonce(outdate->nonce);
    } else if (const auto* outdated = std::get_if<message::Outdated>(&message.body)) {
        out.mutable_outdated()->set_nonce(outdated->nonce);
    } else {
        out.mutable_stale();
    }
    out.set_kind(static_cast<std::uint32_t>(out.body_case()));
    return out.SerializeAsString();
}

Result<BusMessage> decode_bus_message(std::string_view bytes) {
    v1::BusMessage from;
    if (bytes.size() > codec_limits::bus_message_max ||
        !from.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
        return codec::malformed("bus message of " + std::to_string(bytes.size()) +
                                " bytes that does not parse; up to " + std::to_string(codec_limits::bus_message_max) +
                                " are allowed");
    }
    if (from.kind() == static_cast<std::uint32_t>(from.body_case())) {
        switch (from.body_case()) {
        case v1::BusMessage::kOutdate: return BusMessage{from.epoch(), message::Outdate{from.outdate().nonce()}};
        case v1::BusMessage::kOutdated: return BusMessage{from.epoch(), message::Outdated{from.outdated().nonce()}};
        case v1::BusMessage::kStale: return BusMessage{from.epoch(), message::Stale{}};
        case v1::BusMessage::BODY_NOT_SET: break;
        }
    }
    return codec::unknown_kind("bus message", from.kind());
}

} // namespace stead::mirror
