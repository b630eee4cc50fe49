// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <stead/farm/rendezvous.hpp>
#include <stead/net/net.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace stead::farm {
namespace {

constexpr std::size_t groups_max = 16;
constexpr std::size_t vips_max = 16;

nanoseconds duration_or(const plugin::Config& element, std::string_view name, nanoseconds otherwise) {
    return element.attribute(name) ? element.duration(name) : otherwise;
}

std::string text_or(const plugin::Config& element, std::string_view name, std::string_view otherwise) {
    return std::string{element.attribute(name).value_or(otherwise)};
}

shim::Mac default_vmac(const shim::Ip& ip) {
    return {0x5a, 0xfe, ip[12], ip[13], ip[14], ip[15]}; // v4 mapped or v6: the last four bytes either way
}

void read_virtual_interface(const plugin::Config& interface, const plugin::Config& element, FarmOptions& options,
                            const Finding& finding) {
    const std::string type = text_or(element, "type", "vmac_directed");
    const auto own_mac = element.attribute("addr");
    std::optional<shim::Mac> vmac = own_mac ? parse_mac(*own_mac) : std::nullopt;
    if (vmac && (((*vmac)[0] & 1) != 0 || *vmac == shim::Mac{})) {
        finding(element.line(), false,
                "virtual_interface/@addr: '" + std::string{*own_mac} + "' is " +
                    (*vmac == shim::Mac{} ? "nobody's" : "a multicast") +
                    " address; allowed: unicast, such as 5A:FE:C0:00:02:32");
    }
    if (type == "vmac_invisible" && interface.attribute("arpreroute").value_or("off") == "on") {
        finding(interface.line(), false,
                "interface/@arpreroute: 'on' does not go with type=\"vmac_invisible\", whose "
                "address never moves; remove it");
    }
    options.external = options.external || type == "external";
    const auto addresses = element.children("virtual_addr");
    if (addresses.empty() && type != "external") {
        finding(element.line(), false, "virtual_interface: no virtual_addr; add <virtual_addr addr=\"…\"/>");
    }
    for (const auto& item : addresses) {
        FarmOptions::Vip vip;
        vip.interface = text_or(interface, "name", "");
        vip.address = text_or(item, "addr", "");
        vip.external = type == "external";
        vip.delivery = type == "vmac_invisible" ? shim::Delivery::invisible : shim::Delivery::directed;
        vip.announce_interval = duration_or(interface, "arpinterval", seconds{60});
        const auto ip = parse_address(vip.address);
        if (!ip) {
            finding(item.line(), false, "virtual_addr/@addr: '" + vip.address + "' is not an IPv4 or IPv6 address");
            continue;
        }
        if (!vmac) {
            vmac = default_vmac(*ip); // one virtual MAC per interface, from its first address
        }
        vip.vmac = *vmac;
        const bool twice = std::any_of(options.vips.begin(), options.vips.end(),
                                       [&](const auto& other) { return other.address == vip.address; });
        if (twice) {
            finding(item.line(), false, "virtual_addr/@addr: '" + vip.address + "' is given twice");
        }
        options.vips.push_back(std::move(vip));
    }
}

/// The first rule that matches a packet wins.
bool covers(const FarmOptions::Rule& earlier, const FarmOptions::Rule& later) {
    return !earlier.arp && !later.arp && earlier.protocol == later.protocol &&
           (!earlier.address || earlier.address == later.address) && (earlier.port == 0 || earlier.port == later.port);
}

void warn_if_covered(const plugin::Config& element, const FarmOptions& options, const FarmOptions::Group& group,
                     const FarmOptions::Rule& rule, const Finding& finding) {
    const auto hides = [&](const FarmOptions::Group& other) {
        return std::any_of(other.rules.begin(), other.rules.end(),
                           [&](const auto& each) { return covers(each, rule); });
    };
    const bool in_other = std::any_of(options.groups.begin(), options.groups.end(), hides);
    if (in_other || hides(group)) {
        finding(element.line(), true,
                "rule: an earlier rule matches all that this one does, so it is never reached; "
                "put it first, or remove it");
    }
}

void read_rule(const plugin::Config& element, const FarmOptions& options, FarmOptions::Group& group,
               const Finding& finding) {
    FarmOptions::Rule rule;
    const std::string address = text_or(element, "virtual_addr", "*");
    if (address != "*") {
        const bool bracketed = address.size() > 2 && address.front() == '[' && address.back() == ']';
        const auto ip = parse_address(bracketed ? address.substr(1, address.size() - 2) : address);
        const auto known = std::find_if(options.vips.begin(), options.vips.end(), [&](const auto& vip) {
            return ip && parse_address(vip.address) == ip; // however it is written
        });
        if (known == options.vips.end()) {
            finding(element.line(), false,
                    "rule/@virtual_addr: '" + address +
                        "' is no virtual_addr of this module; allowed: one of them, or *");
        } else {
            rule.address = known->address;
        }
    }
    const std::string port = text_or(element, "port", "*");
    if (port != "*") {
        const auto parsed = std::from_chars(port.data(), port.data() + port.size(), rule.port);
        if (parsed.ec != std::errc{} || parsed.ptr != port.data() + port.size() || rule.port == 0) {
            finding(element.line(), false, "rule/@port: '" + port + "' is not a port; allowed: 1..65535, or *");
        }
    }
    const std::string proto = text_or(element, "proto", "tcp");
    const std::string key = text_or(element, "filter", "on_addr");
    const std::string track = text_or(element, "track", "socket");
    rule.arp = proto == "arp";
    rule.protocol = proto == "udp" ? IPPROTO_UDP : IPPROTO_TCP;
    rule.key = key == "on_port" ? shim::Key::port : key == "on_ipid" ? shim::Key::ip_id : shim::Key::address;
    rule.track = track == "flow" ? shim::Track::flow : track == "none" ? shim::Track::none : shim::Track::socket;
    const bool directed = std::all_of(options.vips.begin(), options.vips.end(), [](const auto& vip) {
        return vip.delivery == shim::Delivery::directed && !vip.external;
    });
    if (rule.arp && (rule.key != shim::Key::address || !directed)) {
        finding(element.line(), false, "rule/@proto: 'arp' needs filter=\"on_addr\" and type=\"vmac_directed\"");
    }
    if (rule.key == shim::Key::ip_id && proto != "udp") {
        finding(element.line(), false, "rule/@filter: 'on_ipid' is for proto=\"udp\" only, not '" + proto + "'");
    }
    warn_if_covered(element, options, group, rule, finding);
    group.rules.push_back(std::move(rule));
}

/// A group's share is the resource farm.<group>; these are others.
bool is_taken(std::string_view name) {
    return name == "gate" || name == "filter" || name == "flooding" || name.starts_with("mac.") ||
           name.starts_with("vmac.");
}

FarmOptions::Group read_group(const plugin::Config& element, const FarmOptions& options, const Finding& finding) {
    FarmOptions::Group group;
    group.name = text_or(element, "name", "");
    if (is_taken(group.name)) {
        finding(element.line(), false,
                "group/@name: 'farm." + group.name + "' is another resource of a farm; take another name");
    }
    if (const auto cluster = element.child("cluster")) {
        for (const auto& host : cluster->children("host")) {
            const std::string name = text_or(host, "name", "");
            const auto power = static_cast<std::uint32_t>(host.attribute("power") ? host.integer("power") : 1);
            if (!group.powers.emplace(name, power).second) {
                finding(host.line(), false, "host/@name: '" + name + "' is given twice in group '" + group.name + "'");
            }
        }
        const bool all_zero =
            std::all_of(group.powers.begin(), group.powers.end(), [](const auto& entry) { return entry.second == 0; });
        if (all_zero && !group.powers.empty()) {
            finding(cluster->line(), true, "group '" + group.name + "': every power is 0, so nobody serves it");
        }
    }
    for (const auto& rule : element.children("rule")) {
        read_rule(rule, options, group, finding);
    }
    if (group.rules.empty()) {
        finding(element.line(), true, "group '" + group.name + "' has no rule: it takes no traffic");
    }
    return group;
}

void read_farm(const plugin::Config& farm, FarmOptions& options, const Finding& finding) {
    const auto backend = farm.attribute("backend").value_or("auto");
    options.backend = backend == "ebpf"      ? shim::Backend::ebpf
                      : backend == "nfqueue" ? shim::Backend::nfqueue
                                             : shim::Backend::automatic;
    const auto profile = farm.attribute("profile").value_or("default");
    options.period = profile == "fast" ? milliseconds{5} : profile == "safe" ? milliseconds{500} : milliseconds{50};
    if (farm.attribute("pulse")) {
        options.period = farm.duration("pulse");
        if (options.period < milliseconds{10}) {
            options.period = milliseconds{10};
            finding(farm.line(), true,
                    "farm: pulse is shorter than 10ms, 10ms is used; profile=\"fast\" beats every 5ms");
        }
        if (farm.attribute("profile")) {
            finding(farm.line(), true, "farm: pulse is written, so profile is not used");
        }
    }
    options.partition = farm.attribute("partition").value_or("serve");
    options.witness = farm.attribute("witness").value_or("");
    if (options.partition == "witness" && options.witness.empty()) {
        finding(farm.line(), false,
                "farm/@witness: missing; partition=\"witness\" needs a node of cluster.xml that runs stead, but not "
                "this module");
    }
    if (options.partition != "witness" && !options.witness.empty()) {
        finding(farm.line(), true,
                "farm/@witness: '" + options.witness + "' is asked nothing with partition=\"" + options.partition +
                    "\"");
    }
}

} // namespace

