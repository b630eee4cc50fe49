// SPDX-License-Identifier: Apache-2.0
// The classic language, by recursive descent. The kinds of words depend on where they stand (a label ends at a colon, a
// resource such as ip.2001:db8::50 does not), so there is no token stream: each place scans what it allows.
//
//     rules      = { label ":" "if" expression "then" action ";" }
//     action     = word [ "(" ")" ] | resource "=" verdict
//     expression = both { "||" both }        both = one { "&&" one }
//     one        = "(" expression ")" | "!" one | "cluster" "(" ")" | resource ( "==" | "!=" ) verdict
//     resource   = [ "local." | "remote." ] class "." ( id | "?" | "*" )
//
// White space and comments, "// ..." and "/* ... */", may stand between words.
#include <stead/core/rules.hpp>

#include <algorithm>
#include <optional>

namespace stead::rules {

namespace {

using Kind = Expression::Node::Kind;

constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr std::string_view digits = "0123456789";

bool among(char c, std::string_view set) noexcept { return set.find(c) != std::string_view::npos; }
bool word_char(char c) noexcept { return among(c, letters) || among(c, digits) || c == '_'; }
bool label_char(char c) noexcept { return word_char(c) || c == '-' || c == '.'; }
bool subject_char(char c) noexcept { return label_char(c) || among(c, ":%?*@/"); }

class Parser {
public:
    Parser(std::string_view text, const Place& start, const Dialect& dialect) : text_(text), dialect_(dialect) {
        place_ = start;
    }

    Parsed rules(nanoseconds hold) {
        Parsed parsed;
        if (text_.size() > text_bytes_max) {
            problem(place_,
                    std::to_string(text_.size()) + " bytes of rules; allowed: " + std::to_string(text_bytes_max));
        } else {
            for (skip(); !ended() && problems_.size() < problems_max; skip()) {
                auto one = rule(hold);
                if (!one) {
                    resume();
                } else if (add(parsed.rules, std::move(*one))) {
                    continue;
                }
            }
        }
        parsed.problems = std::move(problems_);
        return parsed;
    }

    ParsedExpression expression_alone() {
        ParsedExpression parsed;
        if (expression(0)) {
            skip();
            if (!ended()) {
                expected("&&, ||, or the end of the expression");
            }
        }
        parsed.expression = std::move(expression_);
        parsed.problems = std::move(problems_);
        return parsed;
    }

private:
    // ---- Scanning

    [[nodiscard]] bool ended() const noexcept { return at_ >= text_.size(); }
    [[nodiscard]] char now() const noexcept { return ended() ? '\0' : text_[at_]; }
    [[nodiscard]] bool comes(std::string_view what) const noexcept { return text_.substr(at_).starts_with(what); }

    void next() noexcept {
        const auto byte = static_cast<unsigned char>(text_[at_++]);
        if (byte == '\n') {
            ++place_.line;
            place_.column = 1;
        } else if (ended() || (static_cast<unsigned char>(text_[at_]) & 0xC0U) != 0x80U) {
            ++place_.column; // once for each character of UTF-8
        }
    }

    void skip() {
        while (!ended()) {
            if (among(now(), " \t\r\n\f")) {
                next();
            } else if (comes("//")) {
                while (!ended() && now() != '\n') {
                    next();
                }
            } else if (comes("/*")) {
                comment();
            } else {
                return;
            }
        }
    }

    void comment() {
        const Place begin = place_;
        while (!ended() && !comes("*/")) {
            next();
        }
        if (ended()) {
            problem(begin, "a comment does not end: '*/' is missing");
            return;
        }
        next();
        next();
    }

    [[nodiscard]] bool accept(std::string_view what) {
        skip();
        if (!comes(what)) {
            return false;
        }
        for (std::size_t i = 0; i < what.size(); ++i) {
            next();
        }
        return true;
    }

    [[nodiscard]] bool accept_word(std::string_view word) {
        skip();
        const auto rest = text_.substr(at_);
        if (!rest.starts_with(word) || (rest.size() > word.size() && word_char(rest[word.size()]))) {
            return false;
        }
        return accept(word);
    }

    template <class Belongs>
    [[nodiscard]] std::string_view take(Belongs belongs) {
        skip();
        const std::size_t begin = at_;
        while (!ended() && belongs(now()) && !comes("//") && !comes("/*")) {
            next();
        }
        return text_.substr(begin, at_ - begin);
    }

