// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>
#include <stead/control/channel.hpp>
#include <stead/web/routes.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace stead::web {

/// What steadd wants of this stead-web.
struct Setup {
    std::uint16_t port{9010};
    std::string address; ///< empty = every address
    bool api{true};
    std::string version;
    struct Tls {
        std::uint16_t port{};
        std::string certificate, key; ///< PEM
        std::string name;             ///< the certificate's file, for people
    };
    std::optional<Tls> tls;   ///< none: no HTTPS
    std::string token_sha256; ///< of the node's token; empty = there is none
};

/// Our end of status.sock. One thread; callbacks come on it, never from inside a call.
class StatusClient {
public:
    struct Events {
        std::function<void(const Setup&)> setup;
        std::function<void()> lost; ///< steadd is gone
    };
    using OnReply = std::function<void(Reply)>;

    StatusClient(boost::asio::io_context& io, std::shared_ptr<control::Connection> steadd, Events events);
    ~StatusClient();

    /// True only on the word of a steadd that is alive now.
    [[nodiscard]] bool is_ready(std::string_view module) const;
    /// Of a ready module: a stamp of its last start, decimal digits; empty when it is not known.
    [[nodiscard]] std::string started(std::string_view module) const;
    /// Asks steadd; `on_reply` comes once, at the latest after 10 s. `token`: what the client presented.
    void ask(const Question& question, std::string_view token, OnReply on_reply);
    /// A line for the node log.
    void note(std::string_view level, const std::string& text);

private:
    struct Pending {
        Question question;
        OnReply on_reply;
        Instant deadline;
    };
    void on_frame(const boost::json::object& body);
    void on_lost();
    void finish(std::int64_t id, Reply reply);
    void sweep();
    [[nodiscard]] bool may_ask(Instant now);

    boost::asio::io_context& io_;
    std::shared_ptr<control::Connection> connection_;
    Events events_;
    std::map<std::string, std::string, std::less<>> ready_; ///< with the stamps of their starts
    Instant heard_{};
    std::map<std::int64_t, Pending> pending_;
    std::int64_t next_id_{1};
    Instant second_began_{};
    std::size_t asked_this_second_{};
    boost::asio::steady_timer timer_;
};

} // namespace stead::web
