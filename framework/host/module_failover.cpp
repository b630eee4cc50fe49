// SPDX-License-Identifier: Apache-2.0
// The failover machine in its module: facts in, actions out, and the switches of the administrator.
#include "module_host.hpp"

#include <stead/control/user_settings.hpp>

#include <algorithm>
#include <iterator>

namespace stead::host {

namespace {

constexpr std::string_view errd = "errd";

std::string setting(std::string_view name) { return std::string{control::user_setting_prefix} + std::string{name}; }

} // namespace

// ---- Facts and rules
// -------------------------------------------------------------------------------------------------

void ModuleHost::take_own(const std::string& name, const std::optional<std::string>& value, const Slot* by) {
    // A checker's resource stays the checker's when a script or a person sets it.
    const auto known = owners_.find(name);
    const Slot* owner = by != nullptr && by->is_checker() ? by : known != owners_.end() ? known->second : nullptr;
    if (value && owner != nullptr) {
        owners_[name] = owner;
    } else if (!value) {
        owners_.erase(name);
    }
    failover_.put_own(name, value, owner != nullptr ? owner->switch_name() : std::string_view{});
    if (value && is_share(name, *value)) {
        tell_state();
    }
    evaluate();
}

void ModuleHost::refresh_rules() {
    std::vector<rules::Rule> of_checkers;
    for (const auto& slot : slots_) {
        of_checkers.insert(of_checkers.end(), slot->rules().begin(), slot->rules().end());
    }
    std::vector<script::DisabledRule> unknown;
    failover_.set_rules(merged(facts_.rules, of_checkers, unknown));
    for (const script::DisabledRule& one : unknown) {
        write(log::Level::warning, "failover",
              one.place.file + ":" + std::to_string(one.place.line) + ": Rules.disable(\"" + one.label +
                  "\"): no rule has this label");
    }
    write(log::Level::debug, "failover", std::to_string(failover_.rules().size()) + " rules");
}

void ModuleHost::evaluate() {
    if (evaluating_ || ended_) {
        return;
    }
    evaluating_ = true;
    for (bool again = true; again;) {
        Failover::Outcome outcome = failover_.step(BootClock::now(), automaton_);
        for (const std::string& line : outcome.lines) {
            write(log::Level::event, "failover", line);
        }
        for (const auto& [name, value] : outcome.assignments) {
            publish_own(name, value);
        }
        // What holds the module is there before the action that takes it to WAIT, and until the one that ends it.
        const bool released = !outcome.block && !rules_block_.reason.empty();
        if (outcome.block) {
            hold_back(bus_block_, *outcome.block);
        }
        if (outcome.order) {
            act(outcome.order->action, outcome.order->by, Caller::rule, false);
        }
        if (released) {
            hold_back(bus_block_, {});
        }
        again = outcome.order.has_value() || released;
    }
    evaluating_ = false;
    arm_failover_timer();
}

void ModuleHost::arm_failover_timer() {
    const Instant next = failover_.next_deadline();
    if (next == never) {
        failover_timer_.cancel();
        return;
    }
    failover_timer_.expires_after(std::max(next - BootClock::now(), nanoseconds{0}));
    failover_timer_.async_wait([this](boost::system::error_code cancelled) {
        if (!cancelled && !ended_) {
            evaluate();
        }
    });
}

void ModuleHost::hold_back(const automaton::Block& by_bus, const automaton::Block& by_rules) {
    bus_block_ = by_bus;
    rules_block_ = by_rules;
    const automaton::Block& wanted = bus_block_.reason.empty() ? rules_block_ : bus_block_;
    if (wanted != told_block_) {
        told_block_ = wanted;
        feed(wanted);
    }
}

// ---- Switches
// --------------------------------------------------------------------------------------------------------

void ModuleHost::arm_checker(Slot& slot) {
    if (slot.is_checker()) {
        slot.on_armed(failover_.is_on(slot.switch_name()) ? armed_ : 0);
    }
}

void ModuleHost::load_switches() {
    settings_ = control::read_user_settings(facts_.paths.module_var(facts_.module));
    for (const std::string_view name : {"failover", "checker"}) {
        settings_.try_emplace(setting(name), "on");
    }
    for (const auto& slot : slots_) {
        if (slot->is_checker()) {
            settings_.try_emplace(setting(slot->switch_name()), "on");
        }
    }
    for (const auto& [name, value] : settings_) {
        if (value == "off") {
            failover_.set_switch(std::string_view{name}.substr(control::user_setting_prefix.size()), false);
            write(log::Level::event, "host", name + " is off");
        }
        publish_own(name, value);
    }
}

void ModuleHost::tell_errd_classes(Slot& slot) {
    const std::string prefix = setting(errd) + ".";
    for (const auto& [name, value] : settings_) {
        if (slot.is_checker() && slot.switch_name() == errd && name.starts_with(prefix)) {
            std::string answer;
            if (slot.command(errd, {value == "off" ? "disable" : "enable", name.substr(prefix.size())}, answer) != 0) {
                write(log::Level::warning, slot.id(), name + ": " + (answer.empty() ? "refused" : answer));
            }
        }
    }
}

Result<void> ModuleHost::keep_setting(const std::string& name, const std::string& value) {
    if (auto kept = control::write_user_setting(facts_.paths.module_var(facts_.module), name, value); !kept) {
        return kept;
    }
    settings_[name] = value;
    publish_own(name, value);
    return {};
}

Result<void> ModuleHost::turn_switch(const std::string& name, bool on, const std::string& by) {
    if (auto kept = keep_setting(setting(name), on ? "on" : "off"); !kept) {
        return kept;
    }
    write(log::Level::event, "host", "Action " + name + (on ? " on" : " off") + " called by " + by);
    failover_.set_switch(name, on);
    for (const auto& slot : slots_) {
        arm_checker(*slot);
    }
    evaluate();
    return {};
}

Result<std::string> ModuleHost::command_errd(const std::vector<std::string>& argv, const std::string& by) {
    std::string text;
    bool found = false;
    for (const auto& slot : slots_) {
        if (!slot->is_checker() || slot->switch_name() != errd) {
            continue;
        }
        found = true;
        std::string answer;
        if (slot->command(errd, argv, answer) != 0) {
            return Error{Errc::refused, std::string{slot->id()}, answer.empty() ? "refused without a reason" : answer};
        }
        text += answer;
    }
    if (!found) {
        return Error{Errc::not_found, facts_.module, "it has no <errd>, or the plugin for it is not there"};
    }
    if (argv.size() == 2 && (argv[0] == "enable" || argv[0] == "disable")) {
        if (auto kept = keep_setting(setting(errd) + "." + argv[1], argv[0] == "enable" ? "on" : "off"); !kept) {
            return kept.error();
        }
        write(log::Level::event, "host", "Action errd " + argv[0] + " " + argv[1] + " called by " + by);
    }
    return text;
}

// ---- Update
// ----------------------------------------------------------------------------------------------------------

/// Checkers may come with an update; those whose elements are gone stay, with nothing to do. Newcomers are made first:
/// that they fail changes nothing for those that are there.
Result<std::string> ModuleHost::update_plugins(const config::Module& fresh) {
    auto added = new_checkers(fresh);
    if (!added) {
        return added.error();
    }
    if (auto updated = update_slots(fresh); !updated) {
        std::ranges::move(*added, std::back_inserter(turned_down_));
        post([this] { forget_turned_down(); });
        return updated.error();
    }
    for (auto& slot : *added) {
        slot->start();
        tell_view(*slot);
        slots_.push_back(std::move(slot));
    }
    std::string text;
    for (const auto& slot : slots_) {
        text += (text.empty() ? "" : ", ") + std::string{slot->id()};
        tell_errd_classes(*slot); // of classes that came with this configuration too
        arm_checker(*slot);
    }
    return text;
}

Result<std::vector<std::unique_ptr<Slot>>> ModuleHost::new_checkers(const config::Module& fresh) {
    std::vector<std::unique_ptr<Slot>> added;
    for (const Plugin& plugin : registry_.plugins()) {
        const bool used =
            std::ranges::any_of(slots_, [&](const auto& slot) { return slot->id() == plugin.descriptor.id; });
        if (used || plugin.descriptor.kind != STEAD_KIND_CHECKER || !fresh.uses(facts_.schemas, plugin.descriptor.id)) {
            continue;
        }
        added.push_back(std::make_unique<Slot>(plugin, static_cast<Services&>(*this), slot_facts()));
        if (auto created = added.back()->create(fresh.part_for(facts_.schemas, plugin.descriptor.id)); !created) {
            std::ranges::move(added, std::back_inserter(turned_down_));
            post([this] { forget_turned_down(); });
            return created.error();
        }
        write(log::Level::event, "host",
              "plugin " + std::string{added.back()->id()} + " " + plugin.descriptor.version + " in use");
    }
    return added;
}

Result<void> ModuleHost::update_slots(const config::Module& fresh) {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        if (auto updated = slots_[i]->update(fresh.part_for(facts_.schemas, slots_[i]->id())); !updated) {
            while (i-- > 0) { // back to what is in force
                auto restored = slots_[i]->update(facts_.config.part_for(facts_.schemas, slots_[i]->id()));
                if (!restored) {
                    write(log::Level::error, slots_[i]->id(), "update taken back: " + restored.error().text());
                }
            }
            return updated.error();
        }
    }
    return {};
}

/// After what they posted: their resources go, and then they.
void ModuleHost::forget_turned_down() {
    for (const auto& slot : turned_down_) {
        std::vector<std::string> owned;
        for (const auto& [name, owner] : owners_) {
            if (owner == slot.get()) {
                owned.push_back(name);
            }
        }
        for (const std::string& name : owned) {
            (void)publish_as(nullptr, name, std::nullopt);
            owners_.erase(name);
        }
        std::erase_if(timers_, [&](const auto& timer) { return timer.first.first == slot.get(); });
    }
    turned_down_.clear();
}

} // namespace stead::host
