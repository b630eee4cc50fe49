// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/bus/bus.hpp>
#include <stead/control/channel.hpp>
#include <stead/control/module_log.hpp>
#include <stead/control/paths.hpp>
#include <stead/node/call.hpp>
#include <stead/node/cluster.hpp>
#include <stead/node/generation.hpp>
#include <stead/node/module_runner.hpp>
#include <stead/node/peers.hpp>
#include <stead/node/registry.hpp>
#include <stead/node/web_face.hpp>
#include <stead/node/witness.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace stead::node {

/// steadd: owns everything. One main thread (io_context) that never blocks; work that does (checks, packages, talk with
/// other nodes) runs on worker threads and comes back by post.
class Daemon {
public:
    Daemon(boost::asio::io_context& io, const control::Paths& paths);
    ~Daemon();

    /// Opens the socket, adopts running hosts, joins the cluster, starts what starts at boot. Errors: only what makes a
    /// daemon useless (its socket). A node without configuration runs, and says what to do.
    [[nodiscard]] Result<void> start();

private:
    using Handler = void (Daemon::*)(const CallPtr&);
    using Handlers = std::map<std::string, Handler, std::less<>>;
    static const Handlers& handlers();
    static Handlers with_plugin_commands(Handlers table);

    // daemon.cpp
    void accept(std::shared_ptr<control::Connection> connection);
    void on_request(const std::shared_ptr<control::Connection>& connection, control::Frame frame);
    void handle(const CallPtr& call);
    void dispatch(const CallPtr& call, const control::Command* command);
    void distribute(const CallPtr& call);
    /// Asks the nodes that the call names, this one `own`, the others `others`; `file` goes with it (empty = none).
    void ask_nodes(const CallPtr& call, const boost::json::object& others, const boost::json::object& own,
                   std::shared_ptr<Fd> file);
    /// The same call; its end goes to the command log.
    [[nodiscard]] CallPtr with_audit(const CallPtr& call);
    void join_cluster();
    void use_cluster(ActiveCluster cluster);
    [[nodiscard]] Result<void> leave_cluster();
    void open_ports();
    [[nodiscard]] Result<void> start_bus();
    [[nodiscard]] Result<void> start_peer_server();
    std::vector<std::string> adopt_hosts(); ///< the modules whose host turned out to be dead
    void start_boot_modules();
    void make_web_face();
    void start_at_boot(const std::string& module, nanoseconds delay);
    // witness_commands.cpp
    void take_claim(const CallPtr& call);
    void ask_witness(const std::string& module, const WitnessQuestion& question);

    void on_module_state(const std::string& module, const ModuleState& state);
    void on_host_died(const std::string& module, const std::string& session);
    void tell_sessions(NodeSet to, const std::string& module, bool ask);
    void on_peer_message(const bus::PeerMessage& message);
    std::shared_ptr<ModuleRunner> runner(const std::string& module);
    /// Runs `work` on a worker thread and finishes the call with what it returns.
    void in_background(const CallPtr& call, std::function<Answer()> work);
    /// The same, one at a time per module; a second one is refused.
    void change_module(const CallPtr& call, std::function<Answer()> work, std::function<void()> after = nullptr);
    void finish_from_host(const CallPtr& call, boost::json::object request, std::string field = "text",
                          boost::json::object data = {}); ///< empty: what the host says

