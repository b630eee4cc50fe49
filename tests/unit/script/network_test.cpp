// SPDX-License-Identifier: Apache-2.0
// Goal: what hooks ask of the network is answered in time, whatever the peer does.
#include "hook_fixture.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <thread>

namespace stead::script::test {

using testing::HasSubstr;

/// Accepts connections on a free port of 127.0.0.1, reads once, sends an answer and (unless told not to) closes.
class Peer {
public:
    explicit Peer(std::string answer, bool close = true) : answer_(std::move(answer)), close_(close) {
        listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
            ::listen(listener_.get(), 8) == 0 &&
            ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0) {
            port = std::to_string(ntohs(address.sin_port));
        }
        thread_ = std::thread([this] { serve(); });
    }
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;
    ~Peer() {
        ::shutdown(listener_.get(), SHUT_RDWR);
        thread_.join();
    }
    std::string port, asked;

private:
    void serve() {
        for (;;) {
            Fd one(::accept(listener_.get(), nullptr, nullptr));
            if (!one) {
                return;
            }
            char buffer[4096];
            const ssize_t got = ::recv(one.get(), buffer, sizeof buffer, 0);
            asked.assign(buffer, got > 0 ? static_cast<std::size_t>(got) : 0);
            for (const char c : answer_) { // byte by byte: parsers must not count on whole lines
                if (::send(one.get(), &c, 1, MSG_NOSIGNAL) != 1) {
                    break;
                }
            }
            if (!close_) {
                kept_.push_back(std::move(one));
            }
        }
    }
    std::string answer_;
    bool close_;
    Fd listener_;
    std::vector<Fd> kept_;
    std::thread thread_;
};

struct Network : HookTest {
    HookResult with(const Peer& peer, const std::string& text) {
        return lua("local port = " + peer.port + "\n" + text);
    }
};

TEST_F(Network, HttpGet) {
    Peer plain("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Node: n1\r\n\r\nhelloEXTRA", false);
    EXPECT_EQ(with(plain, R"(
        local page = assert(stead.http.get{url = "http://127.0.0.1:" .. port .. "/a?b=c", headers = {["X-Q"] = "1"}})
        assert(page.status == 200 and page.body == "hello" and page.headers["x-node"] == "n1", page.body))")
                  .reason,
              "");
    EXPECT_THAT(plain.asked, HasSubstr("GET /a?b=c HTTP/1.1\r\n"));
    EXPECT_THAT(plain.asked, HasSubstr("\r\nX-Q: 1\r\n"));
    Peer chunked("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", false);
    EXPECT_EQ(with(chunked, R"(local page = assert(stead.http.get("http://127.0.0.1:" .. port))
        assert(page.status == 503 and page.body == "abcde", page.body))")
                  .reason,
              "");
    Peer until_close("HTTP/1.0 200 OK\r\n\r\nall of it");
    EXPECT_EQ(with(until_close, R"(local page = assert(stead.http.get("http://127.0.0.1:" .. port))
        assert(page.body == "all of it", page.body))")
                  .reason,
              "");
}

TEST_F(Network, HttpGetOfABadPeer) {
    const std::string ask = R"(
        local page, why = stead.http.get{url = "http://127.0.0.1:" .. port .. "/", timeout = "300ms"}
        assert(page == nil and why:find("http://127.0.0.1", 1, true), why) return false, why)";
    Peer silent("", false);
    EXPECT_THAT(with(silent, ask).reason, HasSubstr("no answer in time"));
    Peer cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello");
    EXPECT_NE(with(cut, ask).reason, "");
    Peer garbage("SSH-2.0-OpenSSH\r\n\r\n");
    EXPECT_NE(with(garbage, ask).reason, "");
    Peer huge("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", false);
    EXPECT_NE(with(huge, ask).reason, "");
    for (const char* url :
         {"https://x/", "x", "http://", "http://[::1", "http://a:0/", "http://a:99999/", "http://a b/"}) {
        EXPECT_THAT(lua("stead.http.get('" + std::string(url) + "')").reason, HasSubstr("argument 'url'")) << url;
    }
    EXPECT_THAT(lua("stead.http.get{url='http://a/', headers={['A']='b\\r\\nC: d'}}").reason, HasSubstr("one line"));
}

