// SPDX-License-Identifier: Apache-2.0
#include <stead/base/limits.hpp>
#include <stead/wire/stream.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace stead::wire {
namespace {

using std::chrono::seconds;

const std::string key_a(32, 'a');
const std::string key_b(32, 'b');

std::unique_ptr<StreamServer> echo_server(const std::vector<std::string>& keys, const std::string& address) {
    auto server = StreamServer::start({address}, 0, keys, [](Stream& stream) {
        for (;;) {
            auto frame = stream.read_frame(seconds{20});
            if (!frame || !stream.write_frame("echo " + *frame, seconds{20})) {
                return;
            }
        }
    });
    EXPECT_TRUE(server) << server.error().text();
    return server ? std::move(*server) : nullptr;
}

/// The server may count a refusal only after the client has seen it.
std::uint64_t refused_within_limit(const StreamServer& server, std::uint64_t wanted) {
    const Instant limit = BootClock::now() + seconds{20};
    while (server.refused() < wanted && BootClock::now() < limit) {
        std::this_thread::yield();
    }
    return server.refused();
}

TEST(Stream, SeveralFramesGoBothWaysOverIPv4AndIPv6) {
    for (const std::string address : {"127.0.0.1", "::1"}) {
        auto server = echo_server({key_a}, address);
        ASSERT_TRUE(server);
        auto stream = StreamClient::connect(address, server->port(), {key_a}, seconds{20});
        ASSERT_TRUE(stream) << stream.error().text();
        for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{70000}, std::size_t{3} << 20}) {
            const std::string sent(size, 'x');
            ASSERT_TRUE((*stream)->write_frame(sent, seconds{20}));
            const auto got = (*stream)->read_frame(seconds{20});
            ASSERT_TRUE(got) << got.error().text();
            EXPECT_EQ(got->size(), size + 5);
            EXPECT_EQ(*got, "echo " + sent);
        }
    }
}

TEST(Stream, AnotherKeyIsDeniedAndTheServerGoesOn) {
    auto server = echo_server({key_a}, "127.0.0.1");
    const auto refused = StreamClient::connect("127.0.0.1", server->port(), {key_b}, seconds{20});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::denied) << refused.error().text();
    EXPECT_TRUE(StreamClient::connect("127.0.0.1", server->port(), {key_a}, seconds{20}));
    EXPECT_EQ(refused_within_limit(*server, 1), 1U);
}

TEST(Stream, EitherSideMayHoldTwoKeysDuringRotation) {
    auto both = echo_server({key_b, key_a}, "127.0.0.1");
    EXPECT_TRUE(StreamClient::connect("127.0.0.1", both->port(), {key_a}, seconds{20}));
    EXPECT_TRUE(StreamClient::connect("127.0.0.1", both->port(), {key_b}, seconds{20}));
    auto old = echo_server({key_a}, "127.0.0.1");
    const auto second = StreamClient::connect("127.0.0.1", old->port(), {key_b, key_a}, seconds{20});
    EXPECT_TRUE(second) << second.error().text();
    old->set_keys({key_b});
    EXPECT_FALSE(StreamClient::connect("127.0.0.1", old->port(), {key_a}, seconds{20}));
    EXPECT_TRUE(StreamClient::connect("127.0.0.1", old->port(), {key_b}, seconds{20}));
}

TEST(Stream, AnOversizedFrameIsRefusedBeforeItIsSent) {
    auto server = echo_server({key_a}, "127.0.0.1");
    auto stream = StreamClient::connect("127.0.0.1", server->port(), {key_a}, seconds{20});
    ASSERT_TRUE(stream);
    const auto sent = (*stream)->write_frame(std::string(limits::stream_frame_bytes_max + 1, 'x'), seconds{1});
    ASSERT_FALSE(sent);
    EXPECT_EQ(sent.error().code, Errc::out_of_range);
}

TEST(Stream, ASilentPeerTimesOut) {
    auto server = echo_server({key_a}, "127.0.0.1");
    auto stream = StreamClient::connect("127.0.0.1", server->port(), {key_a}, seconds{20});
    ASSERT_TRUE(stream);
    const auto got = (*stream)->read_frame(milliseconds{30});
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code, Errc::timed_out);
}

