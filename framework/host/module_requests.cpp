// SPDX-License-Identifier: Apache-2.0
// The host's socket; host_protocol.hpp is the contract.
#include "module_host.hpp"

#include <stead/control/host_protocol.hpp>
#include <stead/control/user_settings.hpp>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cstdio>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace stead::host {

namespace json = boost::json;

namespace {

std::string hex(SessionId session) {
    std::array<char, 33> text{};
    std::snprintf(text.data(), text.size(), "%016llx%016llx", static_cast<unsigned long long>(session.high),
                  static_cast<unsigned long long>(session.low));
    return text.data();
}

std::optional<SessionId> parse_session(std::string_view text) {
    SessionId session;
    if (text.size() != 32) {
        return std::nullopt;
    }
    for (auto* half : {&session.high, &session.low}) {
        const auto [end, failed] = std::from_chars(text.data(), text.data() + 16, *half, 16);
        if (failed != std::errc{} || end != text.data() + 16) {
            return std::nullopt;
        }
        text.remove_prefix(16);
    }
    return session;
}

std::string hex(std::uint64_t value) {
    std::array<char, 17> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
    return text.data();
}

/// A string field, or what stands in for it.
std::string text_of(const json::object& request, std::string_view field, std::string_view fallback = {}) {
    const json::value* value = request.if_contains(field);
    return std::string{value != nullptr && value->is_string() ? std::string_view{value->as_string()} : fallback};
}

std::vector<std::string> texts_of(const json::object& request, std::string_view field) {
    std::vector<std::string> texts;
    if (const json::value* list = request.if_contains(field); list != nullptr && list->is_array()) {
        for (const json::value& one : list->as_array()) {
            texts.emplace_back(one.is_string() ? std::string_view{one.as_string()} : std::string_view{});
        }
    }
    return texts;
}

bool flag_of(const json::object& request, std::string_view field) {
    const json::value* value = request.if_contains(field);
    return value != nullptr && value->is_bool() && value->as_bool();
}

const char* code_name(Errc code) {
    switch (code) {
    case Errc::malformed: return "malformed";
    case Errc::out_of_range: return "out_of_range";
    case Errc::not_found: return "not_found";
    case Errc::conflict: return "conflict";
    case Errc::refused: return "refused";
    case Errc::timed_out: return "timed_out";
    case Errc::denied: return "denied";
    case Errc::unsupported: return "unsupported";
    case Errc::io: return "io";
    }
    return "io";
}

} // namespace

Result<void> ModuleHost::listen() {
    std::error_code failed;
    std::filesystem::create_directories(facts_.paths.host_folder(), failed);
    const auto lock_file = facts_.paths.host_lock(facts_.module);
    lock_.reset(::open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock_) {
        return os_error(lock_file.string(), "cannot be opened", errno);
    }
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
        return Error{Errc::conflict, lock_file.string(), "another stead-host runs this module"};
    }
    // steadd empties it when the lease of a dead host is closed.
    struct stat left {};
    past_over_ = ::fstat(lock_.get(), &left) == 0 && left.st_size == 0;
    const std::string_view mark = past_over_ ? control::host_protocol::past_over : control::host_protocol::past_unknown;
    if (::pwrite(lock_.get(), mark.data(), mark.size(), 0) != static_cast<ssize_t>(mark.size())) {
        return os_error(lock_file.string(), "cannot be written", errno);
    }
    auto server = control::Server::listen(
        io_.get_executor(), facts_.paths.host_socket(facts_.module), 0600, nullptr,
        [this](std::shared_ptr<control::Connection> connection) {
            std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
            connections_.push_back(connection);
            connection->start(
                [this](const std::shared_ptr<control::Connection>& from, control::Frame frame) {
                    if (!ended_) {
                        serve(from, std::move(frame));
                    }
                },
                [this](const std::shared_ptr<control::Connection>& from, const std::string&) {
                    std::erase(listeners_, from);
                    std::erase_if(stop_waiters_, [&](const auto& waiter) { return waiter.first == from; });
                    std::erase_if(late_answers_, [&](const auto& late) { return late.second.to == from; });
                });
        });
    if (!server) {
        return server.error();
    }
    server_ = std::move(*server);
    return {};
}

