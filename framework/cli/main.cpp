// SPDX-License-Identifier: Apache-2.0
#include <stead/cli/cli.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <iostream>

namespace {

using namespace stead;

int print_help(const control::Invocation& invocation) {
    std::string text;
    if (invocation.has("man")) {
        text = control::man_page();
    } else if (invocation.has("completion")) {
        text = control::bash_completion();
    } else if (invocation.arguments.empty()) {
        text = control::help_overview();
    } else {
        std::string topic;
        for (const std::string& word : invocation.arguments) {
            topic.append(topic.empty() ? "" : " ").append(word);
        }
        const control::Command* command = control::find_command(topic);
        if (topic == "exit-codes") {
            text = control::help_exit_codes();
        } else if (command != nullptr) {
            text = control::help_for(*command);
        } else {
            std::vector<std::string> topics{"exit-codes"};
            for (const control::Command& known : control::commands()) {
                topics.emplace_back(known.verb);
            }
            const std::string near = control::nearest(topic, topics);
            return cli::fail(invocation.json, control::exit_code::usage,
                             "no help on '" + topic + "'; " +
                                 (near.empty() ? "'stead help' lists all commands" : "did you mean '" + near + "'?"));
        }
    }
    cli::print_text(invocation.json, "text", text);
    return control::exit_code::ok;
}

/// Becomes a program of the folder that classic scripts know as SAFE.
int run_classic(const control::Invocation& invocation, const std::string& name, std::vector<std::string> words) {
    const std::string program = (control::paths().safe_compatibility() / name).string();
    words.insert(words.begin(), program);
    std::vector<char*> argv;
    for (std::string& word : words) {
        argv.push_back(word.data());
    }
    argv.push_back(nullptr);
    ::execv(program.c_str(), argv.data());
    return cli::fail(invocation.json, os_error(program, "cannot run", errno));
}

/// `stead -p`, `stead -r COMMAND` and `stead kill`, as scripts of the classic product call them.
int run_classic(const control::Invocation& invocation) {
    const std::string_view verb = invocation.command->verb;
    std::vector<std::string> words{std::string(verb)};
    std::string program = "safekit";
    if (verb == "kill") {
        if (!invocation.has("name") || !invocation.has("level")) {
            return cli::fail(invocation.json, control::exit_code::usage,
                             "usage: stead kill -name=NAME [-argregex=ERE] -level=test|terminate|9|15");
        }
        program = "private/bin/namekill";
        words.clear();
        for (const auto& [name, value] : invocation.options) {
            words.push_back("-" + name + "=" + value);
        }
    }
    words.insert(words.end(), invocation.arguments.begin(), invocation.arguments.end());
    if (invocation.json && verb != "-r") {
        words.emplace_back("--json");
    }
    return run_classic(invocation, program, std::move(words));
}

int run(const std::vector<std::string_view>& words) {
    const char* module = std::getenv("SAFEMODULE");
    const Result<control::Invocation> invocation = control::parse_command(words, module != nullptr ? module : "");
    if (!invocation) {
        const auto options_end = std::ranges::find(words, "--");
        const bool as_json = std::find(words.begin(), options_end, "--json") != options_end;
        return cli::fail(as_json, control::exit_code::usage, invocation.error().text());
    }
    if (invocation->version) {
        cli::print_text(invocation->json, "version", invocation->json ? STEAD_VERSION : "stead " STEAD_VERSION);
        return control::exit_code::ok;
    }
    if (invocation->help) {
        cli::print_text(invocation->json, "text",
                        invocation->command != nullptr ? control::help_for(*invocation->command)
                                                       : control::help_overview(invocation->group));
        return control::exit_code::ok;
    }
    if (!invocation->json) { // with --json the standard error stays empty
        for (const std::string& warning : invocation->warnings) {
            std::cerr << "stead: warning: " << warning << "\n";
        }
    }
    const std::string_view verb = invocation->command->verb;
    if (verb == "-p" || verb == "-r" || verb == "kill") {
        return run_classic(*invocation);
    }
    if (verb == "help") {
        return print_help(*invocation);
    }
    if (verb == "logview") {
        return cli::view_log(*invocation, control::paths());
    }
    if (verb == "cluster genkey" && !invocation->has("rotate")) {
        return cli::generate_key(*invocation, control::paths());
    }
    if (verb == "cluster delkey") {
        return cli::delete_key(*invocation, control::paths());
    }
    return cli::ask_daemon(*invocation, control::paths());
}

} // namespace

int main(int argc, char** argv) {
    if (argc > 2 && std::string_view(argv[1]) == "-r" && argv[2][0] != '-') { // what follows is not ours to read
        return run_classic({}, "safekit", std::vector<std::string>(argv + 1, argv + argc));
    }
    return run(std::vector<std::string_view>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
