// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace stead::test {

/// A TCP server on 127.0.0.1 whose behaviour is a function: it gets each connection, on a thread of its own.
class LocalServer {
public:
    using Serve = std::function<void(int fd)>;
    explicit LocalServer(Serve serve) : serve_(std::move(serve)) { listen(); }
    LocalServer(const LocalServer&) = delete;
    LocalServer& operator=(const LocalServer&) = delete;
    ~LocalServer() { close(); }

    [[nodiscard]] std::string port() const { return std::to_string(port_); }

    /// Connections are refused until listen().
    void close() {
        if (listener_ < 0) {
            return;
        }
        ::shutdown(listener_, SHUT_RDWR);
        accepting_.join();
        ::close(std::exchange(listener_, -1));
        {
            const std::lock_guard lock(mutex_);
            for (const int fd : open_) {
                ::shutdown(fd, SHUT_RDWR); // ends what waits in it
            }
        }
        for (std::thread& thread : threads_) {
            thread.join();
        }
        threads_.clear();
    }
    /// On the port as before.
    void listen() {
        listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int on = 1;
        ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(port_);
        socklen_t size = sizeof address;
        auto* generic = reinterpret_cast<sockaddr*>(&address);
        if (::bind(listener_, generic, size) != 0 || ::listen(listener_, 64) != 0 ||
            ::getsockname(listener_, generic, &size) != 0) {
            throw std::runtime_error(std::strerror(errno));
        }
        port_ = ntohs(address.sin_port);
        accepting_ = std::thread([this] { accept(); });
    }

private:
    void accept() {
        for (;;) {
            const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd < 0) {
                return;
            }
            const std::lock_guard lock(mutex_);
            open_.push_back(fd);
            threads_.emplace_back([this, fd] {
                serve_(fd);
                const std::lock_guard closing(mutex_);
                std::erase(open_, fd);
                ::close(fd);
            });
        }
    }
    const Serve serve_;
    int listener_{-1};
    std::uint16_t port_{};
    std::thread accepting_;
    std::mutex mutex_;
    std::vector<int> open_;
    std::vector<std::thread> threads_;
};

/// Until the other side closes, or the server does.
inline void wait_end(int fd) {
    char byte = 0;
    while (::recv(fd, &byte, 1, 0) > 0) {
    }
}
inline void say(int fd, const std::string& text) { (void)!::send(fd, text.data(), text.size(), MSG_NOSIGNAL); }
/// Up to the mark; what was read.
inline std::string read_until(int fd, const std::string& mark) {
    std::string text;
    char byte = 0;
    while (text.find(mark) == std::string::npos && ::recv(fd, &byte, 1, 0) == 1) {
        text += byte;
    }
    return text;
}

} // namespace stead::test
