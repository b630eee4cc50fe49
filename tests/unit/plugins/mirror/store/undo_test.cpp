// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

#include <stead/mirror/lost.hpp>

#include <linux/falloc.h>

/// A resync that breaks off is rolled back; what it took after a split is exported.
namespace stead::mirror::test {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

struct Undo : TreeTest {
    void SetUp() override {
        TreeTest::SetUp();
        start();
        kept = file("kept", std::string(2 * zone_bytes, 'k'));
        gone = file("gone", "gone");
        d = folder("d");
        deep = make(d, "deep", S_IFREG | 0640);
        ASSERT_EQ(apply(change::Write{deep, 0, "deep", false}), 0);
        e = folder("e");
        before = picture();
    }
    std::map<Target, std::uint64_t> picture() {
        std::vector<Target> all;
        EXPECT_EQ(tree->list(std::nullopt, all), 0);
        std::map<Target, std::uint64_t> digests;
        for (const Target& target : all) {
            EXPECT_EQ(tree->digest(target, digests[target]), 0);
        }
        return digests;
    }
    template <class What>
    void put(const Target& target, What what) {
        Tree::Stored stored;
        Content content;
        content.what = std::move(what);
        ASSERT_EQ(tree->save_undo({target}), 0);
        ASSERT_EQ(tree->store(target, content, 60, stored), 0);
    }
    /// As a resync would: the other node has no `gone`, has `d` inside `e`, another `kept`, and a new file.
    void resync() {
        const Fid fresh = tree->fresh();
        put(directory(root),
            copy::Listing{
                {{"e", e, S_IFDIR, 0, {}}, {"fresh", fresh, S_IFREG, 0, {}}, {"kept", kept, S_IFREG, 0, {}}}});
        put(directory(e), copy::Listing{{{"d2", d, S_IFDIR, 0, {}}}});
        put(inode(kept), copy::Inode{S_IFREG | 0600, 1, 1, 0, 10, {5, 5}, {}, {{"user.x", "y"}}, {{0, 1}}});
        put(zone(kept, 0), copy::Zone{10, "0123456789"});
        put(inode(fresh), copy::Inode{S_IFREG | 0600, 0, 0, 0, 1, {5, 5}, {}, {}, {{0, 1}}});
        put(zone(fresh, 0), copy::Zone{1, "f"});
        ASSERT_EQ(tree->save_undo({zone(kept, 1)}),
                  0); // which is not there any more: the inode's old size and this say
    }
    void save_all_of_kept() { ASSERT_EQ(tree->save_undo({inode(kept), zone(kept, 0), zone(kept, 1)}), 0); }
    void expect_old() {
        EXPECT_EQ(picture(), before);
        tree->unwanted(~Seq{0}); // in the core's order
        end_resync(false);
        tree->purge(0);
        EXPECT_THAT(names_in(park), IsEmpty());
        EXPECT_EQ(picture(), before);
        EXPECT_FALSE(fs::exists(base / "state/undo"));
    }

