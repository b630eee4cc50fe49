#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The life of light modules under the real steadd and stead-host: every way in which a hook can misbehave ends in a
defined state with the reason in the log; actions, loop guard, adoption and update do what they say."""
import concurrent.futures
import json
import sys
import time

from light import USER, Module, light_xml, seconds_of
from support import check, lab

STOP, WAIT, UP = 0, 1, 2
SHELL = "#!/bin/sh\n"


def failing_start(node):
    bad = Module(node, "bad", {"start_both": SHELL + "echo no database here\nexit 3\n"})
    bad.stead("start")
    bad.wait(STOP)
    lab.wait_for("the reason in the log", lambda: "start_both" in bad.log() and "3" in bad.log())
    check("End of script start_both: " in bad.log(), "a start that fails is logged with its exit code")
    check("no database here" in bad.user_log(), "its output is in the user log")
    check("Script stop_both" not in bad.log() or "Script stop_both force" in bad.log(), "what was begun is stopped")
    check("start_both" in bad.stead("state").stdout, "state tells why it is stopped")


def hanging(node):
    hang = Module(node, "hang", {"start_both": SHELL + "setsid sleep 7001 &\nsleep 7002\n"})
    hang.stead("start")
    lab.wait_for("start_both runs", lambda: hang.running("sleep 7002"))
    check(hang.code() == WAIT or hang.code() == UP, "a start under way is no STOP")
    took = seconds_of(lambda: hang.stead("stop"))
    check(took < 15, f"stop during a start that hangs returns ({took:.1f} s)")
    check(hang.code() == STOP, "and leaves STOP")
    check(hang.running("sleep 7001") + hang.running("sleep 7002") == 0, "no process of the hook is left")

    slow = Module(node, "slow", {"start_both": SHELL + "exit 0\n",
                                 "stop_both": SHELL + "setsid sh -c 'setsid sleep 7003' &\nsleep 7004\n"})
    slow.start()
    took = seconds_of(lambda: slow.stead("stop"))
    check(4 <= took < 25, f"a stop script that hangs is ended at its time limits, plain and forced ({took:.1f} s)")
    check(slow.code() == STOP, "and the module is STOP")
    check("stop_both: did not end within its 2000 ms" in slow.log(), "the time-out is in the log")
    check(slow.running("sleep 7003") + slow.running("sleep 7004") == 0, "daemons forked by it are dead")


def lua_limits(node):
    loop = Module(node, "loop", {"start_both.lua": "while true do end\n"})
    loop.stead("start")
    lab.wait_for("the loop runs", lambda: "Script start_both" in loop.log())
    took = seconds_of(lambda: loop.stead("stop"))
    check(took < 10 and loop.code() == STOP, f"a Lua hook that loops is cancelled by stop ({took:.1f} s)")

    memory = Module(node, "memory", {"start_both.lua": "local t = {}\nwhile true do t[#t + 1] = {('x'):rep(1000)} end\n"})
    memory.stead("start")
    memory.wait(STOP, 30)
    check("memory" in memory.log(), "a Lua hook that exhausts its memory: STOP with the reason in the log")

    own = Module(node, "own", {"start_both.lua": "for i = 1, 200 do\n  stead.resource.set('custom.n', tostring(i % 2))\n"
                               "  assert(stead.resource.get('custom.n') == tostring(i % 2))\nend\n"})
    own.start()
    check("Local state UP Ready" in own.log(), "a hook reads what it has written")
    own.stead("stop")

    error = Module(node, "error", {"start_both.lua": "local x = nil\nx.y = 1\n"})
    error.stead("start")
    error.wait(STOP)
    check("start_both.lua:2" in error.log(), "a Lua error is logged with its line")
    fails = Module(node, "fails", {"start_both.lua": "stead.fail('licence is over')\n"})
    fails.stead("start")
    fails.wait(STOP)
    check("licence is over" in fails.log(), "stead.fail's reason is in the log")


def noisy(node):
    loud = Module(node, "loud", {"start_both": SHELL + "head -c 20000000 /dev/zero | tr '\\0' 'x'\n"
                                                       "yes line | head -n 300000\nsleep 7010 &\nexit 0\n",
                                 "stop_both": SHELL + "pkill -f 'sleep 701[0]'\nexit 0\n"},
                  user='<user nicestoptimeout="2s" forcestoptimeout="2s" userlogsize="64"/>')
    loud.start(60)
    sizes = sum(path.stat().st_size for path in loud.folder().glob("*log*"))
    check(sizes < 3_000_000, f"a hook that prints 21 MB fills no disk ({sizes} bytes kept)")
    check(loud.running("sleep 7010") == 1, "a daemon left by a start that succeeded stays")
    loud.stead("stop")
    check(loud.code() == STOP and loud.running("sleep 7010") == 0, "its stop script ends it")


COUNTING = {"start_both": SHELL + 'echo start "$@" >>"$SAFEUSERVAR/trace"\n',
            "stop_both": SHELL + 'echo stop "$@" >>"$SAFEUSERVAR/trace"\n',
            "prestart": SHELL + 'echo prestart "$@" >>"$SAFEUSERVAR/trace"\n',
            "poststop": SHELL + 'echo poststop "$@" >>"$SAFEUSERVAR/trace"\n',
            "transition": SHELL + 'echo transition "$@" >>"$SAFEUSERVAR/trace"\n'}


def traced(module):
    return [line for file in module.folder().rglob("trace") for line in file.read_text().splitlines()]


def trace(module):
    """Once: what a script writes meanwhile is lost. Who waits for a line looks at traced()."""
    text = traced(module)
    for file in module.folder().rglob("trace"):
        file.unlink()
    return text


def actions(node):
    one = Module(node, "one", COUNTING)
    check(one.code() == STOP, "configured and never started: state -lq 0")
    one.start()
    check(one.code() == UP, "started: state -lq 2")
    one.stead("waitstart", timeout=10)
    one.stead("waitstate UP", timeout=10)
    check(trace(one) == ["transition STOP WAIT start", "prestart STOP WAIT start", "transition WAIT UP start",
                         "start_both WAIT UP start".replace("start_both", "start")], "scripts of a start, in order")
    one.stead("restart")
    lab.wait_for("restarted", lambda: "End of script start_both" in one.log().split("Action restart")[-1])
    lab.wait_for("ready again", lambda: node.ready("one"))
    check(trace(one) == ["stop UP UP restart", "stop force UP UP restart", "start UP UP restart"], "scripts of a restart")
    before = node.processes("stead-host")
    one.stead("stopstart")
    lab.wait_for("a new host", lambda: node.processes("stead-host") not in (before, []))
    lab.wait_for("ready again", lambda: node.ready("one"))
    lines = trace(one)
    check(lines[:4] == ["stop UP WAIT stopstart", "stop force UP WAIT stopstart", "transition UP WAIT stopstart",
                        "stop force WAIT STOP stopstart"] and lines[-1] == "start WAIT UP start",
          f"scripts of a stopstart: {lines}")
    check("poststop WAIT STOP stopstart" in lines, "with poststop")
    one.stead("set -r custom.one -v up -i tester")
    check(one.stead("get -r custom.one").stdout.strip() == "up", "set and get a resource")
    check(one.stead("get -r custom.none", check=False).returncode != 0, "an unknown resource is an error")
    check("custom.one" in one.stead("state -v").stdout, "state -v lists it")
    one.stead("printi 'hello from a person'")
    check("hello from a person" in one.log(), "printi writes to the module log")
    took = seconds_of(lambda: one.stead("stop"))
    check(one.code() == STOP, f"stop returns when stopped ({took:.1f} s)")
    check(not node.processes("stead-host"), "and no stead-host is left")
    trace(one)
    one.start()
    took = seconds_of(lambda: one.stead("forcestop"))
    check(one.code() == STOP, f"forcestop ({took:.1f} s)")
    lines = trace(one)
    check("stop UP WAIT stop" not in lines and "stop force UP WAIT stop" in lines, f"runs forced stops only: {lines}")
    check(one.stead("restart", check=False).returncode != 0, "restart of a stopped module is refused")
    check(one.stead("stop").returncode == 0, "stop of a stopped module is no error")
    check(node.stead("state -m nosuch -lq", check=False).returncode >= 64, "state -lq of no module: 64 or more")


def loop_guard(node):
    guard = Module(node, "guard", COUNTING, attributes='maxloop="3" loop_interval="24h"')
    guard.start()
    for death in range(1, 4):
        old = node.processes("stead-host")
        node.kill("stead-host")
        lab.wait_for("a new host", lambda: node.processes("stead-host") not in (old, []))
        lab.wait_for(f"ready after death {death}", lambda: node.ready("guard"))
        check(True, f"death {death} of stead-host: started again")
    check("died by signal" in guard.log(), "each death is in the log")
    node.kill("stead-host")
    lab.wait_for("the guard", lambda: "Action stop called by maxloop" in guard.log())
    guard.wait(STOP)
    check("often" in guard.stead("state").stdout, "the fourth death leaves STOP with the reason")
    guard.start()
    check(guard.code() == UP, "a person's start works again")
    for loop in range(3):
        trace(guard)
        guard.stead("restart -i checker.test")
        lab.wait_for("restarted", lambda: "start UP UP restart" in traced(guard))
        lab.wait_for("ready again", lambda: node.ready("guard"))
    check(guard.stead("checkloop", check=False).returncode == 1, "checkloop: limit reached")
    guard.stead("restart -i checker.test", check=False)
    guard.wait(STOP)
    check(guard.log().count("Action stop called by maxloop") >= 2, "the fourth automatic restart stops")
    guard.start()
    check(guard.stead("incloop", check=False).returncode == 0, "incloop after a person's start: below the limit")
    guard.stead("stop")


def adoption(node):
    kept = Module(node, "kept", COUNTING)
    kept.start()
    host = node.processes("stead-host")
    trace(kept)
    node.kill("steadd")
    node.steadd.wait()
    done = node.stead("state", check=False)
    check(done.returncode != 0 and "steadd" in done.stdout + done.stderr, "without steadd the CLI says so")
    node.start_steadd()
    lab.wait_for("adopted", lambda: kept.code() == UP)
    check(node.processes("stead-host") == host, "a new steadd adopts the running host")
    check(trace(kept) == [], "no script ran")
    node.kill("stead-host", "STOP")
    node.kill("steadd")
    node.steadd.wait()
    node.start_steadd()
    check("stead-host has not answered this steadd yet" in kept.stead("state").stdout, "one that is frozen is no STOP")
    node.kill("stead-host", "CONT")
    lab.wait_for("adopted all the same", lambda: node.ready("kept"))
    trace(kept)
    kept.stead("restart")
    lab.wait_for("restarted", lambda: "start UP UP restart" in traced(kept))
    lab.wait_for("ready again", lambda: node.ready("kept"))
    lost = Module(node, "lost", COUNTING, attributes='maxloop="1"')
    kept.stead("stop")
    check(kept.code() == STOP, "and stops it")
    lost.start()
    for words in ("Action start called by steadd: stead-host died", "Action stop called by maxloop: stead-host died"):
        trace(lost)
        node.sh("pkill -KILL -x 'steadd|stead-host'")
        node.steadd.wait()
        node.start_steadd()
        lab.wait_for("the death to be found", lambda: words in lost.log())
        check(lost.log().count("stead-host died while steadd did not run"), f"killed together: {words}")
        lost.wait(UP if "start called" in words else STOP)
        lab.wait_for("the end of it", lambda: lost.code() == STOP or node.ready("lost"))
        check(("prestart STOP WAIT start" in trace(lost)) == (lost.code() == UP), "begun anew, within the loop guard")
    app = SHELL + "cp -f /bin/sleep /run/awayapp; /run/awayapp 7040 >/dev/null 2>&1 &\n"
    for action, code in (("stopstart", UP), ("stop", STOP)):
        away = Module(node, f"away{action}", {"start_both": app, "stop_both": SHELL + "pkill -x awayapp || true\n"},
                      xml=light_xml(more=f'<errd><proc name="awayapp" action="{action}"/></errd>'))
        away.start()
        lab.wait_for("the process", lambda: away.stead("get -r proc.awayapp").stdout == "up\n")
        node.kill("steadd")
        node.steadd.wait()
        node.kill("awayapp")
        lab.wait_for("the end of the host", lambda: not node.processes("stead-host"))
        node.start_steadd()
        away.wait(code)
        lab.wait_for("its end", lambda: code == STOP or node.ready(away.name))
        said = away.stead("state").stdout
        check(code == UP or "stopped by checkers.process" in said, f"{action} without a steadd: {said.splitlines()[-1]}")
        away.stead("stop")
    node.kill("steadd")
    node.steadd.wait()
    node.start_steadd()
    time.sleep(1)  # longer than a host needs to be there
    check(lost.code() == STOP and not node.processes("stead-host"), "what is stopped stays so, whoever comes and goes")


def update(node):
    changing = Module(node, "changing", {"stop_both": SHELL + "sleep 7020\n", "start_both": SHELL + "exit 0\n"},
                      user='<user nicestoptimeout="200s" forcestoptimeout="200s"/>')
    changing.start()
    host = node.processes("stead-host")
    path = changing.edited() / "conf" / "userconfig.xml"
    path.write_text(path.read_text().replace("200s", "1s"))
    changing.stead("update")
    check(node.processes("stead-host") == host and changing.code() == UP, "update restarts nothing")
    took = seconds_of(lambda: changing.stead("stop"))
    check(took < 30 and changing.code() == STOP, f"the new time limits hold ({took:.1f} s)")
    changing.start()
    path.write_text(light_xml(user=USER.replace("2s", "1000ms"), more='<failover handle_time="15s"/>'))
    check("<failover>: 0 before, 1 now" in changing.stead("update", check=False).stderr, "a static element is named")
    path.write_text(light_xml().replace('"light"', '"farm"'))
    refused = changing.stead("update", check=False)
    check(refused.returncode != 0, "an update that cannot be made while running is refused: "
          + (refused.stdout + refused.stderr).strip().splitlines()[0])
    check(changing.code() == UP, "and changes nothing")
    changing.stead("forcestop")


def queries(node, told):
    """The classic hooks state and level, read as everything in bin/ is: of the configuration in force."""
    bin_folder = told.folder() / "active" / "bin"
    user_log = told.folder() / "userlog"
    check(not user_log.exists(), "(nothing has been said yet)")
    for name in ("state", "level"):
        (bin_folder / name).write_text(SHELL + f'echo "{name} says $*"\n')
        (bin_folder / name).chmod(0o755)
    check(told.stead("state -v").stdout.endswith("\nstate says UP UP state\n"), "state -v shows what the hook state says")
    check("says" not in told.stead("state").stdout + node.stead("state -v").stdout, "state, and that of all modules, ask none")
    check(told.stead("level").stdout.endswith("\nlevel says UP UP level\n"), "level what the hook level says")
    hook = json.loads(told.stead("level --json").stdout)["hook"]
    check(hook == {"exit": 0, "output": "level says UP UP level\n"}, f"and --json: {hook}")
    web = node.sh("curl -s 'http://127.0.0.1:9010/api/v1/modules/told/state?verbose=1'").stdout
    check('"told"' in web and "says" not in web, "who asks over HTTP runs no program of the module")
    check(not user_log.exists(), "nobody's question fills the user log")
    (bin_folder / "level").write_text(SHELL + "echo cannot tell\nexit 3\n")
    failed = told.stead("level")
    check("hook level failed, exit code 3: cannot tell" in failed.stdout and "id " in failed.stdout, "one that fails is told")
    (bin_folder / "state").write_text(SHELL + "exec sleep 4711\n")
    took = seconds_of(lambda: told.stead("state -v"))
    check(9 < took < 20 and told.code() == UP, f"one that hangs is ended ({took:.1f} s)")
    lab.wait_for("its process is gone", lambda: told.running("sleep 4711") == 0, 5)
    for name in ("state", "level"):
        (bin_folder / name).unlink()


def own_scripts(node):
    """A script that asks for the end of its own module must not be waited for by what waits for it."""
    for verb in ("stop -i stop_both", "stop", "forcestop", "shutdown"):
        name = "own" + str(Module.last_id)
        own = Module(node, name, {"start_both": SHELL, "stop_both": SHELL + f"$SAFE/safekit {verb}\necho exit $?\n"},
                     user='<user nicestoptimeout="20s" forcestoptimeout="20s"/>')
        own.start()
        took = seconds_of(lambda: own.stead("stop"))
        check(own.code() == STOP and took < 10, f"stop_both that says '{verb}': stopped after {took:.1f} s")
        check("exit 0" in own.user_log(), "and got its answer")
    again = Module(node, "again", {"start_both": SHELL, "stop_both": SHELL + '[ "$1" = force ] || $SAFE/safekit start\n'},
                   user='<user nicestoptimeout="20s" forcestoptimeout="20s"/>')
    again.start()
    took = seconds_of(lambda: again.stead("stop", check=False))
    check(took < 10, f"stop_both that says 'start' ({took:.1f} s)")
    lab.wait_for("the start after the stop", lambda: node.ready("again"))
    again.stead("forcestop")
    unmarked = Module(node, "unmarked", {"start_both": SHELL})
    (unmarked.folder() / "running" / "x").mkdir(parents=True)
    done = unmarked.stead("start")
    lab.wait_for("Ready", lambda: node.ready("unmarked"))
    check("/running: " in done.stderr and 'boot="auto"' in done.stderr,
          "a mark that cannot be written, as on a full disk, holds no start up: " + done.stderr.strip())
    unmarked.stead("stop")


TELL = SHELL + 'echo "$(basename "$0") $STEAD_NODE" >>"$SAFEUSERVAR/trace"; test -f "$SAFEUSERCONF/safeconf.xml" || exit 9\n'


def configuration(node):
    told = Module(node, "told", {"config": TELL, "postconfig": TELL, "confcheck": TELL, "deconfig": TELL,
                                 "update": TELL + '"$SAFE/safekit" printi "update hook"\n'})
    check(trace(told) == ["config node1", "postconfig node1"],
          "config runs the hooks config and postconfig on the new files, and they know the node's name")
    var = lambda: sorted(str(path) for path in told.folder().rglob("*"))  # noqa: E731
    before = var()
    told.stead("confcheck")
    check(trace(told) == ["confcheck node1"], "confcheck its own")
    check(var() == before and not node.sh("ls /run/stead/try").stdout, "confcheck leaves nothing behind")
    slow = told.edited() / "bin" / "confcheck"
    slow.write_text(SHELL + "sleep 2\n")

    def twice():
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(told.stead, ["confcheck"] * 2))
    took = seconds_of(twice)
    check(took < 4, f"two confchecks at once do not wait for each other ({took:.1f} s)")
    slow.write_text(TELL)
    (told.edited() / "bin" / "start_both.lua").write_text("stead.run{'echo', 'I am ' .. stead.module.node}\n")
    check("I am node1" in node.stead("module check -m told").stdout, "module check rehearses as this node")
    (told.edited() / "bin" / "start_both.lua").unlink()
    told.start()
    queries(node, told)
    path = told.edited() / "conf" / "userconfig.xml"
    path.write_text(path.read_text().replace("2s", "3s"))
    told.stead("update")
    check(trace(told) == ["update node1"] and "update hook" in told.log(), "update too, and safekit printi works in it")
    told.stead("stop")
    told.stead("deconfig")
    check(trace(told) == ["deconfig node1"], "and deconfig")
    (told.edited() / "bin" / "postconfig").write_text(SHELL + "echo the unit demo.service does not exist\nexit 4\n")
    refused = told.stead("config", check=False)
    check(refused.returncode != 0 and "demo.service" in refused.stderr, "a postconfig that fails refuses the "
          "configuration with its own words")
    check(told.stead("start", check=False).returncode != 0, "and nothing is in force")
    (told.edited() / "bin" / "postconfig").unlink()
    for xml, words in ((light_xml().replace("light", "lamp"), "lamp"),
                       (light_xml(attributes='automatic_reboot="on" loop_interval="0"'), "automatic_reboot"),
                       (light_xml(more="<redis/>"), "lib/stead/plugins")):
        path.write_text(xml)
        refused = told.stead("config", check=False)
        check(refused.returncode != 0 and words in refused.stderr, f"refused: {refused.stderr.strip().splitlines()[-1]}")
    path.write_text(light_xml())
    (told.edited() / "bin" / "prestart").unlink()
    check("no prestart" in (lambda done: done.stdout + done.stderr)(told.stead("config")), "no prestart: config warns")


def keys(node):
    keyed = Module(node, "keyed", {"start_both": SHELL + "exit 0\n"})
    keyed.start()
    node.stead("cluster genkey --rotate")
    lab.wait_for("the host to read the keys", lambda: "cluster key read again" in keyed.log())
    check(keyed.code() == UP and "cannot" not in keyed.log(), "key rotation reaches the running host")
    keyed.stead("stop")


HOSTILE = """
import os, socket, struct, sys
for data in (b"", b"\\0", struct.pack("<I", 0xffffffff) + b"x" * 1000, struct.pack(">I", 0xffffffff),
             struct.pack("<I", 5) + b"{{{{{", struct.pack(">I", 5) + b"[1,2]", struct.pack("<I", 2) + b"[]",
             b'{"id":1,"verb":"state"}', os.urandom(100000), b"\\n" * 70000,
             struct.pack("<I", 30000) + b"[" * 30000, struct.pack(">I", 30000) + b"[" * 30000,
             struct.pack("<I", 64) + b'{"id":{},"verb":"set","resource":7}'.ljust(64),
             struct.pack(">I", 64) + b'{"id":{},"verb":"set","resource":7}'.ljust(64)):
    for wait in (False, True):
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.settimeout(0.3)
        one.connect(sys.argv[1])
        try:
            one.sendall(data)
            if wait:
                one.recv(1000)
        except OSError:
            pass
        one.close()
