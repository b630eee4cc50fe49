#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The life of modules as people handle it: supervised programs, hosts that hang, boot, command log, new modules and
their rehearsal, support files. One node, real processes."""
import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile

from light import Module, light_xml, seconds_of
from support import check, lab

UP, STOP = 2, 0
SHELL = "#!/bin/sh\n"
KEEP = """
local p = stead.supervise{"sh", "-c", "echo begun; (sleep 75002 &); exec sleep 75001", name = "app", ACTION}
assert(p.pid > 1)
"""


def program(node):
    """The pid of the program that app supervises, or None."""
    found = node.sh("pgrep -x -f 'sleep 75001'", check=False).stdout.split()
    return int(found[0]) if found else None


def children(node):
    """How many of the program's own children there are."""
    return len(node.sh("pgrep -x -f 'sleep 75002'", check=False).stdout.split())


def supervised(node):
    app = Module(node, "app", {"start_both.lua": KEEP.replace(", ACTION", "")})
    app.start()
    check("[app] begun" in app.user_log(), "output of the program is in the user log")
    check("supervised app: pid" in app.stead("state -v").stdout, "state -v names it")
    for turn in range(1, 5):
        pid = program(node)
        begun = time.monotonic()
        node.sh(f"kill -9 {pid}")
        if turn == 4:
            break
        lab.wait_for("another program", lambda: program(node) not in (None, pid), 5)
        check(time.monotonic() - begun < 2, f"kill -9: begun again after {time.monotonic() - begun:.2f} s")
        lab.wait_for("UP Ready", lambda: node.ready("app"))
        check(children(node) == 1, "of what the first had started nothing is left")
    app.wait(STOP)
    log = app.log()
    check("Action restart called by supervise app: killed by signal 9" in log, "the log says why")
    check("maxloop" in log and program(node) is None, "the fourth death within the window stops the module")
    app.start()
    host, pid = node.processes("stead-host")[0], program(node)
    node.sh(f"kill -9 {host}")
    lab.wait_for("another host and program", lambda: program(node) not in (None, pid) and node.ready("app"), 15)
    check(children(node) == 1, "kill -9 of stead-host: the program ended with it, and is begun once")
    app.stead("stop")
    check(program(node) is None and children(node) == 0, "stop ends it, though there is no stop script")


def frozen(node):
    """A host that answers nothing is not waited for for ever."""
    ice = Module(node, "ice", {"start_both.lua": KEEP.replace("ACTION", "action = 'noaction'")})
    ice.start()
    host = node.processes("stead-host")[0]
    node.sh(f"kill -STOP {host}")
    for command in ("stop", "get -r state.local"):
        done = [None]
        took = seconds_of(lambda: done.__setitem__(0, ice.stead(command, check=False, timeout=40)))
        words = ("has not answered for 10 s", "stopped by a signal", "forcestop -m ice", f"pid {host}")
        check(done[0].returncode == 75 and all(word in done[0].stderr for word in words) and took < 20,
              f"'{command}' of a frozen host ends after {took:.0f} s and says what hangs and what to do")
    took = seconds_of(lambda: ice.stead("forcestop", timeout=40))
    check(ice.code() == STOP and took < 15, f"forcestop kills it ({took:.0f} s)")
    lab.wait_for("the end of its program", lambda: program(node) is None)
    ice.start()
    host = node.processes("stead-host")[0]
    node.sh(f"kill -STOP {host}; (sleep 3; kill -CONT {host}) >/dev/null 2>&1 &")
    ice.stead("stop")
    check(ice.code() == STOP, "a host that was frozen for a while stops as asked")
    log = node.stead("cmdlog").stdout
    check("stop -m ice: failed, exit 75" in log and "forcestop -m ice: done" in log, "cmdlog has both ends")
    ice.start()
    host = node.processes("stead-host")[0]
    url = "http://127.0.0.1:9010/var/modules/ice/ready.txt"

    def ready():
        return node.sh(f"curl -s -m 5 {url}", check=False).stdout == "OK"
    lab.wait_for("ready.txt", ready)
    node.sh(f"kill -STOP {host}")
    time.sleep(13)
    check(not ready(), "a frozen host is not ready")
    node.sh(f"kill -CONT {host}")
    lab.wait_for("ready.txt", ready, 5)
    check(ready(), "nor for ever not: after more than 10 s it is again")
    ice.stead("stop")


