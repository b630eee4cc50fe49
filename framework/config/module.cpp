// SPDX-License-Identifier: Apache-2.0
#include "document.hpp"
#include "macros.hpp"
#include "schema_index.hpp"
#include "values.hpp"
#include "variables.hpp"

#include <stead/base/files.hpp>

#include <algorithm>

namespace stead::config {

namespace {

bool blank(std::string_view text) { return text.find_first_not_of(" \t\r\n\f") == std::string_view::npos; }

/// Walks the raw tree along the schemas and builds the checked one, of the elements that have no error.
class Checker {
public:
    Checker(const SchemaIndex& index, const Cluster* cluster, Report& report, std::string mode)
        : index_(index), cluster_(cluster), report_(report), mode_(std::move(mode)) {}

    /// False: `element` lacks what its owner may rely on.
    bool check(const Raw& raw, const std::string& path, Element& element) {
        const auto before = report_.errors();
        element.name = raw.name;
        element.line = raw.line;
        const auto owners = index_.owners(path == "" ? "service" : path, mode_);
        attributes(raw, owners, element);
        text(raw, owners, element);
        cross_check(raw, element);
        const auto before_children = report_.errors();
        children(raw, path, element);
        if (report_.errors() != before_children) {
            gaps_.push_back(raw.line);
        }
        return before_children == before &&
               std::ranges::all_of(index_.required_children(path, mode_),
                                   [&](const auto& name) { return element.child(name) != nullptr; });
    }
    /// Lines of the elements that lack something below them.
    [[nodiscard]] const std::vector<int>& gaps() const noexcept { return gaps_; }

private:
    void attributes(const Raw& raw, const SchemaIndex::Owners& owners, Element& element) {
        std::vector<std::string> known;
        for (const auto& owner : owners) {
            for (const auto& schema : owner.attributes()) {
                if (std::ranges::find(known, schema.name) != known.end()) {
                    continue;
                }
                known.emplace_back(schema.name);
                attribute(raw, schema, owner.plugin, element);
            }
        }
        for (const auto& a : raw.attributes) {
            if (std::ranges::find(known, a.name) != known.end()) {
                continue;
            }
            std::string message = raw.name + "/@" + shown(a.name) + ": unknown attribute with value '" +
                                  shown(a.value) + "'; allowed: " + (known.empty() ? "none" : join(known, ", "));
            if (const auto guess = nearest(a.name, known); !guess.empty()) {
                message += "; did you mean '" + guess + "'?";
            }
            report_.error(a.line, std::move(message));
        }
    }

    void attribute(const Raw& raw, const stead_attr_schema& schema, const std::string& plugin, Element& element) {
        const auto* written = raw.attribute(schema.name);
        const std::string where = raw.name + "/@" + schema.name + ": ";
        if (written != nullptr && (schema.flags & (STEAD_ATTR_WINDOWS | STEAD_ATTR_IGNORED)) != 0) {
            const bool windows = (schema.flags & STEAD_ATTR_WINDOWS) != 0;
            const std::string help = schema.help == nullptr ? "" : std::string{"; "} + schema.help;
            report_.warning(written->line, raw.name + "/@" + schema.name +
                                               (windows ? " is for Windows only, and ignored" : " is ignored" + help));
            return;
        }
        if (written != nullptr && !written->refused.empty()) {
            report_.error(written->line, where + written->refused);
            return;
        }
        if (written == nullptr) {
            if ((schema.flags & STEAD_ATTR_REQUIRED) != 0) {
                report_.error(raw.line, "<" + raw.name + "> needs the attribute " + schema.name +
                                            "; allowed: " + allowed_text(schema));
            } else if (schema.default_value != nullptr) {
                auto value = normalise(schema.default_value, schema);
                if (!value) {
                    report_.error(raw.line, where + "the default of plugin '" + plugin + "': " + value.error().what);
                    return;
                }
                element.attributes.emplace_back(schema.name, std::move(*value));
            }
            return;
        }
        auto value = normalise(written->value, schema);
        if (!value) {
            report_.error(written->line, where + value.error().what);
            return;
        }
        element.attributes.emplace_back(schema.name, std::move(*value));
    }

