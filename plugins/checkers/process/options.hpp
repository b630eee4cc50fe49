// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/plugin.hpp>
#include <stead/process/spec.hpp>

#include <functional>
#include <string>

namespace stead::process {

using Finding = std::function<void(std::uint32_t line, bool warning, const std::string& text)>;

/// <errd> as plain values. `service` holds the elements of this plugin; without <errd> nothing is watched. What a user
/// wrote wrongly goes to `finding`; that <proc> is left out.
[[nodiscard]] Options read_options(const plugin::Config& service, const Finding& finding);

} // namespace stead::process