def command_log(node):
    node.stead("start -m nosuch", check=False)
    node.stead("boot on -m app", check=False)
    node.stead("module install -m app -M 1", check=False)
    lines = node.stead("cmdlog").stdout.splitlines()
    for words in (("W | root (pid ", "| start -m nosuch: failed, exit 66"), ("| boot on -m app: done",),
                  ("module install -M 1 -m app: failed, exit 73: module 'app' is installed already",)):
        check(any(all(word in line for word in words) for line in lines), f"cmdlog: {words}")
    node.stead("boot off -m app -H '*'")
    check("boot off -m app: done" in node.stead("cmdlog").stdout, "with -H too")


def boot(node):
    booted = Module(node, "booted", {"start_both": SHELL}, xml=light_xml(attributes='boot="auto" boot_delay="3s"'))
    refused = booted.stead("boot on", check=False)
    check(refused.returncode == 78 and 'boot="auto"' in refused.stderr, "a configuration that says boot wins, by name")
    says = booted.stead("boot status").stdout
    check("auto" in says and "after 3 s" in says and "configuration" in says, f"boot status: {says.strip()}")
    asked = Module(node, "asked", {"start_both": SHELL})
    asked.stead("boot on")
    for module in (booted, asked):
        module.start()
    node.stead("shutdown")
    check(booted.code() == asked.code() == STOP, "shutdown stops all")
    reboot(node)
    begun = time.monotonic()
    lab.wait_for("asked", lambda: node.ready("asked"), 20)
    check(booted.code() == STOP, "boot_delay: not at once")
    check(re.search(r"starts in [0-3] s \(boot_delay\)", booted.stead("state").stdout), "and state says when")
    lab.wait_for("booted", lambda: node.ready("booted"), 20)
    check(time.monotonic() - begun > 1, "but later: it was running before")
    looping = Module(node, "gaveup", {"start_both": SHELL}, xml=light_xml(attributes='boot="auto" maxloop="0"'))
    looping.start()
    looping.stead("restart -i checker")
    looping.wait(STOP)
    booted.stead("stop")
    asked.stead("stop")
    asked.stead("boot off")
    reboot(node)
    time.sleep(4)  # longer than boot_delay: nothing may start
    check(booted.code() == asked.code() == STOP, "auto: stopped by a person, so not at boot; boot off: neither")
    check(looping.code() == STOP, "auto: stopped by the loop guard, so it was not running either")


def reboot(node):
    node.power_off()
    node.power_on()
    node.start_steadd()


def waiting(node):
    bad = Module(node, "bad", {"start_both": SHELL + "sleep 1\nexit 3\n"})
    bad.stead("start")
    waited = bad.stead("waitstart", check=False)
    check(waited.returncode == 1 and "start_both: exit 3" in waited.stderr, f"waitstart: {waited.stderr.strip()}")
    check(bad.stead("waitstop -t 5", check=False).returncode == 0, "waitstop of a stopped module returns")
    late = bad.stead("waitstate UP -t 1", check=False)
    check(late.returncode == 75 and "STOP" in late.stderr, "waitstate has a limit when asked for")
    for attempt in ("at once", "and as often as it is asked"):
        done = [None]
        took = seconds_of(lambda: done.__setitem__(0, bad.stead("waitstart -t 20", check=False)))
        check(done[0].returncode == 1 and "start_both: exit 3" in done[0].stderr and took < 5,
              f"waitstart long after the failure: the reason, {attempt}")
    inert = Module(node, "inert", {"start_both": SHELL})
    hook = inert.folder() / "active/bin/start_both"
    (hook if hook.exists() else inert.edited() / "bin/start_both").chmod(0o644)
    inert.stead("start")
    inert.wait(STOP)
    check("bin/start_both: is not executable" in inert.log(), "a hook that cannot run is an error, not a missing hook")
    (inert.edited() / "bin/start_both").chmod(0o644)
    refused = inert.stead("config", check=False)
    check(refused.returncode != 0 and "bin/start_both: is not executable" in refused.stderr, "and config refuses it")
    hasty = Module(node, "hasty", {"prestart": SHELL + "exit 3\n"})
    for _ in range(20):
        hasty.stead("start")
        hasty.wait(STOP)
        check("prestart: exit 3" in hasty.stead("state").stdout, "a start that failed at once has its reason")
    looping = Module(node, "looping", {"start_both": SHELL}, xml=light_xml(attributes='maxloop="0"'))
    looping.start()
    looping.stead("restart -i checker")
    looping.wait(STOP)
    waited = looping.stead("waitstart -t 20", check=False)
    check(waited.returncode == 1 and "stopped by maxloop: checker" in waited.stderr, "the loop guard's stop has a reason")
    looping.start()
    looping.stead("stop")
    waited = looping.stead("waitstart -t 1", check=False)
    check(waited.returncode == 75, "stopped by a person: somebody may start it yet")


