// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "address_keeper.hpp"
#include "facts.hpp"
#include "failover.hpp"
#include "side_hooks.hpp"
#include "slot.hpp"

#include <stead/bus/bus.hpp>
#include <stead/control/channel.hpp>
#include <stead/control/module_log.hpp>
#include <stead/core/automaton.hpp>
#include <stead/core/loop_guard.hpp>
#include <stead/script/script.hpp>
#include <stead/script/supervisor.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace stead::host {

/// The share of a farm's group that the node of the resource has: "farm.web" = "33%".
[[nodiscard]] bool is_share(std::string_view resource, std::string_view value);

/// Runs one module from start to STOP: composes bus, automaton, hooks and plugins on one strand (an io_context that one
/// thread runs). Functions without a remark run on the strand.
class ModuleHost final : private Services, private script::HookHost {
public:
    ModuleHost(boost::asio::io_context& io, const Registry& registry, Facts facts);
    ~ModuleHost() override;

    /// Opens socket, plugins, bus, and begins to start the module. Errors: what could not be had; nothing stays.
    [[nodiscard]] Result<void> start();
    /// Exit code of the process once the io_context ran out.
    [[nodiscard]] int exit_code() const noexcept { return exit_code_; }

private:
    using Connections = std::vector<std::shared_ptr<control::Connection>>;

    // module_host.cpp: life and effects of the automaton
    [[nodiscard]] SlotFacts slot_facts() const;
    [[nodiscard]] Result<void> create_plugins();
    [[nodiscard]] Result<void> start_bus();
    void start_runners();
    void start_supervisor();
    void on_supervised_death(const std::string& name, const std::string& action, const std::string& reason);
    [[nodiscard]] std::unique_ptr<script::HookRunner>
    new_runner(std::shared_ptr<script::Supervisor> supervisor = nullptr);
    void handle_signals();
    void feed(const automaton::Event& event);
    void perform(const automaton::RunHook& effect);
    void perform(const automaton::CancelHook& effect);
    void perform(const automaton::AskServices& effect);
    void perform(const automaton::StateChanged& effect);
    void perform(const automaton::Log& effect);
    void perform(const automaton::Finished& effect);
    void perform(const automaton::Armed& effect);
    void perform(const automaton::RoleChoice& effect);
    void services_answered();
    void services_late();
    void finish(int exit_code);
    void end();
    void end_within(nanoseconds time);
    void await_last_answers(Instant until);

    // module_failover.cpp: rules and switches
    void take_own(const std::string& name, const std::optional<std::string>& value, const Slot* by);
    void refresh_rules();
    void evaluate();
    void arm_failover_timer();
    void hold_back(const automaton::Block& by_bus, const automaton::Block& by_rules);
    void arm_checker(Slot& slot);
    void load_switches();
    void tell_errd_classes(Slot& slot);
    [[nodiscard]] Result<void> keep_setting(const std::string& name, const std::string& value);
    [[nodiscard]] Result<void> turn_switch(const std::string& name, bool on, const std::string& by);
    [[nodiscard]] Result<std::string> command_errd(const std::vector<std::string>& argv, const std::string& by);
    [[nodiscard]] Result<std::string> update_plugins(const config::Module& fresh);
    void forget_turned_down();
    [[nodiscard]] Result<void> update_slots(const config::Module& fresh);
    [[nodiscard]] Result<std::vector<std::unique_ptr<Slot>>> new_checkers(const config::Module& fresh);

    // module_events.cpp: the bus, and what it tells to plugins
    void on_view(const membership::ViewInstalled& installed);
    void tell_view(Slot& slot);
    void on_excluded(const std::string& reason);
    void on_heard(LanId lan, NodeSet nodes);
    void end_listening();
    void on_resource(const bus::Resource& resource, bool removed);
    void on_peer_state(NodeId node, std::uint32_t code);
    static constexpr const char* unknown_remote_state = "UNKNOWN Unknown";
    void tell_remote_state(const std::string& state);
    void publish_own(const std::string& name, const std::string& value);

