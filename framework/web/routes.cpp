// SPDX-License-Identifier: Apache-2.0
#include <stead/web/routes.hpp>

#include <stead/control/command.hpp>
#include <stead/control/paths.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

namespace stead::web {
namespace json = boost::json;
namespace exit_code = control::exit_code;
namespace {

using control::Access;
using control::Command;

constexpr std::string_view health_prefix = "/var/modules/";
constexpr std::string_view health_suffix = "/ready.txt";
constexpr unsigned lines_max = 10'000;

/// One path below api_root, and the command that answers it.
struct Path {
    std::string pattern; ///< "/modules/{m}/state"
    const Command* command{};
    std::map<std::string, std::string> options; ///< fixed
    std::string pick;
};

/// Views that show a part of a command's answer; the commands themselves have one route each.
struct View {
    std::string_view pattern, verb, option, pick, help;
};
constexpr View views[]{
    {"/modules/{m}", "state", "", "/modules/0", "state of one module, here and on its peers"},
    {"/modules/{m}/resources", "state", "v", "/detail/resources", "resources of a running module, of all its nodes"},
};

std::vector<std::string_view> segments(std::string_view path) {
    std::vector<std::string_view> parts;
    while (!path.empty()) {
        path.remove_prefix(path[0] == '/' ? 1 : 0);
        const std::size_t end = std::min(path.find('/'), path.size());
        parts.push_back(path.substr(0, end));
        path.remove_prefix(end);
    }
    if (!parts.empty() && parts.back().empty()) { // a slash at the end means nothing
        parts.pop_back();
    }
    return parts;
}

std::string_view get_route(const Command& command) {
    return command.rest.starts_with("GET ") ? command.rest.substr(4) : std::string_view{};
}

const std::vector<Path>& paths() {
    static const std::vector<Path> all = [] {
        std::vector<Path> found;
        std::set<std::string, std::less<>> patterns;
        const auto add = [&](Path path) {
            if (patterns.insert(path.pattern).second) { // `module list` and `module listid` share one
                found.push_back(std::move(path));
            }
        };
        for (const Command& command : control::commands()) {
            const std::string_view pattern = get_route(command);
            if (pattern.empty() || command.access == Access::change) {
                continue;
            }
            add({std::string(pattern), &command, {}, {}});
            constexpr std::string_view of_module = "/modules/{m}";
            if (command.module == control::NeedsModule::optional && pattern.starts_with(of_module)) {
                add({std::string(pattern.substr(of_module.size())), &command, {}, {}}); // of the node
            }
        }
        for (const View& view : views) {
            std::map<std::string, std::string> options;
            if (!view.option.empty()) {
                options.emplace(view.option, "on");
            }
            add({std::string(view.pattern), control::find_command(view.verb), std::move(options),
                 std::string(view.pick)});
        }
        std::ranges::sort(found, {}, &Path::pattern);
        return found;
    }();
    return all;
}

std::vector<std::string> all_paths() {
    std::vector<std::string> names{std::string(api_root) + "/", "/var/modules/{m}/ready.txt"};
    for (const Path& path : paths()) {
        names.push_back(std::string(api_root) + path.pattern);
    }
    return names;
}

/// %41 -> A. Nothing for a wrong escape, a control character or a slash in disguise.
std::optional<std::string> decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned value = static_cast<unsigned char>(text[i]);
        if (text[i] == '%') {
            const std::string_view digits = text.substr(i + 1, 2);
            const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
            if (digits.size() != 2 || parsed.ec != std::errc{} || parsed.ptr != digits.data() + 2) {
                return std::nullopt;
            }
            i += 2;
        }
        if (value < 0x20 || value == 0x7f || value == '/') {
            return std::nullopt;
        }
        out.push_back(static_cast<char>(value));
    }
    return out;
}

/// The variable parts when `path` fits the pattern.
std::optional<std::map<std::string, std::string>> match(std::string_view pattern,
                                                        const std::vector<std::string_view>& path) {
    const std::vector<std::string_view> wanted = segments(pattern);
    if (wanted.size() != path.size()) {
        return std::nullopt;
    }
    std::map<std::string, std::string> values;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const bool variable = wanted[i].starts_with('{');
        const std::optional<std::string> text = decoded(path[i]);
        if (!text || text->empty() || (!variable && *text != wanted[i])) {
            return std::nullopt;
        }
        if (variable) {
            values[std::string(wanted[i].substr(1, wanted[i].size() - 2))] = *text;
        }
    }
    return values;
}

