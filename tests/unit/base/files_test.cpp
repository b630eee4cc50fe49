// SPDX-License-Identifier: Apache-2.0
#include <stead/base/files.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

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

TEST_F(Files, ReadDoesNotWaitForAPipe) {
    const auto pipe = folder_ / "pipe";
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    EXPECT_EQ(read_file(pipe, 100).value(), "") << "nobody writes";
    const Fd both(::open(pipe.c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_FALSE(read_file(pipe, 100)) << "a writer that says nothing";
    std::thread late([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds{50});
        EXPECT_EQ(::write(both.get(), "late", 4), 4);
    });
    EXPECT_EQ(read_file(pipe, 3).error().code, Errc::out_of_range) << "what comes later is read";
    late.join();
}

} // namespace
} // namespace stead
