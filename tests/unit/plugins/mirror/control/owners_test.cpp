// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/owners.hpp>
#include <stead/test/temporary_folder.hpp>

#include <gmock/gmock.h>

#include <fstream>

#include <unistd.h>

namespace stead::mirror {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Owners, AreNamedAsText) {
    Owner owner;
    ASSERT_TRUE(parse("u999", owner));
    EXPECT_EQ(owner, (Owner{'u', 999}));
    EXPECT_EQ(to_text({'g', 4294967295}), "g4294967295");
    for (const char* bad : {"", "u", "x9", "u9 ", "u-1", "u4294967296"}) {
        EXPECT_FALSE(parse(bad, owner)) << bad;
    }
}

TEST(Owners, WhoIsAnotherPersonOnTheOtherNodeIsNamed) {
    const stead::testing::TemporaryFolder etc;
    std::ofstream(etc.path() / "passwd") << "root:x:0:0::/root:/bin/sh\nredis:x:999:990::/:/bin/sh\nbroken\n"
                                            "postgres:x:114:120::/:/bin/sh\n";
    std::ofstream(etc.path() / "group") << "root:x:0:\npostgres:x:120:\n";
    const Accounts here = Accounts::read(etc.path());
    EXPECT_EQ(here.disagreement({'u', 114}, "postgres", "node1"), "");
    EXPECT_EQ(here.disagreement({'u', 4000}, "", "node1"), "") << "a name service knows it, or nobody does";
    EXPECT_EQ(here.disagreement({'u', 999}, "postgres", "node1"),
              "uid 999 is 'postgres' on node1 and 'redis' here, where 'postgres' is 114");
    EXPECT_EQ(here.disagreement({'g', 999}, "web", "node1"), "gid 999 is 'web' on node1 and nobody here");
    EXPECT_EQ(Accounts::read(etc.path() / "missing").name_of({'u', 0}), "");
}

TEST(Owners, OfADirectoryAndWhatIsRightBelow) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root";
    }
    const stead::testing::TemporaryFolder folder;
    EXPECT_THAT(owners_in({folder.path()}), IsEmpty()) << "root is the same everywhere";
    std::ofstream(folder.path() / "file") << "x";
    ASSERT_EQ(::symlink("nowhere", (folder.path() / "link").c_str()), 0);
    ASSERT_EQ(::lchown((folder.path() / "file").c_str(), 5001, 5002), 0);
    ASSERT_EQ(::lchown((folder.path() / "link").c_str(), 5003, 0), 0);
    EXPECT_THAT(owners_in({folder.path(), folder.path() / "missing"}),
                ElementsAre(Owner{'g', 5002}, Owner{'u', 5001}, Owner{'u', 5003}));
}

} // namespace
} // namespace stead::mirror
