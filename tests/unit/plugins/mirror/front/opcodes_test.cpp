// SPDX-License-Identifier: Apache-2.0
#define FUSE_USE_VERSION 35
#include <fuse3/fuse_lowlevel.h>

#include "front_opcodes.hpp"

#include <gtest/gtest.h>

#include <linux/fuse.h>

#include <cerrno>
#include <cstring>
#include <set>

namespace stead::mirror::front {
namespace {

constexpr std::size_t members = sizeof(fuse_lowlevel_ops) / sizeof(void (*)());

bool handled(std::ptrdiff_t member) {
    void (*function)() = nullptr;
    std::memcpy(&function, reinterpret_cast<const char*>(&handlers()) + member, sizeof(function));
    return function != nullptr;
}

// Every number a kernel may send has one row: 1 to 52 without the two that were never given out.
TEST(Opcodes, TheTableNamesEveryRequestOfTheProtocolOnce) {
    std::set<std::uint32_t> seen;
    for (const Opcode& row : opcodes()) {
        EXPECT_TRUE(seen.insert(row.number).second) << row.name;
    }
    std::set<std::uint32_t> protocol;
    for (std::uint32_t number = 1; number <= 52; ++number) {
        if (number != 7 && number != 19) {
            protocol.insert(number);
        }
    }
    EXPECT_EQ(seen, protocol);
}

TEST(Opcodes, WhatTheTableServesHasAHandlerAndWhatItRefusesHasNone) {
    for (const Opcode& row : opcodes()) {
        SCOPED_TRACE(row.name);
        switch (row.treatment) {
        case Treatment::here:
        case Treatment::replicated:
            ASSERT_GE(row.member, 0);
            EXPECT_TRUE(handled(row.member));
            break;
        case Treatment::refused: // libfuse answers ENOSYS where there is no handler
            EXPECT_EQ(row.error, ENOSYS);
            EXPECT_STRNE(row.reason, "");
            EXPECT_TRUE(row.member < 0 || !handled(row.member));
            break;
        case Treatment::library: break;
        }
    }
}

TEST(Opcodes, EveryHandlerIsInTheTable) {
    std::set<std::ptrdiff_t> known;
    for (const Opcode& row : opcodes()) {
        known.insert(row.member);
    }
    for (std::size_t each = 0; each < members; ++each) {
        const auto member = static_cast<std::ptrdiff_t>(each * sizeof(void (*)()));
        if (handled(member)) {
            EXPECT_TRUE(known.contains(member)) << "member " << each << " of fuse_lowlevel_ops";
        }
    }
}

TEST(Opcodes, EveryRequestThatCanChangeSomethingIsReplicatedOrRefused) {
    const std::set<std::uint32_t> changing{
        FUSE_SETATTR,         FUSE_SYMLINK,  FUSE_MKNOD,       FUSE_MKDIR,   FUSE_UNLINK,      FUSE_RMDIR,
        FUSE_RENAME,          FUSE_LINK,     FUSE_OPEN,        FUSE_WRITE,   FUSE_FSYNC,       FUSE_SETXATTR,
        FUSE_FLUSH,           FUSE_FSYNCDIR, FUSE_REMOVEXATTR, FUSE_CREATE,  FUSE_FALLOCATE,   FUSE_RENAME2,
        FUSE_COPY_FILE_RANGE, FUSE_IOCTL,    FUSE_SYNCFS,      FUSE_TMPFILE, FUSE_SETUPMAPPING};
    for (const Opcode& row : opcodes()) {
        if (changing.contains(row.number)) {
            EXPECT_TRUE(row.treatment == Treatment::replicated || row.treatment == Treatment::refused) << row.name;
        } else {
            EXPECT_NE(row.treatment, Treatment::replicated) << row.name;
        }
    }
}

} // namespace
} // namespace stead::mirror::front
