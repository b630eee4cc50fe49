#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every command of `stead`, as scripts use it, on three real nodes: outputs, JSON, exit codes, refusals."""
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import support
from support import check, lab

STATE_EXIT = {"STOP": 0, "WAIT": 1, "UP": 2}
USAGE, NO_DAEMON, NOT_FOUND, CONFLICT, UNREACHABLE = 64, 69, 66, 73, 79


def fails(node, command, code, *words):
    """The command ends with this exit code, and its message holds these words."""
    done = node.stead(command, check=False)
    missing = [word for word in words if word not in done.stderr]
    good = done.returncode == code and not missing and done.stderr.strip()
    check(good, f"'stead {command}' exits {code} and says {words}" +
          ("" if good else f"; it exits {done.returncode} and says: {done.stderr.strip()[:600]}"))


def as_json(node, command, code=0):
    done = node.stead(f"{command} --json", check=False)
    check(done.returncode == code, f"'stead {command} --json' exits {code} (got {done.returncode} {done.stderr.strip()[:160]})")
    value = json.loads(done.stdout)
    check(isinstance(value, dict), f"'stead {command} --json' prints one JSON object")
    return value


def says(node, command, *words):
    out = node.stead(command).stdout
    for word in words:
        check(word in out, f"'stead {command}' shows '{word}'" + ("" if word in out else f" (got: {out[:400]})"))
    return out


def no_daemon(node):
    fails(node, "state", NO_DAEMON, "steadd is not running", "steadd --foreground")
    fails(node, "start -m echo", NO_DAEMON, "steadd is not running")
    check(node.stead("help").returncode == 0, "help needs no steadd")


def spelling(node):
    fails(node, "strat -m echo", USAGE, "start")
    fails(node, "boot snmpon", USAGE, "no SNMP agent")
    fails(node, "module genkey -m echo", USAGE, "stead cluster genkey")
    fails(node, "cluster stat", USAGE, "state")
    fails(node, "module instal -m x", USAGE, "install")
    fails(node, "state --jsn", USAGE, "--json")
    fails(node, "start", USAGE, "-m")
    fails(node, "start -m nosuch", NOT_FOUND, "nosuch")
    fails(node, "start -m ../etc", USAGE)
    fails(node, "waitstate -m echo UPP", USAGE, "UP")
    fails(node, "boot -m echo onn", USAGE, "on")
    fails(node, "state -m echo extra", USAGE, "extra")
    fails(node, "state -H nodex", NOT_FOUND, "nodex", "node1")
    fails(node, "state -H ''", USAGE, "'-H' is empty")
    verbs = ["start", "stop", "restart", "stopstart", "forcestop", "shutdown", "waitstart", "waitstop", "waitstate",
             "state", "level", "log", "logview", "printi", "printw", "printe", "set", "get", "confcheck", "config",
             "confinfo", "deconfig", "update", "boot", "power"]
    verbs += ["cluster " + v for v in ("config", "confcheck", "confinfo", "state", "genkey", "check")]
    verbs += ["module " + v for v in ("install", "package", "uninstall", "list", "listid", "getports")]
    missing = [v for v in verbs if v.split()[-1] not in node.stead(f"{v} -h").stdout]
    check(not missing, f"every verb has -h ({missing or 'all'})")
    check("state -lq" in node.stead("help exit-codes").stdout or "STOP 0" in node.stead("help exit-codes").stdout,
          "help exit-codes documents the states")


def stopped(node):
    check(node.state("echo") == 0, "state -lq of a stopped module exits 0")
    fails(node, "state -lq", USAGE)
    check(node.stead("state -m nosuch -lq", check=False).returncode >= 64, "state -lq of an unknown module exits >= 64")
    fails(node, "get -m echo -r x", 78, "stead start -m echo")
    fails(node, "waitstate -m echo UP -t 1", 75, "STOP")
    check(node.stead("waitstop -m echo").returncode == 0, "waitstop of a stopped module returns")
    check(node.stead("stop -m echo").returncode == 0, "stop of a stopped module is no error")


