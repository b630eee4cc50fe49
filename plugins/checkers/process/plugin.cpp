// SPDX-License-Identifier: Apache-2.0
#include "plugin.hpp"

#include "schema.hpp"

#include <stead/base/time.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <stdexcept>

namespace stead::process {
namespace json = boost::json;
namespace {

enum TimerId : std::uint64_t { look_timer = 1 };

constexpr std::int32_t hook_missing = 127;            // as start_hook tells it
constexpr nanoseconds handler_timeout = seconds{300}; // as other scripts
constexpr const char* state_resource = "state.local"; // as the host publishes it: "UP Ready"
constexpr std::size_t list_bytes_max = 60'000;

Options read_checked(const plugin::Config& config) {
    return read_options(config, [](std::uint32_t line, bool warning, const std::string& text) {
        if (!warning) {
            throw std::runtime_error("line " + std::to_string(line) + ": " + text);
        }
    });
}

std::string joined(const std::vector<std::string>& names) {
    std::string all;
    for (const std::string& name : names) {
        all += (all.empty() ? "" : ",") + name;
    }
    return all;
}

Instant now() { return BootClock::now(); }

} // namespace

ProcessChecker::ProcessChecker(plugin::Host host, plugin::Config config)
    : host_(host), classes_(std::filesystem::path{host.var_folder()} / "errd.classes"), judge_(read_checked(config)) {}

void ProcessChecker::check(plugin::Config config, const plugin::Report& report) {
    static_cast<void>(read_options(config, [&](std::uint32_t line, bool warning, const std::string& text) {
        warning ? report.warning(line, text) : report.error(line, text);
    }));
}

void ProcessChecker::start() {
    running_ = true;
    host_.watch(state_resource);
    watch(judge_.options());
}

void ProcessChecker::stop() {
    running_ = false;
    watcher_.reset();
    host_.cancel_timer(look_timer);
}

/// Begins anew with these options, in the same state of the module.
void ProcessChecker::watch(Options options) {
    watcher_.reset();
    looks_.clear();
    handlers_.clear();
    const Options old = std::exchange(judge_, Judge(std::move(options))).options();
    for (const Spec& spec : old.specs) {
        if (std::ranges::find(judge_.options().specs, spec.resource, &Spec::resource) == judge_.options().specs.end()) {
            host_.unpublish(spec.resource);
        }
    }
    judge_.set_ready(ready_);
    found_.assign(judge_.options().specs.size(), {});
    for (std::size_t i = 0; i < found_.size(); ++i) {
        publish(i);
    }
    auto started = Watcher::start(judge_.options().specs, [this](Watcher::Look look) {
        {
            const std::lock_guard lock(mutex_);
            looks_.push_back(std::move(look));
        }
        host_.set_timer(look_timer, host_.now());
    });
    if (!started) {
        throw std::runtime_error(started.error().text());
    }
    watcher_ = std::move(*started);
    arm();
}

void ProcessChecker::on_armed(std::uint32_t when) {
    when_ = when;
    arm();
}

void ProcessChecker::arm() {
    if (!running_) {
        return;
    }
    std::vector<bool> armed;
    for (const Spec& spec : judge_.options().specs) {
        armed.push_back(classes_.armed(spec.class_name, when_));
    }
    perform(judge_.set_armed(now(), armed));
    std::erase_if(handlers_, [&](const auto& handler) { return !armed[handler.second]; });
    look_again();
}

void ProcessChecker::look_again() {
    if (!watcher_) {
        return;
    }
    const Instant next = judge_.next_look();
    std::vector<bool> wanted;
    for (std::size_t i = 0; i < judge_.options().specs.size(); ++i) {
        wanted.push_back(judge_.looked_for(i, next));
    }
    watcher_->look_at(next, std::move(wanted));
}

void ProcessChecker::on_timer(std::uint64_t id) {
    if (id != look_timer || !running_) {
        return;
    }
    std::vector<Watcher::Look> looks;
    {
        const std::lock_guard lock(mutex_);
        looks.swap(looks_);
    }
    for (const Watcher::Look& look : looks) {
        take(look);
    }
    if (!looks.empty()) {
        look_again();
    }
}

void ProcessChecker::on_resource(std::uint32_t node, std::string_view name, std::optional<std::string_view> value) {
    if (node == host_.self() && name == state_resource) {
        ready_ = value && value->ends_with(" Ready");
        judge_.set_ready(ready_);
    }
}

void ProcessChecker::take(const Watcher::Look& look) {
    if (look.trouble != trouble_) {
        trouble_ = look.trouble;
        if (!trouble_.empty()) {
            host_.warning(trouble_);
        }
    }
    for (std::size_t i = 0; i < found_.size(); ++i) {
        if (look.sights[i].count) {
            found_[i] = look.found[i];
        }
    }
    perform(judge_.on_sights(now(), look.begun, look.sights));
}

void ProcessChecker::perform(const Judge::Decision& decision) {
    for (const std::size_t index : decision.changed) {
        publish(index);
    }
    for (const std::size_t index : decision.handlers) {
        run_handler(index);
    }
    if (decision.action != Action::none) {
        Spec asked;
        asked.action = decision.action;
        std::string action = action_name(asked);
        if (decision.action == Action::restart && !decision.services.empty()) {
            action += " -Services " + joined(decision.services);
        }
        host_.request(action, decision.reason);
    }
}

void ProcessChecker::run_handler(std::size_t index) {
    const Spec& spec = judge_.options().specs[index];
    const std::vector<std::string> arguments{std::string{host_.module()}, spec.resource};
    host_.event("handler " + spec.handler + " runs for " + spec.resource);
    if (const std::uint64_t token = host_.start_hook(spec.handler, arguments, handler_timeout); token != 0) {
        handlers_[token] = index;
    }
}

void ProcessChecker::on_hook_done(std::uint64_t token, std::int32_t exit_code) {
    const auto handler = handlers_.find(token);
    if (handler == handlers_.end() || !running_) {
        return; // its class was disarmed meanwhile: the module has acted
    }
    const std::size_t index = handler->second;
    handlers_.erase(handler);
    if (exit_code == hook_missing) {
        const Spec& spec = judge_.options().specs[index];
        host_.error("handler " + spec.handler + " of " + spec.resource + " is not in bin, or <user> is missing");
    }
    perform(judge_.on_handler_done(now(), index, exit_code == 0));
    look_again();
}

void ProcessChecker::publish(std::size_t index) {
    const Spec& spec = judge_.options().specs[index];
    const Verdict verdict = judge_.state(index).verdict;
    if (verdict != Verdict::init) {
        host_.log(verdict == Verdict::down ? STEAD_LOG_WARNING : STEAD_LOG_EVENT,
                  "Resource " + spec.resource + " set to " + text_of(verdict) + ": " + judge_.reason_of(index));
    }
    host_.publish(spec.resource, text_of(verdict));
    host_.explain(spec.resource, verdict != Verdict::init ? judge_.reason_of(index) : "");
}

void ProcessChecker::on_update(plugin::Config config) {
    Options options = read_checked(config); // throws before anything changes
    if (running_) {
        watch(std::move(options));
    }
}

// ---- Commands -------------------------------------------------------------------------------------------------------

plugin::Answer ProcessChecker::on_command(std::string_view verb, std::span<const std::string_view> arguments,
                                          std::string& answer) {
    return verb == "errd" ? errd(arguments, answer) : plugin::Answer::not_mine;
}

plugin::Answer ProcessChecker::errd(std::span<const std::string_view> arguments, std::string& answer) {
    if (arguments.size() == 1 && arguments[0] == "list") {
        answer = list();
        return plugin::Answer::done;
    }
    if (arguments.size() == 2 && arguments[0] == "list" && arguments[1] == "--json") {
        answer = list_json();
        return plugin::Answer::done;
    }
    const bool enable = !arguments.empty() && arguments[0] == "enable";
    if (arguments.size() != 2 || (!enable && arguments[0] != "disable")) {
        answer = "allowed: errd list, errd enable CLASS, errd disable CLASS";
        return plugin::Answer::refused;
    }
    const std::string name{arguments[1]};
    const auto& specs = judge_.options().specs;
    if (std::ranges::none_of(specs, [&](const Spec& spec) { return spec.class_name == name; })) {
        answer = "no <proc> is of class '" + name + "'; there are:";
        for (const Spec& spec : specs) {
            if (answer.find(" " + spec.class_name) == std::string::npos) {
                answer += " " + spec.class_name;
            }
        }
        return plugin::Answer::refused;
    }
    if (auto kept = classes_.set(name, enable); !kept) {
        host_.warning("class " + name + ": " + kept.error().text() + "; it holds until the module stops");
    }
    answer = "class " + name + (enable ? " enabled" : " disabled");
    host_.event("errd: " + answer);
    arm();
    return plugin::Answer::done;
}

std::string ProcessChecker::list() const {
    std::string text;
    for (std::size_t i = 0; i < judge_.options().specs.size() && text.size() < list_bytes_max; ++i) {
        const Spec& spec = judge_.options().specs[i];
        const Judge::State& state = judge_.state(i);
        const std::string said = classes_.said(spec.class_name);
        text += (text.empty() ? "" : "\n") + spec.resource + " " + text_of(state.verdict) +
                " class=" + spec.class_name + (said.empty() ? "" : "(" + said + ")") +
                (state.armed ? " armed" : " not armed") + " action=" + action_name(spec) +
                (spec.service ? " service" : "");
        if (state.count) {
            text += " count=" + std::to_string(*state.count) + " pids=";
            for (const pid_t pid : found_[i].pids) {
                text += (text.back() == '=' ? "" : ",") + std::to_string(pid);
            }
            text += found_[i].pids.size() < *state.count ? ",..." : "";
        }
    }
    return text.empty() ? "nothing is watched: there is no <proc>" : text;
}

std::string ProcessChecker::list_json() const {
    json::array processes;
    std::size_t bytes = 0;
    const auto& specs = judge_.options().specs;
    for (std::size_t i = 0; i < specs.size(); ++i) {
        const Spec& spec = specs[i];
        const Judge::State& state = judge_.state(i);
        json::object one{{"resource", spec.resource},
                         {"value", text_of(state.verdict)},
                         {"class", spec.class_name},
                         {"armed", state.armed},
                         {"action", action_name(spec)},
                         {"service", spec.service},
                         {"count", nullptr},
                         {"pids", json::array{}}};
        if (const std::string said = classes_.said(spec.class_name); !said.empty()) {
            one["enabled"] = said == "enabled";
        }
        if (state.count) {
            one["count"] = *state.count;
            one["pids"] = json::array(found_[i].pids.begin(), found_[i].pids.end());
        }
        bytes += json::serialize(one).size() + 1;
        if (bytes > list_bytes_max) {
            break;
        }
        processes.push_back(std::move(one));
    }
    const bool complete = processes.size() == specs.size();
    return json::serialize(json::object{{"processes", std::move(processes)}, {"complete", complete}});
}

} // namespace stead::process

STEAD_EXPORT_CHECKER(stead::process::ProcessChecker, "checkers.process", "1.0.0", stead::process::schema)
