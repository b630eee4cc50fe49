// SPDX-License-Identifier: Apache-2.0
#include "local_server.hpp"

#include <stead/test/fake_host.hpp>
#include <stead/test/temporary_folder.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <csignal>
#include <cstdlib>
#include <memory>

namespace stead::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Attributes = std::vector<std::pair<std::string, std::string>>;

Element service(Attributes to, Attributes check = {}) {
    check.emplace_back("ident", "a");
    if (std::ranges::find(to, "interval", &Attributes::value_type::first) == to.end()) {
        to.emplace_back("interval", "100ms");
    }
    if (std::ranges::find(to, "addr", &Attributes::value_type::first) == to.end()) {
        to.emplace_back("addr", "127.0.0.1");
    }
    return {"service", {}, {{"check", {}, {{"tcp", check, {{"to", to, {}}}}}}}};
}

/// A key and a certificate for one name, issued by itself.
struct Certificate {
    std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key{EVP_RSA_gen(2048), EVP_PKEY_free};
    std::unique_ptr<X509, void (*)(X509*)> x509{X509_new(), X509_free};

    explicit Certificate(const std::string& name) {
        X509_set_version(x509.get(), 2);
        ASN1_INTEGER_set(X509_get_serialNumber(x509.get()), 1);
        X509_gmtime_adj(X509_getm_notBefore(x509.get()), -86400);
        X509_gmtime_adj(X509_getm_notAfter(x509.get()), 86400);
        X509_set_pubkey(x509.get(), key.get());
        X509_NAME* subject = X509_get_subject_name(x509.get());
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()),
                                   -1, -1, 0);
        X509_set_issuer_name(x509.get(), subject);
        X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, ("DNS:" + name).c_str());
        X509_add_ext(x509.get(), names, -1);
        X509_EXTENSION_free(names);
        X509_sign(x509.get(), key.get(), EVP_sha256());
    }
};

class TcpChecker : public ::testing::Test {
protected:
    /// Set before the plugin looks for the system's certificates, once per process.
    static void SetUpTestSuite() {
        std::signal(SIGPIPE, SIG_IGN); // our server's TLS writes to probes that are over
        folder_ = new testing::TemporaryFolder;
        certificate_ = new Certificate("shop.example");
        const std::string file = (folder_->path() / "trusted.pem").string();
        const std::unique_ptr<FILE, int (*)(FILE*)> out(std::fopen(file.c_str(), "w"), std::fclose);
        PEM_write_X509(out.get(), certificate_->x509.get());
        ::setenv("SSL_CERT_FILE", file.c_str(), 1);
    }
    static void TearDownTestSuite() {
        delete certificate_;
        delete folder_;
    }
    static void serve_tls(int fd) { serve_tls_and(fd, SSL_VERIFY_NONE); }
    static void serve_tls_and(int fd, int verify) {
        const std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
        SSL_CTX_use_certificate(context.get(), certificate_->x509.get());
        SSL_CTX_set_verify(context.get(), verify, nullptr);
        SSL_CTX_use_PrivateKey(context.get(), certificate_->key.get());
        const std::unique_ptr<SSL, void (*)(SSL*)> tls(SSL_new(context.get()), SSL_free);
        SSL_set_fd(tls.get(), fd);
        if (SSL_accept(tls.get()) == 1) {
            std::string text(4, '\0');
            if (SSL_read(tls.get(), text.data(), 4) > 0) {
                const std::string answer = "said " + text;
                SSL_write(tls.get(), answer.data(), static_cast<int>(answer.size()));
            }
        }
        wait_end(fd); // a socket closed with unread bytes in it would take our alert back
    }

    static inline testing::TemporaryFolder* folder_{};
    static inline Certificate* certificate_{};
    const stead_plugin_descriptor& plugin_ = load_plugin(CHECKER_PLUGIN);
    FakeHost host_;
};

