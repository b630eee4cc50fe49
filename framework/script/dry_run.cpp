// SPDX-License-Identifier: Apache-2.0
#include <stead/script/dry_run.hpp>

#include "environment.hpp"
#include "lua_names.hpp"
#include "lua_run.hpp"
#include "shell_syntax.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <set>

namespace stead::script {

namespace {

namespace fs = std::filesystem;
constexpr seconds hook_limit{5};
constexpr std::size_t file_bytes_max = 1u << 20;

struct Step {
    const char* hook;
    std::vector<std::string> arguments;
};

/// One life of a module of that mode, in order, then the hooks outside of it.
std::vector<Step> life(const std::string& mode) {
    const std::string active = mode == "mirror" ? "PRIM" : "UP";
    std::vector<Step> steps{{"config", {}},
                            {"postconfig", {}},
                            {"confcheck", {}},
                            {"transition", {"STOP", "WAIT", "start"}},
                            {"prestart", {"STOP", "WAIT", "start"}},
                            {"start_both", {"WAIT", active, "start"}},
                            {"start_prim", {"WAIT", active, "start"}},
                            {"start_second", {"WAIT", "SECOND", "start"}},
                            {"start_sec", {"WAIT", active, "start"}}};
    for (const char* stop : {"stop_sec", "stop_second", "stop_prim", "stop_both"}) {
        steps.push_back({stop, {active, "WAIT", "stop"}});
        steps.push_back({stop, {"force", "WAIT", "STOP", "stop"}});
    }
    steps.push_back({"poststop", {"WAIT", "STOP", "stop"}});
    for (const char* query : {"state", "level"}) {
        steps.push_back({query, {active, active, query}});
    }
    for (const char* other : {"update", "deconfig"}) {
        steps.push_back({other, {}});
    }
    return steps;
}

/// "bin/x.lua:12: text" as an Error.
Error at_place(const std::string& place, const std::string& text) {
    const std::size_t colon = text.starts_with("bin/") ? text.find(": ") : std::string::npos;
    return colon == std::string::npos ? Error{Errc::malformed, place, text}
                                      : Error{Errc::malformed, text.substr(0, colon), text.substr(colon + 2)};
}

class DryHost final : public HookHost {
public:
    explicit DryHost(const ModuleFolders& folders) : node_(folders.node.empty() ? "node1" : folders.node) {}
    void log(int, std::string_view) override {}
    std::optional<std::string> resource(std::string_view) override { return std::nullopt; }
    Result<void> set_resource(std::string_view, std::string_view) override { return {}; }
    std::string view_json() override {
        return boost::json::serialize(boost::json::object{
            {"epoch", 1},
            {"self", node_},
            {"members", boost::json::array{boost::json::object{{"name", node_}, {"weight", 1}, {"state", "WAIT"}}}}});
    }
    std::string state_name() override { return "WAIT Transient"; }

private:
    std::string node_;
};

class Rehearsal {
public:
    explicit Rehearsal(const ModuleFolders& folders) : folders_(folders), host_(folders) {}
    DryRun run();

private:
    void check_files();
    void check_names(const fs::path& file, const std::string& place);
    void lua_hook(const Step& step);
    void shell_hook(const Step& step, const fs::path& file);
    [[nodiscard]] std::shared_ptr<Gate> gate() {
        return std::make_shared<Gate>(host_,
                                      [this](std::string_view line, bool) { say("prints: " + std::string(line)); });
    }
    LuaRun new_run(const std::string& name, std::vector<std::string> arguments);
    void say(std::string line) { result_.hooks.back().lines.push_back(std::move(line)); }

