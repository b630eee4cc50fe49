// SPDX-License-Identifier: Apache-2.0
#include "check.hpp"

#include "facts.hpp"
#include "own_places.hpp"
#include "rule_names.hpp"
#include "virtual_addresses.hpp"
#include "virtual_host.hpp"

#include <stead/base/files.hpp>
#include <stead/base/utf8.hpp>
#include <stead/control/command.hpp>
#include <stead/core/transition_table.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <future>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <system_error>
#include <thread>

#include <unistd.h>

namespace stead::host {

namespace json = boost::json;

config::Finding finding_of(const Error& error, bool warning) {
    config::Finding finding{.warning = warning, .file = error.where, .line = 0, .message = error.what};
    const std::size_t colon = error.where.rfind(':');
    if (colon != std::string::npos && colon + 1 < error.where.size() &&
        error.where.find_first_not_of("0123456789", colon + 1) == std::string::npos && error.where.size() - colon < 9) {
        finding.line = std::stoi(error.where.substr(colon + 1));
        finding.file = error.where.substr(0, colon);
    }
    return finding;
}

json::object to_json(const config::Finding& finding) {
    return {{"warning", finding.warning},
            {"file", finding.file},
            {"line", finding.line},
            {"column", finding.column},
            {"text", finding.text()}};
}

namespace {

namespace fs = std::filesystem;

std::string hex(std::uint64_t value) {
    std::array<char, 17> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
    return text.data();
}

struct Collector {
    std::vector<config::Finding>* findings;
    std::string file;
    static void report(void* context, std::uint32_t line, std::uint32_t warning, stead_str text) {
        auto& self = *static_cast<Collector*>(context);
        self.findings->push_back({.warning = warning != 0,
                                  .file = self.file,
                                  .line = static_cast<int>(line),
                                  .message = std::string{text.data, text.size}});
    }
};

void ask_plugins(const config::Module& module, const config::SchemaSet& schemas, const Registry& registry,
                 Collector collector) {
    for (const Plugin& plugin : registry.plugins()) {
        if (plugin.descriptor.check != nullptr && module.uses(schemas, plugin.descriptor.id)) {
            const config::CTree tree(module.part_for(schemas, plugin.descriptor.id));
            plugin.descriptor.check(tree.root(), &collector, Collector::report);
        }
    }
}

std::vector<std::string> hook_names() {
    std::vector<std::string> names;
    for (auto step = automaton::Step::transition; step <= automaton::Step::stop_sec;
         step = static_cast<automaton::Step>(static_cast<int>(step) + 1)) {
        names.emplace_back(automaton::hook_name(step));
    }
    return names;
}

/// The same is an error when the hook is due.
void check_hook_modes(const fs::path& bin, std::vector<config::Finding>& findings) {
    for (const std::string& name : hook_names()) {
        if (const auto error = script::not_executable(bin, name)) {
            findings.push_back(finding_of(*error, false));
        }
    }
}

/// Names of files that elements have run: <custom exec=>, <proc action=>.
std::set<std::string> named_by_elements(const config::Module& module) {
    std::set<std::string> names;
    for (const config::Element& group : module.service.children) {
        for (const config::Element& one : group.children) {
            for (const char* attribute : {"exec", "action"}) {
                names.insert(fs::path(one.attribute(attribute).value_or("")).stem().string());
            }
        }
    }
    return names;
}

/// Why nothing runs the file of bin, which a person may expect; "": it is run, or is no hook by any look of it.
std::string never_run(const config::Module& module, const fs::path& file, const std::vector<std::string>& hooks) {
    const auto is_hook = [&](const std::string& name) { return std::ranges::find(hooks, name) != hooks.end(); };
    const std::string stem = file.stem().string();
    const std::string name = file.extension() == ".lua" ? stem : file.filename().string();
    if (name.starts_with("_rfs_")) {
        return "is never run: watch the resources rfs.* with a rule, or use the scripts of the states";
    }
    if (is_hook(name)) {
        return name.ends_with("_second") && module.mode != config::Module::Mode::mirror
                   ? "is never run: only a mirror has a second node"
                   : "";
    }
    constexpr std::array languages{".sh", ".bash", ".cmd", ".bat", ".ps1", ".py", ".pl", ".vbs"};
    if (is_hook(stem) && std::ranges::find(languages, file.extension().string()) != languages.end()) {
        return "is never run: a hook is named " + stem + " (a program, whatever it is written in) or " + stem + ".lua";
    }
    const std::string near = control::nearest(name, hooks);
    return near.empty() ? "" : "is no hook, and no element names it; did you mean " + near + "?";
}

/// Files of bin that look like a hook, and that nothing would run.
void check_hook_slips(const config::Module& module, const fs::path& bin, std::vector<config::Finding>& findings) {
    std::vector<std::string> hooks = hook_names();
    hooks.insert(hooks.end(), {"config", "postconfig", "confcheck", "update", "deconfig", "state", "level"});
    const std::set<std::string> used = named_by_elements(module);
    std::error_code failed;
    for (fs::directory_iterator it(bin, failed), end; !failed && it != end; it.increment(failed)) {
        const fs::path file = it->path().filename();
        if (!it->is_regular_file(failed) || used.contains(file.string()) || used.contains(file.stem().string())) {
            continue;
        }
        if (std::string why = never_run(module, file, hooks); !why.empty()) {
            findings.push_back({.warning = true, .file = "bin/" + file.string(), .line = 0, .message = std::move(why)});
        }
    }
}

/// prestart is where leftovers of an unclean end are stopped; without it a module runs, at its own risk.
void check_mandatory_hooks(const config::Module& module, const fs::path& bin, std::vector<config::Finding>& findings) {
    std::error_code failed;
    if (module.user.present && !fs::exists(bin / "prestart", failed) && !fs::exists(bin / "prestart.lua", failed)) {
        findings.push_back({.warning = true,
                            .file = "bin",
                            .line = 0,
                            .message = "no prestart or prestart.lua: what an unclean end leaves running is not stopped "
                                       "before a start"});
    }
}

/// What elements ask for that can never happen, and programs of bin that they name (which the hook `config` may make).
class NeverRun {
public:
    NeverRun(const config::Module& module, const fs::path& bin, std::vector<config::Finding>& findings)
        : module_(module), bin_(bin), findings_(findings) {}
    void check() {
        static constexpr std::array<std::string_view, 4> actions{"restart", "stopstart", "stop", "noaction"};
        if (module_.mode != config::Module::Mode::mirror && module_.service.attribute("failover") == "off") {
            warn(module_.service, "service/@failover: 'off' has no meaning in a " + std::string{module_.mode_name()} +
                                      " module: only a mirror has a second node that could take over; 'stead failover "
                                      "off' keeps rules from acting");
        }
        for (const config::Element& group : module_.service.children) {
            if (group.name == "errd" && !module_.user.present) {
                warn(group, "errd: what it restarts, it restarts by the module's scripts; without <user> none runs");
            }
            for (const config::Element& one : group.children) {
                if (group.name == "check" && one.name == "custom") {
                    look(one, "exec");
                }
                if (group.name == "check" && one.attribute("when") == "second" &&
                    module_.mode != config::Module::Mode::mirror) {
                    warn(one, one.name + "/@when: 'second' is never reached: only a mirror has a second node");
                } else if (group.name == "errd" && one.name == "proc" &&
                           std::ranges::find(actions, one.attribute("action").value_or(actions[1])) == actions.end()) {
                    look(one, "action");
                }
            }
        }
    }

private:
    void look(const config::Element& element, const std::string& attribute) {
        std::string name{element.attribute(attribute).value_or("")};
        const std::string place = element.name + "/@" + attribute + ": '" + name + "'";
        if (!module_.user.present) {
            warn(element, place + " is never run: without <user> no script runs");
            return;
        }
        if (name.ends_with(".lua")) {
            name.resize(name.size() - 4);
        }
        std::error_code failed;
        const fs::path program = bin_ / name;
        if (fs::exists(bin_ / (name + ".lua"), failed)) {
            return;
        }
        if (!fs::is_regular_file(program, failed)) {
            warn(element, place + " is not in bin, neither as " + name + " nor as " + name + ".lua");
        } else if (const auto error = script::not_executable(bin_, name)) {
            warn(element, place + ": " + error->text());
        }
    }
    void warn(const config::Element& element, std::string text) {
        findings_.push_back(
            {.warning = true, .file = "userconfig.xml", .line = element.line, .message = std::move(text)});
    }