TEST(Stream, AnOrderlyCloseIsNotAnError) {
    std::atomic<int> ends{};
    auto server = StreamServer::start({"127.0.0.1"}, 0, {key_a}, [&](Stream& stream) {
        const auto got = stream.read_frame(seconds{20});
        if (!got && got.error().code == Errc::not_found) {
            ++ends;
        }
    });
    ASSERT_TRUE(server);
    ASSERT_TRUE(StreamClient::connect("127.0.0.1", (*server)->port(), {key_a}, seconds{20}));
    const Instant limit = BootClock::now() + seconds{20};
    while (ends == 0 && BootClock::now() < limit) {
        std::this_thread::yield();
    }
    EXPECT_EQ(ends, 1);
}

TEST(Stream, GarbageOnTheSocketIsCountedAndHarmless) {
    auto server = echo_server({key_a}, "127.0.0.1");
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(server->port());
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    for (int i = 0; i < 20; ++i) {
        const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
        ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
        const std::string garbage(static_cast<std::size_t>(i) * 37, static_cast<char>(i * 11));
        (void)!::send(fd, garbage.data(), garbage.size(), MSG_NOSIGNAL);
        ::close(fd);
    }
    EXPECT_EQ(refused_within_limit(*server, 20), 20U);
    EXPECT_TRUE(StreamClient::connect("127.0.0.1", server->port(), {key_a}, seconds{20}));
}

/// A connection that never says a word.
int silent_stranger(std::uint16_t port) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    return fd;
}

TEST(Stream, SilentStrangersKeepNobodyOut) {
    auto server = echo_server({key_a}, "127.0.0.1");
    std::vector<int> strangers;
    for (unsigned i = 0; i < StreamServer::connections_max + 10; ++i) {
        strangers.push_back(silent_stranger(server->port()));
    }
    auto stream = StreamClient::connect("127.0.0.1", server->port(), {key_a}, seconds{20});
    ASSERT_TRUE(stream) << stream.error().text();
    ASSERT_TRUE((*stream)->write_frame("in", seconds{20}));
    EXPECT_TRUE((*stream)->read_frame(seconds{20}));
    // The oldest were closed for the later ones of their host: a read ends at once.
    char byte = 0;
    EXPECT_EQ(::recv(strangers.front(), &byte, 1, 0), 0);
    for (const int fd : strangers) {
        ::close(fd);
    }
}

TEST(Stream, WhoShowedTheKeyIsNotPushedOut) {
    auto server = echo_server({key_a}, "127.0.0.1");
    auto stream = StreamClient::connect("127.0.0.1", server->port(), {key_a}, seconds{20});
    ASSERT_TRUE(stream);
    ASSERT_TRUE((*stream)->write_frame("here", seconds{20}));
    ASSERT_TRUE((*stream)->read_frame(seconds{20})); // the server has seen the end of the handshake, too
    for (unsigned i = 0; i < 3 * StreamServer::strangers_per_host_max; ++i) {
        ::close(silent_stranger(server->port()));
    }
    ASSERT_TRUE((*stream)->write_frame("still here", seconds{20}));
    const auto answer = (*stream)->read_frame(seconds{20});
    ASSERT_TRUE(answer) << answer.error().text();
    EXPECT_EQ(*answer, "echo still here");
}

TEST(Stream, AServerThatStopsListeningFreesThePortAndServesOn) {
    auto server = echo_server({key_a}, "127.0.0.1");
    auto stream = StreamClient::connect("127.0.0.1", server->port(), {key_a}, seconds{20});
    ASSERT_TRUE(stream);
    ASSERT_TRUE((*stream)->write_frame("one", seconds{20}));
    ASSERT_TRUE((*stream)->read_frame(seconds{20}));
    server->stop_listening();
    const auto next = StreamServer::start({"127.0.0.1"}, server->port(), {key_a}, [](Stream&) {});
    EXPECT_TRUE(next) << next.error().text();
    ASSERT_TRUE((*stream)->write_frame("two", seconds{20}));
    EXPECT_TRUE((*stream)->read_frame(seconds{20}));
}

TEST(Stream, DestroyingTheServerEndsItsConnectionsAtOnce) {
    auto server = echo_server({key_a}, "127.0.0.1");
    auto stream = StreamClient::connect("127.0.0.1", server->port(), {key_a}, seconds{20});
    ASSERT_TRUE(stream);
    const Instant before = BootClock::now();
    server.reset();
    EXPECT_LT(BootClock::now() - before, seconds{10});
    EXPECT_FALSE((*stream)->read_frame(seconds{20}));
}

} // namespace
} // namespace stead::wire
