// SPDX-License-Identifier: Apache-2.0
// Rules in Lua: a state that knows Rules, if_then and Action, and nothing that reaches out of it. What is wrong is
// gathered, not raised, so that one run tells all; only Lua's own errors end it.
#include "environment.hpp"

#include <stead/script/rules.hpp>

#include <lua.hpp>

#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include <sys/resource.h>
#include <unistd.h>

namespace stead::script {

namespace {

using rules::Place;

constexpr int instructions_between_checks = 1000;
constexpr int lines_of_a_call_max = 20;
constexpr std::size_t drafts_max = 2 * rules::rules_max; // if_then calls, labelled or not
constexpr nanoseconds run_max = seconds{2};              // of processor time: ten times what the instructions take

std::string text_at(lua_State* L, int index) {
    std::size_t size = 0;
    const char* text = lua_tolstring(L, index, &size);
    return text != nullptr ? std::string{text, size} : std::string{};
}

std::string shown(lua_State* L, int index) {
    return lua_type(L, index) == LUA_TSTRING ? "'" + text_at(L, index) + "'" : luaL_typename(L, index);
}

class Loader {
public:
    Loader(std::string_view text, const Place& start, const rules::Dialect& dialect, nanoseconds hold)
        : text_(text), start_(start), dialect_(dialect), hold_(hold) {}

    LuaRules load() {
        if (text_.size() > rules::text_bytes_max) {
            problem(start_, std::to_string(text_.size()) +
                                " bytes of rules; allowed: " + std::to_string(rules::text_bytes_max));
        } else if (const std::unique_ptr<lua_State, decltype(&lua_close)> state(lua_newstate(allocate, this),
                                                                                lua_close);
                   state != nullptr) {
            *static_cast<Loader**>(lua_getextraspace(state.get())) = this;
            run(state.get());
        }
        std::ranges::stable_sort(out_.rules, [](const rules::Rule& a, const rules::Rule& b) {
            return std::pair(a.place.line, a.label) < std::pair(b.place.line, b.label);
        });
        return std::move(out_);
    }

private:
    static Loader& of(lua_State* L) { return **static_cast<Loader**>(lua_getextraspace(L)); }

    // ---- The state and its limits

    static void* allocate(void* self, void* block, std::size_t old_size, std::size_t new_size) {
        Loader& loader = *static_cast<Loader*>(self);
        const std::size_t before = block != nullptr ? old_size : 0;
        if (new_size > before && loader.used_bytes_ - before + new_size > rules_memory_bytes) {
            return nullptr;
        }
        void* moved = nullptr;
        if (new_size == 0) {
            std::free(block);
        } else if (moved = std::realloc(block, new_size); moved == nullptr) {
            return nullptr;
        }
        loader.used_bytes_ += new_size - before;
        return moved;
    }

    static void count(lua_State* L, lua_Debug*) {
        if ((of(L).instructions_ += instructions_between_checks) > rules_instructions_max) {
            luaL_error(L, "more than %d million instructions", static_cast<int>(rules_instructions_max / 1'000'000));
        }
    }

    void run(lua_State* L) {
        lua_pushcfunction(L, open);
        int status = lua_pcall(L, 0, 0, 0);
        if (status == LUA_OK) {
            status = luaL_loadbufferx(L, text_.data(), text_.size(), "=rules", "t");
        }
        if (status == LUA_OK) {
            lua_sethook(L, count, LUA_MASKCOUNT, instructions_between_checks);
            status = lua_pcall(L, 0, 0, 0);
            lua_sethook(L, nullptr, 0, 0);
        }
        if (status != LUA_OK) {
            raised(status == LUA_ERRMEM ? "rules: more than 16 MiB of memory"
                   : lua_isstring(L, -1) != 0
                       ? text_at(L, -1)
                       : std::string{"raised an error that is no text, but a "} + luaL_typename(L, -1));
        } else if (lua_getglobal(L, "Rules") != LUA_TTABLE || lua_topointer(L, -1) != rules_table_) {
            problem(start_, "Rules was replaced; allowed: Rules = Rules + { ... }");
        }
    }

