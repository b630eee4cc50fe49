// SPDX-License-Identifier: Apache-2.0
// The host's calls, and the once-a-second look at what may have changed under us.
#include "plugin.hpp"

#include <charconv>

namespace stead::farm {

void FarmPlugin::complain(const Result<void>& result, const char* what) {
    if (!result) {
        host_.error(std::string{what} + ": " + result.error().text());
    }
}

void FarmPlugin::start() {
    running_ = true;
    host_.watch("farm.mac.");
    host_.watch(heartbeat_prefix);
    std::size_t number = 0;
    for (const auto& place : network_.places()) { // for the address checker: this MAC is no stranger's
        if (place.vip.delivery == shim::Delivery::invisible) {
            host_.publish("farm.vmac." + std::to_string(number++), net::to_text(place.vip.vmac));
        }
    }
    if (options_.script_control) {
        host_.watch(gate_resource);
    }
    apply_weight();
    second();
}

void FarmPlugin::stop() {
    running_ = false;
    for (const auto id :
         {mover_timer, second_timer, announce_timer, transition_timer, slow_start_timer, clients_timer, cut_timer}) {
        host_.cancel_timer(id);
    }
}

void FarmPlugin::on_lease(std::uint64_t until_boottime_ns) noexcept {
    if (filter_) {
        filter_->write_lease(until_boottime_ns);
    }
    if (lease_until_.exchange(until_boottime_ns) < static_cast<std::uint64_t>(to_ns(BootClock::now()))) {
        lease_lapsed_.store(true);
    }
}

std::int32_t FarmPlugin::lease_fd() noexcept { return filter_ ? filter_->lease_fd() : -1; }

void FarmPlugin::on_timer(std::uint64_t id) {
    switch (id) {
    case mover_timer:
        mover_.tick(now());
        pump();
        break;
    case second_timer: second(); break;
    case announce_timer:
        if (const auto next = network_.announce_due(host_.now()); next != 0) {
            host_.set_timer(announce_timer, next);
        }
        break;
    case transition_timer: poll_transition(); break;
    case slow_start_timer: step_slow_start(); break;
    case clients_timer: tell_clients(true); break;
    case cut_timer: look_for_cut(); break;
    default: break;
    }
}

void FarmPlugin::on_resource(std::uint32_t node, std::string_view name, std::optional<std::string_view> value) {
    if (node == host_.self() && options_.script_control && name == gate_resource) {
        script_gate(value.value_or("down") == "up");
        return;
    }
    if (name.starts_with(heartbeat_prefix)) {
        const std::pair key{node, std::string{name.substr(heartbeat_prefix.size())}};
        if (value && *value != "init") {
            hears_[key] = *value == "up";
        } else {
            hears_.erase(key);
        }
        host_.set_timer_in(cut_timer, milliseconds{100}); // both ends of a cut notice it a heartbeat apart
        return;
    }
    if (node == host_.self() || node >= limits::nodes_max || !name.starts_with("farm.mac.")) {
        return;
    }
    if (value) {
        member_resources_[{node, std::string{name}}] = *value;
    } else {
        member_resources_.erase({node, std::string{name}});
    }
    push_members();
}

void FarmPlugin::on_link(std::uint32_t ifindex, bool up) {
    network_.set_link(ifindex, up, host_.now());
    apply_weight();
    on_timer(announce_timer);
}

void FarmPlugin::second() {
    if (filter_) {
        audit();
        network_.look_at_macs(host_.now());
        if (!hears_.empty()) {
            network_.count_frames();
            look_for_cut();
        }
        on_timer(announce_timer);
        const auto published = network_.published();
        for (std::size_t i = 0; i < published.size(); ++i) {
            if (i >= published_.size() || published_[i] != published[i]) {
                host_.publish("farm.mac." + std::to_string(i), published[i]);
            }
        }
        published_ = published;
    }
    look_whether_free();
    tell_clients(false);
    if (flooding_) {
        watch_flooding();
    }
    host_.set_timer_in(second_timer, seconds{1});
}

/// What was put back in place is told; what could not be is an unfiltered node, which would answer for all.
void FarmPlugin::audit() {
    const shim::Audit found = filter_->audit();
    for (const auto& line : found.repaired) {
        host_.warning("packet filter: " + line);
    }
    if (found.missing == audit_) {
        return;
    }
    audit_ = found.missing;
    host_.publish("farm.filter", audit_.empty() ? "up" : "down");
    if (!audit_.empty()) {
        host_.error("packet filter: " + audit_);
    }
    if (found.open) {
        host_.request("stopstart", "packet filter: " + audit_);
    }
}

void FarmPlugin::watch_flooding() {
    const auto works = flooding_->look(host_.now(), wish_.is_open(), mover_.participants().size() < 2);
    if (!works) {
        return;
    }
    host_.publish("farm.flooding", *works ? "up" : "down");
    if (*works) {
        host_.event("frames to the virtual MAC reach this node");
    } else {
        host_.warning("frames to the virtual MAC do not reach this node: the switch does not flood unknown unicast; "
                      "use type=\"vmac_directed\", or allow flooding on these ports");
    }
}

// ---- Commands -------------------------------------------------------------------------------------------------------

plugin::Answer FarmPlugin::on_command(std::string_view verb, std::span<const std::string_view> arguments,
                                      std::string& answer) {
    if (verb == "describe") {
        answer = describe();
        return plugin::Answer::done;
    }
    if (verb != "power") {
        return plugin::Answer::not_mine;
    }
    if (arguments.size() != 2) {
        answer = "usage: power NODE N (0.." + std::to_string(limits::power_max) + ", or default)";
        return plugin::Answer::refused;
    }
    const auto node = member_named(arguments[0]);
    if (!node) {
        answer = "node '" + std::string{arguments[0]} + "' is not in this farm now; there are: " + member_names();
        return plugin::Answer::refused;
    }
    PowerWish wish;
    const std::string_view value = arguments[1];
    if (value != "default") {
        wish.power = 0;
        const auto parsed = std::from_chars(value.data(), value.data() + value.size(), *wish.power);
        if (parsed.ec != std::errc{} || parsed.ptr != value.data() + value.size() || *wish.power > limits::power_max) {
            answer = "power '" + std::string{value} + "': allowed are 0.." + std::to_string(limits::power_max) +
                     ", or default for the configured one";
            return plugin::Answer::refused;
        }
    }
    return set_power(*node, wish, answer);
}

std::optional<std::uint32_t> FarmPlugin::member_named(std::string_view name) const {
    if (name == host_.node()) {
        return host_.self();
    }
    for (const auto& [node, known] : names_) {
        if (known == name && mover_.view().members.contains(NodeId(node))) {
            return node;
        }
    }
    return std::nullopt;
}

std::string FarmPlugin::member_names() const {
    std::string all{host_.node()};
    for (const auto& [node, name] : names_) {
        if (name != host_.node() && mover_.view().members.contains(NodeId(node))) {
            all += ", " + name;
        }
    }
    return all;
}

plugin::Answer FarmPlugin::set_power(std::uint32_t node, const PowerWish& wish, std::string& answer) {
    if (node == host_.self()) {
        wish_.set_override(wish.power);
        apply_weight();
    } else if (!host_.send(NodeSet{NodeId(node)}.bits(), "farm.power", message_version, encode(wish))) {
        answer = names_[node] + " cannot be told now; try again";
        return plugin::Answer::refused;
    }
    answer = "power of " + std::string{node == host_.self() ? host_.node() : names_[node]} + ": " +
             (wish.power ? std::to_string(*wish.power) : "as configured");
    return plugin::Answer::done;
}

} // namespace stead::farm
