// SPDX-License-Identifier: Apache-2.0
// What hooks do to the system: programs, daemons, time.
#include "environment.hpp"
#include "lua_run.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace stead::script {

void push(lua_State* L, std::string_view text) { lua_pushlstring(L, text.data(), text.size()); }

void wait_until(lua_State* L, Instant until) {
    LuaRun& run = LuaRun::of(L);
    for (;;) {
        run.check_end(L);
        const Instant now = BootClock::now();
        if (now >= until) {
            return;
        }
        const auto left = std::chrono::ceil<milliseconds>(std::min(until, run.call.deadline) - now).count();
        pollfd fd{run.cancel->fd(), POLLIN, 0};
        ::poll(&fd, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000)));
    }
}

Instant after(nanoseconds delay) {
    const Instant now = BootClock::now();
    return delay > never - now ? never : now + delay;
}

ProcessSpec check_spec(lua_State* L, const char* function, const std::vector<std::string_view>& allowed) {
    if (!lua_istable(L, 1)) {
        bad_argument(L, function, "1", "a table {\"program\", \"argument\", …}", 1);
    }
    LuaRun& run = LuaRun::of(L);
    ProcessSpec spec;
    for (lua_Integer i = 1; lua_rawgeti(L, 1, i) != LUA_TNIL; ++i) {
        const std::string place = "[" + std::to_string(i) + "]";
        spec.argv.push_back(check_c_text(L, function, place.c_str(), -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING &&
            std::find(allowed.begin(), allowed.end(), lua_tostring(L, -2)) == allowed.end()) {
            std::string names;
            for (const std::string_view name : allowed) {
                names += (names.empty() ? "" : ", ") + std::string(name);
            }
            luaL_error(L, "%s: argument '%s': no such field; allowed: %s", function, lua_tostring(L, -2),
                       names.c_str());
        }
    }
    if (spec.argv.empty()) {
        luaL_error(L, "%s: argument '[1]': expected the program, got nothing", function);
    }
    spec.environment = hook_environment(run.folders, run.call.hook_id);
    if (lua_getfield(L, 1, "env") != LUA_TNIL) {
        if (!lua_istable(L, -1)) {
            bad_argument(L, function, "env", "a table {NAME=\"value\"}", -1);
        }
        for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
            lua_pushvalue(L, -2); // a copy: lua_next needs the key as it is
            const std::string name = check_c_text(L, function, "env", -1);
            if (name.empty() || name.find('=') != std::string::npos) {
                bad_argument(L, function, "env", "names of variables", -1);
            }
            lua_pop(L, 1);
            spec.environment[name] = check_c_text(L, function, ("env." + name).c_str(), -1);
        }
    }
    lua_pop(L, 1);
    if (lua_getfield(L, 1, "cwd") != LUA_TNIL) {
        spec.folder = check_c_text(L, function, "cwd", -1);
    }
    lua_pop(L, 1);
    const std::string program = find_program(spec.argv[0], spec.environment["PATH"]);
    if (program.empty()) {
        luaL_error(L, "%s: program '%s' is not in PATH (%s)", function, spec.argv[0].c_str(),
                   spec.environment["PATH"].c_str());
    }
    spec.argv[0] = program;
    spec.leash = leash_program(run.folders);
    spec.hook_id = run.call.hook_id;
    return spec;
}

int check_signal(lua_State* L, const char* function, const char* argument, int index) {
    static constexpr std::pair<const char*, int> signals[] = {{"TERM", SIGTERM}, {"INT", SIGINT},   {"QUIT", SIGQUIT},
                                                              {"HUP", SIGHUP},   {"USR1", SIGUSR1}, {"USR2", SIGUSR2},
                                                              {"KILL", SIGKILL}};
    const std::string given = check_text(L, function, argument, index);
    for (const auto& [name, number] : signals) {
        if (given == name) {
            return number;
        }
    }
    return bad_argument(L, function, argument, "TERM, INT, QUIT, HUP, USR1, USR2 or KILL", index);
}

