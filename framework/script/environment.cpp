// SPDX-License-Identifier: Apache-2.0
#include "environment.hpp"

#include <unistd.h>

#include <charconv>
#include <cstdlib>

namespace stead::script {

namespace {

/// The absolute folders of `first`, then the standard ones that are missing.
std::string sane_path(const std::string& first) {
    const std::string all = first + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    std::string result;
    for (std::size_t at = 0; at <= all.size();) {
        const std::size_t end = std::min(all.find(':', at), all.size());
        const std::string folder = all.substr(at, end - at);
        at = end + 1;
        if (!folder.empty() && folder[0] == '/' && (":" + result + ":").find(":" + folder + ":") == std::string::npos) {
            result += (result.empty() ? "" : ":") + folder;
        }
    }
    return result;
}

/// SAFEVAR/modules/<AM> is SAFEUSERVAR.
std::filesystem::path classic_var(const std::filesystem::path& user_var) {
    const std::filesystem::path modules = user_var.parent_path();
    return modules.filename() == "modules" ? modules.parent_path() : std::filesystem::path("/var/lib/stead");
}

} // namespace

std::map<std::string, std::string> hook_environment(const ModuleFolders& folders, const std::string& hook_id) {
    const char* path = std::getenv("PATH");
    std::map<std::string, std::string> environment{{"PATH", sane_path(path != nullptr ? path : "")},
                                                   {"LANG", "C.UTF-8"}};
    const char* home = std::getenv("HOME");
    environment["HOME"] = home != nullptr ? home : ::geteuid() == 0 ? "/root" : "/";
    if (const char* zone = std::getenv("TZ")) {
        environment["TZ"] = zone;
    }
    for (const auto& [name, value] : folders.vars) {
        environment[name] = name == "PATH" ? sane_path(value) : value; // scripts never lose the system's programs
    }
    // Names that config refuses as <var>: what scripts and `stead` itself rely on.
    const std::filesystem::path safe = folders.prefix / "libexec/stead/compat";
    environment["SAFE"] = safe;
    environment["SAFEBIN"] = safe / "private/bin";
    environment["SAFEVAR"] = classic_var(folders.var);
    environment["SAFEMODULE"] = folders.module;
    environment["SAFEUSERBIN"] = folders.bin;
    environment["SAFEUSERCONF"] = folders.conf;
    environment["SAFEUSERVAR"] = folders.var;
    environment["STEAD"] = folders.prefix / "bin/stead";
    environment["STEAD_HOOK_ID"] = hook_id;
    environment["STEAD_NODE"] = folders.node;
    environment["STEAD_MODE"] = folders.mode;
    environment["STEAD_MODULE_ID"] = std::to_string(folders.module_id);
    return environment;
}

std::filesystem::path leash_program(const ModuleFolders& folders) {
    const std::filesystem::path leash = folders.prefix / "libexec/stead/stead-leash";
    return ::access(leash.c_str(), X_OK) == 0 ? leash : std::filesystem::path();
}

std::optional<nanoseconds> parse_duration(std::string_view text) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || !(number >= 0)) {
        return std::nullopt;
    }
    const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    const double factor = unit.empty() || unit == "s" ? 1e9
                          : unit == "ms"              ? 1e6
                          : unit == "us"              ? 1e3
                          : unit == "m"               ? 60e9
                          : unit == "h"               ? 3600e9
                          : unit == "d"               ? 86400e9
                                                      : 0;
    if (factor == 0 || number * factor > 3.2e18) { // about a hundred years
        return std::nullopt;
    }
    return nanoseconds{static_cast<std::int64_t>(number * factor)};
}

} // namespace stead::script
