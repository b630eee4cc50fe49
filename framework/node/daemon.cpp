// SPDX-License-Identifier: Apache-2.0
#include <stead/node/daemon.hpp>

#include <stead/archive/archive.hpp>
#include <stead/base/log.hpp>
#include <stead/base/utf8.hpp>
#include <stead/node/web_identity.hpp>

#include <boost/asio/post.hpp>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <fcntl.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

namespace stead::node {
namespace asio = boost::asio;
namespace json = boost::json;
namespace fs = std::filesystem;
namespace {

constexpr seconds retry_interval{2};
constexpr milliseconds ports_first_wait{50};
constexpr milliseconds connect_limit{2000};

std::string user_name(uid_t uid) {
    const passwd* found = ::getpwuid(uid);
    return found != nullptr ? found->pw_name : "uid " + std::to_string(uid);
}

/// Commands that send something to the nodes of -H, instead of being sent there.
bool pushes(std::string_view verb) { return verb == "-E" || verb == "-G"; }

std::vector<std::string> split_names(std::string_view text) {
    std::vector<std::string> names;
    while (!text.empty()) {
        const std::size_t end = text.find(',');
        std::string_view name = text.substr(0, end);
        while (name.starts_with(' ')) {
            name.remove_prefix(1);
        }
        while (name.ends_with(' ')) {
            name.remove_suffix(1);
        }
        if (!name.empty()) {
            names.emplace_back(name);
        }
        text.remove_prefix(end == text.npos ? text.size() : end + 1);
    }
    return names;
}

/// "*" or names. Errors: not_found with the nearest name.
Result<std::vector<NodeId>> chosen_nodes(const config::Cluster& cluster, const std::string& text) {
    std::vector<NodeId> nodes;
    if (text == "*") {
        for (std::size_t i = 0; i < cluster.nodes.size(); ++i) {
            nodes.push_back(NodeId(i));
        }
        return nodes;
    }
    for (const std::string& name : split_names(text)) {
        const std::optional<NodeId> node = cluster.find(name);
        if (!node) {
            const std::string near = control::nearest(name, cluster.nodes);
            return Error{Errc::not_found, "-H",
                         "no node '" + name + "' in cluster.xml" +
                             (near.empty() ? "" : "; did you mean '" + near + "'?")};
        }
        if (std::ranges::find(nodes, *node) == nodes.end()) { // named twice, it is to act once
            nodes.push_back(*node);
        }
    }
    return nodes;
}

/// The command as typed, for the command log.
std::string shown(const Request& request) {
    std::string line = request.verb;
    for (const std::string& argument : request.arguments) {
        line.append(" ").append(argument);
    }
    for (const auto& [name, value] : request.options) {
        line.append(" -").append(name).append(value == "on" ? "" : " " + value);
    }
    if (!request.module.empty()) {
        line.append(" -m ").append(request.module);
    }
    if (!request.by.empty()) {
        line.append(" -i ").append(request.by);
    }
    return line;
}

/// Gathers the answers of several nodes; finishes the call with the last.
struct Gathering {
    CallPtr call;
    std::size_t missing{};
    std::map<std::string, json::object> answers;

