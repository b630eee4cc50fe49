// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

#include <stead/mirror/state_files.hpp>

#include <sched.h>
#include <sys/mount.h>

/// Record and change log: torn at every byte, damaged at every byte.
namespace stead::mirror::test {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class State : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "stead-state-XXXXXX").string();
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        folder = pattern;
        open();
    }
    void TearDown() override { fs::remove_all(folder); }
    void open() {
        files.reset();
        auto opened = StateFiles::open(folder);
        ASSERT_TRUE(opened) << opened.error().text();
        files = std::move(*opened);
    }
    std::optional<Record> load_record() {
        const auto loaded = files->load_record();
        EXPECT_TRUE(loaded) << loaded.error().text();
        return loaded ? *loaded : std::nullopt;
    }
    static Record record(Epoch epoch) {
        Record result;
        result.mirror = {1, 2};
        result.epoch = epoch << 8;
        result.current = {3, epoch};
        result.role = Role::alone;
        return result;
    }
    static LogEntry entry(std::uint64_t number) { return {{TargetKind::zone, {7, number}, number * 3}, Mark::dirty}; }
    static std::vector<LogEntry> entries(std::uint64_t from, std::uint64_t to) {
        std::vector<LogEntry> result;
        for (std::uint64_t i = from; i < to; ++i) {
            result.push_back(entry(i));
        }
        return result;
    }
    LoadedLog load(std::uint64_t id) {
        open();
        return files->load_log(id);
    }

    static constexpr std::size_t slot_bytes = 1024; ///< two copies of a record
    fs::path folder;
    std::unique_ptr<StateFiles> files;
};

TEST_F(State, IsNobodyElsesToReadOrToChange) {
    const mode_t before = ::umask(0); // as stead-fs has it
    fs::permissions(folder, fs::perms::all);
    open();
    EXPECT_EQ(attributes_of(folder).st_mode & 07777, 0700U) << "also one that an older release left open";
    fs::remove_all(folder);
    open();
    EXPECT_EQ(attributes_of(folder).st_mode & 07777, 0700U);
    fs::create_directory_symlink("/tmp", folder / "link");
    EXPECT_FALSE(StateFiles::open(folder / "link"));
    ::umask(before);
}

TEST_F(State, NoRecordAtFirstThenTheLastOne) {
    EXPECT_EQ(load_record(), std::nullopt);
    for (Epoch epoch = 1; epoch <= 5; ++epoch) {
        ASSERT_TRUE(files->persist(record(epoch)));
        if (epoch == 3) {
            open();
            ASSERT_EQ(load_record(), record(3));
        }
    }
    open();
    EXPECT_EQ(load_record(), record(5));
}

TEST_F(State, ATornRecordLeavesTheOneBefore) {
    for (Epoch epoch = 1; epoch <= 3; ++epoch) {
        ASSERT_TRUE(files->persist(record(epoch)));
    }
    const std::string before = slurp(folder / "record");
    ASSERT_TRUE(files->persist(record(4)));
    const std::string after = slurp(folder / "record");
    const std::size_t slot = before.substr(0, slot_bytes) == after.substr(0, slot_bytes) ? 4096 : 0;
    ASSERT_EQ(decode_record(after.substr(slot, 512))->first, record(4));
    for (std::size_t byte = 0; byte < slot_bytes; ++byte) { // what a power cut in the middle of the write of 4 leaves
        std::string torn = after;
        torn.replace(slot + byte, slot_bytes - byte, before, slot + byte, slot_bytes - byte);
        spew(folder / "record", torn);
        open();
        const auto loaded = files->load_record();
        ASSERT_TRUE(loaded && *loaded) << byte;
        ASSERT_TRUE(**loaded == record(3) || **loaded == record(4)) << byte;
    }
}

