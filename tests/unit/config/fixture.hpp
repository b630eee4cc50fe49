// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/config/config.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stead::config::test {

/// Plugins of the tests: a small farm and a checker, whose names the loader has never heard of.
inline SchemaSet schemas() {
    static constexpr stead_attr_schema lan[] = {
        {"name", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0, "a LAN"}};
    static constexpr stead_attr_schema farm[] = {
        {"pulse", STEAD_TYPE_DURATION, 0, nullptr, nullptr, "ms", 1'000'000, 10'000'000'000, "period"},
        {"mlost_count", STEAD_TYPE_INTEGER, STEAD_ATTR_IGNORED, nullptr, nullptr, nullptr, 0, 0,
         "all are watched alike"},
        {"winonly", STEAD_TYPE_STRING, STEAD_ATTR_WINDOWS, nullptr, nullptr, nullptr, 0, 0, "x"}};
    static constexpr stead_attr_schema iface[] = {{"type", STEAD_TYPE_CHOICE, 0, "vmac_directed",
                                                   "vmac_directed|vmac_invisible|external", nullptr, 0, 0, "delivery"}};
    static constexpr stead_attr_schema addr[] = {
        {"addr", STEAD_TYPE_ADDRESS, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0, "the address"},
        {"where", STEAD_TYPE_CHOICE, 0, "alias", "alias", nullptr, 0, 0, "kind"},
        {"check", STEAD_TYPE_BOOLEAN, 0, "on", nullptr, nullptr, 0, 0, "watch"}};
    static constexpr stead_attr_schema name[] = {
        {"name", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0, "name"}};
    static constexpr stead_attr_schema host[] = {
        {"name", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0, "node"},
        {"power", STEAD_TYPE_INTEGER, STEAD_ATTR_DYNAMIC, "1", nullptr, nullptr, 0, 1000, "weight"}};
    static constexpr stead_attr_schema rule[] = {
        {"virtual_addr", STEAD_TYPE_STRING, 0, "*", nullptr, nullptr, 0, 0, "address"},
        {"port", STEAD_TYPE_STRING, 0, "*", nullptr, nullptr, 0, 0, "port"},
        {"proto", STEAD_TYPE_CHOICE, 0, "tcp", "tcp|udp|arp", nullptr, 0, 0, "protocol"},
        {"filter", STEAD_TYPE_CHOICE, 0, "on_addr", "on_addr|on_port|on_ipid", nullptr, 0, 0, "key"}};
    static constexpr auto many = STEAD_ELEM_REPEATABLE;
    static constexpr stead_elem_schema elements[] = {
        {"farm", "farm", STEAD_ELEM_REQUIRED, 3, farm, "the farm"},
        {"farm/lan", "farm", many | STEAD_ELEM_REQUIRED, 1, lan, "a LAN"},
        {"vip/interface_list/interface/virtual_interface", "farm", 0, 1, iface, "how packets arrive"},
        {"vip/interface_list/interface/virtual_interface/virtual_addr", "farm", many, 3, addr, "an address"},
        {"vip/loadbalancing_list", "farm", 0, 0, nullptr, "groups"},
        {"vip/loadbalancing_list/group", "farm", many, 1, name, "a group"},
        {"vip/loadbalancing_list/group/cluster", "farm", 0, 0, nullptr, "weights"},
        {"vip/loadbalancing_list/group/cluster/host", "farm", many, 2, host, "a node"},
        {"vip/loadbalancing_list/group/rule", "farm", many, 4, rule, "a rule"}};
    SchemaSet set;
    set.owners = {{"host", host_schema()}, {"farm", elements}};
    set.classic_elements = *read_classic_elements(STEAD_CLASSIC_ELEMENTS);
    for (const char* checker : {"check", "errd", "tcp"}) { // as in a release whose checkers are still to come
        set.classic_elements.emplace(checker);
    }
    set.plugins_folder = "/opt/lib/stead/plugins";
    return set;
}

template <class T>
std::vector<std::string> texts(const Checked<T>& checked) {
    std::vector<std::string> out;
    for (const auto& finding : checked.findings) {
        out.push_back((finding.warning ? "W " : "E ") + finding.text());
    }
    return out;
}

/// A farm service round `inside`; everything is on line 1 unless `inside` holds line ends.
inline std::string farm_file(const std::string& inside, const std::string& macros = "") {
    return "<safe>" + macros + "<service mode=\"farm\"><farm><lan name=\"default\"/></farm>" + inside +
           "</service></safe>";
}

inline Checked<Module> module(const std::string& xml, const Cluster* cluster = nullptr) {
    return parse_module(xml, "u.xml", schemas(), {cluster, {}});
}

} // namespace stead::config::test
