// SPDX-License-Identifier: Apache-2.0
#include <stead/control/command.hpp>

namespace stead::control {
namespace {

using enum Access;
using enum Runs;
constexpr auto none = NeedsModule::no;
constexpr auto opt = NeedsModule::optional;
constexpr auto mod = NeedsModule::yes;

constexpr Option log_lines{"-s", "NB", "number of lines (default 300)", "lines"};
constexpr Option force_key{"--force", "", "replace a key that exists: the node leaves its cluster"};

// Grouped as a newcomer meets them. `help_overview` prints them in this order.
constexpr auto table = std::to_array<Command>({
    // Life of a module
    {"start", "", mod, change, daemon, true, "POST /modules/{m}/start", "start a module; returns when accepted", {}},
    {"stop", "", mod, change, daemon, true, "POST /modules/{m}/stop", "stop a module; returns when it is stopped", {}},
    {"restart",
     "",
     mod,
     change,
     daemon,
     true,
     "POST /modules/{m}/restart",
     "stop and start the application only; no change of state",
     {}},
    {"stopstart",
     "",
     mod,
     change,
     daemon,
     true,
     "POST /modules/{m}/stopstart",
     "stop the module fully, then start it (fails over)",
     {}},
    {"forcestop",
     "",
     mod,
     change,
     daemon,
     true,
     "POST /modules/{m}/forcestop",
     "stop without draining or waiting for scripts",
     {}},
    {"shutdown", "", none, change, daemon, true, "POST /shutdown", "stop all modules of the node", {}},
    {"waitstart",
     "",
     mod,
     read,
     daemon,
     true,
     "",
     "wait until the module is started (stable)",
     {{{"-t", "SECONDS", "give up after so long (default: never)"}}}},
    {"waitstop",
     "",
     mod,
     read,
     daemon,
     true,
     "",
     "wait until the module is stopped",
     {{{"-t", "SECONDS", "give up after so long (default: never)"}}}},
    {"waitstate",
     "STOP|WAIT|ALONE|UP|PRIM|SECOND",
     mod,
     read,
     daemon,
     true,
     "",
     "wait until the module is in that state and stable",
     {{{"-t", "SECONDS", "give up after so long (default: never)"}}}},
    {"power",
     "NODE N",
     mod,
     change,
     daemon,
     false,
     "PUT /modules/{m}/power",
     "change the share of traffic of a node while the module runs (0 = none)",
     {}},
    // What happens
    {"state",
     "",
     opt,
     read,
     daemon,
     true,
     "GET /modules/{m}/state",
     "states of the modules, here and on their peers",
     {{{"-v", "", "all resources, view, filter and counters", "verbose"},
       {"-lq", "", "print nothing, exit with the state: STOP 0, WAIT 1, ALONE 2, UP 2, PRIM 3, SECOND 4"}}}},
    {"level", "", opt, read, daemon, true, "GET /level", "versions of Stead, the kernel and a module", {}},
    {"log",
     "",
     opt,
     inspect,
     daemon,
     true,
     "GET /modules/{m}/log",
     "the last lines of a module's log (node's log without -m)",
     {{log_lines,
       {"-A", "", "debug lines too", "debug"},
       {"-u", "", "the user log: output of the module's scripts"},
       {"-l", "LANGUAGE", "accepted for old scripts; messages are in English"}}}},
    {"logview",
     "",
     opt,
     read,
     local,
     false,
     "",
     "the log as it grows; end with Ctrl-C",
     {{{"-s", "NB", "begin with so many lines (default 20)"},
       {"-A", "", "debug lines too"},
       {"-u", "", "the user log: output of the module's scripts"}}}},
    {"cmdlog",
     "",
     none,
     inspect,
     daemon,
     true,
     "GET /cmdlog",
     "the commands that changed something, and who gave them",
     {{{"-s", "NB", "number of lines (default 100)", "lines"}}}},
    {"printi", "MESSAGE...", mod, change, daemon, false, "", "write an information line to the module's log", {}},
    {"printw", "MESSAGE...", mod, change, daemon, false, "", "write a warning to the module's log", {}},
    {"printe", "MESSAGE...", mod, change, daemon, false, "", "write an error to the module's log", {}},
    {"set",
     "",
     mod,
     change,
     daemon,
     true,
     "PUT /modules/{m}/resources/{r}",
     "write a resource of a running module",
     {{{"-r", "RESOURCE", "its name, such as custom.disk"},
       {"-v", "STATE", "init, up, down, unknown, or any value"},
       {"-n", "", "leave no line in the log"},
       {"-l", "", "leave a line in the log even when nothing changed"}}}},
    {"get",
     "",
     mod,
     read,
     daemon,
     true,
     "GET /modules/{m}/resources/{r}",
     "print the value of a resource",
     {{{"-r", "RESOURCE", "its name, such as custom.disk"}}}},
    {"incloop",
     "",
     mod,
     change,
     daemon,
     false,
     "",
     "count one automatic restart; exits 1 when the limit is reached",
     {}},
    {"checkloop", "", mod, read, daemon, false, "", "exits 1 when the limit of automatic restarts is reached", {}},
    {"resetloop", "", mod, change, daemon, false, "", "forget the automatic restarts counted so far", {}},
    // Configuration of a module
    {"confcheck",
     "",
     mod,
     read,
     daemon,
     true,
     "POST /modules/{m}/confcheck",
     "check the edited configuration; changes nothing",
     {}},
    {"config",
     "",
     mod,
     change,
     daemon,
     true,
     "POST /modules/{m}/config",
     "apply the edited configuration; while the module runs, only what may change then",
     {}},
    {"confinfo",
     "",
     mod,
     read,
     daemon,
     true,
     "GET /modules/{m}/confinfo",
     "signatures of the active and of the edited configuration",
     {}},
    {"deconfig", "", mod, change, daemon, true, "POST /modules/{m}/deconfig", "take the active configuration away", {}},
    {"update",
     "",
     mod,
     change,
     daemon,
     true,
     "POST /modules/{m}/update",
     "apply what may change while the module runs",
     {}},
    {"boot",
     "on|off|status|webon|weboff|webstatus",
     opt,
     change,
     daemon,
     true,
     "PUT /modules/{m}/boot",
     "on, off, status: is the module started when the node boots; web…: do health URL and REST API run",
     {}},
    {"webserver", "restart", none, change, daemon, true, "", "start the health URL and the REST API anew", {}},
    // Packages
    {"module install",
     "[FILE.safe]",
     mod,
     change,
     daemon,
     false,
     "POST /modules",
     "install a module from a package",
     {{{"-M", "ID", "its number, 1..64, equal on all nodes (default: the first free one)"},
       {"-r", "", "replace an installed module of that name, keeping its edited configuration as backup"}}}},
    {"module package", "FILE.safe", mod, read, daemon, false, "", "write an installed module as a package", {}},
    {"module uninstall", "", mod, change, daemon, true, "DELETE /modules/{m}", "remove a stopped module", {}},
    {"module list", "", none, read, daemon, true, "GET /modules", "the installed modules", {}},
    {"module listid", "", none, read, daemon, true, "GET /modules", "the installed modules and their numbers", {}},
    {"module getports",
     "",
     opt,
     read,
     daemon,
     true,
     "",
     "the ports that a module uses",
     {{{"-i", "ID", "of the module with that number, installed or not"}}}},
    // Cluster
    {"cluster config",
     "[FILE]",
     none,
     change,
     daemon,
     false,
     "PUT /cluster",
     "apply cluster.xml (default /etc/stead/cluster.xml)",
     {}},
    {"cluster confcheck", "[FILE]", none, read, daemon, true, "", "check cluster.xml; changes nothing", {}},
    {"cluster confinfo",
     "",
     none,
     read,
     daemon,
     true,
     "GET /cluster",
     "signatures of the active and of the edited cluster.xml, and of the key",
     {}},
    {"cluster state", "", none, read, daemon, true, "GET /cluster/state", "which nodes are heard, on which LAN", {}},
    {"cluster check",
     "",
     none,
     inspect,
     daemon,
     true,
     "GET /cluster/check",
     "tests ports, key, versions, clock, MTU, network and kernel, and names what is wrong",
     {{{"-t", "SECONDS", "time for the tests (default 3)"}}}},
    {"cluster genkey",
     "",
     none,
     change,
     local,
     false,
     "",
     "make this cluster's key; works while steadd is down",
     {{{"--rotate", "", "new key for all nodes of a running cluster, without interruption"}, force_key}}},
    // Help
    {"help",
     "[WORD...]",
     none,
     read,
     local,
     false,
     "",
     "help on a command; `help exit-codes`",
     {{{"--man", "", "the man page stead(8)"}, {"--completion", "", "completion for bash"}}}},
});

constexpr auto common = std::to_array<Option>({
    {"-m", "AM", "the module (default: the environment's SAFEMODULE)"},
    {"-H", "NODES", "on these nodes: \"*\" for all, or \"n1,n2\""},
    {"-i", "WHO", "an automatic caller; counts in maxloop"},
    {"--json", "", "print JSON"},
    {"-h", "", "help on the command"},
});

} // namespace

std::span<const Option> Command::used_options() const noexcept {
    std::size_t count = 0;
    while (count < options.size() && !options[count].name.empty()) {
        ++count;
    }
    return std::span(options).first(count);
}

std::span<const Command> commands() noexcept { return table; }

std::span<const Option> common_options() noexcept { return common; }

const Command* find_command(std::string_view verb) noexcept {
    for (const Command& command : table) {
        if (command.verb == verb) {
            return &command;
        }
    }
    return nullptr;
}

int exit_code::of(Errc code) noexcept {
    switch (code) {
    case Errc::malformed: return configuration;
    case Errc::out_of_range: return configuration;
    case Errc::not_found: return not_found;
    case Errc::conflict: return conflict;
    case Errc::refused: return refused;
    case Errc::timed_out: return timed_out;
    case Errc::denied: return denied;
    case Errc::unsupported: return refused;
    case Errc::io: return io;
    }
    return internal;
}

} // namespace stead::control