    /// No way out: no files, no modules, no bytecode, no finalizers, and nothing that survives the limits.
    static int open(lua_State* L) {
        const luaL_Reg libraries[] = {{LUA_GNAME, luaopen_base},
                                      {LUA_STRLIBNAME, luaopen_string},
                                      {LUA_TABLIBNAME, luaopen_table},
                                      {LUA_MATHLIBNAME, luaopen_math},
                                      {LUA_UTF8LIBNAME, luaopen_utf8}};
        for (const luaL_Reg& library : libraries) {
            luaL_requiref(L, library.name, library.func, 1);
            lua_pop(L, 1);
        }
        for (const char* name : {"dofile", "loadfile", "load", "require", "collectgarbage", "warn", "print", "pcall",
                                 "xpcall", "setmetatable", "getmetatable"}) {
            lua_pushnil(L);
            lua_setglobal(L, name);
        }
        lua_pushcfunction(L, if_then);
        lua_setglobal(L, "if_then");
        open_actions(L);
        open_rules(L);
        return 0;
    }

    static void open_actions(lua_State* L) {
        lua_newtable(L);
        for (const rules::Action action : {rules::Action::stop, rules::Action::stopstart, rules::Action::wait,
                                           rules::Action::restart, rules::Action::swap}) {
            const std::string name{rules::name(action)};
            lua_pushlstring(L, name.data(), name.size());
            lua_setfield(L, -2, name.c_str());
        }
        lua_pushcfunction(L, assignment);
        lua_setfield(L, -2, "set");
        lua_newtable(L);
        lua_pushcfunction(L, no_such_action);
        lua_setfield(L, -2, "__index");
        lua_setmetatable(L, -2);
        lua_setglobal(L, "Action");
    }

    static void open_rules(lua_State* L) {
        lua_newtable(L);
        of(L).rules_table_ = lua_topointer(L, -1);
        lua_newtable(L);
        lua_pushcfunction(L, add_rules);
        lua_setfield(L, -2, "__add");
        lua_pushcfunction(L, add_one);
        lua_setfield(L, -2, "__newindex");
        lua_newtable(L);
        lua_pushcfunction(L, disable);
        lua_setfield(L, -2, "disable");
        lua_setfield(L, -2, "__index");
        lua_setmetatable(L, -2);
        lua_setglobal(L, "Rules");
    }

    // ---- Places and problems

    void problem(const Place& place, std::string text) {
        const bool again = !out_.problems.empty() && out_.problems.back().text == text &&
                           out_.problems.back().place.line == place.line; // a loop
        if (out_.problems.size() < rules::problems_max && !again) {
            out_.problems.push_back({place, std::move(text)});
        }
    }

    [[nodiscard]] std::string_view line(int number) const {
        std::string_view rest = text_;
        for (int i = 1; i < number && !rest.empty(); ++i) {
            rest.remove_prefix(std::min(rest.find('\n'), rest.size() - 1) + 1);
        }
        return rest.substr(0, rest.find('\n'));
    }

