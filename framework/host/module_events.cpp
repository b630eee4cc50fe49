// SPDX-License-Identifier: Apache-2.0
// What the bus tells, on the strand.
#include "module_host.hpp"

#include <algorithm>
#include <utility>

namespace stead::host {

using automaton::decode_qualifier;
using automaton::decode_state;

namespace {

std::string names_of(NodeSet nodes, const std::vector<std::string>& names) {
    std::string text;
    for (const NodeId node : nodes) {
        text += (text.empty() ? "" : " ") + (index(node) < names.size() ? names[index(node)] : "?");
    }
    return text;
}

/// `members` has what the view points to.
stead_view c_view(const membership::View& view, NodeId self, const std::vector<std::string>& names,
                  std::vector<stead_member>& members) {
    members.clear();
    for (const NodeId node : view.members) {
        const std::string& name = names[index(node)];
        members.push_back({index(node), view.weights[index(node)], {name.data(), name.size()}});
    }
    return {.epoch = view.epoch,
            .id = view.id,
            .members = view.members.bits(),
            .dead = 0,
            .left = 0,
            .self = index(self),
            .member_count = static_cast<std::uint32_t>(members.size()),
            .member = members.data()};
}

} // namespace

/// For a plugin that comes when the module runs already.
void ModuleHost::tell_view(Slot& slot) {
    membership::View view;
    {
        const std::lock_guard lock(shared_);
        view = view_;
    }
    std::vector<stead_member> members;
    slot.on_view(c_view(view, facts_.self, facts_.cluster.nodes, members));
}

/// The other nodes' heartbeats on one LAN of several: a rule, or the farm, may want to know of a network that fails
/// while another one still carries the module.
void ModuleHost::on_heard(LanId lan, NodeSet nodes) {
    nodes.erase(facts_.self);
    const std::string& name = heartbeats_.at(index(lan));
    heartbeats_init_.erase(name);
    publish_own(name, nodes.empty() ? "down" : "up");
}

/// Who was not heard until the first view is not there.
void ModuleHost::end_listening() {
    for (const std::string& name : std::exchange(heartbeats_init_, {})) {
        publish_own(name, "down");
    }
}

void ModuleHost::on_view(const membership::ViewInstalled& installed) {
    end_listening();
    const auto& names = facts_.cluster.nodes;
    std::vector<NodeId> gone;
    {
        const std::lock_guard lock(shared_);
        view_ = installed.view;
        // Not of `previous`: between the two this node may have been in no view, when its last peer left.
        for (const NodeId node : std::exchange(last_members_, installed.view.members) - installed.view.members) {
            if (peer_states_.erase(node) > 0) {
                gone.push_back(node);
            }
        }
    }
    std::string line = "view " + std::to_string(installed.view.epoch) + ": " + names_of(installed.view.members, names);
    if (!installed.dead.empty()) {
        line += "; lost " + names_of(installed.dead, names);
    }
    if (!installed.left.empty()) {
        line += "; left " + names_of(installed.left, names);
    }
    write(log::Level::event, "bus", line);
    for (const NodeId node : gone) {
        write(log::Level::event, "host",
              "Remote state " + std::string{unknown_remote_state} + " (" + names[index(node)] + ")");
        tell_remote_state(unknown_remote_state);
    }
    std::vector<stead_member> members;
    stead_view view = c_view(installed.view, facts_.self, names, members);
    view.dead = installed.dead.bits();
    view.left = installed.left.bits();
    for (const auto& slot : slots_) {
        slot->on_view(view);
    }
    if (installed.view.members.contains(facts_.self)) {
        publish_own("config.same", "up");
        failover_.set_cluster(installed.view.members.size() > 1);
        hold_back({}, rules_block_);
        evaluate();
    }
}

void ModuleHost::on_excluded(const std::string& reason) {
    end_listening();
    {
        const std::lock_guard lock(shared_);
        view_ = {};
    }
    write(log::Level::warning, "bus", "this node is in no view: " + reason);
    stead_view none{};
    none.self = index(facts_.self);
    for (const auto& slot : slots_) {
        slot->on_view(none);
    }
    const bool differs = reason.find("config") != std::string::npos;
    if (differs) {
        publish_own("config.same", "down");
    }
    failover_.set_cluster(false);
    // To be without a view is one of the cases that a mirror's own protocol decides about: who goes on, and who waits.
    if (differs || facts_.config.mode != config::Module::Mode::mirror) {
        hold_back({.reason = reason, .expected = false}, rules_block_);
    }
    evaluate();
}

void ModuleHost::on_resource(const bus::Resource& resource, bool removed) {
    const std::uint32_t node = index(resource.owner);
    if (resource.owner != facts_.self) { // own ones come at once, by publish_as
        const std::lock_guard lock(shared_);
        if (removed) {
            resources_.erase({node, resource.name});
        } else {
            resources_[{node, resource.name}] = resource.value;
        }
    }
    for (const auto& slot : slots_) {
        slot->on_resource(node, resource.name,
                          removed ? std::nullopt : std::optional<std::string_view>{resource.value});
    }
    if (resource.owner != facts_.self) {
        failover_.put_remote(resource.name, removed ? std::nullopt : std::optional<std::string_view>{resource.value});
        evaluate();
    }
}

void ModuleHost::on_peer_state(NodeId node, std::uint32_t code) {
    if (node == facts_.self || index(node) >= facts_.cluster.nodes.size()) {
        return;
    }
    {
        const std::lock_guard lock(shared_);
        const auto [known, added] = peer_states_.try_emplace(node, code);
        if (!added && known->second == code) {
            return;
        }
        known->second = code;
    }
    const std::string state =
        std::string{automaton::name(decode_state(code))} + " " + std::string{automaton::name(decode_qualifier(code))};
    write(log::Level::event, "host", "Remote state " + state + " (" + facts_.cluster.nodes[index(node)] + ")");
    tell_remote_state(state);
}

/// A mirror has one peer; a farm's are told by their own state.local.
void ModuleHost::tell_remote_state(const std::string& state) {
    if (mirror_) {
        publish_own("state.remote", state);
    }
}

void ModuleHost::publish_own(const std::string& name, const std::string& value) {
    if (const auto done = publish_as(nullptr, name, value); !done) {
        write(log::Level::warning, "host", "resource " + name + ": " + done.error().text());
    }
}

} // namespace stead::host
