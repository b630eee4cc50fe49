// SPDX-License-Identifier: Apache-2.0
// What services of ABI 1.2 ask of the host.
#include "module_host.hpp"

#include <stead/wire/keys.hpp>

namespace stead::host {

void ModuleHost::set_role(const Slot& slot, std::uint32_t state, std::string reason, bool expected) {
    const bool known = state >= STEAD_WAIT && state <= STEAD_SECOND;
    if (!known || !mirror_ || !slot.is_service()) {
        write(log::Level::error, slot.id(),
              "set_role(" + std::to_string(state) +
                  ") is refused; allowed: 1 (WAIT) to 4 (SECOND), by a service of a "
                  "module of mode mirror");
        return;
    }
    post([this, state, reason = std::move(reason), expected] {
        feed(automaton::Role{static_cast<automaton::State>(state), reason, expected});
    });
}

void ModuleHost::perform(const automaton::RoleChoice& effect) {
    choice_ = effect.open;
    for (const auto& slot : slots_) {
        if (slot->is_service()) {
            slot->on_ready(choice_);
        }
    }
}

std::optional<std::string> ModuleHost::node_address(std::string_view lan, std::uint32_t node) {
    const std::uint32_t self = index(facts_.self); // fixed, as the whole of cluster is
    for (const config::ClusterLan& one : facts_.cluster.lans) {
        if ((lan.empty() || one.name == lan) && node < one.addresses.size() && !one.addresses[node].empty() &&
            !one.addresses[self].empty()) {
            const bool behind_nat = node == self && !one.local_addresses[self].empty();
            return behind_nat ? one.local_addresses[self] : one.addresses[node];
        }
    }
    return std::nullopt;
}

std::vector<std::array<std::uint8_t, 32>> ModuleHost::stream_keys(const Slot& slot, std::string_view purpose) {
    const std::string info = facts_.module + "/" + std::string{slot.id()} + "/" + std::string{purpose};
    std::vector<std::array<std::uint8_t, 32>> derived;
    const std::lock_guard lock(shared_);
    for (const std::string& key : facts_.keys) {
        derived.push_back(wire::derive("stead plugin stream v1", key, info));
    }
    return derived;
}

} // namespace stead::host
