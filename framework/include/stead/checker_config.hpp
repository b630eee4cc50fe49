// SPDX-License-Identifier: Apache-2.0
//
// The configuration of checkers: attributes that they share, for schemas, and what is read from them. Part of
// checker.hpp.
#pragma once

#include <stead/plugin.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace stead::checker {

/// One check as it is configured.
struct Spec {
    std::string ident;       ///< unique among the checks of one plugin
    std::string resource;    ///< "tcp.web80"
    std::string rule;        ///< in the classic language; empty = none
    std::string fingerprint; ///< equal = not changed by an update
    std::uint32_t when{};    ///< STEAD_WHEN_*: armed while one of them is
    std::uint32_t line{};
    std::chrono::nanoseconds interval{std::chrono::seconds{10}};
    std::chrono::nanoseconds timeout{std::chrono::seconds{5}};
    unsigned rise{1}, fall{1}; ///< results in a row that change the verdict
};

/// The attribute of the element, else of its child <to>.
[[nodiscard]] inline std::optional<std::string_view> attribute_of(plugin::Config element, std::string_view attribute) {
    if (const auto own = element.attribute(attribute)) {
        return own;
    }
    const auto to = element.child("to");
    return to ? to->attribute(attribute) : std::nullopt;
}

/// The classes named in `when`; 0 = none of them.
[[nodiscard]] constexpr std::uint32_t classes_of(std::string_view when) noexcept {
    return when == "pre"      ? STEAD_WHEN_PRE
           : when == "both"   ? STEAD_WHEN_BOTH
           : when == "prim"   ? STEAD_WHEN_PRIM
           : when == "second" ? STEAD_WHEN_SECOND
           : when == "sec"    ? STEAD_WHEN_SEC
                              : 0;
}

/// Everything that the element says, as one text.
[[nodiscard]] inline std::string fingerprint_of(plugin::Config element) {
    std::string text = "<" + std::string{element.name()};
    for (const stead_xml_attr& attribute : std::span(element.c()->attrs, element.c()->attr_count)) {
        text += " " + std::string{plugin::to_view(attribute.name)} + "=\"" +
                std::string{plugin::to_view(attribute.value)} + "\"";
    }
    text += ">" + std::string{element.text()};
    for (const plugin::Config& child : element.children()) {
        text += fingerprint_of(child);
    }
    return text + "</>";
}

/// "t_web: if (tcp.web == down) then restart();"; no text for the action "noaction".
[[nodiscard]] inline std::string rule_of(std::string_view label, std::string_view ident, std::string_view resource,
                                         std::string_view action) {
    if (action.empty() || action == "noaction") {
        return {};
    }
    return std::string{label} + std::string{ident} + ": if (" + std::string{resource} + " == down) then " +
           std::string{action} + "();";
}

/// The elements of a path such as "check/tcp".
[[nodiscard]] inline std::vector<plugin::Config> elements_of(plugin::Config service, std::string_view path) {
    std::vector<plugin::Config> found{service};
    while (!path.empty()) {
        const std::string_view step = path.substr(0, path.find('/'));
        path.remove_prefix(std::min(step.size() + 1, path.size()));
        std::vector<plugin::Config> below;
        for (const plugin::Config& element : found) {
            const auto children = element.children(step);
            below.insert(below.end(), children.begin(), children.end());
        }
        found = std::move(below);
    }
    return found;
}

