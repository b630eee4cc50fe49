// SPDX-License-Identifier: Apache-2.0
#include "virtual_addresses.hpp"

#include "subnet.hpp"

#include <sys/socket.h>

#include <algorithm>

namespace stead::host {
namespace {

using config::Element;

class Checker {
public:
    Checker(const config::Cluster* cluster, std::span<const net::Interface> interfaces)
        : cluster_(cluster), interfaces_(interfaces) {}

    std::vector<config::Finding> run(const Element& service) {
        watch_lans(service);
        const Element* vip = service.child("vip");
        const Element* list = vip != nullptr ? vip->child("interface_list") : nullptr;
        for (const Element& interface : list != nullptr ? list->children : std::vector<Element>{}) {
            for (const Element& kind : interface.children) {
                for (const Element& address : kind.children) {
                    if (address.name == "virtual_addr") {
                        check(address, interface.attribute("name").value_or(""), kind.attribute("type") == "external");
                    }
                }
            }
        }
        return std::move(findings_);
    }

private:
    void check(const Element& element, std::string_view interface, bool external) {
        const std::string addr{element.attribute("addr").value_or("")};
        if (const auto flaw = config::address_flaw(addr, false); !flaw.empty()) {
            return add(element, false,
                       "'" + addr + "' " + std::string{flaw} + "; allowed: a unicast address of the servers' network");
        }
        if (const std::string node = owner(addr); !node.empty()) {
            return add(element, false,
                       "'" + addr + "' is the address of " + node + " in cluster.xml; allowed: one that no server has");
        }
        const auto wanted = parse_subnet(addr);
        if (!wanted || external) {
            return; // a name is the schema's to refuse; what is external is no address of this node
        }
        bool held = false, watched = false;
        std::string subnets, carriers;
        for (const net::Interface& one : interfaces_) {
            for (const std::string& own : one.addresses) {
                const auto subnet = parse_subnet(own);
                if (one.name == "lo" || !subnet || subnet->single() || (!interface.empty() && one.name != interface)) {
                    continue;
                }
                const std::string shown = subnet->network() + "/" + std::to_string(subnet->prefix);
                if (subnet->family == wanted->family) {
                    subnets.append(subnets.empty() ? "" : ", ").append(shown + " (" + one.name + ")");
                }
                if (subnet->holds(*wanted) && carriers.find(one.name) == std::string::npos) {
                    carriers.append(carriers.empty() ? "" : ", ").append(one.name);
                    watched = watched || carries_lan(one);
                }
                held = held || subnet->holds(*wanted);
                const bool ends = subnet->family == AF_INET && subnet->prefix <= 30;
                if (subnet->holds(*wanted) && ends && (addr == subnet->network() || addr == subnet->last())) {
                    return add(element, false,
                               "'" + addr + "' is the " + (addr == subnet->last() ? "broadcast" : "network") +
                                   " address of " + shown + " on " + one.name + "; allowed: another address of it");
                }
            }
        }
        if (!held) {
            add(element, true,
                "'" + addr + "' is in no subnet of " +
                    (interface.empty() ? "an interface" : "interface " + std::string{interface}) +
                    " of this node, so " +
                    (interface.empty() ? "no interface can carry it" : "clients reach it only by a route") +
                    "; subnets here: " + (subnets.empty() ? "none" : subnets));
        } else if (!lans_.empty() && !watched) {
            add(element, true,
                "'" + addr + "' is on " + carriers +
                    ", and no heartbeat of this farm: a node that loses this network in silence keeps its part; give "
                    "cluster.xml a lan there, and name it in <farm> if it names any");
        }
    }

    /// Those of a farm.
    void watch_lans(const Element& service) {
        if (service.attribute("mode") != "farm" || cluster_ == nullptr) {
            return;
        }
        const Element* farm = service.child("farm");
        std::vector<std::string> named;
        for (const Element& child : farm != nullptr ? farm->children : std::vector<Element>{}) {
            if (child.name == "lan") {
                named.emplace_back(child.attribute("name").value_or(""));
            }
        }
        for (const config::ClusterLan& lan : cluster_->lans) {
            if (named.empty() || std::ranges::find(named, lan.name) != named.end()) {
                lans_.push_back(&lan);
            }
        }
    }

    [[nodiscard]] bool carries_lan(const net::Interface& interface) const {
        return std::ranges::any_of(interface.addresses, [&](const std::string& address) {
            const std::string own = address.substr(0, address.find('/'));
            return std::ranges::any_of(lans_, [&](const config::ClusterLan* lan) {
                return std::ranges::find(lan->addresses, own) != lan->addresses.end() ||
                       std::ranges::find(lan->local_addresses, own) != lan->local_addresses.end();
            });
        });
    }

    [[nodiscard]] std::string owner(const std::string& addr) const {
        for (const config::ClusterLan& lan : cluster_ != nullptr ? cluster_->lans : std::vector<config::ClusterLan>{}) {
            const auto own = std::ranges::find(lan.addresses, addr);
            if (!addr.empty() && own != lan.addresses.end()) {
                return cluster_->nodes[static_cast<std::size_t>(own - lan.addresses.begin())];
            }
        }
        return {};
    }

    void add(const Element& element, bool warning, const std::string& text) {
        findings_.push_back({.warning = warning,
                             .file = "userconfig.xml",
                             .line = element.line,
                             .message = "virtual_addr/@addr: " + text});
    }

    const config::Cluster* cluster_;
    std::span<const net::Interface> interfaces_;
    std::vector<const config::ClusterLan*> lans_; ///< of a farm's heartbeats; of another module: none
    std::vector<config::Finding> findings_;
};

} // namespace

std::vector<config::Finding> virtual_address_findings(const Element& service, const config::Cluster* cluster,
                                                      std::span<const net::Interface> interfaces) {
    return Checker(cluster, interfaces).run(service);
}

} // namespace stead::host
