// SPDX-License-Identifier: Apache-2.0
#include <stead/wire/messages.hpp>

#include <stead/base/assert.hpp>

#include "datagram.pb.h"

#include <algorithm>
#include <bit>
#include <vector>

namespace stead::wire {
namespace {

using membership::Heartbeat;

constexpr std::size_t echo_bytes = 11;
constexpr std::uint64_t sent_mask = (std::uint64_t{1} << 40) - 1;
constexpr std::uint64_t session_mask = 0xffffff;

void put(std::string& to, std::uint64_t value, unsigned bytes) {
    while (bytes-- > 0) {
        to.push_back(static_cast<char>(value >> (8 * bytes) & 0xff));
    }
}

std::uint64_t get(std::string_view from, std::size_t at, std::size_t bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i) {
        value = value << 8 | static_cast<std::uint8_t>(from[at + i]);
    }
    return value;
}

/// 4 bits of exponent, 12 of mantissa, microseconds, rounded down: never claims an older receipt than there was.
std::uint16_t shorten(nanoseconds ago) {
    auto us = static_cast<std::uint64_t>(std::max<std::int64_t>(0, ago.count() / 1000));
    unsigned exponent = 0;
    for (; us > 4095 && exponent < 15; ++exponent) {
        us >>= 1;
    }
    return static_cast<std::uint16_t>(exponent << 12 | std::min<std::uint64_t>(us, 4095));
}

nanoseconds widen_ago(std::uint64_t code) { return microseconds{(code & 4095) << (code >> 12)}; }

/// The time with these low 40 bits that lies nearest to `near` (they repeat every 18 minutes).
Instant widen_sent(std::uint64_t low, Instant near) {
    const auto reference = static_cast<std::uint64_t>(to_ns(near));
    std::uint64_t forward = (low - reference) & sent_mask;
    if (forward > sent_mask / 2) {
        forward -= sent_mask + 1;
    }
    return from_ns(static_cast<std::int64_t>(reference + forward));
}

std::string pack_heard(const Heartbeat& heartbeat) {
    std::string out(1, '\0');
    NodeSet before;
    for (std::size_t lan = 0; lan < heartbeat.heard.size(); ++lan) {
        if (heartbeat.heard[lan] != before) {
            out[0] = static_cast<char>(static_cast<std::uint8_t>(out[0]) | 1U << lan);
            before = heartbeat.heard[lan];
            put(out, before.bits(), 8);
        }
    }
    return out;
}

bool unpack_heard(std::string_view in, Heartbeat& heartbeat) {
    const std::uint8_t mask = in.empty() ? 0 : static_cast<std::uint8_t>(in[0]);
    if (in.size() != (in.empty() ? 0 : 1 + 8 * static_cast<std::size_t>(std::popcount(mask)))) {
        return false;
    }
    NodeSet before;
    for (std::size_t lan = 0, at = 1; lan < heartbeat.heard.size(); ++lan) {
        if ((mask >> lan & 1U) != 0) {
            before = NodeSet{get(in, at, 8)};
            at += 8;
        }
        heartbeat.heard[lan] = before;
    }
    return true;
}

std::string pack_weights(NodeSet members, const membership::Weights& weights) {
    std::uint16_t least = 0xffff;
    std::uint16_t most = 0;
    for (const NodeId node : members) {
        least = std::min(least, weights[index(node)]);
        most = std::max(most, weights[index(node)]);
    }
    std::string out;
    if (members.empty()) {
        return out;
    }
    const auto width = static_cast<unsigned>(std::bit_width(static_cast<unsigned>(most - least)));
    put(out, least, 2);
    put(out, width, 1);
    std::uint64_t bits = 0;
    unsigned filled = 0;
    for (const NodeId node : members) {
        bits = bits << width | static_cast<std::uint64_t>(weights[index(node)] - least);
        for (filled += width; filled >= 8; filled -= 8) {
            out.push_back(static_cast<char>(bits >> (filled - 8) & 0xff));
        }
    }
    if (filled > 0) {
        out.push_back(static_cast<char>(bits << (8 - filled) & 0xff));
    }
    return out;
}

bool unpack_weights(std::string_view in, NodeSet members, membership::Weights& weights) {
    if (members.empty()) {
        return in.empty();
    }
    if (in.size() < 3) {
        return false;
    }
    const auto least = get(in, 0, 2);
    const auto width = static_cast<unsigned>(get(in, 2, 1));
    if (width > 16 || in.size() != 3 + (static_cast<std::size_t>(members.size()) * width + 7) / 8) {
        return false;
    }
    std::uint64_t bits = 0;
    unsigned filled = 0;
    std::size_t at = 3;
    for (const NodeId node : members) {
        for (; filled < width; filled += 8) {
            bits = bits << 8 | get(in, at++, 1);
        }
        filled -= width;
        const std::uint64_t value = least + (bits >> filled & ((std::uint64_t{1} << width) - 1));
        if (value > 0xffff) {
            return false;
        }
        weights[index(node)] = static_cast<std::uint16_t>(value);
    }
    return true;
}

std::string pack_echoes(const Heartbeat& heartbeat) {
    std::string out;
    out.reserve(heartbeat.echoes.size() * echo_bytes);
    for (const Heartbeat::Echo& echo : heartbeat.echoes) {
        put(out, index(echo.peer), 1);
        put(out, echo.session.low & session_mask, 3);
        put(out, static_cast<std::uint64_t>(to_ns(echo.sent)) & sent_mask, 5);
        put(out, shorten(echo.ago), 2);
    }
    return out;
}

bool unpack_echoes(std::string_view in, Heartbeat& heartbeat, const PeerClocks& clocks) {
    if (in.size() % echo_bytes != 0 || in.size() / echo_bytes > limits::nodes_max) {
        return false;
    }
    heartbeat.echoes.reserve(in.size() / echo_bytes);
    for (std::size_t at = 0; at < in.size(); at += echo_bytes) {
        const auto peer = get(in, at, 1);
        if (peer >= limits::nodes_max) {
            return false;
        }
        Heartbeat::Echo echo;
        echo.peer = NodeId(peer);
        echo.ago = widen_ago(get(in, at + 9, 2));
        const PeerClock& clock = clocks[peer];
        if (!clock.session.is_zero() && (clock.session.low & session_mask) == get(in, at + 1, 3)) {
            echo.session = clock.session;
            echo.sent = widen_sent(get(in, at + 4, 5), clock.sent);
        }
        heartbeat.echoes.push_back(echo);
    }
    return true;
}

std::int64_t over(std::uint64_t epoch, std::uint64_t base) { return static_cast<std::int64_t>(epoch - base); }
std::uint64_t onto(std::int64_t difference, std::uint64_t base) {
    return base + static_cast<std::uint64_t>(difference);
}

void encode_heartbeat(const Heartbeat& from, v1::Heartbeat& to) {
    to.set_sent_ns(static_cast<std::uint64_t>(to_ns(from.sent)));
    to.set_phase(static_cast<std::uint32_t>(from.phase));
    to.set_weight(from.weight);
    to.set_config(from.config);
    to.set_heard(pack_heard(from));
    to.set_view_epoch(from.view_epoch);
    to.set_view_id(from.view_id);
    to.set_view_members(from.view_members.bits());
    if (from.proposal.id != 0) {
        auto& proposal = *to.mutable_proposal();
        proposal.set_epoch_over_view(over(from.proposal.epoch, from.view_epoch));
        proposal.set_id(from.proposal.id);
        proposal.set_members(from.proposal.members.bits());
        proposal.set_weights(pack_weights(from.proposal.members, from.proposal.weights));
        to.set_clear_in_us(std::chrono::ceil<microseconds>(from.clear_in).count());
    }
    if (from.known.id != 0) {
        auto& known = *to.mutable_known();
        known.set_epoch_over_view(over(from.known.epoch, from.view_epoch));
        known.set_id(from.known.id);
        known.set_members(from.known.members.bits());
        known.set_ago_us(static_cast<std::uint64_t>(std::max<std::int64_t>(0, from.known.ago.count() / 1000)));
    }
    to.set_echoes(pack_echoes(from));
    to.set_whiteboard_digest(from.whiteboard_digest);
    to.set_state(from.state);
    to.set_witness_ended(from.witness_ended);
    to.set_dropped(from.dropped.bits());
}

Error malformed(std::string what) { return Error{Errc::malformed, "datagram", std::move(what)}; }

constexpr std::uint64_t longest_us = 1'000'000'000'000; // 11 days: no time on the wire may overflow nanoseconds

Result<Heartbeat> decode_heartbeat(const v1::Heartbeat& from, const PeerClocks& clocks) {
    Heartbeat to;
    if (from.phase() > static_cast<std::uint32_t>(membership::Phase::leaving) || from.weight() > 0xffff ||
        from.sent_ns() >= std::uint64_t{1} << 62) {
        return malformed("heartbeat: phase, weight or time out of range");
    }
    to.sent = from_ns(static_cast<std::int64_t>(from.sent_ns()));
    to.phase = membership::Phase{static_cast<std::uint8_t>(from.phase())};
    to.weight = static_cast<std::uint16_t>(from.weight());
    to.config = from.config();
    to.view_epoch = from.view_epoch();
    to.view_id = from.view_id();
    to.view_members = NodeSet{from.view_members()};
    to.whiteboard_digest = from.whiteboard_digest();
    to.state = from.state();
    to.witness_ended = from.witness_ended();
    to.dropped = NodeSet{from.dropped()};
    if (!unpack_heard(from.heard(), to) || !unpack_echoes(from.echoes(), to, clocks)) {
        return malformed("heartbeat: heard sets or echoes of a wrong size");
    }
    if (from.has_proposal()) {
        to.proposal.epoch = onto(from.proposal().epoch_over_view(), from.view_epoch());
        to.proposal.id = from.proposal().id();
        to.proposal.members = NodeSet{from.proposal().members()};
        const std::int64_t us = from.clear_in_us();
        const auto limit = static_cast<std::int64_t>(longest_us);
        if (to.proposal.id == 0 || us > limit || us < -limit ||
            !unpack_weights(from.proposal().weights(), to.proposal.members, to.proposal.weights)) {
            return malformed("heartbeat: proposal without id, or weights of a wrong size");
        }
        to.clear_in = microseconds{us};
    }
    if (from.has_known()) {
        to.known.epoch = onto(from.known().epoch_over_view(), from.view_epoch());
        to.known.id = from.known().id();
        to.known.members = NodeSet{from.known().members()};
        to.known.ago = microseconds{static_cast<std::int64_t>(std::min(from.known().ago_us(), longest_us))};
    }
    return to;
}

void encode_delta(const whiteboard::Delta& from, v1::Delta& to) {
    to.set_from(from.from);
    to.set_to(from.to);
    to.set_top(from.top);
    to.set_complete(from.complete);
    for (const whiteboard::Entry& entry : from.entries) {
        auto& out = *to.add_entries();
        out.set_name(entry.name);
        out.set_value(entry.value);
        out.set_version(entry.version);
        out.set_removed(entry.removed);
    }
}

Result<whiteboard::Delta> decode_delta(const v1::Delta& from) {
    whiteboard::Delta to;
    to.from = from.from();
    to.to = from.to();
    to.top = from.top();
    to.complete = from.complete();
    if (to.from > to.to || to.to > to.top) {
        return malformed("whiteboard: versions out of order");
    }
    for (const v1::Entry& entry : from.entries()) {
        if (entry.name().empty() || entry.name().size() > limits::resource_name_bytes_max ||
            entry.value().size() > limits::resource_value_bytes_max || entry.version() <= to.from ||
            entry.version() > to.to) {
            return malformed("whiteboard: a resource beyond the limits");
        }
        to.entries.push_back({entry.name(), entry.value(), entry.version(), entry.removed()});
    }
    return to;
}

} // namespace

