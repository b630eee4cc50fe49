// SPDX-License-Identifier: Apache-2.0
#include "limits.hpp"

#include <stead/base/files.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace stead::mirror {
namespace {

TEST(Limits, AreFoundOutWithoutATrace) {
    const std::filesystem::path folder = std::filesystem::path(TEST_FOLDER) / "limits";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directory(folder);
    const Fd directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto limits = probe_limits(directory.get());
    ASSERT_TRUE(limits) << limits.error().text();
    EXPECT_GE(limits->name_bytes, 14u);
    EXPECT_GE(limits->links, 8u);
    EXPECT_GT(limits->xattr_bytes, 500u);
    EXPECT_TRUE(std::filesystem::is_empty(folder));
    const Fd file(::open((folder / "file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    EXPECT_EQ(ftruncate(file.get(), static_cast<off_t>(limits->file_bytes)), 0);
    const bool more = limits->file_bytes < INT64_MAX;
    EXPECT_TRUE(!more || ftruncate(file.get(), static_cast<off_t>(limits->file_bytes + 1)) != 0);
    std::filesystem::remove_all(folder);
}

TEST(Limits, TravelAsText) {
    const auto read = limits_from(to_text({.file_bytes = 1, .links = 2, .name_bytes = 3, .xattr_bytes = 4}));
    ASSERT_TRUE(read);
    EXPECT_EQ(read->file_bytes * 1000 + read->links * 100 + read->name_bytes * 10 + read->xattr_bytes, 1234u);
    for (const char* bad : {"", "1 2 3", "1 2 3 4 5", "1 2 x 4", "0 2 3 4", "1 2 3 99999999999999999999999"}) {
        EXPECT_FALSE(limits_from(bad)) << bad;
    }
}

} // namespace
} // namespace stead::mirror
