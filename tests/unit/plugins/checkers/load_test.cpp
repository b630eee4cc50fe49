// SPDX-License-Identifier: Apache-2.0
// What 200 checks at intervals of 1 s cost, in processor time of this process: the server is another one. It prints the
// figure; the bounds are wide enough for a machine that does much else.
#include "local_server.hpp"

#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>

namespace stead::test {
namespace {

constexpr int checks_count = 200;

/// Answers every connection at once with a small page.
class OtherProcess {
public:
    OtherProcess() {
        int ends[2];
        if (::pipe(ends) != 0) {
            throw std::runtime_error("pipe");
        }
        child_ = ::fork();
        if (child_ == 0) {
            serve(ends[1]);
        }
        ::close(ends[1]);
        if (::read(ends[0], &port_, sizeof port_) != sizeof port_) {
            throw std::runtime_error("the server did not start");
        }
        ::close(ends[0]);
    }
    OtherProcess(const OtherProcess&) = delete;
    OtherProcess& operator=(const OtherProcess&) = delete;
    ~OtherProcess() {
        ::kill(child_, SIGKILL);
        ::waitpid(child_, nullptr, 0);
    }
    [[nodiscard]] std::string port() const { return std::to_string(port_); }

private:
    [[noreturn]] static void serve(int tell) {
        const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* generic = reinterpret_cast<sockaddr*>(&address);
        if (::bind(listener, generic, size) != 0 || ::listen(listener, 1024) != 0 ||
            ::getsockname(listener, generic, &size) != 0) {
            ::_exit(1);
        }
        const std::uint16_t port = ntohs(address.sin_port);
        (void)!::write(tell, &port, sizeof port);
        for (;;) {
            const int fd = ::accept(listener, nullptr, nullptr);
            char request[1024];
            if (::recv(fd, request, sizeof request, 0) > 0) {
                say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nServer: test\r\n\r\nOK\n");
            }
            ::close(fd);
        }
    }
    pid_t child_{};
    std::uint16_t port_{};
};

double processor_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::uint64_t number_after(const std::string& text, const std::string& word) {
    return std::stoull(text.substr(text.find(word) + word.size()));
}

void measure(const char* file, const std::string& tag) {
    const OtherProcess server;
    const stead_plugin_descriptor& plugin = load_plugin(file);
    FakeHost host;
    std::vector<Element> checks;
    for (int i = 0; i < checks_count; ++i) {
        checks.push_back({tag,
                          {{"ident", std::to_string(i)}, {"action", "noaction"}},
                          {{"to", {{"addr", "127.0.0.1"}, {"port", server.port()}, {"interval", "1s"}}, {}}}});
    }
    Running running(plugin, host, {"service", {}, {{"check", {}, std::move(checks)}}});
    running.arm(STEAD_WHEN_PRIM);
    for (int i = 0; i < checks_count; ++i) {
        ASSERT_TRUE(host.wait(tag + "." + std::to_string(i), "up"));
    }
    const std::string before = running.describe();
    const double spent = processor_seconds();
    const auto begun = std::chrono::steady_clock::now();
    std::this_thread::sleep_for(std::chrono::seconds{8});
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    const double share = 100 * (processor_seconds() - spent) / wall;
    const std::string after = running.describe();
    const auto probes = number_after(after, "probes ") - number_after(before, "probes ");
    const auto missed = number_after(after, "missed ") - number_after(before, "missed ");
    std::printf("%d checks %s at 1 s: %.2f %% of one core, %.1f probes a second, %llu turns missed\n", checks_count,
                tag.c_str(), share, static_cast<double>(probes) / wall, static_cast<unsigned long long>(missed));
    EXPECT_LT(share, 6.0);
    EXPECT_LE(missed * 100, probes);
    EXPECT_NEAR(static_cast<double>(probes + missed), checks_count * wall, checks_count);
    EXPECT_THAT(after, testing::StartsWith("200 up, 0 down"));
}

TEST(CheckerLoad, Tcp) { measure(TCP_PLUGIN, "tcp"); }
TEST(CheckerLoad, Http) { measure(HTTP_PLUGIN, "http"); }

} // namespace
} // namespace stead::test