TEST_F(TcpChecker, UpWhileItConnectsAndDownWhenRefused) {
    LocalServer server(wait_end);
    Running running(plugin_, host_, service({{"port", server.port()}}));
    EXPECT_THAT(host_.rules(), ElementsAre("t_a: if (tcp.a == down) then restart();"));
    running.arm(STEAD_WHEN_PRE | STEAD_WHEN_BOTH);
    running.arm(STEAD_WHEN_PRE | STEAD_WHEN_BOTH | STEAD_WHEN_PRIM);
    EXPECT_TRUE(host_.wait("tcp.a", "up"));
    server.close();
    EXPECT_TRUE(host_.wait("tcp.a", "down"));
    EXPECT_TRUE(host_.wait_log("down: 127.0.0.1 port " + server.port() + ": Connection refused"));
    server.listen();
    EXPECT_TRUE(host_.wait("tcp.a", "up"));
    running.arm(0);
    EXPECT_EQ(host_.resource("tcp.a"), "init");
    const std::string probes = running.describe();
    std::this_thread::sleep_for(std::chrono::milliseconds{300});
    EXPECT_EQ(running.describe(), probes) << "probed while not armed";
    EXPECT_THAT(host_.history("tcp.a"), ElementsAre("init", "up", "down", "up", "init"));
}

TEST_F(TcpChecker, TriesEveryAddressOfAName) {
    LocalServer server(wait_end); // localhost is ::1 as well on most systems, where nobody listens
    Running running(plugin_, host_, service({{"addr", "localhost"}, {"port", server.port()}}));
    running.arm(STEAD_WHEN_PRIM);
    EXPECT_TRUE(host_.wait("tcp.a", "up"));
}

TEST_F(TcpChecker, ANameThatNobodyKnowsIsDown) {
    Running running(plugin_, host_, service({{"addr", "nobody.invalid"}, {"port", "80"}, {"timeout", "10s"}}));
    running.arm(STEAD_WHEN_PRIM);
    EXPECT_TRUE(host_.wait("tcp.a", "down"));
    EXPECT_TRUE(host_.wait_log("cannot resolve nobody.invalid"));
}

TEST_F(TcpChecker, SendsAndExpects) {
    LocalServer redis([](int fd) {
        if (read_until(fd, "\r\n") == "PING\r\n") {
            say(fd, "+PO");
            say(fd, "NG\r\n");
        }
        wait_end(fd);
    });
    Attributes to{{"port", redis.port()}, {"send", "PING\\r\\n"}, {"expect", "+PONG\\x0d\\n"}, {"timeout", "2s"}};
    {
        Running running(plugin_, host_, service(to));
        running.arm(STEAD_WHEN_PRIM);
        EXPECT_TRUE(host_.wait("tcp.a", "up"));
    }
    to[2].second = "+LOADING";
    to[3].second = "300ms";
    Running running(plugin_, host_, service(to));
    running.arm(STEAD_WHEN_PRIM);
    EXPECT_TRUE(host_.wait("tcp.a", "down"));
    EXPECT_TRUE(host_.wait_log("no answer within 300 ms"));
}

TEST_F(TcpChecker, ABannerIsExpectedWithoutAWord) {
    LocalServer ssh([](int fd) {
        say(fd, "SSH-2.0-test\r\n");
        wait_end(fd);
    });
    Running running(plugin_, host_, service({{"port", ssh.port()}, {"expect", "SSH-2.0"}}));
    running.arm(STEAD_WHEN_PRIM);
    EXPECT_TRUE(host_.wait("tcp.a", "up"));
}

TEST_F(TcpChecker, OneThatTalksForEverIsCutOff) {
    LocalServer chatty([](int fd) {
        while (::send(fd, "blah blah blah ", 15, MSG_NOSIGNAL) > 0) {
        }
    });
    Running running(plugin_, host_, service({{"port", chatty.port()}, {"expect", "hello"}}));
    running.arm(STEAD_WHEN_PRIM);
    EXPECT_TRUE(host_.wait("tcp.a", "down"));
    EXPECT_TRUE(host_.wait_log("not in the first 16384 bytes"));
}

