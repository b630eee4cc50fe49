// SPDX-License-Identifier: Apache-2.0
// What plugins and hooks ask of the host: from any of their threads, so shared state is behind a mutex or posted.
#include "module_host.hpp"

#include "rule_names.hpp"

#include <stead/base/utf8.hpp>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>

namespace stead::host {

using automaton::decode_qualifier;
using automaton::decode_state;

// ---- Plugins
// --------------------------------------------------------------------------------------------------------------

void ModuleHost::plugin_log(const Slot& slot, log::Level level, std::string_view line) {
    write(level, slot.id(), line);
}

void ModuleHost::set_timer(Slot& slot, std::uint64_t id, std::uint64_t at_boottime_ns) {
    if (on_strand() && !ended_) {
        arm(slot, id, at_boottime_ns);
    } else {
        post([this, &slot, id, at_boottime_ns] { arm(slot, id, at_boottime_ns); });
    }
}

void ModuleHost::arm(Slot& slot, std::uint64_t id, std::uint64_t at_boottime_ns) {
    const auto key = std::pair{&slot, id};
    if (at_boottime_ns == 0) {
        timers_.erase(key);
        return;
    }
    auto& timer = timers_[key];
    if (timer == nullptr) {
        timer = std::make_unique<boost::asio::steady_timer>(io_);
    }
    const Instant at = from_ns(static_cast<std::int64_t>(std::min<std::uint64_t>(at_boottime_ns, INT64_MAX)));
    timer->expires_after(std::max(at - BootClock::now(), nanoseconds{0}));
    timer->async_wait([this, &slot, id](boost::system::error_code cancelled) {
        if (!cancelled && !ended_) {
            slot.on_timer(id);
        }
    });
}

bool ModuleHost::publish(const Slot& slot, std::string_view name, std::optional<std::string_view> value) {
    const auto done = publish_as(&slot, name, value);
    if (!done) {
        write(log::Level::warning, slot.id(), "publish: " + done.error().text());
    }
    return static_cast<bool>(done);
}

Result<void> ModuleHost::publish_as(const Slot* slot, std::string_view name, std::optional<std::string_view> value) {
    {
        const std::lock_guard lock(shared_);
        if (bus_ == nullptr) { // during create: told to the bus as soon as it is there
            if (name.empty() || name.size() > limits::resource_name_bytes_max ||
                (value && value->size() > limits::resource_value_bytes_max)) {
                return Error{Errc::out_of_range, "resource '" + std::string{name.substr(0, 40)} + "'",
                             "allowed: a name of 1 to 127 bytes, a value of at most 255 bytes"};
            }
            if (value) {
                own_before_bus_[std::string{name}] = *value;
            } else {
                own_before_bus_.erase(std::string{name});
            }
        } else if (auto done = bus_->publish(name, value); !done) {
            return done;
        }
        reasons_.erase(std::string{name}); // of the value before
        if (value) {                       // whoever wrote it reads it
            resources_[{index(facts_.self), std::string{name}}] = *value;
        } else {
            resources_.erase({index(facts_.self), std::string{name}});
        }
    }
    // Posted even from the strand: the failover machine sees all threads' values in the order of their calls.
    post([this, slot, name = std::string{name}, value = value ? std::optional{std::string{*value}} : std::nullopt] {
        take_own(name, value, slot);
    });
    return {};
}

void ModuleHost::explain(std::string_view name, std::string_view reason) {
    constexpr std::size_t reason_bytes_max = 255;
    const std::lock_guard lock(shared_);
    if (name.size() <= limits::resource_name_bytes_max && (reasons_.contains(name) || reasons_.size() < reasons_max)) {
        std::string text = printable(reason); // what is no UTF-8 would break the answer that carries it
        if (text.size() > reason_bytes_max) {
            std::size_t end = reason_bytes_max;
            while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) {
                --end;
            }
            text.resize(end);
        }
        reasons_.insert_or_assign(std::string{name}, std::move(text));
    }
}

std::optional<std::string> ModuleHost::read(std::uint32_t node, std::string_view name) {
    const std::lock_guard lock(shared_);
    const auto found = resources_.find({node, std::string{name}});
    return found == resources_.end() ? std::nullopt : std::optional{found->second};
}

