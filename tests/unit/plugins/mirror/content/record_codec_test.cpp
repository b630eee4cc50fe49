// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/codec.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/crc.hpp>

namespace stead::mirror {
namespace {

using testing::HasSubstr;

/// As large as one can be.
Record full() {
    Record record;
    const Gen all{~std::uint64_t{0}, ~std::uint64_t{0}};
    record.mirror = record.current = record.base = record.inconsistent = all;
    record.history.fill(all);
    record.node = 1;
    record.epoch = 0xffffffffffffff01;
    record.role = Role::alone;
    record.in_sync = record.outdated = record.clean = record.since_clean = record.log_is_intent = record.unknown = true;
    record.log = ~std::uint64_t{0};
    return record;
}

std::uint32_t crc_of(const std::string& bytes) {
    boost::crc_optimal<32, 0x1edc6f41, 0xffffffff, 0xffffffff, true, true> crc;
    crc.process_bytes(bytes.data(), bytes.size());
    return crc.checksum();
}

/// With a right checksum again.
std::string signed_anew(std::string bytes) {
    bytes.resize(record_bytes - 4);
    const std::uint32_t crc = crc_of(bytes);
    for (int shift = 24; shift >= 0; shift -= 8) {
        bytes.push_back(static_cast<char>(crc >> shift & 0xff));
    }
    return bytes;
}

TEST(RecordCodec, TheChecksumIsCrc32c) { EXPECT_EQ(crc_of("123456789"), 0xe3069283u); }

TEST(RecordCodec, ComesBackWithItsSerial) {
    Record some;
    some.mirror = {1, 2};
    some.history[0] = {3, 4};
    some.history[2] = {5, 6}; // one between them is none
    for (const Record& record : {full(), Record{}, some}) {
        const std::string bytes = encode(record, ~std::uint64_t{0});
        EXPECT_EQ(bytes.size(), record_bytes);
        const auto back = decode_record(bytes);
        ASSERT_TRUE(back) << back.error().text();
        EXPECT_EQ(back->first, record);
        EXPECT_EQ(back->second, ~std::uint64_t{0});
    }
}

TEST(RecordCodec, DamageIsSeenAtEveryBit) {
    const std::string bytes = encode(full(), 7);
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        std::string wrong = bytes;
        wrong[bit / 8] = static_cast<char>(wrong[bit / 8] ^ 1 << bit % 8);
        EXPECT_FALSE(decode_record(wrong)) << bit;
    }
    EXPECT_FALSE(decode_record(std::string(record_bytes, '\0')));
    EXPECT_FALSE(decode_record(""));
    EXPECT_FALSE(decode_record(bytes + "x"));
    const std::string older = encode(Record{}, 6);
    for (std::size_t torn = 1; torn < record_bytes; ++torn) {
        const std::string mixed = bytes.substr(0, torn) + older.substr(torn);
        const auto back = decode_record(mixed);
        EXPECT_TRUE(!back || mixed == bytes || mixed == older) << torn;
    }
}

TEST(RecordCodec, SoundBytesThatMakeNoSenseAreRefused) {
    std::string later = encode(full(), 7);
    later[11] = 2;
    const auto refused = decode_record(signed_anew(later));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::unsupported);
    EXPECT_THAT(refused.error().text(), HasSubstr("format 2"));
    std::string long_one = encode(full(), 7);
    long_one[14] = 2; // 512 bytes and more
    EXPECT_FALSE(decode_record(signed_anew(long_one)));
    Record third;
    third.node = 63;
    EXPECT_TRUE(decode_record(encode(third, 1))) << "any two nodes of a cluster may carry a mirror";
    third.node = 64;
    EXPECT_FALSE(decode_record(encode(third, 1)));
    third.node = 0;
    third.epoch = 64;
    EXPECT_FALSE(decode_record(encode(third, 1)));
    Record role;
    role.role = static_cast<Role>(5);
    EXPECT_FALSE(decode_record(encode(role, 1)));
}

} // namespace
} // namespace stead::mirror