def crossing(node):
    """Commands that meet one that is under way, and what is no text."""
    slow = Module(node, "slow", {"start_both": SHELL, "stop_both": SHELL + '[ "$1" = force ] || sleep 2\n'})
    slow.start()
    stop = node.spawn([f"{node.lab.stage}/bin/stead", "stop", "-m", "slow"])
    lab.wait_for("the stop", lambda: slow.code() == 1, 5)
    slow.stead("start")
    check(stop.wait(20) == 0 and "Action stop called by" in slow.log(), "a start meets a stop: the stop ends")
    lab.wait_for("slow Ready again", lambda: node.ready("slow"))
    first = node.spawn([f"{node.lab.stage}/bin/stead", "stop", "-m", "slow"])
    lab.wait_for("the stop", lambda: slow.code() == 1, 5)
    again = node.spawn([f"{node.lab.stage}/bin/stead", "start", "-m", "slow"], stderr=subprocess.PIPE)
    time.sleep(0.5)
    slow.stead("stop")
    check(first.wait(20) == 0 and again.wait(20) == 78 and "stopped before" in again.stderr.read()
          and slow.code() == STOP, "stop, start, stop: the last word counts")
    hasty = Module(node, "hurried", {"start_both": SHELL})
    stead = f"{node.lab.stage}/bin/stead"
    # On a busy machine the command that was called first need not be the first to arrive.
    starts = f"$(grep -cs 'Action start called' {hasty.folder()}/log)"
    started = f'n={starts}; {stead} start -m hurried & until [ "{starts}" != "$n" ]; do sleep 0.001; done'
    for pause in (0.01, 0.02, 0.03, 0.04):
        node.sh(f"{started}; sleep {pause}; {stead} stop -m hurried; wait", check=False, timeout=30)
        hasty.wait(STOP)
        check("could not start" not in hasty.stead("state").stdout, "a stop before stead-host has said a word is no failure")
        node.sh(f"{stead} start -m hurried & sleep {pause}; {stead} stop -m hurried & sleep {pause}; {stead} start -m hurried; wait",
                check=False)
        lab.wait_for("hurried Ready", lambda: node.ready("hurried"))
        hasty.stead("stop")

    bytes_of = Module(node, "bytes", {"start_both": SHELL + '$SAFE/safekit printi "$(printf \'caf\\351\')" && echo said\n',
                                      "start_sec.lua": 'stead.resource.set("custom.x", "v\\233")'})
    bytes_of.start()
    check("caf\\xe9" in bytes_of.log() and "said" in bytes_of.user_log(), "printi of bytes that are no text")
    check("v\\xe9" in bytes_of.stead("state -v").stdout, "such a value shows in state -v")
    check(bytes_of.stead("get -r custom.x").returncode == 0, "and steadd still speaks with the host")
    web = "curl -s -m 5 http://127.0.0.1:9010"
    for request in (f"{web}/api/v1/modules/bytes/resources/%ff", f"{web}/api/v1/state -H \"$(printf 'Authorization: Bearer \\377')\""):
        node.sh(request, check=False)
        ready = node.sh(f"{web}/var/modules/bytes/ready.txt", check=False).stdout
        check(ready == "OK", f"{request[len(web):]}: the health URL goes on ({ready.strip()})")
    log = bytes_of.folder() / "log"
    for file in (log, log.with_name("log.1")):
        file.write_text(('x | bytes | I | x | ' + 'a"' * 100 + "\n") * 19000)  # 4 MB each
    bytes_of.stead(f"logsave {node.disk}/whole")
    check((node.disk / "whole").read_text().count("\n") >= 38000, "logsave writes all of the longest log")
    long = bytes_of.stead("log -s 100000", check=False)
    check(long.returncode == 0 or "ask for less" in long.stderr, "a log that is too long for an answer says so")
    bytes_of.stead("stop")
    for i in range(4):
        (node.disk / f"etc/modules/at{i}/conf").mkdir(parents=True)
        (node.disk / f"etc/modules/at{i}/conf/userconfig.xml").write_text(light_xml())
    node.sh("for i in 0 1 2 3; do " + f"{node.lab.stage}/bin/stead module install -m at$i & done; wait")
    ids = [line.split()[1] for line in node.stead("module listid").stdout.splitlines()]
    check(len(ids) == len(set(ids)), f"modules installed at once: {ids}")
    for i in range(4):
        node.stead(f"module uninstall -m at{i}")


