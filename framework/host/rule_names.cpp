// SPDX-License-Identifier: Apache-2.0
#include "rule_names.hpp"

#include <stead/base/files.hpp>
#include <stead/base/utf8.hpp>
#include <stead/control/command.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <system_error>

namespace stead::host {

namespace {

using config::Element;

constexpr std::size_t script_bytes_max = 1u << 20; // of one file that may publish something
constexpr std::size_t scripts_max = 1000;

/// Classes of the host and of the services, whose ids the running module makes up.
constexpr std::array<std::string_view, 8> own_classes{"state",  "usersetting", "config",    "rfs",
                                                      "mirror", "heart",       "heartbeat", "farm"};

/// What may be published: the ids of each class, as far as the configuration tells.
class Known {
public:
    Known(const config::Module& module, const config::SchemaSet& schemas) {
        open_.insert(own_classes.begin(), own_classes.end());
        for (const config::SchemaSet::Owner& owner : schemas.owners) {
            take_schema(owner);
        }
        take_checks(module.service);
        take_processes(module.service);
        take_addresses(module.service);
    }
    void add(const std::string& resource) {
        const std::size_t dot = std::min(resource.find('.'), resource.size());
        if (dot + 1 < resource.size()) {
            ids_[resource.substr(0, dot)].insert(resource.substr(dot + 1));
        }
    }
    [[nodiscard]] bool has(const rules::Subject& subject) const {
        const auto found = ids_.find(subject.kind);
        return open_.contains(subject.kind) || (found != ids_.end() && (subject.which == rules::Subject::Which::named
                                                                            ? found->second.contains(subject.id)
                                                                            : !found->second.empty()));
    }
    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> all;
        for (const auto& [kind, ids] : ids_) {
            for (const std::string& id : ids) {
                all.push_back(kind + "." + id);
            }
        }
        return all;
    }

private:
    /// A checker's class is its element's tag, with the idents that are configured; what other plugins publish is
    /// theirs to say: any id of a class with their name, or that of an element of theirs.
    void take_schema(const config::SchemaSet::Owner& owner) {
        constexpr std::string_view check = "check/", checkers = "checkers.";
        if (owner.plugin == "host") {
            return;
        }
        if (!owner.plugin.starts_with(checkers)) {
            open_.insert(owner.plugin.substr(owner.plugin.rfind('.') + 1));
        }
        for (const stead_elem_schema& element : owner.elements) {
            std::string_view path = element.path;
            const bool of_check = path.starts_with(check);
            path.remove_prefix(of_check ? check.size() : 0);
            const auto attributes = std::span(element.attrs, element.attr_count);
            const bool has_ident = std::ranges::any_of(
                attributes, [](const stead_attr_schema& one) { return std::string_view{one.name} == "ident"; });
            if (path.find('/') == std::string_view::npos && !(of_check && has_ident) && path != "errd") {
                open_.emplace(path);
            }
        }
    }
    void take_checks(const Element& service) {
        for (const Element& checks : service.children) {
            if (checks.name != "check") {
                continue;
            }
            for (const Element& one : checks.children) {
                if (const auto ident = one.attribute("ident"); ident && !ident->empty()) {
                    ids_[one.name].emplace(*ident);
                } else if (one.name == "module") {
                    const Element* to = one.child("to");
                    const auto addr = to != nullptr ? to->attribute("addr") : std::nullopt;
                    ids_[one.name].insert(std::string{one.attribute("name").value_or("")} + "_" +
                                          std::string{addr.value_or("127.0.0.1")});
                }
                if (one.name == "splitbrain") {
                    ids_[one.name].insert({"uptodate", "claim", "verdict"});
                }
            }
        }
    }
    void take_processes(const Element& service) {
        for (const Element& errd : service.children) {
            if (errd.name != "errd") {
                continue;
            }
            std::map<std::string, int> seen;
            for (const Element& proc : errd.children) {
                std::string name{proc.attribute("name").value_or("")};
                std::ranges::replace_if(
                    name,
                    [](char c) {
                        return !rules::is_label(std::string_view{&c, 1});
                    },
                    '_');
                const int number = ++seen[name]; // a second one of the same name is proc.<name>.2
                ids_["proc"].insert(number == 1 ? name : name + "." + std::to_string(number));
            }
        }
    }
    /// The checks that are made for interfaces and virtual addresses.
    void take_addresses(const Element& element) {
        if (element.name == "interface") {
            open_.insert("intf");
        }
        if (element.name == "virtual_addr") {
            ids_["ip"].emplace(element.attribute("addr").value_or(""));
            ids_["ip_conflict"].emplace(element.attribute("addr").value_or(""));
        }
        for (const Element& child : element.children) {
            take_addresses(child);
        }
    }

