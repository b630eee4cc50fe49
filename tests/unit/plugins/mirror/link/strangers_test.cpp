// SPDX-License-Identifier: Apache-2.0
#include "end.hpp"

#include <stead/wire/duplex_stream.hpp>
#include <stead/wire/stream.hpp>

#include <gmock/gmock.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

namespace stead::mirror::test {
namespace {

using wire::DuplexStream;

Fd knock(std::uint16_t port, const char* from = "127.0.0.1") {
    Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in own{};
    own.sin_family = AF_INET;
    inet_pton(AF_INET, from, &own.sin_addr);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&own), sizeof own), 0);
    sockaddr_in to = own;
    to.sin_port = htons(port);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    return fd;
}

[[nodiscard]] bool refused(End& end, std::uint64_t wanted) {
    const Instant limit = BootClock::now() + seconds{60};
    while (end.link->counters().refused < wanted && BootClock::now() < limit) {
        std::this_thread::sleep_for(milliseconds{1});
    }
    return end.link->counters().refused == wanted;
}

/// The established stream still works, and is still the same one.
void expect_undisturbed(Pair& pair) {
    const std::size_t before = pair.accepts.received().size();
    pair.connects.link->send(1, durable(1));
    EXPECT_TRUE(pair.accepts.wait_for(What::received, before + 1));
    EXPECT_EQ(pair.accepts.link->generation(), 1u);
    EXPECT_EQ(pair.accepts.count(What::down), 0u);
}

