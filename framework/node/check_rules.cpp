// SPDX-License-Identifier: Apache-2.0
#include <stead/node/check.hpp>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <set>
#include <sstream>

namespace stead::node {
namespace json = boost::json;
namespace {

constexpr std::int64_t clock_off_ms_max = 1000;

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

const json::object* object_in(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr ? value->if_object() : nullptr;
}

std::int64_t number_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value == nullptr     ? 0
           : value->is_int64()  ? value->get_int64()
           : value->is_uint64() ? static_cast<std::int64_t>(value->get_uint64())
                                : 0;
}

/// Does the list `heard.<lan>` name the node?
bool hears(const json::object& facts, const std::string& lan, const std::string& node) {
    const json::object* heard = object_in(facts, "heard");
    const json::value* names = heard != nullptr ? heard->if_contains(lan) : nullptr;
    return names != nullptr && names->is_array() &&
           std::any_of(names->get_array().begin(), names->get_array().end(),
                       [&](const json::value& name) { return name == json::value(node); });
}

class Judge {
public:
    explicit Judge(const CheckFacts& facts)
        : facts_(facts), cluster_(facts.cluster.cluster), self_(facts.cluster.name()) {}

    Answer run() {
        if (facts_.own.contains("bus")) {
            wrong("ports", "UDP port " + port() + " could not be opened here; 'stead log' says why");
        }
        for (const PeerProbe& peer : facts_.peers) {
            if (!peer.node.empty()) {
                judge_peer(peer);
            }
        }
        judge_key_here();
        judge_files(self_, facts_.own);
        judge_duplicates();
        judge_presence();
        judge_kernel();
        judge_foreign_bpf();
        judge_modules();
        if (ports_suspect_) {
            judge_firewall();
        }
        judge_agreement();
        return answer();
    }

private:
    struct Finding {
        bool wrong;
        std::string what, text;
    };
    void wrong(std::string what, std::string text) { findings_.push_back({true, std::move(what), std::move(text)}); }
    void fine(std::string what, std::string text) { findings_.push_back({false, std::move(what), std::move(text)}); }
    [[nodiscard]] std::string port() const { return std::to_string(cluster_.port); }

    void judge_peer(const PeerProbe& peer) {
        if (peer.error) {
            judge_silence(peer);
        } else {
            judge_answers(peer);
        }
        judge_udp(peer);
    }

    void judge_silence(const PeerProbe& peer) {
        const bool heard = std::any_of(cluster_.lans.begin(), cluster_.lans.end(), [&](const config::ClusterLan& lan) {
            return hears(facts_.own, lan.name, peer.node);
        });
        if (peer.error->code == Errc::denied) {
            return wrong("key", peer.node + " has another cluster key than this node; copy " +
                                    "/etc/stead/cluster.key" +
                                    " of a good node to it (or to this one) and restart steadd there");
        }
        const bool no_neighbour = peer.neighbours.find("FAILED") != std::string::npos ||
                                  peer.neighbours.find("INCOMPLETE") != std::string::npos;
        if (no_neighbour && !heard) {
            return wrong("network", peer.node + " does not answer ARP/NDP (" + joined(peer.addresses) +
                                        "): powered off, cable, VLAN or address");
        }
        ports_suspect_ = true;
        wrong("ports", peer.node + ": TCP " + port() + " does not answer (" + peer.error->text() + "): " +
                           (heard ? "UDP passes, so a firewall blocks TCP here or there"
                                  : "steadd is not running there, or a firewall blocks it"));
    }

    [[nodiscard]] bool is_wrong(std::string_view what) const {
        return std::any_of(findings_.begin(), findings_.end(),
                           [&](const Finding& finding) { return finding.wrong && finding.what == what; });
    }

    /// The good news, once for all nodes.
    void judge_agreement() {
        std::string names;
        std::int64_t clock_off = 0;
        for (const PeerProbe& peer : facts_.peers) {
            if (!peer.node.empty() && !peer.error) {
                names.append(names.empty() ? "" : ", ").append(peer.node);
                clock_off = std::max(clock_off, std::abs(peer.clock_off_ms));
            }
        }
        if (names.empty()) {
            return;
        }
        if (!is_wrong("key")) {
            fine("key", "the same on " + names);
        }
        if (!is_wrong("configuration")) {
            fine("configuration", "cluster.xml and modules are the same on " + names);
        }
        if (!is_wrong("version")) {
            fine("version", text_of(facts_.own, "version") + " on " + names);
        }
        if (!is_wrong("clock")) {
            fine("clock", "differs by less than " + std::to_string(clock_off + 1) + " ms");
        }
        if (!is_wrong("MTU")) {
            fine("MTU", "full-size packets reach " + names);
        }
    }

