// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/base/time.hpp>

#include <regex.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// What <errd> asks to be watched, as plain values.
namespace stead::process {

/// A POSIX extended regular expression. Copies share the compiled form; matching is thread-safe.
class Regex {
public:
    /// Errors: malformed, with the library's words.
    [[nodiscard]] static Result<Regex> compile(const std::string& expression);
    [[nodiscard]] bool matches(const char* text) const noexcept {
        return ::regexec(compiled_.get(), text, 0, nullptr, 0) == 0;
    }

private:
    std::shared_ptr<const regex_t> compiled_;
};

/// In order of strength: of several that are due at once, the strongest is asked for.
enum class Action : std::uint8_t { none, handler, restart, stopstart, stop };

inline constexpr std::size_t command_name_max = 15; ///< what the kernel keeps of a command's name

/// One <proc>.
struct Spec {
    std::string name;                ///< command name, or systemd unit
    std::string resource;            ///< proc.<name>
    bool service{};                  ///< a systemd unit
    std::optional<Regex> name_regex; ///< matched instead of `name`
    std::optional<Regex> arg_regex;  ///< the command line, arguments joined by spaces, must match as well
    std::string class_name{"both"};
    Action action{Action::stopstart};
    std::string handler;                       ///< executable in the module's bin, for Action::handler
    std::vector<std::string> restart_services; ///< for Action::restart; none: the whole application
    std::uint32_t atleast{1};
    std::int32_t atmax{-1}; ///< -1: no upper bound
    nanoseconds start_after{0};

    /// The command that is looked for: for a service without systemd, the one named like the unit.
    [[nodiscard]] std::string_view command() const noexcept {
        const std::string_view all{name};
        constexpr std::string_view unit = ".service";
        return all.substr(0, service && all.ends_with(unit) ? all.size() - unit.size() : all.size())
            .substr(0, command_name_max);
    }
    [[nodiscard]] bool in_bounds(std::uint32_t count) const noexcept {
        return count >= atleast && (atmax < 0 || count <= static_cast<std::uint32_t>(atmax));
    }
};

struct Options {
    nanoseconds polltimer{seconds{30}};
    std::vector<Spec> specs;
};

/// "restart", "stopstart", "stop", "noaction", or the handler's name.
[[nodiscard]] std::string action_name(const Spec& spec);

} // namespace stead::process
