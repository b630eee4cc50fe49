// SPDX-License-Identifier: Apache-2.0
#include "generated.hpp"

#include <gmock/gmock.h>

namespace stead::host {
namespace {

using config::Element;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr stead_elem_schema intf_schema[]{{"check/intf", nullptr, 0, 0, nullptr, ""}};
constexpr stead_elem_schema ip_schema[]{{"check/ip", nullptr, 0, 0, nullptr, ""}};

using Attributes = std::vector<std::pair<std::string, std::string>>;

Element make(const char* name, int line, Attributes attributes, std::vector<Element> children = {}) {
    Element element;
    element.name = name;
    element.line = line;
    element.attributes = std::move(attributes);
    element.children = std::move(children);
    return element;
}
Element address(const std::string& addr, const std::string& check = "on") {
    return make("virtual_addr", 8, {{"addr", addr}, {"check", check}});
}

/// A module with one <interface>, and a node with two networks.
class Generated : public ::testing::Test {
protected:
    std::vector<std::string> generate(std::vector<Element> addresses) {
        const Attributes type = type_.empty() ? Attributes{} : Attributes{{"type", type_}};
        Element kind = make(kind_.c_str(), 7, type, std::move(addresses));
        Element interface = make("interface", 6, {{"check", interface_check_}, {"name", name_}}, {std::move(kind)});
        Element list = make("interface_list", 5, {}, {std::move(interface)});
        module_.mode = mode_;
        module_.service.name = "service";
        if (existing_) {
            module_.service.children.push_back(*existing_);
        }
        module_.service.children.push_back(make("vip", 4, {}, {std::move(list)}));
        return generate_checks(module_, schemas_, interfaces_);
    }
    /// "intf 10.42.0.0 pre name=eth0 local_addr=10.42.0.11"
    std::vector<std::string> checks() {
        std::vector<std::string> all;
        const Element* check = module_.service.child("check");
        for (const Element& one : check != nullptr ? check->children : std::vector<Element>{}) {
            std::string text = one.name;
            for (const auto& [key, value] : one.attributes) {
                text += " " + value;
            }
            for (const auto& [key, value] : one.children.empty() ? Element{}.attributes : one.children[0].attributes) {
                text += " " + key + "=" + value;
            }
            all.push_back(text);
        }
        return all;
    }

    config::Module::Mode mode_{config::Module::Mode::farm};
    std::string kind_{"virtual_interface"}, type_{"vmac_directed"}, name_, interface_check_{"on"};
    std::optional<Element> existing_;
    config::SchemaSet schemas_{{{"checkers.intf", intf_schema}, {"checkers.ip", ip_schema}}, {}, {}};
    std::vector<net::Interface> interfaces_{
        {"lo", 1, {}, true, 0, {"127.0.0.1/8"}},
        {"eth0", 2, {}, true, 0, {"10.42.0.11/16", "10.42.0.100/32", "fd42::b/64"}},
        {"eth1", 3, {}, true, 0, {"10.42.7.1/24"}},
    };
    config::Module module_;
};

TEST_F(Generated, AFarm) {
    EXPECT_THAT(generate({address("10.42.0.100"), address("fd42::100")}), IsEmpty());
    EXPECT_THAT(checks(), ElementsAre("ip 10.42.0.100 both addr=10.42.0.100 interval=10000000000",
                                      "intf 10.42.0.0 pre name=eth0 local_addr=10.42.0.11",
                                      "ip fd42::100 both addr=fd42::100 interval=10000000000",
                                      "intf fd42:: pre name=eth0 local_addr=fd42::b"));
}

TEST_F(Generated, AMirrorHasItsAddressWhereItIsPrimary) {
    mode_ = config::Module::Mode::mirror;
    kind_ = "real_interface";
    type_ = "";
    generate({address("10.42.0.100")});
    EXPECT_THAT(checks(), ElementsAre(HasSubstr("ip 10.42.0.100 prim"), HasSubstr("intf 10.42.0.0 pre")));
}

TEST_F(Generated, TheLongestSubnetOrTheNamedInterface) {
    generate({address("10.42.7.100", "off")});
    EXPECT_THAT(checks(), ElementsAre("intf 10.42.7.0 pre name=eth1 local_addr=10.42.7.1"));
    module_ = {};
    name_ = "eth0";
    generate({address("10.42.7.100", "off")});
    EXPECT_THAT(checks(), ElementsAre("intf 10.42.0.0 pre name=eth0 local_addr=10.42.0.11"));
    module_ = {};
    generate({address("192.0.2.9", "off")});
    EXPECT_THAT(checks(), ElementsAre("intf eth0 pre name=eth0")) << "no subnet of the address: the link alone";
}

TEST_F(Generated, SwitchedOffOrElsewhere) {
    interface_check_ = "off";
    generate({address("10.42.0.100", "off")});
    EXPECT_THAT(checks(), IsEmpty());
    interface_check_ = "on";
    type_ = "external";
    generate({address("10.42.0.100")});
    EXPECT_THAT(checks(), IsEmpty()) << "no virtual address here";
}

TEST_F(Generated, OnlyWhereAPluginOwnsTheElement) {
    schemas_.owners.pop_back();
    generate({address("10.42.0.100")});
    EXPECT_THAT(checks(), ElementsAre(HasSubstr("intf 10.42.0.0")));
}

TEST_F(Generated, WhatTheFileSaysWins) {
    existing_ = make("check", 2, {}, {make("ip", 3, {{"ident", "10.42.0.100"}, {"when", "pre"}})});
    generate({address("10.42.0.100")});
    EXPECT_THAT(checks(), ElementsAre("ip 10.42.0.100 pre", HasSubstr("intf 10.42.0.0")));
}

TEST_F(Generated, NoNetworkIsSaid) {
    EXPECT_THAT(generate({address("192.0.2.9")}),
                ElementsAre("line 6: no intf checker for 192.0.2.9: no interface has a subnet that holds it"));
    EXPECT_THAT(checks(), ElementsAre(HasSubstr("ip 192.0.2.9")));
}

} // namespace
} // namespace stead::host