    void text(const Raw& raw, const SchemaIndex::Owners& owners, Element& element) {
        const bool allowed =
            std::ranges::any_of(owners, [](const auto& owner) { return (owner.schema->flags & STEAD_ELEM_TEXT) != 0; });
        if (allowed) {
            element.text = raw.text;
            element.text_starts = raw.text_starts;
        } else if (!blank(raw.text)) {
            const auto begin = raw.text.find_first_not_of(" \t\r\n\f");
            report_.error(raw.line,
                          "<" + raw.name + ">: text '" + shown(raw.text.substr(begin)) + "' is not allowed here");
        }
    }

    void children(const Raw& raw, const std::string& path, Element& element) {
        std::map<std::string, int> seen;
        for (const auto& child : raw.children) {
            const std::string child_path = path.empty() ? child.name : path + "/" + child.name;
            if (index_.is_top(child_path) || !index_.contains(child_path)) {
                unknown(child, raw, path);
                continue;
            }
            if (!index_.allows(child_path, mode_)) {
                report_.error(child.line, "<" + child.name + "> is not allowed in mode '" + mode_ +
                                              "'; allowed: mode " + index_.modes(child_path));
                continue;
            }
            const auto [at, first] = seen.emplace(child.name, child.line);
            if (!first && !index_.repeatable(child_path)) {
                report_.error(child.line, "<" + child.name + "> may stand once in <" + raw.name +
                                              ">; the first is in line " + std::to_string(at->second));
                continue;
            }
            if (Element checked; check(child, child_path, checked)) {
                element.children.push_back(std::move(checked));
            }
        }
        for (const auto& name : index_.required_children(path, mode_)) {
            if (!seen.contains(name)) {
                report_.error(raw.line, "<" + raw.name + "> needs the element <" + name + ">");
            }
        }
    }

    void unknown(const Raw& child, const Raw& parent, const std::string& path) {
        if (index_.classic(child.name)) {
            report_.warning(child.line, "<" + child.name + "> is inactive, with all in it: no plugin in " +
                                            index_.plugins_folder() + " provides it");
            return;
        }
        const auto allowed = index_.child_names(path, mode_);
        std::string message = "unknown element <" + shown(child.name) + "> in <" + parent.name +
                              ">; allowed: " + (allowed.empty() ? "none" : join(allowed, ", ")) + "; no plugin in " +
                              index_.plugins_folder() + " owns it";
        if (const auto guess = nearest(child.name, allowed); !guess.empty()) {
            message += "; did you mean <" + guess + ">?";
        }
        report_.error(child.line, std::move(message));
    }

    /// Names that mean a LAN or a node of cluster.xml, whichever plugin owns the element.
    void cross_check(const Raw& raw, const Element& element) {
        const auto witness = raw.name == "farm" ? element.attribute("witness") : std::nullopt;
        if (cluster_ != nullptr && witness && !cluster_->find(*witness)) {
            no_node(raw.attribute("witness")->line, "farm/@witness", *witness);
        }
        if (cluster_ != nullptr && raw.name == "splitbrain") {
            check_witnesses(raw.line, element);
        }
        const auto name = element.attribute("name");
        if (cluster_ == nullptr || !name) {
            return;
        }
        std::vector<std::string> lans;
        for (const auto& lan : cluster_->lans) {
            lans.push_back(lan.name);
        }
        const auto line = raw.attribute("name")->line;
        const bool before_7_2 = raw.name == "heartbeat" && !raw.children.empty(); // its networks had addresses here
        const bool is_lan = raw.name == "lan" || raw.name == "flow" || (raw.name == "heartbeat" && !before_7_2);
        if (is_lan && !cluster_->find_lan(*name)) {
            report_.error(line, raw.name + "/@name: '" + shown(*name) +
                                    "' is not a LAN of cluster.xml; allowed: " + join(lans, ", "));
        }
        if (raw.name == "host" && !cluster_->find(*name)) {
            report_.error(line, "host/@name: '" + shown(*name) +
                                    "' is not a node of cluster.xml; allowed: " + join(cluster_->nodes, ", "));
        }
    }