    void add(const std::string& node, json::object answer) {
        answer["node"] = node;
        answers[node] = std::move(answer);
        if (--missing > 0) {
            return;
        }
        Answer total;
        json::array nodes;
        json::object data;
        for (auto& [name, one] : answers) {
            const json::value* exit = one.if_contains("exit");
            total.exit = std::max(total.exit, exit != nullptr && exit->is_int64() ? static_cast<int>(exit->get_int64())
                                                                                  : control::exit_code::internal);
            const json::value* one_data = one.if_contains("data");
            data[name] = one.contains("error") ? json::value(json::object{{"error", one.at("error")}, {"exit", *exit}})
                         : one_data != nullptr ? *one_data
                                               : json::value(json::object{{"ok", true}});
            nodes.push_back(one);
        }
        total.data = std::move(data);
        call->finish(Answer{total.exit, utf8_json(json::serialize(nodes)), "", total.data, {}});
    }
};

} // namespace

std::string version() { return STEAD_VERSION; }

Daemon::Daemon(asio::io_context& io, const control::Paths& paths)
    : io_(io), paths_(paths), log_(std::make_shared<control::ModuleLog>(paths.node_log(), "steadd")),
      command_log_(std::make_shared<control::ModuleLog>(paths.command_log(), "cmd")), registry_(paths),
      witness_(paths.witness()), retry_timer_(io) {}

Daemon::~Daemon() {
    web_.reset();
    server_.reset();
    peer_server_.reset();
    bus_.reset();
    workers_.join();
    claims_.join();
}

Result<void> Daemon::start() {
    std::error_code error;
    fs::remove_all(paths_.tries(), error); // a steadd that died may have left some
    for (const fs::path& folder : {paths_.run, paths_.host_folder(), paths_.modules(), paths_.var / "cluster"}) {
        fs::create_directories(folder, error);
        if (error) {
            return os_error(folder.string(), "cannot make this folder", error.value());
        }
    }
    for (const InstalledModule& module : registry_.list()) {
        if (module.damage) {
            log::error("steadd", module.damage->text());
        }
        Generations(paths_.module(module.name)).recover();
    }
    for (const fs::path& left : archive::remove_leftovers(paths_.edited_modules())) {
        log::event("steadd", "removed " + left.string() + ", left by an installation that was cut off");
    }
    Result<std::unique_ptr<control::Server>> server = control::Server::listen(
        io_.get_executor(), paths_.daemon_socket(), 0660, "stead",
        [this](std::shared_ptr<control::Connection> connection) { accept(std::move(connection)); });
    if (!server) {
        return server.error();
    }
    server_ = std::move(*server);
    make_web_face();
    const std::vector<std::string> dead = adopt_hosts();
    join_cluster();
    for (const std::string& module : dead) {
        if (cluster_ && runner(module)->is_dead()) {
            runner(module)->found_dead();
        }
    }
    for (const InstalledModule& module : registry_.list()) {
        const Result<std::string> said = read_file(paths_.host_end(module.name), 4096);
        if (cluster_ && said && !runner(module.name)->running() && runner(module.name)->is_dead()) {
            runner(module.name)->found_ended(*said);
        }
    }
    web_->start(cluster_ ? cluster_->cluster.web : config::ClusterWeb{}, web_names());
    return {};
}

wire::Subjects Daemon::web_names() const {
    return cluster_ ? web_subjects(cluster_->name(), cluster_->own_addresses()) : web_subjects("", {});
}

std::string Daemon::cluster_node() const { return cluster_ ? cluster_->name() : std::string{}; }

std::string Daemon::own_name() const { return cluster_ ? cluster_->name() : "this node"; }

// ---- Requests
// --------------------------------------------------------------------------------------------------------

void Daemon::accept(std::shared_ptr<control::Connection> connection) {
    connection->start([this](const std::shared_ptr<control::Connection>& from,
                             control::Frame frame) { on_request(from, std::move(frame)); },
                      [](const std::shared_ptr<control::Connection>&, const std::string&) {});
}

void Daemon::on_request(const std::shared_ptr<control::Connection>& connection, control::Frame frame) {
    Result<Request> request = parse_request(frame.body);
    if (!request) {
        connection->send(Answer::failed(request.error()).to_json());
        return;
    }
    request->fds = std::move(frame.fds);
    const control::PeerCredentials peer = connection->peer();
    request->caller = user_name(peer.uid) + " (pid " + std::to_string(peer.pid) + ")";
    const bool many = !request->nodes.empty();
    handle(std::make_shared<Call>(
        std::move(*request),
        [connection](const std::string& text) {
            connection->send(json::object{{"progress", text}});
        },
        [connection, many](Answer answer) {
            json::object body = answer.to_json();
            json::error_code error;
            if (many && answer.error.empty()) { // Gathering puts the nodes' answers here
                body["nodes"] = json::parse(answer.text, error);
                body.erase("text");
            }
            if (!connection->send(body, std::move(answer.fds))) {
                connection->send(Answer::too_long().to_json());
            }
        }));
}

void Daemon::handle(const CallPtr& call) {
    const control::Command* command = control::find_command(call->request.verb);
    const std::string& verb = call->request.verb;
    const bool here = call->request.nodes.empty() || pushes(verb); // else each node writes its own line
    const bool changes = command != nullptr && command->access == control::Access::change;
    // (What scripts print is in the module's log, and not worth a second line.)
    const bool audited = (changes && here && !verb.starts_with("print")) || verb == "_install" || verb == "_cluster";
    dispatch(audited ? with_audit(call) : call, command);
}

void Daemon::dispatch(const CallPtr& call, const control::Command* command) {
    const Request& request = call->request;
    const bool internal = request.verb.starts_with('_');
    const auto found = handlers().find(request.verb);
    if (found == handlers().end() || (internal && !request.from_peer)) {
        return call->finish(Answer::failed(control::exit_code::usage,
                                           "this steadd (version " + version() + ") does not know '" + request.verb +
                                               "'; is another version installed than running?"));
    }
    if (command != nullptr && command->module == control::NeedsModule::yes) {
        if (!control::is_module_name(request.module)) {
            return call->finish(Answer::failed(control::exit_code::usage, "'" + request.verb + "' needs -m AM"));
        }
        if (request.verb != "module install" && request.nodes.empty()) {
            if (const Result<InstalledModule> module = registry_.find(request.module); !module) {
                const bool elsewhere = command->everywhere && request.from_peer; // a module need not be on all nodes
                return call->finish(elsewhere ? Answer::done("module '" + request.module + "' is not on this node")
                                              : Answer::failed(module.error()));
            }
        }
    }
    if (!request.nodes.empty() && !pushes(request.verb)) {
        return distribute(call);
    }
    (this->*found->second)(call);
}

CallPtr Daemon::with_audit(const CallPtr& call) {
    Request request = std::move(call->request);
    const auto finish = [this, call, line = shown(request), who = request.caller,
                         always = request.has("l")](Answer answer) {
        const bool failed = !answer.error.empty();
        if (!failed && !always && answer.changed_nothing()) { // a script may set a resource every second
            return call->finish(std::move(answer));
        }
        const std::string reason = answer.error.substr(0, answer.error.find('\n'));
        command_log_->write(failed ? log::Level::warning : log::Level::event, who,
                            line + (failed             ? ": failed, exit " + std::to_string(answer.exit) + ": " + reason
                                    : answer.exit != 0 ? ": exit " + std::to_string(answer.exit)
                                                       : ": done"));
        call->finish(std::move(answer));
    };
    return std::make_shared<Call>(
        std::move(request), [call](const std::string& text) { call->progress(text); }, finish);
}

void Daemon::distribute(const CallPtr& call) {
    auto file = std::make_shared<Fd>(call->request.fds.empty() ? Fd{} : std::move(call->request.fds[0]));
    const json::object body = call->request.to_json();
    ask_nodes(call, body, body, std::move(file));
}

void Daemon::ask_nodes(const CallPtr& call, const json::object& others, const json::object& own,
                       std::shared_ptr<Fd> file) {
    if (!cluster_) {
        return call->finish(Answer::failed(control::exit_code::conflict, "-H needs a cluster: " + cluster_problem_));
    }
    const Result<std::vector<NodeId>> nodes = chosen_nodes(cluster_->cluster, call->request.nodes);
    if (!nodes || nodes->empty()) {
        return call->finish(nodes ? Answer::failed(control::exit_code::usage, "-H names no node")
                                  : Answer::failed(nodes.error()));
    }
    const ActiveCluster asking = *cluster_; // this node's own answer may be that it has none any more
    auto gathering = std::make_shared<Gathering>();
    gathering->call = call;
    gathering->missing = nodes->size();
    json::object asked = others;
    asked["caller"] = call->request.caller;
    for (const NodeId node : *nodes) {
        const std::string name = asking.cluster.nodes[index(node)];
        if (node == asking.self) {
            Result<Request> request = parse_request(own);
            request->caller = call->request.caller;
            if (*file) {
                request->fds.emplace_back(::fcntl(file->get(), F_DUPFD_CLOEXEC, 0));
            }
            handle(std::make_shared<Call>(
                std::move(*request), [](const std::string&) {},
                [gathering, name](const Answer& answer) { gathering->add(name, answer.to_json()); }));
            continue;
        }
        // A thread each: a node that hangs must not delay the others, nor fill the workers.
        std::thread([this, asked, node, name, gathering, file, cluster = asking] {
            Result<json::object> answer = ask_node(cluster, node, asked, connect_limit, file->get());
            json::object shown = answer ? std::move(*answer)
                                        : Answer::failed(control::exit_code::unreachable,
                                                         "node does not answer (" + answer.error().text() +
                                                             "); 'stead cluster check' finds out why")
                                              .to_json();
            asio::post(io_,
                       [gathering, name, with_file = static_cast<bool>(*file), shown = std::move(shown)]() mutable {
                           if (with_file) {
                               gathering->call->progress(name + (shown.contains("error") ? " refused it" : " has it"));
                           }
                           gathering->add(name, std::move(shown));
                       });
        }).detach();
    }
}

void Daemon::in_background(const CallPtr& call, std::function<Answer()> work) {
    asio::post(workers_, [this, call, work = std::move(work)]() mutable {
        auto answer = std::make_shared<Answer>(work());
        asio::post(io_, [call = std::move(call), answer] { call->finish(std::move(*answer)); });
    });
}

void Daemon::change_module(const CallPtr& call, std::function<Answer()> work, std::function<void()> after) {
    const std::string module = call->request.module;
    if (!changing_.insert(module).second) {
        return call->finish(Answer::failed(control::exit_code::conflict,
                                           "another command is changing module '" + module + "'; try again"));
    }
    asio::post(workers_, [this, call, module, work = std::move(work), after = std::move(after)]() mutable {
        auto answer = std::make_shared<Answer>(work());
        asio::post(io_, [this, call = std::move(call), module, answer, after = std::move(after)] {
            changing_.erase(module);
            if (after) {
                after();
            }
            call->finish(std::move(*answer));
        });
    });
}

// ---- Cluster
// ---------------------------------------------------------------------------------------------------------

void Daemon::join_cluster() {
    Result<ActiveCluster> cluster = load_cluster(paths_);
    if (!cluster) {
        const std::string problem = cluster.error().text();
        if (problem != cluster_problem_) {
            cluster_problem_ = problem;
            log::warning("cluster", problem);
        }
        std::error_code ignored;
        if (fs::exists(paths_.active_cluster(), ignored)) { // an address may come up later
            retry_timer_.expires_after(retry_interval);
            retry_timer_.async_wait([this](const boost::system::error_code& error) {
                if (!error && !cluster_) {
                    join_cluster();
                }
            });
        }
        return;
    }
    use_cluster(std::move(*cluster));
}

void Daemon::use_cluster(ActiveCluster cluster) {
    retry_timer_.cancel();
    bus_.reset();
    PeerServer::retire(std::move(peer_server_));
    cluster_ = std::move(cluster);
    cluster_problem_.clear();
    for (const config::Finding& warning : cluster_->warnings) {
        log::warning("cluster", warning.text());
    }
    web_->configure(cluster_->cluster.web, web_names());
    std::string lans;
    for (const config::ClusterLan& lan : cluster_->cluster.lans) {
        lans.append(lans.empty() ? "" : ", ").append(lan.name);
    }
    log::event("cluster", "I am node " + cluster_->name() + " of " + std::to_string(cluster_->cluster.nodes.size()) +
                              ", LANs " + lans);
    ports_problem_.clear();
    ports_wait_ = ports_first_wait;
    open_ports();
    start_boot_modules();
}

/// Who has a port may give it back: a program that took it, or one that was just started by this one and has not let go
/// of its sockets yet.
void Daemon::open_ports() {
    std::string problem;
    const auto opened = [&problem](const Result<void>& done, const char* means) {
        if (!done) {
            problem += (problem.empty() ? "" : "; ") + std::string{means} + ": " + done.error().text();
        }
    };
    if (!bus_) {
        opened(start_bus(), "no contact with the other nodes");
    }
    if (!peer_server_) {
        opened(start_peer_server(), "other nodes cannot reach this one with -H");
    }
    if (problem != ports_problem_) {
        ports_problem_ = problem;
        problem.empty() ? log::event("cluster", "the ports are open now")
                        : log::error("cluster", problem + "; tried again, at least every " +
                                                    std::to_string(retry_interval.count()) + " s");
    }
    if (!problem.empty()) {
        retry_timer_.expires_after(ports_wait_);
        ports_wait_ = std::min<milliseconds>(2 * ports_wait_, retry_interval);
        retry_timer_.async_wait([this](const boost::system::error_code& error) {
            if (!error && cluster_) {
                open_ports();
            }
        });
    }
}

Result<void> Daemon::leave_cluster() {
    if (Result<void> gone = forget_cluster(paths_); !gone) {
        return gone;
    }
    retry_timer_.cancel();
    boot_timers_.clear();
    bus_.reset();
    PeerServer::retire(std::move(peer_server_));
    cluster_.reset();
    seed_compared_ = false;
    web_->configure({}, web_names());
    log::event("cluster", "this node left its cluster");
    join_cluster(); // says why it belongs to none
    return {};
}

Result<void> Daemon::start_peer_server() {
    Result<std::unique_ptr<PeerServer>> server =
        PeerServer::start(io_, *cluster_, paths_.var, [this](const CallPtr& call) { handle(call); });
    if (!server) {
        return server.error();
    }
    peer_server_ = std::move(*server);
    return {};
}

Result<void> Daemon::start_bus() {
    bus::BusEvents events;
    events.view = [this](const membership::ViewInstalled& installed) {
        std::string names;
        for (const NodeId node : installed.view.members) {
            names.append(names.empty() ? "" : " ").append(cluster_->cluster.nodes[index(node)]);
        }
        log::event("cluster", "nodes heard: " + names);
        for (const auto& [name, one] : runners_) {
            tell_sessions(installed.view.members, name, one->running());
        }
        if (!seed_compared_ && installed.view.members.size() > 1) {
            compare_seed();
        }
    };
    events.excluded = [](const std::string& reason) { log::event("cluster", "alone: " + reason); };
    events.resource = [](const bus::Resource&, bool) {};
    events.message = [this](const bus::PeerMessage& message) { on_peer_message(message); };
    events.note = [](bool warning, const std::string& line) {
        log::write(warning ? log::Level::warning : log::Level::debug, "bus", line);
    };
    events.leave_done = [] {};
    events.peer_state = [](NodeId, std::uint32_t) {};
    Result<std::unique_ptr<bus::Bus>> bus = bus::Bus::start(
        cluster_->bus_options(), std::move(events),
        [this](std::function<void()> work) {
            asio::post(io_, [this, work = std::move(work)] {
                if (bus_) { // else the node has left its cluster meanwhile
                    work();
                }
            });
        },
        [](std::uint64_t) {});
    if (!bus) {
        return bus.error();
    }
    bus_ = std::move(*bus);
    for (const auto& [name, one] : runners_) {
        on_module_state(name, one->state());
    }
    return {};
}

void Daemon::on_peer_message(const bus::PeerMessage& message) {
    json::error_code error;
    const json::value body = json::parse(message.body, error);
    const bool died = message.kind == "host.died", sessions = message.kind == "host.sessions";
    if ((!died && !sessions) || error || !body.is_object()) {
        return;
    }
    const json::value* module = body.get_object().if_contains("module");
    if (module == nullptr || !module->is_string() || !control::is_module_name(module->get_string())) {
        return;
    }
    const std::string name(module->get_string());
    if (const json::value* asks = body.get_object().if_contains("asks"); asks != nullptr && *asks == true) {
        tell_sessions(NodeSet{message.from}, name, false);
    }
    const json::value* session = body.get_object().if_contains("session");
    const auto found = runners_.find(name);
    if (session == nullptr || found == runners_.end() || !found->second->running()) {
        return;
    }
    found->second->request({{"verb", died ? "peer_died" : "peer_past"},
                            {"node", cluster_->cluster.nodes[index(message.from)]},
                            {"session", *session}},
                           [](const Result<json::object>&) {});
}

/// Which session of a module may act on this node, so that a host that starts elsewhere need not wait for those that
/// cannot; and the same question.
void Daemon::tell_sessions(NodeSet to, const std::string& module, bool ask) {
    json::object body{{"module", module}};
    const auto found = runners_.find(module);
    if (const auto only = found != runners_.end() ? found->second->only_session()
                                                  : ModuleRunner::only_session_of_idle(paths_, module)) {
        body["session"] = *only;
    }
    if (ask) {
        body["asks"] = true;
    }
    to = to - NodeSet{cluster_->self};
    if (to.empty() || body.size() == 1) {
        return;
    }
    if (const Result<void> sent = bus_->send(to, "host.sessions", 1, json::serialize(body)); !sent) {
        log::debug("cluster", "the sessions of module '" + module + "' are not told: " + sent.error().text());
    }
}

// ---- Hosts
// -----------------------------------------------------------------------------------------------------------

std::shared_ptr<ModuleRunner> Daemon::runner(const std::string& module) {
    std::shared_ptr<ModuleRunner>& found = runners_[module];
    if (!found) {
        found = std::make_shared<ModuleRunner>(
            io_, paths_, module,
            ModuleRunner::Events{
                [this](const std::string& name, const ModuleState& state) { on_module_state(name, state); },
                [this](const std::string& name, const std::string& session) { on_host_died(name, session); },
                [this](const std::string& name) {
                    if (bus_) {
                        tell_sessions(bus_->view().members, name, true);
                    }
                },
                [this](const std::string& name, const WitnessQuestion& question) { ask_witness(name, question); }});
    }
    return found;
}

void Daemon::make_web_face() {
    WebFace::Source source;
    source.modules = [this] {
        std::map<std::string, WebFace::ModuleHealth> modules;
        for (const auto& [name, one] : runners_) {
            const ModuleState& state = one->state();
            const bool serves = state.state == "UP" || state.state == "PRIM" || state.state == "ALONE";
            modules[name] = {one->running() && serves && state.qualifier == "Ready", state.started};
        }
        return modules;
    };
    source.ping = [this](const std::string& module, const std::function<void(bool)>& heard) {
        const auto found = runners_.find(module);
        if (found != runners_.end()) {
            found->second->request({{"verb", "state"}},
                                   [heard](const Result<json::object>& answer) { heard(answer.has_value()); });
        }
    };
    source.read = [this](const CallPtr& call) { handle(call); };
    web_ = std::make_unique<WebFace>(io_, paths_, std::move(source));
}

void Daemon::on_module_state(const std::string& module, const ModuleState& state) {
    web_->publish();
    if (bus_) {
        const std::string value = state.state + " " + state.qualifier;
        if (const Result<void> published = bus_->publish("module." + module, value); !published) {
            log::warning("cluster", published.error().text());
        }
        const auto share = state.share.empty() ? std::nullopt : std::optional<std::string_view>(state.share);
        if (const Result<void> published = bus_->publish("share." + module, share); !published) {
            log::warning("cluster", published.error().text());
        }
    }
}

void Daemon::on_host_died(const std::string& module, const std::string& session) {
    if (!bus_) {
        return;
    }
    const NodeSet others = bus_->view().members - NodeSet{cluster_->self};
    const std::string body = json::serialize(json::object{{"module", module}, {"session", session}});
    if (!others.empty()) {
        if (const Result<void> sent = bus_->send(others, "host.died", 1, body); !sent) {
            log::warning("cluster", "peers are not told of the death: " + sent.error().text());
        }
    }
}

std::vector<std::string> Daemon::adopt_hosts() {
    std::vector<std::string> dead;
    for (const InstalledModule& module : registry_.list()) {
        std::error_code ignored;
        if (fs::exists(paths_.host_socket(module.name), ignored) && !runner(module.name)->adopt()) {
            dead.push_back(module.name);
        }
    }
    return dead;
}

void Daemon::start_boot_modules() {
    // /run is emptied by a reboot: without this file the node has just booted, and not only steadd started anew.
    const fs::path booted = paths_.run / "booted";
    std::error_code ignored;
    if (fs::exists(booted, ignored)) {
        return;
    }
    if (const Result<void> written = write_file_atomically(booted, "\n"); !written) {
        log::warning("steadd", written.error().text());
    }
    for (const InstalledModule& module : registry_.list()) {
        const std::string boot = registry_.boot(module.name);
        const bool ran = fs::exists(paths_.running_mark(module.name), ignored);
        if (module.configured && (boot == "on" || (boot == "auto" && ran))) {
            start_at_boot(module.name, registry_.boot_delay(module.name));
        }
    }
}

void Daemon::start_at_boot(const std::string& module, nanoseconds delay) {
    const auto start = [this, module] {
        if (runner(module)->running()) {
            return;
        }
        const auto tell = [module](const Result<json::object>& started) {
            if (!started) {
                log::error("steadd", "module '" + module + "' does not start: " + started.error().text());
            }
        };
        runner(module)->start("steadd at boot", tell, true);
    };
    if (delay <= nanoseconds{0}) {
        return start();
    }
    log::event("steadd", "module '" + module + "' starts in " +
                             std::to_string(std::chrono::ceil<seconds>(delay).count()) + " s (boot_delay)");
    auto& timer = boot_timers_.emplace(module, asio::steady_timer(io_)).first->second;
    timer.expires_after(delay);
    timer.async_wait([this, module, start](const boost::system::error_code& error) {
        if (!error && boot_timers_.erase(module) != 0) {
            start();
        }
    });
}

Daemon::Handlers Daemon::with_plugin_commands(Handlers table) {
    for (const char* verb : {"power", "swap", "prim", "second", "primforce", "secondforce", "rfsverify", "rfsdiff",
                             "rfssync", "mirror status", "mirror lost"}) {
        table.emplace(verb, &Daemon::plugin_command);
    }
    return table;
}

const Daemon::Handlers& Daemon::handlers() {
    static const Handlers table = with_plugin_commands({
        {"start", &Daemon::start_module},
        {"stop", &Daemon::stop_module},
        {"forcestop", &Daemon::stop_module},
        {"restart", &Daemon::pass_on},
        {"stopstart", &Daemon::pass_on},
        {"shutdown", &Daemon::shutdown},
        {"waitstart", &Daemon::wait_state},
        {"waitstop", &Daemon::wait_state},
        {"waitstate", &Daemon::wait_state},
        {"state", &Daemon::state},
        {"level", &Daemon::level},
        {"log", &Daemon::show_log},
        {"cmdlog", &Daemon::command_log},
        {"printi", &Daemon::print},
        {"printw", &Daemon::print},
        {"printe", &Daemon::print},
        {"set", &Daemon::set_resource},
        {"get", &Daemon::get_resource},
        {"incloop", &Daemon::loop},
        {"checkloop", &Daemon::loop},
        {"resetloop", &Daemon::loop},
        {"failover", &Daemon::turn_switch},
        {"checker", &Daemon::turn_switch},
        {"errd", &Daemon::turn_switch},
        {"confcheck", &Daemon::confcheck},
        {"config", &Daemon::config},
        {"confinfo", &Daemon::confinfo},
        {"deconfig", &Daemon::deconfig},
        {"update", &Daemon::update},
        {"boot", &Daemon::boot},
        {"webserver", &Daemon::webserver},
        {"logsave", &Daemon::show_log},
        {"dump", &Daemon::dump},
        {"clean", &Daemon::clean},
        {"snapshot", &Daemon::snapshot},
        {"module new", &Daemon::module_new},
        {"module check", &Daemon::module_check},
        {"module install", &Daemon::module_install},
        {"module package", &Daemon::module_package},
        {"module uninstall", &Daemon::module_uninstall},
        {"module list", &Daemon::module_list},
        {"module listid", &Daemon::module_list},
        {"module getports", &Daemon::module_ports},
        {"cluster config", &Daemon::cluster_config},
        {"cluster deconfig", &Daemon::cluster_deconfig},
        {"cluster confcheck", &Daemon::cluster_confcheck},
        {"cluster confinfo", &Daemon::cluster_confinfo},
        {"cluster state", &Daemon::cluster_state},
        {"cluster check", &Daemon::cluster_check},
        {"cluster genkey", &Daemon::rotate_key},
        {"_key", &Daemon::key_phase},
        {"-E", &Daemon::push_module},
        {"-G", &Daemon::push_cluster},
        {"_install", &Daemon::take_module},
        {"_cluster", &Daemon::cluster_config},
        {"_probe", &Daemon::probe},
        {"_seed", &Daemon::tell_seed},
        {"_claim", &Daemon::take_claim},
    });
    return table;
}

} // namespace stead::node
