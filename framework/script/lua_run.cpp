// SPDX-License-Identifier: Apache-2.0
#include "lua_run.hpp"

#include "environment.hpp"
#include "lines.hpp"

#include <cstdlib>
#include <cstring>
#include <memory>

namespace stead::script {

namespace {

constexpr int instructions_between_checks = 1000;
constexpr std::size_t script_bytes_max = 1u << 20;

void count_hook(lua_State* L, lua_Debug*) { LuaRun::of(L).check_end(L); }

/// pcall and xpcall, except that the end of the hook goes through them. Upvalue: the standard function.
int after_call(lua_State* L, int, lua_KContext) {
    LuaRun& run = LuaRun::of(L);
    if (run.ending != LuaRun::Ending::none) {
        return run.end(L, run.ending, run.reason);
    }
    return lua_gettop(L);
}

int guarded_call(lua_State* L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, after_call);
    return after_call(L, LUA_OK, 0);
}

/// Finalizers run with hooks off, so nothing could stop one.
int safe_setmetatable(lua_State* L) {
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL) {
            return luaL_error(L, "setmetatable: field '__gc' is not allowed in hooks; use <close> variables");
        }
        lua_pop(L, 1);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/// load for text only: bytecode can break the interpreter.
int safe_load(lua_State* L) {
    lua_settop(L, lua_isnone(L, 4) ? 3 : 4);
    const bool with_environment = lua_gettop(L) == 4;
    lua_pushliteral(L, "t");
    lua_replace(L, 3);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, with_environment ? 4 : 3, LUA_MULTRET);
    return lua_gettop(L);
}

int print_to_log(lua_State* L) {
    std::string line;
    for (int i = 1; i <= lua_gettop(L); ++i) {
        std::size_t size = 0;
        const char* text = luaL_tolstring(L, i, &size);
        line += (i > 1 ? "\t" : "") + std::string(text, size);
        lua_pop(L, 1);
    }
    LuaRun& run = LuaRun::of(L);
    LineSplitter lines(run.call.limits.output_line_bytes, [&](std::string_view l) { run.gate->output(l, false); });
    lines.add(line + "\n");
    return 0;
}

void keep_only(lua_State* L, const char* table, std::initializer_list<const char*> names) {
    lua_getglobal(L, table);
    lua_newtable(L);
    for (const char* name : names) {
        lua_getfield(L, -2, name);
        lua_setfield(L, -2, name);
    }
    lua_setglobal(L, table);
    lua_pop(L, 1);
}

void wrap_global(lua_State* L, const char* name, lua_CFunction with) {
    lua_getglobal(L, name);
    lua_pushcclosure(L, with, 1);
    lua_setglobal(L, name);
}

/// require: the library's folder, then the module's bin and bin/lib. Upvalue 1: what is loaded.
int require(lua_State* L) {
    const std::string name = check_text(L, "require", "name", 1);
    lua_settop(L, 1);
    if (lua_getfield(L, lua_upvalueindex(1), name.c_str()) != LUA_TNIL) {
        return 1;
    }
    std::string file = name;
    for (char& c : file) {
        if (c == '.') {
            c = '/';
        } else if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != '-') {
            return luaL_error(L, "require: '%s': a name has letters, digits, '_', '-' and '.' only", name.c_str());
        }
    }
    const LuaRun& run = LuaRun::of(L);
    const std::pair<std::filesystem::path, const char*> places[] = {
        {run.folders.lua_library, "lua/"}, {run.folders.bin / "lib", "bin/lib/"}, {run.folders.bin, "bin/"}};
    for (const auto& [folder, shown] : places) {
        std::error_code ec;
        const std::filesystem::path path = folder / (file + ".lua");
        if (folder.empty() || !std::filesystem::is_regular_file(path, ec)) {
            continue;
        }
        if (load_text(L, path, shown + file + ".lua") != LUA_OK) {
            return lua_error(L);
        }
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);
        if (lua_isnil(L, -1)) {
            lua_pushboolean(L, 1);
        }
        lua_pushvalue(L, -1);
        lua_setfield(L, lua_upvalueindex(1), name.c_str());
        return 1;
    }
    return luaL_error(L, "require: '%s' is not in %s, bin/lib or bin of the module", name.c_str(),
                      run.folders.lua_library.c_str());
}