    /// The place of byte `column` (from 0) of line `number` (from 1) of the text.
    [[nodiscard]] Place place(int number, std::size_t column) const {
        const auto before = line(number).substr(0, column);
        const auto characters =
            std::ranges::count_if(before, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
        return {start_.file, start_.line + number - 1,
                static_cast<int>(characters) + (number == 1 ? start_.column : 1)};
    }
    [[nodiscard]] Place beginning(int number) const {
        const std::size_t first = line(number).find_first_not_of(" \t");
        return place(number, first == std::string_view::npos ? 0 : first);
    }

    static int current_line(lua_State* L) {
        lua_Debug at{};
        return lua_getstack(L, 1, &at) != 0 && lua_getinfo(L, "l", &at) != 0 ? std::max(at.currentline, 1) : 1;
    }

    /// Where the running call has this literal; else where its line begins.
    [[nodiscard]] Place literal(lua_State* L, const std::string& text) const {
        const int first = current_line(L);
        for (int number = first; number < first + lines_of_a_call_max; ++number) {
            for (const char quote : {'"', '\''}) {
                const std::size_t at = line(number).find(quote + text + quote);
                if (at != std::string_view::npos) {
                    return place(number, at + 1);
                }
            }
        }
        return beginning(first);
    }

    /// Lua's own error, "rules:12: text", with the column of what it is near to.
    void raised(std::string_view text) {
        constexpr std::string_view chunk = "rules:", near = "near '";
        int number = 1;
        if (text.starts_with(chunk)) {
            const char* end = text.data() + text.size();
            const auto parsed = std::from_chars(text.data() + chunk.size(), end, number);
            text.remove_prefix(parsed.ec == std::errc{} ? static_cast<std::size_t>(parsed.ptr - text.data())
                                                        : chunk.size());
            text.remove_prefix(std::min(text.find_first_not_of(": "), text.size()));
        }
        Place where = beginning(number);
        if (const std::size_t at = text.rfind(near); at != std::string_view::npos) {
            const auto token = text.substr(at + near.size(), text.rfind('\'') - at - near.size());
            if (const std::size_t column = line(number).find(token); column != std::string_view::npos) {
                where = place(number, column);
            }
        }
        problem(where, std::string{text});
    }

    void take_problems(std::vector<rules::Problem> found) {
        for (rules::Problem& one : found) {
            problem(one.place, std::move(one.text));
        }
    }

    // ---- if_then(resource, state, action), if_then(expression, action), each with a table of options at the end

    static int if_then(lua_State* L) {
        Loader& self = of(L);
        const int given = lua_gettop(L);
        const bool options = given > 0 && lua_istable(L, given);
        const int texts = options ? given - 1 : given;
        if (self.drafts_.size() >= drafts_max) { // a loop that makes them would take hours to be told of each
            luaL_error(L, "more than %d calls of if_then; allowed: %d rules", static_cast<int>(drafts_max),
                       static_cast<int>(rules::rules_max));
        }
        rules::Rule rule;
        rule.place = self.beginning(current_line(L));
        rule.hold = self.hold_;
        bool good = texts == 2 || texts == 3;
        if (!good) {
            self.problem(rule.place, "if_then with " + std::to_string(texts) +
                                         " arguments; allowed: if_then(\"class.id\", \"down\", Action.restart) or "
                                         "if_then(\"expression\", Action.restart)");
        }
        for (int i = 1; good && i <= texts; ++i) {
            if (lua_type(L, i) != LUA_TSTRING) {
                self.problem(rule.place, "if_then, argument " + std::to_string(i) + ": found " + shown(L, i) +
                                             "; allowed: a text" + (i == texts ? " such as Action.restart" : ""));
                good = false;
            }
        }
        if (good) {
            rule.when = texts == 2 ? self.expression(L, text_at(L, 1)) : self.comparison(L);
            self.take_action(L, text_at(L, texts), rule);
        }
        if (options) {
            self.take_options(L, given, rule);
        }
        self.drafts_.push_back(std::move(rule));
        lua_pushlightuserdata(L, &self.drafts_.back());
        return 1;
    }

    rules::Expression expression(lua_State* L, const std::string& text) {
        auto parsed = rules::parse_expression(text, literal(L, text), dialect_);
        take_problems(std::move(parsed.problems));
        return std::move(parsed.expression);
    }

    rules::Expression comparison(lua_State* L) {
        const std::string resource = text_at(L, 1), state = text_at(L, 2);
        const rules::Verdict verdict = rules::verdict_of(state);
        if (rules::name(verdict) != state) {
            problem(literal(L, state), "found '" + state + "'; allowed: init, down, up, unknown");
        }
        auto parsed = rules::parse_expression(resource + " == unknown", literal(L, resource), dialect_);
        take_problems(std::move(parsed.problems));
        for (rules::Condition& condition : parsed.expression.conditions) {
            condition.verdict = verdict;
        }
        return std::move(parsed.expression);
    }

    void take_action(lua_State* L, const std::string& text, rules::Rule& rule) {
        if (text.empty()) { // no_such_action has told
            return;
        }
        if (const std::size_t equal = text.find('='); equal != std::string::npos) { // as assignment() made it
            rule.action = rules::Action::assign;
            rule.target = text.substr(0, equal);
            rule.value = rules::verdict_of(text.substr(equal + 1));
            return;
        }
        const rules::ParsedAction parsed = rules::parse_action(text, dialect_);
        rule.action = parsed.action;
        if (!parsed.problem.empty()) {
            problem(beginning(current_line(L)), parsed.problem);
        }
    }

    void take_options(lua_State* L, int index, rules::Rule& rule) {
        const Place where = beginning(current_line(L));
        for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
            const bool is_time = lua_type(L, -2) == LUA_TSTRING && text_at(L, -2) == "handle_time";
            if (!is_time) {
                problem(where, "if_then, options: found " + shown(L, -2) + "; allowed: handle_time");
                continue;
            }
            lua_pushvalue(L, -1); // lua_tolstring changes what it reads, and lua_next wants it unchanged
            const auto time = parse_duration(text_at(L, -1));
            lua_pop(L, 1);
            if (!time) {
                problem(where, "handle_time: found " + shown(L, -1) + "; allowed: a time such as \"10s\" or \"500ms\"");
            }
            rule.hold = time.value_or(nanoseconds{});
        }
    }

