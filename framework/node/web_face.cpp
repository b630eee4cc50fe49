// SPDX-License-Identifier: Apache-2.0
#include "value_or.hpp"

#include <stead/node/web_face.hpp>

#include <stead/base/log.hpp>
#include <stead/control/command.hpp>
#include <stead/control/status_protocol.hpp>
#include <stead/control/web_user.hpp>
#include <stead/node/daemon.hpp>
#include <stead/node/web_identity.hpp>

#include <boost/json/object.hpp>

#include <grp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace stead::node {
namespace asio = boost::asio;
namespace json = boost::json;
namespace exit_code = control::exit_code;
namespace protocol = control::status_protocol;
namespace {

constexpr milliseconds respawn_first{100}, respawn_max{10'000};
constexpr seconds lived_well{30};

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

/// Equal, in a time that does not tell how much of it is.
bool same_secret(std::string_view one, std::string_view other) {
    unsigned different = one.size() == other.size() ? 0 : 1;
    for (std::size_t i = 0; i < std::min(one.size(), other.size()); ++i) {
        different |= static_cast<unsigned char>(one[i]) ^ static_cast<unsigned char>(other[i]);
    }
    return different == 0;
}

/// The command asked for, when it is one of those that stead-web may ask. Errors: denied, usage.
Result<const control::Command*> readable(const Request& request) {
    const control::Command* command = control::find_command(request.verb);
    if (command == nullptr || command->access == control::Access::change || !command->rest.starts_with("GET ") ||
        !request.nodes.empty() || !request.arguments.empty()) {
        return Error{Errc::denied, "", "'" + request.verb + "' cannot be asked over HTTP"};
    }
    for (const auto& given : request.options) {
        const bool known = std::ranges::any_of(command->used_options(), [&](const control::Option& option) {
            const bool in_route = given.first == "r" && command->rest.find("{r}") != command->rest.npos;
            return option.name.substr(1) == given.first && (!option.query.empty() || in_route);
        });
        if (!known) {
            return Error{Errc::denied, "",
                         "option -" + given.first + " of '" + request.verb + "' cannot be asked over HTTP"};
        }
    }
    return command;
}

} // namespace

WebFace::WebFace(asio::io_context& io, const control::Paths& paths, Source source)
    : io_(io), paths_(paths), source_(std::move(source)), beat_timer_(io), respawn_timer_(io) {}

WebFace::~WebFace() {
    if (connection_) {
        connection_->close();
    }
    if (pid_ != 0) {
        ::kill(pid_, SIGKILL); // it holds nothing that would have to be put in order
        ::waitpid(pid_, nullptr, 0);
    }
}

void WebFace::start(const config::ClusterWeb& options, const wire::Subjects& subjects) {
    options_ = options;
    subjects_ = subjects;
    token_ = web_token(paths_);
    listen();
    beat();
    if (server_ && enabled()) {
        spawn();
    }
}

void WebFace::configure(const config::ClusterWeb& options, const wire::Subjects& subjects) {
    if (options != options_ || subjects != subjects_) {
        options_ = options;
        subjects_ = subjects;
        restart();
    }
}

void WebFace::listen() {
    const Result<control::WebUser> user = control::web_user();
    if (!user) {
        return log::warning("web", "no health URL: " + user.error().text());
    }
    Result<std::unique_ptr<control::Server>> server =
        control::Server::listen(io_.get_executor(), paths_.status_socket(), 0660, user->group.c_str(),
                                [this](const std::shared_ptr<control::Connection>& connection) { accept(connection); });
    if (!server) {
        return log::warning("web", "no health URL: " + server.error().text());
    }
    server_ = std::move(*server);
}

// ---- status.sock ----------------------------------------------------------------------------------------------------

void WebFace::accept(const std::shared_ptr<control::Connection>& connection) {
    // The stead-web that we started, before it gave up its rights. One of an earlier steadd only looks whether we are
    // here, and ends.
    if (pid_ == 0 || connection->peer().pid != pid_) {
        return connection->close();
    }
    if (connection_) {
        connection_->close();
    }
    connection_ = connection;
    questions_ = 0;
    connection->start([this](const std::shared_ptr<control::Connection>& from,
                             const control::Frame& frame) { on_frame(from, frame.body.get_object()); },
                      [this](const std::shared_ptr<control::Connection>& from, const std::string&) {
                          if (connection_ == from) {
                              connection_.reset();
                          }
                      });
    publish();
    connection->send(setup());
}

json::object WebFace::setup() {
    json::object words{{"event", "setup"},    {"port", options_.port}, {"address", options_.address},
                       {"api", options_.api}, {"version", version()},  {"token_sha256", token_digest(token_)}};
    if (options_.https) {
        Result<WebCertificate> tls = web_certificate(paths_, subjects_);
        if (tls) {
            words["tls"] = json::object{{"port", options_.https_port},
                                        {"certificate", std::move(tls->certificate)},
                                        {"key", std::move(tls->key)},
                                        {"name", std::move(tls->name)}};
        } else {
            log::warning("web", "no HTTPS: " + tls.error().text());
        }
    }
    return words;
}

void WebFace::publish() {
    if (!connection_) {
        return;
    }
    json::object modules, started;
    for (const auto& [name, module] : source_.modules()) {
        const auto health = health_.find(name);
        modules[name] = module.ready && (health == health_.end() || !health->second.silent);
        if (module.ready && !module.started.empty()) {
            started[name] = module.started;
        }
    }
    connection_->send(
        json::object{{"event", "ready"}, {"modules", std::move(modules)}, {"started", std::move(started)}});
}

void WebFace::beat() {
    ping_hosts();
    publish();
    beat_timer_.expires_after(protocol::beat_interval);
    beat_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error) {
            beat();
        }
    });
}

