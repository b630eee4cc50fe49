// SPDX-License-Identifier: Apache-2.0
// `-H NODES -E AM` and `-H NODES -G`: what is edited on this node goes to others and is applied there, whole or not at
// all.
#include <stead/node/daemon.hpp>

#include <stead/archive/archive.hpp>
#include <stead/base/log.hpp>

#include <boost/asio/post.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <charconv>

namespace stead::node {
namespace asio = boost::asio;
namespace json = boost::json;
namespace fs = std::filesystem;
namespace exit_code = control::exit_code;
namespace {

constexpr std::size_t xml_bytes_max = 4u << 20;

/// The module's folder as a package without a name.
Result<Fd> package_of(const control::Paths& paths, const std::string& module) {
    const fs::path name = paths.run / ("push-" + module + "-" + std::to_string(::gettid()) + ".safe");
    const Result<archive::Summary> packed = archive::package(paths.edited(module), name);
    if (!packed) {
        return packed.error();
    }
    Fd file(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
    const int error = errno;
    std::error_code ignored;
    fs::remove(name, ignored);
    return file ? Result<Fd>(std::move(file)) : Result<Fd>(os_error(name.string(), "cannot open", error));
}

} // namespace

void Daemon::push_module(const CallPtr& call) {
    const std::string module = call->request.arguments.empty() ? std::string{} : call->request.arguments[0];
    const Result<InstalledModule> installed = registry_.find(module);
    if (call->request.nodes.empty() || !installed) {
        return call->finish(installed ? Answer::failed(exit_code::usage, "'-E' needs -H NODES: where should it go?")
                                      : Answer::failed(installed.error()));
    }
    if (installed->damage) {
        return call->finish(Answer::failed(*installed->damage));
    }
    asio::post(workers_, [this, call, module, id = installed->id] {
        auto file = std::make_shared<Result<Fd>>(package_of(paths_, module));
        asio::post(io_, [this, call, module, id, file] {
            if (!*file) {
                return call->finish(Answer::failed(file->error()));
            }
            const json::object others{{"verb", "_install"},
                                      {"module", module},
                                      {"by", call->request.by},
                                      {"options", json::object{{"M", std::to_string(id)}}}};
            ask_nodes(call, others, {{"verb", "config"}, {"module", module}}, std::make_shared<Fd>(std::move(**file)));
        });
    });
}

void Daemon::push_cluster(const CallPtr& call) {
    if (call->request.nodes.empty()) {
        return call->finish(Answer::failed(exit_code::usage, "'-G' needs -H NODES: where should it go?"));
    }
    const fs::path name = paths_.edited_cluster();
    const Result<std::string> xml = read_file(name, xml_bytes_max);
    if (!xml) {
        return call->finish(Answer::failed(xml.error()));
    }
    asio::post(workers_, [this, call, xml = *xml, name] { // names may have to be resolved, which can take long
        const Result<ActiveCluster> good = check_cluster(xml, name.string());
        auto file = std::make_shared<Result<Fd>>(good ? file_of(xml) : Result<Fd>(good.error()));
        asio::post(io_, [this, call, file, name] {
            if (!*file) {
                return call->finish(Answer::failed(file->error()));
            }
            const std::string from = name.string() + " of " + own_name();
            ask_nodes(call, {{"verb", "_cluster"}, {"by", call->request.by}, {"arguments", json::array{from}}},
                      {{"verb", "cluster config"}}, std::make_shared<Fd>(std::move(**file)));
        });
    });
}

/// A module from another node: in place of ours, then applied. Refused, it leaves everything as it was.
void Daemon::take_module(const CallPtr& call) {
    Request& request = call->request;
    const std::string module = request.module;
    const std::string id_text = request.option("M");
    unsigned id = 0;
    std::from_chars(id_text.data(), id_text.data() + id_text.size(), id);
    if (!control::is_module_name(module) || request.fds.empty() || id == 0) {
        return call->finish(Answer::failed(exit_code::usage, "not a module: name, number and package are needed"));
    }
    const Result<InstalledModule> present = registry_.find(module);
    if (present && !present->damage && present->id != id) {
        return call->finish(Answer::failed(exit_code::conflict, "module '" + module + "' has number " +
                                                                    std::to_string(present->id) + " here and " +
                                                                    id_text + " there"));
    }
    auto file = std::make_shared<Fd>(std::move(request.fds[0]));
    auto installed = std::make_shared<bool>(false);
    auto step = [this, module](std::function<void(Answer)> then) { // a call of our own to a handler of ours
        Request own;
        own.verb = "config";
        own.module = module;
        return std::make_shared<Call>(
            std::move(own), [](const std::string&) {}, std::move(then));
    };
    const auto unpacked = step([this, call, module, installed, step](Answer answer) {
        if (!*installed) {
            return call->finish(std::move(answer));
        }
        config(step([this, call, module](Answer applied) {
            if (applied.exit == exit_code::ok) {
                return call->finish(std::move(applied));
            }
            const Result<void> back = registry_.take_back(module);
            applied.error += back ? "\nnothing was changed" : "\n" + back.error().text();
            call->finish(std::move(applied));
        }));
    });
    change_module(unpacked, [registry = registry_, module, id, file, installed] {
        const fs::path package = "/proc/self/fd/" + std::to_string(file->get());
        const Result<InstalledModule> done = registry.install(module, id, true, package);
        *installed = done.has_value();
        return done ? Answer::done("") : Answer::failed(done.error());
    });
}

} // namespace stead::node