ModuleHost::Caller ModuleHost::caller_of(const json::object& request) {
    return flag_of(request, "automatic") ? Caller::script : Caller::person;
}

void ModuleHost::serve(const std::shared_ptr<control::Connection>& connection, control::Frame frame) {
    const json::object* request = frame.body.if_object();
    if (request == nullptr) {
        connection->close();
        return;
    }
    const json::value* id = request->if_contains("id");
    json::object reply{{"id", id != nullptr ? *id : json::value(nullptr)}};
    const std::string verb = text_of(*request, "verb");
    if (verb == "hello") {
        hello(connection, std::move(reply));
        return;
    }
    if (verb == "stop") {
        stop_waiters_.emplace_back(connection, reply["id"]); // answered at STOP
        act("stop", text_of(*request, "by", "administrator"), caller_of(*request), flag_of(*request, "force"));
        return;
    }
    if (verb == "command") {
        auto done =
            do_command({.to = connection, .id = reply["id"], .of = nullptr, .command = text_of(*request, "command")},
                       texts_of(*request, "argv"), text_of(*request, "by", "administrator"), caller_of(*request));
        if (done) {
            send_answer(connection, std::move(reply), std::move(*done));
        }
        return;
    }
    send_answer(connection, std::move(reply), answer(verb, *request));
}

void ModuleHost::send_answer(const std::shared_ptr<control::Connection>& to, json::object reply,
                             Result<json::object> done) {
    reply["ok"] = static_cast<bool>(done);
    if (done) {
        for (auto& member : *done) {
            reply[member.key()] = std::move(member.value());
        }
    } else {
        reply["code"] = code_name(done.error().code);
        reply["error"] = done.error().text();
    }
    if (!to->send(reply)) {
        to->send(json::object{{"id", reply["id"]},
                              {"ok", false},
                              {"code", code_name(Errc::out_of_range)},
                              {"error", "the answer is longer than a frame may be"}});
    }
}

Result<json::object> ModuleHost::answer(const std::string& verb, const json::object& request) {
    if (verb == "state") {
        json::object object = state_object();
        if (flag_of(request, "verbose")) {
            describe(object);
        }
        return object;
    }
    if (verb == "dump") {
        json::object object = state_object();
        describe(object);
        return object;
    }
    if (verb == "start" || verb == "restart" || verb == "stopstart") {
        return do_action(verb, request);
    }
    if (verb == "set") {
        return do_set(request);
    }
    if (verb == "get") {
        return do_get(request);
    }
    if (verb == "update") {
        return do_update();
    }
    if (verb == "loop") {
        return do_loop(request);
    }
    if (verb == "peer_died") {
        return do_peer_died(request);
    }
    if (verb == "peer_past") {
        return do_peer_past(request);
    }
    if (verb == "print") {
        return do_print(request);
    }
    if (verb == "switch") {
        return do_switch(request);
    }
    if (verb == "rekey") {
        return do_rekey();
    }
    if (verb == "witness") {
        return do_witness(request);
    }
    return Error{Errc::unsupported, "verb '" + verb + "'",
                 "allowed: hello state start stop restart stopstart set get command update loop switch peer_died "
                 "peer_past print "
                 "rekey witness dump"};
}

Result<json::object> ModuleHost::do_action(const std::string& verb, const json::object& request) {
    const std::string by = text_of(request, "by", "administrator");
    if (verb == "start") {
        if (automaton_.stopping()) {
            return Error{Errc::refused, facts_.module, "it is stopping; start it again when it is stopped"};
        }
        return json::object{}; // it runs already
    }
    if (verb == "restart" && (!automaton_.able().restart || automaton_.qualifier() != automaton::Qualifier::ready)) {
        return Error{Errc::refused, facts_.module,
                     std::string{"restart needs state "} + (mirror_ ? "PRIM, ALONE or SECOND" : "UP") +
                         " Ready; the module is " + state_name()};
    }
    act(verb, by, caller_of(request), false);
    return json::object{{"text", "module '" + facts_.module + "' " +
                                     (verb == "restart" ? "restarts its application" : "stops and starts again")}};
}

