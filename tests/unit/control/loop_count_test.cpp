// SPDX-License-Identifier: Apache-2.0
#include <stead/test/temporary_folder.hpp>

#include <stead/base/files.hpp>
#include <stead/control/loop_count.hpp>

#include <gmock/gmock.h>

namespace stead::control {
namespace {

namespace fs = std::filesystem;

TEST(LoopCount, IsKeptInRunWhileVarTakesNoWrites) {
    const stead::testing::TemporaryFolder folder;
    const Paths paths{folder.path() / "prefix", folder.path() / "etc", folder.path() / "var", folder.path() / "run"};
    fs::create_directories(paths.module("web"));
    fs::create_directories(paths.host_folder());
    EXPECT_EQ(read_loop_count(paths, "web").error().code, Errc::not_found);
    ASSERT_TRUE(write_loop_count(paths, "web", "1\n"));
    EXPECT_EQ(*read_loop_count(paths, "web"), "1\n");

    fs::rename(paths.module("web"), folder.path() / "away");
    ASSERT_TRUE(write_file_atomically(paths.module("web"), "no folder: nothing can be written below it"));
    ASSERT_TRUE(write_loop_count(paths, "web", "1\n2\n"));
    EXPECT_EQ(*read_loop_count(paths, "web"), "1\n2\n");

    fs::remove(paths.module("web"));
    fs::rename(folder.path() / "away", paths.module("web"));
    EXPECT_EQ(*read_loop_count(paths, "web"), "1\n2\n") << "the file below var is older";
    ASSERT_TRUE(write_loop_count(paths, "web", "1\n2\n3\n"));
    EXPECT_EQ(*read_file(paths.loop_count("web"), 100), "1\n2\n3\n");
    EXPECT_EQ(*read_loop_count(paths, "web"), "1\n2\n3\n");
    EXPECT_TRUE(fs::is_empty(paths.host_folder()));
}

TEST(LoopCount, AnErrorWhenNeitherPlaceTakesIt) {
    const stead::testing::TemporaryFolder folder;
    const Paths paths{folder.path() / "prefix", folder.path() / "etc", folder.path() / "var", folder.path() / "run"};
    EXPECT_FALSE(write_loop_count(paths, "web", "1\n"));
}

} // namespace
} // namespace stead::control
