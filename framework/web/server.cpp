// SPDX-License-Identifier: Apache-2.0
#include "server_state.hpp"

#include <boost/asio/ip/v6_only.hpp>

#include <algorithm>
#include <cctype>

namespace stead::web {
namespace asio = boost::asio;
using asio::ip::tcp;
namespace {

constexpr milliseconds sweep_interval{250};
constexpr milliseconds accept_pause{50};
constexpr int backlog = 4096; // the kernel keeps to its own limit

/// A v6 socket takes v4 clients too; a machine without IPv6 gets a v4 socket.
Result<tcp::acceptor> open_listener(asio::io_context& io, const std::string& address, std::uint16_t port) {
    boost::system::error_code error;
    const std::string where = (address.empty() ? "*" : address) + " TCP " + std::to_string(port);
    tcp::endpoint endpoint(tcp::v6(), port);
    if (!address.empty()) {
        endpoint = tcp::endpoint(asio::ip::make_address(address, error), port);
        if (error) {
            return Error{Errc::malformed, where, "not an IP address"};
        }
    }
    tcp::acceptor acceptor(io);
    acceptor.open(endpoint.protocol(), error);
    if (error && address.empty()) {
        endpoint = tcp::endpoint(tcp::v4(), port);
        acceptor.open(endpoint.protocol(), error);
    }
    if (!error) {
        acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    }
    if (!error && endpoint.protocol() == tcp::v6() && address.empty()) {
        acceptor.set_option(asio::ip::v6_only(false), error);
    }
    if (!error) {
        acceptor.bind(endpoint, error);
    }
    if (!error) {
        acceptor.listen(backlog, error);
    }
    if (error) {
        return Error{error == asio::error::address_in_use ? Errc::conflict : Errc::io, where, error.message()};
    }
    return acceptor;
}

} // namespace

HttpServer::State::State(asio::io_context& io, tcp::acceptor listener, Backend answers, const ServerLimits& with_limits,
                         TlsContext with_tls)
    : acceptor(std::move(listener)), sweep_timer(io), accept_timer(io), backend(std::move(answers)),
      limits(with_limits), tls(std::move(with_tls)) {}

template <class List>
bool HttpServer::State::evict(List& idle) {
    if (idle.empty()) {
        return false;
    }
    ++counters.evicted;
    idle.front().close();
    return true;
}

void HttpServer::State::accept_next() {
    acceptor.async_accept([self = shared_from_this()](const boost::system::error_code& error, tcp::socket socket) {
        if (!self->acceptor.is_open()) {
            return;
        }
        if (error) { // out of descriptors, or a client that went again: not in a busy loop
            self->evict(self->idle_);
            self->accept_timer.expires_after(accept_pause);
            self->accept_timer.async_wait([self](const boost::system::error_code& cancelled) {
                if (!cancelled) {
                    self->accept_next();
                }
            });
            return;
        }
        boost::system::error_code gone;
        const tcp::endpoint peer = socket.remote_endpoint(gone);
        if (!gone) {
            self->accepted(std::move(socket), peer.address());
        }
        self->accept_next();
    });
}

void HttpServer::State::accepted(tcp::socket socket, const asio::ip::address& peer) {
    ++counters.accepted;
    const auto same = sources_.find(source_of(peer));
    const bool room =
        (same == sources_.end() || same->second.count < limits.per_source_max || evict(same->second.idle)) &&
        (counters.open < limits.connections_max || evict(idle_));
    if (!room) { // every one of them is being answered
        ++counters.evicted;
        return;
    }
    auto session = std::make_shared<Session>(*this, std::move(socket), peer);
    all_.push_back(*session);
    ++sources_[session->source()].count;
    ++counters.open;
    session->start();
}

void HttpServer::State::make_evictable(Session& session) {
    make_busy(session);
    idle_.push_back(session);
    sources_[session.source()].idle.push_back(session);
}

void HttpServer::State::make_busy(Session& session) {
    session.Hook<OfIdle>::unlink();
    session.Hook<OfSource>::unlink();
}

void HttpServer::State::forget(Session& session) {
    make_busy(session);
    session.Hook<OfAll>::unlink();
    --counters.open;
    const auto source = sources_.find(session.source());
    if (--source->second.count == 0) {
        sources_.erase(source);
    }
}

void HttpServer::State::sweep() {
    const Instant now = BootClock::now();
    for (auto at = all_.begin(); at != all_.end();) {
        Session& session = *at++;
        if (session.late(now)) {
            ++counters.timed_out;
            session.close();
        }
    }
    sweep_timer.expires_after(sweep_interval);
    sweep_timer.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
        if (!error && self->acceptor.is_open()) {
            self->sweep();
        }
    });
}