    std::map<std::string, std::set<std::string>, std::less<>> ids_;
    std::set<std::string, std::less<>> open_;
};

/// All that may run `set -r` or stead.resource.set. The rules themselves do not count.
std::vector<std::string> scripts_in(const std::filesystem::path& bin) {
    std::vector<std::string> all;
    std::error_code failed;
    for (std::filesystem::recursive_directory_iterator it(bin, failed), end; !failed && it != end;
         it.increment(failed)) {
        if (all.size() >= scripts_max) {
            break;
        }
        if (it->is_regular_file(failed) && it->path() != bin / "rules.lua") {
            if (auto text = read_file(it->path(), script_bytes_max)) {
                all.push_back(std::move(*text));
            }
        }
    }
    return all;
}

bool covers(const rules::Subject& subject, const std::string& kind, std::string_view id) {
    return !subject.remote && subject.kind == kind &&
           (subject.which != rules::Subject::Which::named || subject.id == id);
}

std::string shown(const rules::Subject& subject) {
    using Which = rules::Subject::Which;
    return subject.kind + "." + (subject.which == Which::any ? "?" : subject.which == Which::all ? "*" : subject.id);
}

/// "; did you mean 'x'?", or some of what is there.
std::string hint(const std::string& name, const std::vector<std::string>& names, const std::string& what) {
    if (const std::string near = control::nearest(name, names); !near.empty()) {
        return "; did you mean '" + near + "'?";
    }
    constexpr std::size_t shown_max = 8;
    std::string text = "; " + what;
    for (std::size_t i = 0; i < std::min(names.size(), shown_max); ++i) {
        text += (i > 0 ? ", " : " ") + names[i];
    }
    return names.size() > shown_max ? text + " and " + std::to_string(names.size() - shown_max) + " more" : text;
}

std::string message(const rules::Rule& rule, const rules::Subject& subject, const Known& known) {
    const std::string name = shown(subject);
    const std::vector<std::string> names = known.names();
    return "failover rules: '" + rule.label + "' names " + name + ", which nothing here publishes" +
           (names.empty() ? "; no checker is configured" : hint(name, names, "published are"));
}

/// The labels of the rules that configured checkers make.
class CheckerLabels {
public:
    CheckerLabels(const config::Module& module, const config::SchemaSet& schemas) : schemas_(schemas) {
        for (const Element& checks : module.service.children) {
            for (const Element& one : checks.name == "check" ? checks.children : std::vector<Element>{}) {
                take(one);
            }
        }
    }
    /// Ours are t_<ident> for tcp and so on; how another's plugin calls its rules is its own affair, as long as
    /// the ident is in it.
    [[nodiscard]] bool has(std::string_view label) const {
        return std::ranges::find(ours_, label) != ours_.end() ||
               std::ranges::any_of(others_, [&](const std::string& id) { return label.find(id) != label.npos; });
    }
    [[nodiscard]] const std::vector<std::string>& ours() const { return ours_; }

private:
    void take(const Element& check) {
        const std::string ident{check.attribute("ident").value_or("")};
        for (const config::SchemaSet::Owner& owner : schemas_.owners) {
            const auto schema = std::ranges::find_if(
                owner.elements, [&](const stead_elem_schema& one) { return one.path == "check/" + check.name; });
            if (schema == owner.elements.end() || ident.empty()) {
                continue;
            }
            const auto attributes = std::span(schema->attrs, schema->attr_count);
            const auto action = std::ranges::find_if(
                attributes, [](const stead_attr_schema& one) { return std::string_view{one.name} == "action"; });
            if (owner.plugin != "checkers." + check.name) {
                others_.push_back(ident);
            } else if (action != attributes.end()) { // without an action it makes no rule
                const char* otherwise = action->default_value != nullptr ? action->default_value : "";
                if (check.attribute("action").value_or(otherwise) != "noaction") {
                    ours_.push_back(check.name.substr(0, 1) + "_" + ident);
                }
            }
        }
    }

    const config::SchemaSet& schemas_;
    std::vector<std::string> ours_;
    std::vector<std::string> others_; ///< idents
};

} // namespace

