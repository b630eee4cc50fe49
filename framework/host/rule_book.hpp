// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/config/config.hpp>
#include <stead/core/rules.hpp>
#include <stead/script/rules.hpp>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace stead::host {

/// The failover rules that a module's files give; those of its checkers come when their plugins are created.
struct RuleBook {
    std::vector<rules::Rule> defaults, own;
    std::vector<script::DisabledRule> disabled;
    std::vector<config::Finding> findings;
};

struct RuleFiles {
    std::filesystem::path defaults;  ///< rules/default.lua of the install tree
    std::filesystem::path conf, bin; ///< one of them may have a rules.lua
    std::string userconfig;          ///< what findings call the file that `<failover>` stands in
};

/// Errors are findings, all of them, each with line and column. With one, the rules are not to be used.
[[nodiscard]] RuleBook read_rules(const config::Module& module, const RuleFiles& files);

/// Defaults, then those of checkers, then the module's own; a later one takes the place of an earlier one of its label,
/// and a disabled one is left out. `unknown`: what was disabled and is nowhere.
[[nodiscard]] std::vector<rules::Rule> merged(const RuleBook& book, std::span<const rules::Rule> of_checkers,
                                              std::vector<script::DisabledRule>& unknown);

/// What may differ while the module runs is nothing: the label of the first rule that does, else empty.
[[nodiscard]] std::string first_difference(const RuleBook& a, const RuleBook& b);

} // namespace stead::host
