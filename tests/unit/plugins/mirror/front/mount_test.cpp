// SPDX-License-Identifier: Apache-2.0
#include "front_fixture.hpp"

#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <thread>

#include <sys/mount.h>
#include <sys/xattr.h>

/// The mount itself: what is submitted, what fails, and how it ends.
namespace stead::mirror {
namespace {

Fd open_at(const std::string& path, int flags) { return Fd(::open(path.c_str(), flags | O_CLOEXEC, 0644)); }

TEST(Mount, EachChangeIsSubmittedOnceAndReadingIsNot) {
    MountedPlace mount;
    const std::string path = mount.path() + "/f";
    {
        const Fd fd = open_at(path, O_CREAT | O_RDWR);
        for (int each = 0; each < 50; ++each) {
            ASSERT_EQ(pwrite(fd.get(), "x", 1, each), 1);
        }
        char bytes[50];
        EXPECT_EQ(pread(fd.get(), bytes, 50, 0), 50);
        struct stat value {};
        EXPECT_EQ(fstat(fd.get(), &value), 0);
        EXPECT_EQ(fsync(fd.get()), 0);
    }
    EXPECT_EQ(mount.applier().count("make"), 1u);
    EXPECT_EQ(mount.applier().count("write"), 50u);
    EXPECT_EQ(mount.applier().count("sync"), 1u);
    EXPECT_EQ(mount.applier().count("attributes"), 0u);
}

TEST(Mount, ASynchronousWriteIsOneWriteAndOneSync) {
    MountedPlace mount;
    const Fd fd = open_at(mount.path() + "/f", O_CREAT | O_RDWR | O_DSYNC);
    ASSERT_EQ(write(fd.get(), "x", 1), 1);
    EXPECT_EQ(mount.applier().count("write"), 1u);
    EXPECT_EQ(mount.applier().count("sync"), 1u);
}

// Goal: what the other node's file system does not take is refused here, before anything changes.
TEST(Mount, TheSmallerOfTwoFileSystemsCounts) {
    MountedPlace mount;
    const std::string path = mount.path() + "/f";
    const Fd fd = open_at(path, O_CREAT | O_RDWR);
    ASSERT_EQ(ftruncate(fd.get(), 1 << 20), 0);
    ASSERT_EQ(fsetxattr(fd.get(), "user.fits", std::string(2000, 'x').data(), 2000, 0), 0);
    mount.peer().set({.file_bytes = 1 << 20, .links = 1, .name_bytes = 20, .xattr_bytes = 1000});
    const std::size_t before = mount.applier().count("write") + mount.applier().count("attributes");
    EXPECT_EQ(error_of(ftruncate(fd.get(), (1 << 20) + 1)), EFBIG);
    EXPECT_EQ(error_of(pwrite(fd.get(), "x", 1, 1 << 20)), EFBIG);
    EXPECT_EQ(error_of(fallocate(fd.get(), 0, 1 << 20, 1)), EFBIG);
    EXPECT_EQ(error_of(link(path.c_str(), (path + "2").c_str())), EMLINK);
    EXPECT_EQ(error_of(mkdir((mount.path() + "/" + std::string(21, 'n')).c_str(), 0755)), ENAMETOOLONG);
    EXPECT_EQ(error_of(fsetxattr(fd.get(), "user.too_much", std::string(900, 'x').data(), 900, 0)), ENOSPC);
    EXPECT_EQ(mount.applier().count("write") + mount.applier().count("attributes"), before);
    EXPECT_EQ(pwrite(fd.get(), "x", 1, (1 << 20) - 1), 1);
    EXPECT_EQ(mkdir((mount.path() + "/" + std::string(20, 'n')).c_str(), 0755), 0);
    const Fd other = open_at(mount.path() + "/g", O_CREAT | O_RDWR);
    EXPECT_EQ(fsetxattr(other.get(), "user.fits", std::string(900, 'x').data(), 900, 0), 0);
    EXPECT_EQ(error_of(fsetxattr(other.get(), "user.fits", std::string(1100, 'x').data(), 1100, 0)), ENOSPC);
}

TEST(Mount, WhatPosixMakesAnErrorIsNeverSubmitted) {
    MountedPlace mount;
    const std::string file = mount.path() + "/f";
    const std::string directory = mount.path() + "/d";
    open_at(file, O_CREAT | O_RDWR);
    ASSERT_EQ(mkdir(directory.c_str(), 0755), 0);
    open_at(directory + "/x", O_CREAT | O_RDWR);
    const std::size_t before = mount.applier().count("make") + mount.applier().count("remove");
    EXPECT_EQ(error_of(rmdir(directory.c_str())), ENOTEMPTY);
    EXPECT_EQ(error_of(mkdir(directory.c_str(), 0755)), EEXIST);
    EXPECT_EQ(error_of(unlink((file + "none").c_str())), ENOENT);
    EXPECT_EQ(error_of(::rename(directory.c_str(), file.c_str())), ENOTDIR);
    EXPECT_EQ(error_of(mkdir((mount.path() + "/" + std::string(256, 'n')).c_str(), 0755)), ENAMETOOLONG);
    EXPECT_EQ(mount.applier().count("make") + mount.applier().count("remove"), before);
    EXPECT_EQ(mount.applier().count("rename"), 0u);
}

TEST(Mount, AFailedChangeIsToldToTheApplicationAndChangesNothing) {
    MountedPlace mount;
    const std::string path = mount.path() + "/f";
    const Fd fd = open_at(path, O_CREAT | O_RDWR);
    ASSERT_EQ(write(fd.get(), "x", 1), 1);
    mount.applier().fail_with(ENOSPC);
    EXPECT_EQ(error_of(write(fd.get(), "y", 1)), ENOSPC);
    EXPECT_EQ(error_of(mkdir((mount.path() + "/d").c_str(), 0755)), ENOSPC);
    EXPECT_EQ(error_of(unlink(path.c_str())), ENOSPC);
    EXPECT_EQ(error_of(ftruncate(fd.get(), 0)), ENOSPC);
    EXPECT_EQ(error_of(fsync(fd.get())), ENOSPC);
    EXPECT_EQ(error_of(::open((mount.path() + "/g").c_str(), O_CREAT | O_RDWR, 0644)), ENOSPC);
    mount.applier().fail_with(0);
    struct stat value {};
    ASSERT_EQ(stat(path.c_str(), &value), 0);
    EXPECT_EQ(value.st_size, 1);
    EXPECT_EQ(error_of(access((mount.path() + "/d").c_str(), F_OK)), ENOENT);
    EXPECT_EQ(pwrite(fd.get(), "z", 1, 1), 1); // its failed removal has left no trace
    EXPECT_EQ(unlink(path.c_str()), 0);
}

TEST(Mount, NoThreadWaitsForAnAnswer) {
    MountedPlace mount(Applier::Mode::held);
    constexpr int writers = 20; // more than threads
    std::vector<std::thread> threads;
    for (int each = 0; each < writers; ++each) {
        threads.emplace_back(
            [&mount, each] { EXPECT_EQ(mkdir((mount.path() + "/d" + std::to_string(each)).c_str(), 0755), 0); });
    }
    // Making names in one directory is serial, by the kernel's lock; reading beside it must go on meanwhile.
    mount.applier().wait_for(1);
    EXPECT_EQ(error_of(access((mount.path() + "/../none").c_str(), F_OK)), ENOENT);
    struct stat root {};
    EXPECT_EQ(stat(mount.path().c_str(), &root), 0);
    mount.applier().let_go();
    for (std::thread& each : threads) {
        each.join();
    }
}

TEST(Mount, AttributesThatAnInodeCannotHoldAreNeverSubmitted) {
    MountedPlace mount;
    const std::string path = mount.path() + "/f";
    open_at(path, O_CREAT | O_RDWR);
    const std::string value(2000, 'v');
    std::size_t taken = 0;
    int error = 0;
    for (; taken < 1000 && error == 0; ++taken) {
        const std::string name = "user.n" + std::to_string(taken);
        error = error_of(setxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0));
    }
    EXPECT_TRUE(error == ENOSPC || taken == 1000) << std::strerror(error);
    EXPECT_EQ(mount.applier().count("xattr"), error == 0 ? taken : taken - 1);
}

TEST(Mount, AbortFreesWhoeverWaits) {
    MountedPlace mount(Applier::Mode::held);
    const std::string path = mount.path() + "/d";
    std::thread waiting([&path] {
        const int error = error_of(mkdir(path.c_str(), 0755));
        EXPECT_TRUE(error == ECONNABORTED || error == ENOTCONN) << std::strerror(error);
    });
    mount.applier().wait_for(1);
    mount.front().abort();
    mount.front().abort();
    waiting.join();
    EXPECT_EQ(error_of(access(path.c_str(), F_OK)), ENOENT) << "the empty mount point is seen again";
}

TEST(Mount, AbortWorksWhenAPersonHasDetachedTheMount) {
    MountedPlace mount(Applier::Mode::held);
    const Fd directory = open_at(mount.path(), O_RDONLY | O_DIRECTORY);
    std::thread waiting([&directory] { EXPECT_NE(error_of(mkdirat(directory.get(), "d", 0755)), 0); });
    mount.applier().wait_for(1);
    ASSERT_EQ(umount2(mount.path().c_str(), MNT_DETACH), 0);
    mount.front().abort();
    waiting.join();
    EXPECT_EQ(error_of(openat(directory.get(), "none", O_RDONLY)), ENOTCONN);
}

TEST(Mount, AnswersAfterTheEndAreIgnored) {
    std::vector<std::function<void(int)>> answers;
    {
        MountedPlace mount(Applier::Mode::held);
        std::thread waiting([&mount] { static_cast<void>(mkdir((mount.path() + "/d").c_str(), 0755)); });
        mount.applier().wait_for(1);
        mount.front().abort();
        waiting.join();
        mount.applier().let_go(); // performs and answers into an aborted mount
    }
    SUCCEED() << "and so does the applier's stop, which drops them";
}

TEST(Mount, UnmountRefusesWhileAFileIsOpen) {
    MountedPlace mount;
    {
        const Fd fd = open_at(mount.path() + "/f", O_CREAT | O_RDWR);
        ASSERT_EQ(write(fd.get(), "kept", 4), 4);
        EXPECT_FALSE(mount.front().unmount());
        EXPECT_EQ(pwrite(fd.get(), "!", 1, 4), 1);
    }
    EXPECT_TRUE(mount.front().unmount());
    EXPECT_EQ(error_of(access((mount.path() + "/f").c_str(), F_OK)), ENOENT);
}

TEST(Mount, TheEndByAPersonIsTold) {
    MountedPlace mount;
    std::mutex mutex;
    std::condition_variable changed;
    int told = 0;
    mount.front().on_end([&] {
        const std::lock_guard lock(mutex);
        ++told;
        changed.notify_all();
    });
    ASSERT_EQ(umount2(mount.path().c_str(), 0), 0);
    std::unique_lock lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return told == 1; }));
    lock.unlock();
    int late = 0;
    mount.front().on_end([&] { ++late; });
    EXPECT_EQ(late, 1);
}

