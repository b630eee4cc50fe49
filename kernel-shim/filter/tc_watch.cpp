// SPDX-License-Identifier: Apache-2.0
#include "tc_watch.hpp"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>

namespace stead::shim {

Result<std::unique_ptr<TcWatch>> TcWatch::open(std::function<void()> changed) {
    Fd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE)};
    Fd wake{::eventfd(0, EFD_CLOEXEC)};
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = RTMGRP_TC | RTMGRP_LINK;
    if (!socket || !wake || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return os_error("netlink", "cannot watch tc filters", errno);
    }
    return std::unique_ptr<TcWatch>(new TcWatch(std::move(socket), std::move(wake), std::move(changed)));
}

TcWatch::TcWatch(Fd socket, Fd wake, std::function<void()> changed)
    : socket_(std::move(socket)), wake_(std::move(wake)), changed_(std::move(changed)), thread_([this] { run(); }) {}

TcWatch::~TcWatch() {
    ::eventfd_write(wake_.get(), 1);
    thread_.join();
}

void TcWatch::run() {
    pollfd waits[2] = {{socket_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    for (;;) {
        if (::poll(waits, 2, -1) < 0 && errno != EINTR) {
            return;
        }
        if (waits[1].revents != 0) {
            return;
        }
        // What happened is not read closely: whoever is told looks for itself. An overflow is one more event.
        char buffer[16384];
        while (::recv(socket_.get(), buffer, sizeof buffer, 0) > 0 || errno == ENOBUFS) {
            errno = 0;
        }
        changed_();
    }
}

} // namespace stead::shim
