// SPDX-License-Identifier: Apache-2.0
#include "value_or.hpp"

#include <stead/node/daemon.hpp>

#include <stead/base/log.hpp>
#include <stead/wire/keys.hpp>

#include <boost/asio/post.hpp>
#include <boost/json/array.hpp>
#include <boost/json/value_to.hpp>

#include <sys/random.h>

#include <array>
#include <cstdio>
#include <ctime>
#include <thread>

namespace stead::node {
namespace json = boost::json;
namespace fs = std::filesystem;
namespace exit_code = control::exit_code;
namespace {

constexpr std::size_t xml_bytes_max = 4u << 20;
constexpr const char* cluster_change = "(cluster)"; // no module has that name
constexpr milliseconds connect_limit{2000};
constexpr seconds rotation_limit{30};

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
        return Error{Errc::not_found, name,
                     "a file can be given on this node only; on others it is /etc/stead/cluster.xml"};
    }
    return read_file("/proc/self/fd/" + std::to_string(request.fds[0].get()), xml_bytes_max);
}

Answer with_warnings(Answer answer, const ActiveCluster& cluster) {
    json::array warnings;
    for (const config::Finding& warning : cluster.warnings) {
        warnings.emplace_back(warning.text());
    }
    if (!warnings.empty()) {
        answer.text = findings_text(cluster.warnings) + "\n" + answer.text;
    }
    answer.data = json::object{
        {"node", cluster.name()}, {"digest", hex(cluster.cluster.digest)}, {"warnings", std::move(warnings)}};
    return answer;
}

std::string now_text() {
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    ::localtime_r(&now, &local);
    std::array<char, 32> text{};
    return {text.data(), std::strftime(text.data(), text.size(), "%F %T", &local)};
}

/// "root (pid 12), 2026-11-28 07:20:11"; empty: cluster.xml may be changed.
std::string locked_by(const control::Paths& paths) {
    std::error_code ignored;
    const std::string who = value_or(read_file(paths.cluster_lock(), 4096), std::string{});
    return who.empty() && fs::exists(paths.cluster_lock(), ignored) ? "someone unknown" : who;
}

} // namespace

bool Daemon::refused_by_lock(const CallPtr& call) {
    const std::string who = locked_by(paths_);
    if (!who.empty()) {
        call->finish(Answer::failed(exit_code::refused, "the cluster configuration of this node is locked by " + who +
                                                            "; 'stead cluster config unlock' allows changes again"));
    }
    return !who.empty();
}

Result<void> Daemon::lock_cluster(const Request& request, bool lock) {
    if (lock) {
        const std::string& by = request.by.empty() ? request.caller : request.by;
        return locked_by(paths_).empty() ? write_file_atomically(paths_.cluster_lock(), by + ", " + now_text())
                                         : Result<void>{};
    }
    std::error_code error;
    fs::remove(paths_.cluster_lock(), error);
    return error ? os_error(paths_.cluster_lock().string(), "cannot be removed", error.value())
                 : sync_folder(paths_.cluster_lock().parent_path());
}

/// FILE lock, FILE unlock: applied, then locked or unlocked; a file that is refused changes no lock. Without FILE only
/// the lock changes.
void Daemon::cluster_config(const CallPtr& call) {
    std::vector<std::string>& arguments = call->request.arguments;
    const std::string word(control::lock_word(arguments));
    if (!word.empty()) {
        arguments.pop_back();
    }
    if (word.empty() || !arguments.empty()) {
        return apply_config(call, word);
    }
    if (const Result<void> done = lock_cluster(call->request, word == "lock"); !done) {
        return call->finish(Answer::failed(done.error()));
    }
    const std::string who = locked_by(paths_);
    Answer answer = Answer::done("the cluster configuration of this node " +
                                 (who.empty() ? "may be changed" : "is locked by " + who));
    answer.data = json::object{{"locked", !who.empty()}, {"by", who}};
    call->finish(std::move(answer));
}

void Daemon::apply_config(const CallPtr& call, const std::string& word) {
    if (word != "unlock" && refused_by_lock(call)) {
        return;
    }
    std::string name;
    const Result<std::string> xml = given_file(call->request, paths_, name);
    if (!xml) {
        return call->finish(Answer::failed(xml.error()));
    }
    if (!changing_.insert(cluster_change).second) { // of two at once one would be on the disk, the other in force
        return call->finish(Answer::failed(exit_code::conflict, "another command is changing the cluster; try again"));
    }
    // Names may have to be resolved, which can take long.
    boost::asio::post(workers_, [this, call, xml = *xml, name, word] {
        auto applied = std::make_shared<Result<ActiveCluster>>(apply_cluster(paths_, xml, name));
        boost::asio::post(io_, [this, call, applied, xml, word] {
            changing_.erase(cluster_change);
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
            if (!word.empty()) {
                if (Result<void> done = lock_cluster(call->request, word == "lock"); !done) {
                    Error error = std::move(done).error();
                    error.what += "; the file is in force";
                    return call->finish(Answer::failed(error));
                }
            }
            Answer answer = Answer::done("cluster of " + std::to_string(cluster_->cluster.nodes.size()) +
                                         " nodes is in force; this node is " + cluster_->name() + ", signature " +
                                         hex(cluster_->cluster.digest));
            if (!running.empty()) {
                answer.text +=
                    "\nrunning modules use it after 'stead stopstart' on every node, and do not hear those that "
                    "have done so; a farm's node waits then until the last one stops: " +
                    running;
            }
            call->finish(with_warnings(std::move(answer), *cluster_));
        });
    });
}

