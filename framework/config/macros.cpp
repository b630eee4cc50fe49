// SPDX-License-Identifier: Apache-2.0
#include "macros.hpp"

#include "values.hpp"

#include <algorithm>
#include <cstdlib>

namespace stead::config {

namespace {

constexpr std::size_t value_bytes_max = 64u << 10;
constexpr std::size_t expanded_bytes_max = 4u << 20; // of all values of a file

bool starts_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

/// The name in "%NAME%" at the start of `text`, or "".
std::string_view macro_name(std::string_view text) {
    if (text.size() < 3 || text[0] != '%' || !starts_name(text[1])) {
        return {};
    }
    const auto end = text.find('%', 1);
    if (end == std::string_view::npos || !is_name(text.substr(1, end - 1))) {
        return {};
    }
    return text.substr(1, end - 1);
}

} // namespace

Macros::Macros(const Raw& root, Report& report) {
    for (const auto& element : root.children) {
        if (element.name != "macro") {
            continue;
        }
        const auto* name = element.attribute("name");
        const auto* value = element.attribute("value");
        if (name == nullptr || value == nullptr) {
            report.error(element.line, "<macro> needs the attributes name and value");
            continue;
        }
        if (!is_name(name->value) || !starts_name(name->value[0])) {
            report.error(name->line, "macro/@name: '" + shown(name->value) +
                                         "' is not a macro name; allowed: a letter or '_', then letters, digits, '_', "
                                         "'.' or '-'");
            continue;
        }
        const auto [at, fresh] = macros_.insert_or_assign(name->value, Macro{value->value, value->line});
        if (!fresh) {
            report.warning(name->line, "macro '" + at->first + "' is defined twice; this, the last, is taken");
        }
    }
    for (auto& [name, macro] : macros_) {
        (void)value_of(name, "macro/@value", macro.line, report, false);
    }
}

std::optional<std::string> Macros::value_of(const std::string& name, const std::string& where, int line, Report& report,
                                            bool lenient) {
    const auto at = macros_.find(name);
    if (at == macros_.end()) {
        if (const char* value = std::getenv(name.c_str())) {
            return std::string{value};
        }
        std::vector<std::string> known;
        for (const auto& [known_name, macro] : macros_) {
            known.push_back(known_name);
        }
        std::string message = where + ": '%" + shown(name) + "%' is neither a macro nor an environment variable";
        if (const auto guess = nearest(name, known); !guess.empty()) {
            message += "; did you mean '%" + guess + "%'?";
        } else {
            message += "; define it with <macro name=\"" + shown(name) + "\" value=\"...\"/>";
        }
        lenient ? report.warning(line, std::move(message)) : report.error(line, std::move(message));
        return std::nullopt;
    }
    Macro& macro = at->second;
    if (macro.stage == Macro::Stage::open) {
        std::string way = name;
        for (auto one = std::ranges::find(open_, name); one != open_.end() && ++one != open_.end();) {
            way += " -> " + *one;
        }
        report.error(macro.line, "macro '" + name + "' contains itself: " + way + " -> " + name);
        return std::string{};
    }
    if (macro.stage == Macro::Stage::raw) {
        macro.stage = Macro::Stage::open;
        open_.push_back(name);
        macro.value = expanded(macro.value, "macro '" + name + "'", macro.line, report, false);
        open_.pop_back();
        macro.stage = Macro::Stage::done;
    }
    return macro.value;
}

std::string Macros::expanded(std::string_view text, const std::string& where, int line, Report& report, bool lenient) {
    std::string out;
    while (!text.empty()) {
        const auto name = macro_name(text);
        if (name.empty()) {
            out += text.front();
            text.remove_prefix(1);
            continue;
        }
        const auto value = value_of(std::string{name}, where, line, report, lenient);
        out += value ? *value : std::string{text.substr(0, name.size() + 2)};
        text.remove_prefix(name.size() + 2);
        if (out.size() > value_bytes_max) {
            report.error(line, where + ": longer than " + std::to_string(value_bytes_max) + " bytes after macros");
            return {};
        }
    }
    return out;
}

void Macros::expand_in(std::string& text, const std::string& where, int line, Report& report, bool lenient) {
    if (text.find('%') == std::string::npos) {
        return;
    }
    if (total_bytes_ > expanded_bytes_max) {
        return; // reported when it was passed
    }
    text = expanded(text, where, line, report, lenient);
    total_bytes_ += text.size();
    if (total_bytes_ > expanded_bytes_max) {
        report.error(line,
                     where + ": the file is longer than " + std::to_string(expanded_bytes_max) + " bytes after macros");
    }
}

std::map<std::string, std::string> Macros::values() const {
    std::map<std::string, std::string> out;
    for (const auto& [name, macro] : macros_) {
        out.emplace(name, macro.value);
    }
    return out;
}

} // namespace stead::config