/// What is older is not what this node knows of its data: it may have gone on alone since, or be half resynced.
TEST_F(State, DamageNeverBringsAnOlderRecordBack) {
    for (Epoch epoch = 1; epoch <= 4; ++epoch) {
        ASSERT_TRUE(files->persist(record(epoch)));
        const std::string whole = slurp(folder / "record");
        for (std::size_t byte = 0; byte < whole.size(); byte += byte < slot_bytes ? 1 : 7) {
            std::string damaged = whole;
            damaged[byte] ^= 0x10;
            spew(folder / "record", damaged);
            open();
            ASSERT_EQ(load_record(), record(epoch)) << byte;
        }
        for (const std::size_t slot : {std::size_t{0}, std::size_t{4096}}) {
            std::string zeroed = whole, flipped = whole;
            zeroed.replace(slot, slot_bytes, slot_bytes, '\0');
            flipped[slot + 20] ^= 1;
            flipped[slot + 512 + 20] ^= 1;
            for (const std::string& damaged : {zeroed, flipped, whole.substr(0, slot)}) {
                spew(folder / "record", damaged);
                open();
                const auto loaded = files->load_record();
                ASSERT_FALSE(loaded) << epoch << " " << slot;
                EXPECT_THAT(loaded.error().text(), HasSubstr((folder / "record").string()));
            }
        }
        spew(folder / "record", whole);
        open();
        ASSERT_EQ(load_record(), record(epoch));
    }
}

TEST_F(State, ARecordOfAVersionThatWroteOneCopyIsReadAndGoneOnWith) {
    ASSERT_TRUE(files->persist(record(1)));
    std::string old = encode(record(1), 1);
    old.resize(4096 + 512);
    spew(folder / "record", old);
    open();
    ASSERT_EQ(load_record(), record(1));
    spew(folder / "record", old.substr(0, 4096) + encode(record(2), 2));
    open();
    ASSERT_EQ(load_record(), record(2));
    ASSERT_TRUE(files->persist(record(3)));
    open();
    EXPECT_EQ(load_record(), record(3));
}

TEST_F(State, TwoDamagedSlotsAreAnErrorNotANewNode) {
    ASSERT_TRUE(files->persist(record(1)));
    ASSERT_TRUE(files->persist(record(2)));
    std::string bytes = slurp(folder / "record");
    for (const std::size_t copy : {0, 512, 4096, 4096 + 512}) {
        bytes[copy + 100] ^= 1;
    }
    for (const std::string& found : {bytes, std::string(), std::string(8192, '\0')}) {
        spew(folder / "record", found);
        open();
        const auto loaded = files->load_record();
        ASSERT_FALSE(loaded);
        EXPECT_THAT(loaded.error().text(), HasSubstr("both slots"));
    }
}

TEST_F(State, ALostRecordIsAnErrorNotANewNode) {
    ASSERT_TRUE(files->persist(record(1)));
    fs::remove(folder / "record");
    open();
    const auto loaded = files->load_record();
    ASSERT_FALSE(loaded);
    EXPECT_THAT(loaded.error().text(), HasSubstr("record is gone"));
    fs::remove(folder / "record.made");
    EXPECT_EQ(load_record(), std::nullopt) << "as the message says";
}

TEST_F(State, LogKeepsWhatWasAppended) {
    ASSERT_TRUE(files->reset_log(11, entries(0, 40)));
    std::uint64_t next = 40;
    for (const std::uint64_t count : {1u, 17u, 18u, 19u, 100u}) {
        ASSERT_TRUE(files->append_log(entries(next, next + count)));
        next += count;
    }
    const LoadedLog log = load(11);
    EXPECT_TRUE(log.readable);
    EXPECT_EQ(log.entries, entries(0, next));
    ASSERT_TRUE(files->append_log({entry(next)})) << "goes on after a restart";
    EXPECT_EQ(load(11).entries, entries(0, next + 1));
}

TEST_F(State, AnotherIdOrNoLogIsUnreadable) {
    EXPECT_FALSE(load(1).readable);
    ASSERT_TRUE(files->reset_log(11, {}));
    EXPECT_TRUE(load(11).readable);
    EXPECT_THAT(load(11).entries, IsEmpty());
    EXPECT_FALSE(load(12).readable);
    EXPECT_FALSE(files->append_log({entry(1)})) << "not to a log that was not loaded";
    ASSERT_TRUE(files->reset_log(12, {entry(5)}));
    EXPECT_FALSE(load(11).readable);
    EXPECT_THAT(load(12).entries, ElementsAre(entry(5)));
}

