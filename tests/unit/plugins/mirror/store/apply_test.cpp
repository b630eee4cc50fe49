// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>

#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace {
std::atomic<int> failing_syncs{0}; ///< so many more, as on a disk that fails
}

/// In place of the C library's, also for the store.
extern "C" int fsync(int fd) {
    if (failing_syncs > 0) {
        --failing_syncs;
        errno = EIO;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_fsync, fd));
}

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

TEST_F(Applying, AFileThatIsSyncedBehindEachWriteIsSyncedBeforeItIsAskedFor) {
    const Fid fid = file("wal");
    int outcome = -1;
    const auto tell = [&](Errno error) { outcome = error; };
    const auto write = [&] {
        Content content;
        content.at = at;
        content.what = change::Write{fid, 0, "x", false};
        const Operation operation = operation_of(std::move(content));
        EXPECT_EQ(tree->apply(operation, 0), 0);
        return tree->expects_sync(operation);
    };
    for (int i = 0; i < 4; ++i) {
        EXPECT_EQ(write(), std::nullopt);
        EXPECT_FALSE(tree->join_early(fid, tell));
        EXPECT_EQ(tree->sync(fid), 0);
    }
    EXPECT_EQ(write(), fid);
    tree->sync_early(fid);
    EXPECT_TRUE(tree->join_early(fid, tell));
    EXPECT_EQ(outcome, 0);
    EXPECT_EQ(write(), fid);
    tree->sync_early(fid);
    change::Attributes shorter{};
    shorter.inode = fid;
    shorter.set = change::Attributes::size_set;
    EXPECT_EQ(apply(std::move(shorter)), 0);
    EXPECT_FALSE(tree->join_early(fid, tell)) << "it was truncated since";
}

TEST_F(Applying, AFailureThatTheFlushMetIsToldToTheApplicationsFsync) {
    const Fid fid = file("wal");
    ASSERT_EQ(tree->flush(), 0);
    ASSERT_EQ(apply(change::Write{fid, 0, "x", false}), 0);
    failing_syncs = 1;
    EXPECT_EQ(tree->flush(), EIO);
    EXPECT_EQ(failing_syncs, 0);
    EXPECT_EQ(tree->sync(fid), EIO) << "what was written is lost";
    EXPECT_EQ(tree->sync(fid), 0);
    ASSERT_EQ(apply(change::Write{fid, 0, "y", false}), 0);
    failing_syncs = 1;
    EXPECT_EQ(tree->flush(), EIO);
    tree->forget_failures();
    EXPECT_EQ(tree->sync(fid), 0) << "another application asks";
}

