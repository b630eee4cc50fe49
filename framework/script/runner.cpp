// SPDX-License-Identifier: Apache-2.0
#include "environment.hpp"
#include "lines.hpp"
#include "lua_run.hpp"
#include "shell_syntax.hpp"

#include <stead/base/assert.hpp>
#include <stead/base/utf8.hpp>

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

namespace stead::script {

namespace {

/// After its limit a Lua hook has this long to come out of a C function; then its thread is given up.
constexpr nanoseconds lua_grace = seconds{2};

bool good_name(std::string_view name) {
    return !name.empty() && name.find('/') == std::string_view::npos && name.front() != '.';
}

/// What a Lua thread and the thread that waits for it share; outlives either.
struct LuaThread {
    explicit LuaThread(ModuleFolders folders, HookCall call, Surroundings surroundings)
        : run(std::move(folders), std::move(call), std::move(surroundings)) {}
    LuaRun run;
    std::mutex mutex;
    std::condition_variable ended;
    std::optional<HookResult> result;
    pid_t thread_id{};
};

/// The hook's thread and the lingerer's may have a line at the same time.
HookRunner::Output one_at_a_time(HookRunner::Output output) {
    return [output = std::move(output), mutex = std::make_shared<std::mutex>()](std::string_view line, bool is_error) {
        const std::lock_guard lock(*mutex);
        if (output) {
            output(line, is_error);
        }
    };
}

class Runner final : public HookRunner {
public:
    Runner(ModuleFolders folders, HookHost& host, Output output, std::shared_ptr<Supervisor> supervisor)
        : folders_(std::move(folders)), host_(host), output_(one_at_a_time(std::move(output))),
          supervisor_(std::move(supervisor)) {}
    Runner(const Runner&) = delete;
    Runner& operator=(const Runner&) = delete;
    ~Runner() override {
        cancel();
        if (thread_.joinable()) {
            thread_.join();
        }
        lingerer_->stop();
    }

    Result<bool> has(std::string_view name) const override;
    void start(std::string_view name, std::vector<std::string> arguments, const Limits& limits, Done done) override;
    void cancel() override {
        if (cancel_) {
            cancel_->set();
        }
    }

private:
    enum class Kind { none, program, lua };
    Result<Kind> kind_of(std::string_view name) const;
    HookResult run_one(HookCall call);
    HookResult run_supervised(HookCall call);
    HookResult run_program(const HookCall& call);
    HookResult run_lua(HookCall call);

