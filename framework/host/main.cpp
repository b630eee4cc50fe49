// SPDX-License-Identifier: Apache-2.0
// stead-host: runs one module, or answers questions about plugins and configurations. The only program of Stead that
// loads plugins.
#include "check.hpp"
#include "last_words.hpp"
#include "module_host.hpp"
#include "one_shot.hpp"

#include <stead/base/log.hpp>
#include <stead/config/config.hpp>
#include <stead/control/module_log.hpp>
#include <stead/control/paths.hpp>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <syslog.h>

namespace {

using namespace stead;

constexpr std::string_view usage =
    "usage: stead-host --module AM                run the module's active configuration until it stops\n"
    "       stead-host --check AM [--conf DIR] [--bin DIR] [--cluster FILE] [--out DIR] [--running DIR]\n"
    "                                             check a configuration; prints one JSON object\n"
    "       stead-host --cleanup AM               remove what a dead host of the module left behind\n"
    "       stead-host --hook AM NODE NAME [ARG ...]   run one hook of the active configuration\n"
    "       stead-host --hook-in AM NODE DIR NAME [ARG ...]   the same of the configuration in DIR\n"
    "       stead-host --rehearse AM NODE DIR     say what the hooks in DIR would do; prints one JSON object\n"
    "                                             NODE: the name of this node, '' where there is no cluster\n"
    "       stead-host --schema                   print elements and attributes of all plugins as JSON\n"
    "       stead-host --reference                print the configuration reference as markdown\n"
    "       stead-host --version\n"
    "Exit codes: 0 done or stopped, 1 failed, 64 wrong usage, 75 start me again at once.\n";

constexpr int exit_failed = 1, exit_usage = 64;

int wrong_usage(const std::string& why) {
    std::cerr << "stead-host: " << why << "\n" << usage;
    return exit_usage;
}

int syslog_priority(log::Level level) {
    switch (level) {
    case log::Level::debug: return LOG_DEBUG;
    case log::Level::event: return LOG_NOTICE;
    case log::Level::warning: return LOG_WARNING;
    case log::Level::error: return LOG_ERR;
    }
    return LOG_NOTICE;
}

/// Module log, and the journal by syslog.
void log_to_module(const std::string& module, const control::Paths& paths) {
    static const std::string ident = "stead-host[" + module + "]";
    ::openlog(ident.c_str(), LOG_PID, LOG_DAEMON);
    auto file = std::make_shared<control::ModuleLog>(paths.module_log(module), module);
    log::set_sink([file](const log::Record& record) {
        file->write(record.level, record.source, record.text);
        if (record.level != log::Level::debug) {
            ::syslog(syslog_priority(record.level), "%.*s: %.*s", static_cast<int>(record.source.size()),
                     record.source.data(), static_cast<int>(record.text.size()), record.text.data());
        }
    });
}

int run_module(const std::string& module, const control::Paths& paths) {
    std::signal(SIGPIPE, SIG_IGN);
    log_to_module(module, paths);
    const auto fail = [](const Error& error) {
        log::error("host", "the module cannot run: " + error.text());
        std::cerr << "stead-host: " << error.text() << "\n";
        return exit_failed;
    };
    static const host::Registry registry = host::Registry::load(paths.plugins());
    host::tell_crashes(registry);
    auto facts = host::read_facts(module, paths, registry, true);
    if (!facts) {
        return fail(facts.error());
    }
    boost::asio::io_context io{1};
    host::ModuleHost running(io, registry, std::move(*facts));
    if (auto started = running.start(); !started) {
        return fail(started.error());
    }
    io.run();
    return running.exit_code();
}

struct Arguments {
    std::vector<std::string> all;
    std::size_t next{};
    [[nodiscard]] std::optional<std::string> take() {
        return next < all.size() ? std::optional{all[next++]} : std::nullopt;
    }
};

int run_check(Arguments& arguments, const std::string& module, const control::Paths& paths) {
    host::CheckRequest request;
    request.module = module;
    request.conf = paths.edited(module) / "conf";
    request.bin = paths.edited(module) / "bin";
    std::error_code failed;
    if (std::filesystem::exists(paths.active_cluster(), failed)) {
        request.cluster = paths.active_cluster();
    }
    while (const auto option = arguments.take()) {
        const auto value = arguments.take();
        if (!value) {
            return wrong_usage(*option + " needs a value");
        }
        if (*option == "--conf") {
            request.conf = *value;
        } else if (*option == "--bin") {
            request.bin = *value;
        } else if (*option == "--cluster") {
            request.cluster = *value;
        } else if (*option == "--out") {
            request.out = *value;
        } else if (*option == "--running") {
            request.running = *value;
        } else {
            return wrong_usage("unknown option " + *option + " of --check");
        }
    }
    return host::check_module(request, host::Registry::load(paths.plugins()), paths);
}

int run_with_module(const std::string& verb, Arguments& arguments, const control::Paths& paths) {
    const auto module = arguments.take();
    std::filesystem::path active;
    if (!module || !control::is_module_name(*module)) {
        return wrong_usage(verb + " needs a module name: 1 to 63 of A-Z a-z 0-9 . _ -");
    }
    if (verb == "--module") {
        return run_module(*module, paths);
    }
    if (verb == "--check") {
        return run_check(arguments, *module, paths);
    }
    if (verb == "--cleanup") {
        log_to_module(*module, paths);
        return host::cleanup_module(*module, host::Registry::load(paths.plugins()), paths);
    }
    const auto node = arguments.take();
    if (!node) {
        return wrong_usage(verb + " needs the name of this node, or ''");
    }
    if (verb == "--hook-in" || verb == "--rehearse") {
        active = arguments.take().value_or("");
        if (active.empty()) {
            return wrong_usage(verb + " needs the folder that holds conf and bin");
        }
    }
    if (verb == "--rehearse") {
        return host::rehearse_module({*module, *node, active}, host::Registry::load(paths.plugins()), paths);
    }
    const auto hook = arguments.take();
    if (!hook) {
        return wrong_usage(verb + " needs the name of a hook");
    }
    std::vector<std::string> rest;
    while (auto argument = arguments.take()) {
        rest.push_back(*argument);
    }
    return host::run_one_hook({*module, *node, active}, *hook, rest, host::Registry::load(paths.plugins()), paths);
}

int run(std::span<char*> argv) {
    Arguments arguments{{argv.begin() + 1, argv.end()}};
    const control::Paths& paths = control::paths();
    const auto verb = arguments.take();
    if (!verb) {
        return wrong_usage("what to do?");
    }
    if (*verb == "--module" || *verb == "--check" || *verb == "--cleanup" || *verb == "--hook" ||
        *verb == "--hook-in" || *verb == "--rehearse") {
        return run_with_module(*verb, arguments, paths);
    }
    if (*verb == "--schema") {
        std::cout << host::schema_json(host::Registry::load(paths.plugins()), paths) << "\n";
    } else if (*verb == "--reference") {
        const host::Registry registry = host::Registry::load(paths.plugins());
        std::cout << config::reference_markdown(host::schema_set(registry, paths));
    } else if (*verb == "--version") {
        std::cout << "stead-host " STEAD_VERSION ", plugin ABI " << STEAD_ABI_MAJOR << "." << STEAD_ABI_MINOR << "\n";
    } else if (*verb == "--help" || *verb == "-h") {
        std::cout << usage;
    } else {
        return wrong_usage("unknown option " + *verb);
    }
    return std::cout.flush() ? 0 : exit_failed;
}

} // namespace

int main(int argc, char** argv) {
    try {
        return run({argv, static_cast<std::size_t>(argc)});
    } catch (const std::exception& e) { // out of memory and the like: the process ends, steadd sees it
        std::fprintf(stderr, "stead-host: %s\n", e.what());
        stead::log::error("host", std::string{"fatal: "} + e.what());
        return exit_failed;
    }
}