def started(farm, node):
    says(node, "start -m echo", "echo")
    node.stead("waitstart -m echo -t 20")
    check(node.state("echo") == 2, "state -lq of an UP module exits 2")
    node.stead("waitstate -m echo UP -t 5")
    says(node, "start -m echo", "echo")
    farm.start("echo", farm.nodes[1:])
    support.wait_served(farm)
    says(node, "state", "module echo", "node2", "node3", "UP", "Ready")
    table = lab.wait_for("all shares are known", lambda: shares_shown(node), 10)
    check(100 - 3 <= sum(table) <= 100 + 3 and len(table) == 3, f"state shows the share of each node ({table})")
    verbose = says(node, "state -v -m echo", "view: node1 node2 node3", "resources:", "counters:")
    check(len(verbose.splitlines()) > 5, "state -v shows resources and counters")
    node.stead("set -m echo -r custom.disk -v down")
    for option, more in (("", 0), ("-l", 1)):
        logs = lambda: [node.stead(log).stdout.count("custom.disk") for log in ("log -m echo", "cmdlog")]
        before = logs()
        node.stead(f"set -m echo -r custom.disk -v down {option}")
        check(logs() == [count + more for count in before], f"set of the same value {option}: {more} more line")
    check(node.stead("get -m echo -r custom.disk").stdout.strip() == "down", "get prints what set wrote")
    check(as_json(node, "get -m echo -r custom.disk")["value"] == "down", "get --json has the value")
    fails(node, "get -m echo -r custom.nosuch", NOT_FOUND, "custom.nosuch")
    fails(node, "set -m echo -r custom.disk", USAGE, "-v")
    fails(node, "set -m echo -r nodot -v up", 78, "'nodot'", "CLASS.NAME")
    for name in ("state.local", "farm.filter", "usersetting.checker"):
        fails(node, f"set -m echo -r {name} -v up", 78, name, "custom.NAME")
    node.stead("set -m echo -r custom.disk -v up -n")
    node.stead("restart -m echo")
    node.stead("waitstart -m echo -t 20")
    support.wait_served(farm)


def shares_shown(node):
    """The shares of `stead state`, once all three nodes have one; the same are in --json."""
    shown = [int(share) for share in re.findall(r"UP +Ready +(\d+)%", node.stead("state -m echo").stdout)]
    module = as_json(node, "state -m echo")["modules"][0]
    told = [one.get("share") for one in [module, *module["peers"]]]
    return shown if len(shown) == 3 and told == [f"{share}%" for share in shown] else None


def logs(node):
    node.stead("printi -m echo one two")
    node.stead("printe oh dear -m echo")
    out = says(node, "log -m echo -s 20", "one two", "oh dear", "| E |")
    check(len(node.stead("log -m echo -s 2").stdout.splitlines()) == 2, "log -s 2 prints two lines")
    check(out.splitlines()[-1].find("oh dear") > 0, "the newest line is the last")
    node.sh("SAFEMODULE=echo " + str(node.lab.stage) + "/bin/stead printw from a script")
    says(node, "log -m echo -s 1", "from a script")
    says(node, "log", "node1")
    says(node, "cmdlog", "start -m echo", "root")
    fails(node, "log -m echo -s many", USAGE, "many")
    viewer = node.spawn([str(node.lab.stage) + "/bin/stead", "logview", "-m", "echo", "-s", "1"], stdout=subprocess.PIPE)
    first = viewer.stdout.readline()
    node.stead("printi -m echo seen while it grows")
    second = viewer.stdout.readline()
    viewer.kill()
    viewer.wait()
    check("from a script" in first and "seen while it grows" in second, "logview follows the log")


