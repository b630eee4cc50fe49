// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

#include <sys/sysmacros.h>

/// Every kind of change, as ext4 would show it.
namespace stead::mirror::test {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

struct Applying : TreeTest {
    void SetUp() override {
        TreeTest::SetUp();
        start();
    }
};

TEST_F(Applying, MakeGivesOwnerModeTimesAndFid) {
    const Fid fid = tree->fresh();
    ASSERT_EQ(apply(change::Make{root, "suid", fid, S_IFREG | 06755, 12, 34, 0, {}}), 0);
    const struct stat found = attributes_of(aside / "suid");
    EXPECT_EQ(found.st_mode, S_IFREG | 06755u);
    EXPECT_EQ(found.st_uid, 12u);
    EXPECT_EQ(found.st_gid, 34u);
    EXPECT_EQ(mtime(aside / "suid"), at);
    EXPECT_EQ(mtime(aside), at);
    EXPECT_EQ(xattr(aside / "suid", "trusted.stead.fid").size(), 16u);
    EXPECT_EQ(at_name(root, "suid"), fid);
}

TEST_F(Applying, MakeOfEveryType) {
    const Fid dir = make(root, "dir", S_IFDIR | 01777);
    make(dir, "file", S_IFREG | 0600);
    make(dir, "link", S_IFLNK | 0777, "no/where");
    make(dir, "fifo", S_IFIFO | 0640);
    make(dir, "socket", S_IFSOCK | 0640);
    make(dir, "char", S_IFCHR | 0640, {}, makedev(1, 3));
    make(dir, "block", S_IFBLK | 0640, {}, makedev(7, 9));
    EXPECT_EQ(attributes_of(aside / "dir").st_mode, S_IFDIR | 01777u);
    EXPECT_EQ(fs::read_symlink(aside / "dir/link"), "no/where");
    EXPECT_EQ(attributes_of(aside / "dir/fifo").st_mode, S_IFIFO | 0640u);
    EXPECT_EQ(attributes_of(aside / "dir/socket").st_mode, S_IFSOCK | 0640u);
    EXPECT_EQ(attributes_of(aside / "dir/char").st_rdev, makedev(1, 3));
    EXPECT_EQ(attributes_of(aside / "dir/block").st_rdev, makedev(7, 9));
    for (const char* name : {"file", "link", "fifo", "socket", "char", "block"}) {
        EXPECT_EQ(xattr(aside / "dir" / name, "trusted.stead.fid").size(), 16u) << name;
    }
    EXPECT_THAT(names_in(park), IsEmpty());
}

TEST_F(Applying, StrangeNames) {
    const std::string longest(255, 'n');
    for (const std::string& name : {longest, std::string("two\nlines"), std::string("\xff\xfe\x80"), std::string(" "),
                                    std::string("-rf"), std::string("*")}) {
        const Fid fid = make(root, name, S_IFREG | 0600);
        EXPECT_EQ(at_name(root, name), fid);
        EXPECT_TRUE(fs::exists(aside / name));
    }
    const Fid fid = tree->fresh();
    for (const std::string& name : {std::string(256, 'n'), std::string("a/b"), std::string(".."), std::string("."),
                                    std::string(), std::string("a\0b", 3)}) {
        EXPECT_NE(apply(change::Make{root, name, fid, S_IFREG | 0600, 0, 0, 0, {}}), 0) << name;
    }
    EXPECT_THAT(names_in(aside), SizeIs(6));
}

} // namespace stead::mirror::test
