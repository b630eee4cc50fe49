// SPDX-License-Identifier: Apache-2.0
#include "hook_fixture.hpp"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <thread>

namespace stead::script::test {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

struct LuaHook : HookTest {};

TEST_F(LuaHook, ReachesItsHost) {
    const HookResult result = lua(R"(
        local from, to, action = ...
        assert(stead.module.name == "web" and stead.module.id == 3 and stead.module.mode == "farm")
        stead.log.info(from .. ">" .. to .. " " .. action)
        stead.log.error("two\nlines")
        assert(stead.resource.get("tcp.web80") == "up" and stead.resource.get("none") == nil)
        stead.resource.set("custom.x", "down")
        assert(not pcall(stead.resource.set, "forbidden", "x"))
        assert(stead.var.SERVICES == "nginx" and stead.macro.PORT == "80")
        local view = stead.view()
        assert(view.epoch == 7 and view.members[2].weight == 2)
        assert(stead.state() == "WAIT")
        print("to the user log", 1)
    )",
                                  {"WAIT", "UP", "start"});
    EXPECT_EQ(result.end, End::succeeded) << result.reason;
    EXPECT_THAT(host.lines, ElementsAre("1 WAIT>UP start", "3 two", "3 lines"));
    EXPECT_EQ(host.resources["custom.x"], "down");
    EXPECT_THAT(output, ElementsAre("O:to the user log\t1"));
}

TEST_F(LuaHook, EveryEndIsDistinct) {
    EXPECT_EQ(lua("return false, 'no disk'").reason, "no disk");
    EXPECT_EQ(lua("return stead.tcp.ask{port = 1}").end, End::failed) << "nil and why, as functions tell of an error";
    EXPECT_EQ(lua("return nil, 'no disk'").reason, "no disk");
    EXPECT_EQ(lua("return nil").end, End::succeeded);
    EXPECT_EQ(lua("return true, 'all of it'").end, End::succeeded);
    EXPECT_EQ(lua("return 4").exit_code, 4);
    for (const char* no_code :
         {"return 0/0", "return 0.5", "return 1 << 32", "return -1", "return 256", "return 1e300"}) {
        EXPECT_EQ(lua(no_code).end, End::failed) << no_code;
        EXPECT_NE(lua(no_code).reason.find("allowed: an exit code of 0 to 255"), std::string::npos) << no_code;
    }
    EXPECT_EQ(lua("pcall(stead.fail, 'because') stead.log.info('not reached')").reason, "because");
    EXPECT_TRUE(host.lines.empty());
    EXPECT_THAT(lua("\n\nlocal x = = 1").reason, StartsWith("bin/hook.lua:3: "));
    EXPECT_THAT(lua("\nlocal x = nil + 1").reason, StartsWith("bin/hook.lua:2: attempt to perform arithmetic"));
    EXPECT_EQ(lua("return {}").end, End::failed);
    EXPECT_EQ(lua("error({})").end, End::failed);
    const HookResult memory = lua("local t = {} while true do t[#t + 1] = string.rep('x', 10000) .. #t end");
    EXPECT_EQ(memory.end, End::out_of_memory) << memory.reason;
    EXPECT_EQ(lua("local s = string.rep('x', 1 << 29)").end, End::out_of_memory);
    EXPECT_EQ(lua("local s = string.rep('x', 1 << 25) s = s:gsub('x', 'yyyyyyyy')").end, End::out_of_memory);
}

TEST_F(LuaHook, EndlessLoopsEnd) {
    limits.timeout = milliseconds{200};
    for (const char* text :
         {"while true do end", "while true do pcall(error) end",
          "while true do pcall(function() while true do end end) end",
          "local function f() pcall(f) f() end while true do pcall(f) end",
          "while true do xpcall(function() while true do end end, function() while true do end end) end",
          "while true do coroutine.wrap(function() while true do end end)() end",
          "while true do coroutine.resume(coroutine.create(function() while true do pcall(error) end end)) end",
          "stead.sleep('1h')", "while true do pcall(stead.sleep, 1) end", "stead.run{'sleep', '300'}",
          "while true do pcall(stead.run, {'sleep', '300'}) end", "stead.wait_tcp('127.0.0.1', 1, '1h')",
          "local c <close> = setmetatable({}, {__close = function() while true do end end}) error('x')"}) {
        const HookResult result = lua(text);
        EXPECT_EQ(result.end, End::timed_out) << text << ": " << result.reason;
        EXPECT_LT(result.took, seconds{5}) << text;
    }
}