Result<json::object> ModuleHost::do_set(const json::object& request) {
    const std::string name = text_of(request, "resource");
    const std::string value = text_of(request, "value");
    const bool changed = read(index(facts_.self), name) != value;
    if (const auto done = set_resource(name, value); !done) {
        return done.error();
    }
    if ((changed || flag_of(request, "log")) && !flag_of(request, "silent")) {
        const std::string by = text_of(request, "by");
        write(log::Level::event, "host", "Resource " + name + " set to " + value + (by.empty() ? "" : " by " + by));
    }
    return json::object{{"changed", changed}};
}

Result<json::object> ModuleHost::do_get(const json::object& request) {
    const std::string name = text_of(request, "resource");
    const auto value = resource(name);
    if (!value) {
        return Error{Errc::not_found, name, "no such resource; `stead state -v -m " + facts_.module + "` lists them"};
    }
    return json::object{{"value", *value}};
}

Result<json::object> ModuleHost::do_update() {
    if (automaton_.changing() || !plugin_hook_queue_.empty()) {
        return Error{Errc::refused, facts_.module,
                     "scripts are running (" + state_name() + "); try again when it is stable"};
    }
    auto parsed = read_config(facts_);
    if (!parsed.ok()) {
        return Error{Errc::malformed, {}, errors_of(parsed.findings)};
    }
    RuleBook rules = read_rules(*parsed.value, facts_.rule_files());
    if (const std::string wrong = errors_of(rules.findings); !wrong.empty()) {
        return Error{Errc::malformed, {}, wrong};
    }
    std::string fixed;
    for (const std::string& change : config::static_changes(facts_.config, *parsed.value, facts_.schemas)) {
        fixed += (fixed.empty() ? "" : ", ") + change;
    }
    if (const std::string label = first_difference(facts_.rules, rules); fixed.empty() && !label.empty()) {
        fixed = "rules.lua (" + label + ")";
    }
    if (!fixed.empty()) {
        return Error{Errc::refused, facts_.module, "these may not change while the module runs: " + fixed};
    }
    auto updated = update_plugins(*parsed.value);
    if (!updated) {
        return updated.error();
    }
    facts_.config = std::move(*parsed.value);
    facts_.rules = std::move(rules);
    refresh_rules();
    evaluate();
    start_runners(); // with the new variables
    automaton::LoopGuard loops(facts_.config.settings.maxloop,
                               std::chrono::duration_cast<seconds>(facts_.config.settings.loop_interval));
    loops.load(loops_.save());
    loops_ = std::move(loops);
    write(log::Level::event, "host", "Action update: dynamic attributes read again");
    return json::object{{"text", "updated: host" + (updated->empty() ? "" : ", " + *updated)}};
}

Result<json::object> ModuleHost::do_loop(const json::object& request) {
    const std::string op = text_of(request, "op");
    const std::int64_t now = static_cast<std::int64_t>(std::time(nullptr));
    bool reached = false;
    load_loops();
    if (op == "inc") {
        reached = !loops_.announce(now, text_of(request, "by"));
    } else if (op == "check") {
        reached = loops_.exhausted(now);
    } else if (op == "reset") {
        loops_.reset();
    } else {
        return Error{Errc::out_of_range, "op '" + op + "'", "allowed: inc, check, reset"};
    }
    save_loops();
    return json::object{{"reached", reached}};
}

Result<json::object> ModuleHost::do_switch(const json::object& request) {
    const std::string name = text_of(request, "name");
    const std::vector<std::string> argv = texts_of(request, "argv");
    const std::string by = text_of(request, "by", "administrator");
    if (name == "errd" && !argv.empty() && argv[0] != "on" && argv[0] != "off") {
        auto text = command_errd(argv, by);
        return text ? Result<json::object>{json::object{{"text", *text}}} : text.error();
    }
    if ((name != "failover" && name != "checker" && name != "errd") || argv.size() != 1 ||
        (argv[0] != "on" && argv[0] != "off")) {
        return Error{Errc::out_of_range, "switch '" + name + "'",
                     "allowed: failover, checker, errd, with on or off; errd with list, enable or disable"};
    }
    if (auto turned = turn_switch(name, argv[0] == "on", by); !turned) {
        return turned.error();
    }
    return json::object{{"text", std::string{control::user_setting_prefix} + name + " is " + argv[0]}};
}