    const config::Module& module_;
    const fs::path& bin_;
    std::vector<config::Finding>& findings_;
};

RuleBook rule_book(const config::Module& module, const CheckRequest& request, const control::Paths& paths) {
    return read_rules(module, {.defaults = paths.lua() / "rules/default.lua",
                               .conf = request.conf,
                               .bin = request.bin,
                               .userconfig = "userconfig.xml"});
}

void check_rules(const config::Module& module, const config::SchemaSet& schemas, const CheckRequest& request,
                 const control::Paths& paths, std::vector<config::Finding>& findings) {
    RuleBook book = rule_book(module, request, paths);
    if (book.findings.empty()) {
        std::vector<script::DisabledRule> unknown; // told by unknown_labels, which knows of checkers
        std::ranges::move(unpublished_names(book.own, module, schemas, request.bin), std::back_inserter(findings));
        const std::vector<rules::Rule> without_checkers = merged(book, {}, unknown);
        std::ranges::move(unarmed_waits(without_checkers, module, "userconfig.xml"), std::back_inserter(findings));
        std::ranges::move(unknown_labels(book, module, schemas), std::back_inserter(findings));
    }
    std::ranges::move(book.findings, std::back_inserter(findings));
}

Result<void> write_out(const fs::path& out, const config::Module& module, const control::Paths& paths) {
    if (auto written = write_file_atomically(out / "safeconf.xml", module.expanded_xml); !written) {
        return written;
    }
    std::error_code failed;
    // A trial has a link to the scripts being edited: nothing is made there.
    if (fs::is_directory(fs::symlink_status(out / "bin", failed))) {
        if (auto made = write_virtual_hosts(module, out / "bin", out / "generated", paths.host_name_library()); !made) {
            return made;
        }
    }
    if (fs::is_directory(out / "conf", failed)) { // where stock scripts look for it
        if (auto written = write_file_atomically(out / "conf/safeconf.xml", module.expanded_xml); !written) {
            return written;
        }
    }
    json::object addresses;
    for (const auto& [host_name, address] : module.addresses) {
        addresses[host_name] = address;
    }
    const json::object description{{"mode", std::string{module.mode_name()}},
                                   {"digest", hex(module.digest)},
                                   {"addresses", std::move(addresses)},
                                   {"boot", module.settings.boot},
                                   {"boot_delay_ns", module.settings.boot_delay.count()},
                                   {"maxloop", module.settings.maxloop},
                                   {"loop_interval_ns", module.settings.loop_interval.count()},
                                   {"automatic_reboot", module.settings.automatic_reboot}};
    return write_file_atomically(out / "module.json", json::serialize(description) + "\n");
}

void check_addresses(const config::Element& service, const config::Cluster* cluster,
                     std::vector<config::Finding>& findings) {
    const auto interfaces = net::interfaces();
    std::ranges::move(
        virtual_address_findings(service, cluster, interfaces ? *interfaces : std::vector<net::Interface>{}),
        std::back_inserter(findings));
}

/// All errors of a file at once: what the schemas refuse must not hide what plugins and host have to say of the rest.
void check_draft(std::string_view xml, const config::SchemaSet& schemas, const config::Surroundings& surroundings,
                 const Registry& registry, const CheckRequest& request, const control::Paths& paths,
                 std::vector<config::Finding>& findings) {
    const auto draft = config::draft_module(xml, schemas, surroundings);
    if (!draft) {
        return;
    }
    std::vector<config::Finding> more;
    ask_plugins(draft->module, schemas, registry, {.findings = &more, .file = "userconfig.xml"});
    std::ranges::move(unsupported(draft->module, registry), std::back_inserter(more));
    std::ranges::move(places_of_others(request.module, draft->module, schemas, paths), std::back_inserter(more));
    check_addresses(draft->module.service, surroundings.cluster, more);
    std::ranges::move(virtual_host_findings(draft->module, request.bin), std::back_inserter(more));
    std::ranges::move(rule_book(draft->module, request, paths).findings, std::back_inserter(more));
    // Where something was left out, or is wrong already, a finding may only be a consequence.
    std::set<int> doubtful(draft->gaps.begin(), draft->gaps.end());
    doubtful.insert(0);
    for (const config::Finding& finding : findings) {
        if (!finding.warning && finding.file == "userconfig.xml") {
            doubtful.insert(finding.line);
        }
    }
    std::ranges::copy_if(more, std::back_inserter(findings), [&](const config::Finding& finding) {
        return finding.file != "userconfig.xml" || !doubtful.contains(finding.line);
    });
}

/// What of `module` the one that runs, with the configuration in `running`, cannot take over.
json::array fixed_by(const fs::path& running, const config::Module& module, const config::SchemaSet& schemas,
                     std::vector<config::Finding>& findings) {
    const fs::path file = running / "safeconf.xml";
    const auto text = read_file(file, config::file_bytes_max);
    const auto before = config::parse_module(text ? *text : std::string{}, file.string(), schemas, {});
    if (!before.ok()) {
        findings.push_back({.warning = false,
                            .file = file.string(),
                            .line = 0,
                            .message = "the configuration that runs cannot be read any more (" +
                                       (text ? errors_of(before.findings) : text.error().what) +
                                       "); 'stead stop', 'stead config' and 'stead start' renew it"});
        return {};
    }
    json::array lines;
    for (std::string& line : config::static_changes(*before.value, module, schemas)) {
        lines.emplace_back(std::move(line));
    }
    return lines;
}

/// Asks for each name once, and gives up before steadd gives up the check.
class PatientResolver {
public:
    Result<std::vector<std::string>> operator()(const std::string& name) {
        auto at = known_.find(name);
        if (at == known_.end()) {
            at = known_.emplace(name, ask(name)).first;
        }
        return at->second;
    }

private:
    using Found = Result<std::vector<std::string>>;
    Found ask(const std::string& name) const {
        auto answer = std::make_shared<std::promise<Found>>();
        auto found = answer->get_future();
        std::thread([answer, name] { answer->set_value(config::addresses_of_name(name)); }).detach();
        if (found.wait_until(until_) == std::future_status::ready) {
            return found.get();
        }
        return Error{Errc::timed_out,
                     {},
                     "the name '" + name +
                         "': the name service does not answer; write the address with digits, or add "
                         "the name to /etc/hosts"};
    }
    std::chrono::steady_clock::time_point until_ = std::chrono::steady_clock::now() + seconds{5}; // for all names
    std::map<std::string, Found> known_;
};

/// Findings about cluster.xml are errors of the check too.
std::optional<config::Cluster> read_cluster(const fs::path& file, std::vector<config::Finding>& findings) {
    if (file.empty()) {
        return std::nullopt;
    }
    const auto text = read_file(file, config::file_bytes_max);
    if (!text) {
        findings.push_back(finding_of(text.error(), false));
        return std::nullopt;
    }
    auto parsed = config::parse_cluster(*text, file.string());
    findings.insert(findings.end(), parsed.findings.begin(), parsed.findings.end());
    return std::move(parsed.value);
}

} // namespace

int check_module(const CheckRequest& request, const Registry& registry, const control::Paths& paths) {
    std::vector<config::Finding> findings;
    for (const Error& refused : registry.refused()) {
        findings.push_back(
            {.warning = true, .file = refused.where, .line = 0, .message = "plugin refused: " + refused.what});
    }
    const config::SchemaSet schemas = schema_set(registry, paths);
    const std::optional<config::Cluster> cluster = read_cluster(request.cluster, findings);
    PatientResolver resolver;
    const config::Surroundings surroundings{cluster ? &*cluster : nullptr, std::ref(resolver)};
    json::object answer;
    const fs::path file = request.conf / "userconfig.xml";
    std::optional<config::Module> module;
    if (const auto text = read_file(file, config::file_bytes_max); !text) {
        // By the name that the person knows: this is a copy of the file.
        findings.push_back({.warning = false, .file = "userconfig.xml", .line = 0, .message = text.error().what});
    } else {
        auto parsed = config::parse_module(*text, "userconfig.xml", schemas, surroundings);
        findings.insert(findings.end(), parsed.findings.begin(), parsed.findings.end());
        module = std::move(parsed.value);
        if (!module) {
            check_draft(*text, schemas, surroundings, registry, request, paths, findings);
        }
    }
    if (module) {
        ask_plugins(*module, schemas, registry, {.findings = &findings, .file = "userconfig.xml"});
        std::ranges::move(unsupported(*module, registry), std::back_inserter(findings));
        std::ranges::move(places_of_others(request.module, *module, schemas, paths), std::back_inserter(findings));
        check_addresses(module->service, surroundings.cluster, findings);
        std::ranges::move(virtual_host_findings(*module, request.bin), std::back_inserter(findings));
        check_mandatory_hooks(*module, request.bin, findings);
        check_hook_slips(*module, request.bin, findings);
        check_rules(*module, schemas, request, paths, findings);
        NeverRun(*module, request.bin, findings).check();
        if (!request.running.empty()) {
            answer["fixed"] = fixed_by(request.running, *module, schemas, findings);
        }
        answer["mode"] = std::string{module->mode_name()};
        answer["digest"] = hex(module->digest);
    }
    for (const Error& error : script::check_scripts(request.bin)) {
        findings.push_back(finding_of(error, false));
    }
    script::ModuleFolders folders;
    folders.bin = request.bin;
    folders.prefix = paths.prefix;
    for (const Error& error : script::check_shell_scripts(folders)) {
        findings.push_back(finding_of(error, true));
    }
    check_hook_modes(request.bin, findings);
    bool ok = module.has_value() && std::ranges::none_of(findings, [](const auto& f) { return !f.warning; });
    if (ok && !request.out.empty()) {
        if (auto written = write_out(request.out, *module, paths); !written) {
            findings.push_back(finding_of(written.error(), false));
            ok = false;
        }
    }
    json::array list;
    for (const config::Finding& finding : findings) {
        list.push_back(to_json(finding));
    }
    answer["ok"] = ok;
    answer["findings"] = std::move(list);
    std::cout << utf8_json(json::serialize(answer)) << "\n" << std::flush; // names of files may be anything
    return ok ? 0 : 1;
}

namespace {

json::value text_or_null(const char* text) { return text != nullptr ? json::value(text) : json::value(nullptr); }

json::object to_json(const stead_attr_schema& attribute) {
    static constexpr std::array<const char*, 11> types{"",     "string", "integer", "duration", "choice", "address",
                                                       "port", "mac",    "path",    "name",     "boolean"};
    json::object object{{"name", attribute.name},
                        {"type", attribute.type < types.size() ? types[attribute.type] : "?"},
                        {"required", (attribute.flags & STEAD_ATTR_REQUIRED) != 0},
                        {"dynamic", (attribute.flags & STEAD_ATTR_DYNAMIC) != 0},
                        {"default", text_or_null(attribute.default_value)},
                        {"help", text_or_null(attribute.help)}};
    if (attribute.type == STEAD_TYPE_CHOICE) {
        object["choices"] = text_or_null(attribute.choices);
    }
    if (attribute.native_unit != nullptr) {
        object["unit"] = attribute.native_unit;
    }
    if (attribute.min != 0 || attribute.max != 0) {
        object["min"] = attribute.min;
        object["max"] = attribute.max;
    }
    return object;
}

json::object to_json(const stead_elem_schema& element) {
    json::array attributes;
    for (const stead_attr_schema& attribute : std::span(element.attrs, element.attr_count)) {
        attributes.push_back(to_json(attribute));
    }
    return {{"path", element.path},
            {"modes", text_or_null(element.modes)},
            {"required", (element.flags & STEAD_ELEM_REQUIRED) != 0},
            {"repeatable", (element.flags & STEAD_ELEM_REPEATABLE) != 0},
            {"dynamic", (element.flags & STEAD_ELEM_DYNAMIC) != 0},
            {"text", (element.flags & STEAD_ELEM_TEXT) != 0},
            {"help", text_or_null(element.help)},
            {"attributes", std::move(attributes)}};
}

} // namespace

std::string schema_json(const Registry& registry, const control::Paths& paths) {
    json::array plugins;
    const auto add = [&](std::string_view id, std::string_view version, const char* kind, const std::string& file,
                         std::span<const stead_elem_schema> schema) {
        json::array elements;
        for (const stead_elem_schema& element : schema) {
            elements.push_back(to_json(element));
        }
        plugins.push_back(json::object{
            {"id", id}, {"version", version}, {"kind", kind}, {"file", file}, {"elements", std::move(elements)}});
    };
    add("host", STEAD_VERSION, "host", paths.host().string(), config::host_schema());
    for (const Plugin& plugin : registry.plugins()) {
        add(plugin.descriptor.id, plugin.descriptor.version,
            plugin.descriptor.kind == STEAD_KIND_SERVICE ? "service" : "checker", plugin.file.string(),
            plugin.schema());
    }
    json::array refused;
    for (const Error& error : registry.refused()) {
        refused.push_back(json::object{{"file", error.where}, {"reason", error.what}});
    }
    return json::serialize(json::object{{"plugins", std::move(plugins)}, {"refused", std::move(refused)}});
}

} // namespace stead::host
