// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/early_syncs.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <optional>
#include <vector>

namespace stead::mirror {
namespace {

constexpr Fid wal{1, 1}, other{1, 2};

/// A file, a disk whose next outcomes are told, and an application.
struct Early : testing::Test {
    EarlySyncs early;
    int disk{};         ///< outcome of the next sync
    unsigned synced{};  ///< syncs that the disk did
    unsigned running{}; ///< early ones that are due

    int sync() {
        ++synced;
        return std::exchange(disk, 0);
    }
    void write(const Fid& inode = wal) {
        early.changed(inode);
        early.changed(inode);
        running += early.expected(inode) ? 1 : 0;
    }
    void run(const Fid& inode = wal) {
        ASSERT_GT(running, 0u);
        --running;
        early.run(inode, [this] { return sync(); });
    }
    /// The driver's way of an fsync; what it gave, if it has ended.
    std::shared_ptr<std::optional<int>> wish(const Fid& inode = wal) {
        auto outcome = std::make_shared<std::optional<int>>();
        if (!early.join(inode, [outcome](int error) { *outcome = error; })) {
            *outcome = early.take_failure(inode) ? EIO : sync();
        }
        return outcome;
    }
    void learn(unsigned writes = 1, unsigned times = 4) {
        for (unsigned i = 0; i < times; ++i) {
            for (unsigned j = 0; j < writes; ++j) {
                write();
            }
            wish();
        }
        synced = 0;
        ASSERT_EQ(running, 0u);
    }
};

TEST_F(Early, WhoWritesAndSyncsAgainAndAgainIsSyncedBeforeHeAsks) {
    learn();
    write();
    run();
    EXPECT_EQ(synced, 1u);
    EXPECT_EQ(*wish(), 0);
    EXPECT_EQ(synced, 1u);
}

TEST_F(Early, WhoAsksMeanwhileWaitsForIt) {
    learn();
    write();
    const auto outcome = wish();
    EXPECT_FALSE(*outcome);
    run();
    EXPECT_EQ(*outcome, 0);
    EXPECT_EQ(synced, 1u);
}

TEST_F(Early, OneBehindSeveralWritesWaitsForTheLast) {
    learn(3);
    write();
    write();
    EXPECT_EQ(running, 0u);
    write();
    EXPECT_EQ(running, 1u);
}

TEST_F(Early, WithoutAHabitNothingIsSynced) {
    write();
    write(other);
    EXPECT_EQ(running, 0u);
    wish();
    for (unsigned writes = 1; writes < 9; ++writes) { // never twice the same
        for (unsigned i = 0; i < writes; ++i) {
            write();
        }
        wish();
    }
    EXPECT_EQ(running, 0u);
}

TEST_F(Early, WhatWasWrittenSinceIsSyncedToo) {
    learn();
    write();
    run();
    early.changed(wal); // one more has begun: it may be half in what was synced
    early.changed(wal);
    EXPECT_EQ(*wish(), 0);
    EXPECT_EQ(synced, 2u);
}

TEST_F(Early, WhatWasWrittenWhileItRanIsSyncedBehindIt) {
    learn();
    write();
    early.changed(wal);
    const auto outcome = wish();
    EXPECT_FALSE(*outcome) << "beside it, the kernel may tell a failure to the other one";
    run();
    EXPECT_EQ(*outcome, 0);
    EXPECT_EQ(synced, 2u);
}

TEST_F(Early, AWriteThatHadBegunBeforeAndEndsLaterIsNotCovered) {
    learn();
    early.changed(wal); // a second writer's
    write();
    run();
    early.changed(wal);
    EXPECT_EQ(*wish(), 0);
    EXPECT_EQ(synced, 2u);
}

TEST_F(Early, ItsFailureIsToldToWhoWaits) {
    learn();
    write();
    const auto outcome = wish();
    disk = EIO;
    run();
    EXPECT_EQ(*outcome, EIO);
    EXPECT_FALSE(early.take_failures());
}

TEST_F(Early, ItsFailureIsToldToWhoAsksLaterAndOnce) {
    learn();
    write();
    disk = ENOSPC;
    run();
    EXPECT_EQ(*wish(), EIO);
    EXPECT_EQ(*wish(), 0);
}

TEST_F(Early, ItsFailureIsToldThoughMoreWasWritten) {
    learn();
    write();
    disk = EIO;
    run();
    write();
    EXPECT_EQ(*wish(), EIO);
}

TEST_F(Early, ItsFailureIsToldToWhoSyncsEverything) {
    learn();
    write();
    disk = EIO;
    run();
    EXPECT_TRUE(early.take_failures());
    EXPECT_FALSE(early.take_failures());
}

TEST_F(Early, WhoWaitsForItsEndHearsOfItsFailureAtOnce) {
    learn();
    write();
    --running;
    bool heard = false;
    early.run(wal, [&] {
        early.failing(wal);
        heard = early.take_failures(); // by now it may count as ended, before run() has its outcome
        return EIO;
    });
    EXPECT_TRUE(heard);
    EXPECT_EQ(*wish(), EIO);
    early.failing(wal); // none is running: who asked hears it
    EXPECT_FALSE(early.take_failures());
    EXPECT_EQ(*wish(), 0);
}

TEST_F(Early, AFailureThatWasToldToTheMirrorIsToldToTheApplicationToo) {
    learn();
    write();
    disk = EIO;
    run();
    EXPECT_TRUE(early.take_failures());
    EXPECT_EQ(*wish(), EIO);
    EXPECT_EQ(*wish(), 0);
    early.failed(wal); // where all were synced
    EXPECT_FALSE(early.take_failures());
    EXPECT_EQ(*wish(), EIO);
    EXPECT_EQ(*wish(), 0);
}

TEST_F(Early, TheNextApplicationIsNotToldOfThePreviousOnesFailures) {
    learn();
    write();
    disk = EIO;
    run();
    early.nobody_asks();
    EXPECT_EQ(*wish(), 0);
    EXPECT_TRUE(early.take_failures()) << "the mirror is";
}

TEST_F(Early, AnOutcomeIsGoodForOneWish) {
    learn();
    write();
    run();
    EXPECT_EQ(*wish(), 0);
    disk = EIO; // of times that were left for later, say
    EXPECT_EQ(*wish(), EIO);
}

TEST_F(Early, WhatWasForNothingMakesTheNextOneRarer) {
    learn();
    write();
    run();
    write();
    wish(); // behind two: the early one was for nothing
    const auto rounds_to_learn = [&] {
        unsigned rounds = 0;
        for (; running == 0 && rounds < 100; ++rounds) {
            write();
            if (running == 0) {
                wish();
            }
        }
        return rounds;
    };
    const unsigned once = rounds_to_learn();
    run();
    write();
    wish();
    EXPECT_GT(rounds_to_learn(), once);
    EXPECT_GT(once, 3u);
}

TEST_F(Early, OfARemovedFileNothingIsLeft) {
    learn();
    write();
    disk = EIO;
    run();
    early.removed(wal);
    EXPECT_FALSE(early.take_failures());
    write();
    EXPECT_EQ(running, 0u);
}

TEST_F(Early, WhoWaitsIsToldAlsoWhenTheFileIsRemovedMeanwhile) {
    learn();
    write();
    const auto outcome = wish();
    early.removed(wal);
    run();
    EXPECT_EQ(*outcome, 0);
}

TEST_F(Early, ManyFilesAreForgottenButNotTheOneThatRuns) {
    learn();
    write();
    for (std::uint64_t i = 100; i < 2000; ++i) {
        write({2, i});
        wish({2, i});
    }
    const auto outcome = wish();
    run();
    EXPECT_EQ(*outcome, 0);
}

} // namespace
} // namespace stead::mirror
