// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/script/script.hpp>

/// `stead module check`: what the hooks of a module would do, without doing it.
namespace stead::script {

struct DryRun {
    struct Hook {
        std::string name; ///< "start_both.lua", or "start_both" of a program
        std::vector<std::string> arguments;
        std::vector<std::string> lines; ///< what it would do, in order
    };
    std::vector<Hook> hooks;
    std::map<std::string, std::string> environment; ///< of shell hooks; empty when there are none
    std::vector<Error> errors;                      ///< "bin/start_both.lua:12: …"
    std::vector<Error> warnings;

    [[nodiscard]] std::string text() const; ///< the same for a person
};

/// Runs every Lua hook of the module as one life of it would (start, stop, stop by force), in a sandbox where functions
/// that change something only say what they would do, and answer as if it had worked. Shell hooks are parsed by their
/// shell, and shown their environment. All Lua files below bin/ are compiled, and their stead.NAMEs looked up.
/// Blocks for at most some seconds per hook.
[[nodiscard]] DryRun dry_run(const ModuleFolders& folders);

} // namespace stead::script