TEST_F(State, ATornTailOfTheLogIsItsEnd) {
    ASSERT_TRUE(files->reset_log(11, entries(0, 3)));
    ASSERT_TRUE(files->append_log(entries(3, 5)));
    const std::string before = slurp(folder / "log");
    ASSERT_TRUE(files->append_log(entries(5, 60))); // four sectors in one append
    const std::string after = slurp(folder / "log");
    ASSERT_EQ(before.size(), after.size()) << "space was there";
    for (std::size_t lost = 0; lost < 4; ++lost) { // any sector of it, or several, may be missing
        for (std::size_t kept = 0; kept < 4; ++kept) {
            std::string torn = after;
            for (std::size_t sector = 0; sector < 4; ++sector) {
                if (sector == lost || sector < kept) {
                    torn.replace((2 + sector) * 512, 512, before, (2 + sector) * 512, 512);
                }
            }
            spew(folder / "log", torn);
            const LoadedLog log = load(11);
            ASSERT_TRUE(log.readable) << lost << " " << kept;
            ASSERT_GE(log.entries.size(), 5u);
            ASSERT_TRUE(std::equal(log.entries.begin(), log.entries.end(), entries(0, 60).begin()));
        }
    }
    for (std::size_t byte = 2 * 512; byte < 3 * 512; ++byte) {
        std::string torn = before;
        torn.replace(2 * 512, byte - 2 * 512, after, 2 * 512, byte - 2 * 512);
        spew(folder / "log", torn);
        const LoadedLog log = load(11); // no drive tears a sector: that it could be damaged counts
        ASSERT_TRUE(!log.readable || byte == 2 * 512 || log.entries.size() == 23) << byte;
        ASSERT_TRUE(log.entries.size() == 5 || log.entries.size() == 23) << byte;
    }
}

TEST_F(State, DamageInTheLogIsSeenAtEveryByte) {
    ASSERT_TRUE(files->reset_log(11, entries(0, 3)));
    ASSERT_TRUE(files->append_log(entries(3, 5)));
    ASSERT_TRUE(files->append_log(entries(5, 6)));
    const std::string whole = slurp(folder / "log");
    for (std::size_t byte = 0; byte < 3 * 512; ++byte) { // also in what was appended last
        std::string damaged = whole;
        damaged[byte] ^= 0x40;
        spew(folder / "log", damaged);
        ASSERT_FALSE(load(11).readable) << byte;
    }
    for (const std::size_t left : {std::size_t{0}, std::size_t{100}, std::size_t{700}, whole.size() - 512}) {
        spew(folder / "log", whole.substr(0, left));
        EXPECT_FALSE(load(11).readable) << "a file that was cut off is no torn tail";
    }
}

TEST_F(State, ALogThatGrewAndWasCutOffIsSeen) {
    ASSERT_TRUE(files->reset_log(11, {}));
    std::uint64_t next = 0;
    while (slurp(folder / "log").size() <= 2 * 1024 * 1024) {
        ASSERT_TRUE(files->append_log(entries(next, next + 18 * 500)));
        next += 18 * 500;
    }
    const std::string whole = slurp(folder / "log");
    EXPECT_EQ(load(11).entries.size(), next);
    for (std::size_t left = 1024 * 1024; left < 2 * 1024 * 1024; left += 1024 * 256 + 100) {
        spew(folder / "log", whole.substr(0, left));
        EXPECT_FALSE(load(11).readable) << left;
    }
}

TEST_F(State, ALogThatTheRecordNamesIsNeverOverwritten) {
    for (const bool prepared : {false, true}) {
        Record named = record(1);
        named.log = prepared ? 21 : 11;
        ASSERT_TRUE(files->reset_log(named.log, entries(0, 3)));
        ASSERT_TRUE(files->persist(named));
        for (std::uint64_t id = named.log + 1; id < named.log + 5; ++id) { // none of these came to be named
            if (prepared) {
                files->prepare_log();
            }
            ASSERT_TRUE(files->reset_log(id, entries(id, id + 2)));
            ASSERT_TRUE(files->append_log(entries(id + 2, id + 3)));
        }
        open();
        ASSERT_EQ(load_record()->log, named.log);
        EXPECT_EQ(files->load_log(named.log).entries, entries(0, 3));
        ASSERT_TRUE(files->append_log({entry(3)}));
        EXPECT_EQ(load(named.log).entries, entries(0, 4));
        ASSERT_TRUE(load_record());
    }
}