    void judge_kernel() {
        if (!facts_.bpf_problem.empty()) {
            wrong("kernel", facts_.kernel + ": " + facts_.bpf_problem +
                                "; run steadd as root, or use <farm "
                                "backend=\"nfqueue\">");
        } else if (!facts_.clsact_problem.empty()) {
            wrong("kernel", facts_.kernel + ": no clsact queueing discipline (" + facts_.clsact_problem +
                                "); load the kernel module sch_ingress, or use <farm backend=\"nfqueue\">");
        } else {
            fine("kernel", facts_.kernel + " loads tc programs and has clsact");
        }
    }

    void judge_mtu(const PeerProbe& peer) {
        const json::object* here = object_in(facts_.own, "mtu");
        const json::object* there = object_in(peer.facts, "mtu");
        for (const config::ClusterLan& lan : cluster_.lans) {
            const std::int64_t ours = here != nullptr ? number_of(*here, lan.name) : 0;
            const std::int64_t theirs = there != nullptr ? number_of(*there, lan.name) : 0;
            if (ours != 0 && theirs != 0 && ours != theirs) {
                wrong("MTU", "LAN " + lan.name + " has MTU " + std::to_string(ours) + " here and " +
                                 std::to_string(theirs) + " on " + peer.node +
                                 "; set the same: ip link set dev INTERFACE mtu " +
                                 std::to_string(std::min(ours, theirs)));
            }
        }
    }

    void judge_answers(const PeerProbe& peer) {
        fine("ports", "TCP " + port() + " answers on " + peer.node);
        judge_mtu(peer);
        const std::string version_there = text_of(peer.facts, "version");
        if (version_there != text_of(facts_.own, "version")) {
            wrong("version", peer.node + " runs Stead " + version_there + ", this node " +
                                 text_of(facts_.own, "version") + "; fine during an upgrade, else upgrade the older");
        }
        if (text_of(peer.facts, "digest") != text_of(facts_.own, "digest")) {
            wrong("configuration", peer.node + " has another cluster.xml in force (signature " +
                                       text_of(peer.facts, "digest") + ", here " + text_of(facts_.own, "digest") +
                                       "); copy the right one and run 'stead cluster config' there");
        }
        if (text_of(peer.facts, "key") != text_of(facts_.own, "key")) {
            wrong("key", peer.node +
                             " uses another of two live keys: a key rotation was not finished; give 'stead cluster "
                             "genkey --rotate' again");
        }
        if (std::abs(peer.clock_off_ms) > clock_off_ms_max) {
            wrong("clock", peer.node + "'s clock differs by " + std::to_string(peer.clock_off_ms) +
                               " ms: harmless for Stead, but its logs will not line up; run NTP");
        }
        if (!peer.large_passes) {
            wrong("MTU", "small packets reach " + peer.node +
                             ", full-size ones do not: the MTU differs on the way; "
                             "compare 'ip link' on both nodes and the switch");
        }
        judge_files(peer.node, peer.facts);
        judge_module_configs(peer);
    }

    /// What a node has in /etc/stead, and does not use or guard.
    void judge_files(const std::string& node, const json::object& facts) {
        const std::string key = text_of(facts, "key_file"); // an older version does not tell
        if (!key.empty() && key != text_of(facts, "key")) {
            wrong("key", "/etc/stead/cluster.key of " + node + " (" + key + ") is not the key that its steadd uses (" +
                             text_of(facts, "key") +
                             "): after a restart it would be cut off; copy the file of another " +
                             "node, or restart steadd there if the new one is meant");
        }
        if (facts.contains("key_open") && facts.at("key_open") == json::value(true)) {
            wrong("key", "/etc/stead/cluster.key of " + node +
                             " can be read by others than root; run there: chmod 600 /etc/stead/cluster.key, and renew "
                             "it with 'stead cluster genkey --rotate' if somebody may have read it");
        }
        if (facts.contains("cluster_edited") && facts.at("cluster_edited") == json::value(true)) {
            wrong("configuration", "/etc/stead/cluster.xml of " + node +
                                       " was edited and is not in force; 'stead cluster config' there applies it");
        }
    }

