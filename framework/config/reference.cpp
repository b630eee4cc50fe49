// SPDX-License-Identifier: Apache-2.0
#include "schema_index.hpp"
#include "values.hpp"

#include <algorithm>

namespace stead::config {

namespace {

std::string cell(std::string_view text) {
    std::string out;
    for (const char c : text) {
        out += c == '|' ? "\\|" : std::string(1, c == '\n' ? ' ' : c);
    }
    return out;
}

void attribute_row(const stead_attr_schema& schema, std::string& out) {
    std::string value = schema.default_value == nullptr ? "" : "`" + cell(schema.default_value) + "`";
    std::string help = schema.help == nullptr ? "" : cell(schema.help);
    if ((schema.flags & STEAD_ATTR_REQUIRED) != 0) {
        value = "required";
    }
    if ((schema.flags & STEAD_ATTR_WINDOWS) != 0) {
        help = "Windows only, ignored";
    } else if ((schema.flags & STEAD_ATTR_IGNORED) != 0) {
        help = "ignored: " + help;
    }
    out += "| `" + std::string{schema.name} + "` | " + cell(allowed_text(schema)) + " | " + value + " | " +
           ((schema.flags & STEAD_ATTR_DYNAMIC) != 0 ? "yes" : "") + " | " + help + " |\n";
}

void element_section(const stead_elem_schema& schema, const std::string& plugin, std::string& out) {
    out += "### `<" + std::string{schema.path} + ">`\n\n";
    std::vector<std::string> facts;
    facts.push_back(plugin == "host" ? "built in" : "plugin `" + plugin + "`");
    if (schema.modes != nullptr) {
        facts.push_back("mode " + join(split(schema.modes, '|'), ", "));
    }
    if ((schema.flags & STEAD_ELEM_REQUIRED) != 0)
        facts.emplace_back("required");
    if ((schema.flags & STEAD_ELEM_REPEATABLE) != 0)
        facts.emplace_back("may be repeated");
    if ((schema.flags & STEAD_ELEM_DYNAMIC) != 0)
        facts.emplace_back("dynamic");
    if ((schema.flags & STEAD_ELEM_TEXT) != 0)
        facts.emplace_back("holds text");
    out += (schema.help == nullptr ? "" : std::string{schema.help} + " ") + "(" + join(facts, "; ") + ")\n\n";
    if (schema.attr_count == 0) {
        return;
    }
    out += "| attribute | allowed | default | DC | meaning |\n|---|---|---|---|---|\n";
    for (std::uint32_t i = 0; i < schema.attr_count; ++i) {
        attribute_row(schema.attrs[i], out);
    }
    out += "\n";
}

} // namespace

namespace {

// cluster.xml has fixed words (cluster.cpp), so this is text too.
constexpr const char* cluster_section =
    "## cluster.xml\n\n"
    "`/etc/stead/cluster.xml`, the same file on every node; `stead cluster confcheck` checks it, `stead cluster "
    "config` puts "
    "it\nin force. `<cluster>` holds one `<lans>`, that 1 to 8 `<lan>`, and each `<lan>` its `<node>` elements, 1 to "
    "64.\n\n"
    "| attribute | allowed | default | meaning |\n|---|---|---|---|\n"
    "| `lans/@port` | 1 to 65535 | `4800` | UDP of the node group, TCP between nodes |\n"
    "| `lans/@profile` | fast, default, safe | `default` | silence until takeover: 30 ms, 225 ms, 3 s |\n"
    "| `lans/@pulse` | 5ms to 10s (a bare number is in ms) | of the profile | period of heartbeats |\n"
    "| `lans/@slost_count` | 3 to 1000 | `10` | with pulse: takeover = pulse x slost_count, at least 30 ms |\n"
    "| `lans/@mlost_count` | 1 to 10000 | | classic, ignored with a warning |\n"
    "| `lan/@name` | a name | required | named by `<farm><lan name=…>` |\n"
    "| `lan/@command` | on, off | `off` | commands with `-H` use this LAN; on for one at most, else the first |\n"
    "| `node/@name` | a name | required | the same on every LAN |\n"
    "| `node/@addr` | address or name | required | where the others reach it |\n"
    "| `node/@laddr` | address or name | as addr | its own side of a NAT |\n\n";

} // namespace

std::string reference_markdown(const SchemaSet& schemas) {
    std::string out = "# Configuration reference\n\n"
                      "Written by `stead-host --reference` from the schemas that the checks use; do not edit.\n\n";
    out += cluster_section;
    out +=
        "## userconfig.xml\n\n"
        "`/etc/stead/modules/AM/conf/userconfig.xml`; `stead confcheck -m AM` checks it, `stead config -m AM` puts it "
        "in "
        "force.\n`%NAME%` in a value or text is replaced by the macro of that name, else by the environment variable. "
        "Times are a\nnumber with `d h m s ms us`; a bare number has the attribute's own unit. Classic elements whose "
        "plugin is not\ninstalled are inactive, with a warning each; any other element that nobody owns is an error.\n"
        "The top element `<safe>` holds `<macro>` elements and one `<service>`; paths below start in "
        "`<service>`.\n"
        "DC: `stead update` may change it while the module runs.\n\n";
    std::vector<std::pair<const stead_elem_schema*, std::string>> all;
    for (const auto& owner : schemas.owners) {
        for (const auto& schema : owner.elements) {
            all.emplace_back(&schema, owner.plugin);
        }
    }
    std::ranges::stable_sort(all, [](const auto& a, const auto& b) {
        const std::string_view left = a.first->path;
        const std::string_view right = b.first->path;
        const auto top = [](std::string_view p) { return SchemaIndex::is_top(std::string{p}) ? 0 : 1; };
        return std::pair{top(left), left} < std::pair{top(right), right};
    });
    for (const auto& [schema, plugin] : all) {
        element_section(*schema, plugin, out);
    }
    return out;
}

} // namespace stead::config
