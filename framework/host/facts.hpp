// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "registry.hpp"
#include "rule_book.hpp"

#include <stead/base/ids.hpp>
#include <stead/base/result.hpp>
#include <stead/bus/bus.hpp>
#include <stead/config/config.hpp>
#include <stead/control/paths.hpp>
#include <stead/script/script.hpp>

#include <filesystem>
#include <string>
#include <vector>

/// What a module host knows from files.
namespace stead::host {

/// Owners of elements: the host and every loaded plugin, and the classic elements that are inactive without a plugin.
[[nodiscard]] config::SchemaSet schema_set(const Registry& registry, const control::Paths& paths);

/// All errors of a list of findings in one text, warnings left out.
[[nodiscard]] std::string errors_of(const std::vector<config::Finding>& findings);

struct Facts {
    std::string module;
    std::uint32_t module_id{};
    control::Paths paths;
    config::SchemaSet schemas;
    config::Cluster cluster;
    config::Module config;
    std::vector<config::Finding> warnings;
    RuleBook rules;
    NodeId self{};
    std::vector<std::string> keys; ///< [0] seals, all open
    std::uint64_t seed_high{}, seed_low{};

    [[nodiscard]] const std::string& node() const { return cluster.nodes[index(self)]; }
    [[nodiscard]] bool is_mirror() const noexcept { return config.mode == config::Module::Mode::mirror; }
    std::filesystem::path active; ///< folder of the configuration read: {conf,bin}

    [[nodiscard]] std::filesystem::path bin() const { return active / "bin"; }
    [[nodiscard]] script::ModuleFolders folders() const;
    [[nodiscard]] RuleFiles rule_files() const;
};

/// What the schemas cannot say: modes that no plugin serves, attributes that exclude each other.
[[nodiscard]] std::vector<config::Finding> unsupported(const config::Module& module, const Registry& registry);

/// Reads the configuration in force, or the one in the folder `active`. `network`: also the identity, the keys and the
/// seed that a bus needs.
/// Errors: the file, and what to run to make it right.
[[nodiscard]] Result<Facts> read_facts(const std::string& module, const control::Paths& paths, const Registry& registry,
                                       bool network, const std::filesystem::path& active = {});

/// cluster.key, then cluster.key.next when a rotation is under way. Errors: the file, and what is allowed.
[[nodiscard]] Result<std::vector<std::string>> read_keys(const control::Paths& paths);

/// The number of the module: of its id file, else of its configuration in force. Errors: the file, and what is allowed.
[[nodiscard]] Result<std::uint32_t> read_id(const std::string& module, const control::Paths& paths);

/// The active configuration of the module, parsed again.
[[nodiscard]] config::Checked<config::Module> read_config(const Facts& facts);

/// The bus of the module: LANs, port and timing as its service plugin wishes. Errors: the plugin's own, or an unknown
/// LAN, by name.
[[nodiscard]] Result<bus::BusOptions> bus_options(const Facts& facts, const Registry& registry);

/// heartbeat.<ident> of each LAN of a mirror's bus: the ident of its <heartbeat>, else its name.
[[nodiscard]] std::vector<std::string> heartbeat_resources(const config::Module& module,
                                                           const std::vector<bus::LanOptions>& lans);

} // namespace stead::host
