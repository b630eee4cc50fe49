// SPDX-License-Identifier: Apache-2.0
// What others see of this node's farm: shares, resources, `state -v`.
#include "plugin.hpp"

#include <array>

namespace stead::farm {

void FarmPlugin::report_shares() {
    if (mover_.plan().step != MoveStep::settled) {
        return;
    }
    for (std::size_t group = 0; group < mover_.groups(); ++group) {
        std::array<std::uint32_t, 256> count{};
        for (const auto owner : mover_.table(group).owner) {
            ++count[owner];
        }
        std::string members;
        for (const auto& [node, name] : names_) {
            if (count[node] > 0) {
                members += " " + name;
            }
        }
        const auto mine = count[host_.self()];
        const std::string suffix = " (group " + options_.groups[group].name + ")";
        if (!members.empty() || mine > 0) { // a node that still waits for its first view has nothing to say
            log_once("membership " + options_.groups[group].name, "farm membership:" + members + suffix);
            log_once("load " + options_.groups[group].name,
                     "farm load: " + std::to_string(mine) + "/" + std::to_string(shim::buckets) + suffix);
        }
        const std::string share = std::to_string((mine * 100 + shim::buckets / 2) / shim::buckets) + "%";
        if (std::exchange(share_lines_["share " + options_.groups[group].name], share) != share) {
            host_.publish("farm." + options_.groups[group].name, share);
        }
    }
}

void FarmPlugin::log_once(const std::string& key, const std::string& line) {
    if (std::exchange(share_lines_[key], line) != line) {
        host_.event(line);
    }
}

std::string FarmPlugin::describe() const {
    const auto& plan = mover_.plan();
    std::string text = filter_ ? "packet filter: " + filter_->backend_note() : "packet filter: none (external)";
    constexpr const char* steps[]{"settled", "accept_forwarded", "forward", "take", "release"};
    text += std::string{"\nmove: "} + steps[static_cast<std::size_t>(plan.step)] +
            (mover_.blank() ? ", waiting for the plan of the others" : "") +
            (mover_.in_transition() ? ", connections still held by earlier owners" : "");
    text += "\nconnections held: " + std::to_string(connections());
    for (std::size_t group = 0; group < mover_.groups(); ++group) {
        const auto& configured = options_.groups[group];
        text += "\ngroup " + configured.name + ": power";
        for (const auto& [node, name] : names_) {
            if (mover_.view().members.contains(NodeId(node))) {
                const auto power = mover_.effective_power(NodeId(node), group);
                text += " " + name + "=" + std::to_string(power / 100);
                text += power % 100 == 0 ? "" : "." + std::to_string(power % 100 + 100).substr(1);
            }
        }
        const auto stats = filter_ ? filter_->stats(static_cast<std::uint8_t>(group))
                                   : Result<shim::GroupStats>{Error{Errc::unsupported, "external", ""}};
        if (stats) {
            const auto& n = stats.value();
            text += "; packets accepted " + std::to_string(n.accepted) + ", rejected " + std::to_string(n.rejected) +
                    ", forwarded " + std::to_string(n.forwarded) + ", in transition " +
                    std::to_string(n.in_transition) + ", lease-closed " + std::to_string(n.lease_closed) +
                    ", duplicates " + std::to_string(n.duplicates) + ", without rule " + std::to_string(n.no_rule) +
                    ", fragments dropped " + std::to_string(n.fragments_dropped);
        }
    }
    return text;
}

} // namespace stead::farm