keep = []
for i in range(200):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.settimeout(0.3)
    try:
        one.connect(sys.argv[1])
    except OSError:
        break
    keep.append(one)
"""


def hostile(node):
    """Whatever is thrown at the host's socket, and found in its files: the module goes on, or says what is wrong."""
    target = Module(node, "target", {"start_both": SHELL + "exit 0\n"})
    target.start()
    hosts = node.processes("stead-host")
    script = node.disk / "hostile.py"
    script.write_text(HOSTILE)
    node.sh(f"{sys.executable} {script} /run/stead/host/target.sock")
    check(node.processes("stead-host") == hosts and target.code() == UP, "garbage on the socket: the host goes on")
    target.stead("set -r custom.x -v up")
    check(target.stead("get -r custom.x").stdout.strip() == "up", "and answers")
    target.stead("stop")
    active = target.folder() / "active" / "conf" / "userconfig.xml"
    good = active.read_bytes()
    for bad in (b"", b"\0" * 4096, good[:40], b"<safe>" * 20000, b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + good):
        active.write_bytes(bad)
        done = target.stead("start", check=False)
        lab.wait_for("an end of the start", lambda: target.code() in (STOP, UP))
        check(bad.endswith(good) or target.code() == STOP, f"a damaged configuration ({bad[:12]!r}…) starts nothing: "
              + (done.stdout + done.stderr).strip()[:150])
        target.stead("stop")
    active.write_bytes(good)
    (target.folder() / "loops").write_bytes(b"\xff\0garbage\n" * 1000)
    target.start()
    check(target.code() == UP, "a damaged loop count is dropped")
    target.stead("stop")
    (node.disk / "etc" / "cluster.key").write_bytes(b"short")
    refused = target.stead("start", check=False)
    lab.wait_for("STOP", lambda: target.code() == STOP)
    check("32" in refused.stdout + refused.stderr + target.log(), "a key of the wrong size is named")


CASES = [failing_start, hanging, lua_limits, noisy, actions, loop_guard, adoption, own_scripts, update, configuration, keys, hostile]
if __name__ == "__main__":
    lab.enter()
    wanted = sys.argv[1:] or [case.__name__ for case in CASES]
    with lab.Lab(nodes=1) as machine:
        machine.form_cluster()
        for case in CASES:
            if case.__name__ in wanted:
                begun = time.monotonic()
                print(f"---- {case.__name__}", flush=True)
                case(machine.nodes[0])
                print(f"     {time.monotonic() - begun:.1f} s", flush=True)
