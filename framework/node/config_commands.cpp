// SPDX-License-Identifier: Apache-2.0
#include "value_or.hpp"

#include <stead/node/daemon.hpp>

#include <stead/archive/archive.hpp>
#include <stead/control/loop_count.hpp>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <sstream>

namespace stead::node {
namespace json = boost::json;
namespace fs = std::filesystem;
namespace exit_code = control::exit_code;
namespace {

constexpr seconds check_limit{10};
constexpr seconds hook_limit{300};
constexpr std::size_t xml_bytes_max = 4u << 20;

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

/// What `stead-host --check` said.
struct CheckReport {
    std::string warnings;
    json::array findings;
    std::string fixed;        ///< of what runs: what cannot change meanwhile, each on a new line
    std::string rehearsal;    ///< of `module check`, for people
    json::object rehearsed{}; ///< the same for --json: hooks, environment
};

/// Runs the module's own checks in a process of their own: plugins are third-party code, and steadd loads none.
Result<void> check_with_host(const control::Paths& paths, const std::string& module, const fs::path& prepared,
                             CheckReport& report, const fs::path& running = {}) {
    std::vector<std::string> argv{
        paths.host().string(),       "--check", module,           "--conf", (prepared / "conf").string(), "--bin",
        (prepared / "bin").string(), "--out",   prepared.string()};
    std::error_code ignored;
    if (fs::exists(paths.active_cluster(), ignored)) {
        argv.insert(argv.end(), {"--cluster", paths.active_cluster().string()});
    }
    if (!running.empty()) {
        argv.insert(argv.end(), {"--running", running.string()});
    }
    const Result<Finished> finished = run_limited(argv, check_limit);
    if (!finished) {
        return finished.error();
    }
    // A plugin may have printed something before: the report is the last line that is an object.
    json::error_code error;
    std::istringstream lines(finished->output);
    json::value answer;
    for (std::string one; std::getline(lines, one);) {
        json::value value = json::parse(one, error);
        if (!error && value.is_object() && value.get_object().contains("findings")) {
            answer = std::move(value);
        }
    }
    if (!answer.is_object()) {
        return Error{Errc::io, paths.host().string(),
                     "the check ended with exit code " + std::to_string(finished->exit) + ": " + finished->output};
    }
    std::string errors;
    for (const json::value& value : answer.at("findings").as_array()) {
        const json::object& finding = value.as_object();
        const bool warning = finding.contains("warning") && finding.at("warning") == json::value(true);
        (warning ? report.warnings : errors)
            .append(warning ? "warning: " : "")
            .append(text_of(finding, "text"))
            .append("\n");
    }
    report.findings = answer.at("findings").as_array();
    if (const json::value* fixed = answer.get_object().if_contains("fixed")) {
        for (const json::value& line : fixed->as_array()) {
            report.fixed.append("\n  ").append(line.as_string());
        }
    }
    if (finished->exit != 0 || !errors.empty()) {
        while (!errors.empty() && errors.back() == '\n') {
            errors.pop_back();
        }
        return Error{Errc::malformed, "", errors.empty() ? "the check failed: " + finished->output : errors};
    }
    return {};
}

Answer with_report(Answer answer, const CheckReport& report, const std::string& module) {
    answer.text = report.warnings + answer.text;
    answer.data = json::object{{"module", module}, {"ok", answer.error.empty()}, {"findings", report.findings}};
    return answer;
}

/// Refuses what a running module cannot take over, by name. Scripts may change: they are read at each run.
Result<void> may_change(const CheckReport& report, const std::string& module) {
    if (report.fixed.empty()) {
        return {};
    }
    return Error{Errc::conflict, "",
                 "module '" + module + "' is running, and these cannot change meanwhile:" + report.fixed +
                     "\nnothing was changed; 'stead stop -m " + module + "', then 'stead config -m " + module +
                     "' and 'stead start -m " + module + "' apply them"};
}

/// What `stead-host --rehearse` says of the hooks. Errors: malformed, one line per error of the hooks.
Result<std::string> rehearse(const control::Paths& paths, const std::string& module, const std::string& node,
                             const fs::path& prepared, CheckReport& report) {
    const Result<Finished> finished =
        run_limited({paths.host().string(), "--rehearse", module, node, prepared.string()}, hook_limit);
    if (!finished) {
        return finished.error();
    }
    json::error_code error;
    const json::value answer = json::parse(finished->output, error);
    if (error || !answer.is_object()) {
        return Error{Errc::io, paths.host().string(), finished->output};
    }
    const json::object& object = answer.get_object();
    std::string text = text_of(object, "text"), errors;
    for (const json::value& value : object.at("findings").as_array()) {
        const json::object& finding = value.as_object();
        const bool warning = finding.at("warning").as_bool();
        (warning ? report.warnings : errors)
            .append(warning          ? "warning: "
                    : errors.empty() ? ""
                                     : "\n")
            .append(text_of(finding, "text"))
            .append(warning ? "\n" : "");
        report.findings.push_back(value);
    }
    report.rehearsal = text;
    for (const char* part : {"hooks", "environment"}) {
        report.rehearsed[part] = object.at(part);
    }
    return errors.empty() ? Result<std::string>(std::move(text)) : Error{Errc::malformed, "", errors};
}

/// What `stead-host --hook` wrote as its hook failed: the reason, which is its last line, before the hook's own output.
std::string failed_hook(const Finished& ran) {
    const std::string_view mark = "stead-host: ";
    std::string_view output = ran.output;
    while (output.ends_with('\n')) {
        output.remove_suffix(1);
    }
    const std::size_t last = output.rfind('\n') + 1; // 0: it is the only line
    if (!output.substr(last).starts_with(mark)) {
        return "exit code " + std::to_string(ran.exit) + (output.empty() ? "" : ":\n" + std::string(output));
    }
    const std::string_view reason = output.substr(last + mark.size());
    const std::string_view before = output.substr(0, last == 0 ? 0 : last - 1);
    return before.starts_with(reason) ? std::string(before) // an error in Lua, with its traceback
                                      : std::string(reason) + (before.empty() ? "" : ":\n" + std::string(before));
}

/// A hook of the active configuration that is no part of a transition (config, postconfig, deconfig); none is fine.
Result<void> run_hook(const control::Paths& paths, const std::string& module, const std::string& node,
                      const std::string& hook, const fs::path& prepared = {}) { // empty: the configuration in force
    std::vector<std::string> argv{paths.host().string(), prepared.empty() ? "--hook" : "--hook-in", module, node};
    if (!prepared.empty()) {
        argv.push_back(prepared.string());
    }
    argv.push_back(hook);
    const Result<Finished> ran = run_limited(argv, hook_limit);
    if (!ran) {
        return ran.error();
    }
    if (ran->exit != 0) {
        return Error{Errc::refused, "hook " + hook, failed_hook(*ran)};
    }
    return {};
}

/// Config hooks see the new configuration in its place; one that fails brings the old one back.
Result<void> run_config_hooks(const control::Paths& paths, const std::string& module, const std::string& node,
                              bool had_one) {
    for (const char* hook : {"config", "postconfig"}) {
        if (Result<void> ran = run_hook(paths, module, node, hook); !ran) {
            const Generations generations(paths.module(module));
            const Result<void> back = had_one ? generations.revert() : generations.remove_active();
            Error failed = ran.error();
            failed.what += back ? "\nthe configuration was not applied" : "\n" + back.error().text();
            return failed;
        }
    }
    return {};
}

/// A number given as an option; nothing when absent or not a number (`bad`).
std::optional<unsigned> id_option(const Request& request, std::string_view name, bool& bad) {
    const std::string text = request.option(name);
    unsigned id = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), id);
    bad = !text.empty() && (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size());
    return text.empty() || bad ? std::nullopt : std::optional(id);
}

} // namespace

