// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "registry.hpp"

#include <stead/base/log.hpp>
#include <stead/base/result.hpp>
#include <stead/config/config.hpp>
#include <stead/core/rules.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace stead::host {

class Slot;

/// What a slot needs of its module. Thread-safe: plugins call from any of their threads.
class Services {
public:
    virtual ~Services() = default;
    virtual void plugin_log(const Slot& slot, log::Level level, std::string_view line) = 0;
    virtual void set_timer(Slot& slot, std::uint64_t id, std::uint64_t at_boottime_ns) = 0;
    [[nodiscard]] virtual bool publish(const Slot& slot, std::string_view name,
                                       std::optional<std::string_view> value) = 0;
    [[nodiscard]] virtual std::optional<std::string> read(std::uint32_t node, std::string_view name) = 0;
    virtual void watch(Slot& slot, std::string prefix) = 0;
    [[nodiscard]] virtual bool send(const Slot& slot, std::uint64_t nodes, std::string_view kind, std::uint32_t version,
                                    std::string_view body) = 0;
    virtual void set_weight(std::uint32_t weight) = 0;
    virtual void set_config(const Slot& slot, std::uint64_t digest) = 0;
    virtual void transition_done(Slot& slot, std::uint64_t token, bool ok, std::string reason) = 0;
    virtual void request(const Slot& slot, std::string action, std::string reason) = 0;
    virtual void watch_link(Slot& slot, std::uint32_t ifindex) = 0;
    [[nodiscard]] virtual std::uint64_t run_hook(Slot& slot, std::string name, std::vector<std::string> arguments,
                                                 nanoseconds timeout) = 0;
    [[nodiscard]] virtual std::uint64_t start_hook(Slot& slot, std::string name, std::vector<std::string> arguments,
                                                   nanoseconds timeout, bool keeps_daemons) = 0;
    virtual void cancel_hook(std::uint64_t token) = 0;
    virtual void set_role(const Slot& slot, std::uint32_t state, std::string reason, bool expected) = 0;
    [[nodiscard]] virtual std::optional<std::string> node_address(std::string_view lan, std::uint32_t node) = 0;
    /// 1 or 2, the one to use first; none when the keys are not known (cleanup).
    [[nodiscard]] virtual std::vector<std::array<std::uint8_t, 32>> stream_keys(const Slot& slot,
                                                                                std::string_view purpose) = 0;
    /// Slot::on_witness() follows, on the strand. 0: no such node.
    [[nodiscard]] virtual std::uint64_t ask_witness(Slot& slot, std::string node, std::string key,
                                                    std::uint64_t counter, std::uint32_t holder,
                                                    nanoseconds timeout) = 0;
    virtual void command_done(const Slot& slot, std::uint64_t token, bool ok, std::string text) = 0;
    virtual void explain(std::string_view name, std::string_view reason) = 0;
    // Network
    [[nodiscard]] virtual Result<void> add_address(const std::string& interface, const std::string& address) = 0;
    virtual void remove_address(const std::string& interface, const std::string& address) = 0;
};

/// Fixed for the life of a module host.
struct SlotFacts {
    std::string module, node, mode, var_folder, prefix;
    std::uint32_t module_id{}, self{};
    std::uint64_t seed_high{}, seed_low{};
};

/// One plugin in one module: its instance, and the host table that it sees. Never moves: the plugin keeps the address.
class Slot {
public:
    Slot(const Plugin& plugin, Services& services, const SlotFacts& facts);
    ~Slot(); ///< destroys the instance
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    [[nodiscard]] std::string_view id() const noexcept { return descriptor().id; }
    [[nodiscard]] const stead_plugin_descriptor& descriptor() const noexcept { return plugin_.descriptor; }
    [[nodiscard]] bool is_service() const noexcept { return descriptor().kind == STEAD_KIND_SERVICE; }

    /// Errors: refused, with the plugin's own text.
    [[nodiscard]] Result<void> create(const config::Element& part);
    void start();
    void stop(); ///< idempotent
    [[nodiscard]] Result<void> cleanup(const config::Element& part);
    [[nodiscard]] Result<void> update(const config::Element& part);

    void on_timer(std::uint64_t id);
    void on_view(const stead_view& view);
    void on_resource(std::uint32_t node, std::string_view name, std::optional<std::string_view> value);
    void on_message(std::uint32_t from, std::string_view kind, std::uint32_t version, std::string_view body);
    void on_transition(const stead_transition& transition);
    void on_link(std::uint32_t ifindex, bool up);
    void on_hook_done(std::uint64_t token, std::int32_t exit_code, std::string_view reason);
    /// The classes armed from now on; the plugin hears of changes only.
    void on_armed(std::uint32_t when);
    /// The plugin hears of changes only.
    void on_ready(bool ready);
    void on_peer_died(std::uint32_t node);
    void on_witness(std::uint64_t token, std::uint32_t verdict);
    /// Bus thread.
    void on_lease(std::uint64_t until) noexcept;
    [[nodiscard]] bool is_checker() const noexcept { return descriptor().kind == STEAD_KIND_CHECKER; }
    /// What an administrator turns to silence this checker.
    [[nodiscard]] std::string_view switch_name() const noexcept {
        return descriptor().switch_name != nullptr ? descriptor().switch_name : "checker";
    }
    /// A rule of the plugin's own; in create and on_update only. Errors: refused, with the column.
    [[nodiscard]] Result<void> add_rule(std::string_view text);
    /// As the last create or update left them.
    [[nodiscard]] const std::vector<rules::Rule>& rules() const noexcept { return rules_; }
    [[nodiscard]] bool takes_lease() const noexcept { return descriptor().on_lease != nullptr; }
    /// RETIRE is of ABI 1.2: an older plugin may not know what to answer.
    [[nodiscard]] bool takes_moment(std::uint32_t moment) const noexcept {
        return descriptor().on_transition != nullptr && (moment != STEAD_MOMENT_RETIRE || descriptor().abi_minor >= 2);
    }
    [[nodiscard]] std::int32_t lease_fd();
    /// STEAD_COMMAND_*. `answer` is the plugin's line. Pending: Services::command_done() follows with this token; with
    /// token 0 the plugin must answer at once.
    [[nodiscard]] std::int32_t command(std::string_view verb, const std::vector<std::string>& argv, std::string& answer,
                                       std::uint64_t token = 0);
    /// Of the command that the plugin is being asked now, else 0.
    /// Of the hook that on_hook_done() is telling of; else empty.
    [[nodiscard]] std::string_view hook_reason() const noexcept { return hook_reason_; }
    [[nodiscard]] std::uint64_t command_token() const noexcept { return command_token_; }

    std::vector<std::string> watched;      ///< prefixes; strand
    std::set<std::uint32_t> watched_links; ///< strand

    [[nodiscard]] Services& services() noexcept { return services_; }
    [[nodiscard]] bool running() const noexcept { return running_; }

private:
    [[nodiscard]] stead_host_v1 make_table();
    const Plugin& plugin_;
    Services& services_;
    SlotFacts facts_;
    stead_host_v1 table_{};
    void* self_{};
    std::atomic<bool> running_{false};
    bool takes_rules_{};
    std::vector<rules::Rule> rules_;
    std::optional<std::uint32_t> armed_; ///< as last told
    std::optional<bool> ready_;          ///< as last told
    std::string_view hook_reason_;
    std::atomic<std::uint64_t> command_token_{0};
};

} // namespace stead::host
