// SPDX-License-Identifier: Apache-2.0
#include <stead/control/command.hpp>

#include <algorithm>

namespace stead::control {
namespace {

struct ExitCode {
    int value;
    std::string_view meaning;
};

constexpr auto exit_codes = std::to_array<ExitCode>({
    {exit_code::ok, "done; `state -lq`: STOP"},
    {exit_code::no, "the answer is no (checkloop, incloop, cluster check found something); `state -lq`: WAIT"},
    {2, "`state -lq`: ALONE or UP"},
    {3, "`state -lq`: PRIM"},
    {4, "`state -lq`: SECOND"},
    {exit_code::usage, "the command line is wrong; the message names the nearest valid word"},
    {exit_code::configuration, "a configuration file has errors; each is listed with its line"},
    {exit_code::not_found, "no such module, node, resource or file"},
    {exit_code::no_daemon, "steadd is not running on this node"},
    {exit_code::internal, "an error of Stead itself; please report it"},
    {exit_code::conflict, "in the way of something that exists or runs; the message says of what"},
    {exit_code::io, "the operating system refused; the message has its words"},
    {exit_code::timed_out, "not done within the time given"},
    {exit_code::denied, "needs root, or membership in group stead"},
    {exit_code::refused, "refused in the present state, or not possible on this kernel"},
    {exit_code::unreachable, "a node named by -H does not answer"},
});

std::string padded(std::string_view text, std::size_t width) {
    std::string out(text);
    out.append(out.size() < width ? width - out.size() : 1, ' ');
    return out;
}

std::string synopsis(const Command& command) {
    std::string text(command.verb);
    if (!command.arguments.empty()) {
        text.append(" ").append(command.arguments);
    }
    if (command.module != NeedsModule::no) {
        text.append(command.module == NeedsModule::yes ? " -m AM" : " [-m AM]");
    }
    for (const Option& option : command.used_options()) {
        text.append(" [").append(option.name);
        if (!option.argument.empty()) {
            text.append(" ").append(option.argument);
        }
        text.append("]");
    }
    return text;
}

std::string option_lines(std::span<const Option> options) {
    std::string text;
    for (const Option& option : options) {
        std::string name(option.name);
        if (!option.argument.empty()) {
            name.append(" ").append(option.argument);
        }
        text.append("  ").append(padded(name, 16)).append(option.help).append("\n");
    }
    return text;
}

std::string roff(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '\\') {
            out += "\\e";
        } else if (c == '-') {
            out += "\\-";
        } else {
            out += c;
        }
    }
    return out;
}

} // namespace

std::string help_overview(std::string_view group) {
    std::string text = "stead: makes an application highly available (farm, mirror and light modules)\n\n"
                       "usage: stead COMMAND [options]\n\n";
    for (const Command& command : commands()) {
        if (!group.empty() && !command.verb.starts_with(std::string(group) + " ")) {
            continue;
        }
        text.append("  ").append(padded(command.verb, 18)).append(command.help).append("\n");
    }
    text.append("\noptions of every command:\n").append(option_lines(common_options()));
    text.append("\n'stead COMMAND -h' says more; 'stead help exit-codes' lists the exit codes.\n");
    return text;
}

std::string help_for(const Command& command) {
    std::string text = "usage: stead " + synopsis(command) + "\n\n" + std::string(command.help) + "\n";
    if (!command.used_options().empty()) {
        text.append("\noptions:\n").append(option_lines(command.used_options()));
    }
    text.append("\ncommon options:\n").append(option_lines(common_options()));
    if (!command.distributed) {
        text.append("\nThis command acts on this node only (-H does not apply).\n");
    }
    return text;
}

std::string help_exit_codes() {
    std::string text = "exit codes of stead:\n";
    for (const ExitCode& code : exit_codes) {
        text.append("  ").append(padded(std::to_string(code.value), 4)).append(code.meaning).append("\n");
    }
    return text + "With -H the exit code is the greatest of all nodes.\n";
}

namespace {

/// "a|b" and "[a|b] [WORD]": the choices of the first word, with a blank before each.
std::string choices_of(std::string_view spec) {
    std::string words;
    spec = spec.substr(0, spec.find(" ["));
    if (spec.find('|') == spec.npos) {
        return words;
    }
    words = " " + std::string(spec);
    std::replace(words.begin(), words.end(), '|', ' ');
    std::erase_if(words, [](char c) { return c == '[' || c == ']'; });
    return words;
}

/// Words that follow a word, as branches of a `case`.
std::string completed_after() {
    std::string cases;
    std::vector<std::string_view> options;
    for (const Command& command : commands()) {
        for (const Option& option : command.used_options()) {
            const std::string choices = choices_of(option.argument);
            if (!choices.empty() && std::ranges::find(options, option.name) == options.end()) {
                options.push_back(option.name);
                cases.append("    ").append(option.name).append(") words='").append(choices).append("' ;;\n");
            }
        }
    }
    for (const std::string_view group : {"cluster", "mirror", "module"}) {
        cases.append("    ").append(group).append(") words='");
        for (const Command& command : commands()) {
            if (command.verb.starts_with(std::string(group) + " ")) {
                cases.append(command.verb.substr(group.size() + 1)).append(" ");
            }
        }
        cases.append("' ;;\n");
    }
    return cases;
}

/// Options and choices of each command, as branches of a `case`.
std::string completed_in_commands(const std::string& verbs) {
    std::string cases;
    for (const Command& command : commands()) {
        std::string words;
        for (const Option& option : command.used_options()) {
            words.append(" ").append(option.name);
        }
        words += choices_of(command.arguments);
        words += command.verb == "help" ? " exit-codes " + verbs : "";
        if (!words.empty()) {
            cases.append("    '").append(command.verb).append("') words=\"$words").append(words).append("\" ;;\n");
        }
    }
    return cases;
}

} // namespace

