// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "farm_model.hpp"

#include <stead/shim/packet.h>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>

struct stead_decision;

/// verdict.h in user space: the same decision on plain memory, for NFQUEUE and for tests.
namespace stead::shim {

enum class Action : std::uint8_t { pass, drop, accept, forward, answer };

struct Verdict {
    Action action{};
    bool here{};      ///< with forward: taken here as well
    NodeSet targets;  ///< with forward
    stead_packet packet{};
};

struct SocketState {
    bool connection{}; ///< established, request or time-wait; not a listener
};

/// Threading: one thread at a time, except write_lease.
class UserEngine {
public:
    using SocketLookup = std::function<SocketState(const stead_packet&, const stead_vip&)>;
    using Clock = std::function<std::uint64_t()>;

    UserEngine(FarmModel model, SocketLookup sockets, Clock clock);
    ~UserEngine();
    UserEngine(const UserEngine&) = delete;
    UserEngine& operator=(const UserEngine&) = delete;

    [[nodiscard]] Verdict decide(std::span<const std::uint8_t> frame);

    [[nodiscard]] Result<void> set_table(const GroupTable& table);
    [[nodiscard]] Result<void> set_members(std::span<const Member> members);
    void set_own(std::size_t vip, const OwnAddresses& own);
    [[nodiscard]] const stead_farm_config& config() const noexcept { return model_.config; }
    [[nodiscard]] const FarmModel& model() const noexcept { return model_; }
    [[nodiscard]] stead_farm_control& control() noexcept { return *control_; }
    /// Lets the control words live elsewhere (a shared page). Copies what they hold now.
    void use_control(stead_farm_control* elsewhere);
    [[nodiscard]] GroupStats stats(std::uint8_t group) const;
    void count_flows(std::uint8_t group, std::vector<std::uint32_t>& count) const;
    /// The MAC of a member on the VIP's interface, or null.
    [[nodiscard]] const Mac* member_mac(std::size_t vip, NodeId node) const;

    struct Memory; ///< the hooks' view
private:
    FarmModel model_;
    stead_farm_control own_control_{};
    stead_farm_control* control_{&own_control_};
    std::unique_ptr<Memory> memory_;
};

/// Asks the kernel for one connection by sock_diag. Keeps a netlink socket open.
class SocketTable {
public:
    SocketTable();
    ~SocketTable();
    SocketTable(const SocketTable&) = delete;
    SocketTable& operator=(const SocketTable&) = delete;
    [[nodiscard]] SocketState find(const stead_packet& packet, const stead_vip& vip) const;

private:
    int fd_{-1};
};

} // namespace stead::shim