def adopted(node):
    """A steadd that did not start the host itself knows how it ended all the same."""
    module = Module(node, "kept", {"start_both": SHELL})
    module.start()
    host = node.processes("stead-host")
    node.kill("steadd")
    node.start_steadd()
    check(node.processes("stead-host") == host and node.ready("kept"), "adopted")
    module.stead("stopstart")
    lab.wait_for("another host", lambda: node.processes("stead-host") not in (host, []) and node.ready("kept"))
    module.stead("stop")


REBOOT = "/run/reboot-command"
AGAIN = """<failover handle_time="0s"><![CDATA[again: if (custom.x == down) then stopstart();]]></failover>"""


def rebooted(node):
    """How often the command ran, before the machine lost its power."""
    file = node.disk / "var" / "rebooted"
    return len(file.read_text().split()) if file.exists() else 0


def reboots(node):
    """automatic_reboot: an automatic stopstart, and no other, reboots the server, as often as the loop guard allows."""
    def command(code):
        node.sh(f"printf '#!/bin/sh\necho $$ >>/var/lib/stead/rebooted\nexit {code}\n' >{REBOOT}; chmod 755 {REBOOT}")
    command(0)
    module = Module(node, "phoenix", {"start_both": SHELL, "stop_both": SHELL + "echo stopped >>$SAFEUSERVAR/stopped\n"},
                    xml=light_xml(more=AGAIN, attributes='boot="on" maxloop="2" automatic_reboot="on"'))
    module.start()
    host = node.processes("stead-host")
    module.stead("stopstart")
    lab.wait_for("another host", lambda: node.processes("stead-host") not in (host, []) and node.ready("phoenix"))
    check(rebooted(node) == 0, "a person's stopstart reboots nothing")
    for turn in (1, 2):
        module.stead("set -r custom.x -v down")
        lab.wait_for(f"reboot {turn}", lambda: rebooted(node) == turn)
        check(module.code() == STOP and "automatic_reboot" in module.stead("state").stdout, "the module is stopped")
        check("automatic_reboot: the server reboots" in module.log(), "and the log says why")
        reboot(node)
        command(0)
        lab.wait_for("the start at boot", lambda: node.ready("phoenix"), 20)
    module.stead("set -r custom.x -v down")
    module.wait(STOP)
    check("Action stop called by maxloop" in module.log() and rebooted(node) == 2,
          "the third one stops: the count outlives the reboots and the starts at boot")
    command(3)
    module.start()
    module.stead("set -r custom.x -v down")
    lab.wait_for("a third call", lambda: rebooted(node) == 3)
    lab.wait_for("Ready again", lambda: node.ready("phoenix"))
    check("the server does not reboot" in module.log() and "exit code 3" in module.log(), "a stopstart where it cannot")
    module.stead("stop")
    conf = module.edited() / "conf" / "userconfig.xml"
    conf.write_text(conf.read_text().replace('maxloop="2"', 'loop_interval="0"'))
    refused = module.stead("config", check=False)
    check(refused.returncode != 0 and "automatic_reboot" in refused.stderr, f"no guard, no reboots: {refused.stderr}")