    static int no_such_action(lua_State* L) {
        Loader& self = of(L);
        self.problem(self.beginning(current_line(L)),
                     "no Action." + text_at(L, 2) +
                         "; allowed: Action.stop, Action.stopstart, Action.wait, "
                         "Action.restart, Action.swap (mirror), Action.set(\"class.id\", "
                         "\"up\")");
        lua_pushliteral(L, "");
        return 1;
    }

    static int assignment(lua_State* L) {
        Loader& self = of(L);
        const std::string target = text_at(L, 1), state = text_at(L, 2);
        const auto parsed = rules::parse_expression(target + " == " + state, self.beginning(current_line(L)), {});
        const bool good = parsed.problems.empty() && parsed.expression.nodes.size() == 1 &&
                          parsed.expression.conditions.size() == 1 &&
                          parsed.expression.conditions[0].subject.which == rules::Subject::Which::named;
        if (!good) {
            self.problem(self.beginning(current_line(L)), "Action.set(" + shown(L, 1) + ", " + shown(L, 2) +
                                                              "); allowed: Action.set(\"class.id\", \"up\"), with a "
                                                              "state init, down, up or unknown");
        }
        const std::string text = good ? target + "=" + state : "";
        lua_pushlstring(L, text.data(), text.size());
        return 1;
    }

    // ---- Rules

    void add(lua_State* L, const std::string& label, int value) {
        const auto draft = std::ranges::find_if(drafts_, [&](const rules::Rule& one) {
            return lua_islightuserdata(L, value) && lua_touserdata(L, value) == &one;
        });
        if (draft == drafts_.end()) {
            return problem(beginning(current_line(L)),
                           "rule '" + label + "': found " + shown(L, value) + "; allowed: if_then(...)");
        }
        if (!rules::is_label(label)) {
            return problem(draft->place, "found '" + label + "'; allowed: a label of letters, digits, '_', '-', '.'");
        }
        const auto same = std::ranges::find(out_.rules, label, &rules::Rule::label);
        if (same != out_.rules.end()) {
            return problem(draft->place,
                           "a second rule '" + label + "'; the first is in line " + std::to_string(same->place.line));
        }
        if (out_.rules.size() >= rules::rules_max) {
            return problem(draft->place, "more than " + std::to_string(rules::rules_max) + " rules");
        }
        out_.rules.push_back(*draft);
        out_.rules.back().label = label;
    }

    static int add_rules(lua_State* L) {
        Loader& self = of(L);
        if (lua_topointer(L, 1) != self.rules_table_ || !lua_istable(L, 2)) {
            self.problem(self.beginning(current_line(L)), "found " + shown(L, 1) + " + " + shown(L, 2) +
                                                              "; allowed: Rules = Rules + { label = if_then(...) }");
            lua_settop(L, 1);
            return 1;
        }
        for (lua_pushnil(L); lua_next(L, 2) != 0; lua_pop(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING) {
                self.problem(self.beginning(current_line(L)), "a rule without a label; allowed: label = if_then(...)");
            } else if (text_at(L, -2) != "_group") {
                self.add(L, text_at(L, -2), lua_gettop(L));
            }
        }
        lua_settop(L, 1);
        return 1;
    }

