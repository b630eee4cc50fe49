// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
#include <string>
#include <string_view>

/// Takes secrets out of texts that leave the node in a snapshot. Pure.
namespace stead::node {

/// PASS, PWD, SECRET, TOKEN, KEY, CREDENTIAL, AUTHORIZATION or BEARER is part of the name, or AUTH a word of it, in any
/// case.
[[nodiscard]] bool is_secret_name(std::string_view name) noexcept;

/// Values of <var>, <macro> and attributes whose names are secret ones, and passwords in URLs, as written, and as
/// applications and JSON have them. XML need not be correct.
[[nodiscard]] std::set<std::string> secret_values(std::string_view xml);

/// The text without: those values wherever they stand; what follows NAME= or NAME: (or "NAME": in JSON) with a secret
/// name, to the end of the word or the quote; PW in scheme://user:PW@host and `curl -u user:PW`; private keys in PEM.
/// Each is replaced by "(removed)".
[[nodiscard]] std::string redacted(std::string text, const std::set<std::string>& secrets);

} // namespace stead::node
