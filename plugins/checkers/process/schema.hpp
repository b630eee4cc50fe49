// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/plugin.h>

#include <array>
#include <cstdint>
#include <iterator>

/// The elements that this plugin owns in userconfig.xml. Names and defaults are the classic ones.
namespace stead::process {

inline constexpr std::int64_t second = 1'000'000'000;
inline constexpr std::uint32_t dynamic = STEAD_ATTR_DYNAMIC;

inline constexpr stead_attr_schema errd_attributes[]{
    {"polltimer", STEAD_TYPE_DURATION, dynamic, "30s", nullptr, "s", second, 86'400 * second,
     "longest time between two looks at all processes; a death is seen at once, a missing one each second"},
};
inline constexpr stead_attr_schema proc_attributes[]{
    {"name", STEAD_TYPE_STRING, STEAD_ATTR_REQUIRED | dynamic, nullptr, nullptr, nullptr, 0, 0,
     "command name (its first 15 characters count) or systemd unit; names the resource proc.<name>"},
    {"service", STEAD_TYPE_BOOLEAN, dynamic, "no", nullptr, nullptr, 0, 0,
     "yes: a systemd unit; where there is no systemd, the process of that name"},
    {"nameregex", STEAD_TYPE_STRING, dynamic, nullptr, nullptr, nullptr, 0, 0,
     "extended regular expression on the command name, instead of name"},
    {"argregex", STEAD_TYPE_STRING, dynamic, nullptr, nullptr, nullptr, 0, 0,
     "extended regular expression on the full command line, as well as the name"},
    {"class", STEAD_TYPE_NAME, dynamic, "both", nullptr, nullptr, 0, 0,
     "watched while: pre, both, prim, second, sec by the scripts of that name; others by stead errd enable CLASS"},
    {"action", STEAD_TYPE_STRING, dynamic, "stopstart", nullptr, nullptr, 0, 0,
     "restart, stopstart, stop, noaction, or an executable in the module's bin"},
    {"restart_services", STEAD_TYPE_STRING, dynamic, nullptr, nullptr, nullptr, 0, 0,
     "services with commas between: the scripts of the restart get -Services and them; with service=yes "
     "action=restart"},
    {"atleast", STEAD_TYPE_INTEGER, dynamic, "1", nullptr, nullptr, 0, 100'000, "fewer processes than this: down"},
    {"atmax", STEAD_TYPE_INTEGER, dynamic, "-1", nullptr, nullptr, -1, 100'000,
     "more processes than this: down; -1: no bound; 0: none may be there"},
    {"start_after", STEAD_TYPE_INTEGER, dynamic, "0", nullptr, nullptr, 0, 10'000,
     "begins (n-1) polltimers after the class was armed"},
};
inline constexpr std::array schema{
    stead_elem_schema{"errd", nullptr, STEAD_ELEM_DYNAMIC, std::size(errd_attributes), errd_attributes,
                      "processes and services to watch"},
    stead_elem_schema{"errd/proc", nullptr, STEAD_ELEM_REPEATABLE | STEAD_ELEM_DYNAMIC, std::size(proc_attributes),
                      proc_attributes, "one kind of process"},
};

} // namespace stead::process
