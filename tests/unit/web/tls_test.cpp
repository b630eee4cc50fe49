// SPDX-License-Identifier: Apache-2.0
// HTTPS as real clients of OpenSSL see it, and clients that are none.
#include <stead/web/server.hpp>

#include <stead/base/files.hpp>
#include <stead/wire/certificate.hpp>

#include <gmock/gmock.h>
#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>

namespace stead::web {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const wire::SelfSigned& pair_of(const char* name) {
    static std::map<std::string, wire::SelfSigned> made;
    auto& one = made[name];
    if (one.key.empty()) {
        one = *wire::self_signed({{name}, {"127.0.0.1"}}, std::chrono::days{30});
    }
    return one;
}

class HttpsServerTest : public ::testing::Test {
protected:
    HttpsServerTest() { ::signal(SIGPIPE, SIG_IGN); }

    void listen(const ServerLimits& limits = {}) {
        const auto context = tls_server(pair_of("node").certificate, pair_of("node").key, "web.crt");
        ASSERT_TRUE(context) << context.error().text();
        Backend backend{[](std::string_view module) { return module == "web"; },
                        [this](const Question&, std::string_view, const auto& done) {
                            done(Reply{200, {{"text", std::string(body_bytes_, 'x')}}});
                        },
                        "1.2.3",
                        true,
                        {},
                        {}};
        auto made = HttpServer::listen(io_, "127.0.0.1", 0, std::move(backend), limits, *context);
        ASSERT_TRUE(made) << made.error().text();
        server_ = std::move(*made);
    }
    void run(milliseconds time = milliseconds{10}) {
        io_.restart();
        io_.run_for(time);
    }

    /// A client without a thread: what it cannot do now, it does when the server ran a little.
    struct Client {
        explicit Client(HttpsServerTest& of, int most = TLS1_3_VERSION) : test(of) {
            fd = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
            sockaddr_in address{};
            address.sin_family = AF_INET;
            address.sin_port = htons(test.server_->port());
            ::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
            ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
            test.run();
            context.reset(::SSL_CTX_new(::TLS_client_method()));
            ::SSL_CTX_set_max_proto_version(context.get(), most);
            ::SSL_CTX_set_security_level(context.get(), 0); // the client would try TLS 1.0
            ssl.reset(::SSL_new(context.get()));
            ::SSL_set_fd(ssl.get(), fd.get());
            ::SSL_set_connect_state(ssl.get());
        }
        template <class Try>
        int until_done(Try&& attempt) {
            for (int turn = 0; turn < 500; ++turn) {
                const int result = attempt();
                const int error = ::SSL_get_error(ssl.get(), result);
                if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
                    return result;
                }
                test.run(milliseconds{2});
            }
            return -1;
        }
        bool shake() {
            return until_done([this] { return ::SSL_do_handshake(ssl.get()); }) == 1;
        }
        void send(std::string_view text) {
            EXPECT_EQ(::SSL_write(ssl.get(), text.data(), static_cast<int>(text.size())),
                      static_cast<int>(text.size()));
            test.run();
        }
        /// Until the server closes.
        std::string rest() {
            std::string text;
            std::array<char, 16384> bytes;
            for (;;) {
                const int got = until_done([&] { return ::SSL_read(ssl.get(), bytes.data(), bytes.size()); });
                if (got <= 0) {
                    return text;
                }
                text.append(bytes.data(), static_cast<std::size_t>(got));
            }
        }
        HttpsServerTest& test;
        Fd fd;
        std::unique_ptr<SSL_CTX, decltype(&::SSL_CTX_free)> context{nullptr, &::SSL_CTX_free};
        std::unique_ptr<SSL, decltype(&::SSL_free)> ssl{nullptr, &::SSL_free};
    };

    boost::asio::io_context io_{1};
    std::unique_ptr<HttpServer> server_;
    std::size_t body_bytes_{10};
};

constexpr std::string_view ask_and_close = "GET /var/modules/web/ready.txt HTTP/1.1\r\nConnection: close\r\n\r\n";

TEST_F(HttpsServerTest, AnswersByTls12And13) {
    listen();
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        Client client(*this, version);
        ASSERT_TRUE(client.shake()) << version;
        EXPECT_EQ(::SSL_version(client.ssl.get()), version);
        client.send(ask_and_close);
        const std::string text = client.rest();
        EXPECT_THAT(text, StartsWith("HTTP/1.1 200"));
        EXPECT_TRUE(text.ends_with("\r\n\r\nOK")) << text;
        EXPECT_EQ(::SSL_get_shutdown(client.ssl.get()) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN)
            << "the end is said, so that nobody can cut an answer short";
    }
    run(milliseconds{1200}); // longer than it waits for the clients' ends
    EXPECT_EQ(server_->counters().open, 0u);
}

