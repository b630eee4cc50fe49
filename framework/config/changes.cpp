// SPDX-License-Identifier: Apache-2.0
// What differs between two configurations of one module, and may not while it runs.
#include "schema_index.hpp"
#include "values.hpp"

#include <algorithm>
#include <set>

namespace stead::config {

namespace {

class Comparison {
public:
    Comparison(const SchemaSet& schemas, std::string mode) : index_(schemas), mode_(std::move(mode)) {}

    void compare(const Element& before, const Element& after, const std::string& path) {
        if (dynamic_element(path)) {
            return;
        }
        compare_attributes(before, after, path);
        if (before.text != after.text) {
            add(tag(path) + ": its text has changed");
        }
        std::set<std::string> names;
        for (const Element* parent : {&before, &after}) {
            for (const Element& child : parent->children) {
                names.insert(child.name);
            }
        }
        for (const std::string& name : names) {
            compare_children(before, after, path.empty() ? name : path + "/" + name, name);
        }
    }
    [[nodiscard]] std::vector<std::string> take() { return std::move(changes_); }

private:
    [[nodiscard]] SchemaIndex::Owners owners(const std::string& path) const {
        return index_.owners(path.empty() ? "service" : path, path.empty() ? "" : mode_);
    }

    [[nodiscard]] bool dynamic_element(const std::string& path) const {
        return std::ranges::any_of(owners(path),
                                   [](const auto& o) { return (o.schema->flags & STEAD_ELEM_DYNAMIC) != 0; });
    }

    [[nodiscard]] const stead_attr_schema* schema_of(const std::string& path, const std::string& name) const {
        for (const auto& owner : owners(path)) {
            for (const auto& attribute : owner.attributes()) {
                if (name == attribute.name) {
                    return &attribute;
                }
            }
        }
        return nullptr;
    }

    static std::string tag(const std::string& path) {
        return "<" + (path.empty() ? "service" : path.substr(path.rfind('/') + 1)) + ">";
    }

    static std::string shown_value(std::optional<std::string_view> value, const stead_attr_schema* schema) {
        if (!value) {
            return "absent";
        }
        return schema != nullptr && schema->type == STEAD_TYPE_DURATION ? duration_text(std::stoll(std::string{*value}))
                                                                        : "'" + std::string{*value} + "'";
    }

    void compare_attributes(const Element& before, const Element& after, const std::string& path) {
        std::set<std::string> names;
        for (const Element* element : {&before, &after}) {
            for (const auto& [name, value] : element->attributes) {
                names.insert(name);
            }
        }
        for (const std::string& name : names) {
            const auto* schema = schema_of(path, name);
            const bool dynamic = schema != nullptr && (schema->flags & STEAD_ATTR_DYNAMIC) != 0;
            if (before.attribute(name) != after.attribute(name) && !dynamic) {
                add(tag(path) + " " + name + ": " + shown_value(before.attribute(name), schema) + " is now " +
                    shown_value(after.attribute(name), schema));
            }
        }
    }

    // Elements of one name correspond by their place: that is how plugins were given them.
    void compare_children(const Element& before, const Element& after, const std::string& path,
                          const std::string& name) {
        const auto named = [&](const Element& parent) {
            std::vector<const Element*> found;
            for (const Element& child : parent.children) {
                if (child.name == name) {
                    found.push_back(&child);
                }
            }
            return found;
        };
        auto old = named(before);
        auto now = named(after);
        // What only holds other elements says nothing by itself: one that is not there is an empty one.
        static const Element empty;
        if (index_.contains(path) && owners(path).empty()) {
            const std::size_t more = std::max(old.size(), now.size());
            old.resize(more, &empty);
            now.resize(more, &empty);
        }
        if (old.size() != now.size() && !dynamic_element(path)) {
            add(tag(path) + ": " + std::to_string(old.size()) + " before, " + std::to_string(now.size()) + " now");
            return;
        }
        for (std::size_t i = 0; i < std::min(old.size(), now.size()); ++i) {
            compare(*old[i], *now[i], path);
        }
    }

    void add(std::string change) {
        if (std::ranges::find(changes_, change) == changes_.end()) {
            changes_.push_back(std::move(change));
        }
    }

    SchemaIndex index_;
    std::string mode_;
    std::vector<std::string> changes_;
};

} // namespace

std::vector<std::string> static_changes(const Module& before, const Module& after, const SchemaSet& schemas) {
    Comparison comparison(schemas, std::string{before.mode_name()});
    comparison.compare(before.service, after.service, "");
    return comparison.take();
}

} // namespace stead::config
