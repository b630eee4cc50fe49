// SPDX-License-Identifier: Apache-2.0
#include <stead/node/check.hpp>
#include <stead/node/daemon.hpp>

#include <stead/net/net.hpp>
#include <stead/wire/keys.hpp>

#include <boost/asio/post.hpp>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>

#include <ifaddrs.h>
#include <linux/bpf.h>
#include <linux/bpf_common.h>
#include <net/if.h>
#include <netdb.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>

/// `stead cluster check`: facts are gathered here and on the other nodes, then compared in check_rules.cpp.
namespace stead::node {
namespace json = boost::json;
namespace exit_code = control::exit_code;
namespace {

constexpr milliseconds connect_limit{1500};
constexpr std::size_t large_probe_bytes = 8192; // several full-size segments each way
constexpr milliseconds tool_limit{2000};
constexpr milliseconds sample_window{700};
constexpr milliseconds duplicate_window{600};

std::string hex(std::uint64_t value) {
    std::array<char, 17> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
    return text.data();
}

std::int64_t wall_ms() {
    return std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string tool_output(const std::vector<std::string>& argv) {
    for (const char* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
        std::vector<std::string> full = argv;
        full[0] = folder + argv[0];
        if (::access(full[0].c_str(), X_OK) == 0) {
            const Result<Finished> ran = run_limited(full, tool_limit);
            return ran ? ran->output : std::string{};
        }
    }
    return {};
}

struct Carrier {
    std::string interface;
    int mtu{};
};

/// The interface that carries this address; none has no name.
Carrier carrier_of(const std::string& address) {
    ifaddrs* raw = nullptr;
    if (::getifaddrs(&raw) != 0) {
        return {};
    }
    const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> all(raw, ::freeifaddrs);
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    for (const ifaddrs* one = all.get(); one != nullptr; one = one->ifa_next) {
        const int family = one->ifa_addr != nullptr ? one->ifa_addr->sa_family : AF_UNSPEC;
        if (family != AF_INET && family != AF_INET6) {
            continue;
        }
        std::array<char, NI_MAXHOST> text{};
        const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
        ifreq request{};
        if (::getnameinfo(one->ifa_addr, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0 ||
            address != text.data()) {
            continue;
        }
        std::strncpy(request.ifr_name, one->ifa_name, sizeof(request.ifr_name) - 1);
        return {one->ifa_name, ::ioctl(socket.get(), SIOCGIFMTU, &request) == 0 ? request.ifr_mtu : 0};
    }
    return {};
}

/// What lies in /etc/stead beside what is in use.
void add_files(json::object& facts, const control::Paths& paths) {
    const Result<std::string> key = read_file(paths.key(), 4096);
    facts["key_file"] = key ? wire::key_name(*key) : key.error().text();
    struct stat status {};
    facts["key_open"] = ::stat(paths.key().c_str(), &status) == 0 && (status.st_mode & 077) != 0;
    const Result<std::string> edited = read_file(paths.edited_cluster(), config::file_bytes_max);
    const Result<std::string> active = read_file(paths.active_cluster(), config::file_bytes_max);
    facts["cluster_edited"] = edited && active && *edited != *active;
}

/// Who else answers for an address of this node; "" when nobody does.
std::string other_owner(const std::string& address) {
    const Result<std::vector<net::Interface>> interfaces = net::interfaces();
    const net::Interface* home = nullptr;
    std::vector<net::Mac> own;
    for (const net::Interface& one : interfaces ? *interfaces : std::vector<net::Interface>{}) {
        own.push_back(one.mac); // two of our interfaces on one network both answer
    }
    for (std::size_t i = 0; interfaces && i < interfaces->size(); ++i) {
        const net::Interface& one = (*interfaces)[i];
        for (const std::string& with_prefix : one.addresses) {
            home = one.name != "lo" && with_prefix.starts_with(address + "/") ? &one : home;
        }
    }
    if (home == nullptr) {
        return {};
    }
    const Result<std::optional<net::Mac>> answered = net::probe(home->index, address, duplicate_window, own);
    if (!answered || !*answered) {
        return {};
    }
    return net::to_text(**answered) + " on " + home->name;
}

/// Loads the smallest tc program there is; "" when the kernel takes it.
std::string bpf_problem() {
    std::array<bpf_insn, 2> program{};
    program[0].code = BPF_ALU64 | BPF_MOV | BPF_K; // r0 = 0
    program[1].code = BPF_JMP | BPF_EXIT;
    constexpr std::string_view license = "GPL";
    bpf_attr attributes{};
    attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
    attributes.insns = reinterpret_cast<std::uintptr_t>(program.data());
    attributes.insn_cnt = program.size();
    attributes.license = reinterpret_cast<std::uintptr_t>(license.data());
    const Fd loaded(static_cast<int>(::syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof(attributes))));
    return loaded ? std::string{} : os_error("bpf", "the kernel refuses a tc program", errno).text();
}

/// Tried in a network namespace of its own, so that nothing of the machine is touched.
std::string clsact_problem() {
    if (::access("/usr/bin/unshare", X_OK) != 0 ||
        (::access("/sbin/tc", X_OK) != 0 && ::access("/usr/sbin/tc", X_OK) != 0)) {
        return {}; // cannot be tried
    }
    const char* tc = ::access("/sbin/tc", X_OK) == 0 ? "/sbin/tc" : "/usr/sbin/tc";
    const Result<Finished> ran =
        run_limited({"/usr/bin/unshare", "-n", tc, "qdisc", "add", "dev", "lo", "clsact"}, tool_limit);
    return !ran || ran->exit == 0 ? std::string{} : ran->output.substr(0, ran->output.find('\n'));
}

PeerProbe probe_peer(const ActiveCluster& cluster, NodeId node) {
    PeerProbe probe;
    probe.node = cluster.cluster.nodes[index(node)];
    probe.addresses = cluster.addresses_of(node);
    json::object request{{"verb", "_probe"}};
    const std::int64_t before = wall_ms();
    Result<json::object> answer = ask_node(cluster, node, request, connect_limit);
    const std::int64_t after = wall_ms();
    if (!answer) {
        probe.error = answer.error();
        for (const std::string& address : probe.addresses) {
            probe.neighbours += tool_output({"ip", "neigh", "show", address});
        }
        return probe;
    }
    if (const json::value* data = answer->if_contains("data"); data != nullptr && data->is_object()) {
        probe.facts = data->get_object();
    }
    if (const json::value* clock = probe.facts.if_contains("clock_ms"); clock != nullptr && clock->is_int64()) {
        probe.clock_off_ms = clock->get_int64() - (before + after) / 2;
    }
    request["options"] = json::object{{"fill", std::string(large_probe_bytes, 'x')}};
    const Result<json::object> large = ask_node(cluster, node, request, connect_limit);
    probe.large_passes = large.has_value();
    return probe;
}

} // namespace

json::object Daemon::probe_facts() {
    json::object facts{{"version", version()}, {"clock_ms", wall_ms()}};
    if (!cluster_) {
        return facts;
    }
    facts["node"] = cluster_->name();
    facts["digest"] = hex(cluster_->cluster.digest);
    facts["key"] = wire::key_name(cluster_->keys[0]);
    add_files(facts, paths_);
    json::object heard;
    json::object mtu;
    json::array interfaces;
    for (std::size_t lan = 0; lan < cluster_->cluster.lans.size(); ++lan) {
        json::array names;
        if (bus_) {
            for (const NodeId node : bus_->heard(LanId(lan))) {
                names.emplace_back(cluster_->cluster.nodes[index(node)]);
            }
        }
        heard[cluster_->cluster.lans[lan].name] = std::move(names);
        const config::ClusterLan& configured = cluster_->cluster.lans[lan];
        const std::string& local = configured.local_addresses[index(cluster_->self)];
        Carrier carrier = carrier_of(local.empty() ? configured.addresses[index(cluster_->self)] : local);
        mtu[configured.name] = carrier.mtu;
        interfaces.emplace_back(std::move(carrier.interface));
    }
    facts["heard"] = std::move(heard);
    facts["mtu"] = std::move(mtu);
    facts["interfaces"] = std::move(interfaces);
    if (bus_) {
        const bus::BusCounters counters = bus_->counters();
        facts["unauthentic"] = counters.dropped_unauthentic; // since the start
        facts["foreign"] = counters.dropped_foreign;
    } else {
        facts["bus"] = "down";
    }
    facts["tls_refused"] = peer_server_ ? peer_server_->refused() : 0;
    json::object modules;
    for (const InstalledModule& module : registry_.list()) {
        const ModuleState state = runner(module.name)->state();
        json::array udp, tcp;
        for (const ModulePort& port : registry_.ports(module)) {
            (port.protocol == "udp" ? udp : tcp).emplace_back(port.port);
        }
        modules[module.name] =
            json::object{{"id", module.id},
                         {"udp", std::move(udp)},
                         {"tcp", std::move(tcp)},
                         {"mode", module.mode},
                         {"configured", module.configured},
                         {"digest", text_setting(module_settings(paths_.active(module.name)), "digest")},
                         {"state", state.state + " " + state.qualifier},
                         {"reason", state.reason}};
    }
    facts["modules"] = std::move(modules);
    return facts;
}

void Daemon::probe(const CallPtr& call) {
    Answer answer;
    answer.data = probe_facts();
    if (const std::string fill = call->request.option("fill"); !fill.empty()) {
        answer.text = fill; // the same size back: full-size segments in both directions
    }
    call->finish(std::move(answer));
}

namespace {

/// Other nodes and system tools: what blocks. On a thread of its own.
void gather_outside(CheckFacts& facts) {
    std::vector<std::thread> askers;
    facts.peers.resize(facts.cluster.cluster.nodes.size());
    for (std::size_t i = 0; i < facts.peers.size(); ++i) {
        if (NodeId(i) != facts.cluster.self) {
            askers.emplace_back([&facts, i] { facts.peers[i] = probe_peer(facts.cluster, NodeId(i)); });
        }
    }
    const std::vector<std::string> own = facts.cluster.own_addresses();
    std::vector<std::string> others(own.size());
    for (std::size_t i = 0; i < own.size(); ++i) {
        askers.emplace_back([&, i] { others[i] = other_owner(own[i]); });
    }
    facts.nft = tool_output({"nft", "list", "ruleset"});
    facts.iptables = tool_output({"iptables-legacy-save"});
    if (facts.iptables.empty()) {
        facts.iptables = tool_output({"iptables-save"});
    }
    facts.links = tool_output({"ip", "-j", "-d", "link", "show"});
    facts.bpf_net = tool_output({"bpftool", "-j", "net", "show"});
    facts.is_root = ::geteuid() == 0;
    utsname system{};
    ::uname(&system);
    facts.kernel = std::string(system.release) + " " + system.machine;
    facts.bpf_problem = bpf_problem();
    facts.clsact_problem = clsact_problem();
    for (std::thread& asker : askers) {
        asker.join();
    }
    for (std::size_t i = 0; i < own.size(); ++i) {
        if (!others[i].empty()) {
            facts.duplicates[own[i]] = others[i];
        }
    }
}

} // namespace

std::int64_t Daemon::unauthentic() const {
    return static_cast<std::int64_t>((bus_ ? bus_->counters().dropped_unauthentic : 0) +
                                     (peer_server_ ? peer_server_->refused() : 0));
}

void Daemon::cluster_check(const CallPtr& call) {
    if (!cluster_) {
        return call->finish(Answer::failed(exit_code::conflict, "this node has no cluster: " + cluster_problem_));
    }
    auto facts = std::make_shared<CheckFacts>();
    facts->own = probe_facts();
    facts->cluster = *cluster_;
    facts->unauthentic_now = unauthentic();
    // Resources of the running modules may name broken flooding or a filter that could not attach.
    auto left = std::make_shared<std::size_t>(1);
    const auto gathered = [this, call, facts, left] {
        if (--*left > 0) {
            return;
        }
        std::thread([this, call, facts] {
            const auto began = std::chrono::steady_clock::now();
            gather_outside(*facts);
            std::this_thread::sleep_until(began + sample_window); // strangers' datagrams are counted so long
            boost::asio::post(io_, [this, call, facts] {
                facts->unauthentic_now = unauthentic() - facts->unauthentic_now;
                call->finish(judge(*facts));
            });
        }).detach();
    };
    for (const auto& [name, one] : runners_) {
        if (!one->running()) {
            continue;
        }
        ++*left;
        one->request({{"verb", "state"}, {"verbose", true}},
                     [facts, gathered, module = name](const Result<json::object>& detail) {
                         if (detail) {
                             facts->modules[module] = *detail;
                         }
                         gathered();
                     });
    }
    gathered();
}

} // namespace stead::node
