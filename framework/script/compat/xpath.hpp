// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace tinyxml2 {
class XMLDocument;
}

namespace stead::script {

/// The part of XPath 1.0 that scripts of modules use: absolute and `//` paths of element names, `*`, `.`,
/// `[@name='x']`, `[@name]`, `[child='x']`, `[N]` (several may follow each other), at the end `@name`, `@*` or
/// `text()`; and count(PATH), string(PATH) around it. One text per node found: an attribute's value, or the text
/// content of an element. Errors: malformed, with what is not understood.
[[nodiscard]] Result<std::vector<std::string>> xpath(const tinyxml2::XMLDocument& document, std::string_view path);

} // namespace stead::script