    // ---- Problems

    bool problem(const Place& place, std::string text) {
        if (problems_.size() < problems_max) {
            problems_.push_back({place, std::move(text)});
        }
        return false;
    }

    /// What stands here instead of what may: a word, or one character.
    bool expected(const std::string& allowed) {
        skip();
        std::string found = "the end of the text";
        if (!ended()) {
            const auto rest = text_.substr(at_);
            std::size_t size = 0;
            while (size < rest.size() && size < 40 && label_char(rest[size])) {
                ++size;
            }
            for (size = std::max<std::size_t>(size, 1);
                 size < rest.size() && (static_cast<unsigned char>(rest[size]) & 0xC0U) == 0x80U; ++size) {
            }
            found = "'" + std::string{rest.substr(0, size)} + "'";
        }
        return problem(place_, "found " + found + "; allowed: " + allowed);
    }

    /// After a problem: behind the next semicolon, where the next rule begins.
    void resume() {
        for (skip(); !ended(); skip()) {
            const bool end = now() == ';';
            next();
            if (end) {
                return;
            }
        }
    }

    // ---- Grammar

    std::optional<Rule> rule(nanoseconds hold) {
        Rule one;
        one.place = place_;
        one.hold = hold;
        const auto label = take(label_char);
        if (!is_label(label)) {
            label.empty() ? expected("a label, such as web_down")
                          : problem(one.place, "a label of " + std::to_string(label.size()) +
                                                   " characters; allowed: " + std::to_string(label_bytes_max));
            return std::nullopt;
        }
        one.label = label;
        if (!(accept(":") || expected("':' after the label")) || !(accept_word("if") || expected("if"))) {
            return std::nullopt;
        }
        if (!expression(0) || !(accept_word("then") || expected("&&, ||, or then"))) {
            return std::nullopt;
        }
        if (!action(one) || !(accept(";") || expected("';' at the end of the rule"))) {
            return std::nullopt;
        }
        one.when = std::move(expression_);
        return one;
    }

    bool add(std::vector<Rule>& rules, Rule&& one) {
        const auto same = std::ranges::find(rules, one.label, &Rule::label);
        if (same != rules.end()) {
            return problem(one.place, "a second rule '" + one.label + "'; the first is in line " +
                                          std::to_string(same->place.line));
        }
        if (rules.size() >= rules_max) {
            return problem(one.place, "more than " + std::to_string(rules_max) + " rules");
        }
        rules.push_back(std::move(one));
        return true;
    }

    bool action(Rule& one) {
        skip();
        const Place place = place_;
        const auto word = take(subject_char);
        if (word.empty()) {
            return expected("an action: stop(), stopstart(), wait(), restart()");
        }
        if (word.find('.') != std::string_view::npos) {
            const auto target = subject(word, place);
            if (!target || target->remote || target->which != Subject::Which::named) {
                return target && problem(place, "'" + std::string{word} + "' cannot be set; allowed: class.id");
            }
            one.action = Action::assign;
            one.target = target->kind + "." + target->id;
            return (accept("=") || expected("'=' and a state")) && verdict(one.value);
        }
        const ParsedAction parsed = parse_action(word, dialect_);
        if (!parsed.problem.empty()) {
            return problem(place, parsed.problem);
        }
        one.action = parsed.action;
        return !accept("(") || accept(")") || expected("')': an action takes no argument");
    }

    std::optional<std::uint32_t> expression(int depth) {
        if (depth == 0) {
            expression_ = {};
        }
        return chain("||", Kind::disjunction, depth, &Parser::both);
    }
    std::optional<std::uint32_t> both(int depth) { return chain("&&", Kind::conjunction, depth, &Parser::one); }

    std::optional<std::uint32_t> chain(std::string_view op, Kind kind, int depth,
                                       std::optional<std::uint32_t> (Parser::*operand)(int)) {
        auto left = (this->*operand)(depth);
        while (left && accept(op)) {
            const auto right = (this->*operand)(depth);
            left = right ? node({kind, *left, *right}) : std::nullopt;
        }
        return left;
    }

    std::optional<std::uint32_t> one(int depth) {
        skip();
        if (depth >= depth_max) {
            problem(place_, "more than " + std::to_string(depth_max) + " parentheses or negations in one another");
            return std::nullopt;
        }
        if (accept("(")) {
            const auto inner = expression(depth + 1);
            return inner && (accept(")") || expected("&&, ||, or ')'")) ? inner : std::nullopt;
        }
        if (now() == '!' && !comes("!=")) {
            next();
            const auto inner = one(depth + 1);
            return inner ? node({Kind::negation, *inner, 0}) : std::nullopt;
        }
        return condition();
    }

