// SPDX-License-Identifier: Apache-2.0
#include "attachment.hpp"

#include <stead/shim/farm_layout.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace stead::shim {

namespace {

constexpr std::uint32_t attach_type_tcx_ingress = 46; // newer than Debian 12's headers
constexpr std::uint32_t attach_type_tcx_egress = 47;

bpf_tc_hook hook_of(std::uint32_t ifindex, Direction direction) {
    bpf_tc_hook hook{};
    hook.sz = sizeof(hook);
    hook.ifindex = static_cast<int>(ifindex);
    hook.attach_point = direction == Direction::ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
    return hook;
}

bpf_tc_opts options_of(std::uint8_t module_id) {
    bpf_tc_opts options{};
    options.sz = sizeof(options);
    options.handle = 1;
    options.priority = tc_priority_base + module_id;
    return options;
}

std::string program_name(std::uint32_t id) {
    const int fd = bpf_prog_get_fd_by_id(id);
    if (fd < 0) {
        return "program " + std::to_string(id);
    }
    bpf_prog_info info{};
    std::uint32_t size = sizeof(info);
    const int failed = bpf_obj_get_info_by_fd(fd, &info, &size);
    ::close(fd);
    return failed != 0 ? "program " + std::to_string(id) : std::string{info.name};
}

/// Module id out of the control words of one of our programs, 0 when it is not one of ours.
std::uint8_t module_of_program(std::uint32_t id) {
    const int fd = bpf_prog_get_fd_by_id(id);
    if (fd < 0) {
        return 0;
    }
    bpf_prog_info info{};
    std::uint32_t size = sizeof(info);
    std::vector<std::uint32_t> maps(32);
    info.nr_map_ids = static_cast<std::uint32_t>(maps.size());
    info.map_ids = reinterpret_cast<std::uint64_t>(maps.data());
    const int failed = bpf_obj_get_info_by_fd(fd, &info, &size);
    ::close(fd);
    std::uint8_t module = 0;
    if (failed == 0 && std::strcmp(info.name, "stead_xdp") == 0) {
        for (std::uint32_t i = 0; i < info.nr_map_ids && i < maps.size() && module == 0; ++i) {
            const int map = bpf_map_get_fd_by_id(maps[i]);
            bpf_map_info about{};
            std::uint32_t about_size = sizeof(about);
            if (map >= 0 && bpf_obj_get_info_by_fd(map, &about, &about_size) == 0 &&
                std::strcmp(about.name, ".data.control") == 0 && about.value_size == sizeof(stead_farm_control)) {
                stead_farm_control control{};
                const std::uint32_t key = 0;
                if (bpf_map_lookup_elem(map, &key, &control) == 0) {
                    module = control.module_id;
                }
            }
            if (map >= 0) {
                ::close(map);
            }
        }
    }
    return module;
}

} // namespace

std::string interface_name(std::uint32_t ifindex) {
    char name[IF_NAMESIZE]{};
    return ::if_indextoname(ifindex, name) != nullptr ? std::string{name} : "interface " + std::to_string(ifindex);
}

std::uint32_t program_id(int program_fd) {
    bpf_prog_info info{};
    std::uint32_t size = sizeof(info);
    return bpf_obj_get_info_by_fd(program_fd, &info, &size) == 0 ? info.id : 0;
}

Result<void> attach_tc(std::uint32_t ifindex, Direction direction, std::uint8_t module_id, int program_fd) {
    bpf_tc_hook hook = hook_of(ifindex, direction);
    if (const int made = bpf_tc_hook_create(&hook); made != 0 && made != -EEXIST) {
        return os_error(interface_name(ifindex), "cannot make the clsact queue", -made);
    }
    bpf_tc_opts options = options_of(module_id);
    options.prog_fd = program_fd;
    options.flags = BPF_TC_F_REPLACE;
    if (const int done = bpf_tc_attach(&hook, &options); done != 0) {
        return os_error(interface_name(ifindex), "cannot attach the filter to tc", -done);
    }
    return {};
}

void detach_tc(std::uint32_t ifindex, Direction direction, std::uint8_t module_id) {
    const bpf_tc_hook hook = hook_of(ifindex, direction);
    const bpf_tc_opts options = options_of(module_id);
    (void)bpf_tc_detach(&hook, &options);
}

std::uint32_t query_tc(std::uint32_t ifindex, Direction direction, std::uint8_t module_id) {
    const bpf_tc_hook hook = hook_of(ifindex, direction);
    bpf_tc_opts options = options_of(module_id);
    return bpf_tc_query(&hook, &options) == 0 ? options.prog_id : 0;
}

std::string foreign_tcx(std::uint32_t ifindex) {
    for (const std::uint32_t type : {attach_type_tcx_ingress, attach_type_tcx_egress}) {
        bpf_attr attr{};
        std::uint32_t ids[64]{};
        attr.query.target_fd = ifindex;
        attr.query.attach_type = type;
        attr.query.prog_ids = reinterpret_cast<std::uint64_t>(ids);
        attr.query.prog_cnt = 64;
        if (::syscall(SYS_bpf, BPF_PROG_QUERY, &attr, sizeof(attr)) == 0 && attr.query.prog_cnt > 0) {
            return program_name(ids[0]);
        }
    }
    return {};
}

XdpAttachment attach_xdp(std::uint32_t ifindex, std::uint8_t module_id, int program_fd) {
    const std::uint32_t holder = query_xdp(ifindex);
    std::uint32_t flags = XDP_FLAGS_DRV_MODE;
    if (holder != 0) {
        const std::uint8_t module = module_of_program(holder);
        if (module != module_id) {
            return {false, module == 0 ? "slot taken by '" + program_name(holder) + "'"
                                       : "slot held by module " + std::to_string(module)};
        }
    } else {
        flags |= XDP_FLAGS_UPDATE_IF_NOEXIST;
    }
    if (const int done = bpf_xdp_attach(static_cast<int>(ifindex), program_fd, flags, nullptr); done != 0) {
        return {false, "driver: " + std::string{std::strerror(-done)}};
    }
    return {true, {}};
}

void detach_xdp(std::uint32_t ifindex, std::uint8_t module_id) {
    const std::uint32_t holder = query_xdp(ifindex);
    if (holder != 0 && module_of_program(holder) == module_id) {
        (void)bpf_xdp_detach(static_cast<int>(ifindex), XDP_FLAGS_DRV_MODE, nullptr);
    }
}

std::uint32_t query_xdp(std::uint32_t ifindex) {
    std::uint32_t id = 0;
    return bpf_xdp_query_id(static_cast<int>(ifindex), 0, &id) == 0 ? id : 0;
}

} // namespace stead::shim
