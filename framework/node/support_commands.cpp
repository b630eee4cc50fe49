// SPDX-License-Identifier: Apache-2.0
// What helps when something went wrong: dump, clean, snapshot.
#include "value_or.hpp"

#include <stead/node/daemon.hpp>
#include <stead/node/redact.hpp>

#include <stead/archive/archive.hpp>
#include <stead/control/loop_count.hpp>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <fcntl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <stdlib.h>

#include <algorithm>
#include <array>

namespace stead::node {
namespace json = boost::json;
namespace fs = std::filesystem;
namespace exit_code = control::exit_code;
namespace {

constexpr std::size_t file_bytes_max = 32u << 20;
constexpr seconds fact_limit{5};

/// A private folder that vanishes with its scope.
class Scratch {
public:
    explicit Scratch(const fs::path& parent) {
        std::string name = (parent / "snapshot-XXXXXX").string();
        path_ = ::mkdtemp(name.data()) != nullptr ? name : "";
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() {
        std::error_code ignored;
        if (!path_.empty()) {
            fs::remove_all(path_, ignored);
        }
    }
    [[nodiscard]] const fs::path& path() const noexcept { return path_; }

private:
    fs::path path_;
};

/// Keys, certificates' keys, key stores and files of passwords never go out, whatever they contain.
bool is_secret_file(const fs::path& file) {
    static constexpr std::array<std::string_view, 5> passwords{".pgpass", "pgpass", ".netrc", ".htpasswd", "shadow"};
    if (std::ranges::find(passwords, file.filename().string()) != passwords.end()) {
        return true;
    }
    const std::string suffix = file.extension().string();
    return suffix == ".key" || suffix == ".next" || suffix == ".pem" || suffix == ".p12" || suffix == ".pfx" ||
           suffix == ".jks" || suffix == ".keytab" || file.filename().string().starts_with("id_") ||
           file.filename() == "seed";
}

bool is_text(const std::string& bytes) { return bytes.find('\0') == std::string::npos; }

/// The folder that becomes the zip.
class Snapshot {
public:
    Snapshot(const control::Paths& paths, fs::path folder) : paths_(paths), folder_(std::move(folder)) {}

    Result<void> gather(const json::object& state);

private:
    void learn_secrets();
    void put(const fs::path& name, std::string text);
    void put_file(const fs::path& from, const fs::path& name);
    void put_tree(const fs::path& from, const fs::path& name);
    void put_output(const std::vector<std::string>& argv, const fs::path& name);
    void put_node();
    void put_module(const std::string& module);

