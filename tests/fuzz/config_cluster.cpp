// SPDX-License-Identifier: Apache-2.0
// cluster.xml from anywhere: a value or errors, never both nor neither; what was accepted keeps its promises.
#include <stead/base/limits.hpp>
#include <stead/config/config.hpp>

#include <algorithm>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view xml{reinterpret_cast<const char*>(data), size};
    const auto checked = stead::config::parse_cluster(xml, "cluster.xml");
    const bool errors = std::ranges::any_of(checked.findings, [](const auto& f) { return !f.warning; });
    if (checked.ok() == errors) {
        std::abort();
    }
    if (checked.ok()) {
        const auto& c = *checked.value;
        const bool good =
            !c.nodes.empty() && c.nodes.size() <= stead::limits::nodes_max && !c.lans.empty() &&
            c.lans.size() <= stead::limits::lans_max && c.command_lan < c.lans.size() &&
            std::ranges::all_of(c.lans, [&](const auto& lan) {
                return lan.addresses.size() == c.nodes.size() && lan.local_addresses.size() == c.nodes.size();
            });
        if (!good || stead::config::parse_cluster(xml, "again").value->digest != c.digest) {
            std::abort();
        }
    }
    return 0;
}
