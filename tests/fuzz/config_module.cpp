// SPDX-License-Identifier: Apache-2.0
// userconfig.xml from anywhere. What was accepted is accepted again after its macros were expanded, with one meaning.
#include <stead/config/config.hpp>

#include <algorithm>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace stead::config;
    SchemaSet schemas;
    schemas.owners = {{"host", host_schema()}};
    schemas.classic_elements = {"errd", "check", "farm", "heart", "rfs", "loadbalancing_list", "virtual_interface"};
    schemas.plugins_folder = "/plugins";
    const std::string_view xml{reinterpret_cast<const char*>(data), size};
    const auto checked = parse_module(xml, "userconfig.xml", schemas, {});
    const bool errors = std::ranges::any_of(checked.findings, [](const auto& f) { return !f.warning; });
    if (checked.ok() == errors) {
        std::abort();
    }
    if (checked.ok()) {
        const CTree tree{checked.value->part_for(schemas, "host")};
        if (tree.root()->name.size == 0) {
            std::abort();
        }
        // A macro may stand for text that looks like a macro, which a second reading would expand: skip those.
        if (xml.find('%') == xml.npos && xml.find("<![CDATA[") == xml.npos && xml.find("&#") == xml.npos &&
            xml.find("<failover") == xml.npos) {
            const auto again = parse_module(checked.value->expanded_xml, "safeconf.xml", schemas, {});
            if (!again.ok() || again.value->digest != checked.value->digest) {
                std::abort();
            }
        }
    }
    return 0;
}