TEST(Mount, AReadOnlyMountShowsWhatChangesBelowAndTakesNoChange) {
    MountedPlace mount(Applier::Mode::at_once, true);
    const auto make = [&](const std::string& name, const Fid& fid, std::uint32_t mode) {
        change::Make content;
        content.parent = mount.tree().root(0);
        content.name = name;
        content.inode = fid;
        content.mode = mode;
        EXPECT_EQ(mount.tree().apply(operation_of({{1, 2}, content}), 0), 0);
    };
    const Fid fid = mount.tree().fresh();
    const std::string path = mount.path() + "/f";
    EXPECT_EQ(error_of(access(path.c_str(), F_OK)), ENOENT);
    make("f", fid, S_IFREG | 0644);
    for (const std::string text : {"first", "second, longer", "third"}) {
        change::Attributes cut;
        cut.inode = fid;
        cut.set = change::Attributes::size_set;
        EXPECT_EQ(mount.tree().apply(operation_of({{3, 4}, cut}), 0), 0);
        EXPECT_EQ(mount.tree().apply(operation_of({{5, 6}, change::Write{fid, 0, text, false}}), 0), 0);
        std::ifstream file(path);
        EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), text);
    }
    EXPECT_EQ(error_of(mkdir((mount.path() + "/d").c_str(), 0755)), EROFS);
    EXPECT_EQ(error_of(::open(path.c_str(), O_RDWR)), EROFS);
    EXPECT_EQ(error_of(chmod(path.c_str(), 0600)), EROFS);
    EXPECT_EQ(error_of(unlink(path.c_str())), EROFS);
}

