// SPDX-License-Identifier: Apache-2.0
#include "kill.hpp"

#include <stead/process/scanner.hpp>

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace stead::process {
namespace {

constexpr std::uint32_t killed_max = 4096;

} // namespace

Result<KillWish> KillWish::parse(std::span<const std::string_view> arguments) {
    KillWish wish;
    bool level = false;
    for (const std::string_view argument : arguments) {
        const auto equals = std::min(argument.find('='), argument.size());
        const std::string_view option = argument.substr(0, equals);
        const std::string value{argument.substr(std::min(equals + 1, argument.size()))};
        if (option == "-name") {
            wish.spec.name = value;
        } else if (option == "-argregex") {
            auto regex = Regex::compile(value);
            if (!regex) {
                return regex.error();
            }
            wish.spec.arg_regex = *regex;
        } else if (option == "-level") {
            level = value == "test" || value == "terminate" || value == "9" || value == "15";
            wish.signal = value == "9" ? SIGKILL : value == "test" ? 0 : SIGTERM;
            if (!level) {
                return Error{Errc::out_of_range, "-level", "'" + value + "'; allowed: test, terminate, 9, 15"};
            }
        } else {
            return Error{Errc::malformed, "kill",
                         "'" + std::string{argument} +
                             "'; allowed: -name=NAME -argregex=EXPRESSION -level=test|terminate|9|15"};
        }
    }
    if (wish.spec.name.empty() || !level) {
        return Error{Errc::malformed, "kill", "-name=NAME and -level=test|terminate|9|15 are needed"};
    }
    wish.spec.atleast = killed_max; // so many are found
    return wish;
}

Result<std::string> perform_kill(const KillWish& wish) {
    Scanner scanner{std::span(&wish.spec, 1)};
    std::vector<Found> found(1);
    if (auto scanned = scanner.scan({true}, found); !scanned) {
        return scanned.error();
    }
    std::string text;
    for (const pid_t pid : found[0].pids) {
        if (pid == ::getpid() || pid == ::getppid() || pid == 1) {
            continue;
        }
        const bool sent = wish.signal == 0 || ::kill(pid, wish.signal) == 0;
        text += (text.empty() ? "" : "\n") + std::to_string(pid) +
                (wish.signal == 0 ? " found"
                 : sent           ? " signalled"
                                  : std::string{": "} + ::strerror(errno));
    }
    return text.empty() ? "no process fits" : text;
}

} // namespace stead::process