    // module_services.cpp: Services, called by plugins from any thread
    void plugin_log(const Slot& slot, log::Level level, std::string_view line) override;
    void set_timer(Slot& slot, std::uint64_t id, std::uint64_t at_boottime_ns) override;
    [[nodiscard]] bool publish(const Slot& slot, std::string_view name, std::optional<std::string_view> value) override;
    [[nodiscard]] Result<void> publish_as(const Slot* slot, std::string_view name,
                                          std::optional<std::string_view> value);
    [[nodiscard]] std::optional<std::string> read(std::uint32_t node, std::string_view name) override;
    void watch(Slot& slot, std::string prefix) override;
    [[nodiscard]] bool send(const Slot& slot, std::uint64_t nodes, std::string_view kind, std::uint32_t version,
                            std::string_view body) override;
    void set_weight(std::uint32_t weight) override;
    void set_config(const Slot& slot, std::uint64_t digest) override;
    void transition_done(Slot& slot, std::uint64_t token, bool ok, std::string reason) override;
    void request(const Slot& slot, std::string action, std::string reason) override;
    void watch_link(Slot& slot, std::uint32_t ifindex) override;
    [[nodiscard]] std::uint64_t run_hook(Slot& slot, std::string name, std::vector<std::string> arguments,
                                         nanoseconds timeout) override;
    [[nodiscard]] std::uint64_t start_hook(Slot& slot, std::string name, std::vector<std::string> arguments,
                                           nanoseconds timeout, bool keeps_daemons) override;
    void cancel_hook(std::uint64_t token) override;
    [[nodiscard]] Result<void> add_address(const std::string& interface, const std::string& address) override;
    void remove_address(const std::string& interface, const std::string& address) override;
    // module_roles.cpp: Services of ABI 1.2, and commands of plugins
    void set_role(const Slot& slot, std::uint32_t state, std::string reason, bool expected) override;
    [[nodiscard]] std::optional<std::string> node_address(std::string_view lan, std::uint32_t node) override;
    [[nodiscard]] std::vector<std::array<std::uint8_t, 32>> stream_keys(const Slot& slot,
                                                                        std::string_view purpose) override;
    void command_done(const Slot& slot, std::uint64_t token, bool ok, std::string text) override;
    void explain(std::string_view name, std::string_view reason) override;
    void refuse_late_answers();
    // module_witness.cpp
    [[nodiscard]] std::uint64_t ask_witness(Slot& slot, std::string node, std::string key, std::uint64_t counter,
                                            std::uint32_t holder, nanoseconds timeout) override;
    void ask_bus_witness(const membership::Grant& claim);
    void begin_question(std::uint64_t token, Slot* slot, const std::string& node, const std::string& key,
                        const membership::Grant& claim, nanoseconds timeout);
    void end_question(std::uint64_t token, std::uint32_t verdict, const std::string& why,
                      const membership::Grant& held = {});
    void tell_bus_witness(bool speaks, const std::string& why);
    [[nodiscard]] Result<boost::json::object> do_witness(const boost::json::object& request);

    // module_actions.cpp: actions, and commands of plugins
    struct LateAnswer {
        std::shared_ptr<control::Connection> to; ///< none: a rule asked
        boost::json::value id;
        const Slot* of;
        std::string command;
    };
    enum class Caller : std::uint8_t { person, rule, script }; ///< rule: or a checker; script: a command with -i
    [[nodiscard]] static Caller caller_of(const boost::json::object& request);
    [[nodiscard]] Result<void> allow_command(const std::string& command, const std::string& by, Caller caller);
    /// No value: the plugin answers later.
    [[nodiscard]] std::optional<Result<boost::json::object>>
    do_command(LateAnswer whose, const std::vector<std::string>& argv, const std::string& by, Caller caller);
    void answer_late(const LateAnswer& late, Result<boost::json::object> done);
    void swap(const std::string& by);
    void act(const std::string& action, const std::string& by, Caller caller, bool at_once);
    [[nodiscard]] bool loop_allows(const std::string& action, const std::string& by, Caller caller);
    void load_loops();
    void save_loops();

