// SPDX-License-Identifier: Apache-2.0
#include <stead/test/temporary_folder.hpp>

#include <stead/base/files.hpp>
#include <stead/node/generation.hpp>

#include <gmock/gmock.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace stead::node {
namespace {

namespace fs = std::filesystem;

class GenerationTest : public ::testing::Test {
protected:
    GenerationTest() {
        fs::create_directories(edited_ / "conf");
        fs::create_directories(edited_ / "bin");
        fs::create_directories(module_);
    }
    void edit(const std::string& text) {
        ASSERT_TRUE(write_file_atomically(edited_ / "conf/userconfig.xml", text));
        ASSERT_TRUE(write_file_atomically(edited_ / "bin/start_both", text, 0755));
    }
    std::string active(const char* file) const { return *read_file(module_ / "active" / file, 1000); }

    static Result<void> good(const fs::path& prepared) {
        return write_file_atomically(prepared / "safeconf.xml", *read_file(prepared / "conf/userconfig.xml", 1000));
    }

    stead::testing::TemporaryFolder folder_;
    fs::path edited_{folder_.path() / "edited"};
    fs::path module_{folder_.path() / "module"};
    Generations generations_{module_};
};

TEST_F(GenerationTest, KeepsTheLastThree) {
    for (int i = 1; i <= 6; ++i) {
        edit(std::to_string(i));
        ASSERT_TRUE(generations_.apply(edited_, good));
        EXPECT_EQ(active("safeconf.xml"), std::to_string(i));
    }
    EXPECT_EQ(generations_.active_name(), "gen.6");
    std::vector<std::string> kept;
    for (const auto& entry : fs::directory_iterator(module_ / "lastconfig")) {
        kept.push_back(entry.path().filename());
    }
    EXPECT_THAT(kept, ::testing::UnorderedElementsAre("gen.3", "gen.4", "gen.5"));
}

TEST_F(GenerationTest, AFailedCheckChangesNothing) {
    edit("old");
    ASSERT_TRUE(generations_.apply(edited_, good));
    edit("new");
    const auto bad = [](const fs::path&) -> Result<void> { return Error{Errc::malformed, "x:1", "wrong"}; };
    const std::string before = signature_of(module_);
    EXPECT_FALSE(generations_.apply(edited_, bad));
    EXPECT_EQ(signature_of(module_), before);
}

TEST_F(GenerationTest, ATryOutLeavesNothingAndDisturbsNoOther) {
    edit("new");
    const std::string before = signature_of(folder_.path());
    const fs::path scratch = folder_.path() / "run";
    const auto inner = [&](const fs::path& prepared) -> Result<void> {
        EXPECT_EQ(prepared.parent_path(), scratch);
        EXPECT_EQ(*read_file(prepared / "bin/start_both", 1000), "new");
        return good(prepared);
    };
    const auto outer = [&](const fs::path& prepared) -> Result<void> {
        Result<void> done = inner(prepared);
        EXPECT_TRUE(try_out(edited_, scratch, inner));
        EXPECT_EQ(*read_file(prepared / "safeconf.xml", 1000), "new") << "the other one ended first";
        return done;
    };
    EXPECT_TRUE(try_out(edited_, scratch, outer));
    EXPECT_FALSE(try_out(edited_, scratch, [](const fs::path&) -> Result<void> {
        return Error{Errc::malformed, "x:1", "wrong"};
    }));
    EXPECT_TRUE(fs::is_empty(scratch));
    fs::remove(scratch);
    EXPECT_EQ(signature_of(folder_.path()), before);
}

TEST_F(GenerationTest, WhatCannotBeCopiedIsNamed) {
    edit("new");
    for (const char* part : {"bin/pipe", "conf/pipe"}) {
        ASSERT_EQ(::mkfifo((edited_ / part).c_str(), 0600), 0);
        const auto applied = generations_.apply(edited_, good);
        ASSERT_FALSE(applied);
        EXPECT_EQ(applied.error().where, (edited_ / part).string());
        EXPECT_TRUE(applied.error().what.starts_with("a pipe, socket or device")) << applied.error().what;
        fs::remove(edited_ / part);
    }
}

TEST_F(GenerationTest, ACrashAtAnyStepLeavesTheOldOrTheNew) {
    for (const std::string step : {"copy", "check", "sync", "rename", "link", "switch", "retire"}) {
        edit("old " + step);
        ASSERT_TRUE(generations_.apply(edited_, good));
        edit("new " + step);
        const pid_t child = ::fork();
        if (child == 0) {
            const auto applied = generations_.apply(edited_, good, [&](std::string_view now) {
                if (now == step) {
                    ::_exit(42);
                }
            });
            ::_exit(applied ? 0 : 1);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_EQ(WEXITSTATUS(status), 42) << step << " is no step";
        generations_.recover();
        const std::string want = step == "retire" ? "new " : "old ";
        EXPECT_EQ(active("safeconf.xml"), want + step);
        EXPECT_EQ(active("conf/userconfig.xml"), want + step);
        EXPECT_EQ(active("bin/start_both"), want + step);
        for (const auto& entry : fs::directory_iterator(module_)) {
            EXPECT_NE(entry.path().extension(), ".tmp") << step;
        }
    }
}

TEST_F(GenerationTest, RevertBringsBackTheOneBefore) {
    edit("one");
    ASSERT_TRUE(generations_.apply(edited_, good));
    edit("two");
    ASSERT_TRUE(generations_.apply(edited_, good));
    ASSERT_TRUE(generations_.revert());
    EXPECT_EQ(active("safeconf.xml"), "one");
    generations_.recover();
    EXPECT_EQ(active("safeconf.xml"), "one");
}

TEST_F(GenerationTest, SignatureIgnoresWhatTheCheckMade) {
    edit("same");
    ASSERT_TRUE(generations_.apply(edited_, good));
    ASSERT_TRUE(write_file_atomically(module_ / "active/conf/safeconf.xml", "expanded"));
    EXPECT_EQ(module_signature(module_ / "active"), module_signature(edited_));
    edit("other");
    EXPECT_NE(module_signature(module_ / "active"), module_signature(edited_));
    EXPECT_EQ(module_signature(module_ / "nowhere"), "");
}

TEST_F(GenerationTest, DeconfigTakesItAwayAndKeepsIt) {
    edit("x");
    ASSERT_TRUE(generations_.apply(edited_, good));
    ASSERT_TRUE(generations_.remove_active());
    EXPECT_EQ(generations_.active_name(), "");
    EXPECT_TRUE(fs::exists(module_ / "lastconfig/gen.1"));
    EXPECT_FALSE(generations_.remove_active());
}

} // namespace
} // namespace stead::node