std::optional<shim::Ip> parse_address(const std::string& text) {
    shim::Ip ip{};
    if (inet_pton(AF_INET6, text.c_str(), ip.data()) == 1) {
        return ip;
    }
    ip[10] = ip[11] = 0xff;
    if (inet_pton(AF_INET, text.c_str(), ip.data() + 12) == 1) {
        return ip;
    }
    return std::nullopt;
}

std::optional<shim::Mac> parse_mac(std::string_view text) {
    shim::Mac mac{};
    if (text.size() != 17) {
        return std::nullopt;
    }
    for (std::size_t i = 0; i < mac.size(); ++i) {
        const char* at = text.data() + 3 * i;
        const auto parsed = std::from_chars(at, at + 2, mac[i], 16);
        if (parsed.ec != std::errc{} || parsed.ptr != at + 2 || (i < 5 && at[2] != ':' && at[2] != '-')) {
            return std::nullopt;
        }
    }
    return mac;
}

FarmOptions read_options(const plugin::Config& service, const Finding& finding) {
    FarmOptions options;
    if (const auto farm = service.child("farm")) {
        read_farm(*farm, options, finding);
    }
    const auto vip = service.child("vip");
    if (!vip) {
        return options;
    }
    options.movecap = duration_or(*vip, "movecap", nanoseconds{0});
    options.slowstart = duration_or(*vip, "slowstart", nanoseconds{0});
    options.script_control = vip->attribute("scriptcontrol").value_or("off") == "on";
    options.tcp_reset = vip->attribute("tcpreset").value_or("on") == "on";
    if (const auto list = vip->child("interface_list")) {
        for (const auto& interface : list->children("interface")) {
            for (const auto& element : interface.children("virtual_interface")) {
                read_virtual_interface(interface, element, options, finding);
            }
        }
    }
    options.drain = duration_or(*vip, "drain", options.external ? seconds{10} : seconds{5});
    if (options.vips.size() > vips_max) {
        finding(vip->line(), false, "vip: " + std::to_string(options.vips.size()) + " virtual addresses; allowed: 16");
    }
    const bool all_external = std::ranges::all_of(options.vips, &FarmOptions::Vip::external);
    if (const auto list = vip->child("loadbalancing_list")) {
        if (options.external && all_external) {
            finding(list->line(), true,
                    "loadbalancing_list has no effect with type=\"external\": the balancer in front "
                    "decides the shares");
        }
        for (const auto& element : list->children("group")) {
            auto group = read_group(element, options, finding);
            const bool twice = std::any_of(options.groups.begin(), options.groups.end(),
                                           [&](const auto& other) { return other.name == group.name; });
            if (twice) {
                finding(element.line(), false, "group/@name: '" + group.name + "' is given twice");
            }
            options.groups.push_back(std::move(group));
        }
        if (options.groups.size() > groups_max) {
            finding(list->line(), false,
                    "loadbalancing_list: " + std::to_string(options.groups.size()) +
                        " groups; allowed: 16; give rules of equal powers one group");
        }
    }
    const bool balanced = std::ranges::any_of(options.groups, [](const auto& group) { return !group.rules.empty(); });
    if (!all_external && !balanced) {
        finding(vip->line(), true,
                "vip: no <rule> in a <loadbalancing_list>: all packets to the virtual address are dropped, but ping; "
                "what is served needs a <rule>, such as <rule port=\"80\" proto=\"tcp\"/>");
    }
    return options;
}