bool ends(const Fd& fd) {
    pollfd one{fd.get(), POLLIN, 0};
    char bytes[4096];
    while (::poll(&one, 1, 60'000) == 1) {
        if (::recv(fd.get(), bytes, sizeof bytes, 0) <= 0) {
            return true;
        }
    }
    return false;
}

/// A peer that does not keep to our rules, but may have the key.
struct Liar {
    Liar(std::uint16_t port, const std::string& key) {
        auto socket = wire::begin_connect("127.0.0.1", "127.0.0.1", port);
        EXPECT_TRUE(socket);
        DuplexStream::Options options;
        stream = DuplexStream::make(std::move(*socket), DuplexStream::Side::client, {key}, "liar", options);
    }
    void say(const std::string& frame) { stream->send(std::string(DuplexStream::head_bytes, '\0') + frame); }
    /// Until it has an error, or `frames` came.
    Result<bool> run(std::size_t frames, std::vector<std::string>* got = nullptr) {
        const Fd epoll{::epoll_create1(EPOLL_CLOEXEC)};
        epoll_event event{};
        event.events = DuplexStream::epoll_events;
        EXPECT_EQ(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, stream->fd(), &event), 0);
        std::size_t seen = 0;
        for (;;) {
            if (::epoll_wait(epoll.get(), &event, 1, 60'000) != 1) {
                return Error{Errc::timed_out, "test", "nothing came"};
            }
            auto more = stream->ready(event.events, [&](std::string_view frame) {
                ++seen;
                if (got != nullptr) {
                    got->emplace_back(frame);
                }
                return true;
            });
            if (!more || seen >= frames) {
                return more;
            }
        }
    }
    std::shared_ptr<DuplexStream> stream;
};

std::string greeting(std::uint8_t node, std::uint8_t instance, std::uint8_t number) {
    std::string out = "STEADLNK";
    out += std::string("\0\x01\0", 3) + static_cast<char>(node);
    out += std::string(7, '\0') + static_cast<char>(instance);
    out += std::string(7, '\0') + static_cast<char>(number);
    return out;
}

TEST(LinkStrangers, GarbageIsRefusedCountedAndDisturbsNobody) {
    Pair pair;
    for (std::size_t i = 1; i <= 30; ++i) {
        const Fd fd = knock(pair.accepts.link->port());
        const std::string garbage(i * 37, static_cast<char>(i * 11));
        (void)!::send(fd.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
        ::shutdown(fd.get(), SHUT_WR);
        EXPECT_TRUE(ends(fd));
    }
    EXPECT_TRUE(refused(pair.accepts, 30));
    expect_undisturbed(pair);
}

TEST(LinkStrangers, AnotherKeyIsRefused) {
    Pair pair;
    Liar liar(pair.accepts.link->port(), key_b);
    liar.say(greeting(0, 9, 9));
    const auto result = liar.run(1);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Errc::denied) << result.error().text();
    EXPECT_TRUE(refused(pair.accepts, 1));
    End other(connecting(pair.accepts.link->port(), {key_b}));
    EXPECT_TRUE(refused(pair.accepts, 3)); // it tries again
    EXPECT_EQ(other.count(What::up), 0u);
    expect_undisturbed(pair);
}

TEST(LinkStrangers, AStreamForRequestsOpensNoLink) {
    Pair pair;
    const auto result = wire::StreamClient::connect("127.0.0.1", pair.accepts.link->port(), {key_a}, seconds{20});
    EXPECT_FALSE(result);
    EXPECT_TRUE(refused(pair.accepts, 1));
    expect_undisturbed(pair);
}

TEST(LinkStrangers, SilentOnesMakeRoomAndAreGivenUp) {
    Pair pair;
    std::vector<Fd> silent;
    for (int i = 0; i < 12; ++i) {
        silent.push_back(knock(pair.accepts.link->port()));
    }
    EXPECT_TRUE(ends(silent[0])); // for a later one
    expect_undisturbed(pair);
    pair.connects.link->close(1);
    ASSERT_TRUE(pair.accepts.wait_up(2)); // the peer comes through all of them
    for (const Fd& fd : silent) {
        EXPECT_TRUE(ends(fd));
    }
    EXPECT_TRUE(refused(pair.accepts, 12));
}

TEST(LinkStrangers, OtherAddressesAreRefusedBeforeAnyHandshake) {
    Pair pair;
    const Fd fd = knock(pair.accepts.link->port(), "127.0.0.2");
    EXPECT_TRUE(ends(fd));
    EXPECT_TRUE(refused(pair.accepts, 1));
    expect_undisturbed(pair);
}

TEST(LinkStrangers, WhoHasTheKeyMustGreetAsTheOtherNode) {
    Pair pair;
    std::uint64_t count = 0;
    for (const std::string& wrong : {std::string{}, std::string{"hello"}, greeting(1, 9, 9), greeting(2, 9, 9)}) {
        Liar liar(pair.accepts.link->port(), key_a);
        liar.say(wrong);
        EXPECT_FALSE(liar.run(1));
        EXPECT_TRUE(refused(pair.accepts, ++count));
    }
    expect_undisturbed(pair);
}

TEST(LinkStrangers, AnAttemptThatWasOvertakenDoesNotReplaceTheLaterOne) {
    End accepts(accepting());
    Liar late(accepts.link->port(), key_a), early(accepts.link->port(), key_a), restarted(accepts.link->port(), key_a);
    late.say(greeting(0, 9, 5));
    std::vector<std::string> answer;
    ASSERT_TRUE(late.run(1, &answer));
    EXPECT_EQ(answer.at(0).substr(0, 12), greeting(1, 0, 0).substr(0, 12));
    ASSERT_TRUE(accepts.wait_up());
    early.say(greeting(0, 9, 4));
    EXPECT_FALSE(early.run(1));
    EXPECT_EQ(accepts.link->generation(), 1u);
    restarted.say(greeting(0, 8, 1)); // another instance
    ASSERT_TRUE(restarted.run(1));
    ASSERT_TRUE(accepts.wait_up(2));
    EXPECT_FALSE(late.run(1)); // closed
}

TEST(LinkStrangers, AMessageThatCannotBeEndsTheConnectionWithAReason) {
    End accepts(accepting());
    Liar liar(accepts.link->port(), key_a);
    liar.say(greeting(0, 9, 1));
    ASSERT_TRUE(liar.run(1));
    liar.say(encode(durable(4)));
    liar.say(std::string("\0\0\0\x05\x08\x63\x9a\x06\0", 9));
    EXPECT_FALSE(liar.run(1));
    ASSERT_TRUE(accepts.wait_for(What::down, 1));
    EXPECT_THAT(accepts.received(), testing::ElementsAre(4));
    EXPECT_THAT(accepts.said.back().reason, testing::HasSubstr("message of kind 99"));
}

} // namespace
} // namespace stead::mirror::test
