// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

#include <stead/base/files.hpp>

#include <barrier>
#include <map>
#include <thread>

#include <linux/fiemap.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

/// Reading targets, and overwriting them with what another node has.
namespace stead::mirror::test {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;
using Entry = copy::Listing::Entry;

struct Storing : TreeTest {
    void SetUp() override {
        TreeTest::SetUp();
        start();
    }
    template <class What>
    Errno put(const Target& target, What what, Seq parked = 50) {
        stored = {};
        Content content;
        content.what = std::move(what);
        return tree->store(target, content, parked, stored);
    }
    Errno list(const Fid& fid, std::vector<Entry> entries, Seq parked = 50) {
        return put(directory(fid), copy::Listing{std::move(entries)}, parked);
    }
    static Entry regular(const std::string& name, const Fid& fid) { return {name, fid, S_IFREG, 0, {}}; }
    static Entry dir(const std::string& name, const Fid& fid) { return {name, fid, S_IFDIR, 0, {}}; }

    Tree::Stored stored;
    std::vector<Fid>& created = stored.created;
};

TEST_F(Storing, ReadsListingsByNameWithTypes) {
    const Fid b = file("b"), a = folder("a");
    const Fid link = make(root, "link", S_IFLNK | 0777, "b");
    const Fid null = make(root, "null", S_IFCHR | 0600, {}, makedev(1, 3));
    EXPECT_THAT(read<copy::Listing>(directory(root)).entries,
                ElementsAre(dir("a", a), regular("b", b), Entry{"link", link, S_IFLNK, 0, "b"},
                            Entry{"null", null, S_IFCHR, makedev(1, 3), {}}));
    EXPECT_FALSE(is_there(directory(b)));
    EXPECT_FALSE(is_there(inode(tree->fresh())));
}

/// No descriptor can be opened as long as it lives.
class NoDescriptors {
public:
    NoDescriptors() {
        EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
        const rlimit none{0, before_.rlim_max};
        EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    }
    ~NoDescriptors() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0); }
    NoDescriptors(const NoDescriptors&) = delete;
    NoDescriptors& operator=(const NoDescriptors&) = delete;

private:
    rlimit before_{};
};

// Goal: what cannot be opened for want of descriptors is not taken for what is gone: a resync would leave it out.
TEST_F(Storing, WhatCannotBeOpenedIsNotGone) {
    const Fid a = folder("a");
    const Fid link = make(a, "link", S_IFLNK | 0777, "there"); // never kept open
    const Fid b = make(a, "b", S_IFREG | 0644);
    std::vector<Target> listed;
    {
        const NoDescriptors limit;
        Payload payload;
        std::uint64_t digest = 0;
        for (const Target& target : {directory(a), inode(a), inode(link), inode(b)}) {
            EXPECT_EQ(tree->read(target, payload), EMFILE);
            EXPECT_EQ(tree->digest(target, digest), EMFILE);
        }
        EXPECT_EQ(tree->list({}, listed), EMFILE);
        EXPECT_EQ(tree->list(link, listed), EMFILE);
        copy::Inode other;
        other.mode = S_IFLNK | 0777;
        other.link = "there";
        EXPECT_EQ(put(inode(link), other), EMFILE) << "and no second one is made";
    }
    EXPECT_THAT(created, IsEmpty());
    EXPECT_EQ(read<copy::Listing>(directory(a)).entries.size(), 2u);
    EXPECT_TRUE(fs::is_empty(park));
}