TEST_F(Applying, WriteSetsTheTimeOfTheServingNode) {
    const Fid fid = file("f", "hello");
    EXPECT_EQ(slurp(aside / "f"), "hello");
    EXPECT_EQ(mtime(aside / "f"), at);
    ASSERT_EQ(apply(change::Write{fid, 3, "p me", false}), 0);
    EXPECT_EQ(slurp(aside / "f"), "help me");
    EXPECT_EQ(mtime(aside / "f"), at);
    const Time late = at;
    at.seconds -= 10; // another zone's write, overtaken
    ASSERT_EQ(apply(change::Write{fid, 70'000, "x", false}), 0);
    EXPECT_EQ(mtime(aside / "f"), late) << "the later one counts on both nodes, whatever the order";
}

/// The other node may have been started anew meanwhile, and does not remember the later time.
TEST_F(Applying, AClockThatIsSetBackIsFollowed) {
    const Fid fid = file("f", "hello");
    at.seconds -= 3600;
    ASSERT_EQ(apply(change::Write{fid, 0, "x", false}), 0);
    EXPECT_EQ(mtime(aside / "f"), at);
    tree->forget_times(); // the other node serves now, and its clock is a little behind
    at.seconds -= 5;
    ASSERT_EQ(apply(change::Write{fid, 0, "y", false}), 0);
    EXPECT_EQ(mtime(aside / "f"), at);
}

TEST_F(Applying, WriteBeyondFourGigabytesStaysSparse) {
    const Fid fid = file("f");
    ASSERT_EQ(apply(change::Write{fid, (std::uint64_t{5} << 30) + 7, "end", false}), 0);
    EXPECT_EQ(attributes_of(aside / "f").st_size, (off_t{5} << 30) + 10);
    EXPECT_LT(attributes_of(aside / "f").st_blocks, 100);
}

TEST_F(Applying, PrivilegesAreKilledOnlyWhenAsked) {
    const Fid fid = make(root, "f", S_IFREG | 06755);
    const std::string capability("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    ASSERT_EQ(apply(change::SetXattr{fid, "security.capability", capability}), 0);
    ASSERT_EQ(apply(change::Attributes{fid, change::Attributes::mtime_set, 0, 0, 0, 0, {}, {5, 6}, false}), 0);
    EXPECT_EQ(attributes_of(aside / "f").st_mode & 07777, 06755u);
    ASSERT_EQ(apply(change::Write{fid, 0, "x", true}), 0);
    EXPECT_EQ(attributes_of(aside / "f").st_mode & 07777, 0755u);
    EXPECT_EQ(xattr(aside / "f", "security.capability"), "none");
}

TEST_F(Applying, AttributesOneByOne) {
    using A = change::Attributes;
    const Fid fid = file("f", std::string(100'000, 'x'));
    const Time written = at;
    ASSERT_EQ(apply(A{fid, A::mode_set, 04711, 0, 0, 0, {}, {}, false}), 0);
    EXPECT_EQ(attributes_of(aside / "f").st_mode & 07777, 04711u);
    EXPECT_EQ(mtime(aside / "f"), written) << "bytes did not change";
    ASSERT_EQ(apply(A{fid, A::owner_set, 0, 7, 0, 0, {}, {}, false}), 0);
    EXPECT_EQ(attributes_of(aside / "f").st_uid, 7u);
    EXPECT_EQ(attributes_of(aside / "f").st_gid, 0u);
    EXPECT_EQ(attributes_of(aside / "f").st_mode & 07777, 0711u) << "as chown does";
    ASSERT_EQ(apply(A{fid, A::size_set, 0, 0, 0, 10, {}, {}, false}), 0);
    EXPECT_EQ(attributes_of(aside / "f").st_size, 10);
    EXPECT_EQ(mtime(aside / "f"), at);
    ASSERT_EQ(apply(A{fid, A::atime_set | A::mtime_set, 0, 0, 0, 0, {11, 12}, {13, 14}, false}), 0);
    EXPECT_EQ(mtime(aside / "f"), (Time{13, 14}));
    EXPECT_EQ(attributes_of(aside / "f").st_atim.tv_sec, 11);
    ASSERT_EQ(apply(change::Write{fid, 0, "y", false}), 0);
    EXPECT_EQ(mtime(aside / "f"), at) << "a time that was set on purpose does not hold a later write back";
}

TEST_F(Applying, AttributesOfALinkAreItsOwn) {
    using A = change::Attributes;
    const Fid target = file("target");
    const Fid link = make(root, "link", S_IFLNK | 0777, "target");
    ASSERT_EQ(apply(A{link, A::owner_set | A::mtime_set, 0, 5, 0, 0, {}, {3, 4}, false}), 0);
    ASSERT_EQ(apply(change::SetXattr{link, "trusted.mine", "v"}), 0);
    EXPECT_EQ(attributes_of(aside / "link").st_uid, 5u);
    EXPECT_EQ(mtime(aside / "link"), (Time{3, 4}));
    EXPECT_EQ(attributes_of(aside / "target").st_uid, 0u);
    EXPECT_EQ(xattr(aside / "link", "trusted.mine"), "v");
    EXPECT_EQ(apply(change::Write{link, 0, "x", false}), EINVAL);
    EXPECT_EQ(tree->open_inode(make(root, "null", S_IFCHR | 0666, {}, makedev(1, 3)), O_WRONLY), -ENXIO);
    EXPECT_EQ(apply(change::Write{target, 0, "x", false}), 0);
}

TEST_F(Applying, Xattrs) {
    const Fid fid = file("f");
    ASSERT_EQ(apply(change::SetXattr{fid, "user.a", std::string("v\0w", 3)}), 0);
    EXPECT_EQ(xattr(aside / "f", "user.a"), std::string("v\0w", 3));
    ASSERT_EQ(apply(change::RemoveXattr{fid, "user.a"}), 0);
    EXPECT_EQ(xattr(aside / "f", "user.a"), "none");
    EXPECT_EQ(apply(change::RemoveXattr{fid, "user.a"}), ENODATA);
    EXPECT_EQ(apply(change::SetXattr{fid, "trusted.stead.fid", "x"}), EPERM);
    EXPECT_EQ(apply(change::RemoveXattr{fid, "trusted.stead.fid"}), EPERM);
}

TEST_F(Applying, Allocate) {
    const Fid fid = file("f", std::string(200'000, 'x'));
    ASSERT_EQ(apply(change::Allocate{fid, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65'536, 65'536, false}), 0);
    EXPECT_EQ(slurp(aside / "f").substr(65'536, 65'536), std::string(65'536, '\0'));
    EXPECT_EQ(mtime(aside / "f"), at);
    ASSERT_EQ(apply(change::Allocate{fid, 0, 0, 1'000'000, false}), 0);
    EXPECT_EQ(attributes_of(aside / "f").st_size, 1'000'000);
}

TEST_F(Applying, LinkAndRemove) {
    const Fid fid = file("a", "x");
    const Fid dir = folder("d");
    ASSERT_EQ(apply(change::Link{fid, dir, "b"}), 0);
    EXPECT_EQ(mtime(aside / "d"), at);
    EXPECT_EQ(attributes_of(aside / "a").st_nlink, 2u);
    EXPECT_EQ(apply(change::Remove{root, "a", dir, false}), ESTALE) << "not the inode that was meant";
    EXPECT_EQ(apply(change::Remove{root, "d", dir, true}), ENOTEMPTY);
    EXPECT_EQ(apply(change::Remove{root, "d", dir, false}), EISDIR);
    ASSERT_EQ(apply(change::Remove{root, "a", fid, false}, 5), 0);
    EXPECT_THAT(names_in(park), IsEmpty()) << "not its last name";
    ASSERT_EQ(apply(change::Remove{dir, "b", fid, false}, 6), 0);
    EXPECT_THAT(names_in(park), SizeIs(1));
    ASSERT_EQ(apply(change::Write{fid, 0, "yy", false}), 0) << "somebody has it still open over there";
    ASSERT_EQ(apply(change::Link{fid, root, "back"}), 0);
    EXPECT_EQ(slurp(aside / "back"), "yy");
    EXPECT_EQ(attributes_of(aside / "back").st_nlink, 1u);
    EXPECT_THAT(names_in(park), IsEmpty());
    ASSERT_EQ(apply(change::Remove{root, "back", fid, false}), 0);
    EXPECT_EQ(apply(change::Write{fid, 0, "y", false}), ESTALE);
    ASSERT_EQ(apply(change::Remove{root, "d", dir, true}), 0);
    EXPECT_EQ(apply(change::Remove{root, "d", dir, true}), ENOENT);
}

TEST_F(Applying, AnOpenInodeWithoutNameIsChangedHereOnly) {
    const Fid fid = file("a", "x");
    const int fd = tree->open_inode(fid, O_RDWR);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(apply(change::Remove{root, "a", fid, false}), 0);
    Content content;
    content.at = at;
    content.what = change::Write{fid, 0, "still", false};
    EXPECT_EQ(tree->apply_here(content), 0);
    char bytes[5];
    EXPECT_EQ(::pread(fd, bytes, 5, 0), 5);
    EXPECT_EQ(std::string(bytes, 5), "still");
    ::close(fd);
}

TEST_F(Applying, Rename) {
    const Fid a = file("a", "a"), b = file("b", "b"), d = folder("d");
    ASSERT_EQ(apply(change::Rename{root, "a", d, "c", 0, a, {}}), 0);
    EXPECT_EQ(slurp(aside / "d/c"), "a");
    EXPECT_EQ(mtime(aside / "d"), at);
    EXPECT_EQ(mtime(aside), at);
    EXPECT_EQ(apply(change::Rename{root, "b", d, "c", RENAME_NOREPLACE, b, a}), EEXIST);
    EXPECT_EQ(apply(change::Rename{root, "b", d, "c", 0, b, {}}), ESTALE)
        << "something is there that was not over there";
    ASSERT_EQ(apply(change::Rename{root, "b", d, "c", RENAME_EXCHANGE, b, a}), 0);
    EXPECT_EQ(slurp(aside / "b"), "a");
    EXPECT_EQ(slurp(aside / "d/c"), "b");
    ASSERT_EQ(apply(change::Rename{root, "b", d, "c", 0, a, b}, 9), 0);
    EXPECT_EQ(slurp(aside / "d/c"), "a");
    EXPECT_FALSE(fs::exists(aside / "b"));
    EXPECT_THAT(names_in(park), SizeIs(1)) << "what was replaced";
    EXPECT_EQ(apply(change::Rename{root, "d", d, "e", 0, d, {}}), EINVAL);
    EXPECT_EQ(apply(change::Rename{root, "no", d, "e", 0, a, {}}), ENOENT);
}

TEST_F(Applying, RenameOverAnEmptyDirectoryOnly) {
    const Fid a = folder("a"), b = folder("b");
    const Fid f = make(b, "f", S_IFREG | 0600);
    EXPECT_EQ(apply(change::Rename{root, "a", root, "b", 0, a, b}, 3), ENOTEMPTY);
    ASSERT_EQ(apply(change::Remove{b, "f", f, false}), 0);
    ASSERT_EQ(apply(change::Rename{root, "a", root, "b", 0, a, b}, 3), 0);
    EXPECT_EQ(at_name(root, "b"), a);
    const Fid g = file("g");
    EXPECT_EQ(apply(change::Rename{root, "g", root, "b", 0, g, a}, 3), EISDIR);
    EXPECT_EQ(apply(change::Rename{root, "b", root, "g", 0, a, g}, 3), ENOTDIR);
}

TEST_F(Applying, TwoNamesOfOneInodeBothStay) {
    const Fid a = file("a");
    ASSERT_EQ(apply(change::Link{a, root, "b"}), 0);
    ASSERT_EQ(apply(change::Rename{root, "a", root, "b", 0, a, a}), 0);
    EXPECT_THAT(names_in(aside), ElementsAre("a", "b"));
}

TEST_F(Applying, PurgeRemovesWhatWasParkedSoFar) {
    const Fid a = file("a"), d = folder("d"), e = make(d, "e", S_IFDIR | 0700);
    make(e, "deep", S_IFREG | 0600);
    const Fid b = make(d, "b", S_IFREG | 0600);
    ASSERT_EQ(apply(change::Link{b, root, "b2"}), 0);
    ASSERT_EQ(apply(change::Remove{root, "a", a, false}, 5), 0);
    Tree::Stored stored;
    Content nothing_but_b;
    nothing_but_b.what = copy::Listing{{{"b2", b, S_IFREG, 0, {}}}};
    ASSERT_EQ(tree->store(directory(root), nothing_but_b, 8, stored), 0);
    EXPECT_THAT(names_in(park), SizeIs(2));
    tree->purge(5);
    EXPECT_THAT(names_in(park), SizeIs(1));
    tree->purge(8);
    EXPECT_THAT(names_in(park), IsEmpty());
    EXPECT_EQ(attributes_of(aside / "b2").st_nlink, 1u) << "of what was below, only the name went";
    EXPECT_EQ(tree->open_inode(e, O_PATH), -ESTALE);
    EXPECT_GE(tree->open_inode(b, O_PATH), 0);
}

TEST_F(Applying, APurgeOfManyHoldsUpNobody) {
    constexpr int many = 5000;
    for (int i = 0; i < many; ++i) {
        const std::string name = "f" + std::to_string(i);
        ASSERT_EQ(apply(change::Remove{root, name, make(root, name, S_IFREG | 0600), false}, 5), 0);
    }
    const Fid fid = file("kept", "x");
    const auto now = [] { return std::chrono::steady_clock::now(); };
    std::atomic<bool> over{};
    const auto begun = now();
    std::thread purge([&] {
        tree->purge(5);
        over = true;
    });
    auto longest = begun - begun;
    while (!over) {
        const auto from = now();
        EXPECT_EQ(apply(change::Link{fid, root, "again"}, 6), 0);
        EXPECT_EQ(apply(change::Remove{root, "again", fid, false}, 6), 0);
        longest = std::max(longest, now() - from);
    }
    purge.join();
    EXPECT_LT(longest, (now() - begun) / 2);
    EXPECT_THAT(names_in(park), IsEmpty());
}

TEST_F(Applying, TheParkSurvivesACrash) {
    const Fid a = file("a", "x");
    ASSERT_EQ(apply(change::Remove{root, "a", a, false}, 5), 0);
    spew(park / "tmp-7", "half made");
    start();
    EXPECT_THAT(names_in(park), SizeIs(1));
    EXPECT_EQ(tree->last_parked(), 5u) << "later numbers are higher, or it would stay for ever";
    ASSERT_EQ(apply(change::Link{a, root, "again"}), 0);
    EXPECT_EQ(slurp(aside / "again"), "x");
    EXPECT_THAT(names_in(park), IsEmpty());
}

/// u::rwx u:1000:rwx g::r-x m::rwx o::--- as the kernel stores it.
std::string default_acl() {
    std::string acl("\2\0\0\0", 4);
    const auto entry = [&](std::uint16_t tag, std::uint16_t permissions, std::uint32_t id) {
        acl.append(reinterpret_cast<const char*>(&tag), 2).append(reinterpret_cast<const char*>(&permissions), 2);
        acl.append(reinterpret_cast<const char*>(&id), 4);
    };
    entry(1, 7, ~0u);
    entry(2, 7, 1000);
    entry(4, 5, ~0u);
    entry(0x10, 7, ~0u);
    entry(0x20, 0, ~0u);
    return acl;
}

TEST_F(Applying, DefaultAclIsInheritedAsTheKernelDoes) {
    fs::create_directory(base / "reference");
    ASSERT_EQ(::setxattr((base / "reference").c_str(), "system.posix_acl_default", default_acl().data(),
                         default_acl().size(), 0),
              0);
    const Fid dir = folder("d");
    ASSERT_EQ(apply(change::SetXattr{dir, "system.posix_acl_default", default_acl()}), 0);
    make(dir, "file", S_IFREG | 0664);
    make(dir, "sub", S_IFDIR | 0775);
    make(dir, "fifo", S_IFIFO | 0666);
    make(dir, "link", S_IFLNK | 0777, "x");
    ::close(::open((base / "reference/file").c_str(), O_CREAT | O_WRONLY, 0664));
    ::mkdir((base / "reference/sub").c_str(), 0775);
    ::mkfifo((base / "reference/fifo").c_str(), 0666);
    for (const char* name : {"file", "sub", "fifo"}) {
        const fs::path ours = aside / "d" / name, kernels = base / "reference" / name;
        EXPECT_EQ(attributes_of(ours).st_mode, attributes_of(kernels).st_mode) << name;
        for (const char* acl : {"system.posix_acl_access", "system.posix_acl_default"}) {
            EXPECT_EQ(xattr(ours, acl), xattr(kernels, acl)) << name;
        }
    }
    EXPECT_NE(xattr(aside / "d/file", "system.posix_acl_access"), "none");
}

TEST_F(Applying, ADirectoryKeepsItsModeUnderASetGidParent) {
    const Fid dir = make(root, "d", S_IFDIR | 02775);
    make(dir, "plain", S_IFDIR | 0750);
    make(dir, "gid", S_IFDIR | 02750);
    EXPECT_EQ(attributes_of(aside / "d/plain").st_mode & 07777, 0750u);
    EXPECT_EQ(attributes_of(aside / "d/gid").st_mode & 07777, 02750u);
}

TEST_F(Applying, SyncAndFlushOfEverything) {
    const Fid dir = folder("d"), f = file("f", "x");
    make(dir, "fifo", S_IFIFO | 0600);
    EXPECT_EQ(tree->sync(f), 0);
    EXPECT_EQ(tree->sync(dir), 0);
    EXPECT_EQ(tree->flush(), 0);
    for (int i = 0; i < 1100; ++i) {
        file("many" + std::to_string(i));
    }
    EXPECT_EQ(tree->flush(), 0);
    EXPECT_EQ(tree->flush(), 0);
}

struct Excluding : TreeTest {
    void SetUp() override {
        TreeTest::SetUp();
        excluded = {"tmp", "a/b/"};
        excluded_regex = {".*\\.pid"};
        fs::create_directories(place / "tmp/x");
        fs::create_directories(place / "a/b");
        spew(place / "a/run.pid", "7");
        spew(place / "a/kept", "8");
        start();
    }
    Fid find(const std::string& path) {
        Fid fid = root;
        for (const fs::path& name : fs::path(path)) {
            fid = at_name(fid, name.string());
        }
        return fid;
    }
};

TEST_F(Excluding, IsNeverListedReadOrStored) {
    EXPECT_TRUE(tree->excluded(find("tmp")));
    EXPECT_TRUE(tree->excluded(find("tmp/x")));
    EXPECT_TRUE(tree->excluded(find("a/b")));
    EXPECT_TRUE(tree->excluded(find("a/run.pid")));
    EXPECT_FALSE(tree->excluded(find("a/kept")));
    EXPECT_TRUE(tree->excluded(find("a"), "other.pid"));
    EXPECT_TRUE(tree->excluded(find("tmp/x"), "anything"));
    EXPECT_FALSE(tree->excluded(find("a"), "pid"));
    EXPECT_FALSE(is_there(inode(find("a/run.pid"))));
    EXPECT_THAT(read<copy::Listing>(directory(root)).entries, SizeIs(1));
    EXPECT_THAT(read<copy::Listing>(directory(find("a"))).entries, SizeIs(1));
    std::vector<Target> all;
    ASSERT_EQ(tree->list(std::nullopt, all), 0);
    EXPECT_THAT(all, SizeIs(6)) << "root and a with their listings, kept with its zone";
    Tree::Stored stored;
    Content content;
    content.what = copy::Listing{{{"new.pid", tree->fresh(), S_IFREG, 0, {}}}};
    EXPECT_EQ(tree->store(directory(root), content, 3, stored), EPERM);
    content.what = copy::Listing{};
    ASSERT_EQ(tree->store(directory(root), content, 3, stored), 0);
    EXPECT_THAT(names_in(aside), ElementsAre("tmp")) << "stays, whatever the other node has";
}

TEST_F(Excluding, IsNeverApplied) {
    const Fid a = find("a"), kept = find("a/kept");
    EXPECT_EQ(apply(change::Make{a, "x.pid", tree->fresh(), S_IFREG | 0600, 0, 0, 0, {}}), EPERM);
    EXPECT_EQ(apply(change::Link{kept, a, "x.pid"}), EPERM);
    EXPECT_EQ(apply(change::Rename{a, "kept", root, "x.pid", 0, kept, {}}), EPERM);
    EXPECT_EQ(apply(change::Write{find("a/run.pid"), 0, "8", false}), EPERM);
    EXPECT_EQ(slurp(aside / "a/run.pid"), "7");
    EXPECT_TRUE(tree->pinned(a)) << "a/b is excluded by its path";
    EXPECT_FALSE(tree->pinned(find("a/b")));
    EXPECT_FALSE(tree->pinned(root)) << "it cannot be renamed anyway";
    EXPECT_EQ(apply(change::Rename{root, "a", root, "z", 0, a, {}}), EPERM);
}

TEST_F(Excluding, ADirectoryMayBringNothingToAPlaceThatExcludesIt) {
    const Fid z = folder("z");
    EXPECT_FALSE(tree->hides(z, root, "tmp")) << "that name itself is another question";
    EXPECT_FALSE(tree->hides(z, root, "a")) << "nothing is there";
    const Fid b = make(z, "b", S_IFDIR | 0755);
    EXPECT_TRUE(tree->hides(z, root, "a")) << "z/b would be a/b";
    EXPECT_FALSE(tree->hides(z, root, "other"));
    EXPECT_FALSE(tree->hides(z, b, "a"));
}

TEST_F(Excluding, ADirectoryMayBringNothingToWhereAPatternExcludesIt) {
    excluded_regex = {"cache/.*", ".*/x/skip"};
    start();
    const Fid z = folder("z"), x = make(make(z, "deep", S_IFDIR | 0755), "x", S_IFDIR | 0755), empty = folder("empty");
    EXPECT_TRUE(tree->hides(z, root, "cache"));
    EXPECT_FALSE(tree->hides(empty, root, "cache"));
    EXPECT_FALSE(tree->hides(z, root, "other"));
    EXPECT_FALSE(tree->hides(x, root, "other"));
    make(empty, "skip", S_IFREG | 0600);
    EXPECT_TRUE(tree->hides(empty, z, "x"));
}

TEST_F(Excluding, NewInodesAreToldApart) {
    const Fid fid = tree->fresh();
    Content content;
    content.at = at;
    content.what = change::Make{find("tmp"), "f", fid, S_IFREG | 0600, 0, 0, 0, {}};
    ASSERT_EQ(tree->apply_here(content), 0);
    EXPECT_TRUE(tree->excluded(fid));
    EXPECT_FALSE(is_there(inode(fid)));
}

TEST_F(Excluding, ADirectoryWithNothingElseCountsAsEmptyWhereItIsParked) {
    const Fid a = find("a"), kept = find("a/kept");
    EXPECT_EQ(apply(change::Remove{root, "a", a, true}, 4), ENOTEMPTY);
    ASSERT_EQ(apply(change::Remove{a, "kept", kept, false}, 4), 0);
    EXPECT_EQ(apply(change::Remove{root, "a", a, true}, 4), 0);
    EXPECT_THAT(names_in(park), SizeIs(2));
}

TEST_F(Excluding, BadPatternsAreNamed) {
    excluded_regex = {"a("};
    EXPECT_THAT(refusal(), testing::HasSubstr("'a(' is not a POSIX extended expression"));
    excluded_regex = {};
    excluded = {"../x"};
    EXPECT_THAT(refusal(), testing::HasSubstr("'../x' is not a relative path below the directory"));
}

} // namespace stead::mirror::test
