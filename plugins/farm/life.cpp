// SPDX-License-Identifier: Apache-2.0
// The moments of the module's life, and the weight that follows from them.
#include "plugin.hpp"

#include <algorithm>

namespace stead::farm {
namespace {
constexpr std::uint64_t ns_per_ms = 1'000'000;
constexpr std::uint64_t settle_limit = 2000 * ns_per_ms; ///< OPEN and CLOSE do not wait longer for a move
constexpr std::uint64_t probe_limit = 3000 * ns_per_ms;  ///< a member's MAC may still be on its way to us, and
                                                         ///< the kernel may still look for duplicates (about 2 s)
constexpr std::uint64_t rule_limit = 2000 * ns_per_ms;   ///< a rule that acts does so at once
} // namespace

// ---- The gate: weight 0 or not --------------------------------------------------------------------------------------

void FarmPlugin::apply_weight() {
    // A node whose network is down must not own buckets, even when it is heard on another LAN.
    const bool serves = wish_.is_open() && network_.links_up() && !cut_off_;
    const std::uint32_t wanted = serves ? mover_.weight(wish_.percent(), wish_.powers()) : 0u;
    if (wanted != weight_ || wanted == 0) {
        weight_ = wanted;
        host_.set_weight(wanted);
    }
}

/// The link is up, but whoever is heard elsewhere is not heard on the network of a virtual address: a switch's port or
/// an uplink failed in silence. Of two nodes neither can tell by that alone which of them clients still reach: there
/// the one whose interface hears nothing at all.
void FarmPlugin::look_for_cut() {
    const NodeSet members = mover_.view().members;
    bool cut = false;
    for (const auto& [key, up] : hears_) {
        if (key.first != host_.self() || up || members.size() < 2) {
            continue;
        }
        const bool others_hear = std::ranges::any_of(hears_, [&](const auto& one) {
            return one.first.first != host_.self() && one.first.second == key.second && one.second &&
                   members.contains(NodeId(one.first.first));
        });
        const auto address = host_.node_address(key.second, host_.self());
        cut = cut || (address && network_.carries(*address, !others_hear));
    }
    if (cut == cut_off_) {
        return;
    }
    cut_off_ = cut;
    cut ? host_.warning("no other member is heard on the network of a virtual address, but on another one: this node "
                        "gives its part away until they are")
        : host_.event("members are heard on the network of the virtual addresses");
    apply_weight();
}

void FarmPlugin::open_gate() {
    if (filter_) {
        complain(filter_->set_draining(false), "draining");
    }
    wish_.open(options_.slowstart > nanoseconds{0});
    if (wish_.percent() < 100) {
        host_.set_timer_in(slow_start_timer, options_.slowstart / Wish::slow_steps);
    }
    apply_weight();
}

void FarmPlugin::close_gate() {
    wish_.close();
    apply_weight();
}

/// scriptcontrol="on": connections that are there stay when the script closes the gate; only RELEASE ends them.
void FarmPlugin::script_gate(bool up) {
    if (up == wish_.is_open() || (up && !scripts_may_open_)) {
        return;
    }
    host_.event(up ? "the traffic gate was opened by a script" : "the traffic gate was closed by a script");
    up ? open_gate() : close_gate();
}

void FarmPlugin::step_slow_start() {
    if (!wish_.is_open()) {
        return;
    }
    const bool more = wish_.step();
    apply_weight();
    if (more) {
        host_.set_timer_in(slow_start_timer, options_.slowstart / Wish::slow_steps);
    }
}

// ---- The host's moments ---------------------------------------------------------------------------------------------

void FarmPlugin::on_transition(const stead_transition& transition) {
    pending_.reset(); // the host overruled an older one
    const std::uint64_t at = host_.now();
    switch (transition.moment) {
    case STEAD_MOMENT_PREPARE: prepare(transition); break;
    case STEAD_MOMENT_OPEN:
        if (!options_.script_control) {
            open_gate();
        }
        pending_ = Pending{transition, at, at + settle_limit};
        break;
    case STEAD_MOMENT_CLOSE:
        if (!options_.script_control || transition.at_once != 0) {
            close_gate();
        } else {
            host_.transition_done(transition.token); // stop_both closes it
            return;
        }
        pending_ = Pending{transition, at, at + settle_limit};
        break;
    case STEAD_MOMENT_RELEASE: release(transition); return;
    default: host_.transition_done(transition.token); return;
    }
    poll_transition();
}

void FarmPlugin::poll_transition() {
    if (!pending_ || !running_) {
        return;
    }
    switch (pending_->transition.moment) {
    case STEAD_MOMENT_PREPARE: poll_prepare(); break;
    case STEAD_MOMENT_OPEN: {
        const bool in_force = mover_.arrived() && mover_.view().weights[host_.self()] == weight_;
        if (in_force || host_.now() >= pending_->limit) {
            finish();
        }
        break;
    }
    case STEAD_MOMENT_CLOSE: poll_close(); break;
    default: break;
    }
    if (pending_) {
        const bool probing = pending_->transition.moment == STEAD_MOMENT_PREPARE;
        host_.set_timer_in(transition_timer, probing ? milliseconds{300} : milliseconds{50});
    }
}

void FarmPlugin::prepare(const stead_transition& transition) {
    if (options_.script_control) {
        host_.publish(gate_resource, "down");
        scripts_may_open_ = true;
    }
    pending_ = Pending{transition, host_.now(), host_.now() + probe_limit};
}

/// This node's own weight is 0 while it starts.
bool FarmPlugin::members_serve() const {
    return std::ranges::any_of(mover_.view().weights, [](auto weight) { return weight != 0; });
}

std::string FarmPlugin::foreign_owner() {
    std::vector<shim::Mac> friends;
    for (const auto& [key, value] : member_resources_) {
        if (const auto mac = parse_mac(std::string_view{value}.substr(0, 17))) {
            friends.push_back(*mac);
        }
    }
    return network_.foreign_owner(friends, members_serve());
}

void FarmPlugin::poll_prepare() {
    const std::string foreign = foreign_owner();
    const bool last = host_.now() >= pending_->limit;
    if (!foreign.empty() && !last) {
        return;
    }
    if (!foreign.empty()) {
        if (!members_serve()) {
            refuse_taken(foreign);
            return;
        }
        host_.warning(foreign + "; the other members serve all the same, and so will this node");
    }
    if (!last && network_.own_addresses_tentative()) {
        return; // the network came up a moment ago
    }
    released_ = false;
    const std::string error = network_.add_addresses();
    finish(error);
}

/// The plugin's rule takes the module back to WAIT, until the address is free. Where rules do not act, the start fails.
void FarmPlugin::refuse_taken(const std::string& foreign) {
    if (taken_) {
        finish(foreign);
        return;
    }
    taken_ = true;
    free_looks_ = 0;
    pending_->limit = host_.now() + rule_limit;
    host_.warning(foreign + "; this node waits until it is free");
    host_.publish(address_resource, "down");
    host_.explain(address_resource, foreign);
}

/// Once a second while the address is taken. A busy owner may miss one question.
void FarmPlugin::look_whether_free() {
    if (!taken_ || pending_) {
        return;
    }
    free_looks_ = members_serve() || foreign_owner().empty() ? free_looks_ + 1 : 0;
    if (free_looks_ == 2) {
        taken_ = false;
        host_.event("the virtual addresses are free, or served by members of this farm");
        host_.publish(address_resource, "up");
    }
}

void FarmPlugin::poll_close() {
    auto& close = *pending_;
    const std::uint64_t at = host_.now();
    if (close.transition.at_once != 0 || mover_.view().members.empty()) {
        finish();
        return;
    }
    const bool moved = mover_.arrived() && mover_.view().weights[host_.self()] == 0;
    if (!close.draining && (moved || at >= close.limit)) {
        if (!moved) {
            host_.warning("this node's part was not handed over within 2 s; stopping without");
        }
        close.draining = true;
        close.drain_until = at + static_cast<std::uint64_t>(options_.drain.count());
        if (filter_) {
            complain(filter_->set_draining(true), "draining");
        }
    }
    if (!close.draining) {
        return;
    }
    const auto left = connections();
    // Where a rule took the node out, waiting for the balancer would only keep a broken application from its restart.
    const bool balancer_sends = options_.external && close.transition.automatic == 0;
    if (at >= close.drain_until && (left > 0 || balancer_sends)) {
        host_.event(left > 0 ? "drain time is over, connections still open: " + std::to_string(left)
                             : "drain time is over: the balancer has had it to notice ready.txt");
        finish();
    } else if (left == 0 && !balancer_sends) {
        host_.event("drained: no connection left");
        finish();
    }
}

void FarmPlugin::finish(const std::string& error) {
    const auto token = pending_->transition.token;
    pending_.reset();
    host_.cancel_timer(transition_timer);
    if (error.empty()) {
        host_.transition_done(token);
    } else {
        host_.transition_failed(token, error);
    }
}

/// tcpreset="on": whoever is still connected learns at once that this node no longer serves the address.
void FarmPlugin::reset_connections() {
    std::size_t count = 0;
    for (const auto& place : network_.places()) {
        const auto done = net::reset_connections(place.vip.address);
        if (!done) {
            host_.warning("tcpreset: " + done.error().text());
            return;
        }
        count += done.value();
    }
    if (count > 0) {
        host_.event("connections reset: " + std::to_string(count));
    }
}

void FarmPlugin::release(const stead_transition& transition) {
    scripts_may_open_ = false;
    close_gate();
    if (options_.tcp_reset) {
        reset_connections();
    }
    network_.remove_addresses();
    for (std::size_t i = 0; i < network_.places().size(); ++i) {
        complain(filter_->set_receiver(i, false), "receiver");
    }
    released_ = true;
    host_.transition_done(transition.token);
}

} // namespace stead::farm
