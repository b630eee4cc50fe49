// SPDX-License-Identifier: Apache-2.0
#include <stead/wire/certificate.hpp>

#include <gtest/gtest.h>

namespace stead::wire {
namespace {

using std::chrono::days;

TEST(Certificate, IsGoodForItsSubjectsOnly) {
    const Subjects subjects{{"a.example", "node1"}, {"192.0.2.11", "fd42::11"}};
    const auto made = self_signed(subjects, days{100});
    ASSERT_TRUE(made) << made.error().text();
    EXPECT_TRUE(still_good(made->certificate, subjects, days{30}));
    EXPECT_TRUE(still_good(made->certificate, {{"node1"}, {}}, days{30}));
    EXPECT_FALSE(still_good(made->certificate, {{"node2"}, {}}, days{30}));
    EXPECT_FALSE(still_good(made->certificate, {{}, {"192.0.2.12"}}, days{30}));
    EXPECT_FALSE(still_good(made->certificate, subjects, days{101})) << "ends too soon";
    EXPECT_FALSE(still_good("", subjects, days{1}));
    EXPECT_FALSE(still_good(made->key, subjects, days{1}));
}

TEST(Certificate, EveryOneHasAKeyOfItsOwn) {
    const auto one = self_signed({{"a"}, {}}, days{1}), two = self_signed({{"a"}, {}}, days{1});
    ASSERT_TRUE(one && two);
    EXPECT_NE(one->key, two->key);
    EXPECT_NE(one->certificate, two->certificate);
}

TEST(Certificate, NamesThatCannotBeAreRefused) {
    EXPECT_FALSE(self_signed({{"a"}, {"not an address"}}, days{1}));
    EXPECT_TRUE(self_signed({{std::string(100, 'a')}, {}}, days{1})) << "a long name is one of the alternatives";
}

} // namespace
} // namespace stead::wire
