// SPDX-License-Identifier: Apache-2.0
#include "ebpf_filter.hpp"

#include "farm.skel.h"

#include <stead/base/assert.hpp>
#include <stead/base/time.hpp>

#include <bpf/bpf.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <algorithm>
#include <cstdio>
#include <string>
#include <cstring>

namespace stead::shim {

namespace {

constexpr std::size_t table_bytes = STEAD_FARM_BUCKETS;
constexpr std::size_t detail_bytes = STEAD_FARM_BUCKETS * sizeof(stead_bucket_detail);
/// A packet that read the old generation's index is through long before; within it we wait for the kernel's word.
constexpr std::uint64_t reuse_after_ns = 50'000'000;

template <class T>
void store(T& word, T value) {
    std::atomic_ref<T>{word}.store(value, std::memory_order_release);
}

std::uint64_t now_ns() { return static_cast<std::uint64_t>(to_ns(BootClock::now())); }

/// The end of what libbpf said while it loaded: a refusal's reason, verifier log included.
thread_local std::string said;
constexpr std::size_t said_max = 1500;

int listen_to(libbpf_print_level level, const char* format, va_list arguments) {
    if (level == LIBBPF_WARN) {
        std::string text(65536, '\0');
        const int size = std::vsnprintf(text.data(), text.size(), format, arguments);
        said.append(text, 0, std::min<std::size_t>(size > 0 ? static_cast<std::size_t>(size) : 0, text.size() - 1));
        said.erase(0, said.size() > said_max ? said.size() - said_max : 0);
    }
    return 0;
}

int silent(libbpf_print_level, const char*, va_list) { return 0; }

Error kernel_error(const std::string& what, int error_number) {
    Error error = os_error("farm filter", what, error_number);
    if (error_number == EINVAL || error_number == ENOSYS || error_number == EOPNOTSUPP || error_number == EACCES ||
        error_number == EPERM) {
        error.code = Errc::unsupported;
    }
    return error;
}

} // namespace

EbpfFilter::~EbpfFilter() {
    watch_.reset();
    if (tables_ != nullptr) {
        ::munmap(tables_, 2 * table_bytes * model_.config.group_count);
    }
    if (details_ != nullptr) {
        ::munmap(details_, 2 * detail_bytes * model_.config.group_count);
    }
    if (bpf_ != nullptr) {
        store(control().lease_until_boottime_ns, __u64{0}); // what stays attached stays closed
        farm_bpf::destroy(bpf_);
    }
}

stead_farm_control& EbpfFilter::control() const noexcept { return bpf_->data_control->control; }

Result<void> EbpfFilter::load(const FilterOptions& options) {
    options_ = options;
    auto model = FarmModel::make(options);
    if (!model) {
        return model.error();
    }
    model_ = std::move(*model);
    said.clear();
    libbpf_set_print(listen_to);
    bpf_ = farm_bpf::open();
    if (bpf_ == nullptr) {
        return kernel_error("cannot read the eBPF object", errno);
    }
    if (auto done = size_and_load(); !done) {
        return done;
    }
    if (auto done = fill_port_rules(); !done) {
        return done;
    }
    return map_tables();
}

Result<void> EbpfFilter::size_and_load() {
    std::memcpy(const_cast<stead_farm_config*>(&bpf_->rodata->config), &model_.config, sizeof(model_.config));
    control().version = STEAD_FARM_LAYOUT_VERSION;
    control().module_id = options_.module_id;
    const std::uint32_t slots = 2u * model_.config.group_count;
    bpf_map__set_max_entries(bpf_->maps.port_rules, 2u * model_.config.vip_count);
    bpf_map__set_max_entries(bpf_->maps.tables, slots);
    bpf_map__set_max_entries(bpf_->maps.details, slots);
    bpf_map__set_max_entries(bpf_->maps.members, STEAD_FARM_NODES_MAX * model_.config.vip_count);
    if (const int done = farm_bpf::load(bpf_); done != 0) {
        return kernel_error("the kernel refused the eBPF programs; libbpf ends with: " + said, -done);
    }
    return {};
}

Result<void> EbpfFilter::fill_port_rules() {
    for (std::uint32_t key = 0; key < model_.port_rules.size(); ++key) {
        const int fd = bpf_map__fd(bpf_->maps.port_rules);
        if (bpf_map_update_elem(fd, &key, model_.port_rules[key].data(), BPF_ANY) != 0) {
            return kernel_error("cannot write the rules", errno);
        }
    }
    return {};
}

Result<void> EbpfFilter::map_tables() {
    const std::size_t slots = 2u * model_.config.group_count;
    void* tables = ::mmap(nullptr, slots * table_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                          bpf_map__fd(bpf_->maps.tables), 0);
    if (tables == MAP_FAILED) {
        return kernel_error("cannot map the tables", errno);
    }
    tables_ = static_cast<std::uint8_t*>(tables);
    std::memset(tables_, STEAD_BUCKET_NONE, slots * table_bytes);
    void* details = ::mmap(nullptr, slots * detail_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                           bpf_map__fd(bpf_->maps.details), 0);
    if (details == MAP_FAILED) {
        return kernel_error("cannot map the details", errno);
    }
    details_ = static_cast<stead_bucket_detail*>(details);
    return {};
}

void EbpfFilter::set_own(std::size_t vip, const OwnAddresses& own) {
    auto& slot = control().own[vip];
    if (std::memcmp(slot.mac, own.mac.data(), 6) != 0) {
        std::memcpy(slot.mac, own.mac.data(), 6);
    }
    slot.address4_be = own.address4_be;
    std::memcpy(slot.address6_be, own.address6_be.data(), 16);
}

void EbpfFilter::refresh_own() {
    for (std::size_t v = 0; v < options_.vips.size(); ++v) {
        set_own(v, own_addresses(options_.vips[v].ifindex, model_.config));
    }
}

Result<void> EbpfFilter::set_table(const GroupTable& table) {
    auto encoded = EncodedTable::make(table, model_.config.group_count);
    if (!encoded) {
        return encoded.error();
    }
    stead_farm_control& words = control();
    const std::uint32_t word = words.group_word[table.group];
    const std::uint32_t step = static_cast<std::uint32_t>(table.step) << 8;
    std::uint32_t slot = 2u * table.group + (word & 1);
    const bool same = words.live[table.group][word & 1] == table.live.bits() &&
                      std::memcmp(tables_ + slot * table_bytes, encoded->entries.data(), table_bytes) == 0 &&
                      std::memcmp(details_ + slot * STEAD_FARM_BUCKETS, encoded->details.data(), detail_bytes) == 0;
    if (same) {
        store(words.group_word[table.group], (word & 1) | step); // most steps change nothing else
        return {};
    }
    if (now_ns() - flipped_ns_[table.group] < reuse_after_ns) {
        (void)::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0); // a grace period: nobody reads the old one
    }
    const std::uint32_t generation = (word & 1) ^ 1;
    slot = 2u * table.group + generation;
    std::memcpy(details_ + slot * STEAD_FARM_BUCKETS, encoded->details.data(), detail_bytes);
    std::memcpy(tables_ + slot * table_bytes, encoded->entries.data(), table_bytes);
    words.live[table.group][generation] = table.live.bits();
    store(words.group_word[table.group], generation | step);
    flipped_ns_[table.group] = now_ns();
    return {};
}

