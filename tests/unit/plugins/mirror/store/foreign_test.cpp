// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

#include <sys/resource.h>

/// What is found at open: changes behind our back, and many files.
namespace stead::mirror::test {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::SizeIs;
using testing::UnorderedElementsAre;

struct Foreign : TreeTest {
    void SetUp() override {
        TreeTest::SetUp();
        start();
        a = file("a", std::string(100'000, 'a'));
        d = folder("d");
        b = make(d, "b", S_IFREG | 0600);
        stop();
    }
    Fid a, b, d;
};

TEST_F(Foreign, NothingAfterACloseAndNothingAfterACrash) {
    start();
    EXPECT_THAT(tree->foreign(), IsEmpty());
    EXPECT_FALSE(fs::exists(base / "state/manifest"));
    file("new");
    start();
    EXPECT_THAT(tree->foreign(), IsEmpty()) << "what we did ourselves";
    stop();
    start();
    EXPECT_THAT(tree->foreign(), IsEmpty());
}

TEST_F(Foreign, WithoutAManifestTheDataAreAtTheirPlaceAndAllCounts) {
    start();
    fs::create_directory(base / "state/manifest"); // it cannot be written, as on a full disk
    stop();
    EXPECT_EQ(fs::file_size(place / "a"), 100'000u);
    EXPECT_THAT(alarms, Contains(HasSubstr("manifest")));
    fs::remove(base / "state/manifest");
    start();
    EXPECT_THAT(tree->foreign(), IsSupersetOf({inode(a), zone(a, 0), zone(a, 1), inode(b), directory(root)}));
}

TEST_F(Foreign, AChangedFileWithAllItsZones) {
    ASSERT_EQ(::truncate((place / "a").c_str(), 70'000), 0);
    start();
    EXPECT_THAT(tree->foreign(), UnorderedElementsAre(inode(a), zone(a, 0), zone(a, 1)));
}

/// The zones that were cut off are on the other side still: it must send them if it is to be followed.
TEST_F(Foreign, ACutFileWithTheZonesThatItHad) {
    ASSERT_EQ(::truncate((place / "a").c_str(), 70), 0);
    start();
    EXPECT_THAT(tree->foreign(), UnorderedElementsAre(inode(a), zone(a, 0), zone(a, 1)));
}

TEST_F(Foreign, BytesOfTheSameSizeAndAttributes) {
    const int fd = ::open((place / "d/b").c_str(), O_WRONLY);
    ASSERT_EQ(::pwrite(fd, "x", 1, 0), 1);
    ::close(fd);
    ::chmod((place / "d").c_str(), 0700);
    ::chmod(place.c_str(), 0711);
    start();
    EXPECT_THAT(tree->foreign(),
                UnorderedElementsAre(inode(b), zone(b, 0), inode(d), directory(d), inode(root), directory(root)));
}

TEST_F(Foreign, AttributesOfTheDirectoryItself) {
    ASSERT_EQ(::setxattr(place.c_str(), "user.x", "y", 1, 0), 0);
    start();
    EXPECT_THAT(tree->foreign(), UnorderedElementsAre(inode(root), directory(root)));
}

/// It is on this node only, and its directory was not changed when it became part of the mirror.
TEST_F(Foreign, WhatWasExcludedAndIsNotAnyMore) {
    excluded = {"d/tmp"};
    fs::create_directory(place / "d/tmp");
    start();
    EXPECT_TRUE(tree->configured_anew());
    ASSERT_EQ(tree->foreign_accounted(), 0);
    stop();
    start();
    EXPECT_FALSE(tree->configured_anew());
    EXPECT_THAT(tree->foreign(), IsEmpty());
    stop();
    excluded = {};
    start();
    EXPECT_TRUE(tree->configured_anew());
    const Fid tmp = at_name(d, "tmp");
    EXPECT_THAT(tree->foreign(), UnorderedElementsAre(inode(tmp), directory(tmp), directory(d)));
}

TEST_F(Foreign, AnotherConfigurationIsSeenAfterACrashAndUntilItIsAccountedFor) {
    start();
    EXPECT_FALSE(tree->configured_anew());
    excluded_regex = {".*\\.tmp"};
    for (int i = 0; i < 2; ++i) {
        start(); // the data were left aside
        EXPECT_TRUE(tree->configured_anew());
        EXPECT_THAT(tree->foreign(), IsEmpty());
    }
    ASSERT_EQ(tree->foreign_accounted(), 0);
    start();
    EXPECT_FALSE(tree->configured_anew());
}

TEST_F(Foreign, NewGoneAndMoved) {
    spew(place / "d/new", "n");
    fs::remove(place / "a");
    start();
    const Fid fresh = at_name(d, "new");
    EXPECT_THAT(tree->foreign(), UnorderedElementsAre(inode(a), inode(root), directory(root), inode(d), directory(d),
                                                      inode(fresh), zone(fresh, 0)));
    EXPECT_FALSE(is_there(inode(a)));
    tree.reset();
    start();
    EXPECT_THAT(tree->foreign(), SizeIs(7)) << "found again until it is accounted for";
    EXPECT_EQ(tree->foreign_accounted(), 0);
    start();
    EXPECT_THAT(tree->foreign(), IsEmpty());
}

TEST_F(Foreign, ACopyMadeWithItsAttributesGetsANameOfItsOwn) {
    const std::string mark = xattr(place / "a", "trusted.stead.fid");
    spew(place / "copy", "c");
    ASSERT_EQ(::setxattr((place / "copy").c_str(), "trusted.stead.fid", mark.data(), mark.size(), 0), 0);
    start();
    const Fid copied = at_name(root, "copy");
    EXPECT_NE(copied, a);
    EXPECT_EQ(at_name(root, "a"), a);
    EXPECT_THAT(tree->foreign(), testing::IsSupersetOf({inode(copied), zone(copied, 0), directory(root)}));
}

TEST_F(Foreign, ADamagedOrLostManifestMeansEverything) {
    std::string bytes = slurp(base / "state/manifest");
    for (const std::size_t byte : {std::size_t{0}, std::size_t{9}, std::size_t{17}, bytes.size() - 1}) {
        std::string damaged = bytes;
        damaged[byte] ^= 1;
        spew(base / "state/manifest", damaged);
        start();
        EXPECT_THAT(tree->foreign(), SizeIs(2 + 1 + 2 + 2 + 1)) << byte;
        EXPECT_THAT(alarms, SizeIs(1));
        alarms.clear();
        stop();
    }
    fs::remove(base / "state/manifest");
    start();
    EXPECT_THAT(tree->foreign(), SizeIs(8));
}

TEST_F(Foreign, ANewDirectoryInItsPlace) {
    fs::rename(place, base / "other");
    fs::create_directory(place);
    spew(place / "x", "x");
    start();
    EXPECT_THAT(tree->foreign(), testing::IsSupersetOf({inode(a), inode(b), inode(d), directory(root)}));
    EXPECT_FALSE(tree->empty());
}

TEST_F(Foreign, EmptyAsksForNamesOnly) {
    start();
    EXPECT_FALSE(tree->empty());
    fs::remove_all(aside / "a");
    fs::remove_all(aside / "d");
    EXPECT_TRUE(tree->empty());
}

/// Processor time of this process, in milliseconds: the machine may be busy with others.
long processor_ms() {
    struct rusage used {};
    ::getrusage(RUSAGE_SELF, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
}

TEST_F(Foreign, AHundredThousandFilesAreIndexed) {
    for (int i = 0; i < 100; ++i) {
        const fs::path dir = place / ("many" + std::to_string(i));
        fs::create_directory(dir);
        for (int j = 0; j < 1000; ++j) {
            ASSERT_EQ(::mknod((dir / std::to_string(j)).c_str(), S_IFREG | 0600, 0), 0);
        }
    }
    const long made = processor_ms();
    start();
    const long marked = processor_ms();
    EXPECT_GE(tree->foreign().size(), 100'000u);
    stop();
    const long closed = processor_ms();
    start();
    const long opened = processor_ms();
    EXPECT_THAT(tree->foreign(), IsEmpty());
    EXPECT_NE(at_name(at_name(root, "many7"), "999"), Fid{});
    std::vector<Target> all;
    ASSERT_EQ(tree->list(std::nullopt, all), 0);
    EXPECT_THAT(all, SizeIs(8 + 200 + 100'000));
    std::printf("100,000 files, processor time: first open %ld ms, close %ld ms, open %ld ms, list %ld ms\n",
                marked - made, closed - marked, opened - closed, processor_ms() - opened);
    EXPECT_LT(opened - closed, 5'000) << "a million inodes are indexed in some seconds";
}

} // namespace stead::mirror::test