struct Codec::State {
    v1::Datagram datagram;
    std::vector<std::uint8_t> out;
};

Codec::Codec() : state_(std::make_unique<State>()) {}
Codec::~Codec() = default;

std::span<const std::uint8_t> Codec::encode(const Datagram& datagram) {
    v1::Datagram& to = state_->datagram;
    to.Clear();
    if (datagram.heartbeat) {
        encode_heartbeat(*datagram.heartbeat, *to.mutable_heartbeat());
    }
    if (datagram.delta) {
        encode_delta(*datagram.delta, *to.mutable_delta());
    }
    if (datagram.request) {
        to.mutable_request()->set_session_low(datagram.request->session_low);
        to.mutable_request()->set_from(datagram.request->from);
    }
    if (datagram.message) {
        auto& message = *to.mutable_message();
        message.set_session_low(datagram.message->session_low);
        message.set_sequence(datagram.message->sequence);
        message.set_base(datagram.message->base);
        message.set_kind(datagram.message->kind);
        message.set_version(datagram.message->version);
        message.set_body(datagram.message->body);
    }
    if (datagram.ack) {
        to.mutable_ack()->set_session_low(datagram.ack->session_low);
        to.mutable_ack()->set_up_to(datagram.ack->up_to);
    }
    state_->out.resize(to.ByteSizeLong());
    to.SerializeWithCachedSizesToArray(state_->out.data());
    return state_->out;
}