void Daemon::confcheck(const CallPtr& call) {
    const std::string module = call->request.module;
    in_background(call, [paths = paths_, module, node = cluster_node()] {
        CheckReport report;
        const Result<void> tried = try_out(paths.edited(module), paths.tries(), [&](const fs::path& prepared) {
            const Result<void> good = check_with_host(paths, module, prepared, report);
            return good ? run_hook(paths, module, node, "confcheck", prepared) : good;
        });
        return with_report(tried ? Answer::done("the configuration of '" + module + "' is good; nothing was changed")
                                 : Answer::failed(tried.error()),
                           report, module);
    });
}

void Daemon::config(const CallPtr& call) {
    if (runner(call->request.module)->running()) {
        return update(call);
    }
    const std::string module = call->request.module;
    change_module(call, [paths = paths_, module, node = cluster_node()] {
        CheckReport report;
        const Generations generations(paths.module(module));
        const bool had_one = !generations.active_name().empty();
        const Result<std::string> applied = generations.apply(paths.edited(module), [&](const fs::path& prepared) {
            return check_with_host(paths, module, prepared, report);
        });
        if (!applied) {
            return with_report(Answer::failed(applied.error()), report, module);
        }
        if (const Result<void> hooks = run_config_hooks(paths, module, node, had_one); !hooks) {
            return with_report(Answer::failed(hooks.error()), report, module);
        }
        Answer answer = Answer::done("the configuration of '" + module + "' is in force (" + *applied + ")");
        return with_report(std::move(answer), report, module);
    });
}