std::string bash_completion() {
    std::string verbs;
    std::string options;
    for (const Option& option : common_options()) {
        options.append(options.empty() ? "" : " ").append(option.name);
    }
    for (const Command& command : commands()) {
        const std::string first(command.verb.substr(0, command.verb.find(' ')));
        if ((" " + verbs + " ").find(" " + first + " ") == std::string::npos) {
            verbs.append(verbs.empty() ? "" : " ").append(first);
        }
    }
    return "# Completion for stead, made from its command table by `stead help --completion`.\n"
           "_stead_names() { grep -o \"\\\"$1\\\":\\\"[^\\\"]*\\\"\" | cut -d'\"' -f4 | sort -u; }\n"
           "_stead() {\n"
           "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb= words= skip= w list=\n"
           "  case $before in\n"
           "    -m) words=$(stead module list --json 2>/dev/null | _stead_names name) ;;\n"
           "    -H) case $word in *,*) list=${word%,*}, ;; esac\n"
           "        words=$(stead cluster state --json 2>/dev/null | _stead_names node | sed \"s/^/$list/\")\n"
           "        [ -n \"$list\" ] || words=\"$words *\" ;;\n" +
           completed_after() +
           "  esac\n"
           "  if [ -z \"$words\" ]; then\n"
           "    for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
           "      if [ -n \"$skip\" ]; then skip=; continue; fi\n"
           "      case $w in -m|-H|-i) skip=1 ;; -*) ;; *) verb=\"${verb:+$verb }$w\" ;; esac\n"
           "    done\n"
           "    words='" +
           options +
           "'\n"
           "    case $verb in\n"
           "    '') words=\"$words " +
           verbs + "\" ;;\n" + completed_in_commands(verbs) +
           "    esac\n"
           "  fi\n"
           "  local IFS=$' \\n'\n"
           "  set -f\n"
           "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
           "  set +f\n"
           "}\n"
           "complete -o default -F _stead stead safekit\n";
}

std::string man_page() {
    std::string text =
        ".TH STEAD 8 \"\" \"Stead\" \"System administration\"\n.SH NAME\nstead \\- commands of the Stead "
        "high\\-availability framework\n.SH SYNOPSIS\n.B stead\nCOMMAND [options]\n.SH DESCRIPTION\n"
        "Talks to\n.BR steadd (8)\nof this node, and through it, with\n.BR \\-H ,\nto other nodes.\n"
        ".PP\nOptions may stand before and after words, and\n.B \\-\\-\nends them: what follows is a word even if it "
        "begins with a dash. In a MESSAGE an unknown option is a word.\n.PP\nWith\n.B \\-\\-json\nall that a command "
        "says is one JSON object on standard output, and standard error stays empty. An error is {\"error\": TEXT, "
        "\"exit\": EXIT STATUS}; with\n.B \\-H\neach node has such an object under its name. logview prints one object "
        "a line: {\"line\": TEXT}. help and \\-h print {\"text\": TEXT}, and a command that has nothing to tell "
        "{\"ok\": true}.\n"
        ".SH COMMANDS\n";
    for (const Command& command : commands()) {
        text.append(".TP\n.B ").append(roff(synopsis(command))).append("\n").append(roff(command.help)).append("\n");
        for (const Option& option : command.used_options()) {
            text.append(".br\n.B ").append(roff(option.name)).append("\n");
            text.append(roff(option.argument)).append(": ").append(roff(option.help)).append("\n");
        }
    }
    text.append(".SH OPTIONS\n");
    for (const Option& option : common_options()) {
        text.append(".TP\n.BI \"").append(roff(option.name)).append("\" \" ").append(roff(option.argument));
        text.append("\"\n").append(roff(option.help)).append("\n");
    }
    text.append(".SH EXIT STATUS\n");
    for (const ExitCode& code : exit_codes) {
        text.append(".TP\n.B ").append(std::to_string(code.value)).append("\n").append(roff(code.meaning)).append("\n");
    }
    return text.append(".SH FILES\n.TP\n.I /etc/stead/cluster.xml\nThe nodes and their networks.\n.TP\n"
                       ".I /etc/stead/cluster.key\n32 random bytes, equal on all nodes, mode 0600.\n.TP\n"
                       ".I /etc/stead/modules/AM\nThe edited configuration of a module.\n.TP\n"
                       ".I /var/lib/stead\nWhat is in force.\n.SH SEE ALSO\n.BR steadd (8)\n");
}

} // namespace stead::control
