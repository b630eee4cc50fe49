// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/codec.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

namespace stead::mirror {
namespace {

using testing::HasSubstr;

const Fid a{1, 2}, b{3, 4};

template <class Body>
Body again(const Body& body) {
    const std::string bytes = encode(Message{0x1122334455667701, body});
    const auto back = decode_message(bytes);
    EXPECT_TRUE(back) << back.error().text();
    if (!back || !std::holds_alternative<Body>(back->body)) {
        ADD_FAILURE() << "another kind came back";
        return {};
    }
    EXPECT_EQ(back->epoch, 0x1122334455667701u);
    EXPECT_EQ(encode(*back), bytes);
    return std::get<Body>(back->body);
}

template <class Body>
std::string refusal(const Body& body) {
    const auto decoded = decode_message(encode(Message{1, body}));
    EXPECT_FALSE(decoded);
    return decoded ? "" : decoded.error().text();
}

Facts some_facts() {
    Facts facts;
    facts.version = 3;
    facts.incarnation = {1, 2};
    facts.peer_incarnation = {3, 4};
    facts.record.mirror = {5, 6};
    facts.record.node = 1;
    facts.record.epoch = 0x701;
    facts.record.history[0] = {7, 8};
    facts.record.role = Role::prim;
    facts.seq = 77;
    facts.serving = facts.dirty_known = facts.intent_known = facts.sync_failed = facts.held = true;
    return facts;
}

TEST(MessageCodec, Hello) {
    const Facts sent = some_facts();
    const Facts got = again(message::Hello{sent}).facts;
    EXPECT_EQ(got.version, 3);
    EXPECT_EQ(got.record, sent.record);
    EXPECT_EQ(got.incarnation, sent.incarnation);
    EXPECT_EQ(got.peer_incarnation, sent.peer_incarnation);
    EXPECT_EQ(got.seq, 77u);
    EXPECT_TRUE(got.serving && got.dirty_known && got.intent_known && got.sync_failed && got.held);
    EXPECT_FALSE(got.accept_loss || got.memory || got.may_be_ahead || got.leaves);
    Facts none = sent;
    none.version = 0;
    EXPECT_THAT(refusal(message::Hello{none}), HasSubstr("version 0"));
    Facts third = sent;
    third.record.node = 63;
    EXPECT_EQ(again(message::Hello{third}).facts.record.node, 63);
    third.record.node = 64;
    EXPECT_THAT(refusal(message::Hello{third}), HasSubstr("nodes are 0 to 63"));
}

TEST(MessageCodec, Marks) {
    const std::vector<LogEntry> marks{{{TargetKind::zone, a, 1u << 20}, Mark::intent},
                                      {{TargetKind::directory, b, 0}, Mark::dirty},
                                      {{TargetKind::inode, b, 0}, Mark::unsynced}};
    EXPECT_EQ(again(message::Marks{marks, true}).marks, marks);
    EXPECT_TRUE(again(message::Marks{{}, true}).last);
    EXPECT_THAT(refusal(message::Marks{{{{TargetKind::inode, a, 5}, Mark::dirty}}, false}), HasSubstr("index 5"));
    refusal(message::Marks{{{{static_cast<TargetKind>(3), a, 0}, Mark::dirty}}, false});
    EXPECT_THAT(refusal(message::Marks{{{{TargetKind::inode, a, 0}, static_cast<Mark>(9)}}, false}),
                HasSubstr("kind 10"));
    refusal(message::Marks{{{{TargetKind::zone, a, ~std::uint64_t{0}}, Mark::dirty}}, false});
    refusal(message::Marks{std::vector<LogEntry>(codec_limits::marks_max + 1, marks[0]), false});
}

TEST(MessageCodec, Change) {
    const message::Change sent{
        9, operation_of(Content{{1, 2}, change::Write{a, 70000, std::string(4096, 'w'), false}}, true), Level::flushed};
    const message::Change got = again(sent);
    EXPECT_EQ(got.seq, 9u);
    EXPECT_EQ(got.wanted, Level::flushed);
    EXPECT_EQ(got.operation.targets, sent.operation.targets);
    EXPECT_TRUE(got.operation.durable);
    EXPECT_FALSE(got.operation.whole_inode);
    EXPECT_EQ(std::get<change::Write>(got.operation.payload->what).data, std::string(4096, 'w'));
    const message::Change sync = again(message::Change{10, sync_of(a), Level::flushed});
    EXPECT_EQ(sync.operation.kind, OpKind::sync);
    EXPECT_EQ(sync.operation.payload, nullptr);
}

TEST(MessageCodec, ImpossibleChangesAreRefused) {
    message::Change change{9, operation_of(Content{{}, change::Link{a, b, "n"}}), Level::applied};
    change.operation.payload = std::make_shared<const Content>(Content{{}, copy::Zone{}});
    EXPECT_THAT(refusal(change), HasSubstr("content of a copy"));
    change.operation.payload = nullptr;
    refusal(change);
    change.operation.kind = OpKind::sync;
    again(change);
    change.operation.payload = std::make_shared<const Content>(Content{{}, change::Link{a, b, "n"}});
    refusal(change);
    change.operation.kind = OpKind::change;
    change.operation.targets.clear();
    EXPECT_THAT(refusal(change), HasSubstr("0 targets"));
    change.operation.targets.assign(codec_limits::targets_max + 1, {TargetKind::inode, a, 0});
    refusal(change);
    change = {9, operation_of(Content{{}, change::Link{a, b, ".."}}), Level::applied};
    refusal(change);
}

TEST(MessageCodec, Copy) {
    const auto zone =
        std::make_shared<const Content>(Content{{}, copy::Zone{zone_bytes, std::string(zone_bytes, 'z')}});
    const auto inode = std::make_shared<const Content>(Content{{}, copy::Inode{S_IFREG, 0, 0, 0, 0, {}, "", {}, {}}});
    const auto got = again(message::Copy{5, {TargetKind::zone, a, 7}, zone});
    EXPECT_EQ(got.target, (Target{TargetKind::zone, a, 7}));
    EXPECT_EQ(std::get<copy::Zone>(got.payload->what), std::get<copy::Zone>(zone->what));
    again(message::Copy{5, {TargetKind::inode, a, 0}, inode});
    EXPECT_THAT(refusal(message::Copy{5, {TargetKind::inode, a, 0}, zone}), HasSubstr("target's kind"));
    refusal(message::Copy{5, {TargetKind::directory, a, 0}, inode});
    refusal(message::Copy{
        5, {TargetKind::zone, a, 0}, std::make_shared<const Content>(Content{{}, change::Link{a, b, "n"}})});
}

TEST(MessageCodec, Acked) {
    const message::Acked sent{3, Level::applied, 28, true, {a, b, {5, ~std::uint64_t{0}}}};
    const auto got = again(sent);
    EXPECT_EQ(got.created, sent.created);
    EXPECT_EQ(got.error, 28);
    EXPECT_TRUE(got.equal);
    EXPECT_EQ(got.level, Level::applied);
    const message::Acked lacking{4, Level::applied, 0, false, {}, {{2, 5}, {100, 1}}};
    EXPECT_EQ(again(lacking).lacking, lacking.lacking);
    refusal(message::Acked{4, Level::applied, 0, false, {}, {{0, codec_limits::lacking_max}, {1u << 21, 1}}});
    refusal(message::Acked{3, static_cast<Level>(3), 0, false, {}});
    refusal(message::Acked{3, Level::applied, -5, false, {}});
    EXPECT_FALSE(decode_message(encode(Message{1, sent}) + "x"));
}

TEST(MessageCodec, ProgressIsNothingForWhoDoesNotKnowIt) {
    const message::Progress progress{10, 7, 5, ~std::uint64_t{0}};
    const message::Begin sent{{1, 2}, {3, 4}, true, false, progress, Extent::compare_all};
    const auto begin = again(sent);
    EXPECT_EQ(begin.progress, progress);
    EXPECT_EQ(begin.extent, Extent::compare_all);
    EXPECT_EQ(again(message::Probe{1, {TargetKind::zone, a, 2}, 3, progress}).progress, progress);
    const auto zone = std::make_shared<const Content>(Content{{}, copy::Zone{5, "hello"}});
    EXPECT_EQ(again(message::Copy{5, {TargetKind::zone, a, 7}, zone, progress}).progress, progress);
    const auto old = again(message::Begin{{1, 2}, {3, 4}, true, true});
    EXPECT_EQ(old.progress, message::Progress{});
    EXPECT_FALSE(old.extent);
    EXPECT_LT(encode(Message{1, old}).size() + 10, encode(Message{1, sent}).size()) << "all 0 takes no bytes";
    EXPECT_THAT(refusal(message::Begin{{1, 2}, {3, 4}, true, true, {}, static_cast<Extent>(3)}), HasSubstr("extent"));
}

TEST(MessageCodec, TheSmallOnes) {
    const auto begin = again(message::Begin{{1, 2}, {3, 4}, true, true});
    EXPECT_TRUE(begin.anything && begin.keep_undo);
    EXPECT_EQ(begin.current, (Gen{3, 4}));
    again(message::BeginAck{});
    EXPECT_EQ(again(message::Probe{1, {TargetKind::zone, a, 2}, ~std::uint64_t{0}}).digest, ~std::uint64_t{0});
    EXPECT_EQ(again(message::Durable{~std::uint64_t{0}}).seq, ~std::uint64_t{0});
    message::End end{5, {1, 2}, {}};
    end.history[15] = {3, 3};
    EXPECT_EQ(again(end).history, end.history);
    again(message::EndAck{});
    EXPECT_TRUE(again(message::Handover{true}).flushed);
    again(message::Taken{});
    again(message::Stale{});
    EXPECT_FALSE(decode_message(encode(Message{1, message::Stale{}}) + "x"));
}

TEST(MessageCodec, EveryCutAndEveryFlippedBitIsSurvived) {
    const std::string bytes = encode(
        Message{1, message::Change{9, operation_of(Content{{1, 2}, change::Make{a, "n", b, S_IFDIR, 0, 0, 0, ""}}),
                                   Level::applied}});
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_FALSE(decode_message(std::string_view{bytes}.substr(0, size)));
    }
    unsigned refused = 0;
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        std::string wrong = bytes;
        wrong[bit / 8] = static_cast<char>(wrong[bit / 8] ^ 1 << bit % 8);
        const auto back = decode_message(wrong);
        refused += back ? 0 : 1;
        if (back) {
            EXPECT_TRUE(decode_message(encode(*back)));
        }
    }
    EXPECT_GT(refused, bytes.size());
}