void Daemon::update(const CallPtr& call) {
    const std::string module = call->request.module;
    if (!runner(module)->running()) {
        return config(call);
    }
    auto report = std::make_shared<CheckReport>();
    auto applied = std::make_shared<bool>(false);
    // Two steps: a worker applies, then the host reads; a host that refuses gets the old one back.
    auto first = std::make_shared<Call>(
        Request{call->request.verb, module, "", "", {}, {}, {}, "", false}, [](const std::string&) {},
        [this, call, module, applied, report](Answer answer) {
            if (!*applied) {
                return call->finish(std::move(answer));
            }
            update_host(call, [report, module](Answer done) { return with_report(std::move(done), *report, module); });
        });
    change_module(first, [paths = paths_, module, node = cluster_node(), report, applied] {
        if (module_signature(paths.edited(module)) == module_signature(paths.active(module))) {
            return with_report(Answer::done("the configuration of '" + module + "' is in force already"), *report,
                               module);
        }
        const Generations generations(paths.module(module));
        const Result<std::string> done =
            generations.apply(paths.edited(module), [&](const fs::path& prepared) -> Result<void> {
                if (Result<void> good = check_with_host(paths, module, prepared, *report, paths.active(module));
                    !good) {
                    return good;
                }
                const Result<void> allowed = may_change(*report, module);
                return allowed ? run_hook(paths, module, node, "update", prepared) : allowed;
            });
        *applied = done.has_value();
        return done ? Answer::done("") : with_report(Answer::failed(done.error()), *report, module);
    });
}

void Daemon::update_host(const CallPtr& call, std::function<Answer(Answer)> finish) {
    const std::string module = call->request.module;
    runner(module)->request(
        {{"verb", "update"}}, [this, call, module, finish = std::move(finish)](const Result<json::object>& got) {
            if (got) {
                return call->finish(finish(Answer::done("module '" + module + "' uses its new configuration")));
            }
            const Result<void> back = Generations(paths_.module(module)).revert();
            Answer failed = Answer::failed(got.error());
            failed.error += back ? "\nnothing was changed; 'stead stop -m " + module + "', then 'stead config -m " +
                                       module + "' and 'stead start -m " + module + "' apply it"
                                 : "\n" + back.error().text();
            call->finish(std::move(failed));
        });
}

void Daemon::confinfo(const CallPtr& call) {
    const std::string module = call->request.module;
    in_background(call, [paths = paths_, module] {
        const std::string active = module_signature(paths.active(module));
        const std::string edited = module_signature(paths.edited(module));
        const bool same = active == edited;
        Answer answer = Answer::done(
            "active " + (active.empty() ? "none" : active) + "\nedited " + (edited.empty() ? "none" : edited) + "\n" +
            (same ? "they are the same" : "they differ; 'stead config -m " + module + "' applies the edited one"));
        answer.data = json::object{{"module", module},
                                   {"active", active},
                                   {"edited", edited},
                                   {"same", same},
                                   {"generation", Generations(paths.module(module)).active_name()}};
        return answer;
    });
}

void Daemon::deconfig(const CallPtr& call) {
    const std::string module = call->request.module;
    if (runner(module)->running()) {
        return call->finish(Answer::failed(exit_code::conflict,
                                           "module '" + module + "' is running; 'stead stop -m " + module + "' first"));
    }
    change_module(call, [registry = registry_, paths = paths_, module, node = cluster_node()] {
        if (const Result<void> there = registry.nothing_aside(module); !there) {
            return Answer::failed(there.error());
        }
        if (!Generations(paths.module(module)).active_name().empty()) {
            if (const Result<void> ran = run_hook(paths, module, node, "deconfig"); !ran) {
                return Answer::failed(ran.error());
            }
        }
        const Result<void> removed = Generations(paths.module(module)).remove_active();
        return removed ? Answer::done("module '" + module + "' is not configured any more; 'stead config -m " + module +
                                      "' applies the edited configuration again")
                       : Answer::failed(removed.error());
    });
}