std::vector<config::Finding> unpublished_names(std::span<const rules::Rule> rules, const config::Module& module,
                                               const config::SchemaSet& schemas, const std::filesystem::path& bin) {
    Known known(module, schemas);
    for (const rules::Rule& rule : rules) {
        if (rule.action == rules::Action::assign) {
            known.add(rule.target);
        }
    }
    std::optional<std::vector<std::string>> scripts; // read when first needed
    std::vector<config::Finding> findings;
    std::set<std::string> told;
    for (const rules::Rule& rule : rules) {
        for (const rules::Condition& condition : rule.when.conditions) {
            const rules::Subject& subject = condition.subject;
            const std::string name = shown(subject);
            if (known.has(subject) || told.contains(rule.label + " " + name)) {
                continue;
            }
            if (!scripts) {
                scripts = scripts_in(bin);
            }
            const std::string wanted = subject.kind + "." + subject.id;
            if (std::ranges::none_of(*scripts,
                                     [&](const std::string& text) { return text.find(wanted) != text.npos; })) {
                told.insert(rule.label + " " + name);
                findings.push_back({.warning = true,
                                    .file = rule.place.file,
                                    .line = condition.line > 0 ? condition.line : rule.place.line,
                                    .message = message(rule, subject, known),
                                    .column = condition.line > 0 ? condition.column : rule.place.column});
            }
        }
    }
    return findings;
}

std::vector<config::Finding> unarmed_waits(std::span<const rules::Rule> rules, const config::Module& module,
                                           const std::string& file) {
    std::vector<config::Finding> findings;
    const config::Element* checks = module.service.child("check");
    for (const Element& one : checks != nullptr ? checks->children : std::vector<Element>{}) {
        const std::string when{one.attribute("when").value_or("pre")};
        const std::string id{one.attribute("ident").value_or("")};
        const auto waits = std::ranges::find_if(rules, [&](const rules::Rule& rule) {
            return rule.action == rules::Action::wait &&
                   std::ranges::any_of(rule.when.conditions, [&](const rules::Condition& condition) {
                       return covers(condition.subject, one.name, id);
                   });
        });
        if (when != "pre" && waits != rules.end()) {
            findings.push_back({.warning = true,
                                .file = file,
                                .line = one.line,
                                .message = one.name + "/@when: '" + when + "', and the wait rule '" + waits->label +
                                           "' names " + one.name + "." + id +
                                           ": it is init before the start, and the module waits for its verdict for "
                                           "ever; allowed with a wait rule: pre"});
        }
    }
    return findings;
}

std::vector<config::Finding> unknown_labels(const RuleBook& book, const config::Module& module,
                                            const config::SchemaSet& schemas) {
    std::vector<script::DisabledRule> unknown;
    const CheckerLabels checkers(module, schemas);
    std::vector<std::string> labels = checkers.ours();
    for (const rules::Rule& one :
         merged({.defaults = book.defaults, .own = book.own, .disabled = {}, .findings = {}}, {}, unknown)) {
        labels.push_back(one.label);
    }
    std::vector<config::Finding> findings;
    for (const script::DisabledRule& one : book.disabled) {
        if (std::ranges::find(labels, one.label) == labels.end() && !checkers.has(one.label)) {
            findings.push_back({.warning = true,
                                .file = one.place.file,
                                .line = one.place.line,
                                .message = "failover rules: Rules.disable(\"" + one.label +
                                           "\"): no rule has this label" +
                                           (labels.empty() ? "; there is none" : hint(one.label, labels, "there are")),
                                .column = one.place.column});
        }
    }
    return findings;
}

Result<void> may_be_set(std::string_view resource) {
    const std::size_t dot = resource.find('.');
    const std::string_view kind = resource.substr(0, dot);
    const bool odd = std::ranges::any_of(resource, [](unsigned char c) { return c <= ' ' || c == 0x7F; });
    if (odd || kind.empty() || dot == resource.npos || dot + 1 == resource.size()) {
        return Error{Errc::refused, "resource '" + printable(resource) + "'",
                     "no rule can name it; allowed: CLASS.NAME, such as custom.disk"};
    }
    if (resource == "farm.gate" || std::ranges::find(own_classes, kind) == own_classes.end()) {
        return {};
    }
    return Error{Errc::refused, std::string{resource},
                 "resources " + std::string{kind} +
                     ".* are written by Stead alone; allowed: custom.NAME, a class of "
                     "your own, farm.gate with scriptcontrol=\"on\"" +
                     (kind == "usersetting" ? "; 'stead failover', 'stead checker' and 'stead errd' write these" : "")};
}

Result<void> may_assign(const rules::Rule& rule) {
    return rule.action != rules::Action::assign || rule.target == "rfs.uptodate" ? Result<void>{}
                                                                                 : may_be_set(rule.target);
}

} // namespace stead::host