void Daemon::cluster_deconfig(const CallPtr& call) {
    if (refused_by_lock(call)) {
        return;
    }
    std::string running;
    for (const auto& [module, one] : runners_) {
        if (one->running()) {
            running.append(running.empty() ? "" : ", ").append(module);
        }
    }
    if (!running.empty()) {
        return call->finish(Answer::failed(exit_code::conflict, "running modules need the cluster: " + running +
                                                                    "; 'stead shutdown' first"));
    }
    if (changing_.contains(cluster_change)) {
        return call->finish(Answer::failed(exit_code::conflict, "another command is changing the cluster; try again"));
    }
    if (const Result<void> left = leave_cluster(); !left) {
        return call->finish(Answer::failed(left.error()));
    }
    call->finish(Answer::done("this node belongs to no cluster any more; 'stead cluster config' applies " +
                              paths_.edited_cluster().string() + " again"));
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
        return with_warnings(std::move(answer), *checked);
    });
}

void Daemon::cluster_confinfo(const CallPtr& call) {
    const Result<std::string> edited = read_file(paths_.edited_cluster(), xml_bytes_max);
    const Result<std::string> active = read_file(paths_.active_cluster(), xml_bytes_max);
    const bool same = edited && active && *edited == *active;
    const std::string key = cluster_ && !cluster_->keys.empty() ? wire::key_name(cluster_->keys[0]) : "none";
    const std::string digest = cluster_ ? hex(cluster_->cluster.digest) : "none";
    const std::string who = locked_by(paths_);
    Answer answer = Answer::done("active signature " + digest + "\nkey " + key + "\n" +
                                 (who.empty() ? "" : "locked by " + who + "\n") +
                                 (same ? "the edited cluster.xml is in force"
                                       : "the edited cluster.xml is not in force; 'stead cluster config' applies it"));
    answer.data = json::object{{"active", digest}, {"key", key}, {"same", same}, {"locked", !who.empty()}, {"by", who}};
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
        answer.text += cluster.nodes[i] +
                       (self                     ? " (this node)"
                        : members.contains(node) ? " up"
                                                 : " down") +
                       ":" + text + "\n";
        nodes.push_back(json::object{
            {"node", cluster.nodes[i]}, {"self", self}, {"up", members.contains(node)}, {"lans", std::move(lans)}});
    }
    answer.data = json::object{{"node", cluster_->name()}, {"nodes", std::move(nodes)}};
    call->finish(std::move(answer));
}

// ---- Key rotation
// ----------------------------------------------------------------------------------------------------

