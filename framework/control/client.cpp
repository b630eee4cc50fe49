// SPDX-License-Identifier: Apache-2.0
#include "socket_io.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace stead::control {
namespace {

Result<void> wait_for(int socket, short events, Instant deadline) {
    for (;;) {
        const auto left = std::chrono::ceil<milliseconds>(deadline - BootClock::now());
        pollfd entry{socket, events, 0};
        const int ready = ::poll(&entry, 1, static_cast<int>(std::max<std::int64_t>(0, left.count())));
        if (ready > 0) {
            return {};
        }
        if (ready == 0) {
            return Error{Errc::timed_out, "control socket", "no answer in time"};
        }
        if (errno != EINTR) {
            return os_error("control socket", "cannot wait", errno);
        }
    }
}

} // namespace

Result<sockaddr_un> unix_address(const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string& name = path.native();
    if (name.size() >= sizeof address.sun_path) {
        return Error{Errc::out_of_range, name,
                     "longer than the " + std::to_string(sizeof address.sun_path - 1) +
                         " bytes that a socket's path may have"};
    }
    std::memcpy(address.sun_path, name.c_str(), name.size() + 1);
    return address;
}

ssize_t receive_into(int socket, FrameDecoder& decoder) {
    std::array<char, 65536> bytes;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * frame_descriptors_max)> control;
    iovec part{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t got = 0;
    do {
        got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return got;
    }
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
            decoder.feed(Fd(fd));
        }
    }
    decoder.feed(std::string_view(bytes.data(), static_cast<std::size_t>(got)));
    return got;
}

ssize_t send_from(int socket, std::string_view bytes, std::span<const int> fds) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * frame_descriptors_max)> control{};
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
    }
    ssize_t put = 0;
    do {
        put = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (put < 0 && errno == EINTR);
    return put;
}

Result<std::string> encode_with_descriptors(const boost::json::value& body, std::size_t count) {
    if (count == 0) {
        return encode_frame(body);
    }
    if (count > frame_descriptors_max || !body.is_object()) {
        return Error{Errc::out_of_range, "control socket", "at most 8 descriptors, with an object"};
    }
    boost::json::object with = body.get_object();
    with["fds"] = count;
    return encode_frame(with);
}

Result<Fd> connect_unix(const std::filesystem::path& path) {
    const Result<sockaddr_un> address = unix_address(path);
    if (!address) {
        return address.error();
    }
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) {
        return os_error(path.string(), "cannot make a socket", errno);
    }
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
        const int error = errno;
        Error failed = os_error(path.string(), "cannot connect", error);
        if (error == ECONNREFUSED) {
            failed.code = Errc::refused;
        } else if (error == EAGAIN) {
            failed.code = Errc::timed_out; // its queue of connections is full
        }
        return failed;
    }
    return socket;
}

Result<Client> Client::connect(const std::filesystem::path& socket, milliseconds timeout) {
    const Instant deadline = BootClock::now() + timeout;
    for (;;) {
        Result<Fd> connected = connect_unix(socket);
        if (connected) {
            return Client(std::move(*connected));
        }
        if (connected.error().code != Errc::timed_out || BootClock::now() >= deadline) {
            return connected.error();
        }
        ::poll(nullptr, 0, 10); // the listener's queue is full: no event announces a free place
    }
}

Result<void> Client::send(const boost::json::value& body, std::span<const int> fds, milliseconds timeout) {
    const Instant deadline = BootClock::now() + timeout;
    const Result<std::string> frame = encode_with_descriptors(body, fds.size());
    if (!frame) {
        return frame.error();
    }
    std::string_view rest = *frame;
    while (!rest.empty()) {
        const ssize_t put = send_from(socket_.get(), rest, fds);
        if (put >= 0) {
            rest.remove_prefix(static_cast<std::size_t>(put));
            fds = {};
            continue;
        }
        if (errno != EAGAIN) {
            return os_error("control socket", "cannot send", errno);
        }
        if (Result<void> ready = wait_for(socket_.get(), POLLOUT, deadline); !ready) {
            return ready;
        }
    }
    return {};
}

Result<Frame> Client::receive(milliseconds timeout) {
    const Instant deadline = BootClock::now() + timeout;
    for (;;) {
        Result<std::optional<Frame>> frame = decoder_.next();
        if (!frame) {
            return frame.error();
        }
        if (*frame) {
            return std::move(**frame);
        }
        if (const Result<void> ready = wait_for(socket_.get(), POLLIN, deadline); !ready) {
            return ready.error();
        }
        const ssize_t got = receive_into(socket_.get(), decoder_);
        if (got == 0) {
            return Error{Errc::refused, "control socket",
                         decoder_.in_frame() ? "closed in the middle of a frame" : "closed by the other side"};
        }
        if (got < 0 && errno != EAGAIN) {
            return os_error("control socket", "cannot receive", errno);
        }
    }
}

} // namespace stead::control
