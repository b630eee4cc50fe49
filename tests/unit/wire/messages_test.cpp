// SPDX-License-Identifier: Apache-2.0
#include <stead/wire/messages.hpp>
#include <stead/wire/sealed.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace stead::wire {
namespace {

using membership::Heartbeat;
using std::chrono::milliseconds;
using std::chrono::seconds;

const SessionId sender_session{5, 50};

PeerClocks clocks_of(std::size_t nodes) {
    PeerClocks clocks;
    for (std::size_t i = 0; i < nodes; ++i) {
        clocks[i] = {{i + 1, i * 7919 + 1}, from_ns(static_cast<std::int64_t>(1'000'000'000'000 * (i + 1)))};
    }
    return clocks;
}

/// As large as the protocol makes it: 16 echoes, two LANs that differ, a proposal with weights that do not compress.
Heartbeat largest(std::size_t nodes, std::size_t echoes) {
    const PeerClocks clocks = clocks_of(nodes);
    Heartbeat heartbeat;
    heartbeat.sender = NodeId{1};
    heartbeat.session = sender_session;
    heartbeat.sent = from_ns(987'654'321'012'345'678);
    heartbeat.phase = membership::Phase::prepared;
    heartbeat.weight = 1000;
    heartbeat.config = 0xfedcba9876543210;
    const NodeSet all{nodes == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << nodes) - 1};
    heartbeat.heard[0] = all;
    heartbeat.heard[1] = all - NodeSet{NodeId{0}};
    heartbeat.view_epoch = 3'000'000'000;
    heartbeat.view_id = 0x8877665544332211;
    heartbeat.view_members = all;
    heartbeat.proposal.epoch = heartbeat.view_epoch + 1;
    heartbeat.proposal.id = 0x1234567812345678;
    heartbeat.proposal.members = all;
    for (std::size_t i = 0; i < nodes; ++i) {
        heartbeat.proposal.weights[i] = static_cast<std::uint16_t>(i * 997 % 1001);
    }
    heartbeat.clear_in = milliseconds{225};
    heartbeat.known = {heartbeat.view_epoch - 1, 0x99, all, milliseconds{40}};
    for (std::size_t i = 0; i < echoes; ++i) {
        const std::size_t peer = nodes - 1 - i;
        heartbeat.echoes.push_back({NodeId(peer), clocks[peer].session,
                                    clocks[peer].sent - milliseconds{i * 13} - nanoseconds{1}, milliseconds{i}});
    }
    heartbeat.whiteboard_digest = 0x1111111111111111;
    heartbeat.state = 1000;
    return heartbeat;
}

Datagram round_trip(const Datagram& datagram, const PeerClocks& clocks) {
    Codec codec;
    const auto bytes = codec.encode(datagram);
    Codec other;
    auto back = other.decode(NodeId{1}, sender_session, bytes, clocks);
    EXPECT_TRUE(back) << (back ? "" : back.error().text());
    return back ? *back : Datagram{};
}

void expect_equal(const Heartbeat& a, const Heartbeat& b) {
    EXPECT_EQ(a.sender, b.sender);
    EXPECT_EQ(a.session, b.session);
    EXPECT_EQ(a.sent, b.sent);
    EXPECT_EQ(a.phase, b.phase);
    EXPECT_EQ(a.weight, b.weight);
    EXPECT_EQ(a.config, b.config);
    EXPECT_EQ(a.heard, b.heard);
    EXPECT_EQ(a.view_epoch, b.view_epoch);
    EXPECT_EQ(a.view_id, b.view_id);
    EXPECT_EQ(a.view_members, b.view_members);
    EXPECT_EQ(a.proposal, b.proposal);
    EXPECT_EQ(a.clear_in, b.clear_in);
    EXPECT_EQ(a.known.epoch, b.known.epoch);
    EXPECT_EQ(a.known.id, b.known.id);
    EXPECT_EQ(a.known.members, b.known.members);
    EXPECT_EQ(a.known.ago, b.known.ago);
    EXPECT_EQ(a.whiteboard_digest, b.whiteboard_digest);
    EXPECT_EQ(a.state, b.state);
    ASSERT_EQ(a.echoes.size(), b.echoes.size());
    for (std::size_t i = 0; i < a.echoes.size(); ++i) {
        EXPECT_EQ(a.echoes[i].peer, b.echoes[i].peer);
        EXPECT_EQ(a.echoes[i].session, b.echoes[i].session);
        EXPECT_EQ(a.echoes[i].sent, b.echoes[i].sent) << "leases are counted from it: exact to the nanosecond";
        EXPECT_LE(b.echoes[i].ago, a.echoes[i].ago) << "never an older receipt than there was";
        EXPECT_GE(b.echoes[i].ago + a.echoes[i].ago / 1000 + microseconds{1}, a.echoes[i].ago);
    }
}

TEST(Messages, HeartbeatsComeBackAsTheyWere) {
    for (const std::size_t nodes : {2U, 3U, 16U, 64U}) {
        const Heartbeat heartbeat = largest(nodes, std::min<std::size_t>(nodes, 16));
        const Datagram back = round_trip({.heartbeat = heartbeat, .delta = {}, .request = {}, .message = {}, .ack = {}},
                                         clocks_of(nodes));
        ASSERT_TRUE(back.heartbeat);
        expect_equal(heartbeat, *back.heartbeat);
    }
    Heartbeat empty;
    empty.sender = NodeId{1};
    empty.session = sender_session;
    const Datagram back = round_trip({.heartbeat = empty, .delta = {}, .request = {}, .message = {}, .ack = {}}, {});
    ASSERT_TRUE(back.heartbeat);
    expect_equal(empty, *back.heartbeat);
}

TEST(Messages, TheLargestHeartbeatStaysWithinItsBudget) {
    Codec codec;
    Sealer sealer{{1, GroupId{1}}, NodeId{1}, sender_session, std::string(32, 'k')};
    Datagram datagram;
    const auto sealed_bytes = [&] { return sealer.seal(LanId{0}, codec.encode(datagram)).size(); };
    datagram.heartbeat = largest(64, 16);
    const std::size_t at_64 = sealed_bytes();
    EXPECT_LE(at_64, limits::heartbeat_bytes_max);
    datagram.heartbeat = largest(3, 2);
    const std::size_t at_3_prepared = sealed_bytes();
    datagram.heartbeat->proposal = {};
    datagram.heartbeat->known = {};
    datagram.heartbeat->heard[1] = datagram.heartbeat->heard[0];
    const std::size_t at_3 = sealed_bytes();
    EXPECT_LE(at_3, 170U);
    RecordProperty("bytes_at_64_prepared", static_cast<int>(at_64));
    RecordProperty("bytes_at_3_prepared", static_cast<int>(at_3_prepared));
    RecordProperty("bytes_at_3_settled", static_cast<int>(at_3));
    std::cout << "heartbeat sealed: 64 nodes in prepare " << at_64 << ", 3 nodes in prepare " << at_3_prepared
              << ", 3 nodes settled " << at_3 << " bytes\n";
}

TEST(Messages, AnEchoOfAnotherSessionIsNotWidened) {
    Heartbeat heartbeat = largest(3, 3);
    PeerClocks clocks = clocks_of(3);
    clocks[2].session.low ^= 1;
    clocks[1].session = {};
    const Datagram back =
        round_trip({.heartbeat = heartbeat, .delta = {}, .request = {}, .message = {}, .ack = {}}, clocks);
    ASSERT_TRUE(back.heartbeat);
    ASSERT_EQ(back.heartbeat->echoes.size(), 3U);
    EXPECT_TRUE(back.heartbeat->echoes[0].session.is_zero());
    EXPECT_EQ(back.heartbeat->echoes[0].sent, Instant{});
    EXPECT_TRUE(back.heartbeat->echoes[1].session.is_zero());
    EXPECT_EQ(back.heartbeat->echoes[2].session, clocks[0].session);
}

TEST(Messages, OthersComeBackAsTheyWere) {
    Datagram datagram;
    datagram.delta = whiteboard::Delta{
        NodeId{1}, sender_session, 3, 9, 12, true, {{"tcp.web", "up", 5, false}, {"x", "", 9, true}}};
    datagram.request = Request{42, 7};
    datagram.message = Message{43, 6, 5, "farm.step", 2, std::string("a\0b", 3)};
    datagram.ack = Ack{44, 8};
    const Datagram back = round_trip(datagram, {});
    ASSERT_TRUE(back.delta && back.request && back.message && back.ack);
    EXPECT_EQ(back.delta->entries, datagram.delta->entries);
    EXPECT_EQ(back.delta->to, 9U);
    EXPECT_EQ(back.delta->top, 12U);
    EXPECT_TRUE(back.delta->complete);
    EXPECT_EQ(back.request->from, 7U);
    EXPECT_EQ(back.message->body, datagram.message->body);
    EXPECT_EQ(back.message->kind, "farm.step");
    EXPECT_EQ(back.ack->up_to, 8U);
}

// A newer minor version adds fields; an older node ignores them.
TEST(Messages, UnknownFieldsAreIgnored) {
    Codec codec;
    Datagram datagram;
    datagram.ack = Ack{44, 8};
    const auto encoded = codec.encode(datagram);
    std::vector<std::uint8_t> bytes{encoded.begin(), encoded.end()};
    for (const std::uint8_t byte : {0xfa, 0x07, 0x03, 0x6e, 0x65, 0x77}) { // field 127, three bytes
        bytes.push_back(byte);
    }
    const auto back = codec.decode(NodeId{1}, sender_session, bytes, {});
    ASSERT_TRUE(back);
    EXPECT_EQ(back->ack->up_to, 8U);
}

// Whatever arrives after the seal (a peer with a bug), decoding ends in a value or an error.
TEST(Messages, NoTruncationOrMutationIsFatal) {
    Codec codec;
    Datagram datagram;
    datagram.heartbeat = largest(64, 16);
    datagram.delta = whiteboard::Delta{NodeId{1}, sender_session, 3, 9, 12, true, {{"tcp.web", "up", 5, false}}};
    datagram.message = Message{43, 6, 5, "farm.step", 2, "body"};
    const auto encoded = codec.encode(datagram);
    const std::vector<std::uint8_t> good{encoded.begin(), encoded.end()};
    const PeerClocks clocks = clocks_of(64);
    std::size_t refused = 0;
    for (std::size_t size = 0; size < good.size(); ++size) {
        refused += codec.decode(NodeId{1}, sender_session, {good.data(), size}, clocks) ? 0U : 1U;
    }
    std::mt19937 random{1};
    for (int i = 0; i < 20000; ++i) {
        auto bad = good;
        for (int flips = 0; flips < 3; ++flips) {
            bad[random() % bad.size()] = static_cast<std::uint8_t>(random());
        }
        refused += codec.decode(NodeId{1}, sender_session, bad, clocks) ? 0U : 1U;
    }
    EXPECT_GT(refused, good.size() / 2);
}

} // namespace
} // namespace stead::wire
