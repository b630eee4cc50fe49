// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

/// What differs between two expanded configurations (safeconf.xml) that a running module cannot take over.
namespace stead::node {

/// What may change while a module runs: from `stead-host --schema`. Paths are relative to <service>.
struct DynamicParts {
    std::set<std::string, std::less<>> elements;                                       ///< with all below them
    std::map<std::string, std::set<std::string, std::less<>>, std::less<>> attributes; ///< path -> names
    std::set<std::string, std::less<>>
        containers; ///< only hold others, as "check" does: not there is the same as empty
};
/// Errors: malformed.
[[nodiscard]] Result<DynamicParts> dynamic_parts(std::string_view schema_json);

/// One line each, for a person: `<rule> port: "7000" is now "7001"`. Empty: everything that differs is dynamic.
/// Errors: malformed, when one of the files is not XML.
[[nodiscard]] Result<std::vector<std::string>>
static_differences(const std::string& active_xml, const std::string& new_xml, const DynamicParts& dynamic);

} // namespace stead::node