    void no_node(int line, const std::string& where, std::string_view name) {
        report_.error(line, where + ": '" + shown(std::string{name}) +
                                "' is not a node of cluster.xml; allowed: " + join(cluster_->nodes, ", "));
    }

    /// With exec="cas" every word is a node, else those that begin with "node:".
    void check_witnesses(int line, const Element& element) {
        constexpr std::string_view blanks = " \t\n,", prefix = "node:";
        const bool all = element.attribute("exec") == "cas";
        std::string_view left = element.attribute("arg").value_or("");
        while (!left.empty()) {
            const auto end = std::min(left.find_first_of(blanks), left.size());
            const std::string_view word = left.substr(0, end);
            const bool marked = word.starts_with(prefix);
            const std::string node{marked ? word.substr(prefix.size()) : word};
            if ((all || marked) && !node.empty() && !cluster_->find(node)) {
                no_node(line, "splitbrain/@arg", node);
            }
            left.remove_prefix(std::min(end + 1, left.size()));
        }
    }

    const SchemaIndex& index_;
    const Cluster* cluster_;
    Report& report_;
    std::string mode_;
    std::vector<int> gaps_;
};

void write_xml(const Raw& raw, int depth, std::string& out) {
    const std::string indent(static_cast<std::size_t>(depth) * 2, ' ');
    out += indent + "<" + raw.name;
    for (const auto& a : raw.attributes) {
        out += " " + a.name + "=\"" + escape(a.value) + "\"";
    }
    const bool has_text = !blank(raw.text);
    if (raw.children.empty() && !has_text) {
        out += "/>\n";
        return;
    }
    out += ">";
    if (has_text) {
        std::string text = raw.text;
        std::erase(text, '\f'); // our own mark between sections, no XML character
        for (std::size_t at = 0; (at = text.find("]]>", at)) != std::string::npos; at += 15) {
            text.replace(at, 3, "]]]]><![CDATA[>");
        }
        out += "<![CDATA[" + text + "]]>";
    }
    out += raw.children.empty() ? "" : "\n";
    for (const auto& child : raw.children) {
        write_xml(child, depth + 1, out);
    }
    out += (raw.children.empty() ? "" : indent) + "</" + raw.name + ">\n";
}

void add_to(Digest& digest, const Element& element) {
    digest.add(element.name).add(element.text);
    auto attributes = element.attributes;
    std::ranges::sort(attributes);
    digest.add(attributes.size());
    for (const auto& [name, value] : attributes) {
        digest.add(name).add(value);
    }
    digest.add(element.children.size());
    for (const auto& child : element.children) {
        add_to(digest, child);
    }
}

nanoseconds time_of(const Element& element, std::string_view name) {
    return nanoseconds{std::stoll(std::string{element.attribute(name).value_or("0")})};
}

std::uint32_t number_of(const Element& element, std::string_view name) {
    return static_cast<std::uint32_t>(std::stoul(std::string{element.attribute(name).value_or("0")}));
}

void take_user(const Element& user, Module& module, Report& report) {
    module.user.present = true;
    module.user.nice_stop_timeout = time_of(user, "nicestoptimeout");
    module.user.force_stop_timeout = time_of(user, "forcestoptimeout");
    module.user.log = user.attribute("logging") == "userlog";
    module.user.log_kilobytes = number_of(user, "userlogsize");
    for (const auto& var : user.children) {
        const auto name = var.attribute("name");
        const auto value = var.attribute("value");
        if (var.name != "var" || !name || !value) {
            continue;
        }
        check_variable(var.line, *name, *value, report);
        if (!module.vars.insert_or_assign(std::string{*name}, std::string{*value}).second) {
            report.warning(var.line, "variable '" + shown(*name) + "' is defined twice; this, the last, is taken");
        }
    }
}

void take_settings(Module& module, const Cluster* cluster, Report& report) {
    const Element& service = module.service;
    module.settings.boot = service.attribute("boot").value_or("ignore");
    module.settings.boot_delay = time_of(service, "boot_delay");
    module.settings.maxloop = number_of(service, "maxloop");
    module.settings.loop_interval = time_of(service, "loop_interval");
    module.settings.automatic_reboot = service.attribute("automatic_reboot") == "on";
    if (const auto* user = service.child("user")) {
        take_user(*user, module, report);
    }
    const auto primary = service.attribute("defaultprim").value_or("alone");
    if (cluster != nullptr && primary != "alone" && primary != "lastprim" && !cluster->find(primary)) {
        report.error(service.line, "service/@defaultprim: '" + std::string{primary} +
                                       "' is not a node of cluster.xml; "
                                       "allowed: alone, lastprim, " +
                                       join(cluster->nodes, ", "));
    }
}

/// <safe> holds macros and one service; returns the service.
Raw* find_service(Raw& root, Report& report) {
    if (root.name != "safe") {
        report.error(root.line, "the top element is <" + shown(root.name) + ">; allowed: <safe>");
        return nullptr;
    }
    for (const auto& a : root.attributes) {
        report.error(a.line, "safe/@" + shown(a.name) + ": unknown attribute; allowed: none");
    }
    if (!blank(root.text)) {
        report.error(root.line, "<safe>: text is not allowed here");
    }
    Raw* service = nullptr;
    for (auto& child : root.children) {
        if (child.name == "service") {
            if (service != nullptr) {
                report.error(child.line, "<service> may stand once in <safe>; the first is in line " +
                                             std::to_string(service->line));
                continue;
            }
            service = &child;
        } else if (child.name == "macro") {
            for (const auto& a : child.attributes) {
                if (a.name != "name" && a.name != "value") {
                    report.error(a.line, "macro/@" + shown(a.name) + ": unknown attribute; allowed: name, value");
                }
            }
        } else {
            report.error(child.line,
                         "unknown element <" + shown(child.name) + "> in <safe>; allowed: <macro> and one <service>");
        }
    }
    if (service == nullptr) {
        report.error(root.line, "<safe> needs the element <service>");
    }
    return service;
}

/// Puts addresses in the place of names: what is applied, compared between nodes and shown to hooks are addresses.
class VirtualNames {
public:
    VirtualNames(const Resolver& resolver, Report& report) : resolver_(resolver), report_(report) {}