Result<Datagram> Codec::decode(NodeId sender, const SessionId& session, std::span<const std::uint8_t> payload,
                               const PeerClocks& clocks) {
    v1::Datagram& from = state_->datagram;
    if (!from.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
        return malformed("not a message of this protocol");
    }
    Datagram to;
    if (from.has_heartbeat()) {
        auto heartbeat = decode_heartbeat(from.heartbeat(), clocks);
        if (!heartbeat) {
            return std::move(heartbeat).error();
        }
        to.heartbeat = std::move(*heartbeat);
        to.heartbeat->sender = sender;
        to.heartbeat->session = session;
    }
    if (from.has_delta()) {
        auto delta = decode_delta(from.delta());
        if (!delta) {
            return std::move(delta).error();
        }
        to.delta = std::move(*delta);
        to.delta->owner = sender;
        to.delta->session = session;
    }
    if (from.has_request()) {
        to.request = Request{from.request().session_low(), from.request().from()};
    }
    if (from.has_message()) {
        const v1::PeerMessage& message = from.message();
        if (message.kind().empty() || message.kind().size() > limits::name_bytes_max ||
            message.body().size() > limits::peer_message_bytes_max || message.version() > 0xffff ||
            message.sequence() == 0 || message.base() == 0 || message.base() > message.sequence()) {
            return malformed("peer message beyond the limits");
        }
        to.message = Message{message.session_low(), message.sequence(), message.base(),
                             message.kind(),        static_cast<std::uint16_t>(message.version()), message.body()};
    }
    if (from.has_ack()) {
        to.ack = Ack{from.ack().session_low(), from.ack().up_to()};
    }
    return to;
}

} // namespace stead::wire