Result<void> EbpfFilter::set_receiver(std::size_t vip, bool receiver) {
    if (vip >= options_.vips.size()) {
        return Error{Errc::out_of_range, "farm filter", "virtual address " + std::to_string(vip) + "; there are " +
                                                            std::to_string(options_.vips.size())};
    }
    const auto bit = static_cast<std::uint16_t>(1u << vip);
    const std::uint16_t bits = control().receiver_bits;
    store(control().receiver_bits, static_cast<__u16>(receiver ? bits | bit : bits & ~bit));
    return {};
}

Result<void> EbpfFilter::set_draining(bool draining) {
    store(control().draining, static_cast<__u8>(draining ? 1 : 0));
    return {};
}

void EbpfFilter::write_lease(std::uint64_t until_boottime_ns) noexcept {
    store(control().lease_until_boottime_ns, static_cast<__u64>(until_boottime_ns));
}

int EbpfFilter::lease_fd() const noexcept { return bpf_map__fd(bpf_->maps.data_control); }

Result<std::unique_ptr<PacketFilter>> open_ebpf(const FilterOptions& options) {
    auto filter = std::make_unique<EbpfFilter>();
    if (auto done = filter->load(options); !done) {
        return done.error();
    }
    if (auto done = filter->attach(); !done) {
        return done.error();
    }
    return std::unique_ptr<PacketFilter>{std::move(filter)};
}

Result<void> remove_leftovers(std::uint8_t module_id, std::span<const std::uint32_t> ifindexes) {
    libbpf_set_print(silent);
    for (const std::uint32_t ifindex : ifindexes) {
        detach_xdp(ifindex, module_id);
        detach_tc(ifindex, Direction::ingress, module_id);
        detach_tc(ifindex, Direction::egress, module_id);
    }
    remove_nfqueue_leftovers(module_id);
    return {};
}

} // namespace stead::shim
