// SPDX-License-Identifier: Apache-2.0
#include <stead/web/status_client.hpp>

#include <stead/control/status_protocol.hpp>

#include <boost/asio/post.hpp>
#include <boost/json/object.hpp>

namespace stead::web {
namespace json = boost::json;
namespace protocol = control::status_protocol;
namespace {

constexpr seconds answer_limit{10};
constexpr milliseconds sweep_interval{500};

const json::object* object_in(const json::object& body, std::string_view name) {
    const json::value* value = body.if_contains(name);
    return value != nullptr ? value->if_object() : nullptr;
}

std::string text_in(const json::object& body, std::string_view name) {
    const json::value* value = body.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

std::optional<std::uint16_t> port_in(const json::object& body) {
    const json::value* port = body.if_contains("port");
    return port != nullptr && port->is_int64() ? std::optional(static_cast<std::uint16_t>(port->get_int64()))
                                               : std::nullopt;
}

/// It becomes a header field: nothing in it may end one.
std::string stamp(std::string text) {
    const bool decimal = text.find_first_not_of("0123456789") == std::string::npos;
    return decimal && text.size() <= 20 ? std::move(text) : std::string{};
}

Reply failure(unsigned status, std::string_view text) { return {status, error_body(status, text)}; }

} // namespace

StatusClient::StatusClient(boost::asio::io_context& io, std::shared_ptr<control::Connection> steadd, Events events)
    : io_(io), connection_(std::move(steadd)), events_(std::move(events)), timer_(io) {
    connection_->start([this](const std::shared_ptr<control::Connection>&,
                              control::Frame frame) { on_frame(frame.body.get_object()); },
                       [this](const std::shared_ptr<control::Connection>&, const std::string&) { on_lost(); });
    sweep();
}

StatusClient::~StatusClient() {
    if (connection_) {
        connection_->close();
    }
}

bool StatusClient::is_ready(std::string_view module) const {
    return ready_.contains(module) && BootClock::now() - heard_ <= protocol::silence_max;
}

std::string StatusClient::started(std::string_view module) const {
    const auto found = ready_.find(module);
    return found != ready_.end() ? found->second : std::string{};
}

bool StatusClient::may_ask(Instant now) {
    if (now - second_began_ >= seconds{1}) {
        second_began_ = now;
        asked_this_second_ = 0;
    }
    return pending_.size() < protocol::questions_max && ++asked_this_second_ <= protocol::questions_per_second_max;
}

void StatusClient::ask(const Question& question, std::string_view token, OnReply on_reply) {
    const Instant now = BootClock::now();
    const bool silent = now - heard_ > protocol::silence_max;
    if (!connection_ || silent || !may_ask(now)) {
        Reply reply = !connection_ || silent ? failure(503, "steadd does not answer on this node")
                                             : failure(503, "too many questions at once; try again");
        boost::asio::post(
            io_, [on_reply = std::move(on_reply), reply = std::move(reply)]() mutable { on_reply(std::move(reply)); });
        return;
    }
    const std::int64_t id = next_id_++;
    json::object options;
    for (const auto& [name, value] : question.options) {
        options[name] = value;
    }
    pending_[id] = {question, std::move(on_reply), now + answer_limit};
    connection_->send(json::object{{"id", id},
                                   {"verb", question.verb},
                                   {"module", question.module},
                                   {"options", std::move(options)},
                                   {"token", token}});
}

void StatusClient::note(std::string_view level, const std::string& text) {
    if (connection_) {
        connection_->send(json::object{{"note", text}, {"level", level}});
    }
}

void StatusClient::on_frame(const json::object& body) {
    heard_ = BootClock::now();
    const std::string event = text_in(body, "event");
    if (event == "ready") {
        ready_.clear();
        if (const json::object* modules = object_in(body, "modules")) {
            const json::object* started = object_in(body, "started");
            for (const auto& [name, ready] : *modules) {
                if (ready.is_bool() && ready.get_bool()) {
                    ready_.emplace(name, started != nullptr ? stamp(text_in(*started, name)) : std::string{});
                }
            }
        }
    } else if (event == "setup") {
        Setup setup;
        const json::value* api = body.if_contains("api");
        setup.port = port_in(body).value_or(setup.port);
        setup.api = api == nullptr || !api->is_bool() || api->get_bool();
        setup.address = text_in(body, "address");
        setup.version = text_in(body, "version");
        setup.token_sha256 = text_in(body, "token_sha256");
        if (const json::object* tls = object_in(body, "tls")) {
            setup.tls = Setup::Tls{port_in(*tls).value_or(0), text_in(*tls, "certificate"), text_in(*tls, "key"),
                                   text_in(*tls, "name")};
        }
        events_.setup(setup);
    } else if (const json::value* id = body.if_contains("id"); id != nullptr && id->is_int64()) {
        const auto found = pending_.find(id->get_int64());
        if (found != pending_.end()) {
            finish(found->first, reply_to(found->second.question, body));
        }
    }
}

void StatusClient::on_lost() {
    connection_.reset();
    ready_.clear();
    while (!pending_.empty()) {
        finish(pending_.begin()->first, failure(503, "steadd has ended"));
    }
    events_.lost();
}

void StatusClient::finish(std::int64_t id, Reply reply) {
    const OnReply on_reply = std::move(pending_.at(id).on_reply);
    pending_.erase(id);
    on_reply(std::move(reply));
}

void StatusClient::sweep() {
    const Instant now = BootClock::now();
    while (!pending_.empty() && pending_.begin()->second.deadline <= now) { // ids and deadlines grow together
        finish(pending_.begin()->first, failure(504, "steadd did not answer in time"));
    }
    timer_.expires_after(sweep_interval);
    timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error) {
            sweep();
        }
    });
}

} // namespace stead::web
