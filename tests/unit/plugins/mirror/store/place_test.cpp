// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

#include <csignal>
#include <sys/mman.h>
#include <thread>

#include <sys/mount.h>
#include <sys/wait.h>

/// The data move aside while a tree is open, and back; a crash at any point loses nothing.
namespace stead::mirror::test {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

struct Places : TreeTest {};

TEST_F(Places, DataAreAsideWhileOpenAndBackAfterClose) {
    spew(place / "a", "hello");
    const ino_t data = attributes_of(place).st_ino;
    start();
    EXPECT_EQ(attributes_of(aside).st_ino, data);
    EXPECT_EQ(slurp(aside / "a"), "hello");
    EXPECT_THAT(names_in(place), IsEmpty());
    EXPECT_EQ(attributes_of(hidden).st_mode & 07777, 0700u);
    EXPECT_NE(::mkdir((place / "x").c_str(), 0755), 0) << "the empty mount point takes nothing, not even from root";
    stop();
    EXPECT_EQ(attributes_of(place).st_ino, data);
    EXPECT_EQ(slurp(place / "a"), "hello");
    EXPECT_FALSE(fs::exists(hidden)) << "nothing is left when nothing is parked";
    EXPECT_THAT(alarms, IsEmpty());
}

TEST_F(Places, WhoHasSomethingOpenForWritingIsNamed) {
    spew(place / "a", "hello");
    const auto held_by = [this](int flags, bool map) {
        int ready[2];
        EXPECT_EQ(::pipe(ready), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            const int fd = ::open((place / "a").c_str(), flags);
            if (map) {
                ::mmap(nullptr, 5, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                ::close(fd);
            }
            static_cast<void>(::write(ready[1], "x", 1));
            ::pause();
        }
        char byte = 0;
        EXPECT_EQ(::read(ready[0], &byte, 1), 1);
        ::close(ready[0]);
        ::close(ready[1]);
        return child;
    };
    const auto end = [](pid_t child) {
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
    };
    for (const bool map : {false, true}) {
        const pid_t child = held_by(O_RDWR, map);
        EXPECT_THAT(refusal(), AllOf(HasSubstr("process " + std::to_string(child)), HasSubstr((place / "a").string())));
        EXPECT_EQ(slurp(place / "a"), "hello") << "it goes back";
        end(child);
    }
    const pid_t reader = held_by(O_RDONLY, false);
    start();
    EXPECT_EQ(slurp(aside / "a"), "hello");
    end(reader);
    stop();
    EXPECT_THAT(alarms, IsEmpty());
}

TEST_F(Places, AfterACrashTheDataAreFoundAside) {
    spew(place / "a", "hello");
    start();
    start(); // no close()
    EXPECT_EQ(slurp(aside / "a"), "hello");
    stop();
    EXPECT_EQ(slurp(place / "a"), "hello");
}

TEST_F(Places, WhatACrashLeftAsideGoesBackWhenItIsReplicatedElsewhereOrNotAtAll) {
    const fs::path note = base / "state/aside";
    start();
    file("kept");
    EXPECT_TRUE(fs::exists(note)) << "steadd asks for it";
    tree.reset(); // a crash
    Tree::Options other = options();
    other.roots[0].hidden_suffix = "_elsewhere";
    auto opened = Tree::open(std::move(other));
    ASSERT_TRUE(opened) << opened.error().text();
    EXPECT_FALSE(fs::exists(hidden));
    EXPECT_THAT(names_in(base / "data_elsewhere/data"), ElementsAre("kept"));
    opened->reset(); // again
    fs::create_directory(base / "other");
    other = options();
    other.roots[0].place = base / "other";
    opened = Tree::open(std::move(other));
    ASSERT_TRUE(opened) << opened.error().text();
    EXPECT_THAT(names_in(place), ElementsAre("kept"));
    EXPECT_FALSE(fs::exists(base / "data_elsewhere"));
    EXPECT_THAT(alarms, Contains(HasSubstr(place.string() + " is not replicated as before")));
    ASSERT_TRUE((*opened)->close());
    EXPECT_FALSE(fs::exists(note)) << "all are at their place";
}

TEST_F(Places, WhatCannotGoBackIsNotForgotten) {
    start();
    file("kept");
    tree.reset();
    set_flag(place, false);
    fs::remove_all(place);
    fs::create_directory(place);
    spew(place / "mine", "somebody else's");
    fs::create_directory(base / "other");
    Tree::Options other = options();
    other.roots[0].place = base / "other";
    auto opened = Tree::open(std::move(other));
    ASSERT_TRUE(opened) << opened.error().text();
    EXPECT_THAT(alarms, Contains(HasSubstr("its data are still in " + hidden.string())));
    EXPECT_THAT(names_in(aside), ElementsAre("kept"));
    ASSERT_TRUE((*opened)->close());
    EXPECT_THAT(slurp(base / "state/aside"), HasSubstr(place.string()));
    EXPECT_THAT(slurp(base / "state/aside"), Not(HasSubstr((base / "other").string())));
}

TEST_F(Places, CrashBeforeTheMountPointIsMarked) {
    spew(place / "a", "hello");
    fs::create_directories(hidden / "mount.new");
    start();
    EXPECT_EQ(slurp(aside / "a"), "hello");
    stop();
    EXPECT_EQ(slurp(place / "a"), "hello");
}

TEST_F(Places, CrashBeforeTheExchange) {
    spew(place / "a", "hello");
    fs::create_directories(aside);
    ASSERT_EQ(::setxattr(aside.c_str(), "trusted.stead.mount", "1", 1, 0), 0);
    start();
    EXPECT_EQ(slurp(aside / "a"), "hello");
    EXPECT_THAT(names_in(place), IsEmpty());
}

TEST_F(Places, CrashAfterTheExchangeOfOpenAndOfClose) {
    spew(place / "a", "hello");
    start();
    tree.reset();
    set_flag(place, false); // close() has cleared the flag, or open() not yet set it
    start();
    EXPECT_EQ(slurp(aside / "a"), "hello");
    tree.reset();
    set_flag(place, false);
    ASSERT_EQ(::renameat2(AT_FDCWD, place.c_str(), AT_FDCWD, aside.c_str(), RENAME_EXCHANGE),
              0); // close() got that far
    start();
    EXPECT_EQ(slurp(aside / "a"), "hello");
    EXPECT_THAT(names_in(place), IsEmpty());
}

TEST_F(Places, AMissingMountPointIsMadeAgain) {
    spew(place / "a", "hello");
    start();
    tree.reset();
    set_flag(place, false);
    fs::remove(place);
    start();
    EXPECT_TRUE(fs::exists(place));
    stop();
    EXPECT_EQ(slurp(place / "a"), "hello");
}

TEST_F(Places, AnEmptyMountPointIsNeverData) {
    start();
    tree.reset();
    fs::remove_all(aside);
    EXPECT_THAT(refusal(), HasSubstr("holds no data"));
}

TEST_F(Places, TwoClaimsAreRefused) {
    spew(place / "a", "hello");
    start();
    tree.reset();
    set_flag(place, false);
    fs::remove(place);
    fs::create_directory(place);
    EXPECT_THAT(refusal(), HasSubstr("both it and"));
}

TEST_F(Places, WhatWasWrittenIntoTheMountPointIsReported) {
    start();
    tree.reset();
    set_flag(place, false);
    spew(place / "early", "x");
    start();
    EXPECT_THAT(alarms, ElementsAre(HasSubstr("while nothing was mounted")));
    stop();
    EXPECT_EQ(slurp(aside / "early"), "x") << "nobody deletes what a person may want";
}

TEST_F(Places, ErrorsNameTheDirectoryAndTheRemedy) {
    fs::remove(place);
    EXPECT_THAT(refusal(), HasSubstr(place.string() + ": the replicated directory is missing"));
    spew(place, "x");
    EXPECT_THAT(refusal(), HasSubstr("is not a directory"));
    fs::remove(place);
    fs::create_symlink(base, place);
    EXPECT_THAT(refusal(), HasSubstr("is not a directory"));
    EXPECT_FALSE(fs::exists(hidden));
}

TEST_F(Places, AMountPointIsRefused) {
    ASSERT_EQ(::mount("tmpfs", place.c_str(), "tmpfs", 0, nullptr), 0);
    EXPECT_THAT(refusal(), HasSubstr("is a mount point: unmount it"));
    ::umount(place.c_str());
    ASSERT_EQ(::mount(base.c_str(), place.c_str(), nullptr, MS_BIND, nullptr), 0);
    EXPECT_THAT(refusal(), HasSubstr("is a mount point")) << "also of the same file system";
    ::umount(place.c_str());
}

TEST_F(Places, ASubMountIsRefusedAndTheDataGoBack) {
    fs::create_directories(place / "a/b");
    fs::create_directory(base / "other");
    ASSERT_EQ(::mount((base / "other").c_str(), (place / "a/b").c_str(), nullptr, MS_BIND, nullptr), 0);
    EXPECT_THAT(refusal(), testing::AllOf(HasSubstr("a/b"), HasSubstr("mounted inside")));
    EXPECT_TRUE(fs::exists(place / "a"));
    ::umount((place / "a/b").c_str());
}

TEST_F(Places, WhatNobodyCanChangeIsRefusedAndTheDataGoBack) {
    fs::create_directory(place / "sub");
    spew(place / "sub/fixed", "x");
    for (const bool known : {false, true}) {
        if (known) {
            start();
            stop();
        }
        set_flag(place / "sub/fixed", true);
        EXPECT_THAT(refusal(), AllOf(HasSubstr("sub/fixed"), HasSubstr("chattr -i")));
        set_flag(place / "sub/fixed", false);
        EXPECT_EQ(slurp(place / "sub/fixed"), "x");
    }
    start();
}

TEST_F(Places, TwoOwnersAreRefused) {
    start();
    const auto second = Tree::open(options());
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().text(), HasSubstr("another process owns it"));
    tree.reset();
    start();
}

TEST_F(Places, AnOwnerThatIsJustDyingIsWaitedFor) {
    start();
    std::thread end([this] {
        std::this_thread::sleep_for(std::chrono::milliseconds{300});
        tree.reset();
    });
    const auto second = Tree::open(options());
    end.join();
    EXPECT_TRUE(second) << second.error().text();
}

TEST_F(Places, CloseSaysWhatIsStillMounted) {
    start();
    ASSERT_EQ(::mount("tmpfs", place.c_str(), "tmpfs", 0, nullptr), 0);
    const auto closed = tree->close();
    EXPECT_FALSE(closed);
    EXPECT_THAT(closed.error().text(), HasSubstr("is a mount point: unmount it"));
    ::umount(place.c_str());
    stop();
}

TEST_F(Places, AMissingMarkerStopsBeforeAnythingMoves) {
    to_check = {"sub/MARKER"};
    spew(place / "a", "hello");
    EXPECT_THAT(refusal(), AllOf(HasSubstr((place / "sub/MARKER").string()), HasSubstr("<tocheck>")));
    EXPECT_EQ(slurp(place / "a"), "hello");
    EXPECT_EQ(xattr(place / "a", "trusted.stead.fid"), "none") << "it may be anybody's";
    fs::create_directory(place / "sub");
    spew(place / "sub/MARKER", "");
    start();
    stop();
    fs::remove(place / "sub/MARKER");
    EXPECT_THAT(refusal(), HasSubstr("<tocheck>"));
    EXPECT_EQ(slurp(place / "a"), "hello");
    spew(place / "sub/MARKER", "again");
    start();
    EXPECT_THAT(tree->foreign(), testing::Contains(directory(at_name(root, "sub"))))
        << "what was changed until the marker was back is noticed";
}

TEST_F(Places, AnEmptyDirectoryInPlaceOfTheGoodCopyIsRefused) {
    good_copy = true;
    start(); // a new directory, the first time
    stop();
    start(); // it may be empty
    stop();
    spew(place / "a", "hello");
    start();
    stop();
    fs::rename(place, base / "unmounted");
    fs::create_directories(place / "lost+found");
    EXPECT_THAT(refusal(), AllOf(HasSubstr(place.string()), HasSubstr("is its disk mounted"), HasSubstr("stead prim")));
    EXPECT_EQ(xattr(place, "trusted.stead.fid"), "none");
    good_copy = false; // one that gets everything from the other node
    start();
    stop();
    good_copy = true;
    fs::remove_all(place);
    fs::create_directory(place);
    spew(place / "restored", "from a backup");
    start();
    stop();
    fs::remove_all(place);
    fs::rename(base / "unmounted", place);
    start();
    EXPECT_EQ(slurp(aside / "a"), "hello");
}

TEST_F(Places, AMissingMarkerBringsBackWhatACrashLeftAside) {
    to_check = {"MARKER"};
    spew(place / "a", "hello");
    spew(place / "MARKER", "");
    start();
    tree.reset(); // a crash: aside, behind an immutable mount point
    fs::remove(aside / "MARKER");
    EXPECT_THAT(refusal(), AllOf(HasSubstr((place / "MARKER").string()), HasSubstr("<tocheck>")));
    EXPECT_EQ(slurp(place / "a"), "hello") << "the data are at their place";
    spew(place / "MARKER", "again");
    spew(place / "a", "hello again");
    start();
    EXPECT_EQ(slurp(aside / "a"), "hello again");
    EXPECT_THAT(tree->foreign(), testing::IsSupersetOf({inode(at_name(root, "a")), inode(at_name(root, "MARKER"))}));
    tree.reset(); // again, before what was changed is accounted for
    fs::remove(aside / "MARKER");
    EXPECT_THAT(refusal(), HasSubstr("<tocheck>"));
    spew(place / "MARKER", "");
    start();
    EXPECT_THAT(tree->foreign(), testing::Contains(inode(at_name(root, "a")))) << "it is not forgotten";
    stop();
}

} // namespace stead::mirror::test
