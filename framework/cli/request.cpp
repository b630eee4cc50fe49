// SPDX-License-Identifier: Apache-2.0
#include <stead/cli/cli.hpp>

#include <stead/control/channel.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>

namespace stead::cli {
namespace {

namespace json = boost::json;
namespace exit_code = control::exit_code;

int daemon_is_down(const control::Invocation& invocation, const control::Paths& paths, const Error& error) {
    if (error.code == Errc::denied) {
        return fail(invocation.json, exit_code::denied,
                    "not allowed to talk to steadd: be root, or a member of group stead");
    }
    return fail(invocation.json, exit_code::no_daemon,
                "steadd is not running on this node (" + paths.daemon_socket().string() +
                    " does not answer); start it with 'systemctl start stead', or without systemd 'steadd "
                    "--foreground &'");
}

/// Files are opened here, with the caller's own rights, and travel as descriptors.
bool takes_input_file(const control::Invocation& invocation) {
    const std::string_view verb = invocation.command->verb;
    const std::size_t others = verb == "cluster config" && !control::lock_word(invocation.arguments).empty() ? 1 : 0;
    return (verb == "module install" || verb == "cluster config" || verb == "cluster confcheck") &&
           invocation.arguments.size() > others;
}

json::object make_request(const control::Invocation& invocation) {
    json::object options;
    for (const auto& [name, value] : invocation.options) {
        options[name] = value;
    }
    if (invocation.json) {
        options["json"] = "on"; // what a plugin answers is made there
    }
    json::array arguments;
    for (const std::string& argument : invocation.arguments) {
        arguments.emplace_back(argument);
    }
    const char* hook = std::getenv("STEAD_HOOK_ID") != nullptr ? std::getenv("SAFEMODULE") : nullptr;
    return json::object{
        {"verb", invocation.command->verb}, {"module", invocation.module}, {"hook", hook != nullptr ? hook : ""},
        {"nodes", invocation.nodes},        {"by", invocation.by},         {"options", std::move(options)},
        {"arguments", std::move(arguments)}};
}

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

int exit_of(const json::object& answer) {
    const json::value* code = answer.if_contains("exit");
    return code != nullptr && code->is_int64() ? static_cast<int>(code->get_int64()) : exit_code::internal;
}

/// The answer of one node: `label` is empty for our own.
void print_answer(const json::object& answer, const std::string& label) {
    const std::string text = text_of(answer, "text");
    const std::string error = text_of(answer, "error");
    if (!label.empty()) {
        std::cout << "--- " << label << (exit_of(answer) == 0 ? "" : " (exit " + std::to_string(exit_of(answer)) + ")")
                  << "\n";
    }
    if (!text.empty()) {
        print_text(false, "text", text);
    }
    if (!error.empty()) {
        fail(false, exit_of(answer), (label.empty() ? "" : label + ": ") + error);
    }
}

/// Answers that become a file of the caller's, written with the caller's rights.
bool makes_file(std::string_view verb) { return verb == "module package" || verb == "snapshot" || verb == "logsave"; }

bool copy_all(int from, int to) {
    std::array<char, 65536> bytes;
    ::lseek(from, 0, SEEK_SET);
    ssize_t got = 0;
    while ((got = ::read(from, bytes.data(), bytes.size())) > 0) {
        for (ssize_t at = 0; at < got;) {
            const ssize_t put = ::write(to, bytes.data() + at, static_cast<std::size_t>(got - at));
            if (put <= 0) {
                return false;
            }
            at += put;
        }
    }
    return got == 0 && ::fsync(to) == 0;
}

/// The file appears whole or not at all. Snapshots and logs are nobody else's to read.
Result<void> save_file(const control::Frame& answer, const control::Invocation& invocation, const std::string& name) {
    if (answer.fds.empty()) {
        return Error{Errc::io, name, "cannot be written: steadd sent no content; 'stead log' says why"};
    }
    std::string temporary = name + ".XXXXXX";
    const Fd out(::mkstemp(temporary.data()));
    const mode_t mode = invocation.command->verb == "module package" ? 0644 : 0600;
    if (!out || !copy_all(answer.fds[0].get(), out.get()) || ::fchmod(out.get(), mode) != 0 ||
        ::rename(temporary.c_str(), name.c_str()) != 0) {
        Error error = os_error(name, "cannot be written", errno);
        error.code = Errc::io; // whatever the reason: exit 66 would tell of a missing module
        if (out) {
            ::unlink(temporary.c_str());
        }
        return error;
    }
    return {};
}

/// Says that it is done only when the file is there.
int save_and_tell(control::Frame& answer, const control::Invocation& invocation) {
    std::error_code ignored;
    const std::string name = std::filesystem::absolute(invocation.arguments[0], ignored).string();
    if (const Result<void> saved = save_file(answer, invocation, name); !saved) {
        return fail(invocation.json, saved.error());
    }
    if (invocation.json) {
        std::cout << json::serialize(json::object{{"file", name}}) << "\n";
    } else if (invocation.command->verb != "logsave") {
        print_text(false, "text", text_of(answer.body.get_object(), "text") + "\nwritten to " + name);
    }
    return exit_code::ok;
}

int print_final(control::Frame& frame, const control::Invocation& invocation) {
    const json::object& answer = frame.body.get_object();
    if (invocation.has("lq")) {
        if (const std::string error = text_of(answer, "error"); !error.empty()) {
            fail(invocation.json, exit_of(answer), error);
        }
        return exit_of(answer);
    }
    if (invocation.json) {
        const json::value* data = answer.if_contains("data");
        const bool failed = !text_of(answer, "error").empty();
        json::value shown = data != nullptr ? *data : json::value(json::object{{"ok", !failed}});
        if (failed) {
            json::object with = shown.is_object() ? shown.get_object() : json::object{};
            with["error"] = text_of(answer, "error");
            with["exit"] = exit_of(answer);
            shown = std::move(with);
        }
        std::cout << json::serialize(shown) << "\n";
    } else if (const json::value* nodes = answer.if_contains("nodes"); nodes != nullptr && nodes->is_array()) {
        for (const json::value& node : nodes->get_array()) {
            print_answer(node.get_object(), text_of(node.get_object(), "node"));
        }
    } else {
        print_answer(answer, "");
    }
    return exit_of(answer);
}

std::string what_is_asked(const control::Invocation& invocation) {
    std::string text(invocation.command->verb);
    return invocation.module.empty() ? text : text + " -m " + invocation.module;
}

/// Reads answers until the last; says so when it takes long.
int receive_answer(control::Client& client, const control::Invocation& invocation) {
    milliseconds patience = milliseconds{900};
    for (;;) {
        Result<control::Frame> frame = client.receive(patience);
        if (!frame && frame.error().code == Errc::timed_out) {
            if (!invocation.json && !invocation.has("lq")) {
                std::cerr << "stead: " << what_is_asked(invocation) << ": working on it (Ctrl-C leaves it running)\n";
            }
            patience = seconds{15};
            continue;
        }
        if (!frame) {
            return fail(invocation.json, exit_code::no_daemon,
                        "steadd gave no answer (" + frame.error().text() + "); 'stead log' shows what happened");
        }
        const json::object& body = frame->body.get_object();
        if (const std::string progress = text_of(body, "progress"); !progress.empty()) {
            if (!invocation.json && !invocation.has("lq")) {
                std::cerr << progress << "\n";
            }
            continue;
        }
        return makes_file(invocation.command->verb) && exit_of(body) == exit_code::ok
                   ? save_and_tell(*frame, invocation)
                   : print_final(*frame, invocation);
    }
}

} // namespace

int ask_daemon(const control::Invocation& invocation, const control::Paths& paths) {
    const std::string_view verb = invocation.command->verb;
    if ((verb == "snapshot" || verb == "logsave") && !invocation.arguments[0].starts_with('/')) {
        return fail(invocation.json, exit_code::usage,
                    std::string(verb) + ": '" + invocation.arguments[0] +
                        "' is not an absolute path; write it from / on, such as /tmp/" + std::string(verb) +
                        (verb == "snapshot" ? ".zip" : ".txt"));
    }
    Result<control::Client> client = control::Client::connect(paths.daemon_socket(), seconds{5});
    if (!client) {
        return daemon_is_down(invocation, paths, client.error());
    }
    json::object request = make_request(invocation);
    Fd file;
    std::vector<int> descriptors;
    if (takes_input_file(invocation)) {
        const std::string& name = invocation.arguments[0];
        file.reset(::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        struct stat info {};
        if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
            const Error error =
                file ? Error{Errc::not_found, name, "not a file"} : os_error(name, "cannot open", errno);
            return fail(invocation.json, error);
        }
        descriptors.push_back(file.get());
    }
    if (const Result<void> sent = client->send(request, descriptors); !sent) {
        return fail(invocation.json, exit_code::no_daemon, sent.error().text());
    }
    return receive_answer(*client, invocation);
}

} // namespace stead::cli