def distributed(farm, node):
    prefixed = node.stead('level -H "[https:9453],node2"')
    check("--- node2" in prefixed.stdout and "[https:9453] is ignored" in prefixed.stderr, "-H with a classic prefix")
    out = says(node, 'state -H "*" -m echo', "--- node1", "--- node2", "--- node3")
    check(out.count("module echo") == 3, "-H '*' asks every node")
    says(node, 'level -H "node2,node3"', "--- node2", "--- node3")
    for verb in ("state", "level", "module list", "cluster state", "confinfo -m echo", "log -m echo -s 3",
                 "boot status -m echo", "get -m echo -r custom.disk"):
        data = as_json(node, f'{verb} -H "node1,node2"', 0 if "get" not in verb else NOT_FOUND)
        check(sorted(data) == ["node1", "node2"], f"-H --json of '{verb}' names both nodes")
    node.stead('failover on -m echo -H "node2,node2"')
    check(farm.nodes[1].stead("cmdlog").stdout.count("| failover on -m echo: done") == 1, "a node named twice acts once")
    node.stead('stop -H "*" -m echo')
    check([n.state("echo") for n in farm.nodes] == [0, 0, 0], "stop -H '*' returns when all are stopped")
    node.stead('start -H "*" -m echo')
    node.stead('waitstart -H "*" -m echo -t 20')
    support.wait_served(farm)
    third = farm.nodes[2]
    third.kill("steadd")
    third.steadd.wait()
    began = time.monotonic()
    done = node.stead('state -H "node2,node3" -m echo', check=False)
    check(time.monotonic() - began < 5, "an unreachable node costs less than 5 s")
    check(done.returncode == UNREACHABLE, f"an unreachable node makes exit 79 (got {done.returncode})")
    check("node3" in done.stderr and "node2" in done.stdout, "it is named, and the others answer")
    data = as_json(node, 'state -H "node2,node3" -m echo', UNREACHABLE)
    check("error" in data["node3"] and "error" not in data["node2"], "--json tells who did not answer")
    fails(third, "state", NO_DAEMON, "steadd is not running")
    check(third.processes("stead-host") != [], "the module goes on without steadd")
    third.start_steadd()
    check(third.state("echo") == 2, "a new steadd adopts the running module")
    lab.wait_for("node3 heard again", lambda: node.stead('level -H node3', check=False).returncode == 0)


def json_everywhere(node):
    node.stead("set -m echo -r custom.disk -v up")
    for verb in ("state", "state -v -m echo", "level", "level -m echo", "log", "log -m echo", "log -u -m echo", "cmdlog",
                 "get -m echo -r custom.disk", "confcheck -m echo", "config -m echo", "confinfo -m echo",
                 "boot status -m echo", "module list", "module listid", "module getports -m echo",
                 "module getports -i 3", "cluster confcheck", "cluster confinfo", "cluster state", "start -m echo",
                 "waitstart -m echo -t 5", "checkloop -m echo", "resetloop -m echo",
                 "set -m echo -r custom.disk -v up", "power -m echo node1 1"):
        as_json(node, verb)
    check(as_json(node, "power -m echo node1 1") == {"module": "echo", "node": "node1", "power": 1}, "power: a number")
    check(as_json(node, "power -m echo node1 default")["power"] is None, "power default: null")
    switched = {"module": "echo", "resource": "usersetting.failover", "on": True, "running": True}
    check(as_json(node, "failover on -m echo -H node1")["node1"] == switched, "failover: what is on, and where")
    rehearsed = as_json(node, "module check -m echo")
    check(rehearsed["ok"] and "text" not in rehearsed and rehearsed["hooks"][0]["hook"] == "prestart" and
          rehearsed["hooks"][0]["arguments"] == ["STOP", "WAIT", "start"], "module check: hooks one by one")
    for verb, code in (("state -m nosuch", NOT_FOUND), ("strat", USAGE), ("cluster genkey", CONFLICT)):
        check(as_json(node, verb, code)["exit"] == code, "--json shows errors too")
    check("module" in as_json(node, "state")["modules"][0]["peers"][0] or
          as_json(node, "state")["modules"][0]["peers"][0]["node"] == "node2", "peers have names in --json")


