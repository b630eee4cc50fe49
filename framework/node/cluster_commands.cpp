// SPDX-License-Identifier: Apache-2.0
#include <stead/node/daemon.hpp>

#include <stead/base/log.hpp>
#include <stead/wire/keys.hpp>

#include <boost/asio/post.hpp>
#include <boost/json/array.hpp>

#include <sys/random.h>

#include <array>
#include <cstdio>
#include <thread>

namespace stead::node {
namespace json = boost::json;
namespace fs = std::filesystem;
namespace exit_code = control::exit_code;
namespace {

constexpr std::size_t xml_bytes_max = 4u << 20;
constexpr milliseconds connect_limit{2000};

std::string hex(std::uint64_t value) {
    std::array<char, 17> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
    return text.data();
}

std::string to_hex(std::string_view bytes) {
    std::string text;
    for (const char byte : bytes) {
        std::array<char, 3> two{};
        std::snprintf(two.data(), two.size(), "%02x", static_cast<unsigned>(static_cast<unsigned char>(byte)));
        text += two.data();
    }
    return text;
}

std::optional<std::string> from_hex(std::string_view text) {
    const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
    std::string bytes;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
        const int high = digit(text[i]);
        const int low = digit(text[i + 1]);
        if (high < 0 || low < 0) {
            return std::nullopt;
        }
        bytes.push_back(static_cast<char>(high * 16 + low));
    }
    return text.size() % 2 == 0 ? std::optional(bytes) : std::nullopt;
}

/// The file given on the command line (its descriptor), or /etc/stead/cluster.xml.
Result<std::string> given_file(const Request& request, const control::Paths& paths, std::string& name) {
    name = request.arguments.empty() ? paths.edited_cluster().string() : request.arguments[0];
    if (request.arguments.empty()) {
        return read_file(paths.edited_cluster(), xml_bytes_max);
    }
    if (request.fds.empty()) {
        return Error{Errc::not_found, name, "a file can be given on this node only; on others it is /etc/stead/cluster.xml"};
    }
    return read_file("/proc/self/fd/" + std::to_string(request.fds[0].get()), xml_bytes_max);
}

} // namespace

void Daemon::cluster_config(const CallPtr& call) {
    std::string name;
    const Result<std::string> xml = given_file(call->request, paths_, name);
    if (!xml) {
        return call->finish(Answer::failed(xml.error()));
    }
    // Names may have to be resolved, which can take long.
    boost::asio::post(workers_, [this, call, xml = *xml, name] {
        auto applied = std::make_shared<Result<ActiveCluster>>(apply_cluster(paths_, xml, name));
        boost::asio::post(io_, [this, call, applied, xml, name] {
            if (!*applied) {
                return call->finish(Answer::failed(applied->error()));
            }
            if (!call->request.arguments.empty()) { // what is in force and what is edited must not drift apart
                if (const Result<void> kept = write_file_atomically(paths_.edited_cluster(), xml); !kept) {
                    log::warning("cluster", kept.error().text());
                }
            }
            std::string running;
            for (const auto& [module, one] : runners_) {
                if (one->running()) {
                    running.append(running.empty() ? "" : ", ").append(module);
                }
            }
            use_cluster(std::move(**applied));
            Answer answer = Answer::done("cluster of " + std::to_string(cluster_->cluster.nodes.size()) +
                                         " nodes is in force; this node is " + cluster_->name() + ", signature " +
                                         hex(cluster_->cluster.digest));
            if (!running.empty()) {
                answer.text += "\nrunning modules use it after 'stead stopstart': " + running;
            }
            answer.data = json::object{{"node", cluster_->name()}, {"digest", hex(cluster_->cluster.digest)}};
            call->finish(std::move(answer));
        });
    });
}

void Daemon::cluster_confcheck(const CallPtr& call) {
    std::string name;
    const Result<std::string> xml = given_file(call->request, paths_, name);
    if (!xml) {
        return call->finish(Answer::failed(xml.error()));
    }
    in_background(call, [xml = *xml, name] {
        const Result<ActiveCluster> checked = check_cluster(xml, name);
        if (!checked) {
            return Answer::failed(checked.error());
        }
        Answer answer = Answer::done(name + " is good: " + std::to_string(checked->cluster.nodes.size()) +
                                     " nodes; this node is " + checked->name() + "; nothing was changed");
        answer.data = json::object{{"node", checked->name()}, {"digest", hex(checked->cluster.digest)}};
        return answer;
    });
}

void Daemon::cluster_confinfo(const CallPtr& call) {
    const Result<std::string> edited = read_file(paths_.edited_cluster(), xml_bytes_max);
    const Result<std::string> active = read_file(paths_.active_cluster(), xml_bytes_max);
    const bool same = edited && active && *edited == *active;
    const std::string key = cluster_ && !cluster_->keys.empty() ? wire::key_name(cluster_->keys[0]) : "none";
    const std::string digest = cluster_ ? hex(cluster_->cluster.digest) : "none";
    Answer answer = Answer::done("active signature " + digest + "\nkey " + key + "\n" +
                                 (same ? "the edited cluster.xml is in force"
                                       : "the edited cluster.xml is not in force; 'stead cluster config' applies it"));
    answer.data = json::object{{"active", digest}, {"key", key}, {"same", same}};
    call->finish(std::move(answer));
}

