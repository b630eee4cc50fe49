// SPDX-License-Identifier: Apache-2.0
#include "session.hpp"

#include "server_state.hpp"

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/json/serialize.hpp>

#include <sys/socket.h>

#include <cerrno>

namespace stead::web {
namespace asio = boost::asio;
namespace http = boost::beast::http;
namespace {

constexpr std::size_t read_bytes = 4096;
constexpr milliseconds linger_limit{1000};

} // namespace

SourceKey source_of(const asio::ip::address& address) {
    SourceKey key{};
    if (address.is_v4() || address.to_v6().is_v4_mapped()) {
        const auto four =
            address.is_v4() ? address.to_v4() : asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
        const auto bytes = four.to_bytes();
        std::copy(bytes.begin(), bytes.end(), key.begin() + 4);
        key[0] = 0xff; // no /64 that routes
    } else {
        const auto bytes = address.to_v6().to_bytes();
        std::copy_n(bytes.begin(), key.size(), key.begin());
    }
    return key;
}

Session::Session(HttpServer::State& server, asio::ip::tcp::socket socket, const asio::ip::address& peer)
    : server_(&server), socket_(std::move(socket)), peer_(peer), source_(source_of(peer)) {}

Session::~Session() { close(); }

void Session::start() {
    socket_.non_blocking(true);
    boost::system::error_code ignored;
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    idle(server_->limits.request_limit);
    wait_read();
}

void Session::close() {
    if (server_ != nullptr) {
        std::exchange(server_, nullptr)->forget(*this);
        boost::system::error_code ignored;
        socket_.close(ignored);
    }
}

void Session::idle(milliseconds limit) {
    deadline_ = BootClock::now() + limit;
    server_->make_evictable(*this);
}

void Session::busy() {
    deadline_ = BootClock::now() + server_->limits.answer_limit;
    server_->make_busy(*this);
}

void Session::wait_read() {
    socket_.async_wait(asio::ip::tcp::socket::wait_read,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                           if (!error && self->server_ != nullptr) {
                               self->read_some();
                           }
                       });
}

void Session::read_some() {
    std::array<char, read_bytes> bytes;
    const std::size_t room = lingering_ ? bytes.size() : std::min(bytes.size(), reader_.room());
    const ssize_t got = ::recv(socket_.native_handle(), bytes.data(), room, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return wait_read();
    }
    if (got <= 0) {
        return close();
    }
    if (lingering_) { // thrown away; the time limit ends it
        return wait_read();
    }
    if (!reader_.in_request()) { // a slow client has no more time for each of its bytes, only for all
        deadline_ = BootClock::now() + server_->limits.request_limit;
    }
    reader_.feed({bytes.data(), static_cast<std::size_t>(got)});
    next_request();
}

void Session::next_request() {
    auto next = reader_.next();
    if (std::holds_alternative<NeedMore>(next)) {
        return wait_read();
    }
    busy();
    if (const auto* bad = std::get_if<Malformed>(&next)) {
        ++server_->counters.malformed;
        keep_ = head_ = false;
        return answer({bad->status, error_body(bad->status, bad->message)});
    }
    handle(std::get<Request>(next));
}

void Session::handle(const Request& request) {
    head_ = request.method == "HEAD";
    keep_ = request.keep_alive && !request.has_body;
    version_ = request.version;
    allow_.clear();
    etag_.clear();
    Route found = route(request.method, request.target);
    if (const auto* refusal = std::get_if<Refusal>(&found)) {
        return refuse(*refusal);
    }
    if (request.has_body) {
        return answer({413, error_body(413, "requests with a body are not read here")});
    }
    if (const auto* health = std::get_if<HealthOf>(&found)) {
        const bool ready = server_->backend.is_ready(health->module);
        if (ready && server_->backend.started) {
            etag_ = server_->backend.started(health->module);
        }
        return ready ? answer_text(200, "OK") : answer_text(404, "not ready\n");
    }
    boost::system::error_code error;
    const asio::ip::address own = socket_.local_endpoint(error).address();
    if (const auto refusal = api_refusal(server_->backend.api, peer_, own, request.host)) {
        return refuse(*refusal);
    }
    if (std::holds_alternative<ShowIndex>(found)) {
        return answer({200, index_of_paths(server_->backend.version)});
    }
    server_->backend.ask(std::get<Question>(found), bearer_token(request.authorization),
                         [self = shared_from_this()](Reply reply) {
                             if (self->server_ != nullptr) {
                                 self->answer(std::move(reply));
                             }
                         });
}

void Session::refuse(const Refusal& refusal) {
    allow_ = refusal.allow;
    if (!refusal.for_api) {
        return answer_text(refusal.status, refusal.message + "\n");
    }
    answer({refusal.status, error_body(refusal.status, refusal.message, refusal.allowed)});
}

void Session::answer(Reply reply) { send(reply.status, "application/json", boost::json::serialize(reply.body) + "\n"); }

void Session::answer_text(unsigned status, std::string body) { send(status, "text/plain", std::move(body)); }

void Session::send(unsigned status, std::string_view type, std::string body) {
    auto response = std::make_shared<Response>(static_cast<http::status>(status), version_);
    response->set(http::field::server, "stead-web");
    response->set(http::field::content_type, boost::beast::string_view(type.data(), type.size()));
    response->set(http::field::cache_control, "no-store");
    response->set("X-Content-Type-Options", "nosniff");
    if (status == 200 && !etag_.empty()) {
        response->set(http::field::etag, "\"" + etag_ + "\"");
    }
    if (status == 401) {
        response->set(http::field::www_authenticate, "Bearer");
    } else if (status == 405) {
        response->set(http::field::allow, allow_);
    } else if (status == 503) {
        response->set(http::field::retry_after, "1");
    }
    response->keep_alive(keep_);
    response->content_length(body.size());
    if (!head_) {
        response->body() = std::move(body);
    }
    ++server_->counters.answered;
    auto serializer = std::make_shared<http::response_serializer<http::string_body>>(*response);
    const auto done = [self = shared_from_this(), response, serializer](const boost::system::error_code& error,
                                                                        std::size_t) {
        if (self->server_ == nullptr) {
            return;
        }
        if (error) {
            return self->close();
        }
        if (!self->keep_) {
            return self->linger();
        }
        self->idle(self->reader_.in_request() ? self->server_->limits.request_limit
                                              : self->server_->limits.keep_alive_limit);
        self->next_request();
    };
    if (head_) {
        http::async_write_header(socket_, *serializer, done);
    } else {
        http::async_write(socket_, *serializer, done);
    }
}

/// Closing with unread bytes would send a reset, which may overtake our answer: the client's end is awaited, briefly.
void Session::linger() {
    boost::system::error_code ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    lingering_ = true;
    idle(linger_limit);
    wait_read();
}

} // namespace stead::web