Result<std::pair<NodeId, SessionId>> ModuleHost::session_in(const json::object& request) const {
    const auto found = facts_.cluster.find(text_of(request, "node"));
    const auto session = parse_session(text_of(request, "session"));
    if (!found || !session) {
        return Error{Errc::malformed, text_of(request, "verb"),
                     "needs a node of cluster.xml and a session of 32 hex digits"};
    }
    return std::pair{*found, *session};
}

Result<json::object> ModuleHost::do_peer_died(const json::object& request) {
    const auto of = session_in(request);
    if (!of) {
        return of.error();
    }
    bus_->peer_died(of->first, of->second); // peer_ended follows when that is the session that we know
    return json::object{};
}

Result<json::object> ModuleHost::do_peer_past(const json::object& request) {
    const auto of = session_in(request);
    if (!of) {
        return of.error();
    }
    bus_->peer_past(of->first, of->second);
    return json::object{};
}

Result<json::object> ModuleHost::do_print(const json::object& request) {
    const std::string level = text_of(request, "level", "i");
    const std::string by = text_of(request, "by", "user");
    write(level == "e"   ? log::Level::error
          : level == "w" ? log::Level::warning
                         : log::Level::event,
          by, text_of(request, "text"));
    return json::object{};
}

Result<json::object> ModuleHost::do_rekey() {
    auto keys = read_keys(facts_.paths);
    if (!keys) {
        return keys.error();
    }
    {
        const std::lock_guard lock(shared_);
        facts_.keys = std::move(*keys);
    }
    bus_->set_keys(facts_.keys);
    write(log::Level::event, "host",
          "cluster key read again: " + std::to_string(facts_.keys.size()) +
              (facts_.keys.size() == 1 ? " key is accepted" : " keys are accepted"));
    return json::object{};
}

void ModuleHost::hello(const std::shared_ptr<control::Connection>& connection, json::object reply) {
    reply["ok"] = true;
    reply["version"] = control::host_protocol::version;
    reply["release"] = STEAD_VERSION;
    reply["module"] = facts_.module;
    reply["module_id"] = facts_.module_id;
    reply["pid"] = ::getpid();
    reply["session"] = bus_ != nullptr ? hex(bus_->session()) : "";
    reply["config"] = hex(facts_.config.digest);
    for (auto& member : state_object()) {
        reply[member.key()] = std::move(member.value());
    }
    std::vector<Fd> leases;
    for (const auto& slot : slots_) {
        if (const int fd = slot->lease_fd(); fd >= 0 && leases.size() < control::frame_descriptors_max) {
            if (Fd copy{::fcntl(fd, F_DUPFD_CLOEXEC, 0)}; copy) {
                leases.push_back(std::move(copy));
            }
        }
    }
    reply["fds"] = leases.size();
    if (std::ranges::find(listeners_, connection) == listeners_.end()) {
        listeners_.push_back(connection);
    }
    connection->send(reply, std::move(leases));
    const bool awaited = std::exchange(starter_, Starter::answered) == Starter::awaited;
    if (finished_) {
        connection->send(json::object{{"event", "finished"}, {"exit", exit_code_}});
    }
    if (awaited) {
        end();
    }
}

json::object ModuleHost::state_object() const {
    json::object object{{"state", std::string{automaton::name(automaton_.state())}},
                        {"qualifier", std::string{automaton::name(automaton_.qualifier())}},
                        {"reason", automaton_.reason()},
                        {"since", since_seconds_},
                        {"started", started_}};
    if (const std::string share = own_share(); !share.empty() && automaton_.state() == automaton::State::up) {
        object["share"] = share;
    }
    return object;
}

