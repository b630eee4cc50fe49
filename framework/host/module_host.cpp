// SPDX-License-Identifier: Apache-2.0
#include "module_host.hpp"

#include <stead/base/assert.hpp>
#include <stead/base/files.hpp>
#include <stead/control/host_protocol.hpp>

#include <boost/asio/post.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <iterator>
#include <sstream>
#include <system_error>

#include <unistd.h>

namespace stead::host {

namespace {

using automaton::Moment;
using automaton::Qualifier;
using automaton::State;

constexpr nanoseconds moment_timeout = seconds{30}; // PREPARE, OPEN, RELEASE: no draining in them
constexpr nanoseconds leave_timeout = seconds{2};   // a goodbye that nobody acknowledges
constexpr nanoseconds starter_timeout = seconds{2};
constexpr nanoseconds answer_timeout = milliseconds{500};
constexpr nanoseconds start_hook_timeout = seconds{300};

std::uint64_t user_log_bytes(const config::Module& module) {
    return std::uint64_t{std::max(module.user.log_kilobytes, 16U)} * 1024;
}

std::int64_t wall_seconds() { return static_cast<std::int64_t>(std::time(nullptr)); }

/// Equal for nobody who compares: another start, another host or another boot has another one.
std::string start_stamp() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

} // namespace

ModuleHost::ModuleHost(boost::asio::io_context& io, const Registry& registry, Facts facts)
    : io_(io), registry_(registry), facts_(std::move(facts)),
      user_log_(facts_.paths.user_log(facts_.module), facts_.module, user_log_bytes(facts_.config)),
      automaton_(mirror_ ? std::nullopt : std::optional{State::up}),
      loops_(facts_.config.settings.maxloop, std::chrono::duration_cast<seconds>(facts_.config.settings.loop_interval)),
      signals_(io), services_timer_(io), end_timer_(io), failover_timer_(io) {
    facts_.schemas.plugins_folder += ", as it was when the module started,"; // for an update that has a newer library
}

ModuleHost::~ModuleHost() {
    ended_ = true;
    hooks_.reset();
    plugin_hooks_.reset();
    side_hooks_.clear();
    supervisor_.reset(); // kills what still runs
    for (const auto& slot : slots_) {
        slot->stop();
    }
    bus_.reset(); // closes the lease and ends the thread that stores it
    while (!slots_.empty()) {
        slots_.pop_back(); // destroyed in reverse
    }
    if (addresses_) {
        addresses_->remove_all();
    }
}

void ModuleHost::post(std::function<void()> work) {
    boost::asio::post(io_, [this, work = std::move(work)] {
        if (!ended_) {
            work();
        }
    });
}

void ModuleHost::write(log::Level level, std::string_view source, std::string_view text) {
    log::write(level, source, text);
}

// ---- Start
// --------------------------------------------------------------------------------------------------------------

Result<void> ModuleHost::start() {
    if (auto open = listen(); !open) {
        return open;
    }
    for (const Error& refused : registry_.refused()) {
        write(log::Level::warning, "host", "plugin refused: " + refused.text());
    }
    for (const config::Finding& warning : facts_.warnings) {
        write(log::Level::warning, "config", warning.text());
    }
    load_loops();
    std::error_code failed;
    std::filesystem::create_directories(facts_.paths.module_var(facts_.module), failed);
    addresses_.emplace(
        io_,
        [this](std::uint32_t ifindex, bool up) {
            for (const auto& slot : slots_) {
                slot->on_link(ifindex, up);
            }
        },
        [this](const std::string& note) { write(log::Level::warning, "addresses", note); });
    if (auto open = addresses_->open(); !open) {
        return open;
    }
    if (auto created = create_plugins(); !created) {
        return created;
    }
    refresh_rules();
    load_switches();
    tell_remote_state(unknown_remote_state);
    start_supervisor();
    start_runners();
    // Before the bus runs: its first view may be told before all plugins are started.
    bus_block_ = {.reason = "no view of the module's nodes yet", .expected = true};
    if (auto started = start_bus(); !started) {
        return started;
    }
    handle_signals();
    for (const auto& slot : slots_) {
        slot->start();
        tell_errd_classes(*slot);
        arm_checker(*slot);
        if (slot->is_service()) {
            slot->on_ready(choice_);
        }
    }
    post([this] {
        hold_back(bus_block_, rules_block_);
        feed(automaton::Start{"steadd"});
    });
    return {};
}

SlotFacts ModuleHost::slot_facts() const {
    return {.module = facts_.module,
            .node = facts_.node(),
            .mode = std::string{facts_.config.mode_name()},
            .var_folder = facts_.paths.module_var(facts_.module).string(),
            .prefix = facts_.paths.prefix.string(),
            .module_id = facts_.module_id,
            .self = index(facts_.self),
            .seed_high = facts_.seed_high,
            .seed_low = facts_.seed_low};
}

Result<void> ModuleHost::create_plugins() {
    for (const Plugin& plugin : registry_.plugins()) {
        if (!facts_.config.uses(facts_.schemas, plugin.descriptor.id)) {
            continue;
        }
        auto slot = std::make_unique<Slot>(plugin, static_cast<Services&>(*this), slot_facts());
        if (auto created = slot->create(facts_.config.part_for(facts_.schemas, plugin.descriptor.id)); !created) {
            return created.error();
        }
        write(log::Level::event, "host",
              "plugin " + std::string{slot->id()} + " " + plugin.descriptor.version + " in use");
        slots_.push_back(std::move(slot));
    }
    return {};
}

std::unique_ptr<script::HookRunner> ModuleHost::new_runner(std::shared_ptr<script::Supervisor> supervisor) {
    const auto output = [this](std::string_view line, bool) {
        if (log_output_) {
            user_log_.write_raw(line);
        }
    };
    return script::HookRunner::create(facts_.folders(), *this, output, std::move(supervisor));
}

void ModuleHost::start_runners() {
    log_output_ = facts_.config.user.log;
    user_log_.set_bytes_max(user_log_bytes(facts_.config));
    hooks_ = new_runner(supervisor_);
    plugin_hooks_ = new_runner();
}

void ModuleHost::start_supervisor() {
    script::Supervisor::Events events;
    events.publish = [this](const std::string& resource, std::optional<std::string> value) {
        (void)publish_as(nullptr, resource, value ? std::optional<std::string_view>(*value) : std::nullopt);
    };
    events.died = [this](const std::string& name, const std::string& action, const std::string& reason) {
        post([this, name, action, reason] { on_supervised_death(name, action, reason); });
    };
    events.log = [this](int level, std::string_view line) { log(level, line); };
    events.output = [this](std::string_view line, bool) {
        if (log_output_) {
            user_log_.write_raw(line);
        }
    };
    supervisor_ = script::Supervisor::create(std::move(events), facts_.paths.supervised(facts_.module));
}

void ModuleHost::on_supervised_death(const std::string& name, const std::string& action, const std::string& reason) {
    if (automaton_.changing()) { // what is under way may end it anyway, or begin it again
        death_ = SupervisedDeath{name, action, reason};
    } else {
        act(action, reason, Caller::rule, false);
    }
}

Result<void> ModuleHost::start_bus() {
    auto options = bus_options(facts_, registry_);
    if (!options) {
        return options.error();
    }
    options->config = config_digest_ ^= options->config; // plugins have had their say
    options->past_over = past_over_;
    options->strand_thread = ::gettid();
    bus::BusEvents events;
    events.view = [this](const membership::ViewInstalled& installed) { on_view(installed); };
    events.excluded = [this](const std::string& reason) { on_excluded(reason); };
    events.resource = [this](const bus::Resource& one, bool removed) { on_resource(one, removed); };
    events.message = [this](const bus::PeerMessage& message) {
        for (const auto& slot : slots_) {
            // A plugin's messages carry its id: "farm/step".
            const std::string prefix = std::string{slot->id()} + "/";
            if (message.kind.starts_with(prefix)) {
                slot->on_message(index(message.from), std::string_view{message.kind}.substr(prefix.size()),
                                 message.version, message.body);
            }
        }
    };
    events.note = [this](bool warning, const std::string& line) {
        write(warning ? log::Level::warning : log::Level::debug, "bus", line);
    };
    events.leave_done = [this] { end(); };
    events.peer_state = [this](NodeId node, std::uint32_t code) { on_peer_state(node, code); };
    events.peer_ended = [this](NodeId node) {
        for (const auto& slot : slots_) {
            slot->on_peer_died(index(node));
        }
    };
    events.ask_witness = [this](const membership::Grant& claim) { ask_bus_witness(claim); };
    bus_witness_ = options->witness;
    if (mirror_ || (facts_.config.mode == config::Module::Mode::farm && options->lans.size() > 1)) {
        heartbeats_ = heartbeat_resources(facts_.config, options->lans);
        heartbeats_init_.insert(heartbeats_.begin(), heartbeats_.end());
        for (const std::string& name : heartbeats_) {
            publish_own(name, "init");
        }
        events.heard = [this](LanId lan, NodeSet nodes) { on_heard(lan, nodes); };
    }
    auto started = bus::Bus::start(
        *options, std::move(events), [this](std::function<void()> work) { post(std::move(work)); },
        [](std::uint64_t) {});
    if (!started) {
        return started.error();
    }
    std::map<std::string, std::string> early;
    {
        const std::lock_guard lock(shared_);
        bus_ = std::move(*started);
        early.swap(own_before_bus_);
    }
    if (weight_) {
        bus_->set_weight(*weight_);
    }
    for (const auto& [name, value] : early) {
        if (auto told = bus_->publish(name, value); !told) { // the failover machine knows it
            write(log::Level::warning, "host", "publish " + name + ": " + told.error().text());
        }
    }
    for (const auto& slot : slots_) {
        if (slot->takes_lease()) {
            bus_->add_lease_writer([&slot = *slot](std::uint64_t until) { slot.on_lease(until); });
        }
    }
    return {};
}

void ModuleHost::handle_signals() {
    boost::system::error_code failed;
    for (const int number : {SIGTERM, SIGINT, SIGUSR1}) {
        signals_.add(number, failed);
    }
    signals_.async_wait([this](boost::system::error_code error, int number) {
        if (error || ended_) {
            return;
        }
        if (number == SIGUSR1) {
            boost::json::object all = state_object();
            describe(all);
            write(log::Level::event, "dump", boost::json::serialize(all));
        } else {
            feed(automaton::Stop{
                .then = automaton::Stop::Then::stay, .by = "signal " + std::to_string(number), .at_once = false});
        }
        handle_signals();
    });
}

// ---- Effects of the automaton
// -----------------------------------------------------------------------------------------------

void ModuleHost::feed(const automaton::Event& event) {
    for (const automaton::Effect& effect : automaton_.step(event)) {
        std::visit([this](const auto& e) { perform(e); }, effect);
    }
    evaluate(); // what was not possible may be now
}

void ModuleHost::perform(const automaton::RunHook& effect) {
    if (effect.name == "start_both" || effect.name == "start_prim") { // start_sec begins nothing that others use
        started_ = start_stamp();
    }
    script::Limits limits;
    limits.timeout = effect.limit == automaton::Limit::nice_stop    ? facts_.config.user.nice_stop_timeout
                     : effect.limit == automaton::Limit::force_stop ? facts_.config.user.force_stop_timeout
                                                                    : start_hook_timeout;
    const auto end_of_hook = [this, name = effect.name](const script::HookResult& result) {
        post([this, name, result] {
            automaton::HookDone done;
            done.ok = result.ok();
            done.missing = result.end == script::HookResult::End::not_found;
            done.reason = result.reason.starts_with(name) ? result.reason : name + ": " + result.reason;
            if (!done.missing) {
                write(done.ok ? log::Level::event : log::Level::error, "script",
                      "End of script " + name + (done.ok ? "" : ": " + result.reason));
            }
            feed(done);
        });
    };
    // Without <user> no script runs, as in the classic product; a conflict of two files is a failure, not a choice.
    const Result<bool> has = facts_.config.user.present ? hooks_->has(effect.name) : Result<bool>{false};
    if (!has || !facts_.config.user.present) {
        const std::string refusal = has ? "" : has.error().text(); // a copied Result<bool> may lose its error
        post([this, refusal] {
            automaton::HookDone done;
            done.ok = done.missing = refusal.empty();
            done.reason = refusal;
            feed(done);
        });
        return;
    }
    // (A script that is missing goes to the runner too: with stop_both ends what start_both supervised.)
    if (*has) {
        std::string line = "Script " + effect.name;
        for (const std::string& argument : effect.arguments) {
            line += " " + argument;
        }
        write(log::Level::event, "script", line);
    }
    hooks_->start(effect.name, effect.arguments, limits, end_of_hook);
}

void ModuleHost::perform(const automaton::CancelHook&) { hooks_->cancel(); }

void ModuleHost::perform(const automaton::AskServices& effect) {
    asked_.clear();
    refusal_.clear();
    asked_moment_ = effect.moment;
    const nanoseconds limit =
        effect.moment == Moment::close && !effect.at_once ? facts_.config.user.nice_stop_timeout : moment_timeout;
    std::vector<std::pair<Slot*, stead_transition>> round;
    for (const auto& slot : slots_) {
        if (slot->takes_moment(static_cast<std::uint32_t>(effect.moment))) {
            stead_transition transition{};
            transition.token = next_token_++;
            transition.moment = static_cast<std::uint32_t>(effect.moment);
            transition.from = static_cast<std::uint32_t>(effect.from);
            transition.to = static_cast<std::uint32_t>(effect.to);
            transition.restart = effect.restart ? 1 : 0;
            transition.at_once = effect.at_once ? 1 : 0;
            transition.automatic = automatic_ ? 1 : 0;
            transition.timeout_ns = static_cast<std::uint64_t>(limit.count());
            asked_[transition.token] = slot.get();
            round.emplace_back(slot.get(), transition);
        }
    }
    if (round.empty()) {
        post([this, moment = effect.moment] {
            if (asked_.empty() && asked_moment_ == moment) {
                feed(automaton::ServicesDone{true, {}});
            }
        });
        return;
    }
    services_timer_.expires_after(limit);
    services_timer_.async_wait([this](boost::system::error_code cancelled) {
        if (!cancelled && !ended_) {
            services_late();
        }
    });
    for (const auto& [slot, transition] : round) {
        slot->on_transition(transition);
    }
}

void ModuleHost::services_answered() {
    if (asked_.empty()) {
        services_timer_.cancel();
        feed(automaton::ServicesDone{refusal_.empty(), refusal_});
    }
}

void ModuleHost::services_late() {
    if (asked_.empty()) {
        return;
    }
    std::string names;
    for (const auto& [token, slot] : asked_) {
        names += (names.empty() ? "" : ", ") + std::string{slot->id()};
    }
    asked_.clear();
    feed(automaton::ServicesDone{false, names + " did not answer in time"});
}

void ModuleHost::perform(const automaton::StateChanged& effect) {
    const std::string text = std::string{name(effect.state)} + " " + std::string{name(effect.qualifier)};
    {
        const std::lock_guard lock(shared_);
        state_name_ = text;
    }
    since_seconds_ = wall_seconds();
    write(log::Level::event, "host", "Local state " + text + (effect.reason.empty() ? "" : " (" + effect.reason + ")"));
    if (bus_ != nullptr) {
        bus_->set_state(automaton::encode(effect.state, effect.qualifier));
        publish_own("state.local", text);
    }
    tell_state();
    if (const auto late = std::exchange(death_, std::nullopt); late && effect.qualifier == Qualifier::ready) {
        post([this, late] {
            if (resource("supervise." + late->name) == "down") {
                on_supervised_death(late->name, late->action, late->reason);
            }
        });
    } else if (effect.state != State::stop && effect.state != State::wait) {
        death_ = late;
    }
}

void ModuleHost::perform(const automaton::Log& effect) {
    const log::Level level = effect.level == automaton::Log::Level::event     ? log::Level::event
                             : effect.level == automaton::Log::Level::warning ? log::Level::warning
                                                                              : log::Level::error;
    write(level, "host", effect.text);
}

void ModuleHost::perform(const automaton::Finished& effect) {
    namespace protocol = control::host_protocol;
    finish(!effect.start_again ? protocol::exit_stopped : reboot_ ? protocol::exit_reboot : protocol::exit_start_again);
}

void ModuleHost::perform(const automaton::Armed& effect) {
    static_assert(automaton::armed_pre == STEAD_WHEN_PRE && automaton::armed_both == STEAD_WHEN_BOTH &&
                  automaton::armed_prim == STEAD_WHEN_PRIM && automaton::armed_second == STEAD_WHEN_SECOND &&
                  automaton::armed_sec == STEAD_WHEN_SEC);
    armed_ = effect.classes;
    for (const auto& slot : slots_) {
        arm_checker(*slot);
    }
}

// ---- End
// ----------------------------------------------------------------------------------------------------------------

void ModuleHost::finish(int exit_code) {
    exit_code_ = exit_code;
    finished_ = true;
    broadcast({{"event", "finished"}, {"exit", exit_code}});
    const std::string last_word = std::to_string(exit_code) + " " + automaton_.reason();
    if (const auto said = write_file_atomically(facts_.paths.host_end(facts_.module), last_word); !said) {
        write(log::Level::warning, "host", said.error().text());
    }
    for (auto slot = slots_.rbegin(); slot != slots_.rend(); ++slot) {
        (*slot)->stop();
    }
    end_within(leave_timeout);
    bus_->leave(); // leave_done calls end()
}

void ModuleHost::end_within(nanoseconds time) {
    end_timer_.expires_after(time);
    end_timer_.async_wait([this](boost::system::error_code cancelled) {
        if (!cancelled && !ended_) {
            end();
        }
    });
}

void ModuleHost::end() {
    if (automaton_.state() != State::stop || ended_) {
        return;
    }
    if (starter_ == Starter::unheard) { // a start that failed at once: who began it is to hear why
        starter_ = Starter::awaited;
        return end_within(starter_timeout);
    }
    for (const auto& [connection, id] : stop_waiters_) {
        connection->send(boost::json::object{{"id", id}, {"ok", true}});
    }
    stop_waiters_.clear();
    refuse_late_answers();
    ended_ = true;
    server_.reset();
    services_timer_.cancel();
    failover_timer_.cancel();
    signals_.cancel();
    timers_.clear();
    addresses_->close();
    for (const auto& weak : connections_) {
        if (const auto connection = weak.lock(); connection && connection->open()) {
            connection->finish();
        }
    }
    listeners_.clear();
    await_last_answers(BootClock::now() + answer_timeout);
}

void ModuleHost::await_last_answers(Instant until) { // not for ever: a client may not read
    const bool sent = std::ranges::none_of(connections_, [](const auto& weak) {
        const auto connection = weak.lock();
        return connection && connection->open();
    });
    if (sent || BootClock::now() >= until) {
        io_.stop();
        return;
    }
    end_timer_.expires_after(milliseconds{2});
    end_timer_.async_wait([this, until](boost::system::error_code) { await_last_answers(until); });
}

} // namespace stead::host