Refusal bad_request(std::string message, std::vector<std::string> allowed = {}) {
    return Refusal{400, std::move(message), std::move(allowed), {}, true};
}

std::optional<Refusal> add_parameter(const Path& path, std::string_view text, Question& question) {
    const std::size_t equals = std::min(text.find('='), text.size());
    const std::string_view name = text.substr(0, equals);
    std::string_view value = text.substr(std::min(equals + 1, text.size()));
    std::vector<std::string> known;
    for (const control::Option& option : path.command->used_options()) {
        if (option.query.empty() || path.options.contains(std::string(option.name.substr(1)))) {
            continue;
        }
        known.emplace_back(option.query);
        if (option.query != name) {
            continue;
        }
        const std::string key(option.name.substr(1));
        if (option.argument.empty()) {
            if (value == "1" || value == "on" || value == "true" || value.empty()) {
                question.options[key] = "on";
            } else if (value != "0" && value != "off" && value != "false") {
                return bad_request("parameter '" + std::string(name) + "': not a switch", {"1", "0"});
            }
            return std::nullopt;
        }
        unsigned number = 0;
        const auto parsed = std::from_chars(value.data(), value.data() + value.size(), number);
        if (parsed.ec != std::errc{} || parsed.ptr != value.data() + value.size() || number > lines_max) {
            return bad_request("parameter '" + std::string(name) + "': not a number that is allowed",
                               {"0.." + std::to_string(lines_max)});
        }
        question.options[key] = std::to_string(number);
        return std::nullopt;
    }
    return bad_request("unknown parameter", std::move(known)); // its name is the client's text: not repeated
}

Route question_of(const Path& path, const std::map<std::string, std::string>& values, std::string_view query) {
    Question question{std::string(path.command->verb), {}, path.options, path.pick};
    for (const auto& [name, value] : values) {
        if (name == "m") {
            if (!control::is_module_name(value)) {
                return Refusal{404, "that is not a module name", {}, {}, true};
            }
            question.module = value;
        } else {
            question.options[name] = value;
        }
    }
    while (!query.empty()) {
        const std::size_t end = std::min(query.find('&'), query.size());
        if (end > 0) {
            if (auto refusal = add_parameter(path, query.substr(0, end), question)) {
                return std::move(*refusal);
            }
        }
        query.remove_prefix(std::min(end + 1, query.size()));
    }
    return question;
}

Refusal wrong_method(bool readable, bool for_api) {
    if (readable) {
        return Refusal{405, "only GET and HEAD are allowed here", {"GET", "HEAD"}, "GET, HEAD", for_api};
    }
    return Refusal{405, "changes are made with the program stead, not over HTTP", {}, "", for_api};
}

Route api_route(std::string_view method, std::string_view path, std::string_view query) {
    const std::vector<std::string_view> parts = segments(path);
    const bool reads = method == "GET" || method == "HEAD";
    if (parts.empty()) {
        return reads ? Route{ShowIndex{}} : Route{wrong_method(true, true)};
    }
    // A fixed path beats one with a variable part: sorted, "/modules/{m}" comes after every letter.
    for (const Path& one : paths()) {
        if (const auto values = match(one.pattern, parts)) {
            return reads ? question_of(one, *values, query) : Route{wrong_method(true, true)};
        }
    }
    for (const Command& command : control::commands()) {
        const std::size_t space = command.rest.find(' ');
        if (space != command.rest.npos && match(command.rest.substr(space + 1), parts)) {
            return wrong_method(false, true);
        }
    }
    return Refusal{404, "there is no such path", all_paths(), {}, true};
}

} // namespace

