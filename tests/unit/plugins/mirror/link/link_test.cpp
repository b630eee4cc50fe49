// SPDX-License-Identifier: Apache-2.0
#include "end.hpp"

#include <gmock/gmock.h>

#include <numeric>
#include <optional>
#include <thread>

namespace stead::mirror::test {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

std::vector<Seq> one_to(Seq last) {
    std::vector<Seq> all(last);
    std::iota(all.begin(), all.end(), 1);
    return all;
}

TEST(Link, MessagesArriveInOrderBothWays) {
    Pair pair;
    for (Seq seq = 1; seq <= 2000; ++seq) {
        pair.connects.link->send(pair.connects.up_generation(), write_of(seq, seq % 5 == 0 ? 100'000 : 10));
        pair.accepts.link->send(pair.accepts.up_generation(), durable(seq));
    }
    ASSERT_TRUE(pair.accepts.wait_for(What::received, 2000));
    ASSERT_TRUE(pair.connects.wait_for(What::received, 2000));
    EXPECT_THAT(pair.accepts.received(), ElementsAreArray(one_to(2000)));
    EXPECT_THAT(pair.connects.received(), ElementsAreArray(one_to(2000)));
    EXPECT_EQ(pair.accepts.link->counters().messages_in, 2000u);
    EXPECT_EQ(pair.connects.link->counters().messages_out, 2000u);
    EXPECT_GT(pair.connects.link->counters().bytes_out, 40'000'000u);
    EXPECT_EQ(pair.connects.link->counters().bytes_out, pair.accepts.link->counters().bytes_in);
}

TEST(Link, ManyThreadsSendAtOnceAndEachKeepsItsOrder) {
    Pair pair;
    constexpr Seq each = 2000;
    constexpr Seq threads = 4;
    const std::uint64_t generation = pair.connects.up_generation();
    std::vector<std::thread> senders;
    for (Seq thread = 0; thread < threads; ++thread) {
        senders.emplace_back([&, thread] {
            for (Seq i = 1; i <= each; ++i) {
                pair.connects.link->send(generation, write_of(thread << 32 | i, 64 + i % 3 * 20'000));
            }
        });
    }
    for (std::thread& sender : senders) {
        sender.join();
    }
    ASSERT_TRUE(pair.accepts.wait_for(What::received, threads * each));
    std::array<Seq, threads> last{};
    for (const Seq seq : pair.accepts.received()) {
        EXPECT_EQ(seq & 0xffffffff, ++last[seq >> 32]);
    }
}

TEST(Link, ALargeMessageAndAHundredMebibytesPass) {
    Pair pair;
    copy::Listing listing;
    for (unsigned i = 0; i < 200'000; ++i) {
        listing.entries.push_back({"name-" + std::to_string(1'000'000 + i), {i, 1}, 0100000, 0, ""});
    }
    std::optional<copy::Listing> got;
    pair.accepts.on_message = [&](std::uint64_t, const Message& message) {
        if (const auto* copy = std::get_if<message::Copy>(&message.body)) {
            got = std::get<copy::Listing>(copy->payload->what);
        }
    };
    const std::uint64_t generation = pair.connects.up_generation();
    pair.connects.link->send(generation, {1, message::Copy{1,
                                                           {TargetKind::directory, {1, 1}, 0},
                                                           std::make_shared<const Content>(Content{{}, listing})}});
    for (Seq seq = 2; seq <= 101; ++seq) {
        pair.connects.link->send(generation, write_of(seq, 1 << 20));
    }
    ASSERT_TRUE(pair.accepts.wait_for(What::received, 101));
    EXPECT_TRUE(got == listing);
    EXPECT_EQ(pair.accepts.received().back(), 101u);
    const Instant limit = BootClock::now() + seconds{20}; // the peer may have it before the sender has counted it
    while (pair.connects.link->counters().queued_bytes != 0 && BootClock::now() < limit) {
        std::this_thread::sleep_for(milliseconds{1});
    }
    EXPECT_EQ(pair.connects.link->counters().queued_bytes, 0u);
}

TEST(Link, ABrokenConnectionIsMadeAgainAndOldGenerationsAreNotSent) {
    Pair pair;
    const std::uint64_t before = pair.connects.up_generation();
    pair.connects.link->close(before);
    EXPECT_NE(pair.connects.link->generation(), before);
    pair.connects.link->send(before, durable(666));
    ASSERT_TRUE(pair.connects.wait_up(2));
    ASSERT_TRUE(pair.accepts.wait_up(2));
    EXPECT_EQ(pair.accepts.count(What::down), 1u);
    EXPECT_EQ(pair.connects.count(What::down), 0u); // closed without down
    EXPECT_GT(pair.connects.up_generation(), before);
    pair.connects.link->send(before, durable(667));
    pair.connects.link->send(0, durable(668));
    pair.connects.link->send(pair.connects.up_generation(), durable(1));
    ASSERT_TRUE(pair.accepts.wait_for(What::received, 1));
    EXPECT_THAT(pair.accepts.received(), ElementsAreArray({1}));
    EXPECT_EQ(pair.connects.link->counters().connections, 2u);
    pair.connects.link->close(before); // of the past: nothing happens
    EXPECT_EQ(pair.connects.link->generation(), pair.connects.up_generation());
}

TEST(Link, TheAcceptingSideMayCloseToo) {
    Pair pair;
    const std::uint64_t before = pair.accepts.up_generation();
    pair.accepts.link->close(before);
    EXPECT_NE(pair.accepts.link->generation(), before); // none, or the next one already
    ASSERT_TRUE(pair.connects.wait_for(What::down, 1));
    ASSERT_TRUE(pair.accepts.wait_up(2));
    ASSERT_TRUE(pair.connects.wait_up(2));
    EXPECT_EQ(pair.accepts.count(What::down), 0u);
    const std::lock_guard lock{pair.connects.mutex};
    EXPECT_EQ(pair.connects.said[1].generation, pair.connects.said[0].generation);
    EXPECT_THAT(pair.connects.said[1].reason, HasSubstr("closed the connection"));
}

TEST(Link, EventsMayCloseAndSend) {
    Pair pair;
    pair.accepts.on_message = [&](std::uint64_t generation, const Message& message) {
        pair.accepts.link->send(generation, durable(End::seq_of(message) + 100));
        if (End::seq_of(message) == 3) {
            pair.accepts.link->close(generation);
        }
    };
    const std::uint64_t generation = pair.connects.up_generation();
    for (Seq seq = 1; seq <= 1000; ++seq) {
        pair.connects.link->send(generation, durable(seq));
    }
    ASSERT_TRUE(pair.connects.wait_up(2));
    EXPECT_THAT(pair.accepts.received(), ElementsAreArray(one_to(3))); // nothing of a closed generation
}

TEST(Link, WhoStartsLaterIsFoundAndARestartedPeerReplacesItsOldConnection) {
    auto accepts = std::make_unique<End>(accepting());
    const std::uint16_t port = accepts->link->port();
    auto connects = std::make_unique<End>(connecting(port));
    ASSERT_TRUE(accepts->wait_up() && connects->wait_up());
    connects.reset();
    ASSERT_TRUE(accepts->wait_for(What::down, 1));
    connects = std::make_unique<End>(connecting(port));
    ASSERT_TRUE(accepts->wait_up(2) && connects->wait_up());
    accepts.reset();
    ASSERT_TRUE(connects->wait_for(What::down, 1));
    LinkOptions again = accepting();
    again.port = port;
    accepts = std::make_unique<End>(again);
    ASSERT_TRUE(accepts->wait_up() && connects->wait_up(2));
    accepts->link->send(accepts->up_generation(), durable(5));
    EXPECT_TRUE(connects->wait_for(What::received, 1));
}

TEST(Link, ANewerConnectionOfThePeerEndsTheOneBefore) {
    End accepts(accepting());
    End first(connecting(accepts.link->port()));
    ASSERT_TRUE(accepts.wait_up() && first.wait_up());
    End second(connecting(accepts.link->port())); // as after a restart that nobody noticed
    ASSERT_TRUE(second.wait_up());
    ASSERT_TRUE(accepts.wait_up(2));
    const std::lock_guard lock{accepts.mutex};
    EXPECT_EQ(accepts.said[1].what, What::down);
    EXPECT_EQ(accepts.said[1].generation, accepts.said[0].generation);
    EXPECT_THAT(accepts.said[1].reason, HasSubstr("connected anew"));
}

TEST(Link, APeerThatStopsReadingBlocksNobodyAndWhatWaitsIsCounted) {
    std::mutex gate;
    Pair pair;
    pair.accepts.on_message = [&](std::uint64_t, const Message&) { const std::lock_guard wait{gate}; };
    const std::uint64_t generation = pair.connects.up_generation();
    std::unique_lock closed{gate};
    Seq sent = 0;
    const Instant limit = BootClock::now() + seconds{60};
    while (pair.connects.link->counters().queued_bytes < 4u << 20 && BootClock::now() < limit) {
        pair.connects.link->send(generation, write_of(++sent, 1 << 18));
    }
    EXPECT_EQ(pair.connects.reason(), "");
    EXPECT_GE(pair.connects.link->counters().queued_bytes, 4u << 20);
    pair.accepts.link->send(pair.accepts.up_generation(), durable(77)); // the other way is free
    EXPECT_TRUE(pair.connects.wait_for(What::received, 1));
    closed.unlock();
    ASSERT_TRUE(pair.accepts.wait_for(What::received, sent));
    EXPECT_THAT(pair.accepts.received(), ElementsAreArray(one_to(sent)));
    EXPECT_EQ(pair.connects.link->counters().queued_bytes, 0u);
}

TEST(Link, APeerWhoseBuffersStayFullIsGivenUp) {
    std::mutex gate;
    End accepts(accepting());
    accepts.on_message = [&](std::uint64_t, const Message&) { const std::lock_guard wait{gate}; };
    LinkOptions impatient = connecting(accepts.link->port());
    impatient.dead_after = milliseconds{300};
    End connects(impatient);
    ASSERT_TRUE(accepts.wait_up() && connects.wait_up());
    std::unique_lock closed{gate};
    const Instant limit = BootClock::now() + seconds{60};
    while (connects.link->counters().queued_bytes < 1u << 20 && connects.count(What::down) == 0 &&
           BootClock::now() < limit) {
        connects.link->send(1, write_of(1, 1 << 18));
    }
    EXPECT_TRUE(connects.wait_for(What::down, 1));
    EXPECT_EQ(connects.link->counters().queued_bytes, 0u);
    closed.unlock();
    EXPECT_TRUE(connects.wait_up(2));
}

TEST(Link, CloseDropsWhatWaits) {
    std::mutex gate;
    Pair pair;
    pair.accepts.on_message = [&](std::uint64_t, const Message&) { const std::lock_guard wait{gate}; };
    const std::uint64_t generation = pair.connects.up_generation();
    std::unique_lock closed{gate};
    while (pair.connects.link->counters().queued_bytes < 1u << 20 && pair.connects.count(What::down) == 0) {
        pair.connects.link->send(generation, write_of(1, 1 << 18));
    }
    ASSERT_EQ(pair.connects.reason(), "");
    const Instant before = BootClock::now();
    pair.connects.link->close(generation);
    EXPECT_LT(BootClock::now() - before, seconds{1});
    EXPECT_EQ(pair.connects.link->counters().queued_bytes, 0u);
    closed.unlock();
    EXPECT_TRUE(pair.accepts.wait_for(What::down, 1));
}

TEST(Link, EitherSideMayHoldTwoKeysDuringRotation) {
    const std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>> cases{
        {{key_b, key_a}, {key_a}}, {{key_b, key_a}, {key_b}}, {{key_a}, {key_b, key_a}}, {{key_a}, {key_a, key_b}}};
    for (const auto& [server, client] : cases) {
        End accepts(accepting(server));
        End connects(connecting(accepts.link->port(), client));
        EXPECT_TRUE(accepts.wait_up() && connects.wait_up());
    }
}

TEST(Link, OverIPv6) {
    LinkOptions options = accepting();
    options.local = options.peer = "::1";
    End accepts(options);
    LinkOptions there = connecting(accepts.link->port());
    there.local = "::1";
    there.peer = "0:0:0:0:0:0:0:1";
    End connects(there);
    EXPECT_TRUE(accepts.wait_up() && connects.wait_up());
}

TEST(Link, StartSaysWhatIsWrong) {
    LinkOptions options = accepting();
    options.local = "192.0.2.1";
    EXPECT_THAT(Link::start(options, {}).error().text(), HasSubstr("192.0.2.1"));
    options.local = "here";
    EXPECT_THAT(Link::start(options, {}).error().text(), HasSubstr("'here' is not an IPv4 or IPv6 address"));
    options = connecting(1);
    options.peer = "there";
    EXPECT_THAT(Link::start(options, {}).error().text(), HasSubstr("'there'"));
    options = connecting(1, {});
    EXPECT_THAT(Link::start(options, {}).error().text(), HasSubstr("genkey"));
}

} // namespace
} // namespace stead::mirror::test
