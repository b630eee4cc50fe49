// SPDX-License-Identifier: Apache-2.0
#include <stead/wire/duplex_stream.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/epoll.h>

#include <atomic>
#include <thread>

namespace stead::wire {
namespace {

const std::string key_a(32, 'a');
const std::string key_b(32, 'b');

std::string framed(const std::string& frame) { return std::string(DuplexStream::head_bytes, '\0') + frame; }

/// Both ends of a connection over loopback, and one thread that owns them.
class Ends {
public:
    explicit Ends(const std::vector<std::string>& server_keys = {key_a}, DuplexStream::Options server_options = {},
                  DuplexStream::Options client_options = {}) {
        const auto listener = listen_at("127.0.0.1", 0);
        EXPECT_TRUE(listener);
        auto socket = begin_connect("127.0.0.1", "127.0.0.1", port_of(*listener));
        EXPECT_TRUE(socket);
        Accepted accepted = accept_from(*listener);
        EXPECT_EQ(accepted.host, "127.0.0.1");
        client = DuplexStream::make(std::move(*socket), DuplexStream::Side::client, {key_a}, "server", client_options);
        server = DuplexStream::make(std::move(accepted.socket), DuplexStream::Side::server, server_keys, "client",
                                    server_options);
        for (auto* stream : {&client, &server}) {
            epoll_event event{};
            event.events = DuplexStream::epoll_events;
            event.data.ptr = stream;
            EXPECT_EQ(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, (*stream)->fd(), &event), 0);
        }
    }

    /// Until `done`, or an error of either end; false after a minute in which nothing happened.
    template <class Done>
    bool run(Done done) {
        while (!done() && !failed()) {
            epoll_event event{};
            const int count = ::epoll_wait(epoll.get(), &event, 1, 60'000);
            if (count == 0) {
                return false;
            }
            auto* stream = static_cast<std::shared_ptr<DuplexStream>*>(event.data.ptr);
            auto& got = stream == &client ? to_client : to_server;
            for (std::uint32_t events = event.events;; events = 0) {
                const auto more = (*stream)->ready(events, [&](std::string_view frame) {
                    got.emplace_back(frame);
                    return true;
                });
                if (!more) {
                    (stream == &client ? client_error : server_error) = more.error();
                }
                if (!more || !*more) {
                    break;
                }
            }
        }
        return done();
    }
    [[nodiscard]] bool failed() const { return !client_error.what.empty() || !server_error.what.empty(); }

    Fd epoll{::epoll_create1(EPOLL_CLOEXEC)};
    std::shared_ptr<DuplexStream> client, server;
    std::vector<std::string> to_client, to_server;
    Error client_error, server_error;
};

TEST(DuplexStream, FramesOfAllSizesCrossEachOther) {
    Ends ends;
    std::vector<std::string> frames;
    for (const std::size_t size : {0u, 1u, 16383u, 16384u, 16385u, 65532u, 65533u, 1u << 20, 16u << 20}) {
        frames.emplace_back(size, static_cast<char>('a' + frames.size()));
    }
    for (const std::string& frame : frames) { // before the handshake: they wait
        ends.client->send(framed(frame));
        ends.server->send(framed(frame));
    }
    EXPECT_GT(ends.client->queued_bytes(), 17u << 20);
    ASSERT_TRUE(ends.run([&] { return ends.to_client.size() == 9 && ends.to_server.size() == 9; }));
    EXPECT_TRUE(ends.to_client == frames);
    EXPECT_TRUE(ends.to_server == frames);
    EXPECT_EQ(ends.client->queued_bytes(), 0u);
    EXPECT_EQ(ends.client->bytes_out(), ends.server->bytes_in());
}

TEST(DuplexStream, TheTrafficKeyIsRenewedInPassing) {
    DuplexStream::Options often;
    often.records_per_key = 3;
    Ends ends({key_a}, often, often);
    ASSERT_TRUE(ends.run([&] { return ends.client->shaken() && ends.server->shaken(); }));
    for (std::size_t i = 1; i <= 100; ++i) {
        ends.client->send(framed("to server " + std::to_string(i)));
        ends.server->send(framed("to client " + std::to_string(i)));
        ASSERT_TRUE(ends.run([&] { return ends.to_client.size() == i && ends.to_server.size() == i; }));
    }
    EXPECT_EQ(ends.to_server.back(), "to server 100");
    EXPECT_EQ(ends.to_client.back(), "to client 100");
}

TEST(DuplexStream, OtherKeysAreDeniedOnBothSides) {
    Ends ends({key_b});
    ends.client->send(framed("secret"));
    EXPECT_FALSE(ends.run([&] { return ends.server->shaken(); }));
    EXPECT_EQ(ends.server_error.code, Errc::denied) << ends.server_error.text();
    EXPECT_TRUE(ends.to_server.empty());
    EXPECT_FALSE(ends.client->shaken());
    ends.server_error = {};
    EXPECT_FALSE(ends.run([] { return false; }));
    EXPECT_EQ(ends.client_error.code, Errc::denied) << ends.client_error.text();
}

TEST(DuplexStream, AFrameTooLongEndsTheStreamWhenItsLengthIsSeen) {
    DuplexStream::Options small;
    small.frame_bytes_max = 1000;
    Ends ends({key_a}, small);
    ends.client->send(framed(std::string(1000, 'x')));
    ASSERT_TRUE(ends.run([&] { return ends.to_server.size() == 1; }));
    ends.client->send(framed(std::string(1001, 'x')));
    EXPECT_FALSE(ends.run([] { return false; }));
    EXPECT_EQ(ends.server_error.code, Errc::out_of_range);
    EXPECT_THAT(ends.server_error.text(), testing::HasSubstr("1001 bytes, the maximum is 1000"));
    ends.server->send(framed("into the void"));
    EXPECT_EQ(ends.server->queued_bytes(), 0u);
}

TEST(DuplexStream, TheEndIsSeenBehindTheLastFrame) {
    for (int round = 0; round < 50; ++round) {
        Ends ends;
        ASSERT_TRUE(ends.run([&] { return ends.client->shaken() && ends.server->shaken(); }));
        ends.client->send(framed(std::string(10'000, 'x'))); // the socket takes it all
        ASSERT_EQ(ends.client->queued_bytes(), 0u);
        ends.client->shut();
        while (ends.server_error.what.empty()) {
            ends.client_error = {}; // it knows that it was shut
            ASSERT_TRUE(ends.run([&] { return !ends.server_error.what.empty(); }) || !ends.client_error.what.empty());
        }
        EXPECT_EQ(ends.to_server.size(), 1u);
        EXPECT_EQ(ends.server_error.code, Errc::not_found) << ends.server_error.text();
    }
}

TEST(DuplexStream, ManySendersWhileTheOwnerReads) {
    Ends ends;
    ASSERT_TRUE(ends.run([&] { return ends.client->shaken() && ends.server->shaken(); }));
    constexpr std::size_t each = 3000;
    std::vector<std::thread> senders;
    for (int thread = 0; thread < 3; ++thread) {
        senders.emplace_back([&ends] {
            for (std::size_t i = 0; i < each; ++i) {
                ends.client->send(framed(std::string(i % 40'000, 'c')));
                ends.server->send(framed(std::string(i % 7, 's')));
            }
        });
    }
    EXPECT_TRUE(ends.run([&] { return ends.to_client.size() == 3 * each && ends.to_server.size() == 3 * each; }));
    for (std::thread& sender : senders) {
        sender.join();
    }
    EXPECT_EQ(ends.client->bytes_out(), ends.server->bytes_in());
}

} // namespace
} // namespace stead::wire
