// SPDX-License-Identifier: Apache-2.0
#include "farm_model.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>

#include <cstring>
#include <string>

namespace stead::shim {

namespace {

Error refuse(const std::string& what) { return Error{Errc::out_of_range, "farm filter", what}; }

Result<void> check(const FilterOptions& o) {
    if (o.module_id < 1 || o.module_id > 64) {
        return refuse("module id " + std::to_string(o.module_id) + " is not in 1..64");
    }
    if (o.vips.empty() || o.vips.size() > STEAD_FARM_VIPS_MAX) {
        return refuse(std::to_string(o.vips.size()) + " virtual addresses; 1 to 16 are allowed per module");
    }
    if (o.rules.size() > STEAD_FARM_RULES_MAX) {
        return refuse(std::to_string(o.rules.size()) + " rules; at most 64 are allowed per module");
    }
    if (o.groups < 1 || o.groups > STEAD_FARM_GROUPS_MAX) {
        return refuse(std::to_string(o.groups) + " groups; 1 to 16 are allowed");
    }
    if (index(o.self) >= STEAD_FARM_NODES_MAX) {
        return refuse("node number " + std::to_string(index(o.self)) + " is not in 0..63");
    }
    for (const Rule& rule : o.rules) {
        if (rule.protocol != IPPROTO_TCP && rule.protocol != IPPROTO_UDP) {
            return refuse("protocol " + std::to_string(rule.protocol) + " in a rule; tcp (6) and udp (17) are allowed");
        }
        if (rule.group >= o.groups) {
            return refuse("group " + std::to_string(rule.group) + " in a rule; there are " + std::to_string(o.groups));
        }
        if (rule.vip && *rule.vip >= o.vips.size()) {
            return refuse("virtual address " + std::to_string(*rule.vip) + " in a rule; there are " +
                          std::to_string(o.vips.size()));
        }
        if (rule.key == Key::ip_id && rule.protocol != IPPROTO_UDP) {
            return refuse("on_ipid in a tcp rule; it is for udp only: use on_addr or on_port");
        }
    }
    return {};
}

/// Later fragments carry no port: they have a rule when all rules of the protocol agree on group and a key without it.
std::uint8_t fragment_rule(const FarmModel& model, std::size_t vip, std::size_t transport) {
    const auto& rules = model.port_rules[2 * vip + transport];
    std::uint8_t found = 0;
    for (const std::uint8_t number : rules) {
        if (number == 0 || number == found) {
            continue;
        }
        const stead_rule& rule = model.config.rules[number - 1];
        if (rule.key == STEAD_KEY_PORT) {
            return 0;
        }
        if (found != 0) {
            const stead_rule& other = model.config.rules[found - 1];
            if (other.key != rule.key || other.group != rule.group) {
                return 0;
            }
        }
        found = number;
    }
    return found;
}

} // namespace

Result<FarmModel> FarmModel::make(const FilterOptions& o) {
    if (auto ok = check(o); !ok) {
        return ok.error();
    }
    FarmModel model;
    stead_farm_config& c = model.config;
    c.version = STEAD_FARM_LAYOUT_VERSION;
    c.seed[0] = o.seed[0];
    c.seed[1] = o.seed[1];
    c.duplicate_window_ns = static_cast<std::uint64_t>(o.duplicate_window.count());
    c.self = index(o.self);
    c.vip_count = static_cast<std::uint8_t>(o.vips.size());
    c.rule_count = static_cast<std::uint8_t>(o.rules.size());
    c.group_count = o.groups;
    for (std::size_t i = 0; i < o.rules.size(); ++i) {
        c.rules[i] = {static_cast<std::uint8_t>(o.rules[i].key), static_cast<std::uint8_t>(o.rules[i].track),
                      o.rules[i].group, 0};
    }
    model.port_rules.resize(2 * o.vips.size());
    for (std::size_t v = 0; v < o.vips.size(); ++v) {
        std::memcpy(c.vips[v].address_be, o.vips[v].address.data(), 16);
        c.vips[v].ifindex = o.vips[v].ifindex;
        c.vips[v].delivery = static_cast<std::uint8_t>(o.vips[v].delivery);
        c.vips[v].arp_per_client = o.vips[v].arp_per_client ? 1 : 0;
        std::memcpy(c.vips[v].vmac, o.vips[v].vmac.data(), 6);
        for (std::size_t r = o.rules.size(); r-- > 0;) { // the first rule that matches wins: write it last
            const Rule& rule = o.rules[r];
            if (rule.vip && *rule.vip != v) {
                continue;
            }
            auto& ports = model.port_rules[2 * v + (rule.protocol == IPPROTO_UDP ? 1 : 0)];
            if (rule.port == 0) {
                ports.fill(static_cast<std::uint8_t>(r + 1));
            } else {
                ports[htons(rule.port)] = static_cast<std::uint8_t>(r + 1);
            }
        }
        for (std::size_t transport = 0; transport < 2; ++transport) {
            c.vips[v].fragment_rule[transport] = fragment_rule(model, v, transport);
        }
    }
    return model;
}

const stead_rule* FarmModel::rule_of(std::size_t vip, std::uint8_t protocol, std::uint16_t port_be) const {
    const std::uint8_t number = port_rules[2 * vip + (protocol == IPPROTO_UDP ? 1 : 0)][port_be];
    return number == 0 ? nullptr : &config.rules[number - 1];
}

int FarmModel::vip_of(const void* address16) const {
    for (int v = 0; v < config.vip_count; ++v) {
        if (std::memcmp(config.vips[v].address_be, address16, 16) == 0) {
            return v;
        }
    }
    return -1;
}

Result<EncodedTable> EncodedTable::make(const GroupTable& table, std::uint8_t groups) {
    if (table.group >= groups) {
        return refuse("table of group " + std::to_string(table.group) + "; there are " + std::to_string(groups));
    }
    if (table.table.size() != buckets) {
        return refuse("table of " + std::to_string(table.table.size()) + " buckets; it has 65536");
    }
    EncodedTable out;
    out.entries.resize(buckets);
    out.details.resize(buckets);
    for (std::size_t i = 0; i < buckets; ++i) {
        const Bucket& b = table.table[i];
        if ((b.owner >= STEAD_FARM_NODES_MAX && b.owner != no_owner) ||
            (b.next >= STEAD_FARM_NODES_MAX && b.next != no_owner)) {
            return refuse("bucket " + std::to_string(i) + ": owner " + std::to_string(b.owner) + ", next " +
                          std::to_string(b.next) + "; nodes are 0..63");
        }
        const bool settled = b.owner == b.next && b.holders.empty();
        out.entries[i] = static_cast<std::uint8_t>((b.owner == no_owner ? STEAD_BUCKET_NONE : b.owner) |
                                                   (settled ? 0 : STEAD_BUCKET_UNSETTLED));
        if (!settled) {
            out.details[i] = {b.owner, b.next, {}, b.holders.bits()};
        }
    }
    return out;
}

OwnAddresses own_addresses(std::uint32_t ifindex, const stead_farm_config& config) {
    OwnAddresses own;
    char name[IF_NAMESIZE]{};
    ifaddrs* list{};
    if (::if_indextoname(ifindex, name) == nullptr || ::getifaddrs(&list) != 0) {
        return own;
    }
    const auto is_vip = [&](const std::uint32_t* address) {
        for (int v = 0; v < config.vip_count; ++v) {
            if (std::memcmp(config.vips[v].address_be, address, 16) == 0) {
                return true;
            }
        }
        return false;
    };
    for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
        if (i->ifa_addr == nullptr || std::strcmp(i->ifa_name, name) != 0) {
            continue;
        }
        if (i->ifa_addr->sa_family == AF_PACKET) {
            const auto* link = reinterpret_cast<const sockaddr_ll*>(i->ifa_addr);
            std::memcpy(own.mac.data(), link->sll_addr, 6);
        } else if (i->ifa_addr->sa_family == AF_INET) {
            const auto* a = reinterpret_cast<const sockaddr_in*>(i->ifa_addr);
            const auto* mask = reinterpret_cast<const sockaddr_in*>(i->ifa_netmask);
            const std::uint32_t mapped[4] = {0, 0, htonl(0xffff), a->sin_addr.s_addr};
            const bool host_only = mask != nullptr && mask->sin_addr.s_addr == 0xffffffffu; // of another module
            if (!is_vip(mapped) && !host_only && own.address4_be == 0) {
                own.address4_be = a->sin_addr.s_addr;
            }
        } else if (i->ifa_addr->sa_family == AF_INET6) {
            const auto* a = reinterpret_cast<const sockaddr_in6*>(i->ifa_addr);
            std::uint32_t words[4];
            std::memcpy(words, &a->sin6_addr, 16);
            const auto* mask = reinterpret_cast<const sockaddr_in6*>(i->ifa_netmask);
            const bool host_only = mask != nullptr && mask->sin6_addr.s6_addr[15] == 0xff;
            const bool local = IN6_IS_ADDR_LINKLOCAL(&a->sin6_addr);
            if (!is_vip(words) && !host_only && (local || own.address6_be[0] == 0)) {
                std::memcpy(own.address6_be.data(), words, 16);
            }
        }
    }
    ::freeifaddrs(list);
    return own;
}

std::vector<Held> held_from(const std::vector<std::uint32_t>& count) {
    std::vector<Held> held;
    for (std::size_t i = 0; i < count.size(); ++i) {
        if (count[i] != 0) {
            held.push_back({static_cast<std::uint16_t>(i), count[i]});
        }
    }
    return held;
}

Result<std::unique_ptr<PacketFilter>> PacketFilter::open(const FilterOptions& options) {
    if (options.backend == Backend::nfqueue) {
        return open_nfqueue(options, "as configured");
    }
    auto filter = open_ebpf(options);
    // Only what the kernel cannot do is a reason for the other back end; a wrong option or a foreign program is not.
    if (filter || options.backend == Backend::ebpf || filter.error().code != Errc::unsupported) {
        return filter;
    }
    return open_nfqueue(options, filter.error().text());
}

} // namespace stead::shim
