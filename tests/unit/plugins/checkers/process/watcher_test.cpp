// SPDX-License-Identifier: Apache-2.0
#include "sleeper.hpp"

#include <stead/process/watcher.hpp>

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <condition_variable>

namespace stead::process {
namespace {

/// What the watcher told, to wait for.
class Ear {
public:
    void hear(Watcher::Look look) {
        const std::lock_guard lock(mutex_);
        looks_.push_back(std::move(look));
        heard_.notify_all();
    }
    /// The first look from number `from` on that has this count; its number.
    std::optional<std::size_t> wait_for_count(std::uint32_t count, std::size_t from = 0) {
        std::unique_lock lock(mutex_);
        std::size_t at = from;
        const auto fits = [&] {
            while (at < looks_.size() && looks_[at].sights[0].count != count) {
                ++at;
            }
            return at < looks_.size();
        };
        return heard_.wait_for(lock, seconds{20}, fits) ? std::optional{at} : std::nullopt;
    }
    Watcher::Look look(std::size_t index) {
        const std::lock_guard lock(mutex_);
        return looks_[index];
    }
    std::size_t size() {
        const std::lock_guard lock(mutex_);
        return looks_.size();
    }

private:
    std::mutex mutex_;
    std::condition_variable heard_;
    std::vector<Watcher::Look> looks_;
};

Spec named(std::string name) {
    Spec spec;
    spec.name = std::move(name);
    return spec;
}

TEST(Watcher, TellsADeathWithoutBeingAskedToLook) {
    const Sleeper one("stead-w-one"), two("stead-w-one");
    Ear ear;
    auto watcher = *Watcher::start({named("stead-w-one")}, [&](Watcher::Look look) { ear.hear(std::move(look)); });
    watcher->look_at(BootClock::now(), {true});
    ASSERT_EQ(ear.wait_for_count(2), 0U);
    EXPECT_TRUE(ear.look(0).sights[0].each_death_seen);
    const Instant killed = BootClock::now();
    one.kill(); // not reaped: a zombie does not count
    const auto seen = ear.wait_for_count(1);
    ASSERT_TRUE(seen);
    EXPECT_LT(ear.look(*seen).begun - killed, seconds{1});
    two.kill();
    EXPECT_TRUE(ear.wait_for_count(0, *seen));
}

TEST(Watcher, LooksWhenToldAndAtWhatItIsTold) {
    Ear ear;
    auto watcher = *Watcher::start({named("stead-w-two")}, [&](Watcher::Look look) { ear.hear(std::move(look)); });
    watcher->look_at(BootClock::now(), {true});
    ASSERT_TRUE(ear.wait_for_count(0));
    const Sleeper late("stead-w-two");
    watcher->look_at(BootClock::now() + milliseconds{10}, {true});
    const auto seen = ear.wait_for_count(1);
    ASSERT_TRUE(seen);
    watcher->look_at(BootClock::now(), {false});
    std::unique_ptr<Watcher> ended = std::move(watcher);
    ended.reset(); // ends the thread, and with it all reports
    const std::size_t told = ear.size();
    late.kill();
    EXPECT_EQ(ear.size(), told);
}

TEST(Watcher, ADeathIsNotPutOffByAnOrderToLookLater) {
    const Sleeper first("stead-w-race"), second("stead-w-race");
    Ear ear;
    auto watcher = *Watcher::start({named("stead-w-race")}, [&](Watcher::Look look) { ear.hear(std::move(look)); });
    watcher->look_at(BootClock::now(), {true});
    ASSERT_TRUE(ear.wait_for_count(2));
    first.kill(); // within the pause after the look
    watcher->look_at(BootClock::now() + seconds{3600}, {true});
    EXPECT_TRUE(ear.wait_for_count(1));
    second.kill();
    watcher->look_at(BootClock::now() + seconds{3600}, {true});
    EXPECT_TRUE(ear.wait_for_count(0));
}

TEST(Watcher, HundredsOfDeathsCostFewLooks) {
    std::vector<std::unique_ptr<Sleeper>> all;
    for (int i = 0; i < 100; ++i) {
        all.push_back(std::make_unique<Sleeper>("stead-w-many"));
    }
    Spec spec = named("stead-w-many");
    spec.atleast = 100;
    Ear ear;
    auto watcher = *Watcher::start({spec}, [&](Watcher::Look look) { ear.hear(std::move(look)); });
    watcher->look_at(BootClock::now(), {true});
    ASSERT_TRUE(ear.wait_for_count(100));
    for (const auto& one : all) {
        one->kill();
    }
    ASSERT_TRUE(ear.wait_for_count(0));
    EXPECT_LT(ear.size(), 20U);
}

TEST(Watcher, TwoHundredSpecsCostNothingWhileNobodyDies) {
    const Sleeper sleeper("stead-w-idle");
    std::vector<Spec> specs(200, named("stead-w-idle"));
    Ear ear;
    auto watcher = *Watcher::start(specs, [&](Watcher::Look look) { ear.hear(std::move(look)); });
    watcher->look_at(BootClock::now(), std::vector<bool>(specs.size(), true));
    ASSERT_TRUE(ear.wait_for_count(1));
    rusage before{}, after{};
    ::getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < 30; ++i) { // half a minute of looks, one each second, in a row
        const std::size_t told = ear.size();
        watcher->look_at(BootClock::now(), std::vector<bool>(specs.size(), true));
        ASSERT_TRUE(ear.wait_for_count(1, told));
    }
    ::getrusage(RUSAGE_SELF, &after);
    const auto used = [](const rusage& r) {
        return microseconds{(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1'000'000 + r.ru_utime.tv_usec +
                            r.ru_stime.tv_usec};
    };
    EXPECT_LT(used(after) - used(before), milliseconds{900}) << "3 % of half a minute";
}

} // namespace
} // namespace stead::process
