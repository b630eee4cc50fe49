// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "document.hpp"

#include <map>

namespace stead::config {

/// `%NAME%`: a macro, else an environment variable. Values of macros may hold macros; the result is not read again.
class Macros {
public:
    /// Reads the <macro> children of `root`; what is wrong with them goes to `report`.
    Macros(const Raw& root, Report& report);

    /// Expands all attribute values and texts below `element`. Names that are not defined are errors, or warnings where
    /// `inactive` holds for the element or one above it.
    template <class Inactive>
    void expand(Raw& element, Report& report, const Inactive& inactive, bool lenient = false) {
        lenient = lenient || inactive(element);
        for (auto& attribute : element.attributes) {
            expand_in(attribute.value, element.name + "/@" + attribute.name, attribute.line, report, lenient);
        }
        if (!element.text.empty()) {
            expand_in(element.text, "text of <" + element.name + ">", element.line, report, lenient);
        }
        for (auto& child : element.children) {
            expand(child, report, inactive, lenient);
        }
    }

    [[nodiscard]] std::map<std::string, std::string> values() const;

private:
    struct Macro {
        std::string value;
        int line{};
        enum class Stage { raw, open, done } stage{Stage::raw};
    };
    void expand_in(std::string& text, const std::string& where, int line, Report& report, bool lenient);
    std::string expanded(std::string_view text, const std::string& where, int line, Report& report, bool lenient);
    std::optional<std::string> value_of(const std::string& name, const std::string& where, int line, Report& report,
                                        bool lenient);
    std::map<std::string, Macro> macros_;
    std::vector<std::string> open_; ///< being expanded, one within the other
    std::size_t total_bytes_{};
};

} // namespace stead::config
