// SPDX-License-Identifier: Apache-2.0
#include <stead/control/paths.hpp>

#include <stead/base/limits.hpp>

#include <algorithm>
#include <cstdlib>
#include <system_error>

namespace stead::control {
namespace fs = std::filesystem;
namespace {

fs::path from_environment(const char* name, fs::path otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? fs::path(value) : std::move(otherwise);
}

fs::path prefix_of(const fs::path& program) {
    const fs::path folder = program.parent_path();
    if (folder.filename() == "stead" && folder.parent_path().filename() == "libexec") {
        return folder.parent_path().parent_path();
    }
    return folder.parent_path();
}

} // namespace

fs::path Paths::host_socket(std::string_view name) const { return host_folder() / (std::string(name) + ".sock"); }

fs::path Paths::host_lock(std::string_view name) const { return host_folder() / (std::string(name) + ".lock"); }

fs::path Paths::host_end(std::string_view name) const { return host_folder() / (std::string(name) + ".end"); }

Paths paths_for_program(const fs::path& program) {
    return Paths{from_environment("STEAD_PREFIX", prefix_of(program)), from_environment("STEAD_ETC", "/etc/stead"),
                 from_environment("STEAD_VAR", "/var/lib/stead"), from_environment("STEAD_RUN", "/run/stead")};
}

const Paths& paths() {
    static const Paths found = [] {
        std::error_code ignored;
        return paths_for_program(fs::read_symlink("/proc/self/exe", ignored));
    }();
    return found;
}

bool is_module_name(std::string_view name) noexcept {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
               c == '-';
    };
    return !name.empty() && name.size() <= limits::name_bytes_max && name[0] != '.' && name[0] != '-' &&
           std::all_of(name.begin(), name.end(), allowed);
}

} // namespace stead::control