void ModuleHost::watch(Slot& slot, std::string prefix) {
    post([this, &slot, prefix = std::move(prefix)] {
        if (std::ranges::find(slot.watched, prefix) != slot.watched.end()) {
            return;
        }
        std::map<std::pair<std::uint32_t, std::string>, std::string> now;
        {
            const std::lock_guard lock(shared_);
            now = resources_;
        }
        slot.watched.push_back(prefix);
        for (const auto& [key, value] : now) {
            if (key.second.starts_with(prefix)) {
                slot.on_resource(key.first, key.second, value);
            }
        }
    });
}

bool ModuleHost::send(const Slot& slot, std::uint64_t nodes, std::string_view kind, std::uint32_t version,
                      std::string_view body) {
    bus::Bus* bus = nullptr;
    {
        const std::lock_guard lock(shared_);
        bus = bus_.get();
    }
    if (bus == nullptr || version > UINT16_MAX) {
        return false;
    }
    const auto sent = bus->send(NodeSet{nodes}, std::string{slot.id()} + "/" + std::string{kind},
                                static_cast<std::uint16_t>(version), body);
    if (!sent) {
        write(log::Level::warning, slot.id(), "message '" + std::string{kind} + "' not sent: " + sent.error().text());
    }
    return static_cast<bool>(sent);
}

void ModuleHost::set_weight(std::uint32_t weight) {
    const auto given =
        static_cast<std::uint16_t>(std::min<std::uint32_t>(weight, UINT16_MAX)); // what it means is the plugin's
    bus::Bus* bus = nullptr;
    {
        const std::lock_guard lock(shared_);
        weight_ = given;
        bus = bus_.get();
    }
    if (bus != nullptr) {
        bus->set_weight(given);
    }
}

void ModuleHost::set_config(const Slot& slot, std::uint64_t digest) {
    const auto apply = [this, digest, id = std::string{slot.id()}] {
        // Several plugins may have their say; the order of creation is the same on every node.
        std::uint64_t mixed = config_digest_ ^ digest;
        for (const char byte : id) {
            mixed = (mixed ^ static_cast<unsigned char>(byte)) * 0x100000001b3ULL;
        }
        config_digest_ = mixed != 0 ? mixed : 1;
        if (bus_ != nullptr) {
            bus_->set_config(config_digest_);
        }
    };
    if (on_strand()) {
        apply();
    } else {
        post(apply);
    }
}

void ModuleHost::transition_done(Slot&, std::uint64_t token, bool ok, std::string reason) {
    // Posted even from the strand: the answer may come from inside on_transition.
    post([this, token, ok, reason = std::move(reason)] {
        const auto asked = asked_.find(token);
        if (asked == asked_.end()) {
            return; // of a round that is over
        }
        if (!ok && refusal_.empty()) {
            refusal_ = std::string{asked->second->id()} + ": " + (reason.empty() ? "refused without a reason" : reason);
        }
        asked_.erase(asked);
        services_answered();
    });
}

void ModuleHost::request(const Slot& slot, std::string action, std::string reason) {
    const std::string by = std::string{slot.id()} + ": " + reason;
    if (action != "stop" && action != "stopstart" && action != "restart" && action != "wait" &&
        !action.starts_with("restart ")) {
        write(log::Level::error, slot.id(),
              "unknown action '" + action +
                  "' requested; allowed: stop, stopstart, wait, restart (and words for its scripts)");
        return;
    }
    post([this, action = std::move(action), by] { act(action, by, Caller::rule, false); });
}

void ModuleHost::watch_link(Slot& slot, std::uint32_t ifindex) {
    post([&slot, ifindex] { slot.watched_links.insert(ifindex); });
}

std::uint64_t ModuleHost::run_hook(Slot& slot, std::string name, std::vector<std::string> arguments,
                                   nanoseconds timeout) {
    const auto has = plugin_hooks_ != nullptr ? plugin_hooks_->has(name) : Result<bool>{false};
    if (!has || !*has || !facts_.config.user.present) {
        return 0;
    }
    constexpr std::size_t waiting_max = 64;
    const std::uint64_t token = next_hook_token_++;
    post([this, hook = PluginHook{&slot, token, std::move(name), std::move(arguments), timeout}]() mutable {
        if (plugin_hook_queue_.size() >= waiting_max) {
            write(log::Level::error, hook.slot->id(), "hook " + hook.name + " dropped: 64 are waiting");
            hook.slot->on_hook_done(hook.token, 127, "64 hooks of plugins are waiting");
            return;
        }
        plugin_hook_queue_.push_back(std::move(hook));
        if (plugin_hook_queue_.size() == 1) {
            next_plugin_hook();
        }
    });
    return token;
}