void Daemon::module_check(const CallPtr& call) {
    const std::string module = call->request.module;
    in_background(call, [paths = paths_, module, node = cluster_node()] {
        CheckReport report;
        const Result<void> tried = try_out(paths.edited(module), paths.tries(), [&](const fs::path& prepared) {
            Result<void> good = check_with_host(paths, module, prepared, report);
            const Result<std::string> hooks = rehearse(paths, module, node, prepared, report);
            if (good && !hooks) {
                good = hooks.error();
            } else if (!hooks && hooks.error().code == Errc::malformed) {
                // Both: a script that does not compile is known to either.
                Error both = good.error();
                std::istringstream lines(hooks.error().what);
                for (std::string line; std::getline(lines, line);) {
                    both.what += both.what.find(line) == std::string::npos ? "\n" + line : "";
                }
                good = both;
            }
            return good;
        });
        Answer answer = tried ? Answer::done("nothing was changed") : Answer::failed(tried.error());
        if (!report.rehearsal.empty()) { // with a configuration that cannot be read no hook is rehearsed
            answer.text = "what the hooks of '" + module + "' would do\n" + report.rehearsal + answer.text;
        }
        answer = with_report(std::move(answer), report, module);
        for (const auto& [part, value] : report.rehearsed) {
            answer.data.as_object()[part] = value;
        }
        return answer;
    });
}

// ---- Packages
// --------------------------------------------------------------------------------------------------------

void Daemon::module_install(const CallPtr& call) {
    bool bad = false;
    const std::optional<unsigned> id = id_option(call->request, "M", bad);
    if (bad) {
        return call->finish(
            Answer::failed(exit_code::usage, "-M " + call->request.option("M") + ": not a number from 1 to 64"));
    }
    const std::string module = call->request.module;
    if (runners_.contains(module) && runners_.at(module)->running()) {
        return call->finish(Answer::failed(exit_code::conflict, "module '" + module + "' is running; stop it first"));
    }
    if (!call->request.arguments.empty() && call->request.fds.empty()) {
        return call->finish(Answer::failed(exit_code::usage, "the package did not come with the request"));
    }
    auto file = std::make_shared<Fd>(call->request.fds.empty() ? Fd{} : std::move(call->request.fds[0]));
    const std::string typed = call->request.arguments.empty() ? "" : call->request.arguments[0];
    change_module(call, [registry = registry_, module, id, replace = call->request.has("r"), file, typed] {
        const fs::path package = *file ? "/proc/self/fd/" + std::to_string(file->get()) : std::string{};
        const Result<InstalledModule> installed = registry.install(module, id, replace, package);
        if (!installed) {
            Error error = installed.error();
            if (*file && error.where.starts_with(package.string())) { // people know it by the name that they typed
                error.where.replace(0, package.string().size(), typed);
            }
            return Answer::failed(error);
        }
        Answer answer = Answer::done("module '" + module + "' is installed with id " + std::to_string(installed->id) +
                                     "; edit /etc/stead/modules/" + module +
                                     "/conf/userconfig.xml, then 'stead config -m " + module + "'");
        answer.data = json::object{{"module", module}, {"id", installed->id}};
        return answer;
    });
}