    const ModuleFolders& folders_;
    DryHost host_;
    DryRun result_;
    std::set<std::string> broken_; ///< files that do not compile
    std::set<std::string> shells_checked_;
};

LuaRun Rehearsal::new_run(const std::string& name, std::vector<std::string> arguments) {
    Surroundings surroundings{gate(), std::make_shared<Cancel>(), {}, {}, nullptr};
    surroundings.rehearse = [this](bool warning, const std::string& place, const std::string& text) {
        if (warning) {
            result_.warnings.push_back({Errc::malformed, place, text});
        } else {
            say((place.empty() ? "" : place + ": ") + text);
        }
    };
    Limits limits;
    limits.timeout = hook_limit;
    return LuaRun(folders_, {name, std::move(arguments), limits, new_hook_id(), BootClock::now() + hook_limit},
                  std::move(surroundings));
}

void Rehearsal::lua_hook(const Step& step) {
    const HookResult result = new_run(step.hook, step.arguments).execute();
    if (result.ok()) {
        say("succeeds");
    } else {
        result_.errors.push_back(at_place("bin/" + std::string(step.hook) + ".lua", result.reason));
        say("fails: " + result.reason);
    }
}

void Rehearsal::shell_hook(const Step& step, const fs::path& file) {
    const std::string place = "bin/" + std::string(step.hook);
    if (auto error = not_executable(folders_.bin, step.hook)) {
        result_.errors.push_back(*std::move(error));
    }
    const ShellSyntax syntax = shell_syntax(file, place, folders_);
    if (!syntax.parsed) {
        return say("is a program for " + syntax.interpreter + ": neither checked nor run");
    }
    if (syntax.error) {
        result_.errors.push_back(*syntax.error);
        return say("fails: " + syntax.error->text());
    }
    shells_checked_.insert(step.hook);
    say("is a script for " + syntax.interpreter + " without errors of syntax; it is not run");
}

void Rehearsal::check_names(const fs::path& file, const std::string& place) {
    const auto text = read_file(file, file_bytes_max);
    LuaRun run = new_run("", {});
    for (const NameUse& use : text ? stead_names(*text) : std::vector<NameUse>()) {
        if (const std::string unknown = run.unknown_name(use.names); !unknown.empty()) {
            result_.errors.push_back({Errc::not_found, place + ":" + std::to_string(use.line),
                                      unknown + ": there is no such function; docs/lua.md lists them"});
        }
    }
}

void Rehearsal::check_files() {
    for (const Error& error : check_scripts(folders_.bin)) {
        broken_.insert(error.where.substr(
            0, error.where.find(".lua:") == std::string::npos ? std::string::npos : error.where.find(".lua:") + 4));
        result_.errors.push_back(error);
    }
    std::vector<fs::path> files;
    std::error_code ec;
    for (fs::recursive_directory_iterator it(folders_.bin, ec), end; !ec && it != end; it.increment(ec)) {
        if (it->path().extension() == ".lua" && it->is_regular_file(ec)) {
            files.push_back(it->path());
        }
    }
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
        const std::string place = "bin/" + file.lexically_relative(folders_.bin).string();
        if (!broken_.contains(place)) {
            check_names(file, place);
        }
    }
}

DryRun Rehearsal::run() {
    check_files();
    for (const Step& step : life(folders_.mode)) {
        const fs::path program = folders_.bin / step.hook;
        const fs::path lua = folders_.bin / (std::string(step.hook) + ".lua");
        std::error_code ec;
        const bool is_lua = fs::exists(lua, ec);
        if ((!is_lua && !fs::is_regular_file(program, ec)) || shells_checked_.contains(step.hook)) {
            continue;
        }
        result_.hooks.push_back({std::string(step.hook) + (is_lua ? ".lua" : ""), step.arguments, {}});
        if (broken_.contains("bin/" + std::string(step.hook) + ".lua")) {
            say("does not compile");
        } else {
            is_lua ? lua_hook(step) : shell_hook(step, program);
        }
    }
    if (!shells_checked_.empty()) {
        for (const auto& [name, value] : hook_environment(folders_, "(one per run)")) {
            result_.environment.emplace(name, value);
        }
    }
    const auto same = [](const Error& a, const Error& b) { return a.text() == b.text(); };
    for (auto* list : {&result_.errors, &result_.warnings}) { // a hook runs twice: plainly and by force
        std::ranges::stable_sort(*list, {}, [](const Error& e) { return e.text(); });
        list->erase(std::unique(list->begin(), list->end(), same), list->end());
    }
    return std::move(result_);
}

} // namespace

std::string DryRun::text() const {
    std::string text;
    for (const Hook& hook : hooks) {
        text += "  " + hook.name;
        for (const std::string& argument : hook.arguments) {
            text += " " + argument;
        }
        text += "\n";
        for (const std::string& line : hook.lines) {
            text += "    " + line + "\n";
        }
    }
    text += environment.empty() ? "" : "environment of shell hooks\n";
    for (const auto& [name, value] : environment) {
        text += "    " + name + "=" + value + "\n";
    }
    return text;
}

DryRun dry_run(const ModuleFolders& folders) { return Rehearsal(folders).run(); }

} // namespace stead::script