TEST_F(LuaHook, APatternThatHangsIsGivenUp) {
    limits.timeout = milliseconds{200};
    const HookResult result =
        lua("local s = ('a'):rep(600) s:find(('.-'):rep(4) .. 'b') s:find(('.-'):rep(12) .. 'b') stead.log.info('x')");
    EXPECT_EQ(result.end, End::timed_out);
    EXPECT_THAT(result.reason, HasSubstr("given up"));
    EXPECT_LT(result.took, seconds{5});
    EXPECT_TRUE(lua("return true").ok()) << "the runner goes on";
}

TEST_F(LuaHook, CancelInTheMiddle) {
    for (const char* text : {"print('on') stead.run{'sleep', '300'}", "print('on') while true do pcall(error) end",
                             "print('on') stead.sleep('1h')"}) {
        output.clear();
        put("hook.lua", text, false);
        auto future = begin("hook");
        for (bool on = false; !on;) {
            const std::lock_guard lock(host.mutex);
            on = !output.empty();
        }
        runner().cancel();
        EXPECT_EQ(future.get().end, End::cancelled) << text;
    }
}

TEST_F(LuaHook, SandboxHasNoWayOut) {
    const HookResult result = lua(R"(
        for name, value in pairs{exit = os.exit, execute = os.execute, popen = io.popen, package = package,
                                 dofile = dofile, loadfile = loadfile, sethook = debug.sethook,
                                 getregistry = debug.getregistry, setlocale = os.setlocale} do
            error("there is " .. name)
        end
        assert(not pcall(setmetatable, {}, {__gc = function() end}))
        assert(load(string.dump(function() end)) == nil)
        assert(not pcall(require, "../x"))
        assert(not pcall(require, "no_such"))
        assert(getmetatable(io.open("/dev/null")) == "protected")
        assert(load("return 1 + 1")() == 2)
        return require("mine").answer == 42
    )");
    EXPECT_EQ(result.end, End::failed);
    put("lib_mine.lua", "", false);
    fs::create_directories(folders.bin / "lib");
    ASSERT_TRUE(write_file_atomically(folders.bin / "lib/mine.lua", "return {answer = 42}"));
    EXPECT_TRUE(run("hook").ok()) << run("hook").reason;
}