    void judge_duplicates() {
        for (const auto& [address, other] : facts_.duplicates) {
            wrong("network", "the address " + address + " of " + self_ + " is answered by another host too (" + other +
                                 "): give one of them another address");
        }
    }

    /// A module need not be on all nodes, but one that takes over needs somebody to take over from.
    void judge_presence() {
        std::map<std::string, std::pair<std::string, std::string>> where; // module -> nodes with it, and without
        std::map<std::string, std::string> modes;
        const auto each_node = [&](const auto& visit) {
            visit(self_, object_in(facts_.own, "modules"));
            for (const PeerProbe& peer : facts_.peers) {
                if (!peer.node.empty() && !peer.error) {
                    visit(peer.node, object_in(peer.facts, "modules"));
                }
            }
        };
        each_node([&](const std::string&, const json::object* modules) {
            for (const auto& module : modules != nullptr ? *modules : json::object{}) {
                where[module.key()];
                if (const json::object* one = module.value().if_object()) {
                    modes[module.key()] = text_of(*one, "mode");
                }
            }
        });
        each_node([&](const std::string& node, const json::object* modules) {
            for (auto& [module, nodes] : where) {
                std::string& list = modules != nullptr && modules->contains(module) ? nodes.first : nodes.second;
                list.append(list.empty() ? "" : ", ").append(node);
            }
        });
        for (const auto& [module, nodes] : where) {
            if (nodes.second.empty()) {
                continue;
            }
            const std::string text = "module '" + module + "' is on " + nodes.first + " and not on " + nodes.second +
                                     "; to have it there too: stead -E " + module + " -H NODE";
            const bool alone = nodes.first.find(',') == std::string::npos;
            const bool takes_over = modes[module] == "farm" || modes[module] == "mirror";
            if (alone && takes_over) {
                wrong("modules", text + "; on one node alone nothing takes over from it");
            } else {
                fine("modules", text);
            }
        }
    }

    void judge_module_configs(const PeerProbe& peer) {
        const json::object* here = object_in(facts_.own, "modules");
        const json::object* there = object_in(peer.facts, "modules");
        if (here == nullptr || there == nullptr) {
            return;
        }
        for (const auto& [name, value] : *here) {
            const json::object* other = object_in(*there, name);
            if (other == nullptr || value.if_object() == nullptr) {
                continue;
            }
            const std::string module(name);
            if (number_of(value.get_object(), "id") != number_of(*other, "id")) {
                wrong("configuration", "module '" + module + "' has id " +
                                           std::to_string(number_of(value.get_object(), "id")) + " here and " +
                                           std::to_string(number_of(*other, "id")) + " on " + peer.node +
                                           "; install it with the same -M on all nodes");
            }
            const std::string digest = text_of(value.get_object(), "digest");
            const std::string digest_there = text_of(*other, "digest");
            if (!digest.empty() && !digest_there.empty() && digest != digest_there) {
                wrong("configuration", "module '" + module + "' is configured differently on " + peer.node +
                                           " (signature " + digest_there + ", here " + digest +
                                           "); make userconfig.xml equal, then 'stead config -m " + module + "' there");
            }
        }
    }

    void judge_udp(const PeerProbe& peer) {
        const std::optional<NodeId> node = cluster_.find(peer.node);
        for (const config::ClusterLan& lan : cluster_.lans) {
            if (!node || lan.addresses[index(*node)].empty() || lan.addresses[index(facts_.cluster.self)].empty()) {
                continue;
            }
            const bool here = hears(facts_.own, lan.name, peer.node);
            const bool there = peer.error ? here : hears(peer.facts, lan.name, self_);
            const std::string where = " on LAN " + lan.name;
            if (here && there && !peer.error) {
                fine("ports", "UDP " + port() + " passes both ways with " + peer.node + where);
            } else if (here != there) {
                ports_suspect_ = true;
                wrong("ports", "UDP " + port() + where + " passes one way only: " + (here ? peer.node : self_) +
                                   " does not hear " + (here ? self_ : peer.node) + "; a firewall on " +
                                   (here ? peer.node : self_) + " drops it, or its return route is missing");
            } else if (!here && !peer.error && text_of(peer.facts, "digest") == text_of(facts_.own, "digest")) {
                ports_suspect_ = true;
                wrong("ports", "UDP " + port() + where + ": nothing passes between " + self_ + " and " + peer.node +
                                   " though TCP does; a firewall drops UDP, or that network is cut");
            }
        }
    }