def new_modules(node):
    for kind in ("farm", "mirror", "light"):
        made = node.stead(f"module new my{kind} --template {kind}").stdout
        check(f"module check -m my{kind}" in made, f"module new --template {kind} says what to do next")
    check("no mirror plugin" in node.stead("module new m2 --template mirror").stdout
          or (node.lab.stage / "lib/stead/plugins/mirror.so").exists(), "mirror: the plugin must be there")
    check(node.stead("module new myfarm --template farm", check=False).returncode == 73, "not twice")
    check("farm, mirror, light" in node.stead("module new x --template x", check=False).stderr, "unknown template")
    done = node.stead("module check -m myfarm")
    check("start_both.lua WAIT UP start" in done.stdout and "succeeds" in done.stdout, "module check rehearses")
    node.stead("config -m mylight")
    node.stead("start -m mylight")
    node.stead("waitstart -m mylight -t 20")
    node.stead("stop -m mylight")
    script = node.disk / "etc/modules/mylight/bin/start_both.lua"
    good = script.read_text()
    script.write_text("stead.log.info('x')\nif false then stead.servise('x') end\nstead.run{'touch', '/run/done'}\n")
    done = node.stead("module check -m mylight", check=False)
    check(done.returncode == 65 and "bin/start_both.lua:2: stead.servise" in done.stderr, "an unknown name has its line")
    check("bin/start_both.lua:3: would run touch /run/done" in done.stdout, "and the rest is told")
    check(node.sh("test -e /run/done", check=False).returncode == 1, "nothing was done")
    script.write_text("x = = 1\n")
    done = node.stead("module check -m mylight", check=False)
    check(done.returncode == 65 and "bin/start_both.lua:1" in done.stderr, "so has a syntax error")
    script.write_text(good)
    for module in ("myfarm", "mymirror", "mylight", "m2"):
        node.stead(f"module uninstall -m {module}")


def lua_example(node):
    node.stead("module install -m lua_example -M 40")
    check("succeeds" in node.stead("module check -m lua_example").stdout, "lua_example rehearses")
    node.stead("config -m lua_example")
    node.stead("start -m lua_example")
    node.stead("waitstart -m lua_example -t 30")
    page = "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/').read().decode())\""
    check("lua_example on node1, port 8080" in node.sh(page).stdout, "its page names module and node")
    node.sh("pkill -9 -f [h]ttp.server")
    lab.wait_for("the restart", lambda: node.ready("lua_example") and node.sh(page, check=False).returncode == 0)
    lab.wait_for("the check", lambda: node.stead("get -m lua_example -r custom.page", check=False).stdout == "up\n", 20)
    node.sh("pkill -STOP -x python3")
    begun = time.monotonic()
    lab.wait_for("the rule", lambda: "Action restart called by page_gone: custom.page=down" in
                 node.stead("log -m lua_example").stdout, 20)
    check(time.monotonic() - begun < 15, f"a server that hangs is restarted ({time.monotonic() - begun:.0f} s)")
    lab.wait_for("the restart", lambda: node.ready("lua_example") and node.sh(page, check=False).returncode == 0, 30)
    node.stead("stop -m lua_example")
    check(node.sh("pgrep -f [h]ttp.server", check=False).returncode == 1, "stopped without a stop script")
    node.spawn([sys.executable, "-m", "http.server", "8080", "--bind", "127.0.0.1"], stderr=subprocess.DEVNULL)
    lab.wait_for("a stranger", lambda: node.sh(page, check=False).returncode == 0)
    node.stead("start -m lua_example")
    lab.wait_for("a stranger on the port is named", lambda: node.state("lua_example") == 0 and
                 "tcp port 8080 of 127.0.0.1 belongs to python3" in node.stead("log -m lua_example").stdout, 20)
    node.sh("pkill -9 -f [h]ttp.server")