std::vector<std::uint32_t> FarmOptions::powers(const std::string& node) const {
    std::vector<std::uint32_t> result;
    for (const auto& group : groups) {
        result.push_back(group.power_of(node));
    }
    return result;
}

bool FarmOptions::has_arp_rule() const {
    return std::any_of(groups.begin(), groups.end(), [](const auto& group) {
        return std::any_of(group.rules.begin(), group.rules.end(), [](const auto& rule) { return rule.arp; });
    });
}

std::uint64_t FarmOptions::digest(const std::array<std::uint64_t, 2>& seed) const {
    std::string text;
    for (const auto& vip : vips) {
        text += "v" + vip.address +
                (vip.external                               ? "e"
                 : vip.delivery == shim::Delivery::directed ? "d"
                                                            : "i") +
                net::to_text(vip.vmac) + "\n";
    }
    for (const auto& group : groups) {
        text += "g" + group.name + "\n";
        for (const auto& rule : group.rules) {
            text += "r" + rule.address.value_or("*") + " " + std::to_string(rule.arp) + " " +
                    std::to_string(rule.protocol) + " " + std::to_string(rule.port) + " " +
                    std::to_string(static_cast<int>(rule.key)) + "\n";
        }
    }
    if (partition != "serve") { // who does not know of it could serve beside it
        text += "p" + partition + " " + witness + "\n";
    }
    const std::uint64_t digest = sip_hash(seed, text);
    return digest == 0 ? 1 : digest; // 0 would mean "no requirement"
}

} // namespace stead::farm