TEST(Mount, ExcludedNamesAreChangedHereOnlyAndNeverCrossTheBorder) {
    MountedPlace mount(Applier::Mode::at_once, false, {"tmp"});
    const std::string inside = mount.path() + "/tmp";
    ASSERT_EQ(mkdir(inside.c_str(), 0755), 0);
    {
        const Fd fd = open_at(inside + "/f", O_CREAT | O_RDWR);
        EXPECT_EQ(write(fd.get(), "local", 5), 5);
        EXPECT_EQ(fsync(fd.get()), 0);
        EXPECT_EQ(fchmod(fd.get(), 0600), 0);
    }
    EXPECT_EQ(mount.applier().count("make") + mount.applier().count("write") + mount.applier().count("sync"), 0u);
    const std::string outside = mount.path() + "/f";
    EXPECT_EQ(error_of(::rename((inside + "/f").c_str(), outside.c_str())), EXDEV);
    EXPECT_EQ(error_of(::link((inside + "/f").c_str(), outside.c_str())), EXDEV);
    open_at(outside, O_CREAT | O_RDWR);
    EXPECT_EQ(error_of(::rename(outside.c_str(), (inside + "/g").c_str())), EXDEV);
    EXPECT_EQ(::rename((inside + "/f").c_str(), (inside + "/g").c_str()), 0);
    EXPECT_EQ(unlink((inside + "/g").c_str()), 0);
    EXPECT_EQ(rmdir(inside.c_str()), 0);
    EXPECT_EQ(mount.applier().count("rename") + mount.applier().count("remove"), 0u);
}

