// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/channel.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace stead::mirror {
namespace json = boost::json;

Result<std::pair<Fd, Fd>> Channel::pair() {
    std::array<int, 2> fds{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()) != 0) {
        return os_error("stead-fs", "socketpair", errno);
    }
    std::pair<Fd, Fd> result{Fd{fds[0]}, Fd{fds[1]}};
    constexpr int buffer = 4 * 1024 * 1024;
    for (const int fd : fds) {
        ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
    }
    return result;
}

bool Channel::send(const json::object& message) noexcept {
    try {
        const std::string text = json::serialize(message);
        ssize_t sent = 0;
        do {
            sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        } while (sent < 0 && errno == EINTR);
        return sent == static_cast<ssize_t>(text.size());
    } catch (const std::exception&) { // no memory: as if the other side were gone
        return false;
    }
}

Result<json::object> Channel::receive() {
    std::string buffer(bytes_max, '\0');
    ssize_t size = 0;
    do {
        size = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    } while (size < 0 && errno == EINTR);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return Error{Errc::timed_out, "", "nothing there"};
    }
    if (size <= 0) {
        return Error{Errc::not_found, "", "the other side is gone"};
    }
    boost::system::error_code failed;
    json::parse_options options;
    options.allow_invalid_utf8 = true; // a path may have any bytes
    json::value value = json::parse({buffer.data(), static_cast<std::size_t>(size)}, failed, {}, options);
    if (failed || !value.is_object()) {
        return Error{Errc::malformed, "control channel", "no JSON object in " + std::to_string(size) + " bytes"};
    }
    return std::move(value.get_object());
}

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string{value->get_string()} : std::string{};
}

std::int64_t number_of(const json::object& object, std::string_view name, std::int64_t otherwise) {
    const json::value* value = object.if_contains(name);
    if (value != nullptr && value->is_int64()) {
        return value->get_int64();
    }
    return value != nullptr && value->is_uint64() ? static_cast<std::int64_t>(value->get_uint64()) : otherwise;
}

bool flag_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_bool() && value->get_bool();
}

std::string to_hex(std::string_view bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    text.reserve(2 * bytes.size());
    for (const char byte : bytes) {
        text += digits[static_cast<unsigned char>(byte) >> 4];
        text += digits[static_cast<unsigned char>(byte) & 15];
    }
    return text;
}

std::string from_hex(std::string_view text) {
    const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
    std::string bytes;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
        const int high = digit(text[i]), low = digit(text[i + 1]);
        if (high < 0 || low < 0) {
            return {};
        }
        bytes += static_cast<char>(high << 4 | low);
    }
    return text.size() % 2 == 0 ? bytes : std::string{};
}

} // namespace stead::mirror