void HttpServer::State::end() {
    boost::system::error_code ignored;
    acceptor.close(ignored);
    sweep_timer.cancel();
    accept_timer.cancel();
    while (!all_.empty()) {
        all_.front().close();
    }
}

HttpServer::HttpServer(std::shared_ptr<State> state) : state_(std::move(state)) {
    state_->accept_next();
    state_->sweep();
}

HttpServer::~HttpServer() { state_->end(); }

Result<std::unique_ptr<HttpServer>> HttpServer::listen(asio::io_context& io, const std::string& address,
                                                       std::uint16_t port, Backend backend, const ServerLimits& limits,
                                                       TlsContext tls) {
    Result<tcp::acceptor> listener = open_listener(io, address, port);
    if (!listener) {
        return listener.error();
    }
    auto state = std::make_shared<State>(io, std::move(*listener), std::move(backend), limits, std::move(tls));
    return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

std::uint16_t HttpServer::port() const {
    boost::system::error_code ignored;
    return state_->acceptor.local_endpoint(ignored).port();
}

ServerCounters HttpServer::counters() const { return state_->counters; }

std::optional<Refusal> api_refusal(bool enabled, const Caller& caller) {
    const auto refused = [](unsigned status, std::string message) {
        return Refusal{status, std::move(message), {}, {}, true};
    };
    if (!enabled) {
        return refused(404, "the API is switched off (cluster.xml: <web api=\"off\">)");
    }
    if (caller.tls && caller.has_token) {
        return std::nullopt;
    }
    const asio::ip::address& peer = caller.peer;
    const bool mapped = peer.is_v6() && peer.to_v6().is_v4_mapped();
    const bool loopback =
        mapped ? asio::ip::make_address_v4(asio::ip::v4_mapped, peer.to_v6()).is_loopback() : peer.is_loopback();
    if (!loopback && peer != caller.own) {
        return caller.tls ? refused(401, "from another machine the API needs this node's token")
                          : refused(403, "the API answers callers on this machine only; from another one use HTTPS "
                                         "and this node's token, or 'stead -H NODE'");
    }
    std::string_view name = caller.host;
    if (name.starts_with('[')) {
        name = name.substr(1, name.find(']') == name.npos ? name.npos : name.find(']') - 1);
    } else {
        name = name.substr(0, name.find(':'));
    }
    boost::system::error_code not_numeric;
    asio::ip::make_address(std::string(name), not_numeric);
    if (!name.empty() && name != "localhost" && not_numeric) {
        return refused(403, "the header field Host names this machine by a name that anybody may point at it; "
                            "allowed: localhost, or its address");
    }
    return std::nullopt;
}

std::string_view bearer_token(std::string_view authorization) noexcept {
    constexpr std::string_view scheme = "bearer ";
    if (authorization.size() <= scheme.size() ||
        !std::equal(scheme.begin(), scheme.end(), authorization.begin(),
                    [](char wanted, char c) { return wanted == std::tolower(static_cast<unsigned char>(c)); })) {
        return {};
    }
    authorization.remove_prefix(scheme.size());
    while (authorization.starts_with(' ')) {
        authorization.remove_prefix(1);
    }
    return authorization;
}

} // namespace stead::web