TEST_F(HttpsServerTest, OlderVersionsAreRefused) {
    listen();
    Client client(*this, TLS1_1_VERSION);
    EXPECT_FALSE(client.shake());
    run();
    EXPECT_EQ(server_->counters().open, 0u);
}

TEST_F(HttpsServerTest, PipelinedRequestsInOneRecordAreAllAnswered) {
    listen();
    Client client(*this);
    ASSERT_TRUE(client.shake());
    std::string many; // one TLS record, longer than the server reads at a time
    for (int i = 0; i < 150; ++i) {
        many += "GET /var/modules/web/ready.txt HTTP/1.1\r\nX: 0123456789\r\n\r\n";
    }
    ASSERT_LT(many.size() + ask_and_close.size(), 16000u);
    client.send(many + std::string(ask_and_close));
    const std::string text = client.rest();
    std::size_t count = 0;
    for (std::size_t at = text.find("HTTP/1.1 200"); at != text.npos; at = text.find("HTTP/1.1 200", at + 1)) {
        ++count;
    }
    EXPECT_EQ(count, 151u);
}

TEST_F(HttpsServerTest, LongAnswersArriveWhole) {
    listen();
    body_bytes_ = 3'000'000; // more than the socket takes at a time
    Client client(*this);
    ASSERT_TRUE(client.shake());
    client.send("GET /api/v1/modules HTTP/1.1\r\nConnection: close\r\n\r\n");
    const std::string text = client.rest();
    EXPECT_EQ(text.size() - text.find("\r\n\r\n") - 4, body_bytes_ + std::string_view("{\"text\":\"\"}\n").size());
}

TEST_F(HttpsServerTest, HttpInClearIsToldSo) {
    listen();
    Client client(*this);
    ::send(client.fd.get(), ask_and_close.data(), ask_and_close.size(), MSG_NOSIGNAL);
    run();
    std::array<char, 4096> bytes{};
    ASSERT_GT(::recv(client.fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT), 0);
    EXPECT_THAT(bytes.data(), StartsWith("HTTP/1.1 400"));
    EXPECT_THAT(bytes.data(), HasSubstr("this port speaks HTTPS"));
}

TEST_F(HttpsServerTest, WhoDoesNotFinishAHandshakeHasLittleTime) {
    ServerLimits limits;
    limits.request_limit = milliseconds{300};
    limits.keep_alive_limit = milliseconds{300};
    listen(limits);
    Client silent(*this), half(*this), garbage(*this), idle(*this), trickle(*this);
    ASSERT_TRUE(idle.shake());
    ::send(half.fd.get(), "\x16\x03\x01\x02\x00\x01", 6, MSG_NOSIGNAL);
    ::send(garbage.fd.get(), "\x00\x00\x00 no such record at all", 25, MSG_NOSIGNAL);
    run();
    EXPECT_EQ(server_->counters().open, 4u) << "garbage is closed at once";
    for (int i = 0; i < 12; ++i) { // a byte now and then wins nothing
        ::send(trickle.fd.get(), "\x16", i == 0 ? 1 : 0, MSG_NOSIGNAL);
        run(milliseconds{50});
    }
    EXPECT_EQ(server_->counters().open, 0u);
    EXPECT_EQ(server_->counters().timed_out, 4u);
}

TEST_F(HttpsServerTest, AClientThatLeavesInTheMiddleIsNoTrouble) {
    listen();
    body_bytes_ = 3'000'000;
    {
        Client client(*this);
        ASSERT_TRUE(client.shake());
        client.send("GET /api/v1/modules HTTP/1.1\r\n\r\n");
    }
    run(milliseconds{50});
    EXPECT_EQ(server_->counters().open, 0u);
}

TEST(Tls, WhatIsNoCertificateIsNamed) {
    const auto& [certificate, key] = pair_of("node");
    EXPECT_TRUE(tls_server(certificate + pair_of("authority").certificate, key, "web.crt")) << "with its chain";
    const auto refused = [](std::string_view one, std::string_view two) {
        const auto made = tls_server(one, two, "/etc/stead/web.crt");
        return made ? std::string("accepted") : made.error().text();
    };
    EXPECT_THAT(refused("", key), HasSubstr("/etc/stead/web.crt: its first part is no certificate"));
    EXPECT_THAT(refused(certificate, certificate), HasSubstr("no private key in PEM"));
    EXPECT_THAT(refused(certificate, pair_of("other").key), HasSubstr("does not belong to this certificate"));
    std::string damaged = pair_of("authority").certificate;
    damaged[damaged.size() / 2] = '!';
    EXPECT_THAT(refused(certificate + damaged, key), HasSubstr("behind the first one is damaged"));
}

TEST(Tls, DigestsAreAsEverybodyMakesThem) {
    EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

} // namespace
} // namespace stead::web
