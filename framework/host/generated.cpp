// SPDX-License-Identifier: Apache-2.0
#include "generated.hpp"

#include "subnet.hpp"

#include <algorithm>
#include <optional>

namespace stead::host {
namespace {

using config::Element;
using Attributes = std::vector<std::pair<std::string, std::string>>;

/// Where a virtual address belongs: the node's own address in the longest subnet that holds it.
struct Home {
    std::string interface, network, own_address;
};

std::optional<Home> home_of(const std::string& address, const std::string& interface,
                            std::span<const net::Interface> interfaces) {
    const auto wanted = parse_subnet(address);
    std::optional<Home> home;
    unsigned longest = 0;
    for (const net::Interface& one : interfaces) {
        if (!interface.empty() && one.name != interface) {
            continue;
        }
        for (const std::string& with_prefix : one.addresses) {
            const auto subnet = parse_subnet(with_prefix);
            if (wanted && subnet && !subnet->single() && subnet->holds(*wanted) &&
                (!home || subnet->prefix > longest)) {
                longest = subnet->prefix;
                home = Home{one.name, subnet->network(), with_prefix.substr(0, with_prefix.find('/'))};
            }
        }
        if (!home && !interface.empty()) {
            home = Home{one.name, one.name, {}}; // no subnet of its own: the link alone
        }
    }
    return home;
}

bool is_on(const Element& element) { return element.attribute("check").value_or("on") == "on"; }

class Generator {
public:
    Generator(config::Module& module, const config::SchemaSet& schemas, std::span<const net::Interface> interfaces)
        : module_(module), interfaces_(interfaces), has_intf_(owned(schemas, "check/intf")),
          has_ip_(owned(schemas, "check/ip")) {}

    std::vector<std::string> run() {
        const Element vip = module_.service.child("vip") != nullptr ? *module_.service.child("vip") : Element{};
        const Element* list = vip.child("interface_list");
        for (const Element& interface : list != nullptr ? list->children : std::vector<Element>{}) {
            const Element* kind = interface.child("virtual_interface");
            if (kind == nullptr) {
                kind = interface.child("real_interface");
            }
            if (interface.name == "interface" && kind != nullptr && kind->attribute("type") != "external") {
                generate(interface, *kind);
            }
        }
        return std::move(problems_);
    }

private:
    static bool owned(const config::SchemaSet& schemas, std::string_view path) {
        return std::ranges::any_of(schemas.owners, [&](const config::SchemaSet::Owner& owner) {
            return std::ranges::any_of(owner.elements, [&](const stead_elem_schema& one) { return one.path == path; });
        });
    }

    void generate(const Element& interface, const Element& kind) {
        const std::string name{interface.attribute("name").value_or("")};
        for (const Element& address : kind.children) {
            const std::string addr{address.attribute("addr").value_or("")};
            if (address.name != "virtual_addr" || addr.empty()) {
                continue;
            }
            if (is_on(address) && has_ip_) {
                add("ip", addr, module_.mode == config::Module::Mode::mirror ? "prim" : "both", address.line,
                    {{"addr", addr}, {"interval", "10000000000"}});
            }
            if (!is_on(interface) || !has_intf_) {
                continue;
            }
            if (const auto home = home_of(addr, name, interfaces_)) {
                Attributes to{{"name", home->interface}};
                if (!home->own_address.empty()) {
                    to.emplace_back("local_addr", home->own_address);
                }
                add("intf", home->network, "pre", interface.line, std::move(to));
            } else {
                problems_.push_back("line " + std::to_string(interface.line) + ": no intf checker for " + addr +
                                    ": no interface" + (name.empty() ? "" : " " + name) +
                                    " has a subnet that holds it");
            }
        }
    }

    void add(const char* tag, const std::string& ident, const char* when, int line, Attributes to) {
        auto& top = module_.service.children;
        auto check = std::ranges::find(top, "check", &Element::name);
        if (check == top.end()) {
            check = top.insert(top.end(), Element{"check", line, {}, {}, {}, {}});
        }
        if (std::ranges::any_of(check->children, [&](const Element& one) {
                return one.name == tag && one.attribute("ident") == ident;
            })) {
            return;
        }
        Element element{tag, line, {{"ident", ident}, {"when", when}}, {}, {}, {}};
        element.children.push_back({"to", line, std::move(to), {}, {}, {}});
        check->children.push_back(std::move(element));
    }

    config::Module& module_;
    std::span<const net::Interface> interfaces_;
    bool has_intf_, has_ip_;
    std::vector<std::string> problems_;
};

} // namespace

std::vector<std::string> generate_checks(config::Module& module, const config::SchemaSet& schemas,
                                         std::span<const net::Interface> interfaces) {
    return Generator(module, schemas, interfaces).run();
}

} // namespace stead::host
