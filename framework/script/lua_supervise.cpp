// SPDX-License-Identifier: Apache-2.0
// Below stead.supervise and stead.supervised: what the library's Lua calls as stead.process.*.
#include "environment.hpp"
#include "lua_run.hpp"

#include <pwd.h>

#include <algorithm>
#include <array>

namespace stead::script {

namespace {

constexpr const char* supervise_name = "stead.supervise";
constexpr std::array<const char*, 4> actions{"restart", "stopstart", "stop", "noaction"};

std::shared_ptr<Supervisor> supervisor_of(lua_State* L, const char* function) {
    auto supervisor = LuaRun::of(L).supervisor.lock();
    if (!supervisor) {
        luaL_error(L, "%s: only a hook of a module's start or stop may; this one is outside of its life", function);
    }
    return supervisor;
}

std::string check_name(lua_State* L, const char* function, int index) {
    const std::string name = check_text(L, function, "name", index);
    const bool plain = name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
                       std::string::npos;
    if (name.empty() || name.size() > 63 || !plain) {
        bad_argument(L, function, "name", "1 to 63 of A-Z a-z 0-9 . _ -", index);
    }
    return name;
}

std::string check_user(lua_State* L, int index) {
    std::string name = check_text(L, supervise_name, "user", index);
    passwd entry{};
    passwd* found = nullptr;
    std::array<char, 16384> buffer{};
    if (::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) {
        bad_argument(L, supervise_name, "user", "the name of a user of this system", index);
    }
    return name;
}

/// supervise(spec) -> pid
int supervise(lua_State* L) {
    ProcessSpec process =
        check_spec(L, supervise_name, {"name", "env", "cwd", "user", "action", "stop_signal", "stop_timeout"});
    SuperviseSpec spec;
    lua_getfield(L, 1, "name");
    spec.name = check_name(L, supervise_name, -1);
    if (lua_getfield(L, 1, "user") != LUA_TNIL) {
        spec.user = check_user(L, -1);
    }
    if (lua_getfield(L, 1, "action") != LUA_TNIL) {
        spec.action = check_text(L, supervise_name, "action", -1);
        if (std::ranges::find(actions, spec.action) == actions.end()) {
            return bad_argument(L, supervise_name, "action", "restart, stopstart, stop or noaction", -1);
        }
    }
    if (lua_getfield(L, 1, "stop_signal") != LUA_TNIL) {
        spec.stop_signal = check_signal(L, supervise_name, "stop_signal", -1);
    }
    if (lua_getfield(L, 1, "stop_timeout") != LUA_TNIL) {
        spec.stop_timeout = std::chrono::ceil<milliseconds>(
            std::min<nanoseconds>(check_duration(L, supervise_name, "stop_timeout", -1), std::chrono::hours{1}));
    }
    lua_settop(L, 1);
    spec.argv = std::move(process.argv);
    spec.environment = std::move(process.environment);
    spec.folder = std::move(process.folder);
    spec.leash = std::move(process.leash);
    LuaRun& run = LuaRun::of(L);
    if (run.rehearse) { // the arguments are good
        return 0;
    }
    const Result<pid_t> started =
        supervisor_of(L, supervise_name)->start(std::move(spec), run.call.name, run.call.hook_id, run.cancel);
    if (!started) {
        return luaL_error(L, "%s: %s", supervise_name, started.error().text().c_str());
    }
    lua_pushinteger(L, *started);
    return 1;
}

/// supervised(name) -> pid, or nil
int supervised(lua_State* L) {
    const std::string name = check_name(L, "stead.supervised", 1);
    for (const Supervisor::Running& one : supervisor_of(L, "stead.supervised")->running()) {
        if (one.name == name) {
            lua_pushinteger(L, one.pid);
            return 1;
        }
    }
    lua_pushnil(L);
    return 1;
}

/// stop_supervised(name, timeout) -> true when it is gone
int stop_supervised(lua_State* L) {
    const std::string name = check_name(L, "stead.supervised", 1);
    LuaRun& run = LuaRun::of(L);
    nanoseconds patience =
        run.call.deadline == never ? nanoseconds{std::chrono::hours{1}} : run.call.deadline - BootClock::now();
    if (!lua_isnoneornil(L, 2)) {
        patience = std::min(patience, check_duration(L, "stop", "timeout", 2));
    }
    lua_pushboolean(L, supervisor_of(L, "stead.supervised")->stop(name, patience) ? 1 : 0);
    run.check_end(L);
    return 1;
}

} // namespace

void add_supervise_functions(lua_State* L) {
    const luaL_Reg functions[] = {
        {"supervise", supervise}, {"supervised", supervised}, {"stop_supervised", stop_supervised}, {nullptr, nullptr}};
    luaL_setfuncs(L, functions, 0);
}

} // namespace stead::script