def configuration(farm, node):
    edited = node.disk / "etc" / "modules" / "echo"
    xml = edited / "conf" / "userconfig.xml"
    good = xml.read_text()
    says(node, "confinfo -m echo", "they are the same")
    says(node, "config -m echo", "in force already")
    good_cluster = (node.disk / "etc" / "cluster.xml").read_text()
    file = lab.temporary("cluster") / "cluster.xml"
    file.write_text(good_cluster.replace("<lans ", '<lans mlost_count="9" '))
    says(node, f"cluster confcheck {file}", "warning: ", "cluster.xml:1: lans/@mlost_count is ignored", "is good")
    file.write_text("\n" + good_cluster.replace(node.address(), "192.0.2.77"))
    fails(node, f"cluster confcheck {file}", 65, f"{file}:2: no <node> has an address of this server", node.address())
    node.sh("echo no zip >/run/bad.safe")
    fails(node, "module install -m other /run/bad.safe", 65, "/run/bad.safe: is not a zip file")
    fails(node, "module install -m echo -r " + str(support.archive_of(support.HERE / "echo_farm")), CONFLICT, "running")
    fails(node, "module uninstall -m echo", CONFLICT, "running")
    fails(node, "deconfig -m echo", CONFLICT, "running")
    xml.write_text(good.replace('<rule port="7000" proto="udp"', '<rule port="7001" proto="udp"'))
    says(node, "confinfo -m echo", "they differ")
    fails(node, "config -m echo", CONFLICT, "running", "<rule>", "stead stop")
    fails(node, "update -m echo", CONFLICT, "<rule> port: '7000' is now '7001'")
    xml.write_text(good.replace('name="DRAIN" value="5s"', 'name="DRAIN" value="5000ms"'))
    says(node, "update -m echo", "uses its new configuration")
    xml.write_text(good)
    node.stead("update -m echo")
    check(node.ready("echo"), "a refused config does not disturb the module")
    xml.write_text(good.replace('maxloop="3"', 'maxlop="3"'))
    fails(node, "confcheck -m echo", 65, "userconfig.xml", "maxlop", "maxloop")
    fails(node, "config -m echo", 65, "maxlop")
    xml.write_text(good.replace('mode="farm"', 'mode="fram"').replace("</service>", """<failover>
      slip: if (custom.x == dwon) then stop();</failover></service>""").replace('port="7000" proto="udp"',
                                                                            'port="70000" proto="udp"'))
    fails(node, "confcheck -m echo", 65, "service/@mode: 'fram'", "'dwon'", "rule/@port: '70000'")
    xml.write_text(good.replace("<farm ", '<farm partition="witness" '))
    fails(node, "confcheck -m echo", 65, "farm/@witness: missing")
    xml.write_text(good.replace("<farm ", '<farm partition="witness" witness="node9" '))
    fails(node, "confcheck -m echo", 65, "farm/@witness: 'node9' is not a node of cluster.xml; allowed: node1")
    for witness in ('exec="cas" arg="node3 node9"', 'exec="ping" arg="192.0.2.1,node:node9"'):
        xml.write_text(good.replace("<user>", f'<check><splitbrain ident="w" {witness}/></check><user>'))
        fails(node, "confcheck -m echo", 65, "splitbrain/@arg: 'node9' is not a node of cluster.xml; allowed: node1")
    xml.write_text(good.replace("<user>", '<check><splitbrain ident="w" exec="cas" arg="node:node3"/></check><user>'))
    node.stead("confcheck -m echo")
    xml.write_text(good.replace("<farm ", '<farm witness="node2" '))
    says(node, "confcheck -m echo", "farm/@witness: 'node2' is asked nothing with partition=\"serve\"")
    xml.write_text(re.sub("<loadbalancing_list>.*</loadbalancing_list>", "", good, flags=re.DOTALL))
    says(node, "confcheck -m echo", "vip: no <rule> in a <loadbalancing_list>: all packets")
    xml.write_text(good.replace(lab.VIP, farm.nodes[1].address()))
    fails(node, "confcheck -m echo", 65, "virtual_addr/@addr", "is the address of node2")
    for addr, flaw in (("127.0.0.1", "loopback"), ("10.42.255.255", "broadcast address of 10.42.0.0/16"),
                       ("web.example", "the name 'web.example' has no address")):
        xml.write_text(good.replace(lab.VIP, addr))
        fails(node, "confcheck -m echo", 65, "virtual_addr/@addr", addr, flaw)
    xml.write_text(good)
    named_address(node, xml)
    xml.write_text(good.replace(lab.VIP, "192.0.2.7"))
    says(node, "confcheck -m echo", "warning", "'192.0.2.7' is in no subnet", "10.42.0.0/16 (eth0)")
    xml.write_text(good)
    slips = xml.parents[1] / "bin"
    strays = ("strat_both.lua", "stop_second.lua", "_rfs_synced", "start_prim.cmd", "confchek",
              "helper.sh")
    for name in strays:
        (slips / name).write_text("return true\n" if name.endswith(".lua") else "exit 0\n")
    says(node, "confcheck -m echo", "bin/strat_both.lua: is no hook, and no element names it; did you mean start_both?")
    says(node, "confcheck -m echo", "bin/stop_second.lua: is never run")
    says(node, "confcheck -m echo", "bin/_rfs_synced: is never run", "bin/start_prim.cmd: is never run: a hook is named start_prim",
         "bin/confchek: is no hook, and no element names it; did you mean confcheck?")
    check("helper" not in node.stead("confcheck -m echo").stdout, "what hooks may call is nobody's slip")
    for name in strays:
        (slips / name).unlink()
    (slips / "transition").write_text("#!/bin/sh\r\nexit 0\r\n")
    (slips / "transition").chmod(0o755)
    fails(node, "confcheck -m echo", 65, "bin/transition:1: ends with CR LF", "sed -i")
    (slips / "transition").unlink()
    xml.write_text(good.replace('mode="farm"', 'mode="farm" failover="off"'))
    says(node, "confcheck -m echo", "service/@failover: 'off' has no meaning in a farm module")
    xml.write_text(good)
    (slips / "update").write_text("#!/bin/sh\nif true; then\n")
    says(node, "confcheck -m echo", "bin/update:3: ", "yntax error")
    (slips / "update").unlink()
    xml.write_text(re.sub("<user>.*</user>", """<errd><proc name="x"/></errd>
        <check><tcp ident="a" when="second"><to addr="127.0.0.1" port="1"/></tcp></check>""", good, flags=re.DOTALL))
    says(node, "confcheck -m echo", "without <user> none runs", "tcp/@when: 'second' is never reached")
    xml.write_text(good)
    fails(node, "module new echo", CONFLICT, "installed already", "module uninstall -m echo")
    before = as_json(node, "confinfo -m echo")["generation"]
    check(as_json(node, "confinfo -m echo")["same"] is True and before != "", "the active configuration was kept")
    changed = good.replace('name="POWER1" value="1"', 'name="POWER1" value="3"')
    for other in farm.nodes:
        path = other.disk / "etc" / "modules" / "echo" / "conf" / "userconfig.xml"
        path.write_text(path.read_text().replace('name="POWER1" value="1"', 'name="POWER1" value="3"'))
        other.stead("update -m echo")
    check(changed == xml.read_text(), "update keeps the edited file")

    def weighted():
        share = support.shares(lab.result(support.udp(farm, "--flows", 3000, "--rate", 6000, "--count", 3000)))
        return abs(share.get("node1", 0) - 60) < 5
    lab.wait_for("update to weights 3:1:1", weighted, 15)
    check(True, "update changed the powers while the module runs")
    node.stead("stop -m echo")
    node.stead("deconfig -m echo")
    fails(node, "start -m echo", CONFLICT, "stead config")
    says(node, "state -m echo", "not configured")
    for number in range(5):
        xml.write_text(changed + f"<!-- {number} -->\n")
        node.stead("config -m echo")
    kept = sorted(path.name for path in (node.disk / "var" / "modules" / "echo" / "lastconfig").iterdir())
    check(len(kept) == 3, f"the last three configurations are kept ({kept})")
    check(not [p for p in (node.disk / "var" / "modules" / "echo").glob("gen.*") if "tmp" in p.name],
          "nothing half-made is left")
    xml.write_text(changed)
    hooks(node, edited)
    node.stead("config -m echo")
    farm.start("echo", [node])


