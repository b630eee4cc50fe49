// SPDX-License-Identifier: Apache-2.0
#include "registry.hpp"

#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>
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
    EXPECT_THAT(refusal("old_abi"), AllOf(HasSubstr("/old_abi.so: "), HasSubstr("plugin ABI 0."), HasSubstr("SDK")));
    EXPECT_THAT(refusal("newer_minor"), AllOf(HasSubstr("newer plugin ABI 1.99"), HasSubstr("upgrade Stead")));
    EXPECT_THAT(refusal("wrong_magic"), HasSubstr("not a Stead plugin: magic 7"));
    EXPECT_THAT(refusal("truncated"), HasSubstr("descriptor of 64 bytes; ABI 1.0 has "));
    EXPECT_THAT(refusal("no_symbol"), HasSubstr("no symbol stead_plugin_v1"));
    EXPECT_THAT(refusal("undefined"), HasSubstr("function_that_no_library_has"));
    EXPECT_THAT(refusal("attribute_twice"), HasSubstr("check/fixture/@name is in the schema twice"));
}

TEST(Loader, TheSecondLibraryOfAnIdIsRefused) {
    const Registry registry = load("duplicate");
    ASSERT_EQ(registry.plugins().size(), 1U);
    EXPECT_THAT(registry.plugins().front().file.string(), HasSubstr("a_first.so"));
    ASSERT_EQ(registry.refused().size(), 1U);
    EXPECT_THAT(registry.refused().front().text(),
                AllOf(HasSubstr("b_second.so"), HasSubstr("'fixture' is taken already, by "),
                      HasSubstr("a_first.so; remove one of the two")));
}

TEST(Loader, TheSecondCheckerOfAnElementIsRefused) {
    const Registry registry = load("element");
    ASSERT_EQ(registry.plugins().size(), 1U);
    EXPECT_EQ(registry.plugins().front().id(), "a_owner");
    ASSERT_EQ(registry.refused().size(), 1U);
    EXPECT_THAT(registry.refused().front().text(),
                AllOf(HasSubstr("b_rival.so"), HasSubstr("element check/fixture is taken already, by "),
                      HasSubstr("a_owner.so; remove one of the two")));
}

TEST(Loader, AnOlderPluginLoadsAndHasOnlyWhatItsReleaseHad) {
    const Registry registry = load("older");
    ASSERT_EQ(registry.plugins().size(), 3U) << registry.refused().size() << " refused";
    const auto& of_1_0 = registry.plugins()[0].descriptor;
    EXPECT_EQ(of_1_0.on_armed, nullptr);
    EXPECT_EQ(of_1_0.switch_name, nullptr);
    EXPECT_EQ(of_1_0.on_ready, nullptr);
    const auto& of_1_1 = registry.plugins()[1].descriptor;
    EXPECT_NE(of_1_1.on_armed, nullptr);
    EXPECT_STREQ(of_1_1.switch_name, "later");
    EXPECT_EQ(of_1_1.on_ready, nullptr);
    EXPECT_EQ(of_1_1.on_peer_died, nullptr);
    EXPECT_EQ(of_1_1.on_witness, nullptr);
    const auto& of_1_2 = registry.plugins()[2].descriptor;
    EXPECT_NE(of_1_2.on_ready, nullptr);
    EXPECT_NE(of_1_2.on_peer_died, nullptr);
    EXPECT_NE(of_1_2.on_witness, nullptr);
}

TEST(Loader, ABrokenLibraryDoesNotStopTheOthers) {
    const Registry registry = load("mixed");
    ASSERT_EQ(registry.plugins().size(), 1U);
    EXPECT_THAT(registry.plugins().front().file.string(), HasSubstr("good_one.so"));
    EXPECT_EQ(registry.refused().size(), 1U);
}

TEST(Loader, WhatEverybodyMayChangeIsRefused) {
    namespace fs = std::filesystem;
    const fs::path root = fs::temp_directory_path() / ("stead-loader-" + std::to_string(::getpid()));
    const fs::path folder = root / "lib/plugins";
    fs::create_directories(folder);
    fs::copy_file(fs::path{STEAD_FIXTURES} / "mixed/good_one.so", folder / "good_one.so");
    const auto refusal_with = [&](const fs::path& open_to_all) {
        const auto before = fs::status(open_to_all).permissions();
        fs::permissions(open_to_all, before | fs::perms::others_write);
        const Registry registry = Registry::load(folder);
        fs::permissions(open_to_all, before);
        return registry.plugins().empty() && registry.refused().size() == 1 ? registry.refused().front().text() : "";
    };
    EXPECT_THAT(refusal_with(folder / "good_one.so"), AllOf(HasSubstr("good_one.so"), HasSubstr("chmod o-w")));
    EXPECT_THAT(refusal_with(folder), HasSubstr("chmod o-w " + folder.string()));
    EXPECT_THAT(refusal_with(root / "lib"), HasSubstr("chmod o-w " + (root / "lib").string()));
    EXPECT_EQ(Registry::load(folder).plugins().size(), 1U) << "a sticky folder above, /tmp, is no fault";
    fs::remove_all(root);
}

TEST(Loader, WhatTheLoaderOfTheSystemSaysIsToldOnce) {
    namespace fs = std::filesystem;
    const fs::path folder = fs::temp_directory_path() / ("stead-garbage-" + std::to_string(::getpid()));
    fs::create_directories(folder);
    std::ofstream(folder / "text.so") << std::string(4096, 'x');
    const Registry registry = Registry::load(folder);
    ASSERT_EQ(registry.refused().size(), 1U);
    EXPECT_EQ(registry.refused().front().text(),
              (folder / "text.so").string() + ": cannot be loaded: invalid ELF header");
    fs::remove_all(folder);
}

TEST(Loader, OneThatHarmsWhoLoadsItIsRefusedByName) {
    namespace fs = std::filesystem;
    const fs::path folder = fs::temp_directory_path() / ("stead-harmful-" + std::to_string(::getpid()));
    fs::create_directories(folder);
    fs::copy(fs::path{STEAD_FIXTURES} / "harmful", folder);
    fs::copy(folder / "whole.so", folder / "half.so");
    fs::resize_file(folder / "half.so", fs::file_size(folder / "half.so") / 2);
    ASSERT_EQ(::mkfifo((folder / "pipe.so").c_str(), 0600), 0);
    const Registry registry = Registry::load(folder);
    fs::remove_all(folder);
    ASSERT_EQ(registry.plugins().size(), 1U);
    EXPECT_THAT(registry.plugins().front().file.string(), HasSubstr("whole.so"));
    std::string refused;
    for (const Error& one : registry.refused()) {
        refused += one.text() + "\n";
    }
    EXPECT_EQ(registry.refused().size(), 5U) << refused;
    EXPECT_THAT(refused, AllOf(HasSubstr("aborts.so: cannot be loaded: ends a program that loads it: Aborted"),
                               HasSubstr("exits.so: cannot be loaded: ends a program that loads it, with exit code 3"),
                               HasSubstr("waits.so: cannot be loaded: it did not end its start within 3 s"),
                               HasSubstr("half.so: "), HasSubstr("pipe.so: is not a regular file")));
}

TEST(Loader, AMissingFolderIsEmpty) {
    const Registry registry = load("nowhere");
    EXPECT_TRUE(registry.plugins().empty());
    EXPECT_TRUE(registry.refused().empty());
}

} // namespace
} // namespace stead::host
