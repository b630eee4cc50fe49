// SPDX-License-Identifier: Apache-2.0
#include <stead/test/temporary_folder.hpp>

#include <stead/control/module_log.hpp>

#include <gmock/gmock.h>

#include <thread>

namespace stead::control {
namespace {

using ::testing::MatchesRegex;

class ModuleLogTest : public ::testing::Test {
protected:
    stead::testing::TemporaryFolder folder_;
    std::filesystem::path file_{folder_.path() / "log"};
};

TEST_F(ModuleLogTest, LineHasTimeModuleLevelSourceText) {
    ModuleLog log(file_, "web");
    log.write(log::Level::warning, "farm", "two\nlines\n");
    const auto lines = log_tail(file_, 10, false);
    ASSERT_TRUE(lines);
    ASSERT_EQ(lines->size(), 1u);
    EXPECT_THAT(lines->front(), MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\\.[0-9]{6} \\| web \\| W \\| farm "
                                             "\\| two / lines"));
}

TEST_F(ModuleLogTest, ASourceMakesNoLineOfItsOwn) {
    ModuleLog(file_, "web").write(log::Level::event, "me\n2026-01-01 | web | E | farm", "text");
    const auto lines = log_tail(file_, 10, true);
    ASSERT_EQ(lines->size(), 1u);
    EXPECT_TRUE(lines->front().ends_with("| me 2026-01-01 | web | E | farm | text")) << lines->front();
}

TEST_F(ModuleLogTest, DebugLinesOnlyWhenVerbose) {
    ModuleLog log(file_, "web");
    log.write(log::Level::debug, "bus", "detail");
    log.write(log::Level::event, "bus", "decision about | D | things");
    EXPECT_EQ(log_tail(file_, 10, false)->size(), 1u);
    EXPECT_EQ(log_tail(file_, 10, true)->size(), 2u);
}

TEST_F(ModuleLogTest, TailGoesOnIntoTheRotatedFile) {
    constexpr std::uint64_t bytes_max = 2000;
    ModuleLog log(file_, "web", bytes_max);
    for (int i = 0; i < 100; ++i) {
        log.write(log::Level::event, "test", "line " + std::to_string(i));
    }
    EXPECT_LE(std::filesystem::file_size(file_), bytes_max);
    EXPECT_LE(std::filesystem::file_size(file_.string() + ".1"), bytes_max);
    const auto lines = log_tail(file_, 30, false);
    ASSERT_EQ(lines->size(), 30u);
    for (int i = 0; i < 30; ++i) {
        EXPECT_TRUE(lines->at(static_cast<std::size_t>(i)).ends_with("line " + std::to_string(70 + i)));
    }
}

TEST_F(ModuleLogTest, TheSizeMayChange) {
    ModuleLog log(file_, "web", 1u << 20);
    for (int i = 0; i < 100; ++i) {
        log.set_bytes_max(i < 50 ? 1u << 20 : 2000);
        log.write(log::Level::event, "test", "line " + std::to_string(i));
    }
    EXPECT_LE(std::filesystem::file_size(file_), 2000u);
    EXPECT_TRUE(std::filesystem::exists(file_.string() + ".1"));
}

TEST_F(ModuleLogTest, OfAHugeLogTheEndIsRead) {
    std::string text(70'000'000, 'x');
    for (std::size_t at = 99; at < text.size(); at += 100) {
        text[at] = '\n';
    }
    ASSERT_TRUE(write_file_atomically(file_, text + "the last\n"));
    const auto lines = log_tail(file_, 2, true);
    ASSERT_TRUE(lines) << lines.error().text();
    EXPECT_THAT(*lines, ::testing::ElementsAre(std::string(99, 'x'), "the last"));
}

TEST_F(ModuleLogTest, SeveralWritersLoseNoLineOfTheLastFile) {
    constexpr int lines_each = 400;
    std::vector<std::thread> writers;
    for (int writer = 0; writer < 4; ++writer) {
        writers.emplace_back([this, writer] {
            ModuleLog log(file_, "web", 1u << 20);
            for (int i = 0; i < lines_each; ++i) {
                log.write(log::Level::event, "w" + std::to_string(writer), std::to_string(i));
            }
        });
    }
    for (std::thread& writer : writers) {
        writer.join();
    }
    EXPECT_EQ(log_tail(file_, 10000, false)->size(), 4u * lines_each);
}

TEST_F(ModuleLogTest, WhoseLineIsNotWrittenIsToldWhy) {
    EXPECT_EQ(ModuleLog(file_, "web").write(log::Level::event, "a", "1"), 0);
    EXPECT_EQ(ModuleLog("/dev/full", "web").write(log::Level::event, "a", "1"), ENOSPC);
    EXPECT_EQ(ModuleLog(folder_.path() / "no" / "log", "web").write(log::Level::event, "a", "1"), ENOENT);
}

TEST_F(ModuleLogTest, MissingLogIsEmptyAndARemovedOneIsMadeAgain) {
    EXPECT_TRUE(log_tail(file_, 10, false)->empty());
    ModuleLog log(file_, "web");
    log.write(log::Level::event, "a", "1");
    std::filesystem::remove(file_);
    log.write(log::Level::event, "a", "2");
    EXPECT_EQ(log_tail(file_, 10, false)->size(), 1u);
}

} // namespace
} // namespace stead::control