def hooks(node, edited):
    """config and postconfig run at `config`; one that fails leaves the configuration as it was."""
    (edited / "bin" / "postconfig").write_text('#!/bin/sh\ngrep -q "<rule" "$SAFEUSERCONF/safeconf.xml" || exit 3\n'
                                               'echo seen >"$SAFEUSERVAR/postconfig.ran"\n')
    (edited / "bin" / "postconfig").chmod(0o755)
    node.stead("config -m echo")
    check(list((node.disk / "var" / "modules" / "echo").rglob("postconfig.ran")), "postconfig sees safeconf.xml")
    before = as_json(node, "confinfo -m echo")["active"]
    (edited / "bin" / "postconfig").write_text("#!/bin/sh\necho unit is missing\nexit 1\n")
    fails(node, "config -m echo", 78, "postconfig", "unit is missing", "not applied")
    check(as_json(node, "confinfo -m echo")["active"] == before, "a postconfig that fails changes nothing")
    (edited / "bin" / "postconfig").unlink()
    (edited / "bin" / "postconfig.lua").write_text('stead.log.info("asks for the licence")\nerror("no licence")\n')
    fails(node, "config -m echo", 78, "hook postconfig: bin/postconfig.lua:2: no licence", "not applied")
    check("no licence" in says(node, "cmdlog").splitlines()[-1], "cmdlog has the reason")
    check("I | script | asks for the licence" in says(node, "log -m echo"), "stead.log of such a hook is in the module's log")
    (edited / "bin" / "postconfig.lua").unlink()