    std::optional<std::uint32_t> condition() {
        const Place place = place_;
        const auto word = take(subject_char);
        if (word.empty()) {
            expected("a resource such as tcp.web80, '!', or '('");
            return std::nullopt;
        }
        if (word == "cluster") {
            return accept("(") && accept(")") ? node({Kind::cluster, 0, 0})
                                              : (expected("'()' after cluster"), std::nullopt);
        }
        auto what = subject(word, place);
        if (!what) {
            return std::nullopt;
        }
        Condition one{.subject = std::move(*what),
                      .verdict = {},
                      .equal = accept("=="),
                      .line = place.line,
                      .column = place.column};
        if (!one.equal && !accept("!=")) {
            expected("== or !=");
            return std::nullopt;
        }
        if (!verdict(one.verdict)) {
            return std::nullopt;
        }
        expression_.conditions.push_back(std::move(one));
        return node({Kind::condition, static_cast<std::uint32_t>(expression_.conditions.size() - 1), 0});
    }

    bool verdict(Verdict& out) {
        skip();
        const Place place = place_;
        const auto word = take(label_char);
        if (word.empty()) {
            return expected("a state: init, down, up, unknown");
        }
        out = verdict_of(word);
        return word == name(out) ||
               problem(place, "found '" + std::string{word} + "'; allowed: init, down, up, unknown");
    }

    std::optional<Subject> subject(std::string_view word, const Place& place) {
        Subject one;
        std::string_view rest = word;
        for (const std::string_view side : {"local.", "remote."}) {
            // "state.local" and "local.x.y" are told apart by the second dot.
            if (rest.starts_with(side) && rest.find('.', side.size()) != std::string_view::npos) {
                one.remote = side == "remote.";
                rest.remove_prefix(side.size());
                break;
            }
        }
        const std::size_t dot = rest.find('.');
        const auto kind = rest.substr(0, dot);
        const auto id = dot == std::string_view::npos ? std::string_view{} : rest.substr(dot + 1);
        if (kind.empty() || id.empty() || !std::ranges::all_of(kind, [](char c) { return word_char(c) || c == '-'; })) {
            problem(place, "found '" + std::string{word} + "'; allowed: a resource class.id, class.? or class.*");
            return std::nullopt;
        }
        if (one.remote && !dialect_.remote) {
            problem(place, "'" + std::string{word} +
                               "': a rule of this module sees the resources of its own node "
                               "only; allowed: " +
                               std::string{rest});
            return std::nullopt;
        }
        one.which = id == "?" ? Subject::Which::any : id == "*" ? Subject::Which::all : Subject::Which::named;
        if (one.which == Subject::Which::named && id.find_first_of("?*") != std::string_view::npos) {
            problem(place, "'" + std::string{word} + "': a wildcard stands for the whole id; allowed: " +
                               std::string{kind} + ".? (any of them) or " + std::string{kind} + ".* (all of them)");
            return std::nullopt;
        }
        one.kind = kind;
        one.id = one.which == Subject::Which::named ? id : std::string_view{};
        return one;
    }

    std::optional<std::uint32_t> node(Expression::Node added) {
        if (expression_.nodes.size() >= nodes_max) {
            problem(place_, "an expression of more than " + std::to_string(nodes_max) + " conditions and operators");
            return std::nullopt;
        }
        expression_.nodes.push_back(added);
        return static_cast<std::uint32_t>(expression_.nodes.size() - 1);
    }

    std::string_view text_;
    std::size_t at_{};
    Place place_;
    Dialect dialect_;
    Expression expression_; // the one being parsed
    std::vector<Problem> problems_;
};

} // namespace

Parsed parse_rules(std::string_view text, const Place& start, const Dialect& dialect, nanoseconds hold) {
    return Parser(text, start, dialect).rules(hold);
}

ParsedExpression parse_expression(std::string_view text, const Place& start, const Dialect& dialect) {
    if (text.size() > text_bytes_max) {
        return {{}, {{start, "an expression of " + std::to_string(text.size()) + " bytes"}}};
    }
    return Parser(text, start, dialect).expression_alone();
}

} // namespace stead::rules
