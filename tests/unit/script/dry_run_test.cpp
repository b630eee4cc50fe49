// SPDX-License-Identifier: Apache-2.0
// Goal: a rehearsal changes nothing, tells everything with its line, and finds what a run would find too late.
#include "hook_fixture.hpp"

#include "lua_names.hpp"

#include <stead/script/dry_run.hpp>

namespace stead::script::test {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

struct Rehearsed : HookTest {
    static std::vector<std::string> texts(const std::vector<Error>& errors) {
        std::vector<std::string> all;
        for (const Error& error : errors) {
            all.push_back(error.text());
        }
        return all;
    }
};

TEST_F(Rehearsed, NothingIsDoneAndEverythingIsTold) {
    put("prestart.lua", R"(
for service in stead.var.SERVICES:gmatch("%S+") do
  if stead.service(service):is_active() then stead.fail(service .. " runs already") end
end
assert(stead.port_free(80)))",
        false);
    put("start_both.lua", R"(
local path = stead.module.var .. "/made"
stead.file.write(path, "hello")
assert(stead.file.read(path) == "hello" and stead.file.exists(path))
assert(stead.run{"touch", path, timeout = "1s"}.exit == 0)
stead.service("nginx"):start()
local p = stead.supervise{"sleep", "74001", name = "app"}
stead.daemon{"sleep", "74002", pidfile = path}:start()
assert(p:is_running() and stead.wait_tcp("127.0.0.1", 1, "1h"))
stead.resource.set("custom.x", "up")
assert(stead.resource.get("custom.x") == "up")
assert(stead.http.get("http://127.0.0.1:1/").status == 200)
os.remove("/etc/passwd")
io.open("/etc/shadow", "w"):write("x")
stead.sleep("1h")
stead.log.info("done"))",
        false);
    put("stop_both.lua",
        "local s = stead.service('nginx')\nif s:is_active() then s:stop() end\n"
        "stead.supervised('app'):stop()",
        false);
    const Instant began = BootClock::now();
    const DryRun done = dry_run(folders);
    EXPECT_LT(BootClock::now() - began, seconds{5});
    EXPECT_THAT(texts(done.errors), IsEmpty()) << done.text();
    for (const char* line :
         {"prestart.lua STOP WAIT start", "bin/start_both.lua:3: would write 5 bytes to ",
          "bin/start_both.lua:5: would run touch ", "bin/start_both.lua:6: would start service nginx",
          "bin/start_both.lua:7: would supervise sleep 74001 as app, action restart",
          "bin/start_both.lua:10: would set resource custom.x to up", "would remove /etc/passwd",
          "would open /etc/shadow for writing", "bin/start_both.lua:16: logs I: done", "stop_both.lua UP WAIT stop",
          "stop_both.lua force WAIT STOP stop", "bin/stop_both.lua:2: would stop service nginx", "would stop app"}) {
        EXPECT_THAT(done.text(), HasSubstr(line));
    }
    EXPECT_EQ(done.hooks.front().name, "prestart.lua");
    EXPECT_THAT(done.hooks.front().arguments, ElementsAre("STOP", "WAIT", "start"));
    EXPECT_THAT(done.hooks.back().lines, testing::Contains("bin/stop_both.lua:2: would stop service nginx"));
    EXPECT_TRUE(done.environment.empty()) << "no shell hook";
    EXPECT_FALSE(fs::exists(folders.var / "made"));
    EXPECT_EQ(processes_with("74001") + processes_with("74002"), 0);
    EXPECT_TRUE(fs::exists("/etc/passwd"));
}

TEST_F(Rehearsed, ErrorsHaveTheirLines) {
    put("start_both.lua",
        "stead.log.info('fine')\nif false then\n  stead.servise('x'):start()\nend\n"
        "local t = stead.file.wirte\n-- stead.not_a_use\nprint('stead.nor_this')\n",
        false);
    put("stop_both.lua", "stead.run{'true', timout = '1s'}", false);
    put("poststop.lua", "for\n", false);
    put("prestart.lua", "if mispelled then return end\nstead.run{'no-such-program'}\nstead.fail('port in use')", false);
    const DryRun done = dry_run(folders);
    EXPECT_THAT(texts(done.errors),
                ElementsAre(HasSubstr("bin/poststop.lua:"), HasSubstr("bin/prestart.lua: port in use"),
                            HasSubstr("bin/start_both.lua:3: stead.servise: there is no such function"),
                            HasSubstr("bin/start_both.lua:5: stead.file.wirte: there is no such function"),
                            HasSubstr("bin/stop_both.lua:1: stead.run: argument 'timout'")))
        << done.text();
    EXPECT_THAT(texts(done.warnings), ElementsAre(HasSubstr("bin/prestart.lua:1: the global 'mispelled'"),
                                                  HasSubstr("'no-such-program' is not in PATH")));
}

