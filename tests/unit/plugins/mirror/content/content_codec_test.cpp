// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/codec.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <linux/falloc.h>
#include <sys/stat.h>

namespace stead::mirror {
namespace {

using testing::HasSubstr;

const Fid a{0x0102030405060708, 9}, b{10, ~std::uint64_t{0}}, c{11, 12};
const std::string odd_name{"\xff\n \x01"
                           "caf\xc3"}; // not UTF-8

/// The encoding is canonical, so equal bytes are equal contents.
template <class What>
Content again(const What& what) {
    const std::string bytes = encode(Content{{-7, 999'999'999}, what});
    const auto back = decode_content(bytes);
    EXPECT_TRUE(back) << back.error().text();
    if (!back) {
        return {};
    }
    EXPECT_EQ(encode(*back), bytes);
    EXPECT_EQ(back->at, (Time{-7, 999'999'999}));
    EXPECT_TRUE(std::holds_alternative<What>(back->what));
    return *back;
}

template <class What>
std::string refusal(const What& what) {
    const auto checked = check(Content{{}, what});
    EXPECT_FALSE(checked);
    const auto decoded = decode_content(encode(Content{{}, what}));
    EXPECT_FALSE(decoded);
    return decoded ? "" : decoded.error().text();
}

TEST(ContentCodec, EveryKindComesBack) {
    const Content write = again(change::Write{a, 5'000'000'000, std::string("\0x\xff", 3), true});
    EXPECT_EQ(std::get<change::Write>(write.what).data, std::string("\0x\xff", 3));
    EXPECT_EQ(std::get<change::Write>(write.what).offset, 5'000'000'000u);
    EXPECT_EQ(std::get<change::Write>(write.what).file, a);
    EXPECT_TRUE(std::get<change::Write>(write.what).kill_privileges);

    const Content set = again(change::Attributes{a, 63, 0104755, 1, 2, 1 << 30, {-1, 1}, {2, 3}, true});
    const auto& attributes = std::get<change::Attributes>(set.what);
    EXPECT_EQ(attributes.mode, 0104755u);
    EXPECT_EQ(attributes.atime, (Time{-1, 1}));
    EXPECT_EQ(attributes.mtime, (Time{2, 3}));

    const Content make = again(change::Make{a, odd_name, b, S_IFLNK | 0777, 1, 2, 0, "to/where"});
    EXPECT_EQ(std::get<change::Make>(make.what).name, odd_name);
    EXPECT_EQ(std::get<change::Make>(make.what).inode, b);
    EXPECT_EQ(std::get<change::Make>(make.what).link, "to/where");
    EXPECT_EQ(std::get<change::Make>(again(change::Make{a, "null", b, S_IFCHR, 0, 0, 0x103, ""}).what).device, 0x103u);

    EXPECT_EQ(std::get<change::Link>(again(change::Link{a, b, "n"}).what).parent, b);
    EXPECT_TRUE(std::get<change::Remove>(again(change::Remove{a, std::string(255, 'n'), b, true}).what).directory);
    const Content rename = again(change::Rename{a, "x", b, "y", 2, c, a});
    EXPECT_EQ(std::get<change::Rename>(rename.what).new_name, "y");
    EXPECT_EQ(std::get<change::Rename>(rename.what).replaced, a);
    EXPECT_EQ(
        std::get<change::SetXattr>(again(change::SetXattr{a, "user.x", std::string(65536, 'v')}).what).value.size(),
        65536u);
    again(change::RemoveXattr{a, "user.x"});
    again(change::Allocate{a, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, INT64_MAX - 1, false});
}

TEST(ContentCodec, CopiesComeBack) {
    const copy::Listing listing{{{"a", a, S_IFREG, 0, ""}, {"b", b, S_IFLNK, 0, "a"}, {odd_name, c, S_IFBLK, 7, ""}}};
    EXPECT_EQ(std::get<copy::Listing>(again(listing).what), listing);
    EXPECT_EQ(std::get<copy::Listing>(again(copy::Listing{}).what), copy::Listing{});
    const copy::Inode inode{S_IFREG | 0640,
                            1,
                            2,
                            0,
                            1u << 20,
                            {9, 8},
                            "",
                            {{"user.a", ""}, {"user.b", "x"}},
                            {{0, 1}, {5, 3}, {1u << 20, 1}}};
    EXPECT_EQ(std::get<copy::Inode>(again(inode).what), inode);
    const copy::Zone zone{zone_bytes, std::string(100, 'z')};
    EXPECT_EQ(std::get<copy::Zone>(again(zone).what), zone);
    EXPECT_EQ(std::get<copy::Zone>(again(copy::Zone{zone_bytes, ""}).what).length, zone_bytes);
}

TEST(ContentCodec, AMillionNamesFit) {
    copy::Listing listing;
    for (unsigned i = 0; i < 1'000'000; ++i) {
        listing.entries.push_back({"name-" + std::to_string(1'000'000 + i), {i, 1}, S_IFREG, 0, ""});
    }
    const std::string bytes = encode(Content{{}, listing});
    const auto back = decode_content(bytes);
    ASSERT_TRUE(back) << back.error().text();
    EXPECT_TRUE(std::get<copy::Listing>(back->what) == listing);
}

TEST(ContentCodec, BadNamesAreRefused) {
    const std::vector<std::string> bad{"", ".", "..", "a/b", std::string("a\0b", 3), std::string(256, 'n')};
    for (const std::string& name : bad) {
        refusal(change::Make{a, name, b, S_IFREG, 0, 0, 0, ""});
        refusal(change::Link{a, b, name});
        refusal(change::Remove{a, name, b, false});
        refusal(change::Rename{a, name, b, "x", 0, c, {}});
        refusal(change::Rename{a, "x", b, name, 0, c, {}});
        refusal(copy::Listing{{{name, a, S_IFREG, 0, ""}}});
    }
    EXPECT_THAT(refusal(change::Link{a, b, std::string(256, 'n')}), HasSubstr("256 bytes, 1 to 255"));
    refusal(copy::Listing{{{"b", a, S_IFREG, 0, ""}, {"a", b, S_IFREG, 0, ""}}}); // not by name
    refusal(copy::Listing{{{"a", a, S_IFREG, 0, ""}, {"a", b, S_IFREG, 0, ""}}}); // twice
}

TEST(ContentCodec, ImpossibleInodesAreRefused) {
    refusal(change::Make{a, "n", b, 0644, 0, 0, 0, ""});              // no type
    refusal(change::Make{a, "n", b, 0170000, 0, 0, 0, ""});           // none that there is
    refusal(change::Make{a, "n", b, S_IFREG | 0200000, 0, 0, 0, ""}); // a bit that modes do not have
    refusal(change::Make{a, "n", b, S_IFREG, 0, 0, 5, ""});           // a device number
    refusal(change::Make{a, "n", b, S_IFREG, 0, 0, 0, "link"});       // points somewhere
    refusal(change::Make{a, "n", b, S_IFLNK, 0, 0, 0, ""});           // points nowhere
    refusal(change::Make{a, "n", b, S_IFLNK, 0, 0, 0, std::string(4096, 'l')});
    refusal(copy::Inode{0, 0, 0, 0, 0, {}, "", {}, {}});
    refusal(copy::Inode{S_IFREG, 0, 0, 0, ~std::uint64_t{0}, {}, "", {}, {}});
    refusal(copy::Inode{S_IFREG, 0, 0, 0, 0, {0, 1'000'000'000}, "", {}, {}});
    refusal(copy::Inode{S_IFREG, 0, 0, 0, 0, {}, "", {{"user.a", ""}, {"user.a", ""}}, {}});
    refusal(copy::Inode{S_IFREG, 0, 0, 0, 0, {}, "", {{"trusted.stead.fid", ""}}, {}});
    refusal(copy::Inode{S_IFREG, 0, 0, 0, 0, {}, "", {}, {{0, 0}}});
    refusal(copy::Inode{S_IFREG, 0, 0, 0, 0, {}, "", {}, {{0, 2}, {2, 1}}});
    refusal(copy::Inode{S_IFREG, 0, 0, 0, 0, {}, "", {}, {{1, ~std::uint64_t{0}}}});
    refusal(copy::Inode{S_IFREG, 0, 0, 0, 0, {}, "", {}, {{~std::uint64_t{0} - 5, 5}}});
}

TEST(ContentCodec, ValuesOutOfRangeAreRefused) {
    refusal(change::Write{a, std::uint64_t{INT64_MAX} - 1, "xy", false});
    refusal(change::Write{a, ~std::uint64_t{0}, "xy", false});
    EXPECT_THAT(refusal(change::Write{a, 0, std::string(codec_limits::write_max + 1, 'x'), false}),
                HasSubstr("4194305"));
    refusal(change::Attributes{a, 64, 0, 0, 0, 0, {}, {}, false});
    refusal(change::Attributes{a, 0, 0, 0, 0, 0, {0, 1'000'000'000}, {}, false});
    refusal(change::Rename{a, "x", b, "y", 3, c, {}});
    refusal(change::Rename{a, "x", b, "y", 4, c, {}});
    refusal(change::SetXattr{a, "trusted.stead.fid", "x"});
    refusal(change::RemoveXattr{a, "trusted.stead.fid"});
    refusal(change::SetXattr{a, "user.x", std::string(65537, 'v')});
    refusal(change::SetXattr{a, "", "v"});
    refusal(change::Allocate{a, FALLOC_FL_COLLAPSE_RANGE, 0, 1, false});
    refusal(change::Allocate{a, 0, INT64_MAX, 1, false});
    refusal(copy::Zone{zone_bytes + 1, ""});
    refusal(copy::Zone{1, "xy"});
    EXPECT_FALSE(check(Content{{0, 1'000'000'000}, change::Link{a, b, "n"}}));
    refusal(std::monostate{});
}

TEST(ContentCodec, EveryCutIsRefusedOrShorterData) {
    const copy::Listing listing{{{"a", a, S_IFREG, 0, ""}, {"b", b, S_IFLNK, 0, "a"}}};
    const std::string bytes = encode(Content{{1, 2}, listing});
    unsigned whole_items = 0;
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        const auto back = decode_content(std::string_view{bytes}.substr(0, size));
        whole_items += back ? 1 : 0; // cut between two entries: the stream's frames see to that
    }
    EXPECT_EQ(whole_items, 2u);
}

TEST(ContentCodec, DataBehindAKindThatHasNoneIsRefused) {
    EXPECT_FALSE(decode_content(encode(Content{{}, change::Link{a, b, "n"}}) + "x"));
}

TEST(ContentCodec, FieldsOfALaterVersionAreIgnoredAndKindsNamed) {
    std::string bytes = encode(Content{{}, change::Link{a, b, "n"}});
    const std::string later{"\xf8\x07\x05", 3}; // field 127 = 5
    bytes += later;
    bytes[3] = static_cast<char>(bytes[3] + 3); // the header is longer by that
    EXPECT_TRUE(decode_content(bytes));
    const std::string unknown{"\x00\x00\x00\x05\x08\x63\x9a\x06\x00", 9}; // kind 99: field 99, empty
    const auto refused = decode_content(unknown);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().text(), HasSubstr("kind 99"));
}

} // namespace
} // namespace stead::mirror
