// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/config/config.hpp>

#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace stead::config {

/// All schemas by path ("vip/interface_list"; "" is the service). A path may have several owners, whose attributes add
/// up. A path that only leads to declared ones ("check" of "check/redis") is a container without attributes.
class SchemaIndex {
public:
    struct Owner {
        std::string plugin;
        const stead_elem_schema* schema{};
        [[nodiscard]] std::span<const stead_attr_schema> attributes() const {
            return {schema->attrs, schema->attr_count};
        }
    };
    using Owners = std::vector<Owner>;

    explicit SchemaIndex(const SchemaSet& schemas);
    /// Of this mode ("" = any mode).
    [[nodiscard]] Owners owners(const std::string& path, const std::string& mode) const;
    [[nodiscard]] bool contains(const std::string& path) const { return elements_.contains(path); }
    /// "service" and "macro" stand above the service, not in it.
    [[nodiscard]] static bool is_top(const std::string& path) { return path == "service" || path == "macro"; }
    [[nodiscard]] bool allows(const std::string& path, const std::string& mode) const;
    [[nodiscard]] std::string modes(const std::string& path) const;
    [[nodiscard]] bool repeatable(const std::string& path) const;
    [[nodiscard]] std::vector<std::string> child_names(const std::string& path, const std::string& mode) const;
    [[nodiscard]] std::vector<std::string> required_children(const std::string& path, const std::string& mode) const;
    [[nodiscard]] bool classic(const std::string& name) const { return classic_.contains(name); }
    /// A classic element that no loaded plugin owns anywhere.
    [[nodiscard]] bool inactive(const std::string& name) const { return classic(name) && !names_.contains(name); }
    [[nodiscard]] const std::string& plugins_folder() const { return plugins_folder_; }

private:
    std::map<std::string, Owners> elements_;
    std::set<std::string> classic_;
    std::set<std::string> names_;
    std::string plugins_folder_;
};

} // namespace stead::config
