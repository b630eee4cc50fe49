// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "session.hpp"

#include <boost/asio/steady_timer.hpp>

namespace stead::web {

/// Everything that sessions share.
struct HttpServer::State : std::enable_shared_from_this<State> {
    State(boost::asio::io_context& io, boost::asio::ip::tcp::acceptor listener, Backend answers,
          const ServerLimits& limits, TlsContext with_tls);

    void accept_next();
    void sweep();
    void end();
    void make_evictable(Session& session);
    void make_busy(Session& session);
    void forget(Session& session);

    boost::asio::ip::tcp::acceptor acceptor;
    boost::asio::steady_timer sweep_timer, accept_timer;
    Backend backend;
    ServerLimits limits;
    ServerCounters counters;
    TlsContext tls; ///< null: plain HTTP

private:
    struct Source {
        std::size_t count{};
        SessionList<OfSource> idle; ///< longest idle first
    };
    void accepted(boost::asio::ip::tcp::socket socket, const boost::asio::ip::address& peer);
    /// Closes the one that has been idle longest. False: none is.
    template <class List>
    bool evict(List& idle);

    SessionList<OfAll> all_;
    SessionList<OfIdle> idle_; ///< longest idle first
    std::map<SourceKey, Source> sources_;
};

} // namespace stead::web