    void judge_key_here() {
        if (!is_wrong("key") && facts_.unauthentic_now > 0) {
            wrong("key", std::to_string(facts_.unauthentic_now) +
                             " datagrams or connections of another key came to port " + port() +
                             " during this check: a node with a wrong cluster.key is on this network; copy " +
                             "/etc/stead/cluster.key of a good node to it");
        }
        if (const std::int64_t foreign = number_of(facts_.own, "foreign"); foreign > 0) {
            fine("key",
                 std::to_string(foreign) + " datagrams of other clusters, or of another cluster.xml, were ignored");
        }
    }

    struct Suspect {
        std::string rule;                        ///< empty = none found
        std::string chain = "inet filter input"; ///< where nft has it
    };

    void judge_firewall() {
        const std::string udp = ports_to_open("udp", {port(), "4803-4994", "8888-8951"}),
                          tcp = ports_to_open("tcp", {port(), "5600-5855"});
        const auto iptables = [](std::string list) {
            std::erase(list, ' ');
            std::ranges::replace(list, '-', ':');
            return " -m multiport --dports " + list + " -j ACCEPT";
        };
        const Suspect suspect = suspicious_rule();
        // In front of what is there: behind a rule that drops it would be of no use.
        const std::string nft = "nft insert rule " + suspect.chain;
        const std::string lines_to_add = nft + " udp dport { " + udp + " } accept; " + nft + " tcp dport { " + tcp +
                                         " } accept   (or: iptables -I INPUT -p udp" + iptables(udp) +
                                         "; iptables -I INPUT -p tcp" + iptables(tcp) + ")";
        if (!suspect.rule.empty()) {
            wrong("firewall", "on this node: '" + suspect.rule + "'; to let Stead pass: " + lines_to_add);
        } else {
            fine("firewall",
                 "no dropping rule found on this node; on the other node, to let Stead pass: " + lines_to_add);
        }
    }

    /// Those of modules that chose theirs as well.
    [[nodiscard]] std::string ports_to_open(const char* protocol, std::vector<std::string> list) const {
        const json::object* modules = object_in(facts_.own, "modules");
        for (const auto& module : modules != nullptr ? *modules : json::object{}) {
            for (const std::int64_t one : ports_in(module.value(), protocol)) {
                const bool known = std::ranges::any_of(list, [&](const std::string& range) {
                    const std::size_t dash = range.find('-');
                    const long low = std::stol(range);
                    return one >= low && one <= (dash == range.npos ? low : std::stol(range.substr(dash + 1)));
                });
                if (!known) {
                    list.push_back(std::to_string(one));
                }
            }
        }
        return joined(list);
    }

    static std::vector<std::int64_t> ports_in(const json::value& module, std::string_view protocol) {
        std::vector<std::int64_t> ports;
        const json::object* object = module.if_object();
        const json::value* list = object != nullptr ? object->if_contains(protocol) : nullptr;
        for (const json::value& port : list != nullptr && list->is_array() ? list->get_array() : json::array{}) {
            ports.push_back(port.is_int64() ? port.get_int64() : static_cast<std::int64_t>(port.to_number<unsigned>()));
        }
        return ports;
    }

    [[nodiscard]] bool names_module_port(const std::string& line) const {
        const json::object* modules = object_in(facts_.own, "modules");
        return modules != nullptr && std::any_of(modules->begin(), modules->end(), [&](const auto& module) {
                   const auto ports = ports_in(module.value(), "udp");
                   return !ports.empty() && line.find(std::to_string(ports[0])) != line.npos;
               });
    }

