// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <algorithm>

namespace stead::process {
namespace {

constexpr std::size_t name_max = 100; // with "proc." it names a resource
constexpr std::size_t procs_max = 1000;
constexpr std::size_t services_max = 1000;

class Reader {
public:
    Reader(const plugin::Config& proc, const Finding& finding) : proc_(proc), finding_(finding) {}

    [[nodiscard]] std::optional<Spec> read(nanoseconds polltimer) {
        Spec spec;
        spec.name = proc_.string("name");
        if (spec.name.empty() || spec.name.size() > name_max ||
            std::ranges::any_of(spec.name, [](unsigned char c) { return c <= ' ' || c == 0x7f; })) {
            error("name", spec.name, "1 to 100 characters without blanks");
        }
        spec.service = proc_.boolean("service");
        spec.name_regex = regex("nameregex");
        spec.arg_regex = regex("argregex");
        spec.class_name = proc_.string("class");
        read_action(spec);
        read_services(spec);
        spec.atleast = static_cast<std::uint32_t>(proc_.integer("atleast"));
        spec.atmax = static_cast<std::int32_t>(proc_.integer("atmax"));
        if (spec.atmax == 0) {
            spec.atleast = 0; // "none may be there" says nothing of a lower bound
        } else if (spec.atmax > 0 && static_cast<std::uint32_t>(spec.atmax) < spec.atleast) {
            error("atmax", std::to_string(spec.atmax), "-1, 0, or at least atleast, " + std::to_string(spec.atleast));
        }
        spec.start_after = polltimer * std::max<std::int64_t>(proc_.integer("start_after") - 1, 0);
        return good_ ? std::optional{std::move(spec)} : std::nullopt;
    }

private:
    void error(const char* attribute, std::string_view value, const std::string& allowed) {
        good_ = false;
        finding_(proc_.line(), false,
                 std::string{"errd/proc/@"} + attribute + ": '" + std::string{value} + "': allowed: " + allowed);
    }
    [[nodiscard]] std::optional<Regex> regex(const char* attribute) {
        const auto text = proc_.attribute(attribute);
        if (!text || text->empty()) {
            return std::nullopt;
        }
        auto compiled = Regex::compile(std::string{*text});
        if (!compiled) {
            good_ = false;
            finding_(proc_.line(), false, std::string{"errd/proc/@"} + attribute + ": " + compiled.error().text());
            return std::nullopt;
        }
        return *compiled;
    }
    void read_action(Spec& spec) {
        const std::string action{proc_.string("action")};
        constexpr std::pair<std::string_view, Action> names[]{{"noaction", Action::none},
                                                              {"restart", Action::restart},
                                                              {"stopstart", Action::stopstart},
                                                              {"stop", Action::stop}};
        const auto* const known = std::ranges::find(names, action, &std::pair<std::string_view, Action>::first);
        spec.action = known != std::end(names) ? known->second : Action::handler;
        spec.handler = known != std::end(names) ? "" : action;
        if (spec.action == Action::handler &&
            (action.empty() || action.front() == '.' || action.find_first_of("/ \t\n") != std::string::npos)) {
            error("action", action, "restart, stopstart, stop, noaction, or the name of an executable in bin");
        }
    }

    void read_services(Spec& spec) {
        const std::string list{proc_.attribute("restart_services").value_or("")};
        if (list.empty()) {
            return;
        }
        if (!spec.service || spec.action != Action::restart) {
            error("restart_services", list,
                  "only with service=\"yes\" and action=\"restart\"; here service is " +
                      std::string{spec.service ? "yes" : "no"} + " and action " + action_name(spec));
        }
        std::size_t begin = 0;
        for (std::size_t end = 0; end != std::string::npos; begin = end + 1) {
            end = list.find(',', begin);
            std::string name = list.substr(begin, end - begin); // to the end when there is no comma
            const bool good = !name.empty() && std::ranges::all_of(name, [](unsigned char c) {
                return c > ' ' && c < 0x7f && c != '"' && c != '\'' && c != '\\' && c != '$' && c != '`';
            });
            if (!good || list.size() > services_max) {
                error("restart_services", list,
                      "names of services without blanks and quotes, one comma between two of them, at most " +
                          std::to_string(services_max) + " characters");
                return;
            }
            spec.restart_services.push_back(std::move(name));
        }
    }

    const plugin::Config& proc_;
    const Finding& finding_;
    bool good_{true};
};

/// "proc.<name>" in characters that rules can name; what is taken gets a number.
std::string free_resource(const std::vector<Spec>& specs, const std::string& name) {
    std::string resource = "proc." + name;
    std::ranges::replace_if(
        resource,
        [](char c) {
            return std::string_view{"_.-"}.find(c) == std::string_view::npos && (c < '0' || c > '9') &&
                   (c < 'A' || c > 'Z') && (c < 'a' || c > 'z');
        },
        '_');
    std::string free = resource;
    for (int number = 2; std::ranges::find(specs, free, &Spec::resource) != specs.end(); ++number) {
        free = resource + "." + std::to_string(number);
    }
    return free;
}

} // namespace

Options read_options(const plugin::Config& service, const Finding& finding) {
    Options options;
    const auto errd = service.child("errd");
    if (!errd) {
        return options;
    }
    options.polltimer = errd->duration("polltimer");
    for (const plugin::Config& proc : errd->children("proc")) {
        if (options.specs.size() == procs_max) {
            finding(proc.line(), false, "errd: more than " + std::to_string(procs_max) + " processes to watch");
            break;
        }
        if (auto spec = Reader(proc, finding).read(options.polltimer)) {
            spec->resource = free_resource(options.specs, spec->name);
            if (!spec->resource.ends_with(spec->name)) {
                finding(proc.line(), true, "errd/proc/@name: '" + spec->name + "': its resource is " + spec->resource);
            }
            options.specs.push_back(std::move(*spec));
        }
    }
    return options;
}

} // namespace stead::process