    void next_plugin_hook();
    void arm(Slot& slot, std::uint64_t id, std::uint64_t at_boottime_ns);

    // script::HookHost, called on a hook's thread
    void log(int level, std::string_view line) override;
    [[nodiscard]] std::optional<std::string> resource(std::string_view name) override;
    [[nodiscard]] Result<void> set_resource(std::string_view name, std::string_view value) override;
    [[nodiscard]] std::string view_json() override;
    [[nodiscard]] std::string state_name() override;

    // module_requests.cpp: the socket
    [[nodiscard]] Result<void> listen();
    void serve(const std::shared_ptr<control::Connection>& connection, control::Frame frame);
    void send_answer(const std::shared_ptr<control::Connection>& to, boost::json::object reply,
                     Result<boost::json::object> done);
    [[nodiscard]] Result<boost::json::object> answer(const std::string& verb, const boost::json::object& request);
    [[nodiscard]] Result<boost::json::object> do_action(const std::string& verb, const boost::json::object& request);
    [[nodiscard]] Result<boost::json::object> do_set(const boost::json::object& request);
    [[nodiscard]] Result<boost::json::object> do_get(const boost::json::object& request);
    [[nodiscard]] Result<boost::json::object> do_update();
    [[nodiscard]] Result<boost::json::object> do_loop(const boost::json::object& request);
    [[nodiscard]] Result<boost::json::object> do_peer_died(const boost::json::object& request);
    [[nodiscard]] Result<boost::json::object> do_peer_past(const boost::json::object& request);
    [[nodiscard]] Result<std::pair<NodeId, SessionId>> session_in(const boost::json::object& request) const;
    [[nodiscard]] Result<boost::json::object> do_print(const boost::json::object& request);
    [[nodiscard]] Result<boost::json::object> do_rekey();
    [[nodiscard]] Result<boost::json::object> do_switch(const boost::json::object& request);
    void hello(const std::shared_ptr<control::Connection>& connection, boost::json::object reply);
    [[nodiscard]] boost::json::object state_object() const;
    void describe(boost::json::object& object);
    void broadcast(const boost::json::object& event);
    void tell_state(); ///< the event "state"
    [[nodiscard]] std::string own_share() const;

    void post(std::function<void()> work); ///< any thread
    [[nodiscard]] bool on_strand() const noexcept { return std::this_thread::get_id() == strand_; }
    void write(log::Level level, std::string_view source, std::string_view text); ///< any thread

    boost::asio::io_context& io_;
    std::thread::id strand_{std::this_thread::get_id()};
    const Registry& registry_;
    Facts facts_;
    const bool mirror_{facts_.is_mirror()}; ///< plugin threads read it, and `update` replaces facts_.config
    control::ModuleLog user_log_;
    automaton::Automaton automaton_;
    automaton::LoopGuard loops_;
    Failover failover_;
    bool evaluating_{};
    std::map<std::string, const Slot*> owners_;   ///< checkers, by the resources they published first
    std::map<std::string, std::string> settings_; ///< "usersetting.…"
    automaton::Block bus_block_, rules_block_, told_block_;
    std::optional<AddressKeeper> addresses_;
    boost::asio::signal_set signals_;

