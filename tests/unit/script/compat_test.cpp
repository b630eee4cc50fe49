// SPDX-License-Identifier: Apache-2.0
// Goal: the scripts of a module in the classic shell style run unchanged. Method: such a module, with stand-ins for
// `systemctl` and for the CLI that write down how they were called.
#include "hook_fixture.hpp"

namespace stead::script::test {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

struct ClassicModule : HookTest {
    ClassicModule() {
        tools = root / "tools";
        fs::create_directories(tools);
        tool("systemctl", "echo \"systemctl $*\" >> " + calls() +
                              "\ncase $1 in is-active) test -e " + root.string() + "/up.$2;; "
                              "start) touch " + root.string() + "/up.$2;; "
                              "stop) rm -f " + root.string() + "/up.$2;; esac\n");
        // The host gives a module its own CLI by STEAD; this one only remembers.
        fs::create_directories(root / "prefix/bin");
        fs::create_directories(root / "prefix/libexec");
        fs::create_directory_symlink(STEAD_STAGE "/libexec/stead", root / "prefix/libexec/stead");
        EXPECT_TRUE(write_file_atomically(root / "prefix/bin/stead",
                                          "#!/bin/sh\necho \"stead $*\" >> " + calls() +
                                              "\n[ \"$1\" = get ] && echo up\n"
                                              "[ \"$1\" = checkloop ] && exit 1\nexit 0\n",
                                          0755));
        folders.prefix = root / "prefix";
        folders.vars["PATH"] = tools.string() + ":/usr/sbin:/usr/bin:/sbin:/bin";
        EXPECT_TRUE(write_file_atomically(folders.conf / "safeconf.xml",
                                          "<safe><service mode='farm'><user><var name='SERVICES' value='nginx'/>"
                                          "</user></service></safe>"));
    }
    void tool(const std::string& name, const std::string& text) {
        EXPECT_TRUE(write_file_atomically(tools / name, "#!/bin/sh\n" + text, 0755));
    }
    std::string calls() const { return (root / "calls").string(); }
    std::vector<std::string> called() const {
        std::vector<std::string> lines;
        const auto text = read_file(calls(), 1u << 20);
        std::string rest = text ? *text : "";
        for (std::size_t at; (at = rest.find('\n')) != std::string::npos; rest.erase(0, at + 1)) {
            lines.push_back(rest.substr(0, at));
        }
        return lines;
    }
    fs::path tools;
};

TEST_F(ClassicModule, StartsStopsAndAsks) {
    put("start_both", R"(#!/bin/sh
. "$SAFEUSERBIN/common"
$SAFE/safekit printi "start_both $1 $2 $3"
for s in $("$SAFEBIN/xpathGet" "$SAFEUSERCONF/safeconf.xml" "//var[@name='SERVICES']/@value"); do
    systemctl start $s || { $SAFE/safekit printe "cannot start $s"; $SAFE/safekit stop -i start_both; exit 1; }
done
state=$($SAFE/safekit get -r tcp.web80)
[ "$state" = up ] || exit 2
$SAFE/safekit set -r custom.ready -v up -i start_both
$SAFE/safekit -r boundcmd 5 true || exit 3
$SAFE/safekit -r boundcmd 1 sleep 30; [ $? -eq 2 ] || exit 4
$SAFE/safekit checkloop; [ $? -eq 1 ] || exit 5
$SAFEBIN/logI18nMSG W "late" "start"
$SAFE/safekit -p | grep -q "^SAFEBIN=.*/private/bin$" || exit 6
[ -d "$SAFEUSERVAR" ] && echo "$SAFEMODULE" > "$SAFEUSERVAR/started" || exit 7
finish
)", true);
    put("common", "finish() { echo started $SERVICES; exit 0; }\n", false);
    put("stop_both", "#!/bin/sh\nif [ \"$1\" = force ]; then systemctl stop $SERVICES; fi; "
                     "systemctl is-active $SERVICES && exit 1; exit 0\n", true);
    HookResult result = run("start_both", {"WAIT", "UP", "start"});
    ASSERT_TRUE(result.ok()) << result.reason << testing::PrintToString(output);
    EXPECT_THAT(output, Contains("O:started nginx"));
    EXPECT_THAT(called(), ElementsAre("stead printi -m web start_both WAIT UP start", "systemctl start nginx",
                                      "stead get -m web -r tcp.web80",
                                      "stead set -m web -r custom.ready -v up -i start_both",
                                      "stead checkloop -m web", "stead printw -m web late start"));
    EXPECT_EQ(*read_file(folders.var / "started", 100), "web\n");
    EXPECT_EQ(run("stop_both", {"UP", "WAIT", "stop"}).exit_code, 1) << "still active: the plain call only asks";
    EXPECT_TRUE(run("stop_both", {"force", "UP", "WAIT", "stop"}).ok());
    EXPECT_FALSE(fs::exists(root / "up.nginx"));
}

TEST_F(ClassicModule, HelpersSayWhatIsWrong) {
    EXPECT_EQ(shell("$SAFE/safekit -r nothing_like_that").exit_code, 127);
    EXPECT_THAT(output, Contains(HasSubstr("boundcmd")));
    EXPECT_EQ(shell("$SAFE/safekit -r boundcmd soon true").exit_code, 64);
    EXPECT_EQ(shell("$SAFE/safekit -r processtree burn").exit_code, 64);
    EXPECT_TRUE(shell("$SAFE/safekit -r errdpoll_running && $SAFEBIN/errdpoll_running").ok());
    EXPECT_EQ(shell("$SAFEBIN/xpathGet /no/such //x").exit_code, 2);
}

TEST_F(ClassicModule, ProcessTreeListsAndKills) {
    const HookResult result = shell(R"(
sh -c 'sleep 3211 & sleep 3212 & wait' &
top=$!
n=0; while [ $($SAFE/safekit -r processtree list $top | wc -l) -ne 3 ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
$SAFE/safekit -r processtree list $top
$SAFE/safekit -r processtree kill $top || exit 3
$SAFE/safekit -r processtree list $top | grep -q sleep && exit 4
exit 0
)");
    EXPECT_TRUE(result.ok()) << result.reason << testing::PrintToString(output);
    EXPECT_GE(output.size(), 3u);
}

TEST_F(ClassicModule, LuaServiceUsesTheSameSystemctl) {
    const HookResult result = lua(R"(
        local s = stead.service("nginx")
        assert(not s:is_active())
        assert(s:start())
        assert(s:is_active())
        assert(s:restart())
        assert(s:stop())
        assert(not s:is_active())
        assert(not pcall(stead.service, "a b"))
    )");
    EXPECT_TRUE(result.ok()) << result.reason;
    EXPECT_THAT(called(), Contains("systemctl start nginx"));
}

TEST_F(ClassicModule, LuaServiceWithoutSystemdSaysSo) {
    if (fs::exists("/run/systemd/system")) {
        GTEST_SKIP() << "systemd runs here";
    }
    tool("systemctl", "echo offline; exit 1\n");
    EXPECT_THAT(lua("stead.service('no-such-service'):start()").reason, HasSubstr("stead.daemon"));
}

TEST_F(ClassicModule, LuaDaemonLivesBetweenHooks) {
    const std::string make = "local d = stead.daemon{'sleep', '4321', pidfile = stead.module.var .. '/d.pid'} ";
    EXPECT_TRUE(lua(make + "assert(not d:is_running()) assert(d:start()) assert(d:is_running())").ok());
    EXPECT_TRUE(lua(make + "assert(d:is_running()) assert(d:start())").ok()) << "it outlived its hook";
    const HookResult result = lua(make + "assert(d:stop(1)) assert(not d:is_running()) assert(d:stop())");
    EXPECT_TRUE(result.ok()) << result.reason;
    EXPECT_FALSE(fs::exists(folders.var / "d.pid"));
    EXPECT_FALSE(lua("return stead.daemon{'false', pidfile = stead.module.var .. '/e.pid'}:start()").ok());
}

} // namespace stead::script::test
