// SPDX-License-Identifier: Apache-2.0
#include <stead/control/command.hpp>
#include <stead/control/paths.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <numeric>
#include <optional>

namespace stead::control {
namespace {

Error usage(std::string text) { return Error{Errc::malformed, "", std::move(text)}; }

/// Edits between two words, neighbours exchanged counting as one.
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before_last, last(b.size() + 1), present(b.size() + 1);
    std::iota(last.begin(), last.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        present[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            present[j] = std::min({last[j] + 1, present[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                present[j] = std::min(present[j], before_last[j - 2] + 1);
            }
        }
        before_last = last;
        std::swap(last, present);
    }
    return last[b.size()];
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
    const std::string near = nearest(word, candidates);
    return near.empty() ? std::string{} : "; did you mean '" + near + "'?";
}

/// The end of a message: the nearest word, when there is one, and a sentence on where the others are.
std::string advice(std::string_view word, const std::vector<std::string>& candidates, const std::string& others) {
    const std::string near = did_you_mean(word, candidates);
    return (near.empty() ? "; " : near + " ") + others;
}

std::string strip_dashes(std::string_view name) {
    const std::size_t start = name.find_first_not_of('-');
    return std::string(start == name.npos ? name : name.substr(start));
}

bool is_group(std::string_view word) {
    return std::any_of(commands().begin(), commands().end(), [&](const Command& command) {
        return command.verb.size() > word.size() && command.verb.starts_with(word) && command.verb[word.size()] == ' ';
    });
}

std::vector<std::string> first_words() {
    std::vector<std::string> words;
    for (const Command& command : commands()) {
        words.emplace_back(command.verb.substr(0, command.verb.find(' ')));
    }
    return words;
}

std::vector<std::string> words_of_group(std::string_view group) {
    std::vector<std::string> words;
    for (const Command& command : commands()) {
        if (command.verb.starts_with(std::string(group) + " ")) {
            words.emplace_back(command.verb.substr(group.size() + 1));
        }
    }
    return words;
}

std::string joined(const std::vector<std::string>& words, std::string_view between) {
    std::string text;
    for (const std::string& word : words) {
        text.append(text.empty() ? "" : between).append(word);
    }
    return text;
}

Result<void> check_number(const std::string& shown, std::string_view placeholder, std::string_view given) {
    for (const Number& kind : numbers_typed()) {
        std::uint64_t value = 0;
        const char* end = given.data() + given.size();
        if (kind.placeholder != placeholder || (!kind.word.empty() && given == kind.word)) {
            continue;
        }
        const auto parsed = std::from_chars(given.data(), end, value);
        if (parsed.ec != std::errc{} || parsed.ptr != end || value < kind.min || value > kind.max) {
            return usage(shown + " '" + std::string(given) + "': allowed: " + std::string(kind.allowed));
        }
    }
    return {};
}

std::vector<std::string> choices_in(std::string_view spec) {
    if (spec.starts_with('[') && spec.ends_with(']')) { // may be left out
        spec = spec.substr(1, spec.size() - 2);
    }
    std::vector<std::string> choices;
    for (std::string_view rest = spec; !rest.empty();) {
        const std::size_t end = rest.find('|');
        choices.emplace_back(rest.substr(0, end));
        rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
    }
    return choices;
}

bool is_choice(std::string_view spec, std::string_view given) {
    const std::vector<std::string> choices = choices_in(spec);
    return spec.find('|') != spec.npos && std::ranges::find(choices, given) != choices.end();
}

Result<void> check_choice(std::string_view spec, std::string_view given) {
    if (spec.find('|') == spec.npos || is_choice(spec, given)) {
        return {};
    }
    const std::vector<std::string> choices = choices_in(spec);
    return usage("'" + std::string(given) + "' is not one of " + joined(choices, ", ") + did_you_mean(given, choices));
}

/// The names in "[https:9453],n1" and "http://n1:9010,n2". How nodes are reached is not the command line's: `ignored`.
std::string node_names(std::string_view text, std::string& ignored) {
    std::vector<std::string> names;
    const auto ignore = [&](std::string_view part) { ignored.append(ignored.empty() ? "" : ", ").append(part); };
    for (std::string_view rest = text; !rest.empty();) {
        const std::size_t end = rest.find(',');
        const std::string_view name = rest.substr(0, end);
        rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
        const std::size_t scheme = name.find("://");
        if (name.starts_with('[')) {
            ignore(name);
        } else if (scheme == name.npos) {
            names.emplace_back(name);
        } else {
            const std::string_view host = name.substr(scheme + 3, name.find_first_of(":/", scheme + 3) - scheme - 3);
            ignore(std::string(name.substr(0, scheme + 3)) + std::string(name.substr(scheme + 3 + host.size())));
            names.emplace_back(host);
        }
    }
    return joined(names, ",");
}

/// Takes words one by one: the verb is the first (or first two) that is no option.
class Parser {
public:
    Parser(std::span<const std::string_view> words, std::string_view environment_module)
        : words_(words), environment_module_(environment_module) {}

    Result<Invocation> run() {
        if (const Absent* absent = find_absent()) {
            return usage("'" + std::string(absent->words) + "': " + std::string(absent->instead));
        }
        if (Result<void> found = find_verb(); !found) {
            return found.error();
        }
        for (at_ = 0; at_ < words_.size(); ++at_) {
            if (Result<void> taken = take_word(); !taken) {
                return taken.error();
            }
        }
        if (got_.version) {
            return got_;
        }
        if (got_.help || got_.command == nullptr) {
            got_.help = true;
            return got_;
        }
        if (Result<void> complete = check_complete(); !complete) {
            return complete.error();
        }
        return got_;
    }

private:
    static const Option* find_in(std::span<const Option> options, std::string_view name) {
        const auto found =
            std::find_if(options.begin(), options.end(), [&](const Option& o) { return o.name == name; });
        return found == options.end() ? nullptr : &*found;
    }

    const Option* find_option(std::string_view name) const {
        const std::string_view known = name == "--help" ? "-h" : name;
        const Option* own = got_.command != nullptr ? find_in(got_.command->used_options(), known) : nullptr;
        return own != nullptr ? own : find_in(common_options(), known);
    }

    /// By the first word that is no option, or the first two.
    const Absent* find_absent() const {
        std::string typed;
        for (std::size_t i = 0, count = 0; i < words_.size() && count < 2; ++i) {
            if (words_[i].starts_with('-')) {
                const Option* option = find_in(common_options(), words_[i]);
                i += option != nullptr && !option->argument.empty() ? 1 : 0;
                continue;
            }
            typed.append(count++ == 0 ? "" : " ").append(words_[i]);
            const auto found = std::ranges::find(absent_commands(), typed, &Absent::words);
            if (found != absent_commands().end()) {
                return &*found;
            }
        }
        return nullptr;
    }

    Result<void> find_verb() {
        for (std::size_t i = 0; i < words_.size(); ++i) {
            const std::string_view word = words_[i];
            if (word.size() > 1 && word[0] == '-' && find_command(word) == nullptr) { // -E, -G, -p, -r are commands
                const Option* option = find_in(common_options(), word);
                i += option != nullptr && !option->argument.empty() ? 1 : 0;
                continue;
            }
            verb_words_.push_back(i);
            std::string verb(word);
            if (is_group(word)) {
                return find_second_word(verb, i);
            }
            got_.command = find_command(verb);
            if (got_.command == nullptr) {
                return usage("unknown command '" + verb + "'" +
                             advice(verb, first_words(), "'stead help' lists all commands"));
            }
            return {};
        }
        return {};
    }

    Result<void> find_second_word(const std::string& group, std::size_t first) {
        for (std::size_t i = first + 1; i < words_.size(); ++i) {
            if (words_[i].starts_with('-')) {
                const Option* option = find_in(common_options(), words_[i]);
                i += option != nullptr && !option->argument.empty() ? 1 : 0;
                continue;
            }
            const std::string second(words_[i]);
            got_.command = find_command(group + " " + second);
            if (got_.command != nullptr) {
                verb_words_.push_back(i);
                return {};
            }
            const std::vector<std::string> known = words_of_group(group);
            return usage("unknown command '" + group + " " + second + "'" +
                         advice(second, known, "'" + group + "' has: " + joined(known, ", ")));
        }
        if (std::ranges::any_of(words_, [](std::string_view word) {
                return word == "-h" || word == "--help" || word == "--version";
            })) {
            got_.group = group;
            return {};
        }
        return usage("'" + group + "' needs one of: " + joined(words_of_group(group), ", ") + ".");
    }

    Result<void> take_word() {
        const std::string_view word = words_[at_];
        if (std::find(verb_words_.begin(), verb_words_.end(), at_) != verb_words_.end()) {
            return {};
        }
        if (word == "--" && !only_arguments_) {
            only_arguments_ = true;
            return {};
        }
        if (only_arguments_ || word.size() < 2 || word[0] != '-') {
            got_.arguments.emplace_back(word);
            return {};
        }
        return take_option(word);
    }

    Result<void> take_option(std::string_view word) {
        std::optional<std::string_view> value;
        const std::size_t equals = word.find('=');
        const bool long_name = word.starts_with("--") || (equals > 2 && find_option(word.substr(0, equals)) != nullptr);
        if (equals != word.npos && long_name) {
            value = word.substr(equals + 1);
            word = word.substr(0, equals);
        }
        const Option* option = find_option(word);
        if (option == nullptr && got_.command != nullptr && got_.command->arguments.starts_with("MESSAGE")) {
            got_.arguments.emplace_back(words_[at_]); // printi "--- begun ---"
            return {};
        }
        if (option == nullptr) {
            return unknown_option(word);
        }
        if (option->argument.empty()) {
            if (value) {
                return usage("option '" + std::string(word) + "' takes no value");
            }
            set_option(*option, "on");
            return {};
        }
        if (!value) {
            if (at_ + 1 >= words_.size()) {
                return usage("option '" + std::string(word) + "' needs " + std::string(option->argument) + ": " +
                             std::string(option->help));
            }
            value = words_[++at_];
        }
        if (value->empty() && (option->name == "-H" || option->name == "-m")) { // "$VARIABLE" of a script, not set
            return usage("option '" + std::string(word) + "' is empty; it needs " + std::string(option->argument) +
                         ": " + std::string(option->help));
        }
        Result<void> good = check_choice(option->argument, *value);
        good = good ? check_number("option '" + std::string(word) + "'", option->argument, *value) : good;
        if (good) {
            set_option(*option, *value);
        }
        if (option->name == "-H" && got_.nodes.empty()) {
            return usage("option '-H' '" + std::string(*value) + "' names no node");
        }
        return good;
    }

    void set_option(const Option& option, std::string_view value) {
        const bool own = got_.command != nullptr && find_in(got_.command->used_options(), option.name) == &option;
        if (own) {
            got_.options[strip_dashes(option.name)] = value;
        } else if (option.name == "-m") {
            got_.module = value;
        } else if (option.name == "-H") {
            std::string ignored;
            got_.nodes = node_names(value, ignored);
            if (!ignored.empty()) {
                got_.warnings.push_back("-H: " + ignored +
                                        " is ignored: nodes are reached by their names in "
                                        "cluster.xml, on the cluster's own port");
            }
        } else if (option.name == "-i") {
            got_.by = value;
        } else if (option.name == "--json") {
            got_.json = true;
        } else if (option.name == "-h") {
            got_.help = true;
        } else if (option.name == "--version") {
            got_.version = true;
        }
    }

    Error unknown_option(std::string_view word) const {
        std::vector<std::string> known;
        const auto add = [&](std::span<const Option> options) {
            for (const Option& option : options) {
                known.emplace_back(option.name);
            }
        };
        if (got_.command != nullptr) {
            add(got_.command->used_options());
        }
        add(common_options());
        const std::string verb = got_.command != nullptr ? std::string(got_.command->verb) + " " : "";
        return usage("unknown option '" + std::string(word) + "'" +
                     advice(word, known, "'stead " + verb + "-h' lists the options: " + joined(known, " ")));
    }

    Result<void> check_complete() {
        const Command& command = *got_.command;
        const std::string verb(command.verb);
        if (got_.module.empty() && command.module != NeedsModule::no) {
            got_.module = environment_module_;
        }
        if (got_.module.empty() && command.module == NeedsModule::yes) {
            return usage("'" + verb + "' needs a module: add -m AM. 'stead module list' shows the installed ones.");
        }
        if (!got_.module.empty() && command.module == NeedsModule::no && find_in(common_options(), "-m") != nullptr) {
            got_.module.clear(); // SAFEMODULE, or a -m out of habit, does no harm
        }
        if (!got_.module.empty() && !is_module_name(got_.module)) {
            return usage("'" + got_.module + "' is not a module name; allowed: 1 to 63 letters, digits, _ . -");
        }
        if (!got_.nodes.empty() && !command.distributed) {
            return usage("'" + verb + "' cannot be sent to other nodes with -H; run it there");
        }
        if (got_.command->everywhere && got_.nodes.empty()) {
            got_.nodes = "*";
        }
        return check_arguments();
    }

    Result<void> check_arguments() const {
        const std::string verb(got_.command->verb);
        std::vector<std::string_view> specs;
        for (std::string_view rest = got_.command->arguments; !rest.empty();) {
            const std::size_t end = rest.find(' ');
            specs.push_back(rest.substr(0, end));
            rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
        }
        std::size_t at = 0;
        for (std::size_t i = 0; i < specs.size(); ++i) {
            const std::string_view spec = specs[i];
            const bool many = spec.find("...") != spec.npos;
            if (at >= got_.arguments.size()) {
                if (spec.starts_with('[')) {
                    continue;
                }
                return usage("'" + verb + "' needs " + std::string(spec) + ". Usage: stead " + verb + " " +
                             std::string(got_.command->arguments) +
                             (got_.command->module == NeedsModule::yes ? " -m AM" : ""));
            }
            const std::string& given = got_.arguments[at];
            if (spec.starts_with('[') && i + 1 < specs.size() && is_choice(specs[i + 1], given)) {
                continue; // left out: the word is the next one's
            }
            if (Result<void> chosen = check_choice(spec, given); !chosen) {
                return chosen;
            }
            if (Result<void> number = check_number(verb + ": " + std::string(spec), spec, given); !number) {
                return number;
            }
            at = many ? got_.arguments.size() : at + 1;
        }
        if (at < got_.arguments.size()) {
            return usage("'" + verb + "' does not take '" + got_.arguments[at] + "'. 'stead " + verb +
                         " -h' shows what it takes.");
        }
        return {};
    }

    std::span<const std::string_view> words_;
    std::string_view environment_module_;
    std::size_t at_{};
    std::vector<std::size_t> verb_words_;
    bool only_arguments_{};
    Invocation got_;
};

} // namespace

std::string Invocation::option(std::string_view name, std::string_view otherwise) const {
    const auto found = options.find(name);
    return found == options.end() ? std::string(otherwise) : found->second;
}

std::string_view lock_word(std::span<const std::string> arguments) noexcept {
    const bool has = !arguments.empty() && (arguments.back() == "lock" || arguments.back() == "unlock");
    return has ? std::string_view(arguments.back()) : std::string_view{};
}

std::string nearest(std::string_view word, std::span<const std::string> candidates) {
    std::string best;
    std::size_t best_distance = word.size() <= 3 ? 2 : 1 + word.size() / 3 + 1; // must be closer than this
    for (const std::string& candidate : candidates) {
        const std::size_t edits = distance(word, candidate);
        const bool completes = word.size() >= 3 && candidate.starts_with(word);
        const std::size_t rank = completes ? 0 : edits;
        if (rank < best_distance) {
            best_distance = rank;
            best = candidate;
        }
    }
    return best;
}

Result<Invocation> parse_command(std::span<const std::string_view> words, std::string_view environment_module) {
    return Parser(words, environment_module).run();
}

} // namespace stead::control
