// SPDX-License-Identifier: Apache-2.0
// HTTPS with a real client of OpenSSL; the server runs on a thread of the test.
#include <stead/test/temporary_folder.hpp>

#include <stead/base/files.hpp>
#include <stead/web/server.hpp>

#include <gmock/gmock.h>

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <sys/socket.h>

#include <filesystem>
#include <thread>

namespace stead::web {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

template <class T, void (*release)(T*)>
using Owned = std::unique_ptr<T, decltype([](T* one) { release(one); })>;
using Key = Owned<EVP_PKEY, EVP_PKEY_free>;
using Certificate = Owned<X509, X509_free>;
using Client = Owned<SSL, SSL_free>;
using Context = Owned<SSL_CTX, SSL_CTX_free>;

std::string pem_of(EVP_PKEY* key, X509* certificate) {
    const Owned<BIO, BIO_free_all> out(::BIO_new(::BIO_s_mem()));
    if (key != nullptr) {
        ::PEM_write_bio_PrivateKey(out.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
    } else {
        ::PEM_write_bio_X509(out.get(), certificate);
    }
    char* text = nullptr;
    const long size = BIO_get_mem_data(out.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

class Https : public ::testing::Test {
protected:
    void SetUp() override {
        ::signal(SIGPIPE, SIG_IGN);
        key_.reset(EVP_EC_gen("P-256"));
        certificate_.reset(::X509_new());
        ASN1_INTEGER_set(::X509_get_serialNumber(certificate_.get()), 1);
        ::X509_gmtime_adj(X509_getm_notBefore(certificate_.get()), -60);
        ::X509_gmtime_adj(X509_getm_notAfter(certificate_.get()), 3600);
        ::X509_set_pubkey(certificate_.get(), key_.get());
        ::X509_sign(certificate_.get(), key_.get(), ::EVP_sha256());
        ASSERT_TRUE(write_file_atomically(crt(), pem_of(nullptr, certificate_.get()), 0644));
        ASSERT_TRUE(write_file_atomically(pem(), pem_of(key_.get(), nullptr), 0600));
    }
    void TearDown() override {
        if (thread_.joinable()) {
            io_.stop();
            thread_.join();
        }
    }
    std::filesystem::path crt() const { return folder_.path() / "web.crt"; }
    std::filesystem::path pem() const { return folder_.path() / "web.key"; }

    void serve(const ServerLimits& limits = {}) {
        auto identity = load_identity(crt(), pem());
        ASSERT_TRUE(identity) << identity.error().text();
        ASSERT_NE(*identity, nullptr);
        Backend backend{[](std::string_view module) { return module == "web"; },
                        [](const Question&, std::string_view, const auto& done) {
                            done(Reply{200, boost::json::value(std::string(2'000'000, 'x'))});
                        },
                        "1.2.3", true, [](std::string_view) { return std::string{"17"}; }};
        auto made = HttpServer::listen(io_, "127.0.0.1", 0, std::move(backend), limits, *identity);
        ASSERT_TRUE(made) << made.error().text();
        server_ = std::move(*made);
        thread_ = std::thread([this] { io_.run(); });
    }
    Fd connect() {
        Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(server_->port());
        EXPECT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        const timeval limit{20, 0};
        ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        return client;
    }
    Client speak(const Fd& socket) {
        Client client(::SSL_new(context_.get()));
        ::SSL_set_fd(client.get(), socket.get());
        EXPECT_EQ(::SSL_connect(client.get()), 1);
        return client;
    }
    static void say(const Client& client, std::string_view text) {
        EXPECT_EQ(::SSL_write(client.get(), text.data(), static_cast<int>(text.size())), static_cast<int>(text.size()));
    }
    /// Until `count` times `part` came, or the end.
    static std::string hear(const Client& client, std::string_view part, int count = 1) {
        std::string text;
        std::array<char, 65536> bytes;
        for (int seen = 0; seen < count;) {
            const int got = ::SSL_read(client.get(), bytes.data(), static_cast<int>(bytes.size()));
            if (got <= 0) {
                break;
            }
            text.append(bytes.data(), static_cast<std::size_t>(got));
            seen = 0;
            for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) {
                ++seen;
            }
        }
        return text;
    }

    stead::testing::TemporaryFolder folder_;
    Key key_;
    Certificate certificate_;
    Context context_{::SSL_CTX_new(::TLS_client_method())};
    boost::asio::io_context io_{1};
    std::unique_ptr<HttpServer> server_;
    std::thread thread_;
};

constexpr std::string_view health = "GET /var/modules/web/ready.txt HTTP/1.1\r\n\r\n";

TEST_F(Https, ServesWhatHttpServes) {
    serve();
    const Fd socket = connect();
    const Client client = speak(socket);
    for (int turn = 0; turn < 2; ++turn) {
        say(client, health);
        const std::string text = hear(client, "\r\n\r\nOK");
        EXPECT_THAT(text, StartsWith("HTTP/1.1 200"));
        EXPECT_THAT(text, HasSubstr("ETag: \"17\""));
    }
    say(client, "GET /var/modules/db/ready.txt HTTP/1.1\r\nConnection: close\r\n\r\n");
    EXPECT_THAT(hear(client, "no such text"), StartsWith("HTTP/1.1 404"));
    EXPECT_EQ(::SSL_get_shutdown(client.get()) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN) << "a clean end";
}

TEST_F(Https, ManyRequestsInOneRecordAreAllAnswered) {
    serve();
    const Fd socket = connect();
    const Client client = speak(socket);
    std::string many;
    for (int i = 0; i < 200; ++i) { // more than is read at a time: the rest waits inside TLS, not in the socket
        many += health;
    }
    say(client, many);
    const std::string text = hear(client, "\r\n\r\nOK", 200);
    EXPECT_TRUE(text.ends_with("\r\n\r\nOK"));
}

TEST_F(Https, ALargeAnswerArrivesWhole) {
    serve();
    const Fd socket = connect();
    const Client client = speak(socket);
    say(client, "GET /api/v1/modules HTTP/1.1\r\nConnection: close\r\n\r\n");
    const std::string text = hear(client, "no such text");
    EXPECT_THAT(text.substr(0, 200), HasSubstr("Content-Length: 2000003"));
    EXPECT_EQ(text.size() - text.find("\r\n\r\n") - 4, 2'000'003U);
}

TEST_F(Https, StrangersAreClosedAndHoldNobodyUp) {
    ServerLimits limits;
    limits.request_limit = milliseconds{500};
    serve(limits);
    const Fd silent = connect(); // never begins its handshake
    const Fd plain = connect();
    EXPECT_EQ(::send(plain.get(), health.data(), health.size(), MSG_NOSIGNAL), static_cast<ssize_t>(health.size()));
    std::array<char, 4096> bytes;
    std::string got;
    for (ssize_t size = 0; (size = ::recv(plain.get(), bytes.data(), bytes.size(), 0)) > 0;) {
        got.append(bytes.data(), static_cast<std::size_t>(size));
    }
    EXPECT_EQ(got.find("HTTP/"), got.npos) << "no answer in clear";
    const Fd socket = connect();
    const Client client = speak(socket);
    say(client, health);
    EXPECT_THAT(hear(client, "\r\n\r\nOK"), StartsWith("HTTP/1.1 200"));
    EXPECT_EQ(::recv(silent.get(), bytes.data(), bytes.size(), 0), 0) << "its time is over";
}

TEST_F(Https, IdentitiesThatAreNotRightAreRefused) {
    const auto text = [&] {
        const auto loaded = load_identity(crt(), pem());
        return loaded ? *loaded ? "good" : "none" : loaded.error().text();
    };
    EXPECT_EQ(text(), "good");
    std::filesystem::permissions(pem(), std::filesystem::perms{0640});
    EXPECT_THAT(text(), HasSubstr("web.key: a private key that others may read"));
    ASSERT_TRUE(write_file_atomically(pem(), pem_of(Key(EVP_EC_gen("P-256")).get(), nullptr), 0600));
    EXPECT_THAT(text(), HasSubstr("web.key: not the private key of the certificate"));
    ASSERT_TRUE(write_file_atomically(crt(), "nonsense"));
    EXPECT_THAT(text(), HasSubstr("web.crt: not a certificate in PEM"));
    std::filesystem::remove(crt());
    EXPECT_THAT(text(), HasSubstr("web.crt: is not there, and HTTPS needs both"));
    std::filesystem::remove(pem());
    EXPECT_EQ(text(), "none");
}

} // namespace
} // namespace stead::web
