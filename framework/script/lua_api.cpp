// SPDX-License-Identifier: Apache-2.0
// The `stead` table, except what starts processes or touches files (lua_system.cpp).
#include "environment.hpp"
#include "lines.hpp"
#include "lua_run.hpp"

#include <stead/base/utf8.hpp>

#include <boost/json.hpp>

#include <map>

namespace stead::script {

int bad_argument(lua_State* L, const char* function, const char* argument, const std::string& expected, int index) {
    std::string got = luaL_typename(L, index);
    if (lua_type(L, index) == LUA_TSTRING) {
        got = "'" + printable(std::string_view(lua_tostring(L, index)).substr(0, 60)) + "'";
    } else if (lua_type(L, index) == LUA_TNUMBER) {
        got = "the number " + std::string(luaL_tolstring(L, index, nullptr));
        lua_pop(L, 1);
    }
    return luaL_error(L, "%s: argument '%s': expected %s, got %s", function, argument, expected.c_str(), got.c_str());
}

std::string check_text(lua_State* L, const char* function, const char* argument, int index) {
    const int type = lua_type(L, index);
    if (type != LUA_TSTRING && type != LUA_TNUMBER) {
        bad_argument(L, function, argument, "a text", index);
    }
    lua_pushvalue(L, index); // a number stays a number where it is
    std::size_t size = 0;
    const char* text = lua_tolstring(L, -1, &size);
    std::string copy(text, size);
    lua_pop(L, 1);
    return copy;
}

std::string check_c_text(lua_State* L, const char* function, const char* argument, int index) {
    std::string text = check_text(L, function, argument, index);
    if (text.find('\0') != std::string::npos) {
        bad_argument(L, function, argument, "a text without NUL bytes", index);
    }
    return text;
}

nanoseconds check_duration(lua_State* L, const char* function, const char* argument, int index) {
    const int type = lua_type(L, index);
    std::optional<nanoseconds> value;
    if (type == LUA_TSTRING || type == LUA_TNUMBER) {
        value = parse_duration(check_text(L, function, argument, index));
    }
    if (!value) {
        bad_argument(L, function, argument, "a duration such as \"10s\", \"500ms\" or \"2m\"", index);
    }
    return *value;
}

namespace {

void push_json(lua_State* L, const boost::json::value& value) {
    luaL_checkstack(L, 4, "view");
    switch (value.kind()) {
    case boost::json::kind::null: lua_pushnil(L); return;
    case boost::json::kind::bool_: lua_pushboolean(L, value.get_bool() ? 1 : 0); return;
    case boost::json::kind::int64: lua_pushinteger(L, value.get_int64()); return;
    case boost::json::kind::uint64: lua_pushinteger(L, static_cast<lua_Integer>(value.get_uint64())); return;
    case boost::json::kind::double_: lua_pushnumber(L, value.get_double()); return;
    case boost::json::kind::string: push(L, std::string(value.get_string())); return;
    case boost::json::kind::array: {
        lua_newtable(L);
        lua_Integer i = 0;
        for (const auto& item : value.get_array()) {
            push_json(L, item);
            lua_rawseti(L, -2, ++i);
        }
        return;
    }
    case boost::json::kind::object:
        lua_newtable(L);
        for (const auto& member : value.get_object()) {
            push_json(L, member.value());
            lua_setfield(L, -2, std::string(member.key()).c_str());
        }
        return;
    }
}

/// The table at `index` as " key=value key="two words"", in order of the keys.
std::string fields_text(lua_State* L, const char* function, int index) {
    std::map<std::string, std::string> fields;
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            bad_argument(L, function, "fields", "a table {name=value}", -2);
        }
        std::size_t size = 0;
        const char* value = luaL_tolstring(L, -1, &size);
        fields[lua_tostring(L, -3)] = std::string(value, size);
        lua_pop(L, 1);
    }
    std::string text;
    for (const auto& [name, value] : fields) {
        const bool plain = !value.empty() && value.find_first_of(" \t\n\"=") == std::string::npos;
        text += " " + name + "=" + (plain ? value : boost::json::serialize(boost::json::string(value)));
    }
    return text;
}

/// Upvalue: the level.
int log_line(lua_State* L) {
    const int level = static_cast<int>(lua_tointeger(L, lua_upvalueindex(1)));
    static constexpr const char* names[] = {"stead.log.debug", "stead.log.info", "stead.log.warning",
                                            "stead.log.error"};
    std::string text = check_text(L, names[level], "text", 1);
    if (lua_istable(L, 2)) {
        text += fields_text(L, names[level], 2);
    } else if (!lua_isnoneornil(L, 2)) {
        return bad_argument(L, names[level], "fields", "a table {name=value}", 2);
    }
    LuaRun& run = LuaRun::of(L);
    if (run.rehearse) {
        run.rehearse(false, place_of(L), std::string("logs ") + "DIWE"[level] + ": " + text);
        return 0;
    }
    LineSplitter lines(run.call.limits.output_line_bytes, [&](std::string_view line) {
        run.gate->with_host([&](HookHost& host) { return host.log(level, line), 0; }, 0);
    });
    lines.add(text);
    lines.finish();
    return 0;
}