TEST_F(Network, TcpAsk) {
    Peer redis("+PONG\r\n", false);
    EXPECT_EQ(with(redis, R"(
        assert(stead.tcp.ask{port = port, send = "PING\r\n", expect = "+PONG"}:find("+PONG", 1, true)))")
                  .reason,
              "");
    EXPECT_EQ(redis.asked, "PING\r\n");
    const HookResult wrong = with(redis, R"(
        local got, why = stead.tcp.ask{port = port, send = "x", expect = "-ERR", timeout = "200ms"}
        return false, why)");
    EXPECT_THAT(wrong.reason, HasSubstr("no answer in time; expected '-ERR', got '+PONG\\x0d\\x0a'"));
    EXPECT_THAT(lua("stead.tcp.ask{prot = 1}").reason, HasSubstr("allowed: host, port, send"));
    EXPECT_THAT(lua("stead.tcp.ask{port = 0}").reason, HasSubstr("'port'"));
}

TEST_F(Network, AWaitEndsWithTheHook) {
    Peer silent("", false);
    limits.timeout = milliseconds{300};
    const Instant began = BootClock::now();
    const HookResult result = with(silent, R"(stead.tcp.ask{port = port, send = "x", expect = "y", timeout = "1h"})");
    EXPECT_EQ(result.end, End::timed_out);
    EXPECT_LT(BootClock::now() - began, seconds{3});
}

TEST_F(Network, WhoHasAPort) {
    Peer peer("");
    const HookResult taken = with(peer, "local free, who = stead.port_free(port) return free, who");
    EXPECT_EQ(taken.end, End::failed);
    EXPECT_THAT(taken.reason, HasSubstr("tcp port " + peer.port + " of 127.0.0.1 belongs to unit_script (pid " +
                                        std::to_string(::getpid()) + ")"));
    EXPECT_EQ(with(peer, "return stead.port_free(port, 'udp')").reason, "");
}

TEST_F(Network, ExpandAndRender) {
    EXPECT_THAT(lua("stead.expand('a\\nb %NOPE%')").reason, HasSubstr("stead.expand: line 2: %NOPE%"));
    EXPECT_EQ(lua(R"(assert(stead.expand("%d % %PORT%%SERVICES%%% %", {d = 1}) == "%d % 80nginx% %"))").reason, "");
    ASSERT_TRUE(write_file_atomically(folders.conf / "site.in", "p %PORT%\nq %BAD%\n", 0644));
    EXPECT_THAT(lua("stead.file.render('site.in', stead.module.var .. '/x')").reason, HasSubstr("site.in:2: %BAD%"));
    EXPECT_FALSE(fs::exists(folders.var / "x"));
    EXPECT_EQ(lua(R"(assert(stead.file.render("site.in", stead.module.var .. "/x", {BAD = 3}, 0x180)))").reason, "");
    EXPECT_EQ(fs::status(folders.var / "x").permissions(), fs::perms(0600));
    EXPECT_EQ(*read_file(folders.var / "x", 100), "p 80\nq 3\n");
    EXPECT_EQ(lua(R"(stead.file.mkdir(stead.module.var .. "/d/e") stead.file.write(stead.module.var .. "/d/f", "")
        local names = stead.file.list(stead.module.var .. "/d") assert(#names == 2 and names[1] == "e")
        assert(stead.file.list("/no/such") == nil))")
                  .reason,
              "");
}

TEST_F(Network, LogFieldsAndJson) {
    EXPECT_EQ(lua(R"(stead.log.info("up", {b = 2, a = 'x "y"', c = "", d = true})
        local v = stead.json.decode('{"a":[1,{"b":null}],"c":1.5}') assert(v.a[1] == 1 and v.c == 1.5)
        local bad, why = stead.json.decode(("["):rep(1000)) assert(bad == nil and why))")
                  .reason,
              "");
    EXPECT_THAT(host.lines, testing::Contains(R"(1 up a="x \"y\"" b=2 c="" d=true)"));
    EXPECT_THAT(lua("stead.log.info('a', 5)").reason, HasSubstr("argument 'fields'"));
}

} // namespace stead::script::test
