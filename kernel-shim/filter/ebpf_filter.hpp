// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "attachment.hpp"
#include "farm_model.hpp"
#include "tc_watch.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

struct farm_bpf;

namespace stead::shim {

class EbpfFilter final : public PacketFilter {
public:
    EbpfFilter() = default;
    EbpfFilter(const EbpfFilter&) = delete;
    EbpfFilter& operator=(const EbpfFilter&) = delete;
    ~EbpfFilter() override;

    /// Loads the programs, attaches nothing: for tests that run packets through bpf_prog_test_run.
    [[nodiscard]] Result<void> load(const FilterOptions& options);
    [[nodiscard]] Result<void> attach();
    [[nodiscard]] farm_bpf* programs() noexcept { return bpf_; }
    void set_own(std::size_t vip, const OwnAddresses& own);

    [[nodiscard]] Result<void> set_table(const GroupTable& table) override;
    [[nodiscard]] Result<void> set_members(std::span<const Member> members) override;
    [[nodiscard]] Result<void> set_receiver(std::size_t vip, bool receiver) override;
    [[nodiscard]] Result<void> set_draining(bool draining) override;
    void write_lease(std::uint64_t until_boottime_ns) noexcept override;
    [[nodiscard]] int lease_fd() const noexcept override;
    [[nodiscard]] Result<GroupStats> stats(std::uint8_t group) const override;
    [[nodiscard]] Result<std::vector<Held>> held(std::uint8_t group) const override;
    [[nodiscard]] std::string backend_note() const override;
    [[nodiscard]] Audit audit() override;
    [[nodiscard]] Result<void> detach() override;

private:
    [[nodiscard]] Result<void> size_and_load();
    [[nodiscard]] Result<void> fill_port_rules();
    [[nodiscard]] Result<void> map_tables();
    void refresh_own();
    void repair();
    void repair_tc(std::uint32_t ifindex, Direction direction);
    void repair_xdp(std::uint32_t ifindex);
    void take_xdp(std::uint32_t ifindex);
    [[nodiscard]] int program_of(Direction direction) const noexcept;
    [[nodiscard]] bool may_repair();
    void count_flows(std::uint8_t group, std::vector<std::uint32_t>& count) const;
    [[nodiscard]] stead_farm_control& control() const noexcept;

    FilterOptions options_;
    FarmModel model_;
    farm_bpf* bpf_{};
    std::uint8_t* tables_{};               ///< the map's memory: slot * 65536
    stead_bucket_detail* details_{};       ///< likewise
    std::array<std::uint64_t, STEAD_FARM_GROUPS_MAX> flipped_ns_{};
    std::set<std::uint32_t> interfaces_;

    mutable std::mutex attached_; ///< guards what follows, which repair() touches from the watch's thread
    std::map<std::uint32_t, std::string> xdp_; ///< per interface: empty = ours, else why not
    Audit found_;
    std::uint64_t repairs_since_ns_{};
    unsigned repairs_{};
    std::unique_ptr<TcWatch> watch_; ///< last: its thread ends before the rest goes
};

} // namespace stead::shim