int with_traceback(lua_State* L) {
    LuaRun& run = LuaRun::of(L);
    if (run.ending == LuaRun::Ending::none && lua_type(L, 1) == LUA_TSTRING && !run.rehearse) {
        luaL_traceback(L, L, lua_tostring(L, 1), 1);
        LineSplitter lines(run.call.limits.output_line_bytes, [&](std::string_view l) { run.gate->output(l, true); });
        lines.add(lua_tostring(L, -1));
        lines.finish();
        lua_pop(L, 1);
    }
    return 1;
}

int open_all(lua_State* L) {
    open_sandbox(L);
    open_stead(L);
    return 0;
}

} // namespace

void open_sandbox(lua_State* L) {
    const luaL_Reg libraries[] = {
        {LUA_GNAME, luaopen_base},       {LUA_STRLIBNAME, luaopen_string}, {LUA_TABLIBNAME, luaopen_table},
        {LUA_MATHLIBNAME, luaopen_math}, {LUA_UTF8LIBNAME, luaopen_utf8},  {LUA_COLIBNAME, luaopen_coroutine},
        {LUA_OSLIBNAME, luaopen_os},     {LUA_IOLIBNAME, luaopen_io},      {LUA_DBLIBNAME, luaopen_debug}};
    for (const luaL_Reg& library : libraries) {
        luaL_requiref(L, library.name, library.func, 1);
        lua_pop(L, 1);
    }
    keep_only(L, "os", {"clock", "date", "difftime", "getenv", "remove", "rename", "time", "tmpname"});
    keep_only(L, "io", {"open", "lines", "type"});
    keep_only(L, "debug", {"traceback"});
    for (const char* name : {"dofile", "loadfile", "collectgarbage", "warn"}) {
        lua_pushnil(L);
        lua_setglobal(L, name);
    }
    luaL_getmetatable(L, LUA_FILEHANDLE); // its __gc must stay the library's own
    lua_pushliteral(L, "protected");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    wrap_global(L, "pcall", guarded_call);
    wrap_global(L, "xpcall", guarded_call);
    wrap_global(L, "setmetatable", safe_setmetatable);
    wrap_global(L, "load", safe_load);
    lua_pushcfunction(L, print_to_log);
    lua_setglobal(L, "print");
    lua_newtable(L);
    lua_pushcclosure(L, require, 1);
    lua_setglobal(L, "require");
    // The registry's table of loaded libraries still has the whole ones: out of reach, since debug is closed.
}

int load_text(lua_State* L, const std::filesystem::path& path, const std::string& place) {
    auto text = read_file(path, script_bytes_max);
    if (!text) {
        lua_pushstring(L, text.error().text().c_str());
        return LUA_ERRFILE;
    }
    if (text->starts_with('#')) { // a first line for the shell
        text->insert(0, "--");
    }
    return luaL_loadbufferx(L, text->data(), text->size(), ("@" + place).c_str(), "t");
}

LuaRun::LuaRun(ModuleFolders f, HookCall c, Surroundings s)
    : folders(std::move(f)), call(std::move(c)), gate(std::move(s.gate)), cancel(std::move(s.cancel)),
      lingerer(std::move(s.lingerer)), supervisor(std::move(s.supervisor)), rehearse(std::move(s.rehearse)) {}

void* LuaRun::allocate(void* self, void* block, std::size_t old_size, std::size_t new_size) {
    LuaRun& run = *static_cast<LuaRun*>(self);
    const std::size_t before = block != nullptr ? old_size : 0;
    if (new_size == 0) {
        std::free(block);
        run.used_bytes_ -= before;
        return nullptr;
    }
    if (new_size > before && run.used_bytes_ - before + new_size > run.call.limits.lua_memory_bytes) {
        return nullptr;
    }
    void* moved = std::realloc(block, new_size);
    if (moved != nullptr) {
        run.used_bytes_ += new_size - before;
    }
    return moved;
}

