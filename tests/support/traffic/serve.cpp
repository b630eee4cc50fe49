// SPDX-License-Identifier: Apache-2.0
#include "traffic.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace stead::traffic {
namespace {

int listener(const Options& options, int type) {
    const Address address = parse_address(options.target, options.port);
    const int fd = ::socket(address.storage.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int one = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (type == SOCK_DGRAM) { // what comes while this program waits for a processor is not the farm's loss
        const int bytes = 16 << 20;
        ::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    }
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.size) != 0) {
        fail("cannot bind " + options.target + ": " + std::strerror(errno));
    }
    if (type == SOCK_STREAM && ::listen(fd, 4096) != 0) {
        fail(std::string("cannot listen: ") + std::strerror(errno));
    }
    return fd;
}

void watch(int epoll, int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/// Answers each datagram with the server's name in front.
void answer_datagrams(int fd, const std::string& name) {
    char buffer[2048];
    for (;;) {
        sockaddr_storage peer{};
        socklen_t size = sizeof peer;
        const ssize_t got = ::recvfrom(fd, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&peer), &size);
        if (got < 0) {
            return;
        }
        const std::string reply = name + " " + std::string(buffer, static_cast<std::size_t>(got));
        (void)::sendto(fd, reply.data(), reply.size(), 0, reinterpret_cast<const sockaddr*>(&peer), size);
    }
}

} // namespace

int serve(const Options& options) {
    const int udp = listener(options, SOCK_DGRAM);
    const int tcp = listener(options, SOCK_STREAM);
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, udp);
    watch(epoll, tcp);
    const std::string greeting = options.name + "\n";
    while (!stop_requested) {
        epoll_event events[256];
        const int count = ::epoll_wait(epoll, events, 256, 200);
        for (int i = 0; i < count; ++i) {
            const int fd = events[i].data.fd;
            if (fd == udp) {
                answer_datagrams(udp, options.name);
            } else if (fd == tcp) {
                int peer = -1;
                while ((peer = ::accept4(tcp, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    watch(epoll, peer);
                    (void)::write(peer, greeting.data(), greeting.size());
                }
            } else {
                char buffer[4096];
                const ssize_t got = ::read(fd, buffer, sizeof buffer);
                if (got > 0) {
                    (void)::write(fd, greeting.data(), greeting.size()); // one short line in, the name out
                } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
                    ::close(fd);
                }
            }
        }
    }
    return 0;
}

} // namespace stead::traffic