void ModuleHost::tell_state() {
    json::object event = state_object();
    event["event"] = "state";
    event["ends"] = automaton_.ends();
    broadcast(event);
}

bool is_share(std::string_view resource, std::string_view value) {
    return resource.starts_with("farm.") && value.size() > 1 &&
           value.find_first_not_of("0123456789") == value.size() - 1 && value.ends_with('%');
}

std::string ModuleHost::own_share() const {
    int low = INT_MAX, high = -1;
    const std::lock_guard lock(shared_);
    for (const auto& [key, value] : resources_) {
        if (key.first == index(facts_.self) && is_share(key.second, value)) {
            const int percent = std::atoi(value.c_str());
            low = std::min(low, percent);
            high = std::max(high, percent);
        }
    }
    return high < 0      ? ""
           : low == high ? std::to_string(low) + "%"
                         : std::to_string(low) + "%.." + std::to_string(high) + "%";
}

void ModuleHost::describe(json::object& object) {
    const auto& names = facts_.cluster.nodes;
    {
        const std::lock_guard lock(shared_);
        json::array resources;
        for (const auto& [key, value] : resources_) {
            json::object one{
                {"node", key.first < names.size() ? names[key.first] : "?"}, {"name", key.second}, {"value", value}};
            const auto why = reasons_.find(key.second);
            if (key.first == index(facts_.self) && why != reasons_.end() && !why->second.empty()) {
                one["reason"] = why->second;
            }
            resources.push_back(std::move(one));
        }
        object["resources"] = std::move(resources);
        json::array members;
        json::object weights;
        for (const NodeId node : view_.members) {
            members.push_back(json::string(names[index(node)]));
            weights[names[index(node)]] = view_.weights[index(node)];
        }
        object["view"] = json::object{{"epoch", view_.epoch},
                                      {"id", hex(view_.id)},
                                      {"members", std::move(members)},
                                      {"weights", std::move(weights)}};
    }
    json::array notes;
    for (const auto& slot : slots_) {
        notes.push_back(json::string("plugin " + std::string{slot->id()} + " " + slot->descriptor().version));
        std::string text;
        if (slot->command("describe", {}, text) == 0) { // a plugin that knows the verb tells its own lines
            for (std::size_t at = 0; at < text.size(); at = std::min(text.find('\n', at), text.size()) + 1) {
                notes.push_back(json::string(text.substr(at, text.find('\n', at) - at)));
            }
        }
    }
    for (const script::Supervisor::Running& one : supervisor_->running()) {
        notes.push_back(json::string("supervised " + one.name + ": pid " + std::to_string(one.pid)));
    }
    if (automaton_.ignored() > 0) {
        notes.push_back(json::string(std::to_string(automaton_.ignored()) + " requests ignored in their state"));
    }
    object["notes"] = std::move(notes);
    if (bus_ == nullptr) {
        return;
    }
    const bus::BusCounters c = bus_->counters();
    object["counters"] = json::object{{"datagrams_in", c.datagrams_in},
                                      {"datagrams_out", c.datagrams_out},
                                      {"bytes_in", c.bytes_in},
                                      {"bytes_out", c.bytes_out},
                                      {"dropped_unauthentic", c.dropped_unauthentic},
                                      {"dropped_foreign", c.dropped_foreign},
                                      {"dropped_replayed", c.dropped_replayed},
                                      {"dropped_malformed", c.dropped_malformed},
                                      {"dropped_version", c.dropped_version},
                                      {"send_errors", c.send_errors},
                                      {"views_installed", c.membership.views_installed},
                                      {"late_timers", c.membership.late_timers},
                                      {"self_distrusts", c.membership.self_distrusts},
                                      {"lease_lapses", c.membership.lease_lapses},
                                      {"silence_max_ns", c.membership.silence_max.count()},
                                      {"lateness_max_ns", c.membership.lateness_max.count()}};
}

void ModuleHost::broadcast(const json::object& event) {
    for (const auto& listener : Connections{listeners_}) {
        listener->send(event);
    }
}

} // namespace stead::host
