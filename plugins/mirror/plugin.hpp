// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "child.hpp"
#include "network.hpp"
#include "options.hpp"

#include <stead/mirror/lease.hpp>
#include <stead/plugin.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>

namespace stead::mirror {

/// The mirror in stead-host: starts stead-fs, tells it what the bus knows of the peer, and leads the module's state
/// after
/// the role that the core in stead-fs has decided. The host alone changes states, script by script; this plugin only
/// says where the node belongs, mounts at PREPARE and unmounts at RELEASE.
///
/// Threading: one thread of its own (an io_context) runs everything; callbacks of the host only post. on_lease, on
/// the bus thread, stores into the page that stead-fs reads.
class MirrorPlugin final : public plugin::Service {
public:
    MirrorPlugin(plugin::Host host, plugin::Config config);
    ~MirrorPlugin() override;

    void start() override;
    void stop() override;
    void on_view(const stead_view& view) override;
    void on_resource(std::uint32_t node, std::string_view name, std::optional<std::string_view> value) override;
    void on_message(std::uint32_t from, std::string_view kind, std::uint32_t version, std::string_view body) override;
    void on_transition(const stead_transition& transition) override;
    void on_lease(std::uint64_t until_boottime_ns) noexcept override;
    [[nodiscard]] std::int32_t lease_fd() noexcept override { return lease_.fd(); }
    void on_update(plugin::Config config) override;
    void on_ready(bool ready) override;
    void on_peer_died(std::uint32_t node) override;
    void on_link(std::uint32_t ifindex, bool up) override;
    plugin::Answer on_command(std::string_view verb, std::span<const std::string_view> arguments,
                              std::string& answer) override;

    static void check(plugin::Config config, const plugin::Report& report);
    static void bus_wish(plugin::Config config, stead_bus_wish& wish);
    static void cleanup(plugin::Host host, plugin::Config config);

private:
    static constexpr std::string_view owner_prefix = "mirror.owner.";     ///< + "u999" = "name"
    static constexpr std::string_view setting_prefix = "mirror.setting."; ///< + name of the attribute
    static constexpr std::string_view limits_prefix = "mirror.limits.";   ///< + number of the directory
    enum class Role { none, waiting, second, prim, alone, died }; ///< of the core in stead-fs; none: it does not run
    using Reply = std::function<void(bool ok, const std::string& text)>;

    void post(std::function<void()> work);

    // life.cpp: stead-fs, and the state that follows from its role
    void begin();
    void say_stop();
    void watch_fs();
    void on_fs_message(const boost::json::object& message);
    void on_fs_end(int code, const std::string& how);
    void on_role(const std::string& role, const std::string& reason);
    void lead();
    [[nodiscard]] std::string why_waiting() const;
    void on_fs_done(const boost::json::object& message);
    [[nodiscard]] bool serving() const noexcept { return role_ == Role::prim || role_ == Role::alone; }
    std::int64_t ask(boost::json::object request, Reply reply);
    [[nodiscard]] Settings settings() const;
    void remember_prim(bool prim);
    [[nodiscard]] std::filesystem::path state_folder() const;
    [[nodiscard]] std::filesystem::path prim_marker() const;

    // moments.cpp: the host's moments
    void moment(const stead_transition& transition);
    void prepare(const stead_transition& transition, int probes_left);
    void announce();
    void release(const stead_transition& transition);
    void unmount(const stead_transition& transition, int tries_left);
    void released(const stead_transition& transition);
    void retire(const stead_transition& transition);
    void transition_over();

    // peer.cpp: the other node
    void compare_owner(const std::string& text, const std::string& name);
    void publish_settings();
    void compare_setting(const std::string& name, const std::string& theirs);
    void tell_peer_limits();
    struct Seen {
        std::uint64_t members{}, dead{}, left{};
        std::map<std::uint32_t, std::string> names;
    };
    void view(const Seen& seen);
    void tell_peer(const std::string& how);
    void watch_flow(const std::string& fallen);
    void message(std::uint32_t from, const std::string& kind, const std::string& body);
    void ask_witness(const boost::json::object& message);
    void witness_answer(const std::string& verdict);
    void probe_vip(std::int64_t ticket);
    void consider_swap_back();
    void compare_before_swap();
    [[nodiscard]] std::string flow_lan() const;
    [[nodiscard]] std::string flow_heartbeat() const;
    [[nodiscard]] bool wants_prim() const;