def two_modules(farm):
    folder = pathlib.Path(farm.folder) / "second"
    shutil.copytree(support.HERE / "echo_farm", folder)
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace("7000", "7100").replace(lab.VIP, "10.42.0.101")
                            .replace(lab.VIP6, "fd42::101"))
    archive = support.archive_of(folder)
    fails(farm.nodes[0], f"module install -m second -M 1 {archive}", CONFLICT, "echo")
    fails(farm.nodes[0], f"module install -m second -M 65 {archive}", USAGE, "64")
    fails(farm.nodes[0], "module install -m second -M 2 /nosuch.safe", NOT_FOUND, "/nosuch.safe")
    farm.install("second", archive, module_id=2, macros={"TRAFFIC": lab.traffic_program()})
    farm.start("second")
    second = lab.wait_for("the second module serves", lambda: served_by_three(farm, "10.42.0.101", 7100), 15)
    check(second, "two modules serve two addresses on one interface")
    check(served_by_three(farm, lab.VIP, 7000), "and the first goes on")
    out = says(farm.nodes[0], "state", "module echo", "module second")
    check(out.count("UP") >= 6, "state shows both on three nodes")
    says(farm.nodes[0], "module list", "echo", "second")
    says(farm.nodes[0], "module listid", "echo 1", "second 2")
    says(farm.nodes[0], "module getports -m second", "udp 4806 farm")
    xml = farm.nodes[0].disk / "etc" / "modules" / "second" / "conf" / "userconfig.xml"
    kept = xml.read_text()
    xml.write_text(kept.replace("<farm ", '<farm port="4803" '))
    said = farm.nodes[0].stead("confcheck -m second")
    check("warning" in said.stdout + said.stderr and "farm/@port: UDP port 4803 is that of module 'echo'" in said.stdout + said.stderr,
          "a port of two modules is told")
    xml.write_text(kept)
    farm.nodes[0].stead("stop -m second")
    check(farm.nodes[0].state("echo") == 2, "stopping one leaves the other")
    done = farm.nodes[0].stead("module package -m second /nosuch/x.safe", check=False)
    check(done.returncode == 74 and "packed" not in done.stdout and "/nosuch/x.safe" in done.stderr,
          "a package that cannot be written is not said to be packed")
    check(as_json(farm.nodes[0], "module package -m second nosuch/x.safe", 74)["exit"] == 74, "nor with --json")
    done = farm.nodes[0].sh(f"cd /tmp && {lab.stage()}/bin/stead module package -m second stead-packed.safe")
    check("written to /tmp/stead-packed.safe" in done.stdout, "a relative name is of the caller's folder, and is told")
    read_only = "mount -o remount,bind"
    farm.nodes[0].sh(f"{read_only},ro /etc/stead")
    fails(farm.nodes[0], "module uninstall -m second", 74, "/etc/stead/modules/second: cannot remove: Read-only")
    check("second" in farm.nodes[0].stead("module list").stdout, "what cannot be removed stays installed")
    farm.nodes[0].sh(f"{read_only},rw /etc/stead")
    farm.nodes[0].stead("module uninstall -m second")
    fails(farm.nodes[0], "state -m second", NOT_FOUND, "second")
    farm.nodes[0].stead("module install -m second -M 2 /tmp/stead-packed.safe")
    os.unlink("/tmp/stead-packed.safe")
    farm.nodes[0].stead("config -m second")
    farm.nodes[0].stead("start -m second")
    farm.nodes[0].stead("waitstart -m second -t 20")


