// SPDX-License-Identifier: Apache-2.0
#include <stead/web/server.hpp>

#include <stead/base/files.hpp>

#include <gmock/gmock.h>

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <set>

namespace stead::web {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// One server on the loopback, run by the test's own thread between what its clients do.
class HttpServerTest : public ::testing::Test {
protected:
    void listen(const ServerLimits& limits = {}) {
        Backend backend{[this](std::string_view module) { return ready_.contains(module); },
                        [this](const Question& question, std::string_view token, const auto& done) {
                            asked_ = question;
                            token_ = token;
                            if (answer_) {
                                done(Reply{200, {{"verb", question.verb}}});
                            } else {
                                kept_ = done;
                            }
                        },
                        "1.2.3", true, [this](std::string_view) { return started_; }};
        auto made = HttpServer::listen(io_, "127.0.0.1", 0, std::move(backend), limits);
        ASSERT_TRUE(made) << made.error().text();
        server_ = std::move(*made);
    }

    Fd connect(const char* from = "127.0.0.1") {
        Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        ::inet_pton(AF_INET, from, &address.sin_addr);
        EXPECT_EQ(::bind(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        ::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
        address.sin_port = htons(server_->port());
        ::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
        run();
        return client;
    }
    void send(const Fd& client, std::string_view text) {
        EXPECT_EQ(::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
        run();
    }
    /// Serves until nothing more is to do right now.
    void run(milliseconds time = milliseconds{20}) {
        io_.restart();
        io_.run_for(time);
    }
    /// All that came so far. `closed_`: the server closed.
    std::string received(const Fd& client) {
        std::string text;
        std::array<char, 65536> bytes;
        for (;;) {
            const ssize_t got = ::recv(client.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
            closed_ = got == 0 || (got < 0 && errno == ECONNRESET);
            if (got <= 0) {
                return text;
            }
            text.append(bytes.data(), static_cast<std::size_t>(got));
        }
    }
    std::string exchange(std::string_view request) {
        const Fd client = connect();
        send(client, request);
        return received(client);
    }

    boost::asio::io_context io_{1};
    std::unique_ptr<HttpServer> server_;
    std::set<std::string, std::less<>> ready_;
    Question asked_;
    std::string token_, started_;
    bool answer_{true}, closed_{};
    std::function<void(Reply)> kept_;
};

constexpr std::string_view health = "GET /var/modules/web/ready.txt HTTP/1.1\r\n\r\n";

TEST_F(HttpServerTest, TheHealthUrlFollowsTheState) {
    listen();
    EXPECT_THAT(exchange(health), StartsWith("HTTP/1.1 404"));
    ready_.insert("web");
    const std::string up = exchange(health);
    EXPECT_THAT(up, StartsWith("HTTP/1.1 200"));
    EXPECT_TRUE(up.ends_with("\r\n\r\nOK")) << up;
    EXPECT_THAT(up, HasSubstr("Cache-Control: no-store"));
    EXPECT_THAT(up, Not(HasSubstr("ETag"))) << "no stamp is known";
    started_ = "17641728";
    EXPECT_THAT(exchange(health), HasSubstr("\r\nETag: \"17641728\"\r\n"));
    EXPECT_THAT(exchange("GET /var/modules/db/ready.txt HTTP/1.1\r\n\r\n"), Not(HasSubstr("ETag")));
    const std::string head = exchange("HEAD /var/modules/web/ready.txt HTTP/1.1\r\n\r\n");
    EXPECT_THAT(head, StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(head, HasSubstr("Content-Length: 2"));
    EXPECT_TRUE(head.ends_with("\r\n\r\n"));
    EXPECT_THAT(exchange("GET /var/modules/web/ready.txt HTTP/1.0\r\n\r\n"), StartsWith("HTTP/1.0 200"));
}

TEST_F(HttpServerTest, KeepsConnectionsAndAnswersPipelinedRequestsInOrder) {
    listen();
    ready_.insert("web");
    const Fd client = connect();
    send(client, std::string(health) + "GET /nosuch HTTP/1.1\r\n\r\n" + std::string(health));
    const std::string text = received(client);
    EXPECT_FALSE(closed_);
    const std::size_t second = text.find("HTTP/1.1 404");
    ASSERT_NE(second, text.npos);
    EXPECT_NE(text.find("HTTP/1.1 200", second), text.npos);
    send(client, "GET /var/modules/web/ready.txt HTTP/1.1\r\nConnection: close\r\n\r\n");
    EXPECT_THAT(received(client), HasSubstr("Connection: close"));
    EXPECT_TRUE(closed_);
}

TEST_F(HttpServerTest, QuestionsGoToSteaddWithTheToken) {
    listen();
    const std::string text =
        exchange("GET /api/v1/modules/web/log?lines=3 HTTP/1.1\r\nAuthorization: Bearer abc\r\n\r\n");
    EXPECT_THAT(text, StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(text, HasSubstr(R"({"verb":"log"})"));
    EXPECT_EQ(asked_.module, "web");
    EXPECT_EQ(token_, "abc");
    EXPECT_THAT(exchange("POST /api/v1/modules HTTP/1.1\r\n\r\n"), HasSubstr("Allow: GET, HEAD\r\n"));
    EXPECT_THAT(exchange("GET /api/v1/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"), StartsWith("HTTP/1.1 403"));
    EXPECT_THAT(exchange("GET /api/v1/ HTTP/1.1\r\nHost: localhost\r\n\r\n"), HasSubstr("1.2.3"));
}

TEST_F(HttpServerTest, AClientThatLeftIsNoTroubleToALateAnswer) {
    listen();
    answer_ = false;
    {
        const Fd client = connect();
        send(client, "GET /api/v1/level HTTP/1.1\r\n\r\n");
    }
    run();
    ASSERT_TRUE(kept_);
    kept_(Reply{200, "late"});
    run();
    const Fd other = connect();
    send(other, "GET /api/v1/level HTTP/1.1\r\n\r\n");
    server_.reset(); // the server goes while the question is under way
    kept_(Reply{200, "later"});
    run();
}

TEST_F(HttpServerTest, BodiesAndGarbageAreRefusedAndTheConnectionEnds) {
    listen();
    for (const char* text :
         {"GET /api/v1/ HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "\x16\x03\x01\x02", "x\r\n\r\n",
          "POST /var/modules/web/ready.txt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello"}) {
        const Fd client = connect();
        send(client, text);
        EXPECT_THAT(received(client), StartsWith("HTTP/1.1 4")) << text;
        EXPECT_TRUE(closed_) << text;
    }
    EXPECT_EQ(server_->counters().malformed, 2u);
}

TEST_F(HttpServerTest, ASlowClientHasNoMoreTimeForManyBytesThanForOne) {
    listen({.request_limit = milliseconds{300}});
    const Fd slow = connect();
    for (int i = 0; i < 20 && !closed_; ++i) {
        ::send(slow.get(), "X", 1, MSG_NOSIGNAL);
        run(milliseconds{50});
        static_cast<void>(received(slow));
    }
    EXPECT_TRUE(closed_);
    EXPECT_EQ(server_->counters().timed_out, 1u);
    EXPECT_EQ(server_->counters().open, 0u);
}

TEST_F(HttpServerTest, TheLongestIdleClientMakesRoom) {
    listen({.connections_max = 8, .per_source_max = 4});
    ready_.insert("web");
    std::vector<Fd> idle;
    for (int i = 0; i < 20; ++i) {
        idle.push_back(connect("127.0.0.2"));
    }
    EXPECT_EQ(server_->counters().open, 4u);
    EXPECT_EQ(server_->counters().evicted, 16u);
    send(idle.back(), health); // the latest ones are still served
    EXPECT_THAT(received(idle.back()), StartsWith("HTTP/1.1 200"));
    for (int i = 0; i < 20; ++i) {
        idle.push_back(connect(("127.0.1." + std::to_string(i + 1)).c_str()));
    }
    EXPECT_EQ(server_->counters().open, 8u);
    EXPECT_THAT(exchange(health), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, AClientThatDoesNotReadIsLeft) {
    listen({.answer_limit = milliseconds{200}});
    answer_ = false;
    const Fd client = connect();
    send(client, "GET /api/v1/level HTTP/1.1\r\n\r\n");
    kept_(Reply{200, boost::json::string(40u << 20, 'x')});
    run(milliseconds{700});
    EXPECT_EQ(server_->counters().open, 0u);
    EXPECT_EQ(server_->counters().timed_out, 1u);
}

TEST_F(HttpServerTest, APortInUseIsNamed) {
    listen();
    const auto second = HttpServer::listen(io_, "127.0.0.1", server_->port(), {});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Errc::conflict);
    EXPECT_THAT(second.error().text(), HasSubstr(std::to_string(server_->port())));
    EXPECT_FALSE(HttpServer::listen(io_, "nonsense", 0, {}));
}

} // namespace
} // namespace stead::web
