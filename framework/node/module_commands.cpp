// SPDX-License-Identifier: Apache-2.0
#include <stead/base/utf8.hpp>
#include <stead/control/user_settings.hpp>
#include <stead/node/daemon.hpp>
#include <stead/node/process.hpp>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

namespace stead::node {
namespace json = boost::json;
namespace exit_code = control::exit_code;
namespace {

constexpr seconds query_hook_limit{10};

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

std::string padded(std::string text, std::size_t width) {
    text.append(text.size() < width ? width - text.size() : 1, ' ');
    return text;
}

int quiet_exit(const std::string& state) {
    constexpr std::array<std::pair<std::string_view, int>, 6> codes{
        {{"STOP", 0}, {"WAIT", 1}, {"ALONE", 2}, {"UP", 2}, {"PRIM", 3}, {"SECOND", 4}}};
    for (const auto& [name, code] : codes) {
        if (name == state) {
            return code;
        }
    }
    return exit_code::internal;
}

std::optional<unsigned> number(const std::string& text) {
    unsigned value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    return parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

std::string caller_of(const Request& request) { return request.by.empty() ? request.caller : request.by; }

/// One line per state: "  n1 (this node)   UP      Ready     33%     reason".
std::string state_line(const std::string& node, const json::object& state) {
    const std::string share = text_of(state, "share");
    return "  " + padded(node, 24) + padded(text_of(state, "state"), 8) + padded(text_of(state, "qualifier"), 10) +
           (share.empty() ? "" : padded(share, 8)) + text_of(state, "reason") + "\n";
}

std::string state_text(const json::array& modules) {
    std::string text;
    for (const json::value& value : modules) {
        const json::object& module = value.get_object();
        const std::string mode = text_of(module, "mode");
        text += "module " + text_of(module, "name") + " (id " + std::to_string(module.at("id").to_number<int>()) +
                ", " + (mode.empty() ? "not configured" : mode) + ")\n";
        if (module.at("configured").as_bool()) {
            text += state_line(text_of(module, "node") + " (this node)", module);
        } else {
            text += "  not configured; 'stead config -m " + text_of(module, "name") + "' applies its configuration\n";
        }
        for (const json::value& peer : module.at("peers").as_array()) {
            text += state_line(text_of(peer.get_object(), "node"), peer.get_object());
        }
    }
    return text.empty() ? "no module is installed; 'stead module install -m AM FILE.safe' installs one\n" : text;
}

std::string names_in(const json::value* list) {
    std::string text;
    if (list != nullptr && list->is_array()) {
        for (const json::value& name : list->get_array()) {
            if (name.is_string()) {
                text.append(text.empty() ? "" : " ").append(name.get_string());
            }
        }
    }
    return text;
}

std::string verbose_text(const json::object& detail) {
    std::string text;
    if (const json::value* view = detail.if_contains("view"); view != nullptr && view->is_object()) {
        const json::value* epoch = view->get_object().if_contains("epoch");
        text += "view: " + names_in(view->get_object().if_contains("members")) +
                (epoch != nullptr ? " (epoch " + json::serialize(*epoch) + ")" : "") + "\n";
    }
    if (const json::value* notes = detail.if_contains("notes"); notes != nullptr && notes->is_array()) {
        for (const json::value& note : notes->get_array()) {
            text += "note: " + (note.is_string() ? std::string(note.get_string()) : json::serialize(note)) + "\n";
        }
    }
    text += "resources:\n";
    if (const json::value* list = detail.if_contains("resources"); list != nullptr && list->is_array()) {
        for (const json::value& value : list->get_array()) {
            if (const json::object* resource = value.if_object()) {
                const std::string why = text_of(*resource, "reason");
                text += "  " + padded(text_of(*resource, "node"), 16) + padded(text_of(*resource, "name"), 28) +
                        text_of(*resource, "value") + (why.empty() ? "" : "  (" + why + ")") + "\n";
            }
        }
    }
    if (const json::value* counters = detail.if_contains("counters"); counters != nullptr && counters->is_object()) {
        text += "counters:\n";
        for (const auto& [name, value] : counters->get_object()) {
            text += "  " + padded(std::string(name), 32) + json::serialize(value) + "\n";
        }
    }
    return text;
}

} // namespace

// ---- Life
// ------------------------------------------------------------------------------------------------------------

void Daemon::start_module(const CallPtr& call) {
    start_then(call, [call](const json::object& started) {
        const std::string text = text_of(started, "text");
        call->finish(Answer::done(text.empty() ? "module '" + call->request.module + "' is starting" : text));
    });
}

void Daemon::start_then(const CallPtr& call, std::function<void(const json::object&)> then) {
    const std::string& module = call->request.module;
    if (!cluster_) {
        return call->finish(Answer::failed(exit_code::conflict, "this node has no cluster: " + cluster_problem_));
    }
    const Result<InstalledModule> installed = registry_.find(module);
    if (!installed || installed->damage) {
        return call->finish(Answer::failed(installed ? *installed->damage : installed.error()));
    }
    if (!installed->configured) {
        return call->finish(Answer::failed(
            exit_code::conflict, "module '" + module + "' is not configured; run 'stead config -m " + module + "'"));
    }
    if (changing_.contains(module)) {
        return call->finish(Answer::failed(exit_code::conflict, "its configuration is being changed; try again"));
    }
    boot_timers_.erase(module);
    if (const Result<void> marked = write_file_atomically(paths_.running_mark(module), "\n"); !marked) {
        call->progress("warning: " + marked.error().text() + "; a boot=\"auto\" will not know that it ran");
    }
    const bool going_down = call->request.hook == module && runner(module)->running();
    runner(module)->start(caller_of(call->request),
                          [call, module, then = std::move(then)](const Result<json::object>& started) {
                              if (!started) {
                                  return call->finish(Answer::failed(exit_code::of(started.error().code),
                                                                     started.error().text() + "\n'stead log -m " +
                                                                         module + "' shows what it did before"));
                              }
                              then(*started);
                          });
    if (going_down) {
        call->finish(Answer::done("module '" + module + "' starts again once it has stopped"));
    }
}

void Daemon::stop_module(const CallPtr& call) {
    const std::string& module = call->request.module;
    std::error_code ignored;
    std::filesystem::remove(paths_.running_mark(module), ignored);
    boot_timers_.erase(module);
    runner(module)->stop(call->request.verb == "forcestop", caller_of(call->request), !call->request.by.empty(),
                         [call, module](const Result<json::object>& stopped) {
                             if (!stopped) {
                                 return call->finish(Answer::failed(stopped.error()));
                             }
                             const std::string text = text_of(*stopped, "text");
                             call->finish(Answer::done(text.empty() ? "module '" + module + "' is stopped" : text));
                         });
    if (call->request.hook == module) {
        call->finish(Answer::done("module '" + module + "' stops; its own script does not wait for that"));
    }
}

void Daemon::shutdown(const CallPtr& call) {
    struct Progress {
        std::size_t left{1};
        std::string failed;
    };
    const auto progress = std::make_shared<Progress>();
    const auto one_less = [call, progress](const Result<json::object>& stopped) {
        if (!stopped) {
            progress->failed += (progress->failed.empty() ? "" : "\n") + stopped.error().text();
        }
        if (--progress->left == 0) {
            call->finish(progress->failed.empty() ? Answer::done("all modules are stopped")
                                                  : Answer::failed(exit_code::timed_out, progress->failed));
        }
    };
    boot_timers_.clear(); // what has not started yet shall not
    for (const auto& [name, one] : runners_) {
        if (one->running() || one->state().state != "STOP") { // the latter: its start is to be tried again
            ++progress->left;
            call->progress("stopping " + name);
            one->stop(false, caller_of(call->request), false, one_less);
        }
    }
    if (const auto asking = runners_.find(call->request.hook); asking != runners_.end() && asking->second->running()) {
        call->finish(Answer::done("all modules stop; a script of one of them does not wait for that"));
    }
    one_less(json::object{});
}

void Daemon::finish_from_host(const CallPtr& call, json::object request, std::string field, json::object data) {
    runner(call->request.module)
        ->request(std::move(request),
                  [call, field = std::move(field), data = std::move(data)](const Result<json::object>& answer) {
                      if (!answer) {
                          return call->finish(Answer::failed(answer.error()));
                      }
                      Answer done = Answer::done(text_of(*answer, field));
                      json::object shown = data.empty() ? *answer : data;
                      shown.erase("id");
                      done.data = std::move(shown);
                      call->finish(std::move(done));
                  });
}

void Daemon::pass_on(const CallPtr& call) {
    finish_from_host(
        call,
        {{"verb", call->request.verb}, {"by", caller_of(call->request)}, {"automatic", !call->request.by.empty()}});
}

void Daemon::wait_state(const CallPtr& call) {
    const std::string limit_text = call->request.option("t");
    const std::optional<unsigned> limit = number(limit_text);
    if (!limit_text.empty() && !limit) {
        return call->finish(Answer::failed(exit_code::usage, "-t " + limit_text + ": not a number of seconds"));
    }
    const std::shared_ptr<ModuleRunner> one = runner(call->request.module);
    std::function<bool()> condition;
    const auto stopped = [one] { return !one->running() && one->state().state == "STOP"; };
    if (call->request.verb == "waitstop") {
        condition = stopped;
    } else if (call->request.verb == "waitstart") {
        condition = [one, stopped, ran = std::make_shared<bool>(false)] {
            // It was on its way and stopped, or had failed before we looked.
            const bool gave_up = stopped() && (*ran || !one->state().reason.empty());
            *ran = one->running();
            return gave_up || (one->state().qualifier == "Ready" && one->state().state != "STOP");
        };
    } else if (call->request.arguments.at(0) == "STOP") {
        condition = stopped;
    } else {
        condition = [one, wanted = call->request.arguments.at(0)] {
            return one->state().state == wanted && one->state().qualifier != "Transient";
        };
    }
    one->wait_for(condition, limit ? std::optional(seconds{*limit}) : std::nullopt, [call, one](bool reached) {
        const std::string now = one->state().state + " " + one->state().qualifier;
        if (reached && call->request.verb == "waitstart" && one->state().state == "STOP") {
            return call->finish(Answer::failed(exit_code::no, "module '" + call->request.module + "' did not start" +
                                                                  (one->state().reason.empty() ? "" : ": ") +
                                                                  one->state().reason));
        }
        call->finish(reached ? Answer::done(now)
                             : Answer::failed(exit_code::timed_out, "not reached in time; the state is " + now));
    });
}

void Daemon::boot_web(const CallPtr& call) {
    const std::string& what = call->request.arguments.at(0);
    if (what != "webstatus") {
        if (const Result<void> set = web_->enable(what == "webon"); !set) {
            return call->finish(Answer::failed(set.error()));
        }
    }
    const std::string now = web_->enabled() ? "on" : "off";
    Answer answer = Answer::done("health URL and REST API are " + now);
    answer.data = json::object{{"web", now}};
    call->finish(std::move(answer));
}

void Daemon::webserver(const CallPtr& call) {
    if (!web_->enabled()) {
        return call->finish(Answer::failed(exit_code::refused, "stead-web is off; 'stead boot webon' starts it"));
    }
    web_->restart();
    call->finish(Answer::done("stead-web starts anew"));
}

void Daemon::boot(const CallPtr& call) {
    const std::string& what = call->request.arguments.at(0);
    const std::string& module = call->request.module;
    if (what.starts_with("web")) {
        return boot_web(call);
    }
    const Result<InstalledModule> installed =
        module.empty() ? Error{Errc::malformed, "", "'boot " + what + "' needs -m AM"} : registry_.find(module);
    if (!installed) {
        return call->finish(
            Answer::failed(module.empty() ? exit_code::usage : exit_code::not_found, installed.error().text()));
    }
    const std::string configured = registry_.configured_boot(module);
    if (what != "status") {
        if (configured != "ignore") {
            return call->finish(
                Answer::failed(exit_code::refused, "the configuration of '" + module + "' says boot=\"" + configured +
                                                       "\", and that wins; change it there and run 'stead config -m " +
                                                       module + "' (boot=\"ignore\" leaves it to this command)"));
        }
        if (const Result<void> set = registry_.set_boot(module, what == "on"); !set) {
            return call->finish(Answer::failed(set.error()));
        }
    }
    const std::string boot = registry_.boot(module);
    const std::int64_t delay_s = std::chrono::ceil<seconds>(registry_.boot_delay(module)).count();
    const char* meaning = boot == "auto"     ? "; it starts at boot if it was running before"
                          : boot == "ignore" ? "; it does not start at boot ('stead boot on' changes that)"
                                             : "";
    Answer answer = Answer::done("boot of '" + module + "' is " + boot + meaning +
                                 (delay_s > 0 ? ", after " + std::to_string(delay_s) + " s" : "") + "; " +
                                 (configured == "ignore" ? "set by 'stead boot'" : "set by its configuration"));
    answer.data =
        json::object{{"module", module}, {"boot", boot}, {"configured", configured}, {"boot_delay_s", delay_s}};
    call->finish(std::move(answer));
}

// ---- States
// ----------------------------------------------------------------------------------------------------------

json::array Daemon::module_table(const std::string& only) {
    const std::vector<bus::Resource> resources = bus_ ? bus_->resources() : std::vector<bus::Resource>{};
    json::array table;
    for (const InstalledModule& module : registry_.list()) {
        if (!only.empty() && module.name != only) {
            continue;
        }
        ModuleState state = runner(module.name)->state();
        if (const auto timer = boot_timers_.find(module.name); timer != boot_timers_.end() && state.reason.empty()) {
            const auto left =
                std::chrono::ceil<seconds>(timer->second.expiry() - boost::asio::steady_timer::clock_type::now());
            state.reason = "starts in " + std::to_string(std::max<std::int64_t>(left.count(), 0)) + " s (boot_delay)";
        }
        if (module.damage && state.reason.empty()) {
            state.reason = module.damage->text();
        }
        json::array peers;
        const auto with_share = [](json::object line, const std::string& share) {
            if (!share.empty()) {
                line["share"] = share;
            }
            return line;
        };
        const auto share_of = [&](NodeId node) {
            const auto found = std::ranges::find_if(resources, [&](const bus::Resource& resource) {
                return resource.owner == node && resource.name == "share." + module.name;
            });
            return found != resources.end() ? found->value : std::string{};
        };
        for (const bus::Resource& resource : resources) {
            if (resource.name != "module." + module.name || resource.owner == cluster_->self) {
                continue;
            }
            const std::size_t space = resource.value.find(' ');
            peers.push_back(with_share(
                json::object{{"node", cluster_->cluster.nodes[index(resource.owner)]},
                             {"state", resource.value.substr(0, space)},
                             {"qualifier", space == resource.value.npos ? "" : resource.value.substr(space + 1)}},
                share_of(resource.owner)));
        }
        table.push_back(
            with_share(json::object{{"name", module.name},
                                    {"id", module.id},
                                    {"mode", module.mode},
                                    {"configured", module.configured},
                                    {"node", own_name()},
                                    {"state", state.state},
                                    {"qualifier", state.qualifier},
                                    {"reason", state.reason},
                                    {"started", state.started},
                                    {"pid", runner(module.name)->running() ? runner(module.name)->pid() : 0},
                                    {"peers", std::move(peers)}},
                       state.share));
    }
    return table;
}

void Daemon::state(const CallPtr& call) {
    const std::string& module = call->request.module;
    if (!module.empty()) {
        if (const Result<InstalledModule> found = registry_.find(module); !found) {
            return call->finish(Answer::failed(found.error()));
        }
    }
    if (call->request.has("lq")) {
        if (module.empty()) {
            return call->finish(Answer::failed(exit_code::usage, "'state -lq' needs -m AM"));
        }
        Answer answer;
        answer.exit = quiet_exit(runner(module)->state().state);
        return call->finish(std::move(answer));
    }
    if (call->request.has("v")) {
        return state_verbose(call);
    }
    finish_state(call, {});
}

void Daemon::finish_state(const CallPtr& call, const std::map<std::string, json::object>& details) {
    json::array table = module_table(call->request.module);
    Answer answer = Answer::done(table.empty() ? state_text(table) : "");
    json::object data{{"node", own_name()}};
    for (json::value& one : table) {
        const auto detail = details.find(text_of(one.get_object(), "name"));
        answer.text += state_text({one});
        if (detail != details.end()) {
            answer.text += verbose_text(detail->second);
            (call->request.module.empty() ? one.get_object() : data)["detail"] = detail->second;
        }
    }
    if (!cluster_) {
        answer.text += "this node has no cluster: " + cluster_problem_ + "\n";
    }
    data["modules"] = std::move(table);
    answer.data = std::move(data);
    call->request.has("v") ? finish_with_hook(call, std::move(answer)) : call->finish(std::move(answer));
}

/// With what the module's own hook `state` or `level` says of its application. One that fails spoils no answer.
void Daemon::finish_with_hook(const CallPtr& call, Answer answer) {
    const std::string& module = call->request.module;
    const std::string& verb = call->request.verb;
    std::error_code ignored;
    const auto there = [&](const std::string& file) {
        return std::filesystem::exists(paths_.active(module) / "bin" / file, ignored);
    };
    if (module.empty() || call->request.from_web || !(there(verb) || there(verb + ".lua"))) {
        return call->finish(std::move(answer));
    }
    const std::string state = runner(module)->state().state;
    const std::vector<std::string> argv{
        paths_.host().string(), "--hook", module, cluster_node(), verb, state, state, verb};
    const auto known = std::make_shared<Answer>(std::move(answer)); // it cannot be copied
    in_background(call, [argv, verb, known] {
        const Result<Finished> ran = run_limited(argv, query_hook_limit);
        const std::string output = ran ? ran->output : ran.error().text() + "\n";
        const int exit = ran ? ran->exit : exit_code::of(ran.error().code);
        known->text +=
            exit == 0 ? output : "hook " + verb + " failed, exit code " + std::to_string(exit) + ": " + output;
        known->data.as_object()["hook"] = json::object{{"exit", exit}, {"output", utf8_json(output)}};
        return std::move(*known);
    });
}

/// Of every running module, or of one.
void Daemon::state_verbose(const CallPtr& call) {
    const std::string& only = call->request.module;
    struct Gathered {
        std::size_t missing{1};
        std::map<std::string, json::object> details;
    };
    const auto gathered = std::make_shared<Gathered>();
    const auto one_less = [this, call, gathered] {
        if (--gathered->missing == 0) {
            finish_state(call, gathered->details);
        }
    };
    for (const auto& [name, one] : runners_) {
        if (!one->running() || (!only.empty() && name != only)) {
            continue;
        }
        ++gathered->missing;
        one->request({{"verb", "state"}, {"verbose", true}},
                     [call, gathered, one_less, name = name, only](const Result<json::object>& got) {
                         if (!got && !only.empty()) {
                             return call->finish(Answer::failed(got.error()));
                         }
                         json::object detail = got ? *got : json::object{{"notes", json::array{got.error().text()}}};
                         detail.erase("id");
                         detail.erase("ok");
                         gathered->details[name] = std::move(detail);
                         one_less();
                     });
    }
    one_less();
}

void Daemon::level(const CallPtr& call) {
    utsname system{};
    ::uname(&system);
    std::string os = "unknown";
    if (const Result<std::string> release = read_file("/etc/os-release", 65536)) {
        if (const std::size_t at = release->find("PRETTY_NAME=\""); at != release->npos) {
            os = release->substr(at + 13, release->find('"', at + 13) - at - 13);
        }
    }
    Answer answer =
        Answer::done("Stead " + version() + "\nkernel " + system.release + " " + system.machine + "\nOS " + os + "\n");
    json::object data{{"version", version()}, {"kernel", system.release}, {"machine", system.machine}, {"os", os}};
    if (!call->request.module.empty()) {
        const Result<InstalledModule> module = registry_.find(call->request.module);
        if (!module) {
            return call->finish(Answer::failed(module.error()));
        }
        answer.text += "module " + module->name + " id " + std::to_string(module->id) + " " +
                       (module->configured ? module->mode : "not configured") + "\n";
        data["module"] = module->name;
        data["id"] = module->id;
    }
    answer.data = std::move(data);
    finish_with_hook(call, std::move(answer));
}

// ---- Logs and resources
// ----------------------------------------------------------------------------------------------

void Daemon::show_log(const CallPtr& call) {
    const std::string& module = call->request.module;
    const bool to_file = call->request.verb == "logsave";
    const char* usual = to_file ? "100000000" : "300";
    const std::optional<unsigned> lines = number(call->request.option("s", usual));
    if (!lines) {
        return call->finish(Answer::failed(exit_code::usage, "-s " + call->request.option("s") + ": not a number"));
    }
    if (!module.empty()) {
        if (const Result<InstalledModule> found = registry_.find(module); !found) {
            return call->finish(Answer::failed(found.error()));
        }
    }
    const std::filesystem::path file = module.empty()           ? paths_.node_log()
                                       : call->request.has("u") ? paths_.user_log(module)
                                                                : paths_.module_log(module);
    in_background(call, [file, lines, to_file, verbose = call->request.has("A"), json = call->request.has("json")] {
        const Result<std::vector<std::string>> tail = control::log_tail(file, *lines, verbose);
        if (!tail) {
            return Answer::failed(tail.error());
        }
        if (!to_file) {
            return Answer::of_lines(*tail, json);
        }
        Result<Fd> whole = file_of(Answer::of_lines(*tail, false).text);
        if (!whole) {
            return Answer::failed(whole.error());
        }
        Answer answer;
        answer.fds.push_back(std::move(*whole));
        return answer;
    });
}

void Daemon::command_log(const CallPtr& call) {
    const std::optional<unsigned> lines = number(call->request.option("s", "100"));
    if (!lines) {
        return call->finish(Answer::failed(exit_code::usage, "-s " + call->request.option("s") + ": not a number"));
    }
    const Result<std::vector<std::string>> tail = control::log_tail(paths_.command_log(), *lines, true);
    call->finish(tail ? Answer::of_lines(*tail, call->request.has("json")) : Answer::failed(tail.error()));
}

void Daemon::print(const CallPtr& call) {
    std::string text;
    for (const std::string& word : call->request.arguments) {
        text.append(text.empty() ? "" : " ").append(word);
    }
    const char kind = call->request.verb.back();
    const log::Level level = kind == 'i' ? log::Level::event : kind == 'w' ? log::Level::warning : log::Level::error;
    const std::string by = call->request.by.empty() ? "script" : call->request.by;
    const int error = runner(call->request.module)->log().write(level, by, text);
    const std::string file = paths_.module_log(call->request.module).string();
    call->finish(error == 0 ? Answer::done("") : Answer::failed(os_error(file, "the line cannot be written", error)));
}

void Daemon::set_resource(const CallPtr& call) {
    const Request& request = call->request;
    if (!request.has("r") || !request.has("v")) {
        return call->finish(Answer::failed(exit_code::usage, "usage: stead set -m AM -r RESOURCE -v STATE"));
    }
    finish_from_host(call, {{"verb", "set"},
                            {"resource", request.option("r")},
                            {"value", request.option("v")},
                            {"by", caller_of(request)},
                            {"silent", request.has("n")},
                            {"log", request.has("l")}});
}

void Daemon::get_resource(const CallPtr& call) {
    if (!call->request.has("r")) {
        return call->finish(Answer::failed(exit_code::usage, "usage: stead get -m AM -r RESOURCE"));
    }
    finish_from_host(call, {{"verb", "get"}, {"resource", call->request.option("r")}}, "value");
}

void Daemon::turn_switch(const CallPtr& call) {
    const std::string& verb = call->request.verb;
    std::vector<std::string> argv = call->request.arguments;
    if (argv[0] == "suspend" || argv[0] == "resume") {
        argv[0] = argv[0] == "suspend" ? "off" : "on";
    }
    const bool of_class = argv[0] == "enable" || argv[0] == "disable";
    if (argv.size() != (of_class ? 2 : 1)) {
        return call->finish(Answer::failed(exit_code::usage, of_class ? "usage: stead errd " + argv[0] + " CLASS -m AM"
                                                                      : "'" + argv[0] + "' takes no class"));
    }
    const std::string& module = call->request.module;
    const bool running = runner(module)->running();
    json::object request{{"verb", "switch"}, {"name", verb}, {"by", caller_of(call->request)}};
    if (argv[0] == "list") {
        return running ? list_processes(call, std::move(request))
                       : call->finish(Answer::failed(exit_code::conflict, "module '" + module + "' does not run"));
    }
    const std::string name = std::string(control::user_setting_prefix) + verb + (of_class ? "." + argv[1] : "");
    const bool on = argv[0] == "on" || argv[0] == "enable";
    const json::object data{{"module", module}, {"resource", name}, {"on", on}, {"running", running}};
    if (running) {
        request["argv"] = json::array(argv.begin(), argv.end());
        return finish_from_host(call, std::move(request), "text", data);
    }
    const Result<void> kept = control::write_user_setting(paths_.module_var(module), name, on ? "on" : "off");
    Answer answer = kept ? Answer::done(name + " is " + (on ? "on" : "off") + " from the next start on")
                         : Answer::failed(kept.error());
    if (kept) {
        answer.data = data;
    }
    call->finish(std::move(answer));
}

void Daemon::list_processes(const CallPtr& call, json::object request) {
    if (!call->request.has("json")) {
        request["argv"] = json::array{"list"};
        return finish_from_host(call, std::move(request));
    }
    request["argv"] = json::array{"list", "--json"};
    runner(call->request.module)->request(std::move(request), [call](const Result<json::object>& got) {
        call->finish(got ? Answer::of_json(text_of(*got, "text")) : Answer::failed(got.error()));
    });
}

void Daemon::loop(const CallPtr& call) {
    const std::string op = call->request.verb.substr(0, call->request.verb.size() - 4); // inc, check, reset
    const auto finish = [call](bool reached) {
        Answer answer;
        answer.exit = reached ? exit_code::no : exit_code::ok;
        answer.data = json::object{{"reached", reached}};
        call->finish(std::move(answer));
    };
    const std::shared_ptr<ModuleRunner> one = runner(call->request.module);
    if (!one->running()) {
        return finish(one->loop(op));
    }
    one->request({{"verb", "loop"}, {"op", op}, {"by", call->request.by}},
                 [call, finish](const Result<json::object>& answer) {
                     if (!answer) {
                         return call->finish(Answer::failed(answer.error()));
                     }
                     const json::value* reached = answer->if_contains("reached");
                     finish(reached != nullptr && reached->is_bool() && reached->get_bool());
                 });
}

} // namespace stead::node
