// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/shim/farm_layout.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

struct nft_ctx;

/// What nf_tables does for the NFQUEUE back end, by libnftables: frames to the vMAC become ours, neighbour discovery
/// about a virtual address is user space's alone, nothing leaves that would teach a switch something wrong, and the
/// last gate behind the queue closes by itself when nobody renews it.
namespace stead::shim {

/// Threading: one thread at a time.
class NftGate {
public:
    NftGate(std::uint8_t module_id, const stead_farm_config& config, const stead_farm_control& control);
    ~NftGate();
    NftGate(const NftGate&) = delete;
    NftGate& operator=(const NftGate&) = delete;

    /// Makes the tables, closed, in one transaction; what an earlier process of this module left is replaced.
    [[nodiscard]] Result<void> install();
    /// Writes the rules again: our own addresses changed. The gate keeps what it had.
    [[nodiscard]] Result<void> refresh();
    /// Open until a tick or two before the lease is over (CLOCK_BOOTTIME ns; read anew when the kernel was slow, for
    /// the time that it counts begins with its own work): for all virtual addresses; announcements for those in
    /// `claims` (bit per VIP). A lease that is over closes at once.
    [[nodiscard]] Result<void> renew(const __u64& lease_until_ns, std::uint32_t claims);
    [[nodiscard]] bool open() const noexcept { return open_; } ///< by the last renewal
    [[nodiscard]] bool present();
    /// Packets that met a closed gate since the last install(). Beside the other calls, from any thread: to list a
    /// chain may take longer than a renewal can wait.
    [[nodiscard]] std::uint64_t dropped() const;
    void remove();
    static void remove(std::uint8_t module_id);

private:
    [[nodiscard]] Result<void> run(const std::string& commands, const char* what);
    [[nodiscard]] Result<void> open_for(std::uint64_t left_ms, std::uint32_t claims);
    [[nodiscard]] std::string link_rules() const;
    [[nodiscard]] std::string gate_rules() const;

    std::string table_;
    const stead_farm_config& config_;
    const stead_farm_control& control_;
    nft_ctx* context_{};
    std::string rules_;
    bool open_{};
    std::uint64_t margin_ns_{}; ///< what a renewal may take, as learnt
};

/// The text of an address of the layout; `v6` says which family it is.
[[nodiscard]] std::string address_text(const __be32* address_be, bool& v6);

} // namespace stead::shim