TEST_F(Rehearsed, WrongArgumentsAreFoundAsInARun) {
    for (const auto& [text, why] : std::vector<std::pair<std::string, std::string>>{
             {"stead.wait_tcp('127.0.0.1', 'http')", "expected an integer from 1 to 65535, got 'http'"},
             {"stead.wait_tcp('127.0.0.1', 80, 'soon')", "'timeout': expected a duration"},
             {"stead.port_free()", "expected an integer from 1 to 65535"},
             {"stead.port_free(80, 'sctp')", "expected tcp or udp, got 'sctp'"},
             {"stead.http.get('https://127.0.0.1/')", "expected http://host[:port]/path"},
             {"stead.tcp.ask{port = 1, sent = 'x'}", "'sent': no such field"},
             {"stead.supervise{'true', name = 'app', action = 'reboot'}", "got 'reboot'"},
             {"stead.supervise{'true', name = 'app', stop_signal = 'BYE'}", "got 'BYE'"},
             {"stead.log.info('x', 1)", "'fields': expected a table"}}) {
        put("start_both.lua", text, false);
        EXPECT_THAT(texts(dry_run(folders).errors),
                    ElementsAre(testing::AllOf(testing::StartsWith("bin/start_both.lua:1: stead."), HasSubstr(why))));
    }
}

TEST_F(Rehearsed, WhatOnlyAHookOfTheLifeMayDoIsRefusedInUpdate) {
    put("update.lua", "stead.supervised('app')", false);
    EXPECT_THAT(texts(dry_run(folders).errors),
                ElementsAre(HasSubstr("bin/update.lua:1: stead.supervised: only a hook of a module's start or stop")));
}

TEST_F(Rehearsed, PortsMayBeMacrosAndFieldsAreShown) {
    put("start_both.lua",
        "assert(stead.port_free(stead.macro.PORT) and stead.wait_tcp('127.0.0.1', stead.macro.PORT))\n"
        "stead.log.info('serves', {port = stead.macro.PORT})",
        false);
    const DryRun done = dry_run(folders);
    EXPECT_THAT(texts(done.errors), IsEmpty());
    EXPECT_THAT(done.text(), HasSubstr("bin/start_both.lua:2: logs I: serves port=80"));
}

TEST_F(Rehearsed, AHookMayKnowIt) {
    put("start_both.lua",
        "local page = stead.http.get('http://127.0.0.1:1/')\n"
        "if not stead.rehearsing and page.body ~= 'ok' then stead.fail('not ok') end",
        false);
    const DryRun done = dry_run(folders);
    EXPECT_THAT(texts(done.errors), IsEmpty()) << done.text();
}

TEST_F(Rehearsed, ATemplateThatCannotBeRenderedIsNamedWithBothLines) {
    ASSERT_TRUE(write_file_atomically(folders.conf / "app.in", "listen %PORT%\nuser %USR%\n", 0644));
    put("start_both.lua", "local to = stead.module.var .. '/app'\nstead.file.render('app.in', to)", false);
    EXPECT_THAT(texts(dry_run(folders).errors),
                ElementsAre(testing::AllOf(testing::StartsWith("bin/start_both.lua:2: stead.file.render: "),
                                           HasSubstr("conf/app.in:2: %USR% is neither"))));
}

TEST_F(Rehearsed, ShellHooksAreParsedNotRun) {
    put("start_both", "#!/bin/sh\ntouch \"$SAFEUSERVAR/ran\"\n", true);
    put("stop_both", "#!/usr/bin/env bash\nx=(1 2)\nif true; then\n", true);
    put("prestart", "#!/usr/bin/python3\nprint(\n", true);
    put("poststop", "#!/bin/sh\nexit 0\n", false);
    const DryRun done = dry_run(folders);
    EXPECT_THAT(texts(done.errors),
                ElementsAre(HasSubstr("bin/poststop: is not executable"), HasSubstr("bin/stop_both:4: syntax error")))
        << done.text();
    EXPECT_THAT(done.text(), HasSubstr("is a script for sh without errors of syntax; it is not run"));
    EXPECT_THAT(done.text(), HasSubstr("is a program for python3: neither checked nor run"));
    EXPECT_THAT(done.text(), HasSubstr("SAFEMODULE=web"));
    EXPECT_EQ(done.environment.at("SAFEMODULE"), "web");
    EXPECT_THAT(done.text(), HasSubstr("SERVICES=nginx"));
    EXPECT_FALSE(fs::exists(folders.var / "ran"));
}

TEST_F(Rehearsed, AHookThatLoopsOrEatsMemoryEnds) {
    put("start_both.lua", "while true do end", false);
    put("stop_both.lua", "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", false);
    const DryRun done = dry_run(folders);
    EXPECT_THAT(texts(done.errors), testing::Contains(HasSubstr("start_both.lua: did not end within")));
    EXPECT_THAT(texts(done.errors), testing::Contains(HasSubstr("bytes of memory"))); // in a slow build also of time
}

TEST(LuaNames, AreFoundOutsideOfCommentsAndStrings) {
    const auto names =
        stead_names("stead.run{} -- stead.a\n--[==[ stead.b ]]\n ]==]x.stead.c() 'stead.d' [[stead.e\n]]"
                    " stead . file\n.read('\\'stead.f') stead..'x' steady.g stead.log.info('a')\"stead.h");
    std::vector<std::string> shown;
    for (const NameUse& use : names) {
        std::string text = std::to_string(use.line);
        for (const std::string& name : use.names) {
            text += " " + name;
        }
        shown.push_back(text);
    }
    EXPECT_THAT(shown, ElementsAre("1 run", "4 file read", "5 log info"));
    for (const char* odd : {"", "stead", "stead.", "--", "--[", "[", "[=", "\"", "stead.x.", "'\\"}) {
        EXPECT_LE(stead_names(odd).size(), 1u) << odd;
    }
}

} // namespace stead::script::test