    [[nodiscard]] Suspect suspicious_rule() const {
        std::string table, chain;
        for (const std::string* rules : {&facts_.nft, &facts_.iptables}) {
            std::istringstream lines(*rules);
            for (std::string line; std::getline(lines, line);) {
                const std::size_t start = line.find_first_not_of(" \t");
                line.erase(0, start == line.npos ? 0 : start);
                if (line.starts_with("table ") && line.ends_with(" {")) {
                    table = line.substr(6, line.size() - 8);
                } else if (line.starts_with("chain ") && line.ends_with(" {")) {
                    chain = line.substr(6, line.size() - 8);
                }
                const bool drops = line.find("drop") != line.npos || line.find("DROP") != line.npos ||
                                   line.find("REJECT") != line.npos || line.find("reject") != line.npos;
                const bool policy = line.starts_with(":INPUT DROP") || line.starts_with(":OUTPUT DROP") ||
                                    (line.find("hook input") != line.npos && drops) ||
                                    (line.find("hook output") != line.npos && drops);
                const bool names_port = line.find(port()) != line.npos || names_module_port(line);
                const bool everything = drops && (line == "drop" || line == "reject" || line == "-A INPUT -j DROP" ||
                                                  line.starts_with("-A INPUT -j REJECT"));
                if (policy || (drops && names_port) || everything) {
                    const bool of_nft = rules == &facts_.nft && !table.empty() && !chain.empty();
                    return of_nft ? Suspect{line, table + " " + chain} : Suspect{line};
                }
            }
        }
        return {};
    }

    static bool is_ours(std::string_view program) {
        return program.starts_with("stead") || program.starts_with("farm_");
    }

    /// The interfaces of our LANs, and those that carry a filter of ours: what runs on others does not concern us.
    static std::set<std::string> interfaces_of_interest(const json::object& own, const json::value* tc) {
        std::set<std::string> names;
        const json::value* lans = own.if_contains("interfaces");
        for (const json::value& name : lans != nullptr && lans->is_array() ? lans->get_array() : json::array{}) {
            if (name.is_string()) {
                names.emplace(name.get_string());
            }
        }
        for (const json::value& value : tc != nullptr && tc->is_array() ? tc->get_array() : json::array{}) {
            const json::object* program = value.if_object();
            if (program != nullptr && is_ours(text_of(*program, "name"))) {
                names.insert(text_of(*program, "devname"));
            }
        }
        return names;
    }

    void judge_foreign_bpf() {
        json::error_code error;
        const json::value net = json::parse(facts_.bpf_net.empty() ? "[]" : facts_.bpf_net, error);
        const json::object* attached =
            !error && net.is_array() && !net.get_array().empty() ? net.get_array()[0].if_object() : nullptr;
        const json::value* tc = attached != nullptr ? attached->if_contains("tc") : nullptr;
        const std::set<std::string> interfaces = interfaces_of_interest(facts_.own, tc);
        const json::value links = json::parse(facts_.links.empty() ? "[]" : facts_.links, error);
        for (const json::value& link : !error && links.is_array() ? links.get_array() : json::array{}) {
            const json::object* xdp = link.is_object() ? object_in(link.get_object(), "xdp") : nullptr;
            const json::object* program = xdp != nullptr ? object_in(*xdp, "prog") : nullptr;
            if (program != nullptr && interfaces.contains(text_of(link.get_object(), "ifname"))) {
                foreign("XDP", text_of(link.get_object(), "ifname"), text_of(*program, "name"),
                        number_of(*program, "id"));
            }
        }
        for (const json::value& value : tc != nullptr && tc->is_array() ? tc->get_array() : json::array{}) {
            const json::object* program = value.if_object();
            if (program == nullptr || !interfaces.contains(text_of(*program, "devname"))) {
                continue;
            }
            const std::string kind = text_of(*program, "kind");
            const std::int64_t id = number_of(*program, program->contains("prog_id") ? "prog_id" : "id");
            foreign(kind.find("tcx") != kind.npos ? "tcx" : "tc", text_of(*program, "devname"),
                    text_of(*program, "name"), id, kind.find("egress") != kind.npos ? "egress" : "ingress");
        }
    }

    void foreign(const std::string& hook, const std::string& device, const std::string& name, std::int64_t id,
                 const std::string& side = {}) {
        if (is_ours(name)) {
            return;
        }
        const std::string effect =
            hook == "XDP" ? "Stead filters in tc there, which costs more per packet; to remove it: ip link set dev " +
                                device + " xdp off"
            : hook == "tcx"
                ? "it runs before Stead's filter, which refuses to share the hook; 'bpftool net show dev " + device +
                      "' shows it"
                : "it may take or change packets before Stead's filter; 'tc filter show dev " + device + " " + side +
                      "' names its pref, 'tc filter del dev " + device + " " + side + " pref N' removes it";
        wrong("foreign " + hook, "interface " + device + " carries the " + hook + " program '" +
                                     (name.empty() ? "(no name)" : name) + "' (id " + std::to_string(id) +
                                     ") of someone else: " + effect);
    }

