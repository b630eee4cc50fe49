// SPDX-License-Identifier: Apache-2.0
#include <stead/node/differences.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <tinyxml2.h>

#include <algorithm>

namespace stead::node {
namespace json = boost::json;
namespace {

constexpr int depth_max = 64; // the parser of the configuration refuses deeper files long before

struct Static {
    std::map<std::string, std::string> attributes;
    std::string text;
};
using ByPath = std::map<std::string, std::vector<Static>>;

bool is_true(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_bool() && value->get_bool();
}

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

const json::array& list_in(const json::object& object, std::string_view name) {
    static const json::array none;
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_array() ? value->get_array() : none;
}

void gather(const tinyxml2::XMLElement& element, const std::string& path, const DynamicParts& dynamic, int depth,
            ByPath& out) {
    if (dynamic.elements.contains(path) || depth > depth_max) {
        return;
    }
    Static one;
    const auto changeable = dynamic.attributes.find(path);
    for (const auto* attribute = element.FirstAttribute(); attribute != nullptr; attribute = attribute->Next()) {
        if (changeable == dynamic.attributes.end() || !changeable->second.contains(attribute->Name())) {
            one.attributes[attribute->Name()] = attribute->Value();
        }
    }
    one.text = element.GetText() != nullptr ? element.GetText() : "";
    if (!dynamic.containers.contains(path)) { // those say nothing by themselves: an absent one is an empty one
        out[path].push_back(std::move(one));
    }
    for (const auto* child = element.FirstChildElement(); child != nullptr; child = child->NextSiblingElement()) {
        const std::string below = path == "service" ? child->Name() : path + "/" + child->Name();
        gather(*child, below, dynamic, depth + 1, out);
    }
}

Result<ByPath> flatten(const std::string& xml, const DynamicParts& dynamic) {
    tinyxml2::XMLDocument document;
    ByPath all;
    if (document.Parse(xml.data(), xml.size()) != tinyxml2::XML_SUCCESS || document.RootElement() == nullptr) {
        return Error{Errc::malformed, "safeconf.xml",
                     "not XML; 'stead stop', 'stead config' and 'stead start' renew it"};
    }
    // Macros are not compared: what they stand for is already in its place.
    for (const auto* service = document.RootElement()->FirstChildElement("service"); service != nullptr;
         service = service->NextSiblingElement("service")) {
        gather(*service, "service", dynamic, 0, all);
    }
    return all;
}

std::string tag(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return "<" + (slash == path.npos ? path : path.substr(slash + 1)) + ">";
}

void compare(const std::string& path, const Static& before, const Static& after, std::vector<std::string>& lines) {
    std::set<std::string> names;
    for (const auto* side : {&before, &after}) {
        for (const auto& [name, value] : side->attributes) {
            names.insert(name);
        }
    }
    const auto shown = [](const Static& side, const std::string& name) {
        const auto found = side.attributes.find(name);
        return found == side.attributes.end() ? std::string("absent") : "\"" + found->second + "\"";
    };
    for (const std::string& name : names) {
        if (shown(before, name) != shown(after, name)) {
            lines.push_back(tag(path) + " " + name + ": " + shown(before, name) + " is now " + shown(after, name));
        }
    }
    if (before.text != after.text) {
        lines.push_back(tag(path) + ": its text has changed");
    }
}

} // namespace

Result<DynamicParts> dynamic_parts(std::string_view schema_json) {
    json::error_code error;
    const json::value schema = json::parse(schema_json, error);
    if (error || !schema.is_object() || !schema.get_object().contains("plugins")) {
        return Error{Errc::malformed, "stead-host --schema", "no schema came"};
    }
    DynamicParts parts;
    std::set<std::string> declared;
    for (const json::value& plugin : list_in(schema.get_object(), "plugins")) {
        for (const json::value& value : plugin.is_object() ? list_in(plugin.get_object(), "elements") : json::array{}) {
            if (!value.is_object()) {
                continue;
            }
            const json::object& element = value.get_object();
            const std::string path = text_of(element, "path");
            declared.insert(path);
            if (is_true(element, "dynamic")) {
                parts.elements.insert(path);
            }
            for (const json::value& attribute : list_in(element, "attributes")) {
                if (attribute.is_object() && is_true(attribute.get_object(), "dynamic")) {
                    parts.attributes[path].insert(text_of(attribute.get_object(), "name"));
                }
            }
        }
    }
    for (const std::string& path : declared) {
        for (std::size_t at = path.find('/'); at != path.npos; at = path.find('/', at + 1)) {
            if (!declared.contains(path.substr(0, at))) {
                parts.containers.insert(path.substr(0, at));
            }
        }
    }
    return parts;
}

Result<std::vector<std::string>> static_differences(const std::string& active_xml, const std::string& new_xml,
                                                    const DynamicParts& dynamic) {
    const Result<ByPath> before = flatten(active_xml, dynamic);
    const Result<ByPath> after = flatten(new_xml, dynamic);
    if (!before || !after) {
        return before ? after.error() : before.error();
    }
    std::set<std::string> paths;
    for (const ByPath* side : {&*before, &*after}) {
        for (const auto& [path, list] : *side) {
            paths.insert(path);
        }
    }
    static const std::vector<Static> none;
    const auto in = [](const ByPath& side, const std::string& path) -> const std::vector<Static>& {
        const auto found = side.find(path);
        return found == side.end() ? none : found->second;
    };
    std::vector<std::string> lines;
    for (const std::string& path : paths) {
        const std::vector<Static>& old_list = in(*before, path);
        const std::vector<Static>& new_list = in(*after, path);
        if (old_list.size() != new_list.size()) {
            lines.push_back(tag(path) + ": " + std::to_string(old_list.size()) + " before, " +
                            std::to_string(new_list.size()) + " now");
        }
        for (std::size_t i = 0; i < std::min(old_list.size(), new_list.size()); ++i) {
            compare(path, old_list[i], new_list[i], lines);
        }
    }
    return lines;
}

} // namespace stead::node
