// SPDX-License-Identifier: Apache-2.0
#include "xt_rules.hpp"

#include "attachment.hpp"
#include "nft_gate.hpp"

#include <fcntl.h>
#include <linux/netfilter/xt_NFQUEUE.h>
#include <netinet/in.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

extern char** environ;

namespace stead::shim {

namespace {

/// Runs one program, quietly, and waits. The programs' own lock wait is bounded.
bool run(const std::vector<std::string>& words) {
    std::vector<char*> argv;
    for (const std::string& word : words) {
        argv.push_back(const_cast<char*>(word.c_str()));
    }
    argv.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    for (int fd = 0; fd < 3; ++fd) {
        posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
    }
    pid_t child{};
    const int failed = ::posix_spawnp(&child, argv[0], &files, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    if (failed != 0) {
        return false;
    }
    int status{};
    while (::waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            return false;
        }
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool raw(bool v6, std::vector<std::string> words) {
    std::vector<std::string> all{v6 ? "ip6tables-legacy" : "iptables-legacy", "-w", "5", "-t", "raw"};
    all.insert(all.end(), words.begin(), words.end());
    return run(all);
}

std::string chain_name(std::uint8_t module_id) { return "STEAD_M" + std::to_string(module_id); }

bool has_raw_table(bool v6) {
    std::ifstream names{v6 ? "/proc/net/ip6_tables_names" : "/proc/net/ip_tables_names"};
    for (std::string name; names >> name;) {
        if (name == "raw") {
            return true;
        }
    }
    return false;
}

struct V4 {
    using Info = ipt_getinfo;
    using Get = ipt_get_entries;
    using Entry = ipt_entry;
    static constexpr int family = AF_INET, level = IPPROTO_IP, info = IPT_SO_GET_INFO, entries = IPT_SO_GET_ENTRIES;
};
struct V6 {
    using Info = ip6t_getinfo;
    using Get = ip6t_get_entries;
    using Entry = ip6t_entry;
    static constexpr int family = AF_INET6, level = IPPROTO_IPV6, info = IP6T_SO_GET_INFO,
                         entries = IP6T_SO_GET_ENTRIES;
};

template <class Entry>
const xt_entry_target* target_of(const Entry& entry) {
    return reinterpret_cast<const xt_entry_target*>(reinterpret_cast<const char*>(&entry) + entry.target_offset);
}

template <class Entry>
bool feeds(const Entry& entry, std::uint16_t queue) {
    const xt_entry_target* target = target_of(entry);
    std::uint16_t number{}; // the first field of every revision
    std::memcpy(&number, target->data, sizeof(number));
    return std::strcmp(target->u.user.name, "NFQUEUE") == 0 && number == queue;
}

/// How many rules feed the queue; 0 when PREROUTING does not lead to the first of them.
template <class F>
unsigned rules_that_feed(std::uint16_t queue) {
    const int fd = ::socket(F::family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    if (fd < 0) {
        return 0;
    }
    typename F::Info info{};
    std::strcpy(info.name, "raw");
    socklen_t size = sizeof(info);
    std::vector<std::uint64_t> memory;
    bool read = ::getsockopt(fd, F::level, F::info, &info, &size) == 0;
    if (read) {
        memory.resize((sizeof(typename F::Get) + info.size) / 8 + 1);
        auto* get = reinterpret_cast<typename F::Get*>(memory.data());
        std::strcpy(get->name, "raw");
        get->size = info.size;
        size = static_cast<socklen_t>(sizeof(*get) + info.size);
        read = ::getsockopt(fd, F::level, F::entries, get, &size) == 0;
    }
    ::close(fd);
    if (!read) {
        return 0;
    }
    const char* table = reinterpret_cast<const char*>(memory.data()) + offsetof(typename F::Get, entrytable);
    const auto at = [&](std::uint32_t offset) -> const typename F::Entry& {
        return *reinterpret_cast<const typename F::Entry*>(table + offset);
    };
    unsigned found = 0;
    bool led_to = false;
    for (std::uint32_t offset = 0; offset < info.size && at(offset).next_offset != 0;
         offset += at(offset).next_offset) {
        found += feeds(at(offset), queue) ? 1 : 0;
        const xt_entry_target* target = target_of(at(offset));
        if (offset < info.hook_entry[NF_INET_PRE_ROUTING] || offset > info.underflow[NF_INET_PRE_ROUTING] ||
            target->u.user.name[0] != '\0') {
            continue;
        }
        int verdict{}; // of a standard target: an offset when not negative
        std::memcpy(&verdict, target->data, sizeof(verdict));
        led_to = led_to || (verdict >= 0 && static_cast<std::uint32_t>(verdict) < info.size &&
                            feeds(at(static_cast<std::uint32_t>(verdict)), queue));
    }
    return led_to ? found : 0;
}

} // namespace

Result<void> add_queue_rules(const stead_farm_config& config, std::uint8_t module_id) {
    remove_queue_rules(module_id);
    const std::string chain = chain_name(module_id);
    bool made[2]{};
    for (int v = 0; v < config.vip_count; ++v) {
        const stead_vip& vip = config.vips[v];
        bool v6 = false;
        const std::string address = address_text(vip.address_be, v6);
        const std::string tool = v6 ? "ip6tables-legacy" : "iptables-legacy";
        if (!made[v6] && !(raw(v6, {"-N", chain}))) {
            return Error{Errc::unsupported, tool,
                         "cannot make the chain " + chain + " in the raw table; are " + tool +
                             " and the raw table there? apt-get install iptables"};
        }
        made[v6] = true;
        if (!raw(v6, {"-A", chain, "-i", interface_name(vip.ifindex), "-d", address, "-j", "NFQUEUE", "--queue-num",
                      std::to_string(module_id)})) {
            return Error{Errc::unsupported, tool,
                         "cannot add the NFQUEUE rule of " + address + " to " + chain +
                             "; is xt_NFQUEUE in this kernel?"};
        }
    }
    for (const bool v6 : {false, true}) {
        if (made[v6] && !raw(v6, {"-A", "PREROUTING", "-j", chain})) {
            return Error{Errc::io, "iptables-legacy", "cannot lead PREROUTING to " + chain};
        }
    }
    return {};
}

void remove_queue_rules(std::uint8_t module_id) {
    const std::string chain = chain_name(module_id);
    for (const bool v6 : {false, true}) {
        if (!has_raw_table(v6)) {
            continue; // asking would load it
        }
        for (int i = 0; i < 8 && raw(v6, {"-D", "PREROUTING", "-j", chain}); ++i) {
        }
        (void)raw(v6, {"-F", chain});
        (void)raw(v6, {"-X", chain});
    }
}

bool queue_rules_present(const stead_farm_config& config, std::uint8_t module_id) {
    unsigned wanted[2]{};
    for (int v = 0; v < config.vip_count; ++v) {
        bool v6 = false;
        (void)address_text(config.vips[v].address_be, v6);
        ++wanted[v6];
    }
    return (wanted[0] == 0 || rules_that_feed<V4>(module_id) == wanted[0]) &&
           (wanted[1] == 0 || rules_that_feed<V6>(module_id) == wanted[1]);
}

} // namespace stead::shim
