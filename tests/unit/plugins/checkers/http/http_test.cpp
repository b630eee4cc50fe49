// SPDX-License-Identifier: Apache-2.0
#include "local_server.hpp"

#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stead::test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Attributes = std::vector<std::pair<std::string, std::string>>;

Element service(Attributes to) {
    for (const auto& [name, value] : Attributes{{"interval", "100ms"}, {"timeout", "2s"}, {"addr", "127.0.0.1"}}) {
        if (std::ranges::find(to, name, &Attributes::value_type::first) == to.end()) {
            to.emplace_back(name, value);
        }
    }
    return {"service", {}, {{"check", {}, {{"http", {{"ident", "a"}}, {{"to", to, {}}}}}}}};
}

class HttpChecker : public testing::Test {
protected:
    /// What a server's answer makes of the check; the log says why.
    void expect(const std::string& answer, const std::string& verdict, Attributes to = {},
                const std::string& reason = {}) {
        LocalServer server([&](int fd) {
            read_until(fd, "\r\n\r\n");
            say(fd, answer);
        });
        to.emplace_back("port", server.port());
        FakeHost host;
        Running running(plugin_, host, service(to));
        running.arm(STEAD_WHEN_PRIM);
        EXPECT_TRUE(host.wait("http.a", verdict)) << answer << testing::PrintToString(host.log());
        EXPECT_THAT(host.log(), Contains(AllOf(HasSubstr("set to " + verdict), HasSubstr(reason))));
    }
    const stead_plugin_descriptor& plugin_ = load_plugin(CHECKER_PLUGIN);
    FakeHost host_;
};

TEST_F(HttpChecker, AsksAsConfigured) {
    std::mutex mutex;
    std::string request;
    LocalServer server([&](int fd) {
        const std::string got = read_until(fd, "\r\n\r\n");
        {
            const std::lock_guard lock(mutex);
            request = got;
        }
        say(fd, "HTTP/1.1 204 No Content\r\n\r\n"); // from now on the verdict may be there
    });
    const auto asked = [&](Attributes to) {
        to.emplace_back("port", server.port());
        FakeHost host;
        Running running(plugin_, host, service(to));
        EXPECT_THAT(host.rules(), ElementsAre("h_a: if (http.a == down) then restart();"));
        running.arm(STEAD_WHEN_PRIM);
        EXPECT_TRUE(host.wait("http.a", "up"));
        const std::lock_guard lock(mutex);
        return request;
    };
    EXPECT_THAT(asked({}), AllOf(testing::StartsWith("GET / HTTP/1.1\r\n"),
                                 HasSubstr("\r\nHost: 127.0.0.1:" + server.port() + "\r\n"),
                                 HasSubstr("\r\nConnection: close\r\n")));
    EXPECT_THAT(
        asked({{"method", "HEAD"}, {"path", "/health?deep=1"}, {"host", "shop.example"}}),
        AllOf(testing::StartsWith("HEAD /health?deep=1 HTTP/1.1\r\n"), HasSubstr("\r\nHost: shop.example\r\n")));
}

TEST_F(HttpChecker, JudgesTheStatus) {
    const std::string empty = "\r\nContent-Length: 0\r\n\r\n";
    expect("HTTP/1.1 200 OK" + empty, "up");
    expect("HTTP/1.0 302 Found" + empty, "up");
    expect("HTTP/1.1 503 Service Unavailable" + empty, "down", {}, "status 503, wanted 200-399");
    expect("HTTP/1.1 404 Not Found" + empty, "up", {{"status", "200,404"}});
    expect("HTTP/1.1 200 OK" + empty, "down", {{"status", "204"}}, "status 200, wanted 204");
    expect("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK" + empty, "up");
    // Without a body to match the header is enough: nobody reads a large file to its end.
    expect("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n", "up");
    expect("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", "up", {{"method", "HEAD"}, {"body", "^$"}});
}

TEST_F(HttpChecker, JudgesTheBody) {
    const Attributes wanted{{"body", "status=(ok|fine)"}};
    expect("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nstatus=ok", "up", wanted);
    expect("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nstatus=bad", "down", wanted, "does not match");
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nstatus=f\r\n3\r\nine\r\n0\r\n\r\n", "up", wanted);
    expect("HTTP/1.0 200 OK\r\n\r\nstatus=ok", "up", wanted); // as long as the connection
    expect("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nstatus=ok", "down", wanted, "closed by the other side");
    const std::string large(200'000, 'x');
    expect("HTTP/1.1 200 OK\r\nContent-Length: 200009\r\n\r\nstatus=ok" + large, "up", wanted);
    expect("HTTP/1.1 200 OK\r\nContent-Length: 200009\r\n\r\n" + large + "status=ok", "down", wanted, "does not match");
}

TEST_F(HttpChecker, WhatIsNoHttpIsDown) {
    expect("SSH-2.0-OpenSSH\r\n", "down", {}, "no HTTP answer");
    expect("", "down", {}, "closed by the other side");
    expect("HTTP/1.1 200 OK\r\nX: " + std::string(40'000, 'x') + "\r\n\r\n", "down", {}, "no HTTP answer");
    expect("HTTP/1.1 OK\r\n\r\n", "down", {}, "no HTTP answer");
    std::string interim;
    for (int i = 0; i < 10; ++i) {
        interim += "HTTP/1.1 100 Continue\r\n\r\n";
    }
    expect(interim, "down", {}, "interim");
}

TEST_F(HttpChecker, OneThatAcceptsAndSaysNothingIsDownInTime) {
    LocalServer silent(wait_end);
    LocalServer slow([](int fd) { // a byte now and then does not gain time
        while (::send(fd, "H", 1, MSG_NOSIGNAL) == 1) {
            std::this_thread::sleep_for(std::chrono::milliseconds{20});
        }
    });
    for (const LocalServer* server : {&silent, &slow}) {
        FakeHost host;
        Running running(plugin_, host, service({{"port", server->port()}, {"timeout", "200ms"}}));
        running.arm(STEAD_WHEN_PRIM);
        EXPECT_TRUE(host.wait("http.a", "down"));
    }
}

TEST_F(HttpChecker, FindsMistakes) {
    EXPECT_THAT(findings(plugin_, service({})), IsEmpty());
    EXPECT_THAT(findings(plugin_, service({{"status", "2xx"}})), ElementsAre(HasSubstr("to/@status: '2xx'")));
    EXPECT_THAT(findings(plugin_, service({{"status", "399-200"}})), ElementsAre(HasSubstr("its end comes first")));
    EXPECT_THAT(findings(plugin_, service({{"body", "a(b"}})),
                ElementsAre(HasSubstr("no extended regular expression")));
    EXPECT_THAT(findings(plugin_, service({{"path", "health"}})), ElementsAre(HasSubstr("does not begin with '/'")));
    EXPECT_THAT(findings(plugin_, service({{"path", "/a HTTP/1.1\r\nX: y"}})), ElementsAre(HasSubstr("to/@path")));
    EXPECT_THAT(findings(plugin_, service({{"verify", "on"}})), ElementsAre(HasSubstr("tls=\"on\"")));
}

} // namespace
} // namespace stead::test