TEST(Mount, NothingGetsBelowAnExcludedNameWithADirectory) {
    MountedPlace mount(Applier::Mode::at_once, false, {"a/tmp"});
    const std::string z = mount.path() + "/z", a = mount.path() + "/a";
    ASSERT_EQ(mkdir(z.c_str(), 0755), 0);
    ASSERT_EQ(mkdir((z + "/tmp").c_str(), 0755), 0);
    EXPECT_EQ(error_of(::rename(z.c_str(), a.c_str())), EXDEV) << "z/tmp is replicated, and a/tmp would not be";
    ASSERT_EQ(rmdir((z + "/tmp").c_str()), 0);
    EXPECT_EQ(::rename(z.c_str(), a.c_str()), 0);
    const auto made = mount.applier().count("make");
    EXPECT_EQ(mkdir((a + "/tmp").c_str(), 0755), 0);
    EXPECT_EQ(mount.applier().count("make"), made);
}

TEST(Mount, AMountPointThatIsNoneIsAnErrorWithItsPlace) {
    const Place place;
    const auto tree = make_tree(place.path());
    FrontOptions options;
    options.tree = tree.get();
    options.mount_point = place.path() + "/none";
    const auto front = Front::mount(std::move(options));
    ASSERT_FALSE(front);
    EXPECT_THAT(front.error().text(), testing::HasSubstr(place.path() + "/none: cannot be mounted on"));
    EXPECT_TRUE(tree->close());
}

} // namespace
} // namespace stead::mirror