    Fid kept, gone, d, deep, e;
    std::map<Target, std::uint64_t> before;
};

TEST_F(Undo, RollsBackToTheOldTree) {
    ASSERT_EQ(tree->start_undo(false), 0);
    save_all_of_kept();
    resync();
    EXPECT_NE(picture(), before);
    EXPECT_THAT(names_in(aside), ElementsAre("e", "fresh", "kept"));
    ASSERT_EQ(tree->roll_back(), 0);
    ASSERT_EQ(tree->roll_back(), 0) << "once more, as after a crash in the middle";
    expect_old();
}

TEST_F(Undo, WhatACutOrAHoleTakesIsSavedThoughNobodyNamesIt) {
    const Fid cut = file("cut", std::string(4 * zone_bytes + 10, 'c')),
              holed = file("holed", std::string(3 * zone_bytes, 'h'));
    const Fid live = file("live", std::string(3 * zone_bytes, 'l')),
              punched = file("punched", std::string(3 * zone_bytes, 'p'));
    before = picture();
    ASSERT_EQ(tree->start_undo(false), 0);
    put(inode(cut), copy::Inode{S_IFREG | 0600, 0, 0, 0, zone_bytes + 5, {5, 5}, {}, {}, {{0, 2}}});
    put(inode(holed), copy::Inode{S_IFREG | 0600, 0, 0, 0, 3 * zone_bytes, {5, 5}, {}, {}, {{1, 1}}});
    ASSERT_EQ(tree->save_undo({inode(live), inode(punched)}), 0);
    change::Attributes smaller;
    smaller.inode = live;
    smaller.set = change::Attributes::size_set;
    smaller.size = 7;
    ASSERT_EQ(apply(smaller), 0);
    ASSERT_EQ(apply(change::Allocate{punched, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 2 * zone_bytes, false}),
              0);
    EXPECT_NE(picture(), before);
    start(); // the source died, and so did we: the undo log is all that is left
    ASSERT_EQ(tree->start_undo(true), 0);
    ASSERT_EQ(tree->roll_back(), 0);
    expect_old();
}

TEST_F(Undo, AChangeThatMeetsTheEndOfTheResyncHasNothingToSave) {
    ASSERT_EQ(tree->start_undo(false), 0);
    resync();
    tree->end_resync(false);
    EXPECT_EQ(tree->save_undo({zone(kept, 0)}), 0);
    while (tree->tidy()) {
    }
    EXPECT_EQ(tree->save_undo({zone(kept, 0)}), 0);
    EXPECT_FALSE(fs::exists(base / "state/undo"));
}

TEST_F(Undo, TheFirstContentCountsOverCrashesAndBrokenResyncs) {
    ASSERT_EQ(tree->start_undo(false), 0);
    save_all_of_kept();
    resync();
    start();
    tree->purge(~Seq{0}); // as long as the old data may be wanted, what is parked is part of them
    ASSERT_EQ(tree->start_undo(true), 0);
    resync();
    start();
    ASSERT_EQ(tree->roll_back(), 0);
    start();
    ASSERT_EQ(tree->roll_back(), 0);
    expect_old();
}

TEST_F(Undo, ATornTailIsIgnoredAndDamageBeforeItIsAnError) {
    ASSERT_EQ(tree->start_undo(false), 0);
    save_all_of_kept();
    resync();
    tree.reset();
    const std::string whole = slurp(base / "state/undo");
    std::string damaged = whole;
    damaged[200] ^= 1;
    spew(base / "state/undo", damaged);
    start();
    EXPECT_EQ(tree->roll_back(), EIO);
    EXPECT_THAT(alarms, SizeIs(2));
    tree.reset();
    spew(base / "state/undo", whole + whole.substr(0, 100));
    start();
    ASSERT_EQ(tree->roll_back(), 0);
    expect_old();
}

TEST_F(Undo, WithoutItsLogAResyncThatBrokeOffIsNotCalledRolledBack) {
    ASSERT_EQ(tree->start_undo(false), 0);
    save_all_of_kept();
    resync();
    tree.reset();
    fs::remove(base / "state/undo");
    start();
    EXPECT_NE(tree->roll_back(), 0);
    EXPECT_THAT(alarms, Contains(HasSubstr((base / "state/undo").string() + " is missing")));
    ASSERT_EQ(tree->start_undo(true), 0) << "the next resync goes on all the same";
    save_all_of_kept(); // what is new already
    tree.reset();
    start();
    EXPECT_NE(tree->roll_back(), 0) << "and if it breaks off as well, what it saved is not what was there";
}

TEST_F(Undo, EveryTornLengthOfTheLastBatchIsRead) {
    ASSERT_EQ(tree->start_undo(false), 0);
    ASSERT_EQ(tree->save_undo({inode(gone), zone(gone, 0)}), 0);
    const auto first = fs::file_size(base / "state/undo");
    ASSERT_EQ(tree->save_undo({inode(deep), zone(deep, 0)}), 0);
    tree.reset();
    const std::string whole = slurp(base / "state/undo");
    for (std::size_t length = first; length < whole.size(); length += 7) {
        spew(base / "state/undo", whole.substr(0, length));
        start();
        ASSERT_EQ(tree->roll_back(), 0) << length;
        ASSERT_EQ(picture(), before);
    }
    EXPECT_THAT(alarms, IsEmpty());
}

TEST_F(Undo, NothingIsSavedWithoutALog) {
    EXPECT_NE(tree->save_undo({inode(kept)}), 0);
    EXPECT_NE(tree->roll_back(), 0);
    end_resync(true);
    EXPECT_THAT(*list_lost(base / "state"), IsEmpty());
}

TEST_F(Undo, WhatWasLostIsListedAndExported) {
    ASSERT_EQ(tree->start_undo(false), 0);
    save_all_of_kept();
    resync();
    tree->purge(1000);
    end_resync(true);
    EXPECT_THAT(names_in(park), IsEmpty());
    EXPECT_FALSE(fs::exists(base / "state/undo"));
    const auto lost = list_lost(base / "state");
    ASSERT_TRUE(lost) << lost.error().text();
    ASSERT_THAT(*lost, SizeIs(1));
    std::map<std::string, LostItem> items;
    for (const LostItem& item : lost->front().items) {
        items[item.path] = item;
    }
    ASSERT_THAT(items, SizeIs(2));
    EXPECT_TRUE(items.at((place / "gone").string()).whole);
    EXPECT_FALSE(items.at((place / "kept").string()).whole);
    EXPECT_EQ(items.at((place / "kept").string()).zones, 2u);
    stop();
    const auto exported = export_lost(base / "state", lost->front().number, base / "export");
    ASSERT_TRUE(exported) << exported.error().text();
    EXPECT_EQ(*exported, 2u);
    const fs::path to = base / "export" / place.relative_path();
    EXPECT_EQ(slurp(to / "gone"), "gone");
    EXPECT_EQ(slurp(to / "kept"), std::string(2 * zone_bytes, 'k'));
    EXPECT_EQ(attributes_of(to / "kept").st_mode & 07777, 0644u);
    for (fs::path folder = to; folder != base; folder = folder.parent_path()) {
        EXPECT_EQ(attributes_of(folder).st_mode & 07777, 0700u) << folder;
    }
    EXPECT_EQ(slurp(place / "kept"), "0123456789") << "the tree is not touched";
    EXPECT_FALSE(export_lost(base / "state", lost->front().number, base / "export")) << "nothing is overwritten";
    EXPECT_FALSE(export_lost(base / "state", 77, base / "export2"));
    ASSERT_TRUE(drop_lost(base / "state", lost->front().number));
    EXPECT_THAT(*list_lost(base / "state"), IsEmpty());
    EXPECT_THAT(names_in(hidden), IsEmpty());
}

TEST_F(Undo, ALostFileOfSeveralNamesHasAllOfThemAgain) {
    const auto name_again = [this](const Fid& fid, const Fid& parent, const std::string& name) {
        ASSERT_EQ(apply(change::Link{fid, parent, name}), 0);
    };
    name_again(gone, root, "gone2");
    name_again(kept, root, "kept2");
    name_again(kept, d, "kept3");
    name_again(deep, root, "deep2");
    const Fid inner = make(d, "inner", S_IFREG | 0600);
    ASSERT_EQ(apply(change::Write{inner, 0, "inner", false}), 0);
    const Fid link = make(root, "link", S_IFLNK | 0777, "to");
    ASSERT_EQ(tree->start_undo(false), 0);
    save_all_of_kept();
    ASSERT_EQ(tree->save_undo({inode(link), inode(inner), zone(inner, 0)}), 0);
    put(zone(inner, 0), copy::Zone{5, "INNER"});
    put(zone(kept, 0), copy::Zone{zone_bytes, "other"});
    put(directory(root),
        copy::Listing{{{"e", e, S_IFDIR, 0, {}}, {"kept", kept, S_IFREG, 0, {}}, {"link", link, S_IFLNK, 0, "to"}}});
    tree->purge(1000);
    end_resync(true);
    const auto exported = export_lost(base / "state", 1, base / "export");
    ASSERT_TRUE(exported) << exported.error().text();
    const fs::path to = base / "export" / place.relative_path();
    EXPECT_THAT(names_in(to), ElementsAre("d", "deep2", "gone", "gone2", "kept", "kept2", "link"));
    EXPECT_THAT(names_in(to / "d"), ElementsAre("deep", "inner", "kept3"));
    const auto number = [&](const char* name) { return attributes_of(to / name).st_ino; };
    EXPECT_EQ(number("gone"), number("gone2"));
    EXPECT_EQ(number("kept"), number("kept2"));
    EXPECT_EQ(number("kept"), number("d/kept3"));
    EXPECT_EQ(number("deep2"), number("d/deep"));
    EXPECT_EQ(slurp(to / "d/kept3"), std::string(2 * zone_bytes, 'k'));
    EXPECT_EQ(slurp(to / "d/inner"), "inner") << "as it was, not as the resync left it";
    EXPECT_EQ(slurp(to / "deep2"), "deep");
    EXPECT_EQ(fs::read_symlink(to / "link"), "to");
    EXPECT_EQ(attributes_of(to / "d").st_mode & 07777, 0755u);
}

TEST_F(Undo, WhatIsKeptAsLostSurvivesACrashInTheMiddle) {
    const Fid second = folder("second");
    ASSERT_EQ(tree->start_undo(false), 0);
    put(directory(root), copy::Listing{{{"e", e, S_IFDIR, 0, {}}}});
    const std::string undo = slurp(base / "state/undo");
    tree->purge(1000);
    end_resync(true);
    tree.reset(); // as if it had come no further than the first of the directories
    spew(base / "state/undo", undo);
    fs::remove(base / "state/lost-1/undo");
    for (const std::string& name : names_in(hidden / "lost-1")) {
        if (fs::exists(hidden / "lost-1" / name / "deep")) {
            continue;
        }
        fs::rename(hidden / "lost-1" / name, park / ("60-" + name));
    }
    start();
    ASSERT_EQ(tree->start_undo(false), 0) << "the next resync";
    ASSERT_THAT(*list_lost(base / "state"), SizeIs(1));
    const auto exported = export_lost(base / "state", 1, base / "export");
    ASSERT_TRUE(exported) << exported.error().text();
    EXPECT_THAT(names_in(base / "export" / place.relative_path()), ElementsAre("d", "gone", "kept", "second"));
    EXPECT_NE(second, Fid{});
}

TEST_F(Undo, AnInodeThatALaterResyncMakesAnewKeepsItsMark) {
    const Fid fresh = tree->fresh();
    const auto bring = [&] {
        put(directory(e), copy::Listing{{{"fresh", fresh, S_IFREG, 0, {}}}});
        return xattr(aside / "e/fresh", "trusted.stead.fid").size();
    };
    ASSERT_EQ(tree->start_undo(false), 0);
    ASSERT_EQ(bring(), 17u);
    tree->end_resync(false);
    ASSERT_EQ(apply(change::Remove{e, "fresh", fresh, false}), 0);
    ASSERT_EQ(tree->start_undo(false), 0);
    ASSERT_EQ(bring(), 17u);
    while (tree->tidy()) {
    }
    EXPECT_EQ(bring(), 17u) << "it is empty";
    end_resync(false);
    EXPECT_EQ(xattr(aside / "e/fresh", "trusted.stead.fid").size(), 16u);
}

TEST_F(Undo, WhatWasMovedOutOfALostDirectoryIsNotLost) {
    ASSERT_EQ(tree->start_undo(false), 0);
    ASSERT_EQ(tree->save_undo({directory(root)}), 0);
    put(directory(root), copy::Listing{{{"moved", deep, S_IFREG, 0, {}}}});
    tree->purge(1000);
    end_resync(true);
    EXPECT_EQ(slurp(aside / "moved"), "deep");
    EXPECT_EQ(attributes_of(aside / "moved").st_nlink, 1u) << "as on the other node";
    ASSERT_TRUE(tree->close());
    start();
    EXPECT_THAT(tree->foreign(), IsEmpty()) << "it was this program that took the rest away";
}

/// A full copy would wait for the disk with every few zones.
TEST_F(Undo, OfAFileThatTheResyncMadeNothingIsSaved) {
    ASSERT_EQ(tree->start_undo(false), 0);
    const Fid fresh = tree->fresh(), box = tree->fresh(), inside = tree->fresh();
    put(directory(root), copy::Listing{{{"box", box, S_IFDIR, 0, {}}, {"fresh", fresh, S_IFREG, 0, {}}}});
    put(directory(box), copy::Listing{{{"inside", inside, S_IFREG, 0, {}}, {"kept", kept, S_IFREG, 0, {}}}});
    const auto saved = fs::file_size(base / "state/undo");
    for (const Fid& made : {fresh, inside}) {
        put(inode(made), copy::Inode{S_IFREG | 0600, 0, 0, 0, 2 * zone_bytes, {5, 5}, {}, {}, {{0, 2}}});
        put(zone(made, 0), copy::Zone{4, "zone"});
    }
    put(inode(tree->fresh()), copy::Inode{S_IFREG | 0600, 0, 0, 0, 0, {5, 5}, {}, {}, {}});
    EXPECT_EQ(fs::file_size(base / "state/undo"), saved);
    put(zone(kept, 0), copy::Zone{4, "over"});
    EXPECT_GT(fs::file_size(base / "state/undo"), saved + zone_bytes);
    ASSERT_TRUE(tree->close()); // a restart knows no more what was made
    start();
    ASSERT_EQ(tree->start_undo(true), 0);
    put(zone(fresh, 1), copy::Zone{4, "more"});
    put(zone(inside, 0), copy::Zone{4, "anew"});
    ASSERT_EQ(tree->roll_back(), 0);
    expect_old();
}

TEST_F(Undo, ALostDirectoryIsExportedWithAllBelowIt) {
    ASSERT_EQ(tree->start_undo(false), 0);
    put(directory(root), copy::Listing{{{"e", e, S_IFDIR, 0, {}}}});
    tree->purge(1000);
    end_resync(true);
    const auto exported = export_lost(base / "state", 1, base / "export");
    ASSERT_TRUE(exported) << exported.error().text();
    const fs::path to = base / "export" / place.relative_path();
    EXPECT_EQ(slurp(to / "d/deep"), "deep");
    EXPECT_EQ(attributes_of(to / "d/deep").st_mode & 07777, 0640u);
    EXPECT_EQ(xattr(to / "d/deep", "trusted.stead.fid"), "none");
    EXPECT_EQ(slurp(to / "kept").size(), 2 * zone_bytes);
    ASSERT_TRUE(tree->close());
    start();
    EXPECT_THAT(tree->foreign(), IsEmpty()) << "it was this program that took it away";
}

} // namespace stead::mirror::test