TEST(MessageCodec, FieldsOfALaterVersionAreIgnoredAndKindsNamed) {
    const std::string field{"\x00\x00\x00\x08\x08\x17\xba\x01\x00\xf8\x07\x05", 12}; // kind 23, Stale, field 127 = 5
    EXPECT_TRUE(decode_message(field));
    const std::string kind{"\x00\x00\x00\x05\x08\x63\x9a\x06\x00", 9};
    const auto refused = decode_message(kind);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().text(), HasSubstr("kind 99"));
    const std::string liar{"\x00\x00\x00\x05\x08\x16\xba\x01\x00", 9}; // says 22, is 23
    EXPECT_FALSE(decode_message(liar));
}

TEST(MessageCodec, ALengthThatIsNotThereIsRefused) {
    EXPECT_FALSE(decode_message(std::string_view{"\xff\xff\xff\xff", 4}));
    EXPECT_FALSE(decode_message(std::string_view{"\x00\x00\x00\x01", 4}));
    EXPECT_FALSE(decode_message(""));
}

TEST(BusCodec, ComesBackAndIsSmall) {
    for (const message::BusBody& body : {message::BusBody{message::Outdate{~std::uint64_t{0}}},
                                         message::BusBody{message::Outdated{1}}, message::BusBody{message::Stale{}}}) {
        const std::string bytes = encode(BusMessage{0xffffffffffffff01, body});
        EXPECT_LE(bytes.size(), 64u);
        const auto back = decode_bus_message(bytes);
        ASSERT_TRUE(back) << back.error().text();
        EXPECT_EQ(back->epoch, 0xffffffffffffff01u);
        EXPECT_EQ(back->body.index(), body.index());
        EXPECT_EQ(encode(*back), bytes);
    }
    EXPECT_FALSE(decode_bus_message(""));
    EXPECT_FALSE(decode_bus_message(std::string(1001, '\0')));
    EXPECT_THAT(decode_bus_message("\x08\x63").error().text(), HasSubstr("kind 99"));
}

} // namespace
} // namespace stead::mirror
