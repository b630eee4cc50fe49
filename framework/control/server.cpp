// SPDX-License-Identifier: Apache-2.0
#include "socket_io.hpp"

#include <stead/base/time.hpp>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

namespace stead::control {
namespace asio = boost::asio;
namespace {
constexpr seconds dying_max{2};
constexpr milliseconds accept_pause{100};
} // namespace

struct Server::State : std::enable_shared_from_this<State> {
    State(const asio::any_io_executor& executor, Fd listener, std::filesystem::path socket_path, OnAccept accept)
        : executor_(executor), socket_(executor, listener.release()), pause_(executor), path_(std::move(socket_path)),
          on_accept_(std::move(accept)) {}

    void wait() {
        socket_.async_wait(asio::posix::stream_descriptor::wait_read,
                           [self = shared_from_this()](const boost::system::error_code& error) {
                               if (!error && self->socket_.is_open()) {
                                   self->accept_all();
                               }
                           });
    }

    void accept_all() {
        for (int i = 0; i < 64; ++i) {
            Fd accepted(::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            if (!accepted && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
                return wait_for_room();
            }
            if (!accepted) {
                break;
            }
            on_accept_(Connection::adopt(executor_, std::move(accepted)));
            if (!socket_.is_open()) {
                return;
            }
        }
        wait();
    }

    /// Who waits to be accepted keeps the socket readable: without a pause this would be a busy loop.
    void wait_for_room() {
        pause_.expires_after(accept_pause);
        pause_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
            if (!error && self->socket_.is_open()) {
                self->wait();
            }
        });
    }

    asio::any_io_executor executor_;
    asio::posix::stream_descriptor socket_;
    asio::steady_timer pause_;
    std::filesystem::path path_;
    OnAccept on_accept_;
};

Server::Server(std::shared_ptr<State> state) : state_(std::move(state)) { state_->wait(); }

Server::~Server() {
    ::unlink(state_->path_.c_str());
    boost::system::error_code ignored;
    state_->socket_.close(ignored);
    state_->pause_.cancel();
}

Result<std::unique_ptr<Server>> Server::listen(const asio::any_io_executor& executor,
                                               const std::filesystem::path& socket, mode_t mode, const char* group,
                                               OnAccept on_accept) {
    const Result<sockaddr_un> address = unix_address(socket);
    if (!address) {
        return address.error();
    }
    // One that was killed serves until the kernel has taken it apart.
    for (const Instant end = BootClock::now() + dying_max; connect_unix(socket);) {
        if (BootClock::now() >= end) {
            return Error{Errc::conflict, socket.string(), "another process serves it already"};
        }
        std::this_thread::sleep_for(milliseconds{50});
    }
    Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener) {
        return os_error(socket.string(), "cannot make a socket", errno);
    }
    ::unlink(socket.c_str());
    const mode_t before = ::umask(0777); // nobody connects before mode and group are set
    const int bound = ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address);
    const int bind_error = errno;
    ::umask(before);
    if (bound != 0) {
        return os_error(socket.string(), "cannot bind", bind_error);
    }
    if (const ::group* found = group != nullptr ? ::getgrnam(group) : nullptr; found != nullptr) {
        [[maybe_unused]] const int ignored = ::chown(socket.c_str(), static_cast<uid_t>(-1), found->gr_gid);
    }
    if (::chmod(socket.c_str(), mode) != 0 || ::listen(listener.get(), 128) != 0) {
        return os_error(socket.string(), "cannot listen", errno);
    }
    auto state = std::make_shared<State>(executor, std::move(listener), socket, std::move(on_accept));
    return std::unique_ptr<Server>(new Server(std::move(state)));
}

} // namespace stead::control