// Goal: what somebody makes in the folder aside while the mirror runs is found by a verify, is in nobody's way, and is
// kept.
TEST_F(Storing, WhatWasMadePastTheMirrorIsFoundAndPutOut) {
    const Fid a = folder("a");
    const Fid own = make(a, "own", S_IFREG | 0644);
    std::uint64_t before = 0, with = 0, after = 0;
    ASSERT_EQ(tree->digest(directory(a), before), 0);
    spew(aside / "a/new", "precious");
    fs::create_directory(aside / "a/box");
    spew(aside / "a/box/inner", "too");
    ASSERT_EQ(tree->digest(directory(a), with), 0);
    EXPECT_NE(before, with) << "a verify says so";
    EXPECT_THAT(read<copy::Listing>(directory(a)).entries, ElementsAre(regular("own", own))) << "it is not replicated";
    const Fid fresh = tree->fresh();
    ASSERT_EQ(list(a, {regular("new", fresh), regular("own", own)}), 0) << "the other node has made the same name";
    EXPECT_THAT(created, ElementsAre(fresh));
    EXPECT_EQ(slurp(aside / "a/new"), "");
    std::map<std::string, std::string> kept;
    for (const auto& entry : fs::recursive_directory_iterator(hidden / "strangers")) {
        if (entry.is_regular_file()) {
            kept[entry.path().filename()] = slurp(entry.path());
        }
    }
    EXPECT_THAT(kept, UnorderedElementsAre(testing::Pair("new", "precious"), testing::Pair("inner", "too")));
    ASSERT_EQ(list(a, {regular("own", own)}), 0);
    ASSERT_EQ(tree->digest(directory(a), after), 0);
    EXPECT_EQ(before, after);
}

