// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/config/config.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace stead::config {

inline constexpr std::size_t elements_max = 10'000;
inline constexpr std::size_t attributes_max = 64; // of one element
inline constexpr int depth_max = 32;
inline constexpr std::size_t findings_max = 200;

/// An XML element as written, before macros and schemas.
struct Raw {
    struct Attribute {
        std::string name, value;
        int line{};
        std::string refused{}; ///< what is wrong with it, found before the schemas are asked
    };
    std::string name;
    int line{};
    std::vector<Attribute> attributes;
    std::vector<Raw> children;
    std::string text; ///< character data; two CDATA sections are parted by a line that holds a form feed
    std::vector<TextStart> text_starts; ///< one for each section
    [[nodiscard]] const Attribute* attribute(std::string_view attribute_name) const;
};

/// Gathers findings for one file.
class Report {
public:
    explicit Report(std::string_view file) : file_(file) {}
    void error(int line, std::string message) { add(false, line, std::move(message)); }
    void warning(int line, std::string message) { add(true, line, std::move(message)); }
    [[nodiscard]] std::size_t errors() const noexcept { return errors_; }
    /// In file order, at most findings_max and a line that says how many more.
    [[nodiscard]] std::vector<Finding> take();

private:
    void add(bool warning, int line, std::string message);
    std::string file_;
    std::vector<Finding> findings_;
    std::size_t dropped_{};
    std::size_t errors_{};
};

/// Well-formed UTF-8 XML within the limits, or the reasons in `report`. A DOCTYPE is skipped unread: no entity is ever
/// defined, no file or address is ever opened.
[[nodiscard]] std::optional<Raw> parse_document(std::string_view xml, Report& report);

/// Escapes for an attribute value or text.
[[nodiscard]] std::string escape(std::string_view text);

/// `text` on one line for a message: at most 80 bytes, control characters as '?'.
[[nodiscard]] std::string shown(std::string_view text);

} // namespace stead::config