    void replace(Raw& element) {
        for (auto& a : element.attributes) {
            const bool address = (element.name == "virtual_addr" && a.name == "addr") ||
                                 (element.name == "rule" && a.name == "virtual_addr");
            if (address && is_host_name(a.value)) {
                replace(element.name, a);
            }
        }
        for (auto& child : element.children) {
            replace(child);
        }
    }
    [[nodiscard]] std::map<std::string, std::string> take() { return std::move(known_); }

private:
    void replace(const std::string& element, Raw::Attribute& a) {
        if (const auto known = known_.find(a.value); known != known_.end()) {
            a.value = known->second;
            return;
        }
        const auto found = resolver_(a.value);
        if (!found) {
            a.refused = found.error().what;
            return;
        }
        report_.warning(a.line, element + "/@" + a.name + ": '" + a.value + "' is " + found->front() +
                                    " until the next 'stead config'" +
                                    (found->size() > 1 ? "; its other address, " + found->back() +
                                                             ", needs a <virtual_addr> of its own, written with digits"
                                                       : ""));
        a.value = known_.emplace(a.value, found->front()).first->second;
    }

    const Resolver& resolver_;
    Report& report_;
    std::map<std::string, std::string> known_;
};

/// Of a service whose mode is wrong, by its elements, so that what else is wrong in them is found as well.
Module::Mode likely_mode(const Element& service) {
    const Element* vip = service.child("vip");
    const bool farm =
        service.child("farm") != nullptr || (vip != nullptr && vip->child("loadbalancing_list") != nullptr);
    return farm ? Module::Mode::farm : Module::Mode::mirror; // in the rules of a mirror most is allowed
}

/// Nothing: without a service there is nothing to go by.
std::optional<Draft> check_module(Raw& root, const SchemaSet& schemas, const Surroundings& surroundings,
                                  Report& report) {
    const Cluster* cluster = surroundings.cluster;
    Raw* service = find_service(root, report);
    if (service == nullptr) {
        return std::nullopt;
    }
    Draft draft;
    Module& module = draft.module;
    const SchemaIndex index{schemas};
    Macros macros{root, report};
    macros.expand(*service, report, [&](const Raw& element) { return index.inactive(element.name); });
    for (auto& child : root.children) {
        if (child.name == "macro") {
            const auto values = macros.values();
            for (auto& a : child.attributes) {
                const auto* name = child.attribute("name");
                if (a.name == "value" && name != nullptr && values.contains(name->value)) {
                    a.value = values.at(name->value);
                }
            }
        }
    }
    module.macros = macros.values();
    if (surroundings.resolver) {
        VirtualNames names{surroundings.resolver, report};
        names.replace(*service);
        module.addresses = names.take();
    }
    const auto* mode = service->attribute("mode");
    const std::string mode_name = mode == nullptr ? "" : mode->value;
    const bool known = mode_name == "farm" || mode_name == "mirror" || mode_name == "light";
    Checker checker{index, cluster, report, known ? mode_name : ""};
    checker.check(*service, "", module.service);
    module.mode = mode_name == "mirror"  ? Module::Mode::mirror
                  : mode_name == "light" ? Module::Mode::light
                  : mode_name == "farm"  ? Module::Mode::farm
                                         : likely_mode(module.service);
    draft.gaps = checker.gaps();
    take_settings(module, cluster, report);
    module.expanded_xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    write_xml(root, 0, module.expanded_xml);
    Digest digest;
    add_to(digest, module.service);
    module.digest = digest.value();
    return draft;
}

std::optional<Element> filter(const Element& element, const std::string& path, const SchemaIndex& index,
                              std::string_view plugin, std::string_view mode) {
    const auto owners = index.owners(path, std::string{mode});
    const bool mine = std::ranges::any_of(owners, [&](const auto& owner) { return owner.plugin == plugin; });
    Element out;
    for (const auto& child : element.children) {
        if (auto kept = filter(child, path + "/" + child.name, index, plugin, mode)) {
            out.children.push_back(std::move(*kept));
        }
    }
    if (!mine && out.children.empty()) {
        return std::nullopt;
    }
    out.name = element.name;
    out.line = element.line;
    out.attributes = element.attributes;
    out.text = mine ? element.text : "";
    out.text_starts = mine ? element.text_starts : std::vector<TextStart>{};
    return out;
}

bool uses_below(const Element& element, const std::string& path, const SchemaIndex& index, std::string_view plugin,
                const std::string& mode) {
    return std::ranges::any_of(element.children, [&](const Element& child) {
        const auto child_path = path.empty() ? child.name : path + "/" + child.name;
        const auto owners = index.owners(child_path, mode);
        return (owners.size() == 1 && owners.front().plugin == plugin) ||
               uses_below(child, child_path, index, plugin, mode);
    });
}

} // namespace

const Element* Element::child(std::string_view element_name) const {
    const auto at = std::ranges::find(children, element_name, &Element::name);
    return at == children.end() ? nullptr : &*at;
}

std::optional<std::string_view> Element::attribute(std::string_view attribute_name) const {
    for (const auto& [name_of, value] : attributes) {
        if (name_of == attribute_name) {
            return value;
        }
    }
    return std::nullopt;
}

std::string_view Module::mode_name() const noexcept {
    switch (mode) {
    case Mode::mirror: return "mirror";
    case Mode::light: return "light";
    default: return "farm";
    }
}

Element Module::part_for(const SchemaSet& schemas, std::string_view plugin) const {
    const SchemaIndex index{schemas};
    Element root;
    root.name = "service";
    root.line = service.line;
    root.attributes = service.attributes;
    for (const auto& child : service.children) {
        if (auto kept = filter(child, child.name, index, plugin, mode_name())) {
            root.children.push_back(std::move(*kept));
        }
    }
    return root;
}

bool Module::uses(const SchemaSet& schemas, std::string_view plugin) const {
    return uses_below(service, "", SchemaIndex{schemas}, plugin, std::string{mode_name()});
}

Checked<Module> parse_module(std::string_view xml, std::string_view file_name, const SchemaSet& schemas,
                             const Surroundings& surroundings) {
    Report report{file_name};
    Checked<Module> out;
    if (auto root = parse_document(xml, report)) {
        auto draft = check_module(*root, schemas, surroundings, report);
        if (draft && report.errors() == 0) {
            out.value = std::move(draft->module);
        }
    }
    out.findings = report.take();
    return out;
}

std::optional<Draft> draft_module(std::string_view xml, const SchemaSet& schemas, const Surroundings& surroundings) {
    Report report{""};
    auto root = parse_document(xml, report);
    return root ? check_module(*root, schemas, surroundings, report) : std::nullopt;
}

Result<std::set<std::string>> read_classic_elements(const std::filesystem::path& file) {
    auto content = read_file(file, 64u << 10);
    if (!content) {
        return content.error();
    }
    const auto trim = [](const std::string& text) {
        const auto begin = text.find_first_not_of(" \t\r");
        return begin == std::string::npos ? std::string{}
                                          : text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
    };
    std::set<std::string> elements;
    int number = 0;
    for (const auto& line : split(*content, '\n')) {
        ++number;
        const std::string name = trim(line.substr(0, line.find('#')));
        if (name.empty()) {
            continue;
        }
        if (!is_name(name)) {
            return Error{Errc::malformed, file.string() + ":" + std::to_string(number),
                         "'" + shown(name) + "' is not an element name; allowed: one name in a line; '#' comments"};
        }
        elements.insert(name);
    }
    return elements;
}

CTree::CTree(const Element& root) { root_ = make(root); }

stead_xml CTree::make(const Element& element) {
    // Moving a vector keeps its buffer, and strings are copied into buffers of their own, so no pointer goes stale.
    const auto keep = [this](const std::string& text) {
        strings_.push_back(std::vector<char>(text.begin(), text.end()));
        return stead_str{text.empty() ? "" : strings_.back().data(), text.size()};
    };
    stead_xml out{};
    out.name = keep(element.name);
    out.line = static_cast<std::uint32_t>(element.line);
    out.text = keep(element.text);
    std::vector<stead_xml_attr> attributes;
    for (const auto& [name, value] : element.attributes) {
        attributes.push_back({keep(name), keep(value)});
    }
    std::vector<stead_xml> children;
    for (const auto& child : element.children) {
        children.push_back(make(child));
    }
    attributes_.push_back(std::move(attributes));
    children_.push_back(std::move(children));
    out.attr_count = static_cast<std::uint32_t>(attributes_.back().size());
    out.attrs = attributes_.back().data();
    out.child_count = static_cast<std::uint32_t>(children_.back().size());
    out.children = children_.back().data();
    return out;
}

} // namespace stead::config