/// A host that is frozen says nothing, and its last word may have been "ready".
void WebFace::ping_hosts() {
    const Instant now = BootClock::now();
    const auto modules = source_.modules();
    std::erase_if(health_, [&](const auto& entry) { return !modules.contains(entry.first); });
    for (const auto& [name, module] : modules) {
        Health& health = health_[name];
        if (!module.ready) {
            health = Health{};
            continue;
        }
        if (health.asked) {
            health.silent = health.silent || now - health.asked_at > protocol::silence_max - protocol::beat_interval;
            continue;
        }
        health.asked = true;
        health.asked_at = now;
        source_.ping(name, [this, name](bool alive) {
            const auto found = health_.find(name);
            if (found == health_.end()) {
                return;
            }
            found->second.asked = false; // asked again with the next beat: a frozen one may wake up
            if (std::exchange(found->second.silent, !alive) == alive) {
                publish();
            }
        });
    }
}

void WebFace::on_frame(const std::shared_ptr<control::Connection>& connection, const json::object& body) {
    if (body.contains("note")) {
        return note(body);
    }
    const Instant now = BootClock::now();
    if (now - second_began_ >= seconds{1}) {
        second_began_ = now;
        questions_this_second_ = 0;
    }
    // Twice what an honest one asks: seconds of two processes do not begin together.
    if (++questions_this_second_ > 2 * protocol::questions_per_second_max || questions_ > 2 * protocol::questions_max) {
        log::error("web", "stead-web asks more than it may; it is ended");
        return stop();
    }
    answer(connection, body);
}

void WebFace::answer(const std::shared_ptr<control::Connection>& connection, const json::object& body) {
    const json::value id = body.contains("id") ? body.at("id") : json::value(0);
    const auto send = [connection, id](json::object reply) {
        reply["id"] = id;
        if (!connection->send(reply)) {
            reply = Answer::too_long().to_json();
            reply["id"] = id;
            connection->send(reply);
        }
    };
    Result<Request> request = parse_request(body);
    if (!request) {
        return send(Answer::failed(request.error()).to_json());
    }
    const Result<const control::Command*> command = readable(*request);
    if (!command) {
        return send(Answer::failed(command.error()).to_json());
    }
    if ((*command)->access == control::Access::inspect &&
        (token_.empty() || !same_secret(text_of(body, "token"), token_))) {
        json::object refused = Answer::failed(exit_code::denied, "the token is missing or wrong").to_json();
        refused["token_missing"] = true;
        return send(std::move(refused));
    }
    request->caller = "stead-web";
    request->from_web = true;
    request->options["json"] = "on"; // what a plugin answers as well
    request->by.clear();
    ++questions_;
    source_.read(std::make_shared<Call>(
        std::move(*request), [](const std::string&) {},
        [this, send, weak = std::weak_ptr(connection)](const Answer& result) {
            if (!weak.expired() && weak.lock() == connection_) {
                --questions_;
            }
            send(result.to_json());
        }));
}