    const ModuleFolders folders_;
    HookHost& host_;
    const Output output_;
    const std::shared_ptr<Supervisor> supervisor_;
    const std::shared_ptr<Lingerer> lingerer_{std::make_shared<Lingerer>(output_, Limits().output_line_bytes)};
    std::shared_ptr<Cancel> cancel_;
    std::atomic<bool> running_{false};
    std::thread thread_;
};

Result<Runner::Kind> Runner::kind_of(std::string_view name) const {
    if (!good_name(name)) {
        return Error{Errc::malformed, "", "'" + printable(name) + "' is not the name of a hook"};
    }
    const std::filesystem::path program = folders_.bin / std::string(name);
    const std::filesystem::path lua = folders_.bin / (std::string(name) + ".lua");
    const std::string place = "bin/" + std::string(name);
    std::error_code ec;
    const bool has_program = std::filesystem::exists(program, ec) && !std::filesystem::is_directory(program, ec);
    if (has_program && std::filesystem::exists(lua, ec)) {
        return Error{Errc::conflict, place, "there is " + place + ".lua too; keep one of the two"};
    }
    if (std::filesystem::exists(lua, ec)) {
        return Kind::lua;
    }
    if (auto error = not_executable(folders_.bin, name)) {
        return *std::move(error);
    }
    return has_program ? Kind::program : Kind::none;
}

Result<bool> Runner::has(std::string_view name) const {
    const Result<Kind> kind = kind_of(name);
    if (!kind) {
        return kind.error();
    }
    return *kind != Kind::none;
}

void Runner::start(std::string_view name, std::vector<std::string> arguments, const Limits& limits, Done done) {
    STEAD_ASSERT(!running_.exchange(true));
    if (thread_.joinable()) {
        thread_.join();
    }
    cancel_ = std::make_shared<Cancel>();
    const Instant now = BootClock::now();
    HookCall call{std::string(name), std::move(arguments), limits, new_hook_id(),
                  limits.timeout > never - now ? never : now + limits.timeout};
    thread_ = std::thread([this, call = std::move(call), done = std::move(done)]() mutable {
        const Instant began = BootClock::now();
        HookResult result = supervisor_ ? run_supervised(std::move(call)) : run_one(std::move(call));
        result.took = BootClock::now() - began;
        running_ = false; // before done: it may lead to the next start
        done(result);
    });
}

/// The life of supervised programs follows the hooks.
HookResult Runner::run_supervised(HookCall call) {
    const std::string name = call.name, hook_id = call.hook_id;
    const Instant deadline = call.deadline;
    const bool by_force = !call.arguments.empty() && call.arguments.front() == "force";
    const bool stops = name.starts_with("stop_");
    const std::string begun_in = stops ? "start_" + name.substr(5) : "";
    if (name == "prestart") {
        supervisor_->stop_leftovers();
    } else if (stops) {
        supervisor_->expect_end(begun_in);
    }
    HookResult result = run_one(std::move(call));
    supervisor_->hook_ended(hook_id, result.ok());
    if (stops || name == "poststop") {
        supervisor_->stop_begun_in(begun_in, by_force ? BootClock::now() : deadline, *cancel_);
    } else if (const std::string failure = cancel_->failure(); result.ok() && !failure.empty()) {
        supervisor_->hook_ended(hook_id, false); // it died as the hook came to its end
        return {HookResult::End::failed, 1, failure, {}};
    }
    return result;
}

HookResult Runner::run_one(HookCall call) {
    const Result<Kind> kind = kind_of(call.name);
    if (!kind) {
        return {HookResult::End::failed, 1, kind.error().text(), {}};
    }
    switch (*kind) {
    case Kind::none: return {HookResult::End::not_found, 0, "", {}};
    case Kind::program: return run_program(call);
    case Kind::lua: return run_lua(std::move(call));
    }
    return {};
}

HookResult describe(const ProcessEnd& end, const HookCall& call) {
    using End = HookResult::End;
    switch (end.how) {
    case ProcessEnd::How::exited:
        return {end.code == 0 ? End::succeeded : End::failed,
                end.code,
                end.code == 0 ? "" : "exit " + std::to_string(end.code),
                {}};
    case ProcessEnd::How::signalled:
        return {End::killed,
                128 + end.code,
                "killed by signal " + std::to_string(end.code) + " (" + ::strsignal(end.code) + ")",
                {}};
    case ProcessEnd::How::timed_out:
        return {End::timed_out,
                124,
                "did not end within its " +
                    std::to_string(std::chrono::duration_cast<milliseconds>(call.limits.timeout).count()) + " ms",
                {}};
    case ProcessEnd::How::cancelled: return {End::cancelled, 125, "cancelled", {}};
    case ProcessEnd::How::not_started: return {End::failed, 126, end.error, {}};
    }
    return {};
}

/// The scripts of a change of state; of a check or a handler, exit code 1 says something.
bool of_transition(std::string_view hook) {
    return hook.starts_with("start_") || hook.starts_with("stop_") || hook == "prestart" || hook == "poststop" ||
           hook == "transition";
}

HookResult Runner::run_program(const HookCall& call) {
    std::string last_out, last_err;
    const auto keep = [](std::string& last, std::string_view line) {
        constexpr std::size_t kept_max = 160;
        if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
            last = printable(line.substr(0, kept_max));
        }
    };
    LineSplitter out(call.limits.output_line_bytes, [&](std::string_view l) {
        keep(last_out, l);
        output_(l, false);
    });
    LineSplitter err(call.limits.output_line_bytes, [&](std::string_view l) {
        keep(last_err, l);
        output_(l, true);
    });
    ProcessSpec spec;
    spec.argv = {(folders_.bin / call.name).string()};
    spec.argv.insert(spec.argv.end(), call.arguments.begin(), call.arguments.end());
    spec.environment = hook_environment(folders_, call.hook_id);
    spec.folder = folders_.bin;
    spec.leash = leash_program(folders_);
    spec.hook_id = call.hook_id;
    spec.deadline = call.deadline;
    const std::string lone_test = of_transition(call.name) ? lone_test_at_end(folders_.bin / call.name) : "";
    spec.kill_leftovers_on_failure = lone_test.empty();
    spec.kill_leftovers = !call.limits.keeps_daemons;
    spec.output = [&](std::string_view bytes, bool is_error) { (is_error ? err : out).add(bytes); };
    ProcessPipes left;
    const ProcessEnd end = run_process(spec, *cancel_, &left);
    out.finish();
    err.finish();
    lingerer_->add(std::move(left));
    HookResult result = describe(end, call);
    if (!lone_test.empty() && result.end == HookResult::End::failed && result.exit_code == 1) {
        host_.log(2, call.name + ": its exit code 1 is that of its last command, the test '" + printable(lone_test) +
                         "', which did not hold: taken as success; end the script with 'exit 0'");
        result = {HookResult::End::succeeded, 0, "", {}};
    } else if (!lone_test.empty() && !result.ok()) {
        kill_marked(call.hook_id);
    }
    result.last_line = last_err.empty() ? last_out : last_err;
    return result;
}

HookResult Runner::run_lua(HookCall call) {
    const auto gate = std::make_shared<Gate>(host_, output_);
    const Instant deadline = call.deadline;
    const auto shared = std::make_shared<LuaThread>(folders_, std::move(call),
                                                    Surroundings{gate, cancel_, lingerer_, supervisor_, nullptr});
    std::thread worker([shared] {
        {
            const std::lock_guard lock(shared->mutex);
            shared->thread_id = static_cast<pid_t>(::syscall(SYS_gettid));
        }
        HookResult result = shared->run.execute();
        const std::lock_guard lock(shared->mutex);
        shared->result = std::move(result);
        shared->ended.notify_all();
    });
    std::unique_lock lock(shared->mutex);
    Instant give_up = deadline == never ? never : deadline + lua_grace + seconds{1};
    bool cancel_seen = false;
    while (!shared->result && BootClock::now() < give_up) {
        shared->ended.wait_for(lock, milliseconds{100});
        if (cancel_->is_set() && !cancel_seen) {
            cancel_seen = true;
            give_up = std::min(give_up, BootClock::now() + lua_grace + seconds{1});
        }
    }
    if (shared->result) {
        HookResult result = *shared->result;
        lock.unlock();
        worker.join();
        return result;
    }
    const pid_t thread_id = shared->thread_id;
    lock.unlock();
    gate->close();
    cancel_->set(); // it ends as soon as it comes back from the C function
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(thread_id), 19);
    worker.detach();
    kill_marked(shared->run.call.hook_id);
    return {cancel_seen ? HookResult::End::cancelled : HookResult::End::timed_out,
            1,
            "did not end: it hangs in a built-in function (a string pattern or a file); its thread was given up",
            {}};
}

