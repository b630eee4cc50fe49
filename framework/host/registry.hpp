// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/plugin.h>

#include <boost/dll/shared_library.hpp>

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace stead::host {

/// One library that passed every check. The library stays mapped until the process ends.
struct Plugin {
    std::filesystem::path file;
    /// A copy of the fields that the library's struct_size covers; functions beyond it are null.
    stead_plugin_descriptor descriptor{};
    [[nodiscard]] std::string_view id() const noexcept { return descriptor.id; }
    [[nodiscard]] std::span<const stead_elem_schema> schema() const noexcept {
        return {descriptor.schema, descriptor.schema_count};
    }
};

/// Checks a descriptor as data, before any call: magic, version, size, id, kind, functions, schema. `loaded`: those
/// before it, whose ids are taken. Errors: refused or unsupported, `where` = file, `what` = the field, its value and
/// what is allowed.
[[nodiscard]] Result<stead_plugin_descriptor> check_descriptor(const stead_plugin_descriptor& found,
                                                               const std::filesystem::path& file,
                                                               std::span<const Plugin> loaded);

/// Every plugin of one folder, in the order of file names.
class Registry {
public:
    /// A library that is refused does not stop the others. A missing folder is an empty one.
    [[nodiscard]] static Registry load(const std::filesystem::path& folder);

    [[nodiscard]] const std::vector<Plugin>& plugins() const noexcept { return plugins_; }
    /// One per refused library, with its path.
    [[nodiscard]] const std::vector<Error>& refused() const noexcept { return refused_; }
    [[nodiscard]] const std::filesystem::path& folder() const noexcept { return folder_; }

private:
    [[nodiscard]] Result<void> load_one(const std::filesystem::path& file);
    std::filesystem::path folder_;
    std::vector<Plugin> plugins_;
    std::vector<Error> refused_;
};

} // namespace stead::host
