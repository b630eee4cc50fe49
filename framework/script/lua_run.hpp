// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "linger.hpp"
#include "process.hpp"

#include <stead/script/script.hpp>
#include <stead/script/supervisor.hpp>

#include <lua.hpp>

#include <functional>
#include <mutex>

namespace stead::script {

/// The way from a hook's thread to its host. Closed when the runner gives a thread up: nothing passes afterwards.
class Gate {
public:
    Gate(HookHost& host, HookRunner::Output output) : host_(&host), output_(std::move(output)) {}
    /// Returns once no call is under way.
    void close() {
        const std::lock_guard lock(mutex_);
        host_ = nullptr;
    }
    void output(std::string_view line, bool is_error) {
        const std::lock_guard lock(mutex_);
        if (host_ != nullptr && output_) {
            output_(line, is_error);
        }
    }
    /// Calls `use(HookHost&)` unless closed; then returns `otherwise`.
    template <class Use, class Value>
    Value with_host(Use use, Value otherwise) {
        const std::lock_guard lock(mutex_);
        return host_ != nullptr ? use(*host_) : otherwise;
    }

private:
    std::mutex mutex_;
    HookHost* host_;
    HookRunner::Output output_;
};

struct HookCall {
    std::string name;
    std::vector<std::string> arguments;
    Limits limits;
    std::string hook_id;
    Instant deadline;
};

/// What a run shares with its runner.
struct Surroundings {
    std::shared_ptr<Gate> gate;
    std::shared_ptr<Cancel> cancel;
    std::weak_ptr<Lingerer> lingerer;     ///< for what daemons go on writing
    std::weak_ptr<Supervisor> supervisor; ///< empty: this hook may supervise nothing
    /// Set: nothing is changed; instead this is told what would be (or, as a warning, what is odd), and where.
    std::function<void(bool warning, const std::string& place, const std::string& text)> rehearse;
};

/// One run of one Lua hook: its state, its limits and the `stead` table. Used by one thread.
class LuaRun {
public:
    LuaRun(ModuleFolders folders, HookCall call, Surroundings surroundings);
    /// Runs bin/<name>.lua to its end. Never throws. Kills what a hook that failed had started.
    HookResult execute();

    /// "stead.a" or "stead.a.b" when there is no such thing, else empty.
    std::string unknown_name(const std::vector<std::string>& names);

    enum class Ending { none, failed, timed_out, cancelled };

    /// For the functions of the `stead` table.
    static LuaRun& of(lua_State* L) { return **static_cast<LuaRun**>(lua_getextraspace(L)); }
    /// Raises an error that no pcall keeps. Does not return.
    int end(lua_State* L, Ending ending, std::string reason);
    /// Ends the hook when it is cancelled or its time is over.
    void check_end(lua_State* L);

    const ModuleFolders folders;
    const HookCall call;
    const std::shared_ptr<Gate> gate;
    const std::shared_ptr<Cancel> cancel;
    const std::weak_ptr<Lingerer> lingerer;
    const std::weak_ptr<Supervisor> supervisor;
    const decltype(Surroundings::rehearse) rehearse;
    Ending ending{Ending::none};
    std::string reason;
    bool started_processes{};

private:
    static void* allocate(void* self, void* block, std::size_t old_size, std::size_t new_size);
    HookResult run_in(lua_State* L);
    int begin_rehearsal(lua_State* L);
    HookResult result_of(lua_State* L, int status);
    HookResult result_of_values(lua_State* L, int first);

    std::size_t used_bytes_{};
};

/// Opens the safe part of the standard library, and `require` for these folders.
void open_sandbox(lua_State* L);
/// Sets the global `stead`.
void open_stead(lua_State* L);
/// Adds stead.file and expand.
void add_file_functions(lua_State* L);
/// Adds stead.wait_tcp, port_free, tcp and http.
void add_network_functions(lua_State* L);
void push(lua_State* L, std::string_view text);
/// Sleeps until `until`, the hook's end or a cancel; raises for the last two.
void wait_until(lua_State* L, Instant until);
[[nodiscard]] Instant after(nanoseconds delay);
/// Adds what stead.supervise needs to the table on top of the stack.
void add_supervise_functions(lua_State* L);
/// What the table at index 1 says of a program: {"program", "argument", …, env=, cwd=}. `allowed`: its other fields.
ProcessSpec check_spec(lua_State* L, const char* function, const std::vector<std::string_view>& allowed);
/// The number of the signal named at `index`: "TERM".
int check_signal(lua_State* L, const char* function, const char* argument, int index);
/// Adds stead.run, spawn, sleep, which, process, files and network to the table on top of the stack.
void add_system_functions(lua_State* L);
/// Loads Lua text (never bytecode) as a function. Error text is "place:line: …".
int load_text(lua_State* L, const std::filesystem::path& path, const std::string& place);
/// Raises "function: argument 'name': expected …, got …".
int bad_argument(lua_State* L, const char* function, const char* argument, const std::string& expected, int index);
/// "bin/x.lua:12" of the nearest caller that is the module's own.
std::string place_of(lua_State* L);
/// A duration at `index` ("10s" or a number of seconds).
nanoseconds check_duration(lua_State* L, const char* function, const char* argument, int index);
std::string check_text(lua_State* L, const char* function, const char* argument, int index);
/// One that the system takes as a C string: a path, an argument of a program.
std::string check_c_text(lua_State* L, const char* function, const char* argument, int index);

} // namespace stead::script
