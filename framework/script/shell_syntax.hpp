// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/script/script.hpp>

#include <optional>

namespace stead::script {

struct ShellSyntax {
    std::string interpreter;    ///< that of its first line, "bash"; sh when there is none, "this machine"
    bool parsed{};              ///< by `SHELL -n`; otherwise it is no shell that can do so
    std::optional<Error> error; ///< "bin/start_both:12: …", as the shell says it
};

/// Lets its shell parse a script, which is not run. `place`: its name for people. Blocks for some milliseconds, at most
/// five seconds; any thread.
[[nodiscard]] ShellSyntax shell_syntax(const std::filesystem::path& file, const std::string& place,
                                       const ModuleFolders& folders);

/// The last command of a shell script when that is a lone test with consequences, `[ $res -ne 0 ] && { …; }`, on one
/// line or several, none of which is an exit or return: such a script exits 1 when all is well. Else empty; also where
/// another line may be what exits 1: an exit with anything but 0, or set -e.
[[nodiscard]] std::string lone_test_at_end(const std::filesystem::path& file);

} // namespace stead::script