void Daemon::module_new(const CallPtr& call) {
    const std::string name = call->request.arguments.at(0);
    const std::string from = call->request.option("template", "light");
    bool bad = false;
    const std::optional<unsigned> id = id_option(call->request, "M", bad);
    if (!control::is_module_name(name) || bad) {
        return call->finish(Answer::failed(exit_code::usage, bad ? "-M: not a number from 1 to 64"
                                                                 : "'" + name +
                                                                       "' is no name of a module: 1 to 63 of "
                                                                       "A-Z a-z 0-9 . _ -"));
    }
    if (from != "farm" && from != "mirror" && from != "light") {
        return call->finish(
            Answer::failed(exit_code::usage, "no template '" + from + "'; allowed: farm, mirror, light"));
    }
    call->request.module = name;
    change_module(call, [registry = registry_, paths = paths_, name, from, id] {
        const Result<InstalledModule> made =
            registry.install(name, id, false, paths.shipped_modules() / (from + ".safe"));
        if (!made) {
            return Answer::failed(made.error());
        }
        std::error_code ignored;
        const bool no_mirror = from == "mirror" && !fs::exists(paths.plugins() / "mirror.so", ignored);
        Answer answer = Answer::done(
            "module '" + name + "' (id " + std::to_string(made->id) + ") is in " + paths.edited(name).string() +
            "\nedit conf/userconfig.xml and bin/, then 'stead module check -m " + name + "', 'stead config -m " + name +
            "', 'stead start -m " + name + "'" +
            (from == "mirror" ? "; the first time, instead of start, 'stead prim -m " + name +
                                    "' on the node with the good data and 'stead second -m " + name + "' on the other"
                              : "") +
            (no_mirror ? "\nwarning: no mirror plugin in " + paths.plugins().string() +
                             "; until it is there, 'stead config' refuses mode=\"mirror\""
                       : ""));
        answer.data = json::object{{"module", name}, {"id", made->id}, {"folder", paths.edited(name).string()}};
        return answer;
    });
}

void Daemon::module_package(const CallPtr& call) {
    const std::string module = call->request.module;
    in_background(call, [paths = paths_, module] {
        // Written where only root can, then handed over as a descriptor: the caller opens its file with its own rights.
        const fs::path file = paths.run / ("package-" + module + "-" + std::to_string(::gettid()) + ".safe");
        const Result<archive::Summary> packed = archive::package(paths.edited(module), file);
        if (!packed) {
            return Answer::failed(packed.error());
        }
        Answer answer = Answer::done(std::to_string(packed->entries.size()) + " files and folders packed");
        answer.fds.emplace_back(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
        std::error_code ignored;
        fs::remove(file, ignored);
        return answer;
    });
}

void Daemon::module_uninstall(const CallPtr& call) {
    const std::string module = call->request.module;
    if (runner(module)->running()) {
        return call->finish(Answer::failed(exit_code::conflict,
                                           "module '" + module + "' is running; 'stead stop -m " + module + "' first"));
    }
    change_module(
        call,
        [registry = registry_, paths = paths_, module] {
            Result<void> removed = registry.nothing_aside(module);
            removed = removed ? registry.uninstall(module) : removed;
            if (removed) {
                control::remove_loop_count(paths, module);
            }
            return removed ? Answer::done("module '" + module + "' is removed") : Answer::failed(removed.error());
        },
        [this, module] {
            runners_.erase(module);
            if (bus_) {
                for (const char* kind : {"module.", "share."}) {
                    [[maybe_unused]] const Result<void> gone = bus_->publish(kind + module, std::nullopt);
                }
            }
        });
}

void Daemon::module_list(const CallPtr& call) {
    const bool ids = call->request.verb == "module listid";
    Answer answer;
    json::array data;
    for (const InstalledModule& module : registry_.list()) {
        answer.text += module.name;
        if (ids) {
            answer.text += " " + std::to_string(module.id);
        }
        answer.text += "\n";
        data.push_back(json::object{
            {"name", module.name}, {"id", module.id}, {"mode", module.mode}, {"configured", module.configured}});
    }
    answer.data = json::object{{"modules", std::move(data)}};
    call->finish(std::move(answer));
}

void Daemon::module_ports(const CallPtr& call) {
    bool bad = false;
    std::optional<unsigned> id = id_option(call->request, "i", bad);
    std::vector<ModulePort> ports;
    if (!id && !bad && !call->request.module.empty()) {
        const Result<InstalledModule> module = registry_.find(call->request.module);
        if (!module || module->damage) {
            return call->finish(Answer::failed(module ? *module->damage : module.error()));
        }
        id = module->id;
        ports = registry_.ports(*module);
    }
    if (!id || *id < 1 || *id > 64) {
        return call->finish(Answer::failed(exit_code::usage, "'module getports' needs -m AM, or -i ID with 1 to 64"));
    }
    if (!call->request.option("i").empty()) {
        ports = ports_of(*id);
    }
    Answer answer;
    json::array data;
    for (const ModulePort& port : ports) {
        answer.text += port.protocol + " " + std::to_string(port.port) + " " + port.what + "\n";
        data.push_back(json::object{{"protocol", port.protocol}, {"port", port.port}, {"what", port.what}});
    }
    answer.data = json::object{{"id", *id}, {"ports", std::move(data)}};
    call->finish(std::move(answer));
}

} // namespace stead::node
