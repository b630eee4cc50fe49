// SPDX-License-Identifier: Apache-2.0
#include <stead/cli/cli.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

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

/// `stead -p` and `stead -r COMMAND`, as scripts of the classic product call them.
int run_classic(char** argv) {
    const std::string program = (control::paths().safe_compatibility() / "safekit").string();
    argv[0] = const_cast<char*>(program.c_str());
    ::execv(program.c_str(), argv);
    return cli::fail(false, os_error(program, "cannot run", errno));
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
    const std::string_view verb = invocation->command->verb;
    if (verb == "help") {
        return print_help(*invocation);
    }
    if (verb == "logview") {
        return cli::view_log(*invocation, control::paths());
    }
    if (verb == "cluster genkey" && !invocation->has("rotate")) {
        return cli::generate_key(*invocation, control::paths());
    }
    return cli::ask_daemon(*invocation, control::paths());
}

} // namespace

int main(int argc, char** argv) {
    if (argc > 1 && (std::string_view(argv[1]) == "-p" || std::string_view(argv[1]) == "-r")) {
        return run_classic(argv);
    }
    return run(std::vector<std::string_view>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
