// SPDX-License-Identifier: Apache-2.0
#include "session.hpp"

#include "server_state.hpp"

#include <boost/asio/post.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/json/serialize.hpp>

#include <sstream>

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
    : server_(&server), pipe_(std::move(socket), server.tls), peer_(peer), source_(source_of(peer)) {}

Session::~Session() { close(); }

void Session::start() {
    idle(server_->limits.request_limit);
    wait_read();
}

void Session::close() {
    if (server_ != nullptr) {
        std::exchange(server_, nullptr)->forget(*this);
        boost::system::error_code ignored;
        pipe_.socket().close(ignored);
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

void Session::wait(asio::ip::tcp::socket::wait_type event, void (Session::*then)()) {
    pipe_.socket().async_wait(event, [self = shared_from_this(), then](const boost::system::error_code& error) {
        if (!error && self->server_ != nullptr) {
            (*self.*then)();
        }
    });
}

void Session::wait_read() {
    if (!pipe_.has_more()) {
        return wait(asio::ip::tcp::socket::wait_read, &Session::read_some);
    }
    asio::post(pipe_.socket().get_executor(), [self = shared_from_this()] {
        if (self->server_ != nullptr) {
            self->read_some();
        }
    });
}

void Session::read_some() {
    std::array<char, read_bytes> bytes;
    const std::size_t room = lingering_ ? bytes.size() : std::min(bytes.size(), reader_.room());
    const Pipe::Outcome got = pipe_.read(std::span(bytes).first(room));
    switch (got.state) {
    case Pipe::State::moved: break;
    case Pipe::State::wait_read: return wait(asio::ip::tcp::socket::wait_read, &Session::read_some);
    case Pipe::State::wait_write: return wait(asio::ip::tcp::socket::wait_write, &Session::read_some);
    case Pipe::State::clear_text: return refuse_clear_text();
    case Pipe::State::ended: return close();
    }
    if (lingering_) { // thrown away; the time limit ends it
        return wait_read();
    }
    if (!reader_.in_request()) { // a slow client has no more time for each of its bytes, only for all
        deadline_ = BootClock::now() + server_->limits.request_limit;
    }
    reader_.feed({bytes.data(), got.bytes});
    next_request();
}

void Session::refuse_clear_text() {
    busy();
    ++server_->counters.malformed;
    keep_ = head_ = false;
    answer({400, error_body(400, "this port speaks HTTPS")});
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
    const asio::ip::address own = pipe_.socket().local_endpoint(error).address();
    const std::string_view token = bearer_token(request.authorization);
    const Caller caller{peer_, own, request.host, pipe_.is_tls(),
                        server_->backend.knows && server_->backend.knows(token)};
    if (const auto refusal = api_refusal(server_->backend.api, caller)) {
        return refuse(*refusal);
    }
    if (std::holds_alternative<ShowIndex>(found)) {
        return answer({200, index_of_paths(server_->backend.version)});
    }
    server_->backend.ask(std::get<Question>(found), token, [self = shared_from_this()](Reply reply) {
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
    Response response(static_cast<http::status>(status), version_);
    response.set(http::field::server, "stead-web");
    response.set(http::field::content_type, boost::beast::string_view(type.data(), type.size()));
    response.set(http::field::cache_control, "no-store");
    response.set("X-Content-Type-Options", "nosniff");
    if (status == 200 && !etag_.empty()) {
        response.set(http::field::etag, "\"" + etag_ + "\"");
    }
    if (status == 401) {
        response.set(http::field::www_authenticate, "Bearer");
    } else if (status == 405) {
        response.set(http::field::allow, allow_);
    } else if (status == 503) {
        response.set(http::field::retry_after, "1");
    }
    response.keep_alive(keep_);
    response.content_length(body.size());
    ++server_->counters.answered;
    std::ostringstream text;
    text << response.base();
    out_ = std::move(text).str();
    if (!head_) {
        out_ += body;
    }
    sent_ = 0;
    write_some();
}

void Session::write_some() {
    while (sent_ < out_.size()) {
        const Pipe::Outcome put = pipe_.write(std::string_view(out_).substr(sent_));
        switch (put.state) {
        case Pipe::State::moved: sent_ += put.bytes; break;
        case Pipe::State::wait_read: return wait(asio::ip::tcp::socket::wait_read, &Session::write_some);
        case Pipe::State::wait_write: return wait(asio::ip::tcp::socket::wait_write, &Session::write_some);
        case Pipe::State::clear_text:
        case Pipe::State::ended: return close();
        }
    }
    // Not from here: a client that pipelines requests would make a stack as deep as they are many.
    asio::post(pipe_.socket().get_executor(), [self = shared_from_this()] {
        if (self->server_ != nullptr) {
            self->written();
        }
    });
}

void Session::written() {
    out_ = std::string{};
    if (!keep_) {
        return linger();
    }
    idle(reader_.in_request() ? server_->limits.request_limit : server_->limits.keep_alive_limit);
    next_request();
}

/// Closing with unread bytes would send a reset, which may overtake our answer: the client's end is awaited, briefly.
void Session::linger() {
    pipe_.finish();
    lingering_ = true;
    idle(linger_limit);
    wait_read();
}

} // namespace stead::web
