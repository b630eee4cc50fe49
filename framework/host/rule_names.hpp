// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "rule_book.hpp"

#include <stead/config/config.hpp>
#include <stead/core/rules.hpp>

#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace stead::host {

/// One warning for each resource of a rule that nothing here is known to publish: no configured checker, no part of
/// Stead, no rule and no file in `bin` names it. A person, another program or a plugin may still publish it later, so
/// it cannot be an error; most often it is a slip, and then the rule never acts.
[[nodiscard]] std::vector<config::Finding> unpublished_names(std::span<const rules::Rule> rules,
                                                             const config::Module& module,
                                                             const config::SchemaSet& schemas,
                                                             const std::filesystem::path& bin);

/// One warning for each check that a wait rule names and that is armed only after the start: the module would never get
/// that far. `rules`: all that are in force. `file`: what findings call the file of the module.
[[nodiscard]] std::vector<config::Finding> unarmed_waits(std::span<const rules::Rule> rules,
                                                         const config::Module& module, const std::string& file);

/// One warning for each Rules.disable of a label that no rule has: no default, none of the module's own, and none that
/// a configured checker makes. Not an error: classic modules take away defaults that Stead does not have.
[[nodiscard]] std::vector<config::Finding> unknown_labels(const RuleBook& book, const config::Module& module,
                                                          const config::SchemaSet& schemas);

/// Whether `stead set` and stead.resource.set may write the resource: those of the host and of the services are
/// theirs, all but farm.gate. A checker's may be set; its next verdict replaces the value. Errors: refused, with what
/// may be set, also for what is not CLASS.NAME: no rule can name it.
[[nodiscard]] Result<void> may_be_set(std::string_view resource);

/// The same for the assignment of a rule, which may set rfs.uptodate too, as classic modules do.
[[nodiscard]] Result<void> may_assign(const rules::Rule& rule);

} // namespace stead::host
