// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "pipe.hpp"

#include <stead/web/request_reader.hpp>
#include <stead/web/server.hpp>

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/intrusive/list.hpp>

#include <array>
#include <map>

namespace stead::web {

namespace intrusive = boost::intrusive;
using AutoUnlink = intrusive::link_mode<intrusive::auto_unlink>;
struct OfAll;
struct OfIdle;
struct OfSource;
template <class Tag>
using Hook = intrusive::list_base_hook<intrusive::tag<Tag>, AutoUnlink>;

/// Who a client is for counting: its IPv4 address, or the /64 of its IPv6 address.
using SourceKey = std::array<unsigned char, 8>;
[[nodiscard]] SourceKey source_of(const boost::asio::ip::address& address);

/// One client. It lives as long as one of its operations does; close() ends those.
class Session : public std::enable_shared_from_this<Session>,
                public Hook<OfAll>,
                public Hook<OfIdle>,
                public Hook<OfSource> {
public:
    Session(HttpServer::State& server, boost::asio::ip::tcp::socket socket, const boost::asio::ip::address& peer);
    ~Session();
    void start();
    void close();
    [[nodiscard]] bool late(Instant now) const noexcept { return now >= deadline_; }
    [[nodiscard]] const SourceKey& source() const noexcept { return source_; }

private:
    using Response = boost::beast::http::response<boost::beast::http::string_body>;

    void idle(milliseconds limit); ///< waiting for the client: may be evicted
    void busy();
    void wait_read();
    void wait(boost::asio::ip::tcp::socket::wait_type event, void (Session::*then)());
    void read_some();
    void refuse_clear_text();
    void next_request();
    void handle(const Request& request);
    void answer(Reply reply);
    void answer_text(unsigned status, std::string body);
    void send(unsigned status, std::string_view type, std::string body);
    void refuse(const Refusal& refusal);
    void write_some();
    void written();
    void linger();

    HttpServer::State* server_; ///< null once closed
    Pipe pipe_;
    boost::asio::ip::address peer_;
    SourceKey source_;
    RequestReader reader_;
    Instant deadline_{};
    std::string out_; ///< the answer under way
    std::size_t sent_{};
    std::string allow_; ///< of a 405
    std::string etag_;  ///< of a 200, without quotes; empty = none
    bool head_{}, keep_{}, lingering_{};
    unsigned version_{11};
};

template <class Tag>
using SessionList = intrusive::list<Session, intrusive::base_hook<Hook<Tag>>, intrusive::constant_time_size<false>>;

} // namespace stead::web
