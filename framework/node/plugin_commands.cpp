// SPDX-License-Identifier: Apache-2.0
// Commands that the module's service plugin answers: shares of a farm, roles and data of a mirror.
#include <stead/node/daemon.hpp>

#include <boost/json/array.hpp>

#include <algorithm>
#include <array>
#include <charconv>

namespace stead::node {
namespace json = boost::json;
namespace exit_code = control::exit_code;
namespace {

std::string wrong_lost(const std::vector<std::string>& given) {
    if (given[0] == "list") {
        return given.size() == 1 ? "" : "'mirror lost list' takes no folder";
    }
    if (given[0] == "drop") {
        return given.size() <= 2 ? "" : "'mirror lost drop' takes one name, as 'mirror lost list' shows it, or 'all'";
    }
    if (given[0] != "export") {
        return "mirror lost '" + given[0] + "'; allowed: list, export, drop";
    }
    const bool absolute = given.size() == 2 && given[1].starts_with('/');
    return absolute ? "" : "'mirror lost export' needs a folder, as an absolute path";
}

/// What is wrong with the words of the command, where its line in the command table cannot say it; empty: nothing.
std::string wrong_arguments(const Request& request) {
    const std::string& verb = request.verb;
    const std::vector<std::string>& given = request.arguments;
    if (request.has("d")) { // classic: copies only what is younger, and trusts that the rest is the same
        return verb + " -d '" + request.option("d") +
               "': which data are the same is never decided by a date here; 'stead second' sends what was changed "
               "since both were equal, 'stead rfssync full' compares everything and sends what differs";
    }
    const auto takes_only = [&](const char* word) {
        return given.empty() || given[0] == word ? std::string{}
                                                 : verb + " '" + given[0] + "'; allowed: " + word + ", or nothing";
    };
    if (verb == "swap") {
        return takes_only("nosync");
    }
    if (verb == "prim" || verb == "second") {
        return takes_only("fullsync");
    }
    if (verb == "rfsverify") {
        return takes_only("repair");
    }
    if (verb == "mirror lost") {
        return wrong_lost(given);
    }
    if (verb != "rfssync" || given.empty()) {
        return {};
    }
    constexpr std::size_t uid_bytes_max = 24;
    const bool external = given.size() == 3 && given[0] == "external" && (given[1] == "prim" || given[1] == "second") &&
                          !given[2].empty() && given[2].size() <= uid_bytes_max;
    const bool full = given.size() == 1 && given[0] == "full";
    return external || full ? std::string{}
                            : "rfssync: allowed: nothing, 'full', 'external prim UID' or 'external second UID' (a UID "
                              "has at most 24 characters)";
}

/// What `power` did; null is the configured power.
json::object power_data(const Request& request) {
    json::object data{{"module", request.module}, {"node", request.arguments.at(0)}, {"power", nullptr}};
    const std::string& text = request.arguments.at(1);
    std::uint32_t power = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), power).ec == std::errc{}) {
        data["power"] = power;
    }
    return data;
}

/// These say what a module that does not run yet shall become.
bool starts_module(const std::string& verb) {
    static constexpr std::array<std::string_view, 4> verbs{"prim", "second", "primforce", "secondforce"};
    return std::ranges::find(verbs, verb) != verbs.end();
}

} // namespace

void Daemon::plugin_command(const CallPtr& call) {
    const Request& request = call->request;
    const Result<InstalledModule> module = registry_.find(request.module);
    if (!module) {
        return call->finish(Answer::failed(module.error()));
    }
    const std::string mode = request.verb == "power" ? "farm" : "mirror";
    if (module->configured && module->mode != mode) {
        return call->finish(Answer::failed(exit_code::refused, "'" + request.verb + "' is for modules of mode " + mode +
                                                                   "; '" + request.module + "' is of mode " +
                                                                   module->mode));
    }
    if (const std::string wrong = wrong_arguments(request); !wrong.empty()) {
        return call->finish(Answer::failed(exit_code::usage, wrong));
    }
    std::string command = request.verb;
    std::vector<std::string> argv = request.arguments;
    if (const std::size_t space = command.find(' '); space != command.npos) { // "mirror lost" -> mirror, lost …
        argv.insert(argv.begin(), command.substr(space + 1));
        command.resize(space);
    }
    if (request.verb == "mirror status" && request.has("json")) {
        argv.emplace_back("--json");
    }
    const std::shared_ptr<ModuleRunner> one = runner(request.module);
    if (starts_module(request.verb) && (!one->running() || one->leaving())) {
        return start_then(call, [this, call, command, argv](const json::object&) { ask_plugin(call, command, argv); });
    }
    ask_plugin(call, command, std::move(argv));
}

void Daemon::ask_plugin(const CallPtr& call, const std::string& command, std::vector<std::string> argv) {
    const bool is_json = !argv.empty() && argv.back() == "--json";
    json::object request{{"verb", "command"},
                         {"command", command},
                         {"argv", json::array(argv.begin(), argv.end())},
                         {"by", call->request.by.empty() ? call->request.caller : call->request.by},
                         {"automatic", !call->request.by.empty()}};
    const std::shared_ptr<ModuleRunner> one = runner(call->request.module);
    // A mirror that does not do what it is told is an answer, not an error.
    const bool may_say_no = one->running() && command != "power";
    const bool lists = command == "rfsdiff"; // what differs is for the standard output, as it is with no difference
    one->request_long(std::move(request), [call, is_json, may_say_no, lists](const Result<json::object>& got) {
        if (!got) {
            const bool no = may_say_no && got.error().code == Errc::refused;
            if (no && lists) {
                Answer differ = Answer::done(got.error().text());
                differ.exit = exit_code::no;
                differ.data = json::object{{"text", differ.text}};
                return call->finish(std::move(differ));
            }
            return call->finish(no ? Answer::failed(exit_code::no, got.error().text()) : Answer::failed(got.error()));
        }
        const json::value* text = got->if_contains("text");
        Answer done = Answer::done(text != nullptr && text->is_string() ? std::string(text->get_string()) : "");
        done.data =
            call->request.verb == "power" ? power_data(call->request) : json::value(json::object{{"text", done.text}});
        call->finish(is_json ? Answer::of_json(done.text) : std::move(done));
    });
}

} // namespace stead::node
