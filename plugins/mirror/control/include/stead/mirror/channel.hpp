// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/result.hpp>

#include <boost/json/object.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

/// Between the plugin in stead-host and its stead-fs: one JSON object a datagram over a SOCK_SEQPACKET pair. The end of
/// either process is the end of the channel.
namespace stead::mirror {

/// Threading: send() from any thread; receive() from one.
class Channel {
public:
    /// The largest object, as text.
    static constexpr std::size_t bytes_max = 160 * 1024;

    explicit Channel(Fd socket) noexcept : socket_(std::move(socket)) {}
    /// Both ends, close-on-exec.
    [[nodiscard]] static Result<std::pair<Fd, Fd>> pair();

    /// Never blocks. False: the other side is gone, or does not read (its queue is full): both mean the same to us.
    bool send(const boost::json::object& message) noexcept;
    /// not_found: the other side is gone. timed_out: nothing is there (a non-blocking socket).
    [[nodiscard]] Result<boost::json::object> receive();
    [[nodiscard]] int fd() const noexcept { return socket_.get(); }

private:
    Fd socket_;
};

// Readers for messages: a missing or wrong value is the default, for both sides come from one build.
[[nodiscard]] std::string text_of(const boost::json::object& object, std::string_view name);
[[nodiscard]] std::int64_t number_of(const boost::json::object& object, std::string_view name,
                                     std::int64_t otherwise = 0);
[[nodiscard]] bool flag_of(const boost::json::object& object, std::string_view name);

[[nodiscard]] std::string to_hex(std::string_view bytes);
/// Empty when it is not hexadecimal.
[[nodiscard]] std::string from_hex(std::string_view text);

} // namespace stead::mirror
