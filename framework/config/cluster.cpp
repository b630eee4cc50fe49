// SPDX-License-Identifier: Apache-2.0
#include "document.hpp"
#include "values.hpp"

#include <stead/base/limits.hpp>

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <set>

namespace stead::config {

namespace {

struct NodeLine {
    std::string name, address, local_address;
    int line{};
};

class ClusterReader {
public:
    ClusterReader(const Raw& root, Report& report) : root_(root), report_(report) {}

    Cluster read() {
        if (root_.name != "cluster") {
            report_.error(root_.line, "the top element is <" + shown(root_.name) + ">; allowed: <cluster>");
            return {};
        }
        known_attributes(root_, {});
        text_free(root_);
        const auto lans = children(root_, "lans", "web");
        std::vector<const Raw*> web;
        for (const auto& child : root_.children) {
            if (child.name == "web") {
                web.push_back(&child);
            }
        }
        if (lans.size() != 1) {
            report_.error(lans.empty() ? root_.line : lans[1]->line,
                          "<cluster> holds exactly one <lans>; there are " + std::to_string(lans.size()));
            return {};
        }
        if (web.size() > 1) {
            report_.error(web[1]->line, "<cluster> holds at most one <web>; there are " + std::to_string(web.size()));
        } else if (!web.empty()) {
            read_web(*web.front());
        }
        read_lans(*lans.front());
        if (cluster_.web.port == cluster_.port || (cluster_.web.https && cluster_.web.https_port == cluster_.port)) {
            report_.error(lans.front()->line, "lans/@port: " + std::to_string(cluster_.port) +
                                                  " is a port of <web> as well; they must differ");
        }
        build();
        return std::move(cluster_);
    }

private:
    void text_free(const Raw& element) {
        if (element.text.find_first_not_of(" \t\r\n") != std::string::npos) {
            report_.error(element.line,
                          "<" + element.name + ">: text '" + shown(element.text) + "' is not allowed here");
        }
    }

    void known_attributes(const Raw& element, std::initializer_list<std::string_view> allowed) {
        const std::vector<std::string> names{allowed.begin(), allowed.end()};
        for (const auto& a : element.attributes) {
            if (std::ranges::find(names, a.name) != names.end()) {
                continue;
            }
            std::string text = element.name + "/@" + shown(a.name) +
                               ": unknown attribute; allowed: " + (names.empty() ? "none" : join(names, ", "));
            if (const auto guess = nearest(a.name, names); !guess.empty()) {
                text += "; did you mean '" + guess + "'?";
            }
            report_.error(a.line, std::move(text));
        }
    }

    /// Those of that name; elements called neither that nor `other` are errors.
    std::vector<const Raw*> children(const Raw& parent, std::string_view name, std::string_view other = {}) {
        std::vector<const Raw*> found;
        for (const auto& child : parent.children) {
            if (child.name == name) {
                found.push_back(&child);
            } else if (child.name != other || other.empty()) {
                report_.error(child.line, "unknown element <" + shown(child.name) + "> in <" + parent.name +
                                              ">; allowed: " + (name.empty() ? "none" : "<" + std::string{name} + ">") +
                                              (other.empty() ? "" : ", <" + std::string{other} + ">"));
            }
        }
        return found;
    }

    void read_web(const Raw& web) {
        known_attributes(web, {"port", "address", "api", "https", "https_port"});
        text_free(web);
        (void)children(web, "");
        if (const auto port = value(web, "port", schema(STEAD_TYPE_PORT))) {
            cluster_.web.port = static_cast<std::uint16_t>(std::stoul(*port));
        }
        const auto* address = web.attribute("address");
        if (address != nullptr && address->value != "*") {
            cluster_.web.address = value(web, "address", schema(STEAD_TYPE_ADDRESS)).value_or("");
            if (!cluster_.web.address.empty() && !is_numeric_address(cluster_.web.address)) {
                report_.error(address->line, "web/@address: '" + shown(address->value) +
                                                 "' is a name; allowed: an IP address such as 127.0.0.1, or *");
            }
        }
        cluster_.web.api = value(web, "api", schema(STEAD_TYPE_BOOLEAN)).value_or("on") == "on";
        cluster_.web.https = value(web, "https", schema(STEAD_TYPE_BOOLEAN)).value_or("on") == "on";
        if (const auto port = value(web, "https_port", schema(STEAD_TYPE_PORT))) {
            cluster_.web.https_port = static_cast<std::uint16_t>(std::stoul(*port));
        }
        if (cluster_.web.https && cluster_.web.https_port == cluster_.web.port) {
            report_.error(web.line, "web/@https_port: " + std::to_string(cluster_.web.https_port) +
                                        " is the port of plain HTTP as well; they must differ, or https=\"off\"");
        }
    }