/// "bin/x.lua:12: text" as an Error.
Error script_error(const std::string& place, const std::string& text) {
    if (text.starts_with(place + ":")) {
        const std::size_t colon = text.find(": ", place.size());
        if (colon != std::string::npos) {
            return {Errc::malformed, text.substr(0, colon), text.substr(colon + 2)};
        }
    }
    return {Errc::malformed, place, text};
}

} // namespace

std::unique_ptr<HookRunner> HookRunner::create(ModuleFolders folders, HookHost& host, Output output,
                                               std::shared_ptr<Supervisor> supervisor) {
    return std::make_unique<Runner>(std::move(folders), host, std::move(output), std::move(supervisor));
}

std::optional<Error> not_executable(const std::filesystem::path& bin, std::string_view name) {
    std::error_code ec;
    const std::filesystem::path program = bin / name;
    const std::filesystem::file_status file = std::filesystem::status(program, ec);
    if (!std::filesystem::exists(file) || std::filesystem::is_directory(file)) {
        return std::nullopt;
    }
    const std::string place = "bin/" + std::string(name);
    if ((file.permissions() & std::filesystem::perms(0111)) == std::filesystem::perms::none) {
        return Error{Errc::denied, place,
                     "is not executable; run chmod +x on it, or name it " + place + ".lua if it is Lua"};
    }
    std::string first(2, '\0');
    std::ifstream in(program);
    if (!in.read(first.data(), 2) || first != "#!" || !std::getline(in, first)) {
        return std::nullopt;
    }
    if (first.ends_with('\r')) {
        return Error{Errc::malformed, place + ":1",
                     "ends with CR LF, as on Windows, so that the system looks for a program of that name with a CR; "
                     "run: sed -i 's/\\r$//' " +
                         place};
    }
    std::string interpreter;
    std::istringstream{first} >> interpreter;
    if (interpreter.starts_with('/') && !std::filesystem::exists(interpreter, ec)) {
        return Error{Errc::not_found, place + ":1",
                     "the script is for " + interpreter +
                         ", which is not on this machine: install it, or name another program in this line"};
    }
    return std::nullopt;
}

std::vector<Error> check_scripts(const std::filesystem::path& bin) {
    std::vector<std::filesystem::path> files;
    std::error_code ec;
    for (std::filesystem::recursive_directory_iterator it(bin, ec), end; !ec && it != end; it.increment(ec)) {
        if (it->path().extension() == ".lua" && it->is_regular_file(ec)) {
            files.push_back(it->path());
        }
    }
    std::sort(files.begin(), files.end());
    std::vector<Error> errors;
    for (const std::filesystem::path& file : files) {
        lua_State* L = luaL_newstate();
        STEAD_ASSERT(L != nullptr);
        const std::string place = "bin/" + file.lexically_relative(bin).string();
        if (load_text(L, file, place) != LUA_OK) {
            errors.push_back(script_error(place, lua_tostring(L, -1)));
        }
        lua_close(L);
        const std::filesystem::path twin = file.parent_path() / file.stem();
        if (file.parent_path() == bin && std::filesystem::is_regular_file(twin, ec)) {
            errors.push_back(
                {Errc::conflict, "bin/" + file.stem().string(), "there is " + place + " too; keep one of the two"});
        }
    }
    return errors;
}

} // namespace stead::script