void WebFace::note(const json::object& body) {
    const Instant now = BootClock::now();
    if (now - minute_began_ >= seconds{60}) {
        minute_began_ = now;
        notes_ = 0;
    }
    if (++notes_ <= protocol::notes_per_minute_max) {
        const std::string text = text_of(body, "note").substr(0, 500);
        log::write(text_of(body, "level") == "warning" ? log::Level::warning : log::Level::event, "web",
                   "stead-web: " + text);
    }
}

// ---- The process ----------------------------------------------------------------------------------------------------

bool WebFace::enabled() const {
    return !value_or(read_file(paths_.web_switch(), 64), std::string{}).starts_with("off");
}

Result<void> WebFace::enable(bool on) {
    if (const Result<void> kept = write_file_atomically(paths_.web_switch(), on ? "on\n" : "off\n"); !kept) {
        return kept;
    }
    if (!on) {
        stop();
    } else if (pid_ == 0 && server_) {
        respawn_delay_ = milliseconds{0};
        spawn();
    }
    return {};
}

void WebFace::restart() {
    if (pid_ != 0) {
        respawn_delay_ = milliseconds{0};
        stop();
    } else if (server_ && enabled()) {
        spawn();
    }
}

void WebFace::spawn() {
    respawn_timer_.cancel();
    std::error_code ignored;
    if (!std::filesystem::exists(paths_.web(), ignored)) {
        return log::warning("web", "no health URL: " + paths_.web().string() + " is not installed");
    }
    const std::filesystem::path output = paths_.run / "web.out";
    std::filesystem::remove(output, ignored);
    Result<Child> child = spawn_detached({paths_.web().string()}, output);
    if (!child) {
        return log::warning("web", "no health URL: " + child.error().text());
    }
    pid_ = child->pid;
    spawned_at_ = BootClock::now();
    pidfd_.emplace(io_, child->pidfd.release());
    pidfd_->async_wait(asio::posix::stream_descriptor::wait_read,
                       [this, pid = pid_](const boost::system::error_code& error) {
                           if (!error && pid_ == pid) {
                               on_exit();
                           }
                       });
}

/// Its end is seen by its pidfd; what is enabled starts again then.
void WebFace::stop() {
    respawn_timer_.cancel();
    if (connection_) {
        std::exchange(connection_, nullptr)->close();
    }
    if (pid_ != 0) {
        ::kill(pid_, SIGKILL);
    }
}

void WebFace::on_exit() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    pidfd_.reset();
    if (!enabled()) {
        return;
    }
    const std::string how = WIFEXITED(status) ? "with exit code " + std::to_string(WEXITSTATUS(status))
                                              : std::string("by signal ") + ::strsignal(WTERMSIG(status));
    const bool well = BootClock::now() - spawned_at_ >= lived_well;
    respawn_delay_ = well ? respawn_first : std::clamp(2 * respawn_delay_, respawn_first, respawn_max);
    std::string words = value_or(read_file(paths_.run / "web.out", 1u << 20), std::string{}).substr(0, 500);
    words.erase(words.find_last_not_of('\n') + 1);
    log::warning("web", "stead-web ended " + how + (words.empty() ? "" : ": " + words) + "; started again in " +
                            std::to_string(respawn_delay_.count()) + " ms");
    respawn_timer_.expires_after(respawn_delay_);
    respawn_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error && pid_ == 0 && enabled()) {
            spawn();
        }
    });
}

} // namespace stead::node
