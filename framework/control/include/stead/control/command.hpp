// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// The one table of commands. Parser, -h, completion, man pages and the REST API are made from it.
namespace stead::control {

enum class NeedsModule : std::uint8_t { no, optional, yes };
/// Who may ask. On steadd's socket everyone who reaches it (root, group stead); `change` leaves a line in the command
/// log. Over REST `read` is free to local callers, `inspect` (logs, costly tests) needs the token, `change` is refused.
enum class Access : std::uint8_t { read, inspect, change };
/// `local` commands work without steadd.
enum class Runs : std::uint8_t { local, daemon };

/// What stands for a number in the table; anything else typed there is refused.
struct Number {
    std::string_view placeholder; ///< "SECONDS"
    std::uint64_t min{}, max{};
    std::string_view allowed; ///< for people
    std::string_view word;    ///< allowed too; empty = none
};

/// A command of the classic product that Stead does not have.
struct Absent {
    std::string_view words;   ///< "boot snmpon"
    std::string_view instead; ///< a sentence: that it is not there, and what to use
};

struct Option {
    std::string_view name;     ///< "-s"; as typed
    std::string_view argument; ///< "NB", or choices "a|b"; empty = a switch
    std::string_view help;
    std::string_view query{}; ///< "lines"; parameter of the REST API, empty = none
};

struct Command {
    std::string_view verb;      ///< "start", "cluster config"
    std::string_view arguments; ///< "NODE N", "[FILE]", "WORD..."; choices "on|off|status"
    NeedsModule module{};
    Access access{};
    Runs runs{Runs::daemon};
    bool distributed{};    ///< may be sent to other nodes by -H
    std::string_view rest; ///< route of the REST API below /api/v1; {m} is the module, {r} the option -r
    std::string_view help; ///< one line
    std::array<Option, 5> options{};
    bool everywhere{}; ///< on all nodes of the cluster unless -H names some

    [[nodiscard]] std::span<const Option> used_options() const noexcept;
};

[[nodiscard]] std::span<const Command> commands() noexcept;
[[nodiscard]] std::span<const Number> numbers_typed() noexcept;
[[nodiscard]] std::span<const Absent> absent_commands() noexcept;
/// Options that every command takes.
[[nodiscard]] std::span<const Option> common_options() noexcept;
[[nodiscard]] const Command* find_command(std::string_view verb) noexcept;

/// What was typed, checked against the table.
struct Invocation {
    const Command* command{}; ///< null only when `help` is asked for in general
    std::string group;        ///< "cluster" of `stead cluster -h`, where help on these is asked for
    std::string module;
    std::string nodes; ///< of -H; empty = this node, through its steadd
    std::string by;    ///< of -i
    bool json{};
    bool help{};
    bool version{};                                          ///< of Stead is asked for, and nothing else is done
    std::map<std::string, std::string, std::less<>> options; ///< by name without dashes; a switch has the value "on"
    std::vector<std::string> arguments;
    std::vector<std::string> warnings; ///< for people

    [[nodiscard]] bool has(std::string_view option) const { return options.contains(option); }
    [[nodiscard]] std::string option(std::string_view name, std::string_view otherwise = {}) const;
};

/// "lock" or "unlock" at the end of `cluster config`; empty: neither. What stands before it is a file.
[[nodiscard]] std::string_view lock_word(std::span<const std::string> arguments) noexcept;

/// `words` without the program's name; `environment_module` is $SAFEMODULE or empty.
/// Errors: malformed, with the nearest valid word and how to get help.
[[nodiscard]] Result<Invocation> parse_command(std::span<const std::string_view> words,
                                               std::string_view environment_module);

/// The candidate nearest to `word` when it is near enough to be what was meant, else empty.
[[nodiscard]] std::string nearest(std::string_view word, std::span<const std::string> candidates);

/// Of all commands, or of those that begin with the word `group`.
[[nodiscard]] std::string help_overview(std::string_view group = {});
[[nodiscard]] std::string help_for(const Command& command);
[[nodiscard]] std::string help_exit_codes();
[[nodiscard]] std::string bash_completion();
[[nodiscard]] std::string man_page(); ///< stead(8), roff

/// Exit codes of every program of ours. 0..4 are answers, 64 and more are errors.
namespace exit_code {
inline constexpr int ok = 0;
inline constexpr int no = 1;             ///< a clean negative answer
inline constexpr int usage = 64;         ///< the command line is wrong
inline constexpr int configuration = 65; ///< a file has errors; each is listed
inline constexpr int not_found = 66;
inline constexpr int no_daemon = 69;
inline constexpr int internal = 70;
inline constexpr int conflict = 73;
inline constexpr int io = 74;
inline constexpr int timed_out = 75;
inline constexpr int denied = 77;
inline constexpr int refused = 78;
inline constexpr int unreachable = 79; ///< a node named by -H
[[nodiscard]] int of(Errc code) noexcept;
} // namespace exit_code

} // namespace stead::control