def support_files(node):
    secret = Module(node, "secret", {"start_both": SHELL + "echo the password is hunter2\nAPI_TOKEN=xyzzy1\n"},
                    xml=light_xml(user='<user><var name="DB_PASSWORD" value="hunter2"/><var name="P" value="v-80"/></user>'))
    (secret.edited() / "conf" / ".pgpass").write_text("host:5432:shop:app:abracadabra7\n")
    secret.start()
    relative = node.stead("snapshot x.zip", check=False)
    check(relative.returncode == 64 and "absolute path" in relative.stderr, "a relative path is refused")
    node.stead(f"snapshot {node.disk}/all.zip")
    check((node.disk / "all.zip").stat().st_mode & 0o777 == 0o600, "a snapshot is nobody else's to read")
    with zipfile.ZipFile(io.BytesIO((node.disk / "all.zip").read_bytes())) as archive:
        check(archive.testzip() is None, "the zip is whole")
        names = archive.namelist()
        everything = b"\n".join(archive.read(name) for name in names)
        state = json.loads(archive.read("modules/secret/state.json"))
    for name in ("cluster/cluster.xml", "node/log", "node/cmdlog", "node/state.json", "left-out",
                 "modules/secret/edited/conf/userconfig.xml", "modules/secret/active/bin/start_both",
                 "modules/secret/log", "modules/secret/userlog"):
        check(name in names, f"it holds {name}")
    key = (node.disk / "etc/cluster.key").read_bytes()
    check(state["state"] == "UP" and b"hunter2" not in everything and b"xyzzy1" not in everything and b"abracadabra7" not in everything
          and key not in everything and b"v-80" in everything, "with the state, without passwords and keys")
    check(b"cluster.key" not in b"\n".join(name.encode() for name in names), "nor is the key file there")
    check(not [path for path in (node.disk / "var").iterdir() if path.name.startswith("snapshot-")], "nothing is left")
    check(node.stead("snapshot /no/such/folder/x.zip", check=False).returncode == 74, "an unwritable place is an error")
    secret.stead(f"logsave -u {node.disk}/saved")
    check("hunter2" in (node.disk / "saved").read_text(), "logsave -u writes the whole user log")
    check(json.loads(secret.stead("dump").stdout)["state"] == "UP", "dump prints JSON")
    check(secret.stead("clean", check=False).returncode == 73, "clean all needs a stopped module")
    secret.stead("clean log")
    check("Local state" not in secret.log(), "clean log empties the logs")
    secret.stead("stop")
    check("Local state STOP" in secret.log(), "the log goes on")
    secret.stead("clean")
    paths = node.stead("-p").stdout
    check("SAFE=" in paths and "SAFEVAR=" in paths and "SAFEBIN=" in paths, "-p prints the classic folders")
    check(node.stead("-r boundcmd 1 sleep 5", check=False).returncode == 2, "-r runs a helper")


CASES = [supervised, frozen, command_log, waiting, crossing, adopted, new_modules, lua_example, support_files, boot, reboots]
if __name__ == "__main__":
    lab.enter()
    os.environ["STEAD_REBOOT_COMMAND"] = REBOOT  # of every steadd that is started here: nothing else is ever rebooted
    wanted = sys.argv[1:] or [case.__name__ for case in CASES]
    with lab.Lab(nodes=1) as machine:
        machine.form_cluster()
        for case in CASES:
            if case.__name__ in wanted:
                begun = time.monotonic()
                print(f"---- {case.__name__}", flush=True)
                case(machine.nodes[0])
                print(f"     {time.monotonic() - begun:.1f} s", flush=True)
