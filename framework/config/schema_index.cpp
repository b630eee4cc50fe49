// SPDX-License-Identifier: Apache-2.0
#include "schema_index.hpp"

#include "values.hpp"

#include <algorithm>

namespace stead::config {

namespace {

bool fits(const stead_elem_schema& schema, const std::string& mode) {
    if (schema.modes == nullptr || mode.empty()) {
        return true;
    }
    const auto modes = split(schema.modes, '|');
    return std::ranges::find(modes, mode) != modes.end();
}

} // namespace

SchemaIndex::SchemaIndex(const SchemaSet& schemas)
    : classic_(schemas.classic_elements),
      plugins_folder_(schemas.plugins_folder.empty() ? "the plugins folder" : schemas.plugins_folder) {
    for (const auto& owner : schemas.owners) {
        for (const auto& schema : owner.elements) {
            const std::string path = schema.path;
            elements_[path].push_back({owner.plugin, &schema});
            for (auto at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1)) {
                elements_.try_emplace(path.substr(0, at));
            }
        }
    }
    for (const auto& [path, owners] : elements_) {
        names_.insert(path.substr(path.rfind('/') + 1));
    }
}

SchemaIndex::Owners SchemaIndex::owners(const std::string& path, const std::string& mode) const {
    Owners found;
    if (const auto at = elements_.find(path); at != elements_.end()) {
        std::ranges::copy_if(at->second, std::back_inserter(found),
                             [&](const Owner& owner) { return fits(*owner.schema, mode); });
    }
    return found;
}

bool SchemaIndex::allows(const std::string& path, const std::string& mode) const {
    const auto at = elements_.find(path);
    return at != elements_.end() && (at->second.empty() || !owners(path, mode).empty());
}

std::string SchemaIndex::modes(const std::string& path) const {
    std::set<std::string> modes;
    for (const auto& owner : owners(path, "")) {
        for (const auto& mode :
             split(owner.schema->modes == nullptr ? "farm|mirror|light" : owner.schema->modes, '|')) {
            modes.insert(mode);
        }
    }
    return join(std::vector<std::string>{modes.begin(), modes.end()}, ", ");
}

bool SchemaIndex::repeatable(const std::string& path) const {
    return std::ranges::any_of(owners(path, ""),
                               [](const Owner& owner) { return (owner.schema->flags & STEAD_ELEM_REPEATABLE) != 0; });
}

std::vector<std::string> SchemaIndex::child_names(const std::string& path, const std::string& mode) const {
    const std::string prefix = path.empty() ? "" : path + "/";
    std::vector<std::string> names;
    for (const auto& [candidate, unused] : elements_) {
        if (candidate.starts_with(prefix) && candidate.find('/', prefix.size()) == std::string::npos &&
            candidate.size() > prefix.size() && !is_top(candidate) && allows(candidate, mode)) {
            names.push_back(candidate.substr(prefix.size()));
        }
    }
    return names;
}

std::vector<std::string> SchemaIndex::required_children(const std::string& path, const std::string& mode) const {
    std::vector<std::string> names;
    if (mode.empty()) {
        return names; // the mode itself is wrong, and reported
    }
    for (const auto& name : child_names(path, mode)) {
        const auto found = owners(path.empty() ? name : path + "/" + name, mode);
        if (std::ranges::any_of(found, [](const Owner& o) { return (o.schema->flags & STEAD_ELEM_REQUIRED) != 0; })) {
            names.push_back(name);
        }
    }
    return names;
}

} // namespace stead::config
