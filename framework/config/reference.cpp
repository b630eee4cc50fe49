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
    if ((schema.flags & STEAD_ELEM_REQUIRED) != 0) facts.emplace_back("required");
    if ((schema.flags & STEAD_ELEM_REPEATABLE) != 0) facts.emplace_back("may be repeated");
    if ((schema.flags & STEAD_ELEM_DYNAMIC) != 0) facts.emplace_back("dynamic");
    if ((schema.flags & STEAD_ELEM_TEXT) != 0) facts.emplace_back("holds text");
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

std::string reference_markdown(const SchemaSet& schemas) {
    std::string out = "# userconfig.xml\n\n"
                      "Written by `stead-host --reference` from the schemas that the checks use; do not edit.\n"
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