TEST_F(TcpChecker, TlsVerifiesTheNameWhenAsked) {
    LocalServer server(serve_tls);
    const auto verdict = [&](Attributes to, const char* wanted) {
        to.emplace_back("port", server.port());
        to.emplace_back("tls", "on");
        FakeHost host;
        Running running(plugin_, host, service(to));
        running.arm(STEAD_WHEN_PRIM);
        EXPECT_TRUE(host.wait("tcp.a", wanted)) << ::testing::PrintToString(host.log());
        return host.log();
    };
    verdict({}, "up");
    verdict({{"verify", "on"}, {"servername", "shop.example"}}, "up");
    verdict({{"send", "ping"}, {"expect", "said ping"}}, "up");
    EXPECT_THAT(verdict({{"verify", "on"}, {"servername", "bank.example"}}, "down"),
                ::testing::Contains(HasSubstr("certificate: hostname mismatch")));
    EXPECT_THAT(verdict({{"verify", "on"}}, "down"),
                ::testing::Contains(HasSubstr("certificate: IP address mismatch")));
}

// Goal: the reason is what the server refuses, not a flaw of its certificate that nobody asked about.
TEST_F(TcpChecker, AServerThatWantsOurCertificateIsDownWithItsAlert) {
    LocalServer server([](int fd) { serve_tls_and(fd, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT); });
    Running running(plugin_, host_,
                    service({{"port", server.port()}, {"tls", "on"}, {"send", "ping"}, {"expect", "said"}}));
    running.arm(STEAD_WHEN_PRIM);
    EXPECT_TRUE(host_.wait("tcp.a", "down"));
    EXPECT_TRUE(host_.wait_log("certificate required")) << ::testing::PrintToString(host_.log());
}

TEST_F(TcpChecker, TlsWithSomethingElseIsDown) {
    LocalServer plain([](int fd) {
        say(fd, "220 mail.example ESMTP\r\n");
        wait_end(fd);
    });
    LocalServer silent(wait_end);
    for (const LocalServer* server : {&plain, &silent}) {
        FakeHost host;
        Running running(plugin_, host, service({{"port", server->port()}, {"tls", "on"}, {"timeout", "300ms"}}));
        running.arm(STEAD_WHEN_PRIM);
        EXPECT_TRUE(host.wait("tcp.a", "down"));
    }
}

TEST_F(TcpChecker, AnUpdateMovesItToAnotherPort) {
    LocalServer server(wait_end);
    LocalServer gone(wait_end);
    gone.close();
    Running running(plugin_, host_, service({{"port", server.port()}}));
    running.arm(STEAD_WHEN_PRIM);
    EXPECT_TRUE(host_.wait("tcp.a", "up"));
    EXPECT_EQ(running.update(service({{"port", gone.port()}})), "");
    EXPECT_TRUE(host_.wait("tcp.a", "down"));
    EXPECT_EQ(running.update(service({{"port", server.port()}})), "");
    EXPECT_TRUE(host_.wait("tcp.a", "up"));
}

TEST_F(TcpChecker, FindsMistakes) {
    EXPECT_THAT(findings(plugin_, service({{"port", "80"}})), IsEmpty());
    EXPECT_THAT(findings(plugin_, service({{"port", "80"}, {"send", "a\\q"}})),
                ElementsAre(HasSubstr("to/@send: '\\q' is no escape")));
    EXPECT_THAT(findings(plugin_, service({{"port", "80"}, {"verify", "on"}})), ElementsAre(HasSubstr("tls=\"on\"")));
    EXPECT_THAT(findings(plugin_, service({{"port", "80"}}, {{"when", "pre"}, {"action", "restart"}})),
                ElementsAre(HasSubstr("wait or noaction")));
    EXPECT_THAT(findings(plugin_, service({{"port", "80"}}, {{"when", "pre"}})), IsEmpty());
}

} // namespace
} // namespace stead::test