    /// A module that runs on both nodes without having met there: its own port is blocked.
    void judge_module_port(const std::string& module, const json::object& detail) {
        const json::object* here = object_in(facts_.own, "modules");
        const json::object* own = here != nullptr ? object_in(*here, module) : nullptr;
        const json::object* view = object_in(detail, "view");
        const json::value* members = view != nullptr ? view->if_contains("members") : nullptr;
        if (own == nullptr) {
            return;
        }
        const std::vector<std::int64_t> ports = ports_in(*own, "udp");
        if (ports.empty()) {
            return;
        }
        const std::string udp = std::to_string(ports[0]);
        std::string met, missed;
        for (const PeerProbe& peer : facts_.peers) {
            const json::object* there = object_in(peer.facts, "modules");
            const json::object* other = there != nullptr ? object_in(*there, module) : nullptr;
            if (peer.error || other == nullptr || text_of(*other, "state").starts_with("STOP") ||
                text_of(*other, "digest") != text_of(*own, "digest")) {
                continue;
            }
            const bool in_view = members != nullptr && members->is_array() &&
                                 std::any_of(members->get_array().begin(), members->get_array().end(),
                                             [&](const json::value& name) { return name == json::value(peer.node); });
            std::string& list = in_view ? met : missed;
            list.append(list.empty() ? "" : ", ").append(peer.node);
        }
        if (!missed.empty()) {
            ports_suspect_ = true;
            wrong("ports",
                  "module '" + module + "': UDP " + udp + " does not pass between " + self_ + " and " + missed +
                      ", where the module runs too; a firewall on one of them drops it (or it has just started)");
        } else if (!met.empty()) {
            fine("ports", "module '" + module + "': UDP " + udp + " passes with " + met);
        }
    }

    void judge_modules() {
        for (const auto& [module, detail] : facts_.modules) {
            if (const std::string reason = text_of(detail, "reason"); !reason.empty()) {
                wrong("module " + module,
                      text_of(detail, "state") + " " + text_of(detail, "qualifier") + ": " + reason);
            }
            judge_module_port(module, detail);
            const json::value* list = detail.if_contains("resources");
            if (list == nullptr || !list->is_array()) {
                continue;
            }
            for (const json::value& value : list->get_array()) {
                const json::object* resource = value.if_object();
                if (resource == nullptr) {
                    continue;
                }
                const std::string name = text_of(*resource, "name");
                const bool down = text_of(*resource, "value") == "down";
                if (name.ends_with("flooding") && down) {
                    wrong("flooding",
                          "module '" + module + "' on " + text_of(*resource, "node") +
                              ": the switch does not flood frames to the virtual MAC (vmac_invisible needs it); "
                              "use vmac_directed, or allow unknown-unicast flooding on these switch ports");
                } else if (name == "config.same" && down) {
                    wrong("configuration", "module '" + module + "' on " + text_of(*resource, "node") +
                                               " waits: its rules, powers or seed differ from its peers'");
                }
            }
        }
    }

    Answer answer() const {
        Answer result;
        json::array list;
        for (const bool want_wrong : {true, false}) {
            for (const Finding& finding : findings_) {
                if (finding.wrong == want_wrong) {
                    result.text += (finding.wrong ? "WRONG  " : "ok     ") + finding.what + ": " + finding.text + "\n";
                    list.push_back(
                        json::object{{"ok", !finding.wrong}, {"what", finding.what}, {"text", finding.text}});
                }
            }
        }
        const auto count =
            std::count_if(findings_.begin(), findings_.end(), [](const Finding& finding) { return finding.wrong; });
        result.text += count == 0 ? "nothing is wrong, as seen from " + self_ + "\n"
                                  : std::to_string(count) + " things to look at, as seen from " + self_ + "\n";
        result.exit = count == 0 ? control::exit_code::ok : control::exit_code::no;
        result.data = json::object{{"node", self_}, {"wrong", count}, {"findings", std::move(list)}};
        return result;
    }

    static std::string joined(const std::vector<std::string>& list) {
        std::string text;
        for (const std::string& one : list) {
            text.append(text.empty() ? "" : ", ").append(one);
        }
        return text;
    }

    const CheckFacts& facts_;
    const config::Cluster& cluster_;
    std::string self_;
    std::vector<Finding> findings_;
    bool ports_suspect_{};
};

} // namespace

Answer judge(const CheckFacts& facts) { return Judge(facts).run(); }

} // namespace stead::node