/// An element read in the usual way. `label`: of its rule; empty = none. Throws std::invalid_argument.
[[nodiscard]] inline Spec read_spec(plugin::Config element, std::string_view ident, std::string_view label) {
    Spec spec;
    spec.line = element.line();
    spec.ident = ident;
    spec.resource = std::string{element.name()} + "." + spec.ident;
    spec.fingerprint = fingerprint_of(element);
    const std::string when{attribute_of(element, "when").value_or("pre")};
    spec.when = classes_of(when);
    if (spec.when == 0) {
        throw std::invalid_argument(spec.resource + ": when '" + when +
                                    "' is no class; allowed: pre, prim, second, sec, both");
    }
    const auto number = [&](const char* attribute, auto& value, auto convert) {
        if (const auto text = attribute_of(element, attribute)) {
            value = convert(std::strtoll(std::string{*text}.c_str(), nullptr, 10)); // the host has checked it
        }
    };
    const auto count = [](long long n) { return static_cast<unsigned>(std::max(n, 1LL)); };
    const auto time = [](long long n) { return std::chrono::nanoseconds{std::max(n, 1'000'000LL)}; };
    number("interval", spec.interval, time);
    number("timeout", spec.timeout, time);
    number("rise", spec.rise, count);
    number("fall", spec.fall, count);
    if (!label.empty()) {
        const auto action = attribute_of(element, "action");
        // Before the scripts have run there is nothing to restart: one waits.
        spec.rule = rule_of(label, spec.ident, spec.resource,
                            action                        ? *action
                            : spec.when == STEAD_WHEN_PRE ? "wait"
                                                          : "restart");
    }
    return spec;
}

/// Attributes that checkers share; write those that yours has into its array of stead_attr_schema.
namespace attribute {

inline constexpr std::uint32_t dynamic = STEAD_ATTR_DYNAMIC;
inline constexpr std::int64_t second = 1'000'000'000;

constexpr stead_attr_schema ident(const char* help) {
    return {"ident", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED | dynamic, nullptr, nullptr, nullptr, 0, 0, help};
}
constexpr stead_attr_schema when(const char* default_value, const char* choices = "pre|prim|second|sec|both") {
    return {"when",
            STEAD_TYPE_CHOICE,
            dynamic,
            default_value,
            choices,
            nullptr,
            0,
            0,
            "between which scripts it probes: pre: prestart and poststop; X: start_X and stop_X"};
}
/// No default in the schema: wait with when="pre", else restart.
constexpr stead_attr_schema action(const char* default_value = nullptr) {
    return {"action",
            STEAD_TYPE_CHOICE,
            dynamic,
            default_value,
            "restart|stopstart|stop|wait|swap|noaction",
            nullptr,
            0,
            0,
            default_value != nullptr
                ? "what its rule does when it is down"
                : "what its rule does when it is down; none given: wait if when is pre, else restart"};
}
constexpr stead_attr_schema interval(const char* default_value = "10s") {
    return {"interval",      STEAD_TYPE_DURATION,  dynamic, default_value, nullptr, "s", second,
            86'400 * second, "time between probes"};
}
constexpr stead_attr_schema timeout(const char* default_value = "5s") {
    return {"timeout",
            STEAD_TYPE_DURATION,
            dynamic,
            default_value,
            nullptr,
            "s",
            second,
            3'600 * second,
            "a probe without an answer after it has failed"};
}
constexpr stead_attr_schema rise() {
    return {
        "rise", STEAD_TYPE_INTEGER, dynamic, "1", nullptr, nullptr, 1, 1000, "good probes in a row that make it up"};
}
constexpr stead_attr_schema fall() {
    return {
        "fall", STEAD_TYPE_INTEGER, dynamic, "1", nullptr, nullptr, 1, 1000, "bad probes in a row that make it down"};
}
constexpr stead_attr_schema text(const char* name, const char* default_value, const char* help,
                                 std::uint32_t flags = 0) {
    return {name, STEAD_TYPE_STRING, flags | dynamic, default_value, nullptr, nullptr, 0, 0, help};
}

constexpr stead_attr_schema flag(const char* name, const char* default_value, const char* help) {
    return {name, STEAD_TYPE_BOOLEAN, dynamic, default_value, nullptr, nullptr, 0, 0, help};
}

} // namespace attribute

/// An element that may stand several times and that `stead update` may add, change and remove.
template <std::size_t N>
constexpr stead_elem_schema element(const char* path, const stead_attr_schema (&attributes)[N], const char* help,
                                    std::uint32_t flags = STEAD_ELEM_REPEATABLE) {
    return {path, nullptr, flags | STEAD_ELEM_DYNAMIC, N, attributes, help};
}

} // namespace stead::checker