TEST_F(Storing, ReadsAttributes) {
    const Fid fid = file("f", std::string(70'000, 'x'));
    ASSERT_EQ(apply(change::SetXattr{fid, "user.b", "2"}), 0);
    ASSERT_EQ(apply(change::SetXattr{fid, "user.a", "1"}), 0);
    const copy::Inode got = read<copy::Inode>(inode(fid));
    EXPECT_EQ(got.mode, S_IFREG | 0644u);
    EXPECT_EQ(got.size, 70'000u);
    EXPECT_THAT(got.xattrs, ElementsAre(std::pair<std::string, std::string>("user.a", "1"),
                                        std::pair<std::string, std::string>("user.b", "2")));
    EXPECT_THAT(got.data, ElementsAre(copy::ZoneRange{0, 2}));
}

TEST_F(Storing, ReadsZonesWithoutTrailingZerosAndHolesForNothing) {
    const Fid fid = file("f");
    const std::uint64_t far = std::uint64_t{5} << 30;
    ASSERT_EQ(apply(change::Write{fid, far, "data", false}), 0);
    ASSERT_EQ(apply(change::Write{fid, far + 100, std::string(1, '\0'), false}), 0);
    const copy::Zone zone_at_end = read<copy::Zone>(zone(fid, far / zone_bytes));
    EXPECT_EQ(zone_at_end.length, 101u);
    EXPECT_EQ(zone_at_end.data, "data");
    EXPECT_EQ(read<copy::Zone>(zone(fid, 3)), (copy::Zone{zone_bytes, {}}));
    EXPECT_FALSE(is_there(zone(fid, far / zone_bytes + 1)));
    EXPECT_THAT(read<copy::Inode>(inode(fid)).data, ElementsAre(copy::ZoneRange{far / zone_bytes, 1}));
    std::vector<Target> targets;
    ASSERT_EQ(tree->list(fid, targets), 0);
    EXPECT_THAT(targets, SizeIs(1 + far / zone_bytes + 1));
}

TEST_F(Storing, DigestsAreOfContentOnly) {
    const Fid a = file("a", std::string(zone_bytes, '\0')), b = file("b");
    ASSERT_EQ(apply(change::Attributes{b,
                                       change::Attributes::size_set | change::Attributes::mtime_set,
                                       0,
                                       0,
                                       0,
                                       zone_bytes,
                                       {},
                                       mtime(aside / "a"),
                                       false}),
              0);
    std::uint64_t of_a = 0, of_b = 0;
    for (const auto& target_of :
         {+[](const Fid& fid) { return inode(fid); }, +[](const Fid& fid) { return zone(fid, 0); }}) {
        ASSERT_EQ(tree->digest(target_of(a), of_a), 0);
        ASSERT_EQ(tree->digest(target_of(b), of_b), 0);
        EXPECT_EQ(of_a, of_b) << "zeros or a hole";
    }
    ASSERT_EQ(apply(change::Write{a, 5, "x", false}), 0);
    ASSERT_EQ(tree->digest(zone(a, 0), of_a), 0);
    EXPECT_NE(of_a, of_b);
    ASSERT_EQ(tree->digest(zone(a, 9), of_a), 0);
    EXPECT_EQ(of_a, 0u);
}

// A write behind the end names neither the zone in which the file ended nor those that are holes from then on; what is
// compared meanwhile must not differ for it.
TEST_F(Storing, ADigestOfAZoneIsTheSameWhereAWriteBehindItMakesTheFileLonger) {
    const Fid fid = file("f", "abc");
    std::array<std::uint64_t, 2> before{}, after{};
    for (std::size_t i = 0; i < 2; ++i) {
        ASSERT_EQ(tree->digest(zone(fid, i), before[i]), 0);
    }
    ASSERT_EQ(apply(change::Write{fid, 2 * zone_bytes, "x", false}), 0);
    for (std::size_t i = 0; i < 2; ++i) {
        ASSERT_EQ(tree->digest(zone(fid, i), after[i]), 0);
    }
    EXPECT_EQ(before, after);
    EXPECT_NE(after[0], 0u);
}

// Both are under way at the same time during a resync. The zone's content reaches the end that the file has here, or
// the one that the write gave it there.
TEST_F(Storing, AZoneIsStoredBesideAWriteThatMakesTheFileLonger) {
    const auto beside = [](const auto& one, const auto& other) {
        std::barrier begin(2);
        std::thread thread([&] {
            begin.arrive_and_wait();
            one();
        });
        begin.arrive_and_wait();
        other();
        thread.join();
    };
    for (int i = 0; i < 2000; ++i) {
        const Fid fid = file("f", std::string(i % 2 == 0 ? zone_bytes : zone_bytes / 2, 'x'));
        const std::string next(100, 'y');
        beside([&] { EXPECT_EQ(apply(change::Write{fid, zone_bytes, next, false}), 0); },
               [&] { EXPECT_EQ(put(zone(fid, 0), copy::Zone{zone_bytes, "z"}), 0); });
        ASSERT_EQ(read<copy::Inode>(inode(fid)).size, zone_bytes + next.size()) << i;
        ASSERT_EQ(read<copy::Zone>(zone(fid, 1)).data, next) << i;
        ASSERT_EQ(apply(change::Remove{root, "f", fid, false}), 0);
    }
}

TEST_F(Storing, AZoneKeepsTheTimeAndMakesHoles) {
    const Fid fid = file("f", std::string(3 * zone_bytes, 'x'));
    const Time before = mtime(aside / "f");
    ASSERT_EQ(put(zone(fid, 1), copy::Zone{zone_bytes, {}}), 0);
    ASSERT_EQ(put(zone(fid, 2), copy::Zone{zone_bytes, "new"}), 0);
    EXPECT_EQ(slurp(aside / "f"),
              std::string(zone_bytes, 'x') + std::string(zone_bytes, '\0') + "new" + std::string(zone_bytes - 3, '\0'));
    EXPECT_EQ(mtime(aside / "f"), before);
    EXPECT_LE(attributes_of(aside / "f").st_blocks, 2 * 128 - 100);
    EXPECT_EQ(put(zone(fid, 1), copy::Zone{zone_bytes + 1, {}}), EINVAL);
    EXPECT_EQ(put(zone(fid, ~std::uint64_t{0} / 2), copy::Zone{1, "x"}), EINVAL);
}

TEST_F(Storing, AnInodeIsOverwrittenWhole) {
    const Fid fid = file("f", std::string(3 * zone_bytes, 'x'));
    ASSERT_EQ(apply(change::SetXattr{fid, "user.old", "1"}), 0);
    ASSERT_EQ(apply(change::SetXattr{fid, "user.same", "1"}), 0);
    const std::string capability("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    copy::Inode wanted{S_IFREG | 04750, 8, 9, 0, 2 * zone_bytes + 5, {77, 88}, {}, {}, {{0, 1}}};
    wanted.xattrs = {{"security.capability", capability}, {"user.new", "2"}, {"user.same", "1"}};
    ASSERT_EQ(put(inode(fid), wanted), 0);
    EXPECT_THAT(created, IsEmpty());
    EXPECT_EQ(read<copy::Inode>(inode(fid)), wanted);
    EXPECT_EQ(slurp(aside / "f"), std::string(zone_bytes, 'x') + std::string(zone_bytes + 5, '\0'))
        << "what holds no data there holds none here";
    EXPECT_EQ(xattr(aside / "f", "trusted.stead.fid").size(), 16u);
}

TEST_F(Storing, AclsAreOverwritten) {
    const std::string acl("\2\0\0\0"
                          "\1\0\7\0\xff\xff\xff\xff"
                          "\2\0\7\0\xe8\3\0\0"
                          "\4\0\5\0\xff\xff\xff\xff"
                          "\x10\0\7\0\xff\xff\xff\xff"
                          "\x20\0\0\0\xff\xff\xff\xff",
                          44);
    const Fid fid = file("f");
    copy::Inode wanted{S_IFREG | 0770, 0, 0, 0, 0, {1, 2}, {}, {{"system.posix_acl_access", acl}}, {}};
    ASSERT_EQ(put(inode(fid), wanted), 0);
    EXPECT_EQ(read<copy::Inode>(inode(fid)), wanted);
    wanted = {S_IFREG | 0640, 0, 0, 0, 0, {1, 2}, {}, {}, {}};
    ASSERT_EQ(put(inode(fid), wanted), 0);
    EXPECT_EQ(read<copy::Inode>(inode(fid)), wanted);
}

TEST_F(Storing, AListingParksLinksMovesAndCreates) {
    const Fid gone = file("gone", "g"), stays = file("stays", "s"), moved = file("old", "m"), d = folder("d"),
              e = folder("e"), other = tree->fresh(), fresh_dir = tree->fresh(), link = tree->fresh(),
              null = tree->fresh();
    make(e, "inside", S_IFREG | 0600);
    const Time before = mtime(aside / "d"), before_root = mtime(aside);
    ASSERT_EQ(list(d, {dir("e2", e), regular("hard", stays), regular("m", moved)}), 0);
    EXPECT_THAT(created, IsEmpty());
    EXPECT_EQ(mtime(aside / "d"), before) << "it comes with the inode";
    EXPECT_EQ(mtime(aside), before_root) << "of the directory that e left, too";
    EXPECT_TRUE(fs::exists(aside / "d/e2/inside"));
    EXPECT_FALSE(fs::exists(aside / "e"));
    ASSERT_EQ(
        list(root, {dir("d", d), Entry{"link", link, S_IFLNK, 0, "d/m"}, dir("new", fresh_dir),
                    Entry{"null", null, S_IFCHR, makedev(1, 3), {}}, regular("other", other), regular("stays", stays)}),
        0);
    EXPECT_THAT(created, UnorderedElementsAre(link, fresh_dir, null, other));
    EXPECT_THAT(names_in(aside), ElementsAre("d", "link", "new", "null", "other", "stays"));
    EXPECT_THAT(names_in(park), ElementsAre(testing::StartsWith("50-")));
    EXPECT_EQ(slurp(aside / "d/m"), "m");
    EXPECT_EQ(attributes_of(aside / "stays").st_nlink, 2u);
    EXPECT_EQ(fs::read_symlink(aside / "link"), "d/m");
    EXPECT_EQ(attributes_of(aside / "null").st_rdev, makedev(1, 3));
    ASSERT_EQ(list(d, {regular("back", gone)}, 51), 0) << "from the park";
    EXPECT_EQ(slurp(aside / "d/back"), "g");
}

TEST_F(Storing, ANameWithAnotherInodeIsReplaced) {
    const Fid a = file("x", "a"), b = file("y", "b");
    ASSERT_EQ(list(root, {regular("x", b), regular("y", a)}), 0);
    EXPECT_EQ(slurp(aside / "x"), "b");
    EXPECT_EQ(slurp(aside / "y"), "a");
    EXPECT_THAT(names_in(park), IsEmpty());
}

TEST_F(Storing, WhatWasCreatedIsReportedUntilTheEnd) {
    const Fid fid = tree->fresh();
    ASSERT_EQ(list(root, {regular("f", fid)}), 0);
    EXPECT_THAT(created, ElementsAre(fid));
    ASSERT_EQ(put(inode(fid), copy::Inode{S_IFREG | 0600, 0, 0, 0, 5, {1, 2}, {}, {}, {{0, 1}}}), 0);
    EXPECT_THAT(created, ElementsAre(fid)) << "met again";
    ASSERT_EQ(put(zone(fid, 0), copy::Zone{5, "hello"}), 0);
    EXPECT_THAT(created, IsEmpty()) << "a zone belongs to what the others report";
    start();
    ASSERT_EQ(list(root, {regular("f", fid)}), 0);
    EXPECT_THAT(created, ElementsAre(fid)) << "also after a crash";
    end_resync(false);
    ASSERT_EQ(list(root, {regular("f", fid)}), 0);
    EXPECT_THAT(created, IsEmpty());
    start();
    ASSERT_EQ(list(root, {regular("f", fid)}), 0);
    EXPECT_THAT(created, IsEmpty());
    EXPECT_EQ(slurp(aside / "f"), "hello");
}

TEST_F(Storing, TargetsBeforeTheirNamesWaitInThePark) {
    const Fid d = tree->fresh(), f = tree->fresh();
    ASSERT_EQ(list(d, {regular("f", f)}), 0);
    EXPECT_THAT(created, UnorderedElementsAre(d, f));
    const Fid g = tree->fresh();
    ASSERT_EQ(put(inode(g), copy::Inode{S_IFREG | 0600, 0, 0, 0, 1, {1, 2}, {}, {}, {{0, 1}}}), 0);
    EXPECT_THAT(created, ElementsAre(g));
    ASSERT_EQ(put(zone(g, 0), copy::Zone{1, "g"}), 0);
    ASSERT_EQ(list(root, {dir("d", d), regular("g", g)}), 0);
    EXPECT_TRUE(fs::exists(aside / "d/f"));
    EXPECT_EQ(slurp(aside / "g"), "g");
    EXPECT_THAT(names_in(park), IsEmpty());
}

// root/x/c/d becomes root/d/x/c: x moves below what is below it, and the listing of x is not among what is sent.
TEST_F(Storing, ADirectoryMayMoveBelowItself) {
    const Fid x = folder("x"), c = make(x, "c", S_IFDIR | 0700), d = make(c, "d", S_IFDIR | 0700);
    ASSERT_EQ(list(d, {dir("x", x)}), 0);
    ASSERT_EQ(list(c, {}), 0);
    ASSERT_EQ(list(root, {dir("d", d)}), 0);
    EXPECT_TRUE(fs::exists(aside / "d/x/c"));
    EXPECT_THAT(names_in(aside / "d/x/c"), IsEmpty());
    EXPECT_THAT(names_in(park), IsEmpty());
    EXPECT_EQ(xattr(aside / "d", "trusted.stead.from"), "none");
}

// root/x/c/d becomes root/c/d/x: the listing of c, from which d must step aside, is not among what is sent.
TEST_F(Storing, WhatSteppedAsideGoesBackAlsoAfterACrash) {
    const Fid x = folder("x"), c = make(x, "c", S_IFDIR | 0700), d = make(c, "d", S_IFDIR | 0700);
    ASSERT_EQ(list(d, {dir("x", x)}), 0);
    start();
    tree->purge(~Seq{0});
    ASSERT_EQ(list(root, {dir("c", c)}), 0);
    ASSERT_EQ(list(x, {}), 0);
    EXPECT_TRUE(fs::exists(aside / "c/d/x"));
    EXPECT_THAT(names_in(aside / "c/d/x"), IsEmpty());
    EXPECT_THAT(names_in(park), IsEmpty());
}

TEST_F(Storing, BadListingsAreRefused) {
    const Fid a = file("a");
    EXPECT_EQ(list(root, {regular("b", a), regular("a", a)}), EINVAL) << "not by name";
    EXPECT_EQ(list(root, {regular("x/y", a)}), EINVAL);
    EXPECT_EQ(list(root, {regular("..", a)}), EINVAL);
    EXPECT_EQ(list(root, {regular("x", {})}), EINVAL);
    EXPECT_EQ(list(root, {dir("x", a)}), EEXIST) << "another type";
    EXPECT_EQ(put(directory(root), copy::Zone{}), EINVAL);
    EXPECT_EQ(put(directory(a), copy::Listing{}), EEXIST);
}

TEST_F(Storing, TwoRoots) {
    const Fid hint = tree->fresh(0);
    stop();
    fs::create_directory(base / "other");
    Tree::Options two = options();
    two.roots.push_back({base / "other", suffix, {}, {}, {}});
    auto opened = Tree::open(two);
    ASSERT_TRUE(opened) << opened.error().text();
    tree = std::move(*opened);
    const Fid d = tree->fresh(1), f = tree->fresh(1);
    EXPECT_NE(hint.low & 0xffff, d.low & 0xffff);
    ASSERT_EQ(list(d, {regular("f", f)}), 0);
    EXPECT_THAT(names_in(base / "other_aside/park"), SizeIs(1)) << "it waits where it will be wanted";
    ASSERT_EQ(list(tree->root(1), {dir("d", d)}), 0);
    EXPECT_TRUE(fs::exists(base / "other_aside/data/d/f"));
    stop();
    EXPECT_TRUE(fs::exists(base / "other/d/f"));
}

TEST_F(Storing, ARandomTreeIsCopiedTargetByTarget) {
    const Fid d = folder("d"), e = make(d, "e", S_IFDIR | 02750);
    for (int i = 0; i < 30; ++i) {
        const Fid f = make(i % 2 != 0 ? e : d, "f" + std::to_string(i), S_IFREG | 0640);
        ASSERT_EQ(apply(change::Write{f, static_cast<std::uint64_t>(i) * 30'000, std::string(5000, 'a'), false}), 0);
        ASSERT_EQ(apply(change::Link{f, root, "l" + std::to_string(i)}), 0);
    }
    make(e, "link", S_IFLNK | 0777, "x");
    std::vector<Target> targets;
    ASSERT_EQ(tree->list(std::nullopt, targets), 0);
    std::sort(targets.begin(), targets.end());
    std::vector<std::pair<Target, Payload>> contents;
    for (const Target& target : targets) {
        contents.emplace_back(target, nullptr);
        ASSERT_EQ(tree->read(target, contents.back().second), 0);
    }
    stop();
    fs::remove_all(place); // an empty node of the same name
    fs::remove_all(base / "state");
    fs::create_directory(place);
    start();
    for (int pass = 0; pass < 2; ++pass) {
        for (const auto& [target, content] : contents) {
            ASSERT_EQ(tree->store(target, *content, 7, stored), 0);
        }
    }
    std::vector<Target> now;
    ASSERT_EQ(tree->list(std::nullopt, now), 0);
    std::sort(now.begin(), now.end());
    EXPECT_EQ(now, targets);
    for (const auto& [target, content] : contents) {
        std::uint64_t digest = 0;
        ASSERT_EQ(tree->digest(target, digest), 0);
        EXPECT_EQ(digest, digest_of(*content));
    }
    EXPECT_THAT(names_in(park), IsEmpty());
}

/// This node cut or punched a file by itself, and is to follow the other one now: the zones between are in nobody's
/// marks.
TEST_F(Storing, ZonesThatHoldDataThereAndNothingHereAreSaidToBeLacking) {
    const Fid fid = file("f", std::string(8 * zone_bytes, 'x'));
    copy::Inode there = read<copy::Inode>(inode(fid));
    ASSERT_EQ(put(inode(fid), there), 0);
    EXPECT_THAT(stored.lacking, IsEmpty());
    ASSERT_EQ(
        apply(change::Attributes{fid, change::Attributes::size_set, 0, 0, 0, 6 * zone_bytes + 100, {}, {}, false}), 0);
    ASSERT_EQ(
        apply(change::Allocate{fid, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, zone_bytes, 2 * zone_bytes, false}), 0);
    there.data = {{0, 1}, {2, 3}, {6, 2}};
    ASSERT_EQ(put(inode(fid), there), 0);
    EXPECT_THAT(stored.lacking, ElementsAre(Zones{2, 1}, Zones{7, 1}));
    EXPECT_THAT(created, IsEmpty());
    EXPECT_EQ(read<copy::Inode>(inode(fid)).size, 8 * zone_bytes);
    const Fid strange = tree->fresh();
    ASSERT_EQ(put(inode(strange), there), 0);
    EXPECT_THAT(created, ElementsAre(strange)) << "all of it is asked for";
    EXPECT_THAT(stored.lacking, IsEmpty());
}

/// An application has them open, and a resync comes across them: nobody can reach them on the other side.
TEST_F(Storing, WhatLostItsLastNameIsNotThere) {
    const Fid gone = folder("gone"), lost = file("lost", "bytes");
    const Fd open_folder(tree->open_inode(gone, O_RDONLY | O_DIRECTORY)), open_file(tree->open_inode(lost, O_RDWR));
    ASSERT_TRUE(open_folder && open_file);
    ASSERT_EQ(apply(change::Remove{root, "gone", gone, true}), 0);
    ASSERT_EQ(apply(change::Remove{root, "lost", lost, false}), 0);
    for (const Target& target : {directory(gone), inode(gone), inode(lost), zone(lost, 0)}) {
        EXPECT_FALSE(is_there(target));
        std::uint64_t digest = 1;
        EXPECT_EQ(tree->digest(target, digest), 0);
        EXPECT_EQ(digest, 0u);
    }
    for (const Fid& fid : {gone, lost}) {
        std::vector<Target> targets;
        EXPECT_EQ(tree->list(fid, targets), 0);
        EXPECT_THAT(targets, IsEmpty());
    }
}

/// The receiving side keeps it aside for a while; verify must not call that a difference.
TEST_F(Storing, WhatIsParkedHasTheDigestOfWhatIsGone) {
    const Fid gone = file("gone", "bytes");
    std::uint64_t digest = 0;
    ASSERT_EQ(tree->digest(inode(gone), digest), 0);
    EXPECT_NE(digest, 0u);
    ASSERT_EQ(apply(change::Remove{root, "gone", gone, false}, 7), 0);
    ASSERT_THAT(names_in(park), SizeIs(1));
    for (const Target& target : {inode(gone), zone(gone, 0)}) {
        digest = 1;
        EXPECT_EQ(tree->digest(target, digest), 0);
        EXPECT_EQ(digest, 0u);
    }
}

/// A listing and the inode that it names are copied at the same time, by two threads: each finds it missing.
TEST_F(Storing, AnInodeThatTwoTargetsBringAtOnceIsMadeOnce) {
    constexpr int rounds = 300;
    std::vector<Fid> fids;
    for (int i = 0; i < rounds; ++i) {
        fids.push_back(tree->fresh());
    }
    std::vector<Entry> entries;
    std::barrier begin(2);
    Errno error = 0;
    std::thread names([&] {
        Tree::Stored reported;
        for (int i = 0; i < rounds; ++i) {
            entries.push_back(regular("f" + std::to_string(1000 + i), fids[static_cast<std::size_t>(i)]));
            begin.arrive_and_wait();
            Content content;
            content.what = copy::Listing{entries};
            const Errno failed = tree->store(directory(root), content, 50, reported);
            error = failed != 0 ? failed : error;
        }
    });
    for (const Fid& fid : fids) {
        begin.arrive_and_wait();
        copy::Inode attributes;
        attributes.mode = S_IFREG | 0640;
        attributes.size = 5;
        EXPECT_EQ(put(inode(fid), attributes), 0);
        EXPECT_EQ(put(zone(fid, 0), copy::Zone{5, "bytes"}), 0);
    }
    names.join();
    EXPECT_EQ(error, 0);
    EXPECT_THAT(names_in(park), IsEmpty());
    for (int i = 0; i < rounds; ++i) {
        EXPECT_EQ(slurp(aside / ("f" + std::to_string(1000 + i))), "bytes") << i;
    }
}

namespace {

/// Whether some of its bytes have no place on the disk yet.
bool only_in_memory(const fs::path& path) {
    constexpr std::size_t extents = 16;
    alignas(struct fiemap) std::array<char, sizeof(struct fiemap) + extents * sizeof(struct fiemap_extent)> space{};
    auto* map = reinterpret_cast<struct fiemap*>(space.data());
    map->fm_length = FIEMAP_MAX_OFFSET;
    map->fm_extent_count = extents;
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (::ioctl(fd.get(), FS_IOC_FIEMAP, map) != 0) {
        return false; // one in memory altogether, as tmpfs
    }
    return std::any_of(map->fm_extents, map->fm_extents + map->fm_mapped_extents,
                       [](const auto& extent) { return (extent.fe_flags & FIEMAP_EXTENT_DELALLOC) != 0; });
}

} // namespace

/// Nobody counts as unsynced what was there before: a power cut must not take it back.
TEST_F(TreeTest, OpeningFlushesWhatIsThere) {
    spew(place / "restored", std::string(100'000, 'x'));
    if (!only_in_memory(place / "restored")) {
        GTEST_SKIP() << "this file system allocates at once or never, or has just flushed by itself";
    }
    start();
    EXPECT_FALSE(only_in_memory(aside / "restored"));
}

} // namespace stead::mirror::test
