// SPDX-License-Identifier: Apache-2.0
#include "registry.hpp"

#include <gmock/gmock.h>

namespace stead::host {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Registry load(const std::string& folder) { return Registry::load(std::filesystem::path{STEAD_FIXTURES} / folder); }

/// The one refusal of a folder that holds one faulty library.
std::string refusal(const std::string& folder) {
    const Registry registry = load(folder);
    EXPECT_TRUE(registry.plugins().empty()) << folder;
    EXPECT_EQ(registry.refused().size(), 1U) << folder;
    return registry.refused().empty() ? "" : registry.refused().front().text();
}

TEST(Loader, RefusesEachFaultWithFileAndReason) {
    EXPECT_THAT(refusal("old_abi"), AllOf(HasSubstr("/old_abi.so: "), HasSubstr("plugin ABI 0.0"), HasSubstr("SDK")));
    EXPECT_THAT(refusal("newer_minor"), AllOf(HasSubstr("newer plugin ABI 1.99"), HasSubstr("upgrade Stead")));
    EXPECT_THAT(refusal("wrong_magic"), HasSubstr("not a Stead plugin: magic 7"));
    EXPECT_THAT(refusal("truncated"), HasSubstr("descriptor of 64 bytes; ABI 1.0 has "));
    EXPECT_THAT(refusal("no_symbol"), HasSubstr("no symbol stead_plugin_v1"));
    EXPECT_THAT(refusal("undefined"), HasSubstr("function_that_no_library_has"));
}

TEST(Loader, TheSecondLibraryOfAnIdIsRefused) {
    const Registry registry = load("duplicate");
    ASSERT_EQ(registry.plugins().size(), 1U);
    EXPECT_THAT(registry.plugins().front().file.string(), HasSubstr("a_first.so"));
    ASSERT_EQ(registry.refused().size(), 1U);
    EXPECT_THAT(registry.refused().front().text(), AllOf(HasSubstr("b_second.so"), HasSubstr("'fixture' is taken")));
}

TEST(Loader, ABrokenLibraryDoesNotStopTheOthers) {
    const Registry registry = load("mixed");
    ASSERT_EQ(registry.plugins().size(), 1U);
    EXPECT_THAT(registry.plugins().front().file.string(), HasSubstr("good_one.so"));
    EXPECT_EQ(registry.refused().size(), 1U);
}

TEST(Loader, AMissingFolderIsEmpty) {
    const Registry registry = load("nowhere");
    EXPECT_TRUE(registry.plugins().empty());
    EXPECT_TRUE(registry.refused().empty());
}

} // namespace
} // namespace stead::host
