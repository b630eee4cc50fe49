// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/config/config.hpp>
#include <stead/net/net.hpp>

#include <span>
#include <vector>

namespace stead::host {

/// What is wrong with each <virtual_addr> of a service: one that no server could have, or that a server has for itself
/// (`cluster` may be null), or the network or broadcast address of a subnet here; as a warning, one in no subnet here,
/// or of a farm without a heartbeat there.
[[nodiscard]] std::vector<config::Finding> virtual_address_findings(const config::Element& service,
                                                                    const config::Cluster* cluster,
                                                                    std::span<const net::Interface> interfaces);

} // namespace stead::host