def named_address(node, xml):
    """A virtual address may be a name: what it stands for at `config` is in force, also when nobody knows it any more."""
    good = xml.read_text()
    node.sh(f"cp /etc/hosts /run/hosts; echo {lab.VIP} vip.example >>/run/hosts; mount --bind /run/hosts /etc/hosts")
    xml.write_text(good.replace('addr="%VIP%"', 'addr="vip.example"'))
    says(node, "update -m echo", f"virtual_addr/@addr: 'vip.example' is {lab.VIP} until the next 'stead config'",
         "uses its new configuration")
    node.sh("echo 10.42.0.99 vip.example >>/run/hosts")
    fails(node, "confcheck -m echo", 65, "several addresses of one kind (10.42.0.100, 10.42.0.99)")
    node.sh("umount /etc/hosts")
    node.stead("stop -m echo")
    node.stead("start -m echo")
    lab.wait_for("ready again", lambda: node.ready("echo"), 20)
    check(lab.VIP in node.sh("ip addr show eth0").stdout, "it starts with the address that the name had")
    xml.write_text(good)
    node.stead("update -m echo")


def served_by_three(farm, target, port):
    seen = lab.result(farm.traffic("udp", "--target", target, "--port", port, "--sources", lab.CLIENTS, "--flows", 300,
                                   "--rate", 3000, "--count", 300, "--deadline-ms", 300))
    return len(seen["names"]) == 3 and seen["unanswered"] == 0 and seen["answered_more"] == 0


def boot_and_shutdown(farm, node):
    node.stead("boot on -m echo")
    says(node, "boot status -m echo", "on")
    node.stead("boot off -m second")
    check(as_json(node, "boot status -m second")["boot"] == "off", "boot off is kept")
    node.stead("shutdown")
    check(node.state("echo") == 0 and node.state("second") == 0, "shutdown stops all modules")
    check(farm.nodes[1].state("echo") == 2, "of this node only")
    node.power_off()
    stale = node.disk / "etc" / "modules" / ".third.installing-aB3dEf"
    (stale / "conf").mkdir(parents=True)
    node.power_on()
    node.start_steadd()
    check(not stale.exists(), "what a killed installation left is gone after steadd's start")
    node.stead("waitstart -m echo -t 20")
    check(node.state("echo") == 2, "boot on starts the module at boot")
    check(node.state("second") == 0, "boot off does not")
    node.stead("forcestop -m echo")
    check(node.state("echo") == 0, "forcestop stops")
    node.stead("start -m echo")
    node.stead("waitstart -m echo -t 20")
    node.stead("stopstart -m echo")
    lab.wait_for("echo after stopstart", lambda: node.ready("echo"), 30)
    fails(node, "power -m echo nosuch 2", 78, "nosuch", "node1")
    fails(node, "power -m echo node1 many", USAGE, "many", "1000")


def restart_steadd(node, until="cluster state"):
    node.kill("steadd", "TERM")
    node.steadd.wait()
    node.start_steadd(until)