/// Each phase reaches every node before the next begins, so that at any moment all nodes can open what any seals:
/// "next" (all open both), "switch" (all seal with the new one), "drop" (the old one is forgotten). A rotation that
/// stopped half-way leaves two live keys: giving the command again finishes that one.
void Daemon::rotate_key(const CallPtr& call) {
    if (!cluster_) {
        return call->finish(Answer::failed(exit_code::conflict, "this node has no cluster: " + cluster_problem_));
    }
    std::string key(wire::cluster_key_bytes, '\0');
    if (cluster_->keys.size() > 1) {
        key = cluster_->keys[1];
        call->progress("a rotation that was not finished goes on");
    } else if (::getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size())) {
        return call->finish(Answer::failed(os_error("getrandom", "no random bytes", errno)));
    }
    const std::string key_text = to_hex(key);
    std::thread([this, call, key_text, paths = paths_, cluster = *cluster_]() mutable {
        Answer result = Answer::done("all nodes use the new key");
        for (const char* phase : {"next", "switch", "drop"}) {
            const json::object request{{"verb", "_key"},
                                       {"options", json::object{{"phase", phase}, {"key", key_text}}}};
            std::string missing;
            for (std::size_t i = 0; i < cluster.cluster.nodes.size(); ++i) {
                const Result<json::object> answer = ask_node(cluster, NodeId(i), request, connect_limit);
                const json::value* error = answer ? answer->if_contains("error") : nullptr;
                if (!answer || error != nullptr) {
                    missing += (missing.empty() ? "" : "; ") + cluster.cluster.nodes[i] + ": " +
                               (!answer ? answer.error().text() : json::value_to<std::string>(*error));
                }
            }
            if (Result<std::vector<std::string>> keys = read_keys(paths)) {
                cluster.keys = std::move(*keys);
            }
            if (!missing.empty()) {
                result = Answer::failed(exit_code::unreachable,
                                        "key rotation stopped in phase '" + std::string(phase) + "' (" + missing +
                                            "). The cluster goes on; give the command again when all nodes are up");
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
    const auto now = std::chrono::steady_clock::now();
    if (rotating_to_ != *key && now < rotating_until_) {
        return call->finish(
            Answer::failed(exit_code::conflict, "another rotation is under way; try again in a minute"));
    }
    rotating_to_ = *key;
    rotating_until_ = now + rotation_limit;
    Result<void> done;
    if (phase == "next" && (*present)[0] != *key) {
        done = write_file_atomically(paths_.next_key(), *key, 0600);
    } else if (phase == "switch" && (*present)[0] != *key) {
        // The one in use must never be missing from the disk: first the new one takes its place, then it goes aside.
        const std::string old = (*present)[0];
        done = write_file_atomically(paths_.key(), *key, 0600);
        done = done ? write_file_atomically(paths_.next_key(), old, 0600) : done;
    } else if (phase == "drop" && (*present)[0] == *key) {
        std::error_code ignored;
        fs::remove(paths_.next_key(), ignored);
        done = sync_folder(paths_.etc);
        rotating_until_ = {};
    }
    if (!done) {
        return call->finish(Answer::failed(done.error()));
    }
    log::event("cluster", "key rotation, phase '" + phase + "'");
    reload_keys([call](const std::string& behind) {
        call->finish(behind.empty() ? Answer::done("done")
                                    : Answer::failed(exit_code::refused, "modules that keep the old key: " + behind));
    });
}

void Daemon::reload_keys(const std::function<void(const std::string&)>& done) {
    Result<std::vector<std::string>> keys = read_keys(paths_);
    if (!keys || !cluster_) {
        return done(keys ? "" : keys.error().text());
    }
    cluster_->keys = *keys;
    if (bus_) {
        bus_->set_keys(*keys);
    }
    if (peer_server_) {
        peer_server_->set_keys(*keys);
    }
    struct Pending {
        std::size_t left{1};
        std::string behind;
    };
    auto pending = std::make_shared<Pending>();
    const auto one_less = [pending, done] {
        if (--pending->left == 0) {
            done(pending->behind);
        }
    };
    for (const auto& [module, one] : runners_) {
        if (!one->running()) {
            continue;
        }
        ++pending->left;
        one->request({{"verb", "rekey"}}, [name = module, one, pending, one_less](const Result<json::object>& answer) {
            if (!answer && one->running()) { // one that has just ended reads the keys when it starts again
                log::warning("cluster", "module '" + name + "' keeps the old key: " + answer.error().text());
                pending->behind += (pending->behind.empty() ? "" : ", ") + name;
            }
            one_less();
        });
    }
    one_less();
}

// ---- Seed of the farm tables
// -----------------------------------------------------------------------------------------

void Daemon::tell_seed(const CallPtr& call) {
    const Result<std::string> seed = read_file(paths_.seed(), 4096);
    if (!seed) {
        return call->finish(Answer::failed(seed.error()));
    }
    Answer answer;
    answer.data = json::object{{"seed", to_hex(*seed)}};
    call->finish(std::move(answer));
}

/// A node that joined after a rotation derived its seed from a key that the others did not have at their beginning.
void Daemon::compare_seed() {
    seed_compared_ = true;
    if (!seed_is_derived(paths_, cluster_->keys[0])) {
        return; // kept from before a rotation: it is the cluster's
    }
    std::thread([this, cluster = *cluster_] {
        bool any = false;
        for (std::size_t i = 0; i < cluster.cluster.nodes.size(); ++i) {
            const Result<json::object> answer = NodeId(i) == cluster.self
                                                    ? Result<json::object>(Error{Errc::not_found, "", ""})
                                                    : ask_node(cluster, NodeId(i), {{"verb", "_seed"}}, connect_limit);
            const json::value* data = answer ? answer->if_contains("data") : nullptr;
            const json::value* text =
                data != nullptr && data->is_object() ? data->get_object().if_contains("seed") : nullptr;
            const auto seed = text != nullptr && text->is_string() ? from_hex(text->get_string()) : std::nullopt;
            if (seed && !seed->empty()) {
                any = true;
                boost::asio::post(io_,
                                  [this, seed = *seed, node = cluster.cluster.nodes[i]] { adopt_seed(node, seed); });
            }
        }
        if (!any) {
            boost::asio::post(io_, [this] { seed_compared_ = false; }); // asked again with the next view
        }
    }).detach();
}

void Daemon::adopt_seed(const std::string& node, const std::string& seed) {
    const Result<std::string> own = read_file(paths_.seed(), 4096);
    if (!own || *own == seed || seed.size() != own->size() || !seed_is_derived(paths_, cluster_->keys[0])) {
        return;
    }
    if (const Result<void> written = write_file_atomically(paths_.seed(), seed, 0600); !written) {
        return log::error("cluster", written.error().text());
    }
    log::event("cluster",
               "the table seed of the cluster comes from " + node + "; this node is newer than its first key");
    for (const auto& [module, one] : runners_) {
        if (one->running()) {
            log::warning("cluster", "module '" + module + "' started before the seed came: 'stead stopstart -m " +
                                        module + "' lets it join");
        }
    }
}

} // namespace stead::node