void Daemon::cluster_state(const CallPtr& call) {
    if (!cluster_) {
        return call->finish(Answer::failed(exit_code::conflict, "this node has no cluster: " + cluster_problem_));
    }
    Answer answer;
    json::array nodes;
    const config::Cluster& cluster = cluster_->cluster;
    const NodeSet members = bus_ ? bus_->view().members : NodeSet{cluster_->self};
    for (std::size_t i = 0; i < cluster.nodes.size(); ++i) {
        const auto node = NodeId(i);
        const bool self = node == cluster_->self;
        json::object lans;
        std::string text;
        for (std::size_t lan = 0; lan < cluster.lans.size(); ++lan) {
            if (cluster.lans[lan].addresses[i].empty()) {
                continue;
            }
            const bool heard = self || (bus_ && bus_->heard(LanId(lan)).contains(node));
            lans[cluster.lans[lan].name] = heard;
            text += " " + cluster.lans[lan].name + (heard ? " heard" : " silent") + " (" +
                    cluster.lans[lan].addresses[i] + ")";
        }
        answer.text += cluster.nodes[i] + (self ? " (this node)" : members.contains(node) ? " up" : " down") + ":" + text + "\n";
        nodes.push_back(json::object{
            {"node", cluster.nodes[i]}, {"self", self}, {"up", members.contains(node)}, {"lans", std::move(lans)}});
    }
    answer.data = json::object{{"node", cluster_->name()}, {"nodes", std::move(nodes)}};
    call->finish(std::move(answer));
}

// ---- Key rotation ----------------------------------------------------------------------------------------------------

/// Each phase reaches every node before the next begins, so that at any moment all nodes can open what any seals:
/// "next" (all open both), "switch" (all seal with the new one), "drop" (the old one is forgotten).
void Daemon::rotate_key(const CallPtr& call) {
    if (!cluster_) {
        return call->finish(Answer::failed(exit_code::conflict, "this node has no cluster: " + cluster_problem_));
    }
    std::array<char, wire::cluster_key_bytes> key{};
    if (::getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size())) {
        return call->finish(Answer::failed(os_error("getrandom", "no random bytes", errno)));
    }
    const std::string key_text = to_hex(std::string_view(key.data(), key.size()));
    std::thread([this, call, key_text, paths = paths_, cluster = *cluster_]() mutable {
        Answer result = Answer::done("all nodes use the new key");
        for (const char* phase : {"next", "switch", "drop"}) {
            const json::object request{
                {"verb", "_key"}, {"options", json::object{{"phase", phase}, {"key", key_text}}}};
            std::string missing;
            for (std::size_t i = 0; i < cluster.cluster.nodes.size(); ++i) {
                const Result<json::object> answer = ask_node(cluster, NodeId(i), request, connect_limit);
                if (!answer || answer->contains("error")) {
                    missing.append(missing.empty() ? "" : ", ").append(cluster.cluster.nodes[i]);
                }
            }
            if (Result<std::vector<std::string>> keys = read_keys(paths)) {
                cluster.keys = std::move(*keys);
            }
            if (!missing.empty()) {
                result = Answer::failed(exit_code::unreachable,
                                        "key rotation stopped in phase '" + std::string(phase) + "': no answer from " +
                                            missing + ". The cluster goes on; give the command again when all nodes are up");
                break;
            }
        }
        auto shared = std::make_shared<Answer>(std::move(result));
        boost::asio::post(io_, [call, shared] { call->finish(std::move(*shared)); });
    }).detach();
}

void Daemon::key_phase(const CallPtr& call) {
    const std::string phase = call->request.option("phase");
    const std::optional<std::string> key = from_hex(call->request.option("key"));
    const Result<std::vector<std::string>> present = read_keys(paths_);
    if (!key || key->size() != wire::cluster_key_bytes || !present) {
        return call->finish(Answer::failed(exit_code::usage, "not a key"));
    }
    Result<void> done;
    if (phase == "next") {
        done = write_file_atomically(paths_.next_key(), *key, 0600);
    } else if (phase == "switch" && (*present)[0] != *key) {
        const std::string old = (*present)[0];
        done = write_file_atomically(paths_.key(), *key, 0600);
        done = done ? write_file_atomically(paths_.next_key(), old, 0600) : done;
    } else if (phase == "drop" && (*present)[0] == *key) {
        std::error_code ignored;
        fs::remove(paths_.next_key(), ignored);
        done = sync_folder(paths_.etc);
    }
    if (!done) {
        return call->finish(Answer::failed(done.error()));
    }
    log::event("cluster", "key rotation, phase '" + phase + "'");
    reload_keys();
    call->finish(Answer::done("done"));
}

void Daemon::reload_keys() {
    Result<std::vector<std::string>> keys = read_keys(paths_);
    if (!keys || !cluster_) {
        return;
    }
    cluster_->keys = *keys;
    if (bus_) {
        bus_->set_keys(*keys);
    }
    if (peer_server_) {
        peer_server_->set_keys(*keys);
    }
    for (const auto& [module, one] : runners_) {
        if (one->running()) {
            one->request({{"verb", "rekey"}}, [name = module](const Result<json::object>& answer) {
                if (!answer) {
                    log::warning("cluster", "module '" + name + "' keeps the old key: " + answer.error().text());
                }
            });
        }
    }
}

} // namespace stead::node
