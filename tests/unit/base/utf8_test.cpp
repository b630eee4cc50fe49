// SPDX-License-Identifier: Apache-2.0
#include <stead/base/utf8.hpp>

#include <gtest/gtest.h>

namespace stead {
namespace {

TEST(Utf8, APersonIsShownWhatIsNoCharacterByItsNumber) {
    EXPECT_EQ(printable("a\xff\x01\x7f ä\t\n"), "a\\xff\\x01\\x7f ä\t\\x0a");
    EXPECT_EQ(printable("a\tb\n", "\n"), "a\\x09b\n");
    EXPECT_EQ(printable("/a\nb\xc3", ""), "/a\\x0ab\\xc3");
    EXPECT_EQ(printable("aäb", "", 2), "a") << "never a part of a character";
    EXPECT_EQ(printable("aäb", "", 3), "aä");
    EXPECT_EQ(printable("\xff", "", 3), "");
}

TEST(Utf8, JsonOfAnyBytesCanBeParsed) {
    EXPECT_EQ(utf8_json(R"({"a":"ä"})"), R"({"a":"ä"})");
    EXPECT_EQ(utf8_json("[\"\xff\"]"), R"(["\\xff"])");
}

} // namespace
} // namespace stead