    static int add_one(lua_State* L) {
        if (lua_type(L, 2) == LUA_TSTRING) {
            of(L).add(L, text_at(L, 2), 3);
        }
        return 0;
    }

    static int disable(lua_State* L) {
        Loader& self = of(L);
        const int first = lua_topointer(L, 1) == self.rules_table_ ? 2 : 1; // Rules:disable is forgiven
        if (lua_type(L, first) != LUA_TSTRING) {
            self.problem(self.beginning(current_line(L)),
                         "Rules.disable(" + shown(L, first) + "); allowed: Rules.disable(\"label\")");
            return 0;
        }
        if (self.out_.disabled.size() >= rules::rules_max) {
            luaL_error(L, "more than %d calls of Rules.disable", static_cast<int>(rules::rules_max));
        }
        const std::string label = text_at(L, first);
        if (!rules::is_label(label)) {
            self.problem(self.beginning(current_line(L)),
                         "Rules.disable: found '" + label + "'; allowed: a label of letters, digits, '_', '-', '.'");
            return 0;
        }
        self.out_.disabled.push_back({label, self.literal(L, label)});
        return 0;
    }

    std::string_view text_;
    Place start_;
    rules::Dialect dialect_;
    nanoseconds hold_;
    std::size_t used_bytes_{};
    std::uint64_t instructions_{};
    const void* rules_table_{};
    std::deque<rules::Rule> drafts_; // Lua holds their addresses
    LuaRules out_;
};

} // namespace

bool is_lua_rules(std::string_view text) noexcept {
    text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    return text.starts_with("--"); // "--Lua Rules", however written: no classic rule begins with a comment of Lua
}

LuaRules load_lua_rules(std::string_view text, const Place& start, const rules::Dialect& dialect, nanoseconds hold) {
    struct Run {
        std::string text;
        std::mutex mutex;
        std::condition_variable ended;
        std::optional<LuaRules> result;
        pid_t thread_id{};
    };
    const auto shared = std::make_shared<Run>();
    shared->text = text;
    // On a thread of its own: no hook can end a built-in function, such as string.match with a pattern that tries all
    // there is. Such a thread is given up; it holds nothing that others need.
    std::thread worker([shared, start, dialect, hold] {
        {
            const std::lock_guard lock(shared->mutex);
            shared->thread_id = ::gettid();
        }
        LuaRules loaded;
        try {
            loaded = Loader(shared->text, start, dialect, hold).load();
        } catch (const std::exception& error) { // out of memory
            loaded.problems.push_back({start, std::string{"rules: "} + error.what()});
        }
        const std::lock_guard lock(shared->mutex);
        shared->result = std::move(loaded);
        shared->ended.notify_all();
    });
    // Its processor time counts: a busy machine is no reason to refuse good rules.
    clockid_t clock{};
    const bool has_clock = ::pthread_getcpuclockid(worker.native_handle(), &clock) == 0;
    std::unique_lock lock(shared->mutex);
    timespec used{};
    while (!shared->result && nanoseconds{seconds{used.tv_sec}} + nanoseconds{used.tv_nsec} < run_max) {
        shared->ended.wait_for(lock, std::chrono::milliseconds{50});
        if (!has_clock || ::clock_gettime(clock, &used) != 0) {
            used = {};
        }
    }
    if (shared->result) {
        LuaRules loaded = std::move(*shared->result);
        lock.unlock();
        worker.join();
        return loaded;
    }
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(shared->thread_id), 19); // it goes on until the host ends
    lock.unlock();
    worker.detach();
    LuaRules late;
    late.problems.push_back(
        {start, "did not end within " + std::to_string(run_max / seconds{1}) +
                    " s of processor time: it hangs in a built-in function, such as string.match with a pattern of "
                    "many repetitions"});
    return late;
}

} // namespace stead::script
