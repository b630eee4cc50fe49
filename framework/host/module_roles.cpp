// SPDX-License-Identifier: Apache-2.0
// What services of ABI 1.2 ask of the host, and commands whose answers come later.
#include "module_host.hpp"

#include <stead/wire/keys.hpp>

#include <algorithm>

namespace stead::host {

namespace json = boost::json;

void ModuleHost::set_role(const Slot& slot, std::uint32_t state, std::string reason, bool expected) {
    const bool known = state >= STEAD_WAIT && state <= STEAD_SECOND;
    if (!known || facts_.config.mode != config::Module::Mode::mirror || !slot.is_service()) {
        write(log::Level::error, slot.id(),
              "set_role(" + std::to_string(state) + ") in mode " + std::string{facts_.config.mode_name()} +
                  "; allowed: 1 (WAIT) to 4 (SECOND), by a service in mode mirror");
        return;
    }
    write(log::Level::debug, slot.id(), "role " + std::to_string(state) + " " + reason + (expected ? " expected" : ""));
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

// ---- Commands
// --------------------------------------------------------------------------------------------------------

std::optional<Result<json::object>> ModuleHost::do_command(const std::shared_ptr<control::Connection>& from,
                                                           const json::value& id, std::string command,
                                                           const std::vector<std::string>& argv) {
    for (const auto& slot : slots_) {
        std::string text;
        const std::uint64_t token = next_command_token_++;
        switch (slot->command(command, argv, text, token)) {
        case STEAD_COMMAND_DONE: return json::object{{"text", text}};
        case STEAD_COMMAND_NOT_MINE: break;
        case STEAD_COMMAND_PENDING:
            late_answers_.emplace(token, LateAnswer{from, id, slot.get(), std::move(command)});
            return std::nullopt;
        default: return Error{Errc::refused, std::string{slot->id()}, text.empty() ? "refused without a reason" : text};
        }
    }
    return Error{Errc::unsupported, "command '" + command + "'", "no plugin of this module knows it"};
}

void ModuleHost::command_done(const Slot& slot, std::uint64_t token, bool ok, std::string text) {
    constexpr std::size_t text_bytes_max = 65536;
    text.resize(std::min(text.size(), text_bytes_max));
    // Posted even from the strand: it may come from inside on_command.
    post([this, &slot, token, ok, text = std::move(text)] {
        const auto found = late_answers_.find(token);
        if (found == late_answers_.end() || found->second.of != &slot) {
            return; // answered already, or nobody waits any more
        }
        const LateAnswer late = std::move(found->second);
        late_answers_.erase(found);
        Result<json::object> done = json::object{{"text", text}};
        if (!ok) {
            done = Error{Errc::refused, std::string{slot.id()}, text.empty() ? "refused without a reason" : text};
        }
        send_answer(late.to, json::object{{"id", late.id}}, std::move(done));
    });
}

void ModuleHost::refuse_late_answers() {
    for (auto& [token, late] : std::exchange(late_answers_, {})) {
        send_answer(late.to, json::object{{"id", late.id}},
                    Error{Errc::refused, late.command, "the module stopped before it was done"});
    }
}

} // namespace stead::host
