// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "farm_model.hpp"

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
    [[nodiscard]] std::string backend_note() const override { return note_; }
    [[nodiscard]] std::string audit() override;
    [[nodiscard]] Result<void> detach() override;

private:
    [[nodiscard]] Result<void> size_and_load();
    [[nodiscard]] Result<void> fill_port_rules();
    [[nodiscard]] Result<void> map_tables();
    void refresh_own();
    void count_flows(std::uint8_t group, std::vector<std::uint32_t>& count) const;
    [[nodiscard]] stead_farm_control& control() const noexcept;

    FilterOptions options_;
    FarmModel model_;
    farm_bpf* bpf_{};
    std::uint8_t* tables_{};               ///< the map's memory: slot * 65536
    stead_bucket_detail* details_{};       ///< likewise
    std::array<std::uint64_t, STEAD_FARM_GROUPS_MAX> flipped_ns_{};
    std::set<std::uint32_t> interfaces_;
    std::set<std::uint32_t> xdp_interfaces_;
    std::string note_;
};

} // namespace stead::shim