void ModuleHost::next_plugin_hook() {
    if (plugin_hook_queue_.empty()) {
        return;
    }
    const PluginHook& hook = plugin_hook_queue_.front();
    script::Limits limits;
    limits.timeout = hook.timeout;
    plugin_hooks_->start(hook.name, hook.arguments, limits, [this](const script::HookResult& result) {
        post([this, result] {
            const PluginHook done = std::move(plugin_hook_queue_.front());
            plugin_hook_queue_.pop_front();
            if (!result.ok()) {
                write(log::Level::warning, done.slot->id(), "script " + done.name + ": " + result.reason);
            }
            done.slot->on_hook_done(done.token,
                                    result.ok()             ? 0
                                    : result.exit_code != 0 ? result.exit_code
                                                            : 1,
                                    result.told());
            next_plugin_hook();
        });
    });
}

std::uint64_t ModuleHost::start_hook(Slot& slot, std::string name, std::vector<std::string> arguments,
                                     nanoseconds timeout, bool keeps_daemons) {
    const std::uint64_t token = next_hook_token_++;
    // Posted even from the strand: the answer must not come before the token.
    post([this, &slot, token,
          order = SideHooks::Order{std::move(name), std::move(arguments), timeout, keeps_daemons}]() mutable {
        const auto done = [this, &slot, token, name = order.name](std::int32_t code, const std::string& reason) {
            if (code != 0) {
                write(log::Level::debug, slot.id(), "script " + name + ": " + reason);
            }
            slot.on_hook_done(token, code, reason);
        };
        if (!facts_.config.user.present) {
            done(127, "without <user> no script runs");
            return;
        }
        side_hooks_.start(token, new_runner(), std::move(order), done);
    });
    return token;
}

void ModuleHost::cancel_hook(std::uint64_t token) {
    post([this, token] { side_hooks_.cancel(token); });
}

Result<void> ModuleHost::add_address(const std::string& interface, const std::string& address) {
    return addresses_->add(interface, address);
}

void ModuleHost::remove_address(const std::string& interface, const std::string& address) {
    addresses_->remove(interface, address);
}

// ---- Hooks
// ----------------------------------------------------------------------------------------------------------------

void ModuleHost::log(int level, std::string_view line) {
    write(static_cast<stead::log::Level>(std::clamp(level, 0, 3)), "script", line);
}

std::optional<std::string> ModuleHost::resource(std::string_view name) {
    constexpr std::string_view remote = "remote.", local = "local.";
    const std::uint32_t self = index(facts_.self);
    if (!name.starts_with(remote)) {
        if (name.starts_with(local)) {
            name.remove_prefix(local.size());
        }
        return read(self, name);
    }
    name.remove_prefix(remote.size());
    const std::lock_guard lock(shared_);
    for (const auto& [key, value] : resources_) { // the first peer that has it: a mirror has one peer
        if (key.first != self && key.second == name) {
            return value;
        }
    }
    return std::nullopt;
}

Result<void> ModuleHost::set_resource(std::string_view name, std::string_view value) {
    if (auto allowed = may_be_set(name); !allowed) {
        return allowed;
    }
    return publish_as(nullptr, name, value);
}

std::string ModuleHost::view_json() {
    const std::lock_guard lock(shared_);
    boost::json::array members;
    for (const NodeId node : view_.members) {
        const auto known = peer_states_.find(node);
        const std::string state = node == facts_.self ? state_name_
                                  : known == peer_states_.end()
                                      ? "UNKNOWN Unknown"
                                      : std::string{automaton::name(decode_state(known->second))} + " " +
                                            std::string{automaton::name(decode_qualifier(known->second))};
        members.push_back(boost::json::object{
            {"name", facts_.cluster.nodes[index(node)]}, {"weight", view_.weights[index(node)]}, {"state", state}});
    }
    return boost::json::serialize(
        boost::json::object{{"epoch", view_.epoch}, {"self", facts_.node()}, {"members", std::move(members)}});
}

std::string ModuleHost::state_name() {
    const std::lock_guard lock(shared_);
    return state_name_;
}

} // namespace stead::host