int LuaRun::end(lua_State* L, Ending how, std::string why) {
    ending = how;
    reason = std::move(why);
    lua_sethook(L, count_hook, LUA_MASKCOUNT, 1);
    lua_pushliteral(L, "the hook has ended");
    return lua_error(L);
}

void LuaRun::check_end(lua_State* L) {
    if (ending != Ending::none) {
        end(L, ending, reason);
    } else if (cancel->is_set()) {
        std::string failure = cancel->failure();
        failure.empty() ? end(L, Ending::cancelled, "cancelled") : end(L, Ending::failed, std::move(failure));
    } else if (BootClock::now() >= call.deadline) {
        end(L, Ending::timed_out, "");
    }
}

HookResult LuaRun::result_of_values(lua_State* L, int first) {
    using End = HookResult::End;
    const int type = lua_gettop(L) >= first ? lua_type(L, first) : LUA_TNIL;
    const bool reason_follows = lua_gettop(L) > first && lua_type(L, first + 1) == LUA_TSTRING;
    if (type == LUA_TNIL && reason_follows) { // as functions of Lua, and ours, tell of an error
        return {End::failed, 1, lua_tostring(L, first + 1), {}};
    }
    if (type == LUA_TNIL || (type == LUA_TBOOLEAN && lua_toboolean(L, first) != 0)) {
        return {End::succeeded, 0, "", {}};
    }
    if (type == LUA_TNUMBER) {
        constexpr lua_Integer code_max = 255;
        int whole = 0;
        const lua_Integer code = lua_tointegerx(L, first, &whole);
        if (whole != 0 && code == 0) {
            return {End::succeeded, 0, "", {}};
        }
        const bool good = whole != 0 && code > 0 && code <= code_max;
        lua_pushvalue(L, first); // lua_tolstring changes what it reads
        return {End::failed,
                good ? static_cast<int>(code) : 1,
                std::string{"returned "} + lua_tostring(L, -1) + (good ? "" : "; allowed: an exit code of 0 to 255"),
                {}};
    }
    if (type == LUA_TBOOLEAN) {
        const char* why = lua_gettop(L) > first ? lua_tostring(L, first + 1) : nullptr;
        return {End::failed, 1, why != nullptr ? why : "returned false", {}};
    }
    return {End::failed,
            1,
            std::string("returned a ") + lua_typename(L, type) +
                "; a hook returns nothing, true, an exit code, or false and a reason",
            {}};
}

HookResult LuaRun::result_of(lua_State* L, int status) {
    using End = HookResult::End;
    switch (ending) {
    case Ending::failed: return {End::failed, 1, reason, {}};
    case Ending::cancelled: return {End::cancelled, 1, "cancelled", {}};
    case Ending::timed_out: {
        const auto ms = std::chrono::duration_cast<milliseconds>(call.limits.timeout).count();
        return {End::timed_out, 1, "did not end within its " + std::to_string(ms) + " ms", {}};
    }
    case Ending::none: break;
    }
    if (status == LUA_OK) {
        return result_of_values(L, 1);
    }
    const char* text = lua_gettop(L) > 0 ? lua_tostring(L, -1) : nullptr;
    // (A string buffer that cannot grow says so with an ordinary error.)
    if (status == LUA_ERRMEM || (text != nullptr && std::string_view(text).ends_with("not enough memory"))) {
        return {End::out_of_memory,
                1,
                "needs more than the " + std::to_string(call.limits.lua_memory_bytes) + " bytes of memory allowed",
                {}};
    }
    return {End::failed, 1, text != nullptr ? text : "raised an error that is not a text", {}};
}

namespace {

/// tell(warning, text)
int tell(lua_State* L) {
    const bool warning = lua_toboolean(L, 1) != 0;
    LuaRun::of(L).rehearse(warning, place_of(L), check_text(L, "tell", "text", 2));
    return 0;
}

/// check(function, {allowed fields}, spec): raises what the function itself would.
int check_only(lua_State* L) {
    const std::string function = check_text(L, "check", "function", 1);
    std::vector<std::string> names;
    for (lua_Integer i = 1; lua_rawgeti(L, 2, i) != LUA_TNIL; ++i) {
        names.push_back(check_text(L, "check", "allowed", -1));
        lua_pop(L, 1);
    }
    lua_settop(L, 3);
    lua_replace(L, 1);
    lua_settop(L, 1);
    (void)check_spec(L, function.c_str(), {names.begin(), names.end()});
    return 0;
}

} // namespace