int resource_get(lua_State* L) {
    const std::string name = check_text(L, "stead.resource.get", "name", 1);
    using Value = std::optional<std::string>;
    const Value value = LuaRun::of(L).gate->with_host([&](HookHost& host) { return host.resource(name); }, Value());
    value ? push(L, *value) : lua_pushnil(L);
    return 1;
}

int resource_set(lua_State* L) {
    const std::string name = check_text(L, "stead.resource.set", "name", 1);
    const std::string value = check_text(L, "stead.resource.set", "value", 2);
    const Result<void> done =
        LuaRun::of(L).gate->with_host([&](HookHost& host) { return host.set_resource(name, value); }, Result<void>());
    if (!done) {
        return luaL_error(L, "stead.resource.set: %s", done.error().text().c_str());
    }
    return 0;
}

int view(lua_State* L) {
    const std::string json =
        LuaRun::of(L).gate->with_host([](HookHost& host) { return host.view_json(); }, std::string("{}"));
    boost::system::error_code ec;
    const boost::json::value value = boost::json::parse(json, ec);
    if (ec) {
        return luaL_error(L, "stead.view: the host's view is not JSON: %s", ec.message().c_str());
    }
    push_json(L, value);
    return 1;
}

/// decode(text) -> value, or nil and why
int json_decode(lua_State* L) {
    boost::system::error_code ec;
    const boost::json::value value = boost::json::parse(check_text(L, "stead.json.decode", "text", 1), ec);
    if (ec) {
        lua_pushnil(L);
        push(L, "not JSON: " + ec.message());
        return 2;
    }
    push_json(L, value);
    return 1;
}

int state(lua_State* L) {
    push(L, LuaRun::of(L).gate->with_host([](HookHost& host) { return host.state_name(); }, std::string()));
    return 1;
}

int fail(lua_State* L) {
    const std::string reason = lua_isnoneornil(L, 1) ? "failed" : check_text(L, "stead.fail", "reason", 1);
    return LuaRun::of(L).end(L, LuaRun::Ending::failed, printable(reason));
}

/// stead.NAME that C++ does not have: the library's file stead/NAME.lua; else an error.
int library_function(lua_State* L) {
    const std::string name = check_text(L, "stead", "name", 2);
    const LuaRun& run = LuaRun::of(L);
    std::error_code ec;
    const bool plain = name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos;
    if (!plain || !std::filesystem::is_regular_file(run.folders.lua_library / "stead" / (name + ".lua"), ec)) {
        return luaL_error(L, "stead.%s: there is no such function; docs/lua.md lists them (library: %s)", name.c_str(),
                          (run.folders.lua_library / "stead").c_str());
    }
    lua_getglobal(L, "require");
    push(L, "stead." + name);
    lua_call(L, 1, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, 1, name.c_str());
    return 1;
}

void add_texts(lua_State* L, const char* field, const std::map<std::string, std::string>& texts) {
    lua_newtable(L);
    for (const auto& [name, text] : texts) {
        push(L, text);
        lua_setfield(L, -2, name.c_str());
    }
    lua_setfield(L, -2, field);
}

void add_module(lua_State* L, const ModuleFolders& folders) {
    add_texts(L, "module",
              {{"name", folders.module},
               {"node", folders.node},
               {"mode", folders.mode},
               {"bin", folders.bin},
               {"conf", folders.conf},
               {"var", folders.var},
               {"state", LuaRun::of(L).gate->with_host([](HookHost& h) { return h.state_name(); }, std::string())}});
    lua_getfield(L, -1, "module");
    lua_pushinteger(L, folders.module_id);
    lua_setfield(L, -2, "id");
    lua_pop(L, 1);
}

} // namespace

void open_stead(lua_State* L) {
    const LuaRun& run = LuaRun::of(L);
    const luaL_Reg functions[] = {{"view", view}, {"state", state}, {"fail", fail}, {nullptr, nullptr}};
    luaL_newlib(L, functions);
    add_module(L, run.folders);
    add_texts(L, "var", run.folders.vars);
    add_texts(L, "macro", run.folders.macros);
    lua_newtable(L);
    for (const auto& [name, level] : {std::pair{"debug", 0}, {"info", 1}, {"warning", 2}, {"error", 3}}) {
        lua_pushinteger(L, level);
        lua_pushcclosure(L, log_line, 1);
        lua_setfield(L, -2, name);
    }
    lua_setfield(L, -2, "log");
    const luaL_Reg resources[] = {{"get", resource_get}, {"set", resource_set}, {nullptr, nullptr}};
    luaL_newlib(L, resources);
    lua_setfield(L, -2, "resource");
    const luaL_Reg json[] = {{"decode", json_decode}, {nullptr, nullptr}};
    luaL_newlib(L, json);
    lua_setfield(L, -2, "json");
    add_system_functions(L);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "rehearsing"); // rehearsal.lua makes it true
    lua_newtable(L);
    lua_pushcfunction(L, library_function);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setglobal(L, "stead");
}

} // namespace stead::script
