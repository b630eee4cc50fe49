// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/result.hpp>
#include <stead/bus/bus.hpp>
#include <stead/config/config.hpp>
#include <stead/control/paths.hpp>

#include <string>
#include <vector>

namespace stead::node {

/// cluster.xml in force on this node, names resolved, with the node's place in it and its secrets.
struct ActiveCluster {
    config::Cluster cluster;
    NodeId self{};
    std::vector<std::string> keys;         ///< [0] in use; [1] the next one during rotation
    std::vector<config::Finding> warnings; ///< of the file

    [[nodiscard]] const std::string& name() const { return cluster.nodes[index(self)]; }
    /// Numeric addresses of a node, command LAN first.
    [[nodiscard]] std::vector<std::string> addresses_of(NodeId node) const;
    [[nodiscard]] std::vector<std::string> own_addresses() const;
    [[nodiscard]] bus::BusOptions bus_options() const;
};

[[nodiscard]] Result<std::vector<std::string>> local_addresses();
[[nodiscard]] Result<std::vector<std::string>> read_keys(const control::Paths& paths);

/// Does the table seed come from the key in use? Then a cluster whose key was rotated before may have another one.
[[nodiscard]] bool seed_is_derived(const control::Paths& paths, const std::string& key);

/// All findings of a file in one text, one per line, none at the end.
[[nodiscard]] std::string findings_text(const std::vector<config::Finding>& findings);

/// Parses, resolves, finds out who we are. `xml` from `file_name`. Errors: malformed with every finding.
[[nodiscard]] Result<ActiveCluster> check_cluster(const std::string& xml, const std::string& file_name);

/// What is in force: /var/lib/stead/cluster/cluster.xml, or at the very first start a good /etc/stead/cluster.xml,
/// which is then adopted. Errors: what is missing and what to run.
[[nodiscard]] Result<ActiveCluster> load_cluster(const control::Paths& paths);

/// Makes `xml` the one in force: key (made when there is none), seed (derived from the first key, then for ever the
/// same), cluster.xml with the names resolved kept beside it. Returns it loaded.
[[nodiscard]] Result<ActiveCluster> apply_cluster(const control::Paths& paths, const std::string& xml,
                                                  const std::string& file_name);

/// The opposite: nothing is in force any more, also after a restart, until apply_cluster. The key stays.
[[nodiscard]] Result<void> forget_cluster(const control::Paths& paths);

} // namespace stead::node
