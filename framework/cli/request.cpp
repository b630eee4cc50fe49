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
#include <iostream>

namespace stead::cli {
namespace {

namespace json = boost::json;
namespace exit_code = control::exit_code;

int daemon_is_down(const control::Paths& paths, const Error& error) {
    if (error.code == Errc::denied) {
        std::cerr << "stead: not allowed to talk to steadd: be root, or a member of group stead\n";
        return exit_code::denied;
    }
    std::cerr << "stead: steadd is not running on this node (" << paths.daemon_socket().string()
              << " does not answer)\n"
              << "stead: start it with 'systemctl start stead', or without systemd 'steadd --foreground &'\n";
    return exit_code::no_daemon;
}

/// Files are opened here, with the caller's own rights, and travel as descriptors.
bool takes_input_file(std::string_view verb) {
    return verb == "module install" || verb == "cluster config" || verb == "cluster confcheck";
}

json::object make_request(const control::Invocation& invocation) {
    json::object options;
    for (const auto& [name, value] : invocation.options) {
        options[name] = value;
    }
    json::array arguments;
    for (const std::string& argument : invocation.arguments) {
        arguments.emplace_back(argument);
    }
    return json::object{{"verb", invocation.command->verb}, {"module", invocation.module},
                        {"nodes", invocation.nodes},        {"by", invocation.by},
                        {"options", std::move(options)},    {"arguments", std::move(arguments)}};
}

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

int exit_of(const json::object& answer) {
    const json::value* code = answer.if_contains("exit");
    return code != nullptr && code->is_int64() ? static_cast<int>(code->get_int64()) : exit_code::internal;
}

void print_text(std::ostream& out, const std::string& text) {
    out << text;
    if (!text.empty() && text.back() != '\n') {
        out << "\n";
    }
}

/// The answer of one node: `label` is empty for our own.
void print_answer(const json::object& answer, const std::string& label) {
    const std::string text = text_of(answer, "text");
    const std::string error = text_of(answer, "error");
    if (!label.empty()) {
        std::cout << "--- " << label << (exit_of(answer) == 0 ? "" : " (exit " + std::to_string(exit_of(answer)) + ")")
                  << "\n";
    }
    print_text(std::cout, text);
    if (!error.empty()) {
        std::cout.flush();
        print_text(std::cerr, "stead: " + (label.empty() ? "" : label + ": ") + error);
    }
}

int save_file(control::Frame& answer, const std::string& name) {
    if (answer.fds.empty()) {
        return exit_of(answer.body.get_object());
    }
    const Fd out(::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    bool written = static_cast<bool>(out);
    std::array<char, 65536> bytes;
    ::lseek(answer.fds[0].get(), 0, SEEK_SET);
    for (ssize_t got = 0; written && (got = ::read(answer.fds[0].get(), bytes.data(), bytes.size())) > 0;) {
        for (ssize_t at = 0; written && at < got;) {
            const ssize_t put = ::write(out.get(), bytes.data() + at, static_cast<std::size_t>(got - at));
            written = put > 0;
            at += put;
        }
    }
    if (!written) {
        std::cerr << "stead: " << os_error(name, "cannot write", errno).text() << "\n";
        return exit_code::io;
    }
    return exit_code::ok;
}

int print_final(control::Frame& frame, const control::Invocation& invocation) {
    const json::object& answer = frame.body.get_object();
    if (invocation.has("lq")) {
        if (const std::string error = text_of(answer, "error"); !error.empty()) {
            print_text(std::cerr, "stead: " + error);
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
            std::cerr << "stead: steadd gave no answer (" << frame.error().text()
                      << "); 'stead log' shows what happened\n";
            return exit_code::no_daemon;
        }
        const json::object& body = frame->body.get_object();
        if (const std::string progress = text_of(body, "progress"); !progress.empty()) {
            if (!invocation.json && !invocation.has("lq")) {
                std::cerr << progress << "\n";
            }
            continue;
        }
        const int code = print_final(*frame, invocation);
        if (code == exit_code::ok && invocation.command->verb == "module package") {
            return save_file(*frame, invocation.arguments[0]);
        }
        return code;
    }
}

} // namespace

int ask_daemon(const control::Invocation& invocation, const control::Paths& paths) {
    Result<control::Client> client = control::Client::connect(paths.daemon_socket(), seconds{5});
    if (!client) {
        return daemon_is_down(paths, client.error());
    }
    json::object request = make_request(invocation);
    Fd file;
    std::vector<int> descriptors;
    if (takes_input_file(invocation.command->verb) && !invocation.arguments.empty()) {
        const std::string& name = invocation.arguments[0];
        file.reset(::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        struct stat info {};
        if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
            const Error error =
                file ? Error{Errc::not_found, name, "not a file"} : os_error(name, "cannot open", errno);
            std::cerr << "stead: " << error.text() << "\n";
            return exit_code::of(error.code);
        }
        descriptors.push_back(file.get());
    }
    if (const Result<void> sent = client->send(request, descriptors); !sent) {
        std::cerr << "stead: " << sent.error().text() << "\n";
        return exit_code::no_daemon;
    }
    return receive_answer(*client, invocation);
}

} // namespace stead::cli