TEST_F(LuaHook, RunGivesExitOutputAndTimeout) {
    const HookResult result = lua(R"(
        local r = stead.run{"sh", "-c", "cat; echo $A; pwd; echo bad >&2; exit 3", input = "in\n", env = {A = "b"},
                            cwd = "/tmp"}
        assert(r.exit == 3 and r.out == "in\nb\n/tmp\n" and r.err == "bad\n" and not r.timed_out, r.out)
        r = stead.run{"sleep", "300", timeout = "100ms"}
        assert(r.timed_out and r.exit == nil)
        r = stead.run{"sh", "-c", "head -c 3000000 /dev/zero"}
        assert(#r.out == 1048576 and r.cut)
        r = stead.run{"sh", "-c", "kill -9 $$"}
        assert(r.exit == 137)
    )");
    EXPECT_TRUE(result.ok()) << result.reason;
}

TEST_F(LuaHook, WrongArgumentsAreNamed) {
    EXPECT_THAT(lua("\nstead.run{'true', timeout = true}").reason,
                testing::AllOf(StartsWith("bin/hook.lua:2: stead.run: argument 'timeout': expected a duration"),
                               HasSubstr("got boolean")));
    EXPECT_THAT(lua("stead.run{'true', timout = 1}").reason, HasSubstr("allowed: timeout, env, cwd, input"));
    EXPECT_THAT(lua("stead.run('true')").reason, HasSubstr("expected a table"));
    EXPECT_THAT(lua("stead.run{'echo', 'a\\0b'}").reason, HasSubstr("'[2]': expected a text without NUL bytes"));
    EXPECT_THAT(lua("stead.run{'true', env = {A = 'a\\0b'}}").reason, HasSubstr("'env.A': expected a text without"));
    EXPECT_THAT(lua("stead.run{'true', env = {['A=B'] = 'c'}}").reason, HasSubstr("expected names of variables"));
    EXPECT_THAT(lua("stead.run{'true', cwd = '/\\0x'}").reason, HasSubstr("'cwd': expected a text without NUL"));
    EXPECT_THAT(lua("stead.file.write('/tmp/a\\0b', 'x')").reason, HasSubstr("'path': expected a text without NUL"));
    EXPECT_THAT(lua("stead.wait_tcp('127.0.0.1', 99999)").reason, HasSubstr("got the number 99999"));
    EXPECT_THAT(lua("stead.run{'no-such-program'}").reason, HasSubstr("is not in PATH"));
    EXPECT_THAT(lua("stead.wait_tcp('h', 70000)").reason, HasSubstr("1 to 65535"));
    EXPECT_THAT(lua("stead.wait_tcp('h', '70000')").reason, HasSubstr("got '70000'"));
    EXPECT_THAT(lua("stead.port_free('http')").reason, HasSubstr("got 'http'"));
    EXPECT_THAT(lua("stead.supervised('a b')").reason,
                testing::AllOf(StartsWith("bin/hook.lua:1: "), HasSubstr("got 'a b'")));
    EXPECT_THAT(lua("stead.nothing()").reason, HasSubstr("no such function"));
    EXPECT_THAT(lua("stead.log.info({})").reason, HasSubstr("stead.log.info: argument 'text'"));
    EXPECT_THAT(lua("stead.sleep('soon')").reason, HasSubstr("got 'soon'"));
}

TEST_F(LuaHook, WaitsForAPort) {
    const Fd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(server.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(::getsockname(server.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    const std::string port = std::to_string(ntohs(address.sin_port));
    EXPECT_FALSE(lua("return stead.wait_tcp('127.0.0.1', " + port + ", '200ms')").ok());
    std::thread later([&] {
        std::this_thread::sleep_for(milliseconds{200});
        ::listen(server.get(), 4);
    });
    EXPECT_TRUE(lua("return stead.wait_tcp('127.0.0.1', " + port + ", '10s')").ok());
    EXPECT_TRUE(lua("return stead.wait_tcp('127.0.0.1', '" + port + "', '10s')").ok()) << "a macro is a text";
    later.join();
}

TEST_F(LuaHook, FilesAndTemplates) {
    const HookResult result = lua(R"(
        local path = stead.module.var .. "/x.conf"
        assert(not stead.file.exists(path))
        stead.file.write(path, stead.file.template("listen ${addr}:${port}; $$x $y", {addr = "10.0.0.1", port = 80}))
        assert(stead.file.read(path) == "listen 10.0.0.1:80; $x $y")
        assert(stead.file.read("/no/such") == nil)
        assert(not pcall(stead.file.template, "${missing}", {}))
    )");
    EXPECT_TRUE(result.ok()) << result.reason;
}

TEST_F(LuaHook, CheckScriptsNamesTheLine) {
    put("good.lua", "#!/usr/bin/lua\nreturn true", false);
    put("bad.lua", "\n\nif then", false);
    put("good", "#!/bin/sh\n", true);
    const std::vector<Error> errors = check_scripts(folders.bin);
    ASSERT_EQ(errors.size(), 2u);
    EXPECT_EQ(errors[0].where, "bin/bad.lua:3");
    EXPECT_EQ(errors[1].code, Errc::conflict);
}

} // namespace stead::script::test