Route route(std::string_view method, std::string_view target) {
    if (const std::size_t scheme = target.find("://"); scheme != target.npos && !target.starts_with('/')) {
        const std::size_t path = target.find('/', scheme + 3); // absolute form, as to a proxy
        target = path == target.npos ? std::string_view("/") : target.substr(path);
    }
    const std::size_t question_mark = std::min(target.find('?'), target.size());
    const std::string_view query = target.substr(std::min(question_mark + 1, target.size()));
    const std::string_view path = target.substr(0, question_mark);
    if (path == api_root || (path.starts_with(api_root) && path[api_root.size()] == '/')) {
        return api_route(method, path.substr(api_root.size()), query.substr(0, query.find('#')));
    }
    if (path.starts_with(health_prefix) && path.ends_with(health_suffix) &&
        path.size() > health_prefix.size() + health_suffix.size()) {
        const std::string_view name =
            path.substr(health_prefix.size(), path.size() - health_prefix.size() - health_suffix.size());
        if (control::is_module_name(name)) {
            return method == "GET" || method == "HEAD" ? Route{HealthOf{std::string(name)}}
                                                       : Route{wrong_method(true, false)};
        }
    }
    return Refusal{404, "there is no such path", all_paths(), {}, true};
}

json::value index_of_paths(std::string_view version) {
    json::array list;
    for (const Path& path : paths()) {
        const auto view = std::ranges::find(views, path.pattern, &View::pattern);
        json::object parameters;
        for (const control::Option& option : path.command->used_options()) {
            if (!option.query.empty() && !path.options.contains(std::string(option.name.substr(1)))) {
                parameters[option.query] = option.help;
            }
        }
        list.push_back(json::object{{"path", std::string(api_root) + path.pattern},
                                    {"help", view != std::end(views) ? view->help : path.command->help},
                                    {"parameters", std::move(parameters)},
                                    {"token", path.command->access == Access::inspect}});
    }
    return json::object{{"version", version}, {"methods", json::array{"GET", "HEAD"}}, {"paths", std::move(list)}};
}

json::value error_body(unsigned status, std::string_view message, const std::vector<std::string>& allowed) {
    json::object error{{"status", status}, {"message", message}};
    if (!allowed.empty()) {
        error["allowed"] = json::array(allowed.begin(), allowed.end());
    }
    return json::object{{"error", std::move(error)}};
}

namespace {

unsigned status_of(std::int64_t exit) {
    switch (exit) {
    case exit_code::ok:
    case exit_code::no: return 200;
    case exit_code::usage: return 400;
    case exit_code::denied: return 403;
    case exit_code::not_found: return 404;
    case exit_code::conflict:
    case exit_code::refused:
    case exit_code::configuration: return 409; // not the request is wrong: what it asks for is in another state
    case exit_code::unreachable: return 502;
    case exit_code::no_daemon: return 503;
    case exit_code::timed_out: return 504;
    default: return 500;
    }
}

} // namespace

Reply reply_to(const Question& question, const json::object& answer) {
    const json::value* exit = answer.if_contains("exit");
    const json::value* error = answer.if_contains("error");
    const json::value* data = answer.if_contains("data");
    if (answer.contains("token_missing")) {
        return {401, error_body(401, "this path needs the token of the node, for it shows more than states: "
                                     "'Authorization: Bearer' and the content of web.token in /var/lib/stead")};
    }
    const unsigned status = status_of(exit != nullptr && exit->is_int64() ? exit->get_int64() : exit_code::internal);
    if (status != 200 || (error != nullptr && error->is_string())) {
        const std::string_view text =
            error != nullptr && error->is_string() ? std::string_view(error->get_string()) : "steadd gave no reason";
        const bool no = exit != nullptr && exit->is_int64() && exit->get_int64() == exit_code::no;
        const unsigned shown = status != 200 ? status : no ? 409 : 500;
        return {shown, error_body(shown, text)};
    }
    if (data == nullptr) {
        const json::value* text = answer.if_contains("text");
        return {200, json::object{{"text", text != nullptr ? *text : json::value("")}}};
    }
    if (question.pick.empty()) {
        return {200, *data};
    }
    json::error_code none;
    const json::value* part = data->find_pointer(question.pick, none);
    if (part == nullptr) {
        return {409, error_body(409, "module '" + question.module + "' is stopped on this node")};
    }
    return {200, *part};
}

} // namespace stead::web
