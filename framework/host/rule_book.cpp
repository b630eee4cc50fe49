// SPDX-License-Identifier: Apache-2.0
#include "rule_book.hpp"

#include "rule_names.hpp"

#include <stead/base/files.hpp>

#include <algorithm>
#include <charconv>
#include <set>
#include <system_error>
#include <utility>

namespace stead::host {

namespace {

constexpr nanoseconds classic_hold = seconds{15};
constexpr std::string_view section_end = "\n\f\n"; // config/document.cpp writes it between CDATA sections

class Reader {
public:
    Reader(const config::Module& module, const RuleFiles& files) : module_(module), files_(files) {
        const bool mirror = module.mode == config::Module::Mode::mirror;
        dialect_ = {.remote = mirror, .swap = mirror};
    }

    RuleBook read() {
        const config::Element* failover = module_.service.child("failover");
        nanoseconds hold = classic_hold;
        if (failover != nullptr) {
            hold = nanoseconds{number(failover->attribute("handle_time"), classic_hold.count())};
        }
        if (failover == nullptr || failover->attribute("extends") != "off") {
            lua_file(files_.defaults, files_.defaults.string(), {}, book_.defaults);
        }
        if (failover != nullptr) {
            sections(*failover, hold);
        }
        module_file(hold);
        return std::move(book_);
    }

private:
    static std::int64_t number(std::optional<std::string_view> text, std::int64_t otherwise) {
        std::int64_t value = otherwise;
        if (text) {
            std::from_chars(text->data(), text->data() + text->size(), value);
        }
        return value;
    }

    void sections(const config::Element& failover, nanoseconds hold) {
        std::string_view rest = failover.text;
        for (const config::TextStart& start : failover.text_starts) {
            const std::size_t end = std::min(rest.find(section_end), rest.size());
            const std::string_view text = rest.substr(0, end);
            rest.remove_prefix(std::min(end + section_end.size(), rest.size()));
            const rules::Place place{files_.userconfig, start.line, start.column};
            if (script::is_lua_rules(text)) {
                lua(text, place, hold, book_.own);
            } else {
                auto parsed = rules::parse_rules(text, place, dialect_, hold);
                take(std::move(parsed.rules), std::move(parsed.problems), book_.own);
            }
        }
    }

    void module_file(nanoseconds hold) {
        std::error_code failed;
        const auto in_conf = files_.conf / "rules.lua", in_bin = files_.bin / "rules.lua";
        const bool conf = std::filesystem::exists(in_conf, failed), bin = std::filesystem::exists(in_bin, failed);
        if (conf && bin) {
            book_.findings.push_back({.warning = false,
                                      .file = "bin/rules.lua",
                                      .line = 0,
                                      .message = "there is conf/rules.lua too; keep one of the two"});
        } else if (conf || bin) {
            lua_file(conf ? in_conf : in_bin, conf ? "conf/rules.lua" : "bin/rules.lua", hold, book_.own);
        }
    }

    void lua_file(const std::filesystem::path& file, const std::string& shown, nanoseconds hold,
                  std::vector<rules::Rule>& into) {
        const auto text = read_file(file, rules::text_bytes_max);
        if (!text) {
            book_.findings.push_back({.warning = false, .file = shown, .line = 0, .message = text.error().what});
            return;
        }
        lua(*text, {.file = shown}, hold, into);
    }

    void lua(std::string_view text, const rules::Place& place, nanoseconds hold, std::vector<rules::Rule>& into) {
        auto loaded = script::load_lua_rules(text, place, dialect_, hold);
        std::ranges::move(loaded.disabled, std::back_inserter(book_.disabled));
        take(std::move(loaded.rules), std::move(loaded.problems), into);
    }

    void take(std::vector<rules::Rule> read, std::vector<rules::Problem> problems, std::vector<rules::Rule>& into) {
        for (rules::Problem& one : problems) {
            report(one.place, std::move(one.text));
        }
        for (rules::Rule& one : read) {
            const auto same = std::ranges::find(into, one.label, &rules::Rule::label);
            if (same != into.end()) { // of another section or file: which one was meant?
                report(one.place, "a second rule '" + one.label + "'; the first is in " + same->place.file + ":" +
                                      std::to_string(same->place.line));
            } else if (auto allowed = may_assign(one); !allowed) {
                report(one.place, "'" + one.label + "' sets " + allowed.error().text());
            } else if (into.size() >= rules::rules_max) {
                report(one.place, "more than " + std::to_string(rules::rules_max) + " rules");
                return;
            } else {
                into.push_back(std::move(one));
            }
        }
    }

    void report(const rules::Place& place, std::string text) {
        book_.findings.push_back({.warning = false,
                                  .file = place.file,
                                  .line = place.line,
                                  .message = "failover rules: " + std::move(text),
                                  .column = place.column});
    }

    const config::Module& module_;
    const RuleFiles& files_;
    rules::Dialect dialect_;
    RuleBook book_;
};

} // namespace

RuleBook read_rules(const config::Module& module, const RuleFiles& files) { return Reader(module, files).read(); }

std::vector<rules::Rule> merged(const RuleBook& book, std::span<const rules::Rule> of_checkers,
                                std::vector<script::DisabledRule>& unknown) {
    std::vector<rules::Rule> all;
    std::set<std::string, std::less<>> seen;
    for (const std::span<const rules::Rule> source :
         {std::span<const rules::Rule>{book.defaults}, of_checkers, std::span<const rules::Rule>{book.own}}) {
        for (const rules::Rule& one : source) {
            const auto same = std::ranges::find(all, one.label, &rules::Rule::label);
            if (same != all.end()) {
                *same = one;
            } else {
                all.push_back(one);
            }
            seen.insert(one.label);
        }
    }
    std::erase_if(all, [&](const rules::Rule& one) {
        return std::ranges::find(book.disabled, one.label, &script::DisabledRule::label) != book.disabled.end();
    });
    unknown.clear();
    std::ranges::copy_if(book.disabled, std::back_inserter(unknown),
                         [&](const script::DisabledRule& one) { return !seen.contains(one.label); });
    return all;
}

std::string first_difference(const RuleBook& a, const RuleBook& b) {
    for (std::size_t i = 0; i < std::max(a.own.size(), b.own.size()); ++i) {
        if (i >= a.own.size() || i >= b.own.size()) {
            return (i < a.own.size() ? a : b).own[i].label;
        }
        if (!rules::same(a.own[i], b.own[i])) {
            return a.own[i].label;
        }
    }
    const auto [left, right] = std::ranges::mismatch(a.disabled, b.disabled);
    return left != a.disabled.end() ? left->label : right != b.disabled.end() ? right->label : "";
}

} // namespace stead::host