    // module_commands.cpp
    void start_module(const CallPtr& call);
    /// The checks of `start` and the start; a failure ends the call, else `then` has what the host said.
    void start_then(const CallPtr& call, std::function<void(const boost::json::object&)> then);
    void stop_module(const CallPtr& call);
    void pass_on(const CallPtr& call);
    void shutdown(const CallPtr& call);
    void wait_state(const CallPtr& call);
    void state(const CallPtr& call);
    void state_verbose(const CallPtr& call);
    void finish_with_hook(const CallPtr& call, Answer answer);
    void finish_state(const CallPtr& call, const std::map<std::string, boost::json::object>& details);
    void level(const CallPtr& call);
    void show_log(const CallPtr& call);
    void command_log(const CallPtr& call);
    void print(const CallPtr& call);
    void set_resource(const CallPtr& call);
    void get_resource(const CallPtr& call);
    void loop(const CallPtr& call);
    void turn_switch(const CallPtr& call);
    void list_processes(const CallPtr& call, boost::json::object request);
    void boot(const CallPtr& call);
    void boot_web(const CallPtr& call);
    void webserver(const CallPtr& call);
    // plugin_commands.cpp
    void plugin_command(const CallPtr& call);
    void ask_plugin(const CallPtr& call, const std::string& command, std::vector<std::string> argv);
    // config_commands.cpp
    void confcheck(const CallPtr& call);
    void config(const CallPtr& call);
    void confinfo(const CallPtr& call);
    void deconfig(const CallPtr& call);
    void update(const CallPtr& call);
    void update_host(const CallPtr& call, std::function<Answer(Answer)> finish);
    void module_install(const CallPtr& call);
    void module_package(const CallPtr& call);
    void module_uninstall(const CallPtr& call);
    void module_list(const CallPtr& call);
    void module_ports(const CallPtr& call);
    // push_commands.cpp
    void push_module(const CallPtr& call);
    void push_cluster(const CallPtr& call);
    void take_module(const CallPtr& call);
    void module_new(const CallPtr& call);
    void module_check(const CallPtr& call);
    // support_commands.cpp
    void dump(const CallPtr& call);
    void clean(const CallPtr& call);
    void snapshot(const CallPtr& call);
    // cluster_commands.cpp
    void cluster_config(const CallPtr& call);
    /// `word`: lock or unlock, once the file is in force; else empty.
    void apply_config(const CallPtr& call, const std::string& word);
    void cluster_deconfig(const CallPtr& call);
    [[nodiscard]] Result<void> lock_cluster(const Request& request, bool lock);
    [[nodiscard]] bool refused_by_lock(const CallPtr& call); ///< and finished
    void cluster_confcheck(const CallPtr& call);
    void cluster_confinfo(const CallPtr& call);
    void cluster_state(const CallPtr& call);
    void cluster_check(const CallPtr& call);
    void rotate_key(const CallPtr& call);
    void key_phase(const CallPtr& call);
    void probe(const CallPtr& call);
    void tell_seed(const CallPtr& call);
    void compare_seed();
    void adopt_seed(const std::string& node, const std::string& seed);
    /// `done` with the modules that could not take the keys over ("" = all did).
    void reload_keys(const std::function<void(const std::string&)>& done);

    [[nodiscard]] boost::json::array module_table(const std::string& only);
    [[nodiscard]] boost::json::object probe_facts();
    [[nodiscard]] wire::Subjects web_names() const;
    [[nodiscard]] std::string own_name() const;
    [[nodiscard]] std::string cluster_node() const; ///< "" when there is no cluster
    [[nodiscard]] std::int64_t unauthentic() const; ///< datagrams and streams of other keys so far

    boost::asio::io_context& io_;
    control::Paths paths_;
    std::shared_ptr<control::ModuleLog> log_, command_log_;
    Registry registry_;
    WitnessStore witness_;
    std::map<std::string, std::shared_ptr<ModuleRunner>> runners_;
    std::set<std::string> changing_;
    std::optional<ActiveCluster> cluster_;
    milliseconds ports_wait_{}; ///< until the next try to open the ports
    std::string ports_problem_; ///< which of its ports this node could not open; empty: none
    std::string cluster_problem_;
    bool seed_compared_{};
    std::string rotating_to_; ///< of a rotation that went through here
    std::chrono::steady_clock::time_point rotating_until_{};
    std::unique_ptr<bus::Bus> bus_;
    std::unique_ptr<PeerServer> peer_server_;
    std::unique_ptr<control::Server> server_;
    std::unique_ptr<WebFace> web_;
    boost::asio::steady_timer retry_timer_;
    std::map<std::string, boost::asio::steady_timer> boot_timers_; ///< modules that wait for their boot_delay
    boost::asio::thread_pool workers_{16}; ///< a hook or a name service may hang for minutes
    boost::asio::thread_pool claims_{1}; ///< a claim waits for no other work
};

/// Version of this build.
[[nodiscard]] std::string version();

} // namespace stead::node
