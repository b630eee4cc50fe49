// SPDX-License-Identifier: Apache-2.0
#include "socket_io.hpp"

#include <boost/asio/posix/stream_descriptor.hpp>

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>

namespace stead::control {
namespace asio = boost::asio;
namespace {

constexpr std::size_t queued_bytes_max = 2 * std::size_t{limits::stream_frame_bytes_max};

struct Outgoing {
    std::string bytes;
    std::size_t sent{};
    std::vector<Fd> fds;
};

} // namespace

struct Connection::State {
    asio::posix::stream_descriptor socket;
    PeerCredentials peer;
    FrameDecoder decoder;
    OnFrame on_frame;
    OnClosed on_closed;
    std::deque<Outgoing> queue;
    std::size_t queued_bytes{};
    bool writing{};
    bool finishing{};
};

Connection::Connection(std::unique_ptr<State> state) : state_(std::move(state)) {}
Connection::~Connection() = default;

std::shared_ptr<Connection> Connection::adopt(const asio::any_io_executor& executor, Fd socket) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size);
    ::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) | O_NONBLOCK);
    auto state = std::make_unique<State>(State{asio::posix::stream_descriptor(executor, socket.release()),
                                               {credentials.pid, credentials.uid, credentials.gid},
                                               {}, {}, {}, {}, 0, false, false});
    return std::shared_ptr<Connection>(new Connection(std::move(state)));
}

Result<std::shared_ptr<Connection>> Connection::connect(const asio::any_io_executor& executor,
                                                        const std::filesystem::path& socket) {
    Result<Fd> connected = connect_unix(socket);
    if (!connected) {
        return connected.error();
    }
    return adopt(executor, std::move(*connected));
}

void Connection::start(OnFrame on_frame, OnClosed on_closed) {
    state_->on_frame = std::move(on_frame);
    state_->on_closed = std::move(on_closed);
    wait_read();
}

bool Connection::open() const noexcept { return state_->socket.is_open(); }

PeerCredentials Connection::peer() const noexcept { return state_->peer; }

void Connection::wait_read() {
    state_->socket.async_wait(asio::posix::stream_descriptor::wait_read,
                              [self = shared_from_this()](const boost::system::error_code& error) {
                                  if (!error && self->open()) {
                                      self->read_some();
                                  }
                              });
}

void Connection::read_some() {
    const ssize_t got = receive_into(state_->socket.native_handle(), state_->decoder);
    if (got == 0) {
        return fail(state_->decoder.in_frame() ? "closed in the middle of a frame" : "");
    }
    if (got < 0 && errno != EAGAIN) {
        return fail(std::generic_category().message(errno));
    }
    while (open()) {
        Result<std::optional<Frame>> frame = state_->decoder.next();
        if (!frame) {
            return fail(frame.error().text());
        }
        if (!*frame) {
            return wait_read();
        }
        const OnFrame on_frame = state_->on_frame; // the callback may close us
        on_frame(shared_from_this(), std::move(**frame));
    }
}

bool Connection::send(const boost::json::value& body, std::vector<Fd> fds) {
    if (!open()) {
        return true;
    }
    Result<std::string> bytes = encode_with_descriptors(body, fds.size());
    if (!bytes) {
        return false;
    }
    state_->queued_bytes += bytes->size();
    if (state_->queued_bytes > queued_bytes_max) {
        fail("the peer does not read its answers");
        return true;
    }
    state_->queue.push_back({std::move(*bytes), 0, std::move(fds)});
    if (!state_->writing) {
        write_some();
    }
    return true;
}

void Connection::wait_write() {
    state_->writing = true;
    state_->socket.async_wait(asio::posix::stream_descriptor::wait_write,
                              [self = shared_from_this()](const boost::system::error_code& error) {
                                  self->state_->writing = false;
                                  if (!error && self->open()) {
                                      self->write_some();
                                  }
                              });
}

void Connection::write_some() {
    while (!state_->queue.empty()) {
        Outgoing& first = state_->queue.front();
        std::vector<int> raw;
        for (const Fd& fd : first.fds) {
            raw.push_back(fd.get());
        }
        const std::string_view rest = std::string_view(first.bytes).substr(first.sent);
        const ssize_t put = send_from(state_->socket.native_handle(), rest, raw);
        if (put < 0) {
            if (errno == EAGAIN) {
                return wait_write();
            }
            return fail(std::generic_category().message(errno));
        }
        first.fds.clear();
        first.sent += static_cast<std::size_t>(put);
        state_->queued_bytes -= static_cast<std::size_t>(put);
        if (first.sent == first.bytes.size()) {
            state_->queue.pop_front();
        }
    }
    if (state_->finishing) {
        close();
    }
}

void Connection::finish() {
    state_->finishing = true;
    state_->on_closed = nullptr;
    if (open() && state_->queue.empty()) {
        close();
    }
}

void Connection::close() {
    state_->on_closed = nullptr;
    state_->on_frame = nullptr;
    boost::system::error_code ignored;
    state_->socket.close(ignored);
}

void Connection::fail(const std::string& reason) {
    const OnClosed on_closed = std::move(state_->on_closed);
    const std::shared_ptr<Connection> self = shared_from_this();
    close();
    if (on_closed) {
        on_closed(self, reason);
    }
}

} // namespace stead::control
