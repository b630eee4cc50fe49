// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/config/config.hpp>
#include <stead/control/channel.hpp>
#include <stead/control/paths.hpp>
#include <stead/node/call.hpp>
#include <stead/node/process.hpp>
#include <stead/wire/certificate.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace stead::node {

/// What steadd shows to the network through stead-web, and stead-web itself: started, watched, started again. It gets
/// to know which modules are ready and may ask to read; what it sends can change nothing. Main thread only.
class WebFace {
public:
    struct ModuleHealth {
        bool ready{};        ///< its state is UP, PRIM or ALONE and Ready
        std::string started; ///< ModuleState::started
    };
    struct Source {
        /// Modules with a host.
        std::function<std::map<std::string, ModuleHealth>()> modules;
        /// Asks the module's host for a sign of life; false = it gave none.
        std::function<void(const std::string& module, std::function<void(bool alive)> heard)> ping;
        /// Answers a command that reads.
        std::function<void(const CallPtr&)> read;
    };
    WebFace(boost::asio::io_context& io, const control::Paths& paths, Source source);
    ~WebFace();
    WebFace(const WebFace&) = delete;
    WebFace& operator=(const WebFace&) = delete;

    /// Opens status.sock and starts stead-web unless it is switched off. Trouble is logged: a node works without.
    /// `subjects`: what this node's own certificate is made for.
    void start(const config::ClusterWeb& options, const wire::Subjects& subjects);
    /// Another cluster.xml: stead-web starts anew when it concerns it.
    void configure(const config::ClusterWeb& options, const wire::Subjects& subjects);
    /// A state changed: stead-web knows within microseconds.
    void publish();

    [[nodiscard]] bool enabled() const;
    [[nodiscard]] Result<void> enable(bool on); ///< kept over restarts
    void restart();

private:
    struct Health {
        bool asked{}, silent{};
        Instant asked_at{};
    };
    void listen();
    [[nodiscard]] boost::json::object setup();
    void accept(const std::shared_ptr<control::Connection>& connection);
    void on_frame(const std::shared_ptr<control::Connection>& connection, const boost::json::object& body);
    void answer(const std::shared_ptr<control::Connection>& connection, const boost::json::object& body);
    void note(const boost::json::object& body);
    void beat();
    void ping_hosts();
    void spawn();
    void stop();
    void on_exit();

    boost::asio::io_context& io_;
    control::Paths paths_;
    Source source_;
    config::ClusterWeb options_;
    wire::Subjects subjects_;
    std::unique_ptr<control::Server> server_;
    std::shared_ptr<control::Connection> connection_;
    std::string token_;
    std::map<std::string, Health> health_;
    std::size_t questions_{}, questions_this_second_{}, notes_{};
    Instant second_began_{}, minute_began_{};
    pid_t pid_{};
    Instant spawned_at_{};
    milliseconds respawn_delay_{};
    std::optional<boost::asio::posix::stream_descriptor> pidfd_;
    boost::asio::steady_timer beat_timer_, respawn_timer_;
};

} // namespace stead::node