TEST_F(State, AnIdThatComesAgainIsTheLaterLog) {
    for (std::uint64_t life = 0; life < 6; ++life) {
        Record named = record(life + 1);
        ASSERT_TRUE(files->reset_log(1, entries(100 * life, 100 * life + 60 - 10 * life))); // shorter than before
        named.log = 1;
        ASSERT_TRUE(files->persist(named));
        if (life % 3 != 0) {
            open();
            ASSERT_EQ(load_record()->log, 1u);
        }
        EXPECT_EQ(files->load_log(1).entries, entries(100 * life, 100 * life + 60 - 10 * life)) << life;
        named.log = 0;
        ASSERT_TRUE(files->persist(named));
        if (life % 2 != 0) {
            open();
            ASSERT_EQ(load_record()->log, 0u);
        }
        files->prepare_log();
    }
}

/// Ids begin again with each generation: what the spare file has of an older log must not come back.
TEST_F(State, NothingOfAnOlderLogOfTheSameIdComesBack) {
    ASSERT_TRUE(files->reset_log(1, entries(0, 400)));
    ASSERT_TRUE(files->append_log(entries(400, 500)));
    ASSERT_TRUE(files->reset_log(1, entries(7, 8)));
    ASSERT_TRUE(files->reset_log(1, entries(8, 9)));
    EXPECT_EQ(load(1).entries, entries(8, 9));
    ASSERT_TRUE(files->append_log(entries(9, 10)));
    const LoadedLog log = load(1);
    EXPECT_TRUE(log.readable);
    EXPECT_EQ(log.entries, entries(8, 10));
}

struct FullDisk : State {
    void SetUp() override {
        State::SetUp();
        ASSERT_EQ(unshare(CLONE_NEWNS), 0);
        ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
        ASSERT_EQ(mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=4m"), 0);
        open();
    }
    void TearDown() override {
        files.reset();
        umount2(folder.c_str(), MNT_DETACH);
        State::TearDown();
    }
    void fill() {
        const int fd = ::open((folder / "filler").c_str(), O_CREAT | O_WRONLY, 0600);
        const std::string bytes(4096, 'x');
        while (::write(fd, bytes.data(), bytes.size()) > 0) {
        }
        ::close(fd);
    }
};

TEST_F(FullDisk, ANodeCanStillNoteWhatItChanges) {
    for (std::uint64_t id = 1; id < 6; ++id) {
        const auto done = files->reset_log(id, entries(0, 30 * id));
        ASSERT_TRUE(done) << id << done.error().text();
        ASSERT_TRUE(files->append_log(entries(30 * id, 900)));
        ASSERT_EQ(load(id).entries, entries(0, 900));
        fill();
    }
}

TEST_F(FullDisk, AnAppendThatFindsNoSpaceSaysSoAndTheLogGoesOnAfterwards) {
    ASSERT_TRUE(files->reset_log(1, entries(0, 3)));
    fill();
    const auto failed = files->append_log(entries(3, 200'000));
    ASSERT_FALSE(failed);
    EXPECT_EQ(files->log_errno(), ENOSPC);
    fs::remove(folder / "filler");
    ASSERT_TRUE(files->append_log(entries(3, 5)));
    const LoadedLog log = load(1);
    EXPECT_TRUE(log.readable);
    EXPECT_EQ(log.entries, entries(0, 5));
}

TEST_F(State, ALongLogGrows) {
    ASSERT_TRUE(files->reset_log(11, {}));
    ASSERT_TRUE(files->append_log(entries(0, 100'000)));
    ASSERT_TRUE(files->append_log(entries(100'000, 100'001)));
    EXPECT_THAT(load(11).entries, SizeIs(100'001));
}

} // namespace stead::mirror::test
