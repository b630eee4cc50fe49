// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/base/time.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Runs a module's hooks: bin/<name> (executable) or bin/<name>.lua, on a leash.
namespace stead::script {

class Supervisor;

/// What the `stead` table of a Lua hook (and the environment of a shell hook) reaches in the module host. Called from
/// the hook's thread; the host makes each call safe (it posts to the strand and waits).
class HookHost {
public:
    virtual ~HookHost() = default;
    virtual void log(int level, std::string_view line) = 0;                 ///< module log; 0 debug .. 3 error
    virtual std::optional<std::string> resource(std::string_view name) = 0; ///< own; "remote." prefix: the peer's
    virtual Result<void> set_resource(std::string_view name, std::string_view value) = 0;
    virtual std::string view_json() = 0; ///< {"epoch":..,"self":"node1","members":[{"name":..,"weight":..,"state":..}]}
    virtual std::string state_name() = 0;
};

struct Limits {
    nanoseconds timeout{seconds{300}};
    std::size_t lua_memory_bytes{64u << 20};
    std::size_t output_line_bytes{4096};
    bool keeps_daemons{true}; ///< of a program that succeeds; false: whatever it started ends with it
};

struct ModuleFolders {
    std::string module, node, mode;
    std::uint32_t module_id{};
    std::filesystem::path bin, conf, var;        ///< SAFEUSERBIN, SAFEUSERCONF (with safeconf.xml), SAFEUSERVAR
    std::filesystem::path prefix;                ///< install tree: bin/stead, share/stead/lua, libexec/stead/compat
    std::filesystem::path lua_library;           ///< share/stead/lua
    std::map<std::string, std::string> vars;     ///< every <var>: environment of shell hooks, stead.var
    std::map<std::string, std::string> macros{}; ///< stead.macro
};

struct HookResult {
    enum class End { succeeded, failed, timed_out, killed, out_of_memory, cancelled, not_found } end{};
    int exit_code{};    ///< executable: exit status; Lua: 0 or 1
    std::string reason; ///< one line: what to write to the log
    nanoseconds took{};
    std::string last_line{}; ///< executable: what it wrote last, to stderr if there was any, cut; empty: nothing
    /// The reason, and what the program itself said of it.
    [[nodiscard]] std::string told() const { return ok() || last_line.empty() ? reason : reason + ": " + last_line; }
    [[nodiscard]] bool ok() const noexcept { return end == End::succeeded || end == End::not_found; }
};

/// Threading: start/cancel from the owner's strand; `done` and `output` are called on a thread of the runner, and the
/// owner posts them to its strand.
class HookRunner {
public:
    using Done = std::function<void(const HookResult&)>;
    using Output = std::function<void(std::string_view line, bool is_error)>; ///< for the user log

    /// `supervisor`: who keeps what stead.supervise{} begins; without one that is an error of the hook.
    [[nodiscard]] static std::unique_ptr<HookRunner> create(ModuleFolders folders, HookHost& host, Output output,
                                                            std::shared_ptr<Supervisor> supervisor = nullptr);
    /// Cancels what runs, waits for it. So a HookHost call that waits for the owner's strand must give up once the
    /// owner destroys the runner on that strand.
    virtual ~HookRunner() = default;

    /// Does the module have this hook? Errors: conflict when both X and X.lua are there; not_executable().
    [[nodiscard]] virtual Result<bool> has(std::string_view name) const = 0;
    /// Runs one hook; one at a time (STEAD_ASSERT), and never from inside `done` itself: post first. `done` follows
    /// exactly once, within limits.timeout + 5 s, with every process that the hook started dead unless the hook
    /// succeeded: then daemons it left stay (limits.keeps_daemons), and what they write still comes to `output`. With
    /// libexec/stead/stead-leash that holds for setsid and double forks too; without it, for all processes that kept
    /// STEAD_HOOK_ID in their environment. A hook does not outlive this process (with the leash). A Lua hook that hangs
    /// in a C function is reported timed_out and its thread abandoned: it reaches neither host nor output any more.
    /// A missing hook ends with not_found. With a supervisor: prestart first ends what a dead host left, and after a
    /// stop_X (missing or not) nothing that start_X supervised is left, after poststop nothing at all.
    virtual void start(std::string_view name, std::vector<std::string> arguments, const Limits& limits, Done done) = 0;
    virtual void cancel() = 0;
};

/// Why bin/<name>, if it is there, cannot be run: nobody may execute it (denied), or its line "#!…" ends with CR LF
/// (malformed) or names an interpreter that is not there (not_found); with the remedy.
[[nodiscard]] std::optional<Error> not_executable(const std::filesystem::path& bin, std::string_view name);
/// Compiles every bin/*.lua without running it. Errors: "bin/start_both.lua:12: …".
[[nodiscard]] std::vector<Error> check_scripts(const std::filesystem::path& bin);
/// Lets its shell parse each script of bin (SHELL -n), without running it; uses folders.bin and .prefix. The same
/// errors. A shell may refuse what it would run (syntax that a `shopt` switches on, data behind an `exit`).
[[nodiscard]] std::vector<Error> check_shell_scripts(const ModuleFolders& folders);

} // namespace stead::script
