// SPDX-License-Identifier: Apache-2.0
#include "variables.hpp"

#include "values.hpp"

#include <algorithm>
#include <array>

namespace stead::config {

namespace {

bool is_variable(std::string_view name) {
    return is_name(name) && name.find_first_of(".-") == std::string_view::npos && (name[0] < '0' || name[0] > '9');
}

/// What Stead itself gives to every script, whatever the module says: such a variable would have no effect.
bool is_reserved(std::string_view name) {
    static constexpr std::array<std::string_view, 8> names{"SAFE",        "SAFEBIN",      "SAFEVAR",     "SAFEMODULE",
                                                           "SAFEUSERBIN", "SAFEUSERCONF", "SAFEUSERVAR", "STEAD"};
    return std::ranges::find(names, name) != names.end() || name.starts_with("STEAD_");
}

bool are_absolute_folders(std::string_view path) {
    return !path.empty() &&
           std::ranges::all_of(split(path, ':'), [](const std::string& folder) { return folder.starts_with('/'); });
}

} // namespace

void check_variable(int line, std::string_view name, std::string_view value, Report& report) {
    if (!is_variable(name)) {
        report.error(line, "var/@name: '" + shown(name) +
                               "' is not an environment variable; allowed: a letter or '_', then letters, digits or "
                               "'_'");
    } else if (is_reserved(name)) {
        report.error(line, "var/@name: '" + shown(name) +
                               "' is set by Stead for every script; allowed: any name but SAFE, SAFEBIN, SAFEVAR, "
                               "SAFEMODULE, SAFEUSERBIN, SAFEUSERCONF, SAFEUSERVAR, STEAD and STEAD_...");
    } else if (name == "PATH" && !are_absolute_folders(value)) {
        report.error(line, "var/@value: PATH '" + shown(value) +
                               "'; allowed: absolute folders with ':' between them (the system's follow by "
                               "themselves)");
    }
}

} // namespace stead::config