namespace {

constexpr std::size_t output_bytes_max = 1u << 20;

void push(lua_State* L, std::string_view text) { lua_pushlstring(L, text.data(), text.size()); }

int sleep(lua_State* L) {
    wait_until(L, after(check_duration(L, "stead.sleep", "duration", 1)));
    return 0;
}

struct Captured {
    std::string out, err;
    bool cut{};
};

void push_result(lua_State* L, const ProcessEnd& end, const Captured& text) {
    lua_newtable(L);
    const bool signalled = end.how == ProcessEnd::How::signalled;
    if (end.how != ProcessEnd::How::timed_out) {
        lua_pushinteger(L, signalled ? 128 + end.code : end.code); // as shells count
        lua_setfield(L, -2, "exit");
    }
    push(L, text.out);
    lua_setfield(L, -2, "out");
    push(L, text.err);
    lua_setfield(L, -2, "err");
    lua_pushboolean(L, text.cut ? 1 : 0);
    lua_setfield(L, -2, "cut");
    lua_pushboolean(L, end.how == ProcessEnd::How::timed_out ? 1 : 0);
    lua_setfield(L, -2, "timed_out");
}

int run_program(lua_State* L) {
    LuaRun& run = LuaRun::of(L);
    ProcessSpec spec = check_spec(L, "stead.run", {"timeout", "env", "cwd", "input"});
    spec.deadline = run.call.deadline;
    if (lua_getfield(L, 1, "timeout") != LUA_TNIL) {
        spec.deadline = std::min(spec.deadline, after(check_duration(L, "stead.run", "timeout", -1)));
    }
    lua_pop(L, 1);
    if (lua_getfield(L, 1, "input") != LUA_TNIL) {
        spec.input = check_text(L, "stead.run", "input", -1);
    }
    lua_pop(L, 1);
    Captured text;
    spec.output = [&](std::string_view bytes, bool is_error) {
        std::string& into = is_error ? text.err : text.out;
        const std::size_t room = output_bytes_max - into.size();
        text.cut = text.cut || bytes.size() > room;
        into += bytes.substr(0, room);
    };
    run.started_processes = true;
    ProcessPipes left;
    const ProcessEnd end = run_process(spec, *run.cancel, &left);
    if (const auto lingerer = run.lingerer.lock()) {
        lingerer->add(std::move(left));
    }
    run.check_end(L);
    if (end.how == ProcessEnd::How::not_started) {
        return luaL_error(L, "stead.run: %s", end.error.c_str());
    }
    push_result(L, end, text);
    return 1;
}

int spawn(lua_State* L) {
    LuaRun& run = LuaRun::of(L);
    ProcessSpec spec = check_spec(L, "stead.spawn", {"env", "cwd", "log"});
    std::filesystem::path log;
    if (lua_getfield(L, 1, "log") != LUA_TNIL) {
        log = check_c_text(L, "stead.spawn", "log", -1);
    }
    run.started_processes = true;
    const Result<pid_t> pid = spawn_daemon(spec, log);
    if (!pid) {
        return luaL_error(L, "stead.spawn: %s", pid.error().text().c_str());
    }
    lua_pushinteger(L, *pid);
    return 1;
}

int process_start(lua_State* L) {
    if (lua_isinteger(L, 1) == 0) {
        return bad_argument(L, "stead.process.start_time", "pid", "an integer", 1);
    }
    const auto start = process_start_time(static_cast<pid_t>(lua_tointeger(L, 1)));
    start ? lua_pushinteger(L, static_cast<lua_Integer>(*start)) : lua_pushnil(L);
    return 1;
}

/// signal(pid, start_time, "TERM"|"KILL"|"HUP"): only that very process. False: it is gone.
int process_signal(lua_State* L) {
    if (lua_isinteger(L, 1) == 0 || lua_tointeger(L, 1) <= 1) {
        return bad_argument(L, "stead.process.signal", "pid", "an integer above 1", 1);
    }
    if (lua_isinteger(L, 2) == 0) {
        return bad_argument(L, "stead.process.signal", "start_time", "an integer", 2);
    }
    const int signal = check_signal(L, "stead.process.signal", "signal", 3);
    const auto pid = static_cast<pid_t>(lua_tointeger(L, 1));
    const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    const auto start = process_start_time(pid); // read after the open: what it names now cannot change
    const bool same = pidfd && start && *start == static_cast<std::uint64_t>(lua_tointeger(L, 2));
    lua_pushboolean(L, same && ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0 ? 1 : 0);
    return 1;
}

int which(lua_State* L) {
    const LuaRun& run = LuaRun::of(L);
    auto environment = hook_environment(run.folders, run.call.hook_id);
    const std::string path = find_program(check_text(L, "stead.which", "program", 1), environment["PATH"]);
    path.empty() ? lua_pushnil(L) : push(L, path);
    return 1;
}

} // namespace

void add_system_functions(lua_State* L) {
    const luaL_Reg functions[] = {
        {"run", run_program}, {"spawn", spawn}, {"sleep", sleep}, {"which", which}, {nullptr, nullptr}};
    luaL_setfuncs(L, functions, 0);
    const luaL_Reg processes[] = {{"start_time", process_start}, {"signal", process_signal}, {nullptr, nullptr}};
    luaL_newlib(L, processes);
    add_supervise_functions(L);
    lua_setfield(L, -2, "process");
    add_file_functions(L);
    add_network_functions(L);
}

} // namespace stead::script