    std::optional<std::string> value(const Raw& element, const char* name, stead_attr_schema schema) {
        const auto* a = element.attribute(name);
        if (a == nullptr) {
            if ((schema.flags & STEAD_ATTR_REQUIRED) != 0) {
                report_.error(element.line, "<" + element.name + "> needs the attribute " + name +
                                                "; allowed: " + allowed_text(schema));
            }
            return std::nullopt;
        }
        auto good = normalise(a->value, schema);
        if (!good) {
            report_.error(a->line, element.name + "/@" + name + ": " + good.error().what);
            return std::nullopt;
        }
        return *good;
    }

    static stead_attr_schema schema(stead_type type, std::uint32_t flags = 0, std::int64_t min = 0,
                                    std::int64_t max = 0, const char* choices = nullptr) {
        return {"", static_cast<std::uint32_t>(type), flags, nullptr, choices, "ms", min, max, nullptr};
    }

    void read_lans(const Raw& lans) {
        known_attributes(lans, {"port", "pulse", "mlost_count", "slost_count", "profile"});
        text_free(lans);
        if (const auto port = value(lans, "port", schema(STEAD_TYPE_PORT))) {
            cluster_.port = static_cast<std::uint16_t>(std::stoul(*port));
        }
        cluster_.profile = value(lans, "profile", schema(STEAD_TYPE_CHOICE, 0, 0, 0, "fast|default|safe"));
        constexpr std::int64_t ms = 1'000'000;
        if (const auto pulse = value(lans, "pulse", schema(STEAD_TYPE_DURATION, 0, 5 * ms, 10'000 * ms))) {
            cluster_.pulse = nanoseconds{std::stoll(*pulse)};
        }
        if (const auto count = value(lans, "slost_count", schema(STEAD_TYPE_INTEGER, 0, 3, 1000))) {
            cluster_.slost_count = static_cast<unsigned>(std::stoul(*count));
        }
        if (const auto* ignored = lans.attribute("mlost_count")) {
            (void)value(lans, "mlost_count", schema(STEAD_TYPE_INTEGER, 0, 1, 10'000));
            report_.warning(ignored->line, "lans/@mlost_count is ignored: every node is watched alike, by slost_count");
        }
        check_timing(lans);
        const auto found = children(lans, "lan");
        if (found.empty()) {
            report_.error(lans.line, "<lans> needs at least one <lan>");
        }
        if (found.size() > limits::lans_max) {
            report_.error(found[limits::lans_max]->line, std::to_string(found.size()) + " LANs; at most " +
                                                             std::to_string(limits::lans_max) + " are allowed");
            return;
        }
        for (const auto* lan : found) {
            read_lan(*lan);
        }
    }

    void check_timing(const Raw& lans) {
        if (cluster_.profile && (cluster_.pulse || cluster_.slost_count)) {
            report_.warning(lans.line, "lans: pulse and slost_count are written, so profile='" + *cluster_.profile +
                                           "' only fills in what they leave open");
        }
        if (cluster_.pulse.value_or(milliseconds{10}) < milliseconds{10}) {
            report_.warning(lans.line, "lans/@pulse: shorter than 10ms, 10ms is used; profile='fast' beats every 5ms");
        }
        if (cluster_.slost_count.value_or(4) < 4) {
            report_.warning(lans.line, "lans/@slost_count: less than 4, 4 is used; a lease must fit in");
        }
        const auto takeover = cluster_.pulse.value_or(milliseconds{50}) * cluster_.slost_count.value_or(10);
        if ((cluster_.pulse || cluster_.slost_count) && takeover < milliseconds{30}) {
            report_.error(lans.line, "lans: pulse x slost_count is less than 30 ms; no lease fits into it");
        }
    }

    void read_lan(const Raw& element) {
        known_attributes(element, {"name", "command", "console", "framework", "connect"});
        text_free(element);
        for (const char* obsolete : {"console", "framework", "connect"}) {
            if (const auto* a = element.attribute(obsolete)) {
                report_.warning(a->line, "lan/@" + std::string{obsolete} + " is obsolete and ignored");
            }
        }
        ClusterLan lan;
        lan.name = value(element, "name", schema(STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED)).value_or("");
        lan.command = value(element, "command", schema(STEAD_TYPE_BOOLEAN)).value_or("off") == "on";
        for (const auto& other : cluster_.lans) {
            if (!lan.name.empty() && other.name == lan.name) {
                report_.error(element.line, "lan/@name: '" + lan.name + "' is already the name of another LAN");
            }
            if (lan.command && other.command) {
                report_.error(element.line, "lan/@command: only one LAN may be on, and '" + other.name + "' is");
            }
        }
        std::vector<NodeLine> nodes;
        for (const auto* node : children(element, "node")) {
            read_node(*node, lan, nodes);
        }
        if (nodes.empty()) {
            report_.error(element.line, "<lan name=\"" + shown(lan.name) + "\"> needs at least one <node>");
        }
        cluster_.lans.push_back(std::move(lan));
        lan_lines_.push_back(element.line);
        nodes_.push_back(std::move(nodes));
    }

    void read_node(const Raw& element, const ClusterLan& lan, std::vector<NodeLine>& nodes) {
        known_attributes(element, {"name", "addr", "laddr"});
        text_free(element);
        (void)children(element, "");
        NodeLine node;
        node.line = element.line;
        node.name = value(element, "name", schema(STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED)).value_or("");
        node.address = value(element, "addr", schema(STEAD_TYPE_ADDRESS, STEAD_ATTR_REQUIRED)).value_or("");
        node.local_address = value(element, "laddr", schema(STEAD_TYPE_ADDRESS)).value_or("");
        for (const auto& address : {node.address, node.local_address}) {
            usable(element.line, address);
        }
        for (const auto& other : nodes) {
            if (!node.name.empty() && other.name == node.name) {
                report_.error(element.line, "node/@name: '" + node.name + "' is already on LAN '" + shown(lan.name) +
                                                "' (line " + std::to_string(other.line) + ")");
            }
        }
        address_is_new(node);
        if (!node.name.empty()) {
            nodes.push_back(std::move(node));
        }
    }

    void usable(int line, const std::string& address) {
        if (!address_flaw(address, true).empty()) { // a cluster of one node, to try things out, may be on loopback
            report_.error(line, "node: '" + address + "' is no address of one server; allowed: a unicast address");
        }
    }

    /// Every LAN binds its own socket to it, so no address may serve twice.
    void address_is_new(const NodeLine& node) {
        if (node.address.empty()) {
            return;
        }
        const auto [at, fresh] = addresses_.emplace(node.address, node);
        if (!fresh) {
            report_.error(node.line, "node/@addr: '" + node.address + "' is already the address of node '" +
                                         at->second.name + "' (line " + std::to_string(at->second.line) + ")");
        }
    }

    void build() {
        std::map<std::string, int> names;
        for (const auto& lan : nodes_) {
            for (const auto& node : lan) {
                names.emplace(node.name, node.line);
            }
        }
        if (names.size() > limits::nodes_max) {
            report_.error(lan_lines_.front(),
                          std::to_string(names.size()) + " nodes; allowed: 2 to " + std::to_string(limits::nodes_max));
            return;
        }
        std::map<std::string, std::string> folded;
        for (const auto& [name, line] : names) {
            std::string lower = name;
            std::ranges::transform(lower, lower.begin(),
                                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
            if (const auto [at, fresh] = folded.emplace(lower, name); !fresh) {
                report_.error(line, "node/@name: '" + name + "' and '" + at->second +
                                        "' differ in capitals only; a node has the same name on every LAN");
            }
            cluster_.nodes.push_back(name);
        }
        if (names.size() == 1) {
            report_.warning(names.begin()->second, "the cluster has one node: nothing takes over when it fails");
        }
        for (std::size_t i = 0; i < nodes_.size(); ++i) {
            place(i);
        }
        choose_command_lan();
        cluster_.digest = digest();
    }

    void place(std::size_t lan) {
        auto& target = cluster_.lans[lan];
        target.addresses.resize(cluster_.nodes.size());
        target.local_addresses.resize(cluster_.nodes.size());
        target.lines.resize(cluster_.nodes.size());
        for (const auto& node : nodes_[lan]) {
            const auto id = index(*cluster_.find(node.name));
            target.addresses[id] = node.address;
            target.local_addresses[id] = node.local_address;
            target.lines[id] = node.line;
        }
        if (nodes_[lan].size() == 1 && cluster_.nodes.size() > 1) {
            report_.warning(lan_lines_[lan], "LAN '" + target.name + "' has one node, which hears nobody there");
        }
    }

    void choose_command_lan() {
        for (std::size_t i = 0; i < cluster_.lans.size(); ++i) {
            if (cluster_.lans[i].command) {
                cluster_.command_lan = i;
            }
        }
        if (cluster_.lans.empty()) {
            return;
        }
        auto& lan = cluster_.lans[cluster_.command_lan];
        std::vector<std::string> missing;
        for (std::size_t i = 0; i < lan.addresses.size(); ++i) {
            if (lan.addresses[i].empty()) {
                missing.push_back(cluster_.nodes[i]);
            }
        }
        if (!missing.empty() && report_.errors() == 0) {
            const auto text = "the command LAN '" + lan.name + "' must list all nodes; missing: " + join(missing, ", ");
            const auto line = lan_lines_[cluster_.command_lan];
            lan.command ? report_.error(line, text)
                        : report_.warning(line, text + "; -H does not reach them (set command=\"on\" on another LAN)");
        }
        lan.command = true;
    }

    std::uint64_t digest() const {
        Digest digest;
        digest.add(cluster_.port).add(cluster_.profile.value_or("")).add(cluster_.command_lan);
        digest.add(static_cast<std::uint64_t>(cluster_.pulse.value_or(nanoseconds{0}).count()));
        digest.add(cluster_.slost_count.value_or(0));
        for (const auto& node : cluster_.nodes) {
            digest.add(node);
        }
        for (const auto& lan : cluster_.lans) {
            digest.add(lan.name);
            for (std::size_t i = 0; i < lan.addresses.size(); ++i) {
                digest.add(lan.addresses[i]).add(lan.local_addresses[i]);
            }
        }
        return digest.value();
    }

    const Raw& root_;
    Report& report_;
    Cluster cluster_;
    std::vector<std::vector<NodeLine>> nodes_; // per LAN
    std::vector<int> lan_lines_;
    std::map<std::string, NodeLine> addresses_;
};

/// What the system's name service knows, numeric, in its order.
Result<std::vector<std::pair<int, std::string>>> look_up(const std::string& name) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_DGRAM;
    addrinfo* raw = nullptr;
    if (const int error = ::getaddrinfo(name.c_str(), nullptr, &hints, &raw); error != 0) {
        return Error{Errc::not_found,
                     {},
                     "the name '" + name + "' has no address (" + ::gai_strerror(error) +
                         "); write the address with digits, or add the name to /etc/hosts"};
    }
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list{raw, &::freeaddrinfo};
    std::vector<std::pair<int, std::string>> found;
    for (const auto* at = list.get(); at != nullptr; at = at->ai_next) {
        std::array<char, 64> text{};
        if ((at->ai_family == AF_INET || at->ai_family == AF_INET6) &&
            ::getnameinfo(at->ai_addr, at->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) == 0) {
            found.emplace_back(at->ai_family, text.data());
        }
    }
    if (found.empty()) {
        return Error{Errc::not_found, {}, "the name '" + name + "' has no IPv4 or IPv6 address; write it with digits"};
    }
    return found;
}

/// IPv4 where there is one.
Result<std::string> resolve_name(const std::string& name, const std::string& place) {
    const auto found = look_up(name);
    if (!found) {
        return Error{found.error().code, place, found.error().what};
    }
    const auto four = std::ranges::find(*found, AF_INET, &std::pair<int, std::string>::first);
    return four != found->end() ? four->second : found->front().second;
}

} // namespace

Result<std::vector<std::string>> addresses_of_name(const std::string& name) {
    const auto found = look_up(name);
    if (!found) {
        return found.error();
    }
    std::vector<std::string> chosen;
    for (const int family : {AF_INET, AF_INET6}) {
        std::set<std::string> all;
        for (const auto& [of, text] : *found) {
            if (of == family) {
                all.insert(text);
            }
        }
        if (all.size() > 1) {
            const std::vector<std::string> listed{all.begin(), all.end()};
            return Error{Errc::conflict,
                         {},
                         "the name '" + name + "' has several addresses of one kind (" + join(listed, ", ") +
                             "); write the one that is meant with digits"};
        }
        chosen.insert(chosen.end(), all.begin(), all.end());
    }
    return chosen;
}

std::optional<NodeId> Cluster::find(std::string_view node) const {
    const auto at = std::ranges::lower_bound(nodes, node);
    if (at == nodes.end() || *at != node) {
        return std::nullopt;
    }
    return NodeId(at - nodes.begin());
}

std::optional<LanId> Cluster::find_lan(std::string_view lan) const {
    const auto at = std::ranges::find(lans, lan, &ClusterLan::name);
    if (at == lans.end()) {
        return std::nullopt;
    }
    return LanId(at - lans.begin());
}

Checked<Cluster> parse_cluster(std::string_view xml, std::string_view file_name) {
    Report report{file_name};
    Checked<Cluster> out;
    if (const auto root = parse_document(xml, report)) {
        auto cluster = ClusterReader{*root, report}.read();
        if (report.errors() == 0) {
            out.value = std::move(cluster);
        }
    }
    out.findings = report.take();
    return out;
}

Result<NodeId> identify(const Cluster& cluster, std::span<const std::string> local_addresses,
                        std::string_view file_name) {
    std::set<std::string> local;
    for (const auto& address : local_addresses) {
        const auto plain = address.substr(0, address.find_first_of("%/"));
        local.insert(normal_address(plain).value_or(plain));
    }
    NodeSet found;
    int line = 0, last_line = 0; // of the first <node>, and of the last one that is this server
    std::vector<std::string> listed;
    for (std::size_t i = 0; i < cluster.nodes.size(); ++i) {
        for (const auto& lan : cluster.lans) {
            for (const auto& address : {lan.addresses[i], lan.local_addresses[i]}) {
                if (address.empty()) {
                    continue;
                }
                listed.push_back(cluster.nodes[i] + " " + address + " (line " + std::to_string(lan.lines[i]) + ")");
                line = line == 0 ? lan.lines[i] : std::min(line, lan.lines[i]);
                if (local.contains(normal_address(address).value_or(address))) {
                    found.insert(NodeId(i));
                    last_line = std::max(last_line, lan.lines[i]);
                }
            }
        }
    }
    if (found.size() == 1) {
        return found.first();
    }
    std::vector<std::string> here{local.begin(), local.end()};
    const std::string sides =
        "; addresses here: " + (here.empty() ? "none" : join(here, ", ")) + "; in the file: " + join(listed, ", ");
    const std::string place = std::string{file_name} + ":";
    if (found.empty()) {
        return Error{Errc::malformed, place + std::to_string(line),
                     "no <node> has an address of this server; give one of them an addr or laddr of it" + sides};
    }
    std::vector<std::string> names;
    for (const auto node : found) {
        names.push_back(cluster.nodes[index(node)]);
    }
    return Error{Errc::malformed, place + std::to_string(last_line),
                 "this server would be " + join(names, " and ") + " at once" + sides};
}

Result<void> resolve(Cluster& cluster, std::string_view file_name) {
    std::string errors;
    for (auto& lan : cluster.lans) {
        for (auto* list : {&lan.addresses, &lan.local_addresses}) {
            for (std::size_t i = 0; i < list->size(); ++i) {
                auto& address = (*list)[i];
                if (address.empty() || is_numeric_address(address)) {
                    continue;
                }
                auto numeric = resolve_name(address, std::string{file_name} + ":" + std::to_string(lan.lines[i]));
                if (numeric) {
                    address = *numeric;
                } else {
                    errors += (errors.empty() ? "" : "\n") + numeric.error().text();
                }
            }
        }
    }
    return errors.empty() ? Result<void>{} : Error{Errc::malformed, {}, errors};
}

} // namespace stead::config