def taken_port(farm, node):
    """Another program has steadd's port at its start: when that gives it back, the node is in contact by itself."""
    node.kill("steadd", "TERM")
    node.steadd.wait()
    program = f"import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('{node.address()}', 4800)); time.sleep(600)"
    node.spawn(["python3", "-c", program])
    lab.wait_for("the port is taken", lambda: node.sh("ss -Hlun 'sport = :4800'").stdout)
    node.start_steadd()
    check("could not be opened" in node.stead("cluster check", check=False).stdout, "cluster check names the port")
    node.sh("pkill -f SOCK_DGRAM", check=False)
    lab.wait_for("node2 hears node1", lambda: [one for one in as_json(farm.nodes[1], "cluster state")["nodes"]
                                               if one["node"] == "node1" and one["up"]], 15)
    check("the ports are open now" in node.stead("log").stdout, "and the log says so")
    before = len(port_lines(node))
    node.kill("steadd", "TERM")
    node.steadd.wait()
    node.spawn(["python3", "-c", program.replace("600", "0.5")])
    lab.wait_for("the port is taken", lambda: node.sh("ss -Hlun 'sport = :4800'").stdout)
    node.start_steadd()
    lab.wait_for("the port is open", lambda: port_lines(node)[-1].endswith("the ports are open now"), 15)
    times = [datetime.datetime.fromisoformat(line[:26]) for line in port_lines(node)[-2:]]
    check(len(port_lines(node)) == before or (times[1] - times[0]).total_seconds() < 1.5,
          "a port that is free again at once is opened soon")


def port_lines(node):
    return [line for line in node.stead("log").stdout.splitlines() if "cannot bind" in line or "ports are open" in line]


def leave_and_lock(farm, node):
    """The last: node1 is taken out of the cluster, stays out over a restart, and comes back."""
    fails(node, "cluster deconfig", CONFLICT, "running modules need the cluster: echo")
    says(node, "cluster config lock", "locked by root")
    restart_steadd(node)
    for command in ("cluster config", "cluster config /etc/stead/cluster.xml lock", "cluster deconfig"):
        fails(node, command, 78, "is locked by root", "stead cluster config unlock")
    data = as_json(farm.nodes[1], "-H node1 -G", 78)
    check("stead cluster config unlock" in data["node1"]["error"], "a file from another node is refused too")
    check(as_json(node, "cluster confinfo")["locked"] is True, "confinfo tells of the lock")
    fails(node, "cluster delkey", CONFLICT, "deconfig")
    node.stead("shutdown")
    (node.disk / "etc" / "bad.xml").write_text("<cluster>")
    fails(node, "cluster config /etc/stead/bad.xml unlock", 65, "bad.xml")
    fails(node, "cluster config", 78, "is locked by root")  # a file that is refused leaves the lock
    node.stead("cluster config unlock")
    running = node.processes("steadd")
    both = json.loads(node.stead("cluster deconfig -H node1,node2 --json", check=False).stdout)
    check(both["node1"].get("ok") is True and "echo" in both["node2"].get("error", ""),
          f"-H asks the others too, when this node has left: {both}")
    check(node.processes("steadd") == running, "steadd goes on")
    restart_steadd(node, "level")
    fails(node, "start -m echo", CONFLICT, "has left its cluster")
    check(lab.wait_for("node2 misses node1", lambda: not [one for one in as_json(farm.nodes[1], "cluster state")["nodes"]
                                                           if one["node"] == "node1" and one["up"]]), "node1 is gone")
    key = (node.disk / "etc" / "cluster.key").read_bytes()
    node.stead("cluster delkey")
    check(not (node.disk / "etc" / "cluster.key").exists(), "delkey removes the key")
    (node.disk / "etc" / "cluster.key").write_bytes(key)
    (node.disk / "etc" / "cluster.key").chmod(0o600)
    node.stead("cluster config /etc/stead/cluster.xml lock")
    fails(node, "cluster config", 78, "stead cluster config unlock")
    node.stead("start -m echo")
    node.stead("waitstart -m echo -t 20")
    support.wait_served(farm)


def main():
    lab.enter()
    with lab.Lab(nodes=3) as farm:
        node = farm.nodes[0]
        no_daemon(node)
        farm.form_cluster()
        fails(node, "start -m echo", NOT_FOUND, "module list")
        fails(node, "cluster genkey", CONFLICT, "--force")
        farm.install("echo", support.archive_of(support.HERE / "echo_farm"), macros={"TRAFFIC": lab.traffic_program()})
        spelling(node)
        stopped(node)
        started(farm, node)
        logs(node)
        distributed(farm, node)
        json_everywhere(node)
        configuration(farm, node)
        two_modules(farm)
        boot_and_shutdown(farm, node)
        taken_port(farm, node)
        leave_and_lock(farm, node)
    print("all good")


if __name__ == "__main__":
    main()
