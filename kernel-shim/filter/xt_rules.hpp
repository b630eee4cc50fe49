// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/shim/farm_layout.h>

#include <cstdint>
#include <string>

/// The rules that bring frames to the queue: an own chain per module in the raw table (xt only: nf_tables' queue
/// statement is not in every kernel). Programs are run to add and remove them, never to look at them.
namespace stead::shim {

[[nodiscard]] Result<void> add_queue_rules(const stead_farm_config& config, std::uint8_t module_id);
void remove_queue_rules(std::uint8_t module_id);
/// Reads the raw tables by getsockopt: does PREROUTING lead to our rules, and are there as many as VIPs?
[[nodiscard]] bool queue_rules_present(const stead_farm_config& config, std::uint8_t module_id);

} // namespace stead::shim
