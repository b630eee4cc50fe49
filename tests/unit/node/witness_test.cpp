// SPDX-License-Identifier: Apache-2.0
#include <stead/test/temporary_folder.hpp>

#include <stead/base/files.hpp>
#include <stead/node/witness.hpp>

#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <limits>
#include <thread>
#include <vector>

namespace stead::node {
namespace {

using ::testing::HasSubstr;

static_assert(grants(std::nullopt, {0, 0}));
static_assert(grants(Claim{7, 1}, {8, 2}), "a higher counter wins");
static_assert(grants(Claim{7, 1}, {7, 1}), "again, to the same holder: the answer may have been lost");
static_assert(!grants(Claim{7, 1}, {7, 2}), "the first of two is the only one");
static_assert(!grants(Claim{7, 1, 3}, {7, 1, 12}), "nodes that claim together are part of the holder");
static_assert(!grants(Claim{7, 1}, {6, 1}), "what is over is over, for its holder too");
static_assert(!grants(Claim{7, 1}, {6, 2}));
static_assert(grants(Claim{std::numeric_limits<std::uint64_t>::max(), 1},
                     {std::numeric_limits<std::uint64_t>::max(), 1}));

class Witness : public ::testing::Test {
protected:
    std::filesystem::path folder() const { return folder_.path() / "witness"; }
    bool granted(WitnessStore& store, const std::string& module, std::uint64_t counter, std::uint32_t holder) {
        const auto verdict = store.claim(module, "claim", {counter, holder});
        EXPECT_TRUE(verdict) << verdict.error().text();
        return verdict && verdict->granted;
    }
    stead::testing::TemporaryFolder folder_;
};

TEST_F(Witness, KeepsWhatItGrantedOverARestart) {
    {
        WitnessStore store(folder());
        EXPECT_TRUE(granted(store, "db", 5, 0));
        EXPECT_TRUE(granted(store, "db", 5, 0));
        EXPECT_FALSE(granted(store, "db", 5, 1));
        EXPECT_TRUE(granted(store, "other", 5, 1)) << "the keys of each module are its own";
    }
    WitnessStore store(folder());
    const auto refused = store.claim("db", "claim", {5, 1});
    ASSERT_TRUE(refused);
    EXPECT_FALSE(refused->granted);
    EXPECT_EQ(refused->held, (Claim{5, 0})) << "who has it";
    EXPECT_TRUE(granted(store, "db", 6, 1));
    EXPECT_FALSE(granted(store, "db", 5, 0));
}

TEST_F(Witness, ADamagedFileGrantsNothing) {
    WitnessStore store(folder());
    EXPECT_TRUE(granted(store, "db", std::numeric_limits<std::uint64_t>::max(), 63));
    for (const char* text : {"", "5", "5 ", "5 1", "x 1\n", "5 1\nmore", "-5 1\n", "99999999999999999999 1\n",
                             "5 1 2 3\n", "5 1 x\n", "5 99999999999999999999\n"}) {
        ASSERT_TRUE(write_file_atomically(folder() / "db:claim", text));
        const auto verdict = store.claim("db", "claim", {9, 1});
        ASSERT_FALSE(verdict) << text;
        EXPECT_THAT(verdict.error().text(), HasSubstr("db:claim: not 'COUNTER HOLDER'"));
    }
}

TEST_F(Witness, TellsWhatItHoldsToWhoOnlyAsks) {
    const Claim of_two{6, std::numeric_limits<std::uint64_t>::max(), 0b101};
    {
        WitnessStore store(folder());
        const auto nothing = store.claim("web", "half", {});
        ASSERT_TRUE(nothing);
        EXPECT_EQ(nothing->held, Claim{});
        EXPECT_FALSE(nothing->granted);
        EXPECT_FALSE(std::filesystem::exists(folder())) << "a question leaves nothing behind";
        EXPECT_TRUE(store.claim("web", "half", of_two)->granted);
    }
    WitnessStore store(folder());
    const auto told = store.claim("web", "half", {});
    ASSERT_TRUE(told);
    EXPECT_EQ(told->held, of_two);
    EXPECT_FALSE(told->granted);
}

TEST_F(Witness, NamesStayInTheFolder) {
    WitnessStore store(folder());
    const std::string longest(63, 'k'), longer(64, 'k');
    EXPECT_TRUE(store.claim("db", longest, {1, 1}));
    for (const std::string& bad : {std::string{}, std::string{"../x"}, std::string{"a/b"}, std::string{"a:b"},
                                   std::string{"."}, std::string{"a b"}, longer}) {
        EXPECT_FALSE(store.claim("db", bad, {1, 1})) << bad;
        EXPECT_FALSE(store.claim(bad, "claim", {1, 1})) << bad;
    }
}

TEST_F(Witness, HasALimit) {
    WitnessStore store(folder());
    std::filesystem::create_directories(folder());
    for (std::size_t i = 0; i < WitnessStore::claims_max; ++i) {
        std::ofstream(folder() / ("m" + std::to_string(i) + ":claim")) << "1 1\n";
    }
    EXPECT_THAT(store.claim("db", "claim", {1, 1}).error().text(), HasSubstr("holds 1024 claims"));
    EXPECT_TRUE(granted(store, "m7", 2, 2)) << "those that are there go on";
}

TEST_F(Witness, OfManyAtOnceOneIsGranted) {
    WitnessStore store(folder());
    std::atomic<int> winners{0};
    std::vector<std::thread> threads;
    for (std::uint32_t holder = 0; holder < 8; ++holder) {
        threads.emplace_back([&, holder] {
            const auto verdict = store.claim("db", "claim", {3, holder});
            winners += verdict && verdict->granted ? 1 : 0;
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(winners, 1);
}

TEST_F(Witness, ADiskThatCannotBeWrittenGrantsNothing) {
    ASSERT_TRUE(write_file_atomically(folder(), "a file where the folder should be"));
    WitnessStore store(folder());
    EXPECT_FALSE(store.claim("db", "claim", {1, 1}));
}

} // namespace
} // namespace stead::node
