// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

/// Bytes of a client in, requests out: Boost.Beast's parser with our limits round it. No I/O.
namespace stead::web {

inline constexpr std::size_t header_bytes_max = 8192; ///< request line and all header fields

struct Request {
    std::string method, target;
    std::string host, authorization; ///< header fields; empty = not sent
    unsigned version{11};            ///< 10 or 11
    bool keep_alive{};               ///< as the client wishes
    bool has_body{};                 ///< announces one: refused, and nothing more can be read from this client
};

struct NeedMore {};
/// Not HTTP, or beyond a limit: answer with this status and close.
struct Malformed {
    unsigned status{};
    std::string message;
};

class RequestReader {
public:
    RequestReader();
    ~RequestReader();
    RequestReader(RequestReader&&) noexcept;
    RequestReader& operator=(RequestReader&&) noexcept;

    void feed(std::string_view bytes);
    /// The next request of those fed so far (clients may pipeline). Nothing follows Malformed, nor a request's body.
    [[nodiscard]] std::variant<NeedMore, Request, Malformed> next();
    /// So many bytes may be fed now: what is buffered never exceeds header_bytes_max.
    [[nodiscard]] std::size_t room() const noexcept { return header_bytes_max - buffer_.size(); }
    /// A part of a request has come, and its rest not yet.
    [[nodiscard]] bool in_request() const noexcept { return parser_ != nullptr || !buffer_.empty(); }

private:
    struct Parser;
    std::string buffer_;
    std::unique_ptr<Parser> parser_; ///< there only while a request is being read: an idle client costs no memory
};

} // namespace stead::web
