// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/content.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <linux/falloc.h>
#include <sys/stat.h>

namespace stead::mirror {
namespace {

using testing::IsEmpty;
using testing::UnorderedElementsAre;

const Fid file{1, 2}, parent{3, 4}, other{5, 6};

Target directory(const Fid& fid) { return {TargetKind::directory, fid, 0}; }
Target inode(const Fid& fid) { return {TargetKind::inode, fid, 0}; }
Target zone(std::uint64_t index) { return {TargetKind::zone, file, index}; }

template <class What>
Operation operation(What what) {
    return operation_of(Content{{}, std::move(what)});
}

TEST(OperationOf, AWriteIsItsZonesAndTheInode) {
    const auto one = operation(change::Write{file, zone_bytes - 1, "x", false});
    EXPECT_THAT(one.targets, UnorderedElementsAre(inode(file), zone(0)));
    EXPECT_FALSE(one.whole_inode);
    EXPECT_EQ(one.kind, OpKind::change);
    EXPECT_FALSE(one.durable);
    const auto two = operation(change::Write{file, zone_bytes - 1, "xy", false});
    EXPECT_THAT(two.targets, UnorderedElementsAre(inode(file), zone(0), zone(1)));
    const auto whole = operation(change::Write{file, 3 * zone_bytes, std::string(2 * zone_bytes, 'x'), false});
    EXPECT_THAT(whole.targets, UnorderedElementsAre(inode(file), zone(3), zone(4)));
}

TEST(OperationOf, AWriteThatTakesRightsAwayOrWritesNothingIsNotBytesOnly) {
    EXPECT_TRUE(operation(change::Write{file, 0, "x", true}).whole_inode);
    const auto nothing = operation(change::Write{file, 5, "", false});
    EXPECT_THAT(nothing.targets, UnorderedElementsAre(inode(file)));
    EXPECT_TRUE(nothing.whole_inode); // else it would lock nothing
}

TEST(OperationOf, AnEarlyEndNamesTheZoneThatIsCut) {
    change::Attributes what{};
    what.inode = file;
    what.size = 2 * zone_bytes + 1;
    what.set = change::Attributes::mode_set;
    EXPECT_THAT(operation(what).targets, UnorderedElementsAre(inode(file)));
    what.set = change::Attributes::size_set;
    EXPECT_THAT(operation(what).targets, UnorderedElementsAre(inode(file), zone(2)));
    what.size = 2 * zone_bytes; // nothing is cut within a zone
    EXPECT_THAT(operation(what).targets, UnorderedElementsAre(inode(file)));
    EXPECT_TRUE(operation(what).whole_inode);
}

TEST(OperationOf, NamesAreTheirDirectoriesAndInodes) {
    EXPECT_THAT(operation(change::Make{parent, "n", file, S_IFREG | 0644, 0, 0, 0, ""}).targets,
                UnorderedElementsAre(directory(parent), inode(parent), inode(file)));
    EXPECT_THAT(operation(change::Make{parent, "n", file, S_IFDIR | 0755, 0, 0, 0, ""}).targets,
                UnorderedElementsAre(directory(parent), inode(parent), inode(file), directory(file)));
    EXPECT_THAT(operation(change::Link{file, parent, "n"}).targets,
                UnorderedElementsAre(directory(parent), inode(parent), inode(file)));
    EXPECT_THAT(operation(change::Remove{parent, "n", file, true}).targets,
                UnorderedElementsAre(directory(parent), inode(parent), inode(file)));
}

TEST(OperationOf, ARenameNamesEachTargetOnce) {
    EXPECT_THAT(operation(change::Rename{parent, "a", parent, "b", 0, file, {}}).targets,
                UnorderedElementsAre(directory(parent), inode(parent), inode(file)));
    EXPECT_THAT(operation(change::Rename{parent, "a", other, "b", 0, file, {7, 8}}).targets,
                UnorderedElementsAre(directory(parent), inode(parent), directory(other), inode(other), inode(file),
                                     inode({7, 8})));
}

TEST(OperationOf, XattrsAreTheInode) {
    EXPECT_THAT(operation(change::SetXattr{file, "user.a", "b"}).targets, UnorderedElementsAre(inode(file)));
    EXPECT_THAT(operation(change::RemoveXattr{file, "user.a"}).targets, UnorderedElementsAre(inode(file)));
}

TEST(OperationOf, AHoleNamesItsZonesAndReservedSpaceNone) {
    const std::uint32_t punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    EXPECT_THAT(operation(change::Allocate{file, 0, 0, 10 * zone_bytes, false}).targets,
                UnorderedElementsAre(inode(file)));
    EXPECT_THAT(operation(change::Allocate{file, punch, zone_bytes - 1, zone_bytes + 2, false}).targets,
                UnorderedElementsAre(inode(file), zone(0), zone(1), zone(2)));
    EXPECT_THAT(operation(change::Allocate{file, FALLOC_FL_ZERO_RANGE, 0, 1, false}).targets,
                UnorderedElementsAre(inode(file), zone(0)));
    const std::uint64_t most = operation_zones_max * zone_bytes;
    EXPECT_EQ(operation(change::Allocate{file, punch, 0, most, false}).targets.size(), operation_zones_max + 1);
    EXPECT_THAT(operation(change::Allocate{file, punch, 1, most, false}).targets,
                UnorderedElementsAre(inode(file), zone(0), zone(operation_zones_max)));
}

TEST(OperationOf, CarriesTheContentAndDurability) {
    const auto made = operation_of(Content{{5, 6}, change::Write{file, 0, "abc", false}}, true);
    EXPECT_TRUE(made.durable);
    ASSERT_NE(made.payload, nullptr);
    EXPECT_EQ(made.payload->at, (Time{5, 6}));
    EXPECT_EQ(std::get<change::Write>(made.payload->what).data, "abc");
}

TEST(SyncOf, IsOneInodeWithoutContent) {
    const Operation sync = sync_of(file);
    EXPECT_EQ(sync.kind, OpKind::sync);
    EXPECT_THAT(sync.targets, UnorderedElementsAre(inode(file)));
    EXPECT_EQ(sync.payload, nullptr);
}

} // namespace
} // namespace stead::mirror
