// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/config/config.hpp>
#include <stead/net/net.hpp>

#include <span>
#include <string>
#include <vector>

namespace stead::host {

/// Adds the checks that `check="on"` asks for, where a plugin owns their elements: <check><intf> for each <interface>
/// that carries a virtual address, <check><ip> for each <virtual_addr>. One that the file has already, by its ident, is
/// not made again. Returns what could not be made, and why.
[[nodiscard]] std::vector<std::string> generate_checks(config::Module& module, const config::SchemaSet& schemas,
                                                       std::span<const net::Interface> interfaces);

} // namespace stead::host
