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

} // namespace stead::script
