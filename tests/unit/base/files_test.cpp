// SPDX-License-Identifier: Apache-2.0
#include <stead/base/files.hpp>

#include <gtest/gtest.h>

#include <cstdlib>

namespace stead {
namespace {

class Files : public testing::Test {
protected:
    Files() {
        std::string name = testing::TempDir() + "stead-files-XXXXXX";
        folder_ = ::mkdtemp(name.data());
    }
    ~Files() override { std::filesystem::remove_all(folder_); }
    std::filesystem::path folder_;
};

TEST_F(Files, AtomicWriteReplacesAndLeavesNoTemporary) {
    ASSERT_TRUE(write_file_atomically(folder_ / "a", "one"));
    ASSERT_TRUE(write_file_atomically(folder_ / "a", "two", 0600));
    EXPECT_EQ(read_file(folder_ / "a", 100).value(), "two");
    EXPECT_EQ(std::filesystem::status(folder_ / "a").permissions(), std::filesystem::perms(0600));
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(Files, ReadNamesTheLimitAndTheMissingFile) {
    ASSERT_TRUE(write_file_atomically(folder_ / "a", "12345"));
    EXPECT_EQ(read_file(folder_ / "a", 4).error().code, Errc::out_of_range);
    EXPECT_EQ(read_file(folder_ / "none", 4).error().code, Errc::not_found);
}

} // namespace
} // namespace stead