    // Plugins live longer than the bus: its thread stores leases into them.
    std::vector<std::unique_ptr<Slot>> slots_;
    std::vector<std::unique_ptr<Slot>> turned_down_; ///< of updates that failed: what they posted names them
    std::map<std::pair<Slot*, std::uint64_t>, std::unique_ptr<boost::asio::steady_timer>> timers_;
    std::uint64_t config_digest_{};
    std::optional<std::uint16_t> weight_;
    std::map<std::string, std::string> own_before_bus_; ///< published during create; shared_ guards it
    std::unique_ptr<bus::Bus> bus_;
    std::vector<std::string> heartbeats_;   ///< heartbeat.<ident>, in the order of the bus's LANs
    std::set<std::string> heartbeats_init_; ///< nothing was heard there yet, and the node has not listened to the end

    std::atomic<bool> log_output_{}; ///< <user logging=>; read by the threads of hooks
    std::shared_ptr<script::Supervisor> supervisor_;
    struct SupervisedDeath {
        std::string name, action, reason;
    };
    std::optional<SupervisedDeath> death_;             ///< waits for the end of a state change
    std::unique_ptr<script::HookRunner> hooks_;        ///< the automaton's
    std::unique_ptr<script::HookRunner> plugin_hooks_; ///< those that plugins ask for, one after the other
    struct PluginHook {
        Slot* slot;
        std::uint64_t token;
        std::string name;
        std::vector<std::string> arguments;
        nanoseconds timeout;
    };
    std::deque<PluginHook> plugin_hook_queue_;
    SideHooks side_hooks_{[this](std::function<void()> work) { post(std::move(work)); }};
    std::atomic<std::uint64_t> next_hook_token_{1};
    std::atomic<bool> ended_{false}; ///< posted work and host calls do nothing from then on

    std::uint32_t armed_{}; ///< classes of checkers, STEAD_WHEN_*
    bool choice_{};         ///< services may choose a role

    // One round of the services
    std::uint64_t next_token_{1};
    bool automatic_{}; ///< the last action was asked for by a rule or checker
    bool reboot_{};    ///< the stopstart under way is one that reboots the server
    std::map<std::uint64_t, Slot*> asked_;
    std::string refusal_;
    automaton::Moment asked_moment_{};
    boost::asio::steady_timer services_timer_;
    boost::asio::steady_timer end_timer_;
    boost::asio::steady_timer failover_timer_;

    std::unique_ptr<control::Server> server_;
    Fd lock_;
    bool past_over_{}; ///< no host of this module before this one can act any more
    std::vector<std::weak_ptr<control::Connection>> connections_;
    Connections listeners_; ///< said hello
    std::vector<std::pair<std::shared_ptr<control::Connection>, boost::json::value>> stop_waiters_;
    std::map<std::uint64_t, LateAnswer> late_answers_; ///< by the token that the plugin has
    std::uint64_t next_command_token_{1};
    struct Question {
        Slot* slot{}; ///< null: the module's bus
        membership::Grant claim;
        std::string about;
        std::unique_ptr<boost::asio::steady_timer> timer;
    };
    std::map<std::uint64_t, Question> questions_; ///< to witnesses, open
    std::atomic<std::uint64_t> next_question_token_{1};
    std::string bus_witness_;            ///< the node that the bus asks; empty = none
    std::optional<bool> witness_speaks_; ///< as it was said last
    std::int64_t since_seconds_{};
    std::string started_; ///< stamp of the last start of the application, empty before the first
    int exit_code_{};
    bool finished_{};
    enum class Starter : std::uint8_t { unheard, awaited, answered };
    Starter starter_{}; ///< of this host: steadd, who says hello

    mutable std::mutex shared_; ///< guards what follows, and facts_.keys: hooks and plugin threads read it
    std::map<std::pair<std::uint32_t, std::string>, std::string> resources_;
    static constexpr std::size_t reasons_max = 4096;
    std::map<std::string, std::string, std::less<>> reasons_; ///< of this node's resources, as plugins told them
    membership::View view_;
    NodeSet last_members_; ///< of the last view, also while no view holds this node
    std::map<NodeId, std::uint32_t> peer_states_;
    std::string state_name_{"STOP NotReady"};
};

} // namespace stead::host