    // schedule.cpp
    void keep_schedule();
    void verify_now();
    void note_sync();
    void consider_start_behind();
    [[nodiscard]] std::filesystem::path sync_time_file() const;

    // commands.cpp
    struct Order {
        std::uint64_t token{};
        std::string verb;
        std::vector<std::string> arguments;
        Instant until;
    };
    void expire_commands();
    void refuse_order(const Order& order);
    void command(std::uint64_t token, const std::string& verb, const std::vector<std::string>& arguments);
    void finish_command(std::uint64_t token, bool ok, const std::string& text);
    void swap(std::uint64_t token, const std::string& by);
    void role_command(std::uint64_t token, const std::string& name);
    void swap_over(bool ok, const std::string& text);
    [[nodiscard]] std::string role_text() const;
    [[nodiscard]] std::string progress() const;
    [[nodiscard]] std::string status_text() const;
    [[nodiscard]] boost::json::object verify_counts() const; ///< of the last comparison
    [[nodiscard]] bool compared() const;                     ///< everything, the last time that it was begun
    [[nodiscard]] bool differs() const;                      ///< what the last comparison found, and was not repaired
    [[nodiscard]] std::string differences() const;
    void publish_status(const boost::json::object& status);
    void publish_figures();
    void publish(const std::string& name, const std::string& value);

    plugin::Host host_;
    MirrorOptions options_;
    LeasePage lease_;
    Network network_;

    boost::asio::io_context io_;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
    std::optional<std::thread> thread_;
    boost::asio::steady_timer announce_timer_, retry_timer_, swap_timer_, witness_timer_, watch_timer_, command_timer_,
        flow_timer_;
    /// Whether the peer gets the role back that it wants: not wanted, or cannot be; both are watched for a while; what
    /// the resync sent is compared; it differed, and somebody has to look.
    enum class SwapBack : std::uint8_t { no, quiet, comparing, refused } swap_back_{};

    std::unique_ptr<Child> child_;
    bool ready_{}, stop_said_{}, fs_ready_{}, stopping_{};
    bool hung_{};             ///< stead-fs was killed for its silence
    unsigned silent_ticks_{}; ///< since it last said something
    Role role_{Role::none};
    std::string reason_;
    std::string caller_; ///< of the role that is new: as the log names it
    bool mounted_{};
    bool swap_wanted_{}; ///< the application is being stopped for a swap
    std::set<std::uint64_t> swap_tokens_;
    std::optional<stead_transition> transition_; ///< waits for stead-fs
    std::int64_t last_id_{};
    std::map<std::int64_t, Reply> replies_;
    std::vector<Order> waiting_commands_; ///< until stead-fs is there

    // The peer
    std::optional<std::uint32_t> peer_;
    std::string peer_name_;
    bool peer_present_{}, excluded_{}, peer_died_{}, peer_left_{};
    std::string peer_word_; ///< what the views say of it: back, silent, died; empty = no view yet
    std::map<std::string, std::string> peer_resources_;
    std::set<std::string> owners_wrong_;                 ///< "u999": another person here
    std::set<std::string> owners_told_;                  ///< warnings, each once
    std::map<std::string, std::string> settings_unlike_; ///< by attribute: both values, as they were told
    std::map<std::string, std::string> heartbeats_;      ///< this node's resources of that name
    std::set<std::string> peer_macs_; ///< it may not have given the addresses up yet, and serves no more all the same
    std::string witness_token_;
    std::int64_t witness_ticket_{};
    std::uint64_t witness_asked_{};
    boost::json::object status_;
    WallMinute looked_at_{}; ///< the schedules were looked at until here
    std::string next_sync_;
    std::int64_t syncs_noted_{}, sync_noted_at_{}; ///< as stead-fs counts them; seconds of the wall clock
    unsigned isolated_ticks_{};
    std::map<std::string, std::string> published_;
};

} // namespace stead::mirror