    const control::Paths& paths_;
    const fs::path folder_;
    std::set<std::string> secrets_;
    std::string left_out_;
    std::optional<Error> error_;
};

void Snapshot::learn_secrets() {
    std::error_code error;
    for (const fs::path& root : {paths_.etc, paths_.var}) {
        for (auto it = fs::recursive_directory_iterator(root, fs::directory_options::skip_permission_denied, error);
             !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
            if (it->path().extension() == ".xml" && it->is_regular_file(error)) {
                const Result<std::string> text = read_file(it->path(), file_bytes_max);
                secrets_.merge(secret_values(value_or(text, std::string{})));
            }
        }
    }
}

void Snapshot::put(const fs::path& name, std::string text) {
    std::error_code error;
    fs::create_directories((folder_ / name).parent_path(), error);
    const Result<void> written = write_file_atomically(folder_ / name, redacted(std::move(text), secrets_), 0600);
    if (!written && !error_) {
        error_ = written.error();
    }
}

void Snapshot::put_file(const fs::path& from, const fs::path& name) {
    std::error_code error;
    if (!fs::is_regular_file(from, error)) {
        return;
    }
    const Result<std::string> text = is_secret_file(from)
                                         ? Result<std::string>(Error{Errc::denied, "", "holds a secret"})
                                         : read_file(from, file_bytes_max);
    if (!text || !is_text(*text)) {
        left_out_ += from.string() + ": " + (text ? "not a text" : text.error().what) + "\n";
        return;
    }
    put(name, *text);
}

void Snapshot::put_tree(const fs::path& from, const fs::path& name) {
    std::error_code error;
    for (auto it = fs::recursive_directory_iterator(from, error); !error && it != fs::recursive_directory_iterator();
         it.increment(error)) {
        const fs::path relative = it->path().lexically_relative(from);
        if (it->is_symlink(error)) {
            left_out_ += it->path().string() + ": a link to " + fs::read_symlink(it->path(), error).string() + "\n";
        } else if (it->is_regular_file(error)) {
            put_file(it->path(), name / relative);
        }
    }
}

void Snapshot::put_output(const std::vector<std::string>& argv, const fs::path& name) {
    const Result<Finished> ran = run_limited(argv, fact_limit);
    put(name, ran ? ran->output : ran.error().text() + "\n");
}

void Snapshot::put_node() {
    put_file(paths_.edited_cluster(), "cluster/edited.xml");
    put_file(paths_.active_cluster(), "cluster/cluster.xml");
    for (const fs::path& log : {paths_.node_log(), paths_.command_log()}) {
        put_file(log, "node/" + log.filename().string());
        put_file(log.string() + ".1", "node/" + log.filename().string() + ".1");
    }
    utsname system{};
    ::uname(&system);
    put("node/system", version() + "\n" + system.sysname + " " + system.release + " " + system.version + " " +
                           system.machine + "\n" + value_or(read_file("/etc/os-release", 65536), std::string{}));
    put_output({"/usr/bin/env", "ip", "-details", "address"}, "node/addresses");
    put_output({"/usr/bin/env", "ip", "route", "show", "table", "all"}, "node/routes");
    put_output({"/usr/bin/env", "ps", "-eo", "pid,ppid,stat,lstart,comm"}, "node/processes");
    put_output({paths_.host().string(), "--version"}, "node/stead-host");
}

void Snapshot::put_module(const std::string& module) {
    const fs::path to = fs::path("modules") / module, from = paths_.module(module);
    put_tree(paths_.edited(module), to / "edited");
    for (const char* part : {"conf", "bin"}) {
        put_tree(paths_.active(module) / part, to / "active" / part);
    }
    for (const char* file : {"log", "log.1", "userlog", "userlog.1", "id", "boot", "running", "loops", "supervised"}) {
        put_file(from / file, to / file);
    }
    put_file(paths_.active(module) / "safeconf.xml", to / "active/safeconf.xml");
    put_file(paths_.active(module) / "module.json", to / "active/module.json");
}

Result<void> Snapshot::gather(const json::object& state) {
    learn_secrets();
    put_node();
    for (const auto& member : state) {
        put(std::string(member.key()), json::serialize(member.value()) + "\n");
    }
    for (const InstalledModule& module : Registry(paths_).list()) {
        put_module(module.name);
    }
    put("left-out", left_out_.empty() ? "nothing\n" : left_out_);
    return error_ ? Result<void>(*error_) : Result<void>();
}

Answer make_snapshot(const control::Paths& paths, const json::object& state) {
    const Scratch scratch(paths.var); // the disk has room for its own logs
    if (scratch.path().empty()) {
        return Answer::failed(os_error(paths.var.string(), "no folder can be made here", errno));
    }
    const fs::path folder = scratch.path() / "all", file = scratch.path() / "snapshot.zip";
    if (const Result<void> gathered = Snapshot(paths, folder).gather(state); !gathered) {
        return Answer::failed(gathered.error());
    }
    const Result<archive::Summary> packed = archive::pack_folder(folder, file);
    if (!packed) {
        return Answer::failed(packed.error());
    }
    Answer answer = Answer::done(std::to_string(packed->entries.size()) + " files and folders, passwords and keys "
                                                                          "removed; 'left-out' names what is missing");
    answer.data = json::object{{"entries", packed->entries.size()}, {"bytes", packed->bytes}};
    answer.fds.emplace_back(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    return answer;
}

} // namespace

void Daemon::dump(const CallPtr& call) {
    runner(call->request.module)->request({{"verb", "dump"}}, [call](const Result<json::object>& got) {
        if (!got) {
            return call->finish(Answer::failed(got.error()));
        }
        json::object all = *got;
        all.erase("id");
        all.erase("ok");
        Answer answer = Answer::done(json::serialize(all));
        answer.data = std::move(all);
        call->finish(std::move(answer));
    });
}

void Daemon::clean(const CallPtr& call) {
    const std::string module = call->request.module;
    const std::string what = call->request.arguments.empty() ? "all" : call->request.arguments[0];
    const bool stopped = !runner(module)->running();
    if (!stopped && what != "log") {
        return call->finish(
            Answer::failed(exit_code::conflict, "module '" + module + "' is running; only 'clean log' " +
                                                    "is possible, or 'stead stop -m " + module + "' first"));
    }
    change_module(call, [paths = paths_, module, what] {
        std::string done;
        std::error_code ignored;
        if (what == "all" || what == "log") {
            for (const fs::path& log : {paths.module_log(module), paths.user_log(module)}) {
                fs::resize_file(log, 0, ignored); // whoever writes it appends
                fs::remove(log.string() + ".1", ignored);
            }
            done = "logs";
        }
        if (what == "all" || what == "resource") {
            control::remove_loop_count(paths, module);
            done += (done.empty() ? "" : ", ") + std::string("count of restarts");
        }
        if (what == "all" || what == "process") {
            const Result<Finished> cleaned = run_limited({paths.host().string(), "--cleanup", module}, seconds{20});
            if (!cleaned || cleaned->exit != 0) {
                return Answer::failed(exit_code::io,
                                      "stead-host --cleanup: " + (cleaned ? cleaned->output : cleaned.error().text()));
            }
            done += (done.empty() ? "" : ", ") + std::string("processes and addresses left behind");
        }
        return Answer::done("cleaned of '" + module + "': " + done);
    });
}

/// Gathers what only the main thread and the hosts know, then lets a worker write.
void Daemon::snapshot(const CallPtr& call) {
    struct Gathered {
        std::size_t left{1};
        json::object state;
    };
    const auto gathered = std::make_shared<Gathered>();
    json::object all{{"node", own_name()}, {"version", version()}, {"modules", module_table("")}};
    if (bus_) {
        json::array resources;
        for (const bus::Resource& resource : bus_->resources()) {
            resources.push_back(json::object{{"node", cluster_->cluster.nodes[index(resource.owner)]},
                                             {"name", resource.name},
                                             {"value", resource.value}});
        }
        all["resources"] = std::move(resources);
    } else {
        all["problem"] = cluster_problem_;
    }
    gathered->state["node/state.json"] = std::move(all);
    const auto one_less = [this, call, gathered] {
        if (--gathered->left == 0) {
            in_background(call, [paths = paths_, gathered] { return make_snapshot(paths, gathered->state); });
        }
    };
    for (const auto& [name, one] : runners_) {
        if (!one->running()) {
            continue;
        }
        ++gathered->left;
        one->request({{"verb", "dump"}}, [gathered, one_less, name = name](const Result<json::object>& got) {
            gathered->state["modules/" + name + "/state.json"] =
                got ? json::value(*got) : json::value(json::object{{"error", got.error().text()}});
            one_less();
        });
    }
    one_less();
}

} // namespace stead::node
