// SPDX-License-Identifier: Apache-2.0
#include <stead/test/temporary_folder.hpp>

#include <stead/control/channel.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>

#include <malloc.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <thread>

namespace stead::control {
namespace {

namespace json = boost::json;

std::string frame_of(std::string_view text) {
    std::string bytes{'\0', '\0', static_cast<char>(text.size() >> 8), static_cast<char>(text.size() & 0xff)};
    return bytes.append(text);
}

TEST(FrameDecoder, FramesArriveInAnyPieces) {
    const std::string bytes = *encode_frame(json::object{{"a", 1}}) + *encode_frame(json::object{{"b", "ü"}});
    FrameDecoder decoder;
    std::vector<std::string> seen;
    for (const char byte : bytes) {
        decoder.feed(std::string_view(&byte, 1));
        auto frame = decoder.next();
        ASSERT_TRUE(frame);
        if (*frame) {
            seen.push_back(json::serialize((*frame)->body));
        }
    }
    EXPECT_THAT(seen, ::testing::ElementsAre(R"({"a":1})", R"({"b":"ü"})"));
    EXPECT_FALSE(decoder.in_frame());
}

// Scripts, file names and web clients bring any bytes; a peer that cannot read one of them closes the connection.
TEST(FrameDecoder, BytesThatAreNoTextArriveAsEscapes) {
    FrameDecoder decoder;
    decoder.feed(std::string_view(*encode_frame(json::object{{"a", "caf\xe9 \"\xff"}, {"k\xe4y", "\xed\xa0\x80"}})));
    const auto frame = decoder.next();
    ASSERT_TRUE(frame && *frame) << frame.error().text();
    EXPECT_EQ((*frame)->body, (json::object{{"a", R"(caf\xe9 "\xff)"}, {R"(k\xe4y)", R"(\xed\xa0\x80)"}}));
}

TEST(FrameDecoder, RefusesWhatIsNoFrame) {
    for (const std::string& bytes : {std::string("\x7f\xff\xff\xff", 4), frame_of("{"), frame_of("[1]"), frame_of("7"),
                                     frame_of("{} x"), frame_of(std::string(4000, '[')), frame_of(R"({"fds":-1})"),
                                     frame_of(R"({"fds":9})"), frame_of(R"({"fds":"x"})"), frame_of("")}) {
        FrameDecoder decoder;
        decoder.feed(std::string_view(bytes));
        EXPECT_FALSE(decoder.next()) << bytes;
    }
}

TEST(FrameDecoder, DescriptorsThatNobodyAnnouncesEndTheConnection) {
    FrameDecoder decoder;
    for (int i = 0; i < 65; ++i) {
        decoder.feed(Fd(::dup(0)));
    }
    const auto frame = decoder.next();
    ASSERT_FALSE(frame);
    EXPECT_EQ(frame.error().code, Errc::out_of_range);
}

TEST(FrameDecoder, AnnouncedDescriptorsMustHaveCome) {
    FrameDecoder decoder;
    decoder.feed(std::string_view(frame_of(R"({"fds":1})")));
    EXPECT_EQ(decoder.next().error().code, Errc::malformed);
}

TEST(FrameDecoder, AStreamThatNeverEndsWithAFrameTakesNoMemory) {
    const std::string piece = frame_of(R"({"a":")" + std::string(60'000, 'x') + "\"}");
    FrameDecoder decoder;
    decoder.feed(std::string_view(piece).substr(0, 100));
    const std::size_t before = ::mallinfo2().uordblks + ::mallinfo2().hblkhd;
    for (int i = 0; i < 500; ++i) { // 30 MB
        decoder.feed(std::string_view(piece).substr(100));
        decoder.feed(std::string_view(piece).substr(0, 100));
        ASSERT_TRUE(decoder.next()->has_value());
        ASSERT_FALSE(decoder.next()->has_value());
    }
    EXPECT_LT(::mallinfo2().uordblks + ::mallinfo2().hblkhd, before + (1u << 20));
}

TEST(FrameDecoder, TruncatedFrameWaits) {
    FrameDecoder decoder;
    decoder.feed(std::string_view(frame_of(R"({"a":1})")).substr(0, 9));
    EXPECT_FALSE(decoder.next()->has_value());
    EXPECT_TRUE(decoder.in_frame());
}

/// An echo server on its own thread; it hands back the descriptors it gets.
class ChannelTest : public ::testing::Test {
protected:
    ChannelTest() {
        auto server = Server::listen(io_.get_executor(), socket_, 0600, nullptr, [](std::shared_ptr<Connection> one) {
            one->start([](const std::shared_ptr<Connection>& from,
                          Frame frame) { from->send(frame.body, std::move(frame.fds)); },
                       [](const std::shared_ptr<Connection>&, const std::string&) {});
        });
        EXPECT_TRUE(server);
        server_ = std::move(*server);
        thread_ = std::thread([this] { io_.run(); });
    }
    ~ChannelTest() override {
        io_.stop();
        thread_.join();
    }
    stead::testing::TemporaryFolder folder_;
    std::filesystem::path socket_{folder_.path() / "s"};
    boost::asio::io_context io_;
    std::unique_ptr<Server> server_;
    std::thread thread_;
};

constexpr seconds patience{20};

TEST_F(ChannelTest, LargeFramesComeBackWhole) {
    auto client = Client::connect(socket_, patience);
    ASSERT_TRUE(client);
    const std::string text(3u << 20, 'x');
    ASSERT_TRUE(client->send(json::object{{"text", text}}, {}, patience));
    auto answer = client->receive(patience);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->body.at("text").as_string().size(), text.size());
}

TEST_F(ChannelTest, WhatNoFrameCanHoldIsNotSentAndClosesNothing) {
    boost::asio::io_context io;
    auto connection = Connection::connect(io.get_executor(), socket_);
    ASSERT_TRUE(connection);
    EXPECT_FALSE((*connection)->send(json::object{{"text", std::string(17u << 20, 'x')}}));
    EXPECT_TRUE((*connection)->open());
    EXPECT_TRUE((*connection)->send(json::object{{"text", "short"}}));
}

TEST_F(ChannelTest, DescriptorsTravelWithTheirFrame) {
    auto client = Client::connect(socket_, patience);
    ASSERT_TRUE(client);
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const Fd reader(ends[0]);
    const Fd writer(ends[1]);
    ASSERT_TRUE(client->send(json::object{{"plain", 1}}));
    ASSERT_TRUE(client->send(json::object{{"with", 1}}, std::span<const int>(&ends[1], 1)));
    ASSERT_TRUE(client->send(json::object{{"plain", 2}}));
    EXPECT_TRUE(client->receive(patience)->fds.empty());
    auto with = client->receive(patience);
    ASSERT_EQ(with->fds.size(), 1u);
    EXPECT_TRUE(client->receive(patience)->fds.empty());
    ASSERT_EQ(::write(with->fds[0].get(), "y", 1), 1);
    char byte = 0;
    EXPECT_EQ(::read(reader.get(), &byte, 1), 1);
    EXPECT_EQ(byte, 'y');
}

TEST_F(ChannelTest, GarbageClosesThatConnectionOnly) {
    auto bad = Client::connect(socket_, patience);
    auto good = Client::connect(socket_, patience);
    ASSERT_TRUE(bad);
    ASSERT_TRUE(good);
    const std::string garbage(100, '\xff');
    ASSERT_EQ(::send(bad->native_handle(), garbage.data(), garbage.size(), MSG_NOSIGNAL), 100);
    EXPECT_EQ(bad->receive(patience).error().code, Errc::refused);
    ASSERT_TRUE(good->send(json::object{{"still", "here"}}));
    EXPECT_TRUE(good->receive(patience));
}

TEST_F(ChannelTest, ALiveSocketIsNotTakenOver) {
    boost::asio::io_context other;
    const auto second =
        Server::listen(other.get_executor(), socket_, 0600, nullptr, [](std::shared_ptr<Connection>) {});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Errc::conflict);
}

TEST(Channel, NobodyThereIsSaidAtOnce) {
    const stead::testing::TemporaryFolder folder;
    EXPECT_EQ(Client::connect(folder.path() / "none", patience).error().code, Errc::not_found);
}

/// A socket that is bound there; its file stays when it is closed.
Fd bound(const std::filesystem::path& path) {
    Fd made(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.native().copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return made;
}

TEST(Channel, AServerThatIsJustDyingIsWaitedFor) {
    const stead::testing::TemporaryFolder folder;
    Fd dying = bound(folder.path() / "s");
    ASSERT_EQ(::listen(dying.get(), 100), 0);
    std::thread end([&] {
        std::this_thread::sleep_for(milliseconds{300});
        dying = Fd{};
    });
    boost::asio::io_context io;
    const auto next = Server::listen(io.get_executor(), folder.path() / "s", 0600, nullptr,
                                     [](std::shared_ptr<Connection>) {});
    end.join();
    EXPECT_TRUE(next) << next.error().text();
}

TEST(Channel, AStaleSocketFileIsReplaced) {
    const stead::testing::TemporaryFolder folder;
    const std::filesystem::path path = folder.path() / "s";
    bound(path);
    EXPECT_EQ(Client::connect(path, patience).error().code, Errc::refused);
    boost::asio::io_context io;
    EXPECT_TRUE(Server::listen(io.get_executor(), path, 0600, nullptr, [](std::shared_ptr<Connection>) {}));
}

TEST(Channel, OutOfDescriptorsItWaitsInsteadOfSpinning) {
    const stead::testing::TemporaryFolder folder;
    boost::asio::io_context io;
    int accepted = 0;
    const auto server = Server::listen(io.get_executor(), folder.path() / "s", 0600, nullptr,
                                       [&](const std::shared_ptr<Connection>&) { ++accepted; });
    ASSERT_TRUE(server);
    const auto client = Client::connect(folder.path() / "s", patience);
    ASSERT_TRUE(client);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit none{3, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    const std::size_t turns = io.run_for(milliseconds{300});
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_LT(turns, 20u);
    EXPECT_EQ(accepted, 0);
    for (const Instant end = BootClock::now() + patience; accepted == 0 && BootClock::now() < end;) {
        io.run_one_for(milliseconds{100});
    }
    EXPECT_EQ(accepted, 1) << "there is room again";
}

} // namespace
} // namespace stead::control