std::string place_of(lua_State* L) {
    lua_Debug frame{};
    for (int level = 1; lua_getstack(L, level, &frame) != 0; ++level) {
        lua_getinfo(L, "Sl", &frame);
        if (std::string_view(frame.source).starts_with("@bin/")) {
            return std::string(frame.source + 1) + ":" + std::to_string(frame.currentline);
        }
    }
    return {};
}

/// The library's rehearsal.lua puts its own functions in the place of those that change something.
int LuaRun::begin_rehearsal(lua_State* L) {
    int status = load_text(L, folders.lua_library / "stead/rehearsal.lua", "lua/stead/rehearsal.lua");
    if (status == LUA_OK) {
        lua_pushstring(L, call.name.c_str());
        lua_pushcfunction(L, tell);
        lua_pushcfunction(L, check_only);
        status = lua_pcall(L, 3, 0, 0);
    }
    return status;
}

std::string LuaRun::unknown_name(const std::vector<std::string>& names) {
    const std::unique_ptr<lua_State, decltype(&lua_close)> state(lua_newstate(allocate, this), &lua_close);
    lua_State* L = state.get();
    if (L == nullptr || names.empty()) {
        return {};
    }
    *static_cast<LuaRun**>(lua_getextraspace(L)) = this;
    lua_pushcfunction(L, open_all);
    if (lua_pcall(L, 0, 0, 0) != LUA_OK) {
        return {};
    }
    lua_pushcfunction(L, [](lua_State* l) {
        lua_getglobal(l, "stead");
        lua_pushvalue(l, 1);
        lua_gettable(l, -2);
        return 1;
    });
    lua_pushstring(L, names[0].c_str());
    if (lua_pcall(L, 1, 1, 0) != LUA_OK || lua_isnil(L, -1)) {
        return "stead." + names[0];
    }
    const bool open = names[0] == "var" || names[0] == "macro"; // the configuration's names
    if (names.size() > 1 && lua_istable(L, -1) && !open && lua_getfield(L, -1, names[1].c_str()) == LUA_TNIL) {
        return "stead." + names[0] + "." + names[1];
    }
    return {};
}

HookResult LuaRun::run_in(lua_State* L) {
    *static_cast<LuaRun**>(lua_getextraspace(L)) = this;
    lua_pushcfunction(L, open_all);
    int status = lua_pcall(L, 0, 0, 0);
    if (status == LUA_OK && rehearse) {
        status = begin_rehearsal(L);
    }
    if (status == LUA_OK) {
        lua_sethook(L, count_hook, LUA_MASKCOUNT, instructions_between_checks);
        lua_pushcfunction(L, with_traceback);
        status = load_text(L, folders.bin / (call.name + ".lua"), "bin/" + call.name + ".lua");
    }
    if (status == LUA_OK) {
        for (const std::string& argument : call.arguments) {
            lua_pushlstring(L, argument.data(), argument.size());
        }
        status = lua_pcall(L, static_cast<int>(call.arguments.size()), LUA_MULTRET, 1);
        lua_remove(L, 1);
    }
    return result_of(L, status);
}

HookResult LuaRun::execute() {
    const Instant began = BootClock::now();
    lua_State* L = lua_newstate(allocate, this);
    HookResult result =
        L != nullptr ? run_in(L) : HookResult{HookResult::End::out_of_memory, 1, "no memory for a Lua state", {}};
    if (L != nullptr) {
        lua_sethook(L, nullptr, 0, 0);
        lua_close(L);
    }
    if (!result.ok() && started_processes && !kill_marked(call.hook_id)) {
        result.reason += " (processes it started are still there)";
    }
    result.took = BootClock::now() - began;
    return result;
}

} // namespace stead::script
