// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "canary.hpp"
#include "clients.hpp"
#include "network.hpp"
#include "options.hpp"
#include "wish.hpp"

#include <stead/farm/mover.hpp>
#include <stead/filter/packet_filter.hpp>
#include <stead/plugin.hpp>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace stead::farm {

/// Joins the pure core (Mover), the kernel's filter and the network to the host. Strand only, but on_lease.
class FarmPlugin final : public plugin::Service {
public:
    FarmPlugin(plugin::Host host, plugin::Config config);
    ~FarmPlugin() override;

    static void check(plugin::Config config, const plugin::Report& report);
    static void cleanup(plugin::Host host, plugin::Config config);
    static void bus_wish(plugin::Config config, stead_bus_wish& wish);

    void start() override;
    void stop() override;
    void on_timer(std::uint64_t id) override;
    void on_view(const stead_view& view) override;
    void on_resource(std::uint32_t node, std::string_view name, std::optional<std::string_view> value) override;
    void on_message(std::uint32_t from, std::string_view kind, std::uint32_t version, std::string_view body) override;
    void on_link(std::uint32_t ifindex, bool up) override;
    void on_transition(const stead_transition& transition) override;
    void on_lease(std::uint64_t until_boottime_ns) noexcept override;
    [[nodiscard]] std::int32_t lease_fd() noexcept override;
    void on_update(plugin::Config config) override; ///< takes over this node's powers
    plugin::Answer on_command(std::string_view verb, std::span<const std::string_view> arguments,
                              std::string& answer) override;

private:
    enum TimerId : std::uint64_t {
        mover_timer = 1,
        second_timer,
        announce_timer,
        transition_timer,
        slow_start_timer,
        clients_timer,
        cut_timer
    };
    /// scriptcontrol="on": the module's scripts set it to up or down.
    static constexpr std::string_view gate_resource = "farm.gate";
    static constexpr std::string_view heartbeat_prefix = "heartbeat.";
    /// down: the start found somebody else at a virtual address.
    static constexpr std::string_view address_resource = "farm.address";

    struct Pending { ///< a transition that was not answered yet
        stead_transition transition{};
        std::uint64_t began{}, limit{}; ///< limit: answered by then whatever happens
        bool draining{};
        std::uint64_t drain_until{};
    };

    void add_rules();
    void prepare(const stead_transition& transition);
    void release(const stead_transition& transition);
    void poll_transition();
    void poll_prepare();
    [[nodiscard]] bool members_serve() const;
    [[nodiscard]] std::string foreign_owner();
    void refuse_taken(const std::string& foreign);
    void look_whether_free();
    void poll_close();
    void finish(const std::string& error = {});

    void open_gate();
    void close_gate();
    void script_gate(bool up);
    void apply_weight();
    void look_for_cut();
    void step_slow_start();
    void reset_connections();
    void pump(); ///< the mover's effects: messages, tables, timer
    void push_tables();
    void push_members();
    void update_receivers();
    void report_shares();
    [[nodiscard]] std::string describe() const; ///< for `state -v`
    void log_once(const std::string& key, const std::string& line);
    void second();
    void audit();
    void watch_flooding();
    void listen_to_clients();
    void tell_clients(bool all); ///< proto="arp": that we receive for them now; all: also those that should know
    void announce_after_death();
    [[nodiscard]] std::vector<std::vector<std::uint16_t>> held() const;
    [[nodiscard]] std::size_t connections() const;
    [[nodiscard]] Instant now() const { return from_ns(static_cast<std::int64_t>(host_.now())); }
    [[nodiscard]] NodeId self() const { return NodeId(host_.self()); }
    void complain(const Result<void>& result, const char* what);
    [[nodiscard]] std::optional<std::uint32_t> member_named(std::string_view name) const;
    [[nodiscard]] std::string member_names() const;
    plugin::Answer set_power(std::uint32_t node, const PowerWish& wish, std::string& answer);

    plugin::Host host_;
    FarmOptions options_;
    Network network_;
    Mover mover_;
    Wish wish_;
    std::unique_ptr<shim::PacketFilter> filter_;    ///< none for external balancing; const after construction
    std::unique_ptr<FloodingWatch> flooding_;       ///< invisible delivery only
    std::vector<std::unique_ptr<Clients>> clients_; ///< per interface, with proto="arp" only
    std::map<std::uint32_t, std::string> names_;
    std::map<std::pair<std::uint32_t, std::string>, std::string> member_resources_;
    std::optional<Pending> pending_;
    std::atomic<std::uint64_t> lease_until_{};
    std::atomic<bool> lease_lapsed_{true}; ///< since the previous view
    bool running_{}, released_{true};
    bool scripts_may_open_{}; ///< from PREPARE to RELEASE
    /// By node and LAN: does it hear anybody there? Only where there are several LANs.
    std::map<std::pair<std::uint32_t, std::string>, bool> hears_;
    bool cut_off_{};   ///< from the network of a virtual address
    bool taken_{};     ///< farm.address is down
    int free_looks_{}; ///< in a row
    std::uint32_t weight_{};
    std::vector<std::string> published_;
    std::map<std::string, std::string> share_lines_; ///< last line of each kind and group
    std::string audit_;
    NodeSet missing_; ///< members that went without a word and are not back
};

} // namespace stead::farm
