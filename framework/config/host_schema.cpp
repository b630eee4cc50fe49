// SPDX-License-Identifier: Apache-2.0
// What the host itself understands. "service" and "macro" stand for the two elements above all plugins.
#include <stead/config/config.hpp>

#include <array>

namespace stead::config {

namespace {

constexpr std::int64_t ms = 1'000'000;
constexpr std::int64_t second = 1'000 * ms;
constexpr std::int64_t day = 86'400 * second;
constexpr std::uint32_t dynamic = STEAD_ATTR_DYNAMIC;
constexpr std::uint32_t required = STEAD_ATTR_REQUIRED;

constexpr stead_attr_schema flag(const char* name, const char* value, const char* help, std::uint32_t flags = 0) {
    return {name, STEAD_TYPE_BOOLEAN, flags, value, nullptr, nullptr, 0, 0, help};
}
constexpr stead_attr_schema time_of(const char* name, const char* value, const char* unit, std::int64_t max,
                                    const char* help, std::uint32_t flags = 0) {
    return {name, STEAD_TYPE_DURATION, flags, value, nullptr, unit, 0, max, help};
}
constexpr stead_attr_schema number(const char* name, const char* value, std::int64_t min, std::int64_t max,
                                   const char* help, std::uint32_t flags = 0) {
    return {name, STEAD_TYPE_INTEGER, flags, value, nullptr, nullptr, min, max, help};
}
constexpr stead_attr_schema choice(const char* name, const char* value, const char* choices, const char* help,
                                   std::uint32_t flags = 0) {
    return {name, STEAD_TYPE_CHOICE, flags, value, choices, nullptr, 0, 0, help};
}
constexpr stead_attr_schema text(const char* name, const char* value, const char* help, std::uint32_t flags = 0,
                                 stead_type type = STEAD_TYPE_STRING) {
    return {name, static_cast<std::uint32_t>(type), flags, value, nullptr, nullptr, 0, 0, help};
}

constexpr std::array macro_attributes{
    text("name", nullptr, "written %name% in values and texts; wins over an environment variable", required),
    text("value", nullptr, "may hold other macros", required),
};

constexpr std::array service_attributes{
    choice("mode", nullptr, "farm|mirror|light", "the kind of module", required),
    choice("boot", "ignore", "on|off|auto|ignore",
           "start at boot; auto: if it ran before; ignore: as `stead boot` says", dynamic),
    time_of("boot_delay", "0s", "s", day, "wait before the start at boot", dynamic),
    flag("failover", "on", "mirror; off: the secondary waits when the primary dies"),
    text("defaultprim", "alone", "mirror; alone, lastprim or a node: the primary when both run", 0, STEAD_TYPE_NAME),
    number("maxloop", "3", 0, 1000, "automatic restarts, stopstarts and waits before a stop", dynamic),
    time_of("loop_interval", "24h", "h", 365 * day, "window of maxloop; 0 switches the counter off", dynamic),
    flag("automatic_reboot", "off", "an automatic stopstart reboots the server instead; needs a loop_interval",
         dynamic),
};

constexpr std::array user_attributes{
    time_of("nicestoptimeout", "300s", "s", day, "limit of each stop script", dynamic),
    time_of("forcestoptimeout", "300s", "s", day, "limit of each stop script called with force", dynamic),
    choice("logging", "userlog", "userlog|none", "where the output of scripts goes", dynamic),
    number("userlogsize", "2048", 1, 1048576, "size in KiB at which the user log starts again", dynamic),
};

constexpr std::array var_attributes{
    text("name", nullptr, "environment variable of scripts, stead.var.NAME in Lua", required | dynamic),
    text("value", nullptr, "its value", required | dynamic),
};

constexpr std::array host_name_attributes{
    text("name", nullptr, "the name that the application finds as its server's", required),
    text("envfile", nullptr, "made in bin; a script reads it before it starts the application: . \"$SAFEUSERBIN/FILE\"",
         required),
    choice("when", "prim", "prim|second|both", "mirror: in the scripts of which role it has an effect"),
};

constexpr std::array failover_attributes{
    flag("extends", "yes", "keep the default rules and add these"),
    time_of("period", "5000ms", "ms", day, "classic polling period; Stead evaluates rules on change"),
    time_of("handle_time", "15000ms", "ms", day, "how long an expression must hold before its action"),
};

constexpr std::array vip_attributes{
    flag("tcpreset", "on", "farm; reset the connections that are left when the virtual address goes"),
    flag("scriptcontrol", "off", "farm; scripts open and close the traffic gate: stead set -r farm.gate -v up|down"),
    time_of("drain", nullptr, "ms", day,
            "how long established connections are served by a stopping node; 0s: not at all; default 5s; with "
            "type=\"external\" how long the application goes on after ready.txt said 404, default 10s"),
    time_of("movecap", "0s", "ms", day, "longest transition of a bucket; 0s: until its connections end"),
    time_of("slowstart", "0s", "ms", day, "time in which the weight of a joining node grows; 0s: at once"),
};

constexpr std::array interface_attributes{
    flag("check", "on", "makes the checker intf.<network>: carrier and address of this network"),
    flag("arpreroute", "off", "repeat announcements of the address (IPv4)"),
    time_of("arpinterval", "60s", "s", day, "period of repeated announcements"),
    time_of("arpelapse", "1200s", "s", day, "how long announcements are repeated"),
    text("name", nullptr, "network interface, such as bond0; none: the one that carries the address's subnet"),
};

template <std::size_t N>
constexpr stead_elem_schema element(const char* path, const std::array<stead_attr_schema, N>& attributes,
                                    std::uint32_t flags, const char* help) {
    return {path, nullptr, flags, static_cast<std::uint32_t>(N), attributes.data(), help};
}

constexpr std::array elements{
    element("macro", macro_attributes, STEAD_ELEM_REPEATABLE, "a text with a name, directly under <safe>"),
    element("service", service_attributes, STEAD_ELEM_REQUIRED, "the module; everything below stands in it"),
    element("user", user_attributes, STEAD_ELEM_DYNAMIC, "scripts run only when this is there"),
    element("user/var", var_attributes, STEAD_ELEM_REPEATABLE | STEAD_ELEM_DYNAMIC, "exported to scripts"),
    stead_elem_schema{"vhost", nullptr, 0, 0, nullptr, "host names for the application: docs/lua.md"},
    element("vhost/virtualhostname", host_name_attributes, STEAD_ELEM_REPEATABLE | STEAD_ELEM_REQUIRED, "one of them"),
    element("failover", failover_attributes, STEAD_ELEM_TEXT,
            "rules, in CDATA, in the classic language or (first line --Lua Rules) in Lua: docs/failover-machine.md"),
    element("vip", vip_attributes, 0, "virtual IP addresses"),
    stead_elem_schema{"vip/interface_list", nullptr, 0, 0, nullptr, "the interfaces that carry them"},
    element("vip/interface_list/interface", interface_attributes, STEAD_ELEM_REPEATABLE, "one network"),
};

} // namespace

std::span<const stead_elem_schema> host_schema() noexcept { return elements; }

} // namespace stead::config
