#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The process checker with real processes: a three-node farm of real nginx that is killed again and again under load,
and a light module for actions, handlers, classes, count bounds and services."""
import json
import sys
import time

from light import Module, light_xml
from support import HERE, archive_of, check, lab

NGINX = '<errd polltimer="10s"><proc name="nginx" service="yes" class="both" action="restart"/></errd>'
SHELL = "#!/bin/sh\n"
# A daemon with a name of its own, whatever is in the test's PATH.
DAEMON = SHELL + """
case "$0" in
*start_both) cp -f /bin/sleep /run/steadapp; for i in $(seq ${COUNT:-1}); do /run/steadapp 100000 >/dev/null 2>&1 & done;;
*stop_both) pkill -x steadapp || true;;
esac
"""


# ---- A farm of nginx under load

class Load:
    """HTTP connections from the client; what became of them."""

    def __init__(self, farm, seconds):
        self.process = farm.client.spawn([sys.executable, str(HERE / "http_load.py"), lab.VIP, "80", "150", str(seconds)],
                                         stdout=open(farm.folder / "load", "w"))
        self.file = farm.folder / "load"

    def outcomes(self):
        lines = self.file.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("]")]


def kill_nginx(node):
    """When it died, and how long it took until the restart, or the stop, had begun."""
    before = node.stead("log -m web -s 2000").stdout.count("Action ")
    node.sh("pkill -KILL -x nginx")
    died = time.monotonic()
    lab.wait_for(f"an action on {node.name}",
                 lambda: node.stead("log -m web -s 2000", check=False).stdout.count("Action ") > before)
    return died, time.monotonic() - died


def farm_of_nginx():
    with lab.Lab(nodes=3) as farm:
        farm.form_cluster()
        archive = archive_of(lab.ROOT / "modules" / "nginx_farm")
        for node in farm.nodes:
            node.stead(f"module install -m web -M 1 {archive}")
            path = node.disk / "etc" / "modules" / "web" / "conf" / "userconfig.xml"
            text = lab.replace_macro(path.read_text(), "VIP", lab.VIP)
            if "<errd" not in text:
                text = text.replace("<user>", NGINX + "<user>")
            path.write_text(text)
            node.stead("config -m web")
            node.stead("start -m web")
        for node in farm.nodes:
            lab.wait_for(f"{node.name} Ready", lambda: node.ready("web"), 20)
        victim = farm.nodes[1]
        lab.wait_for("nginx is seen", lambda: victim.stead("get -m web -r proc.nginx").stdout == "up\n")
        load = Load(farm, 30)
        lab.wait_for("all nodes answer", lambda: len({one[3] for one in load.outcomes() if one[2] == "ok"}) == 3)
        closed = []
        for turn in range(4):
            died, begun = kill_nginx(victim)
            check(begun < 1.0, f"failure {turn + 1}: acted {1000 * begun:.0f} ms after the death")
            closed.append((died, died + begun))
            if turn < 3:
                lab.wait_for("Ready again", lambda: victim.ready("web"), 20)
                lab.wait_for("traffic again", lambda: any(
                    one[3].startswith(victim.name) and one[0] > closed[-1][1] for one in load.outcomes()), 10)
        lab.wait_for("the module stopped", lambda: victim.state("web") == 0, 20)
        log = victim.stead("log -m web -s 2000").stdout
        check("Action stop called by maxloop" in log, "the fourth failure within the window stops the module")
        check(log.count("Action restart called by checkers.process: ") == 3, "one restart per death")
        load.process.wait(timeout=60)
        judge(load.outcomes(), closed, victim.name)
        check(all(node.ready("web") for node in (farm.nodes[0], farm.nodes[2])), "the others serve")


def judge(outcomes, closed, victim):
    """What clients saw: losses only between each death and the moment at which the filter was closed."""
    bad = [one for one in outcomes if one[2] != "ok"]
    slack = 0.5  # from the begin of the action to the end of the view change, on a busy machine
    inside = [one for one in bad if any(died - 3 <= one[0] <= begun + slack for died, begun in closed)]
    outside = [one for one in bad if one not in inside]
    print(f"{len(outcomes)} connections, {len(inside)} lost at the four deaths, outcomes "
          f"{sorted({one[2] for one in bad})}", flush=True)
    check(not outside, f"no connection lost once the filter was closed ({len(outside)} of {len(outcomes)}: {outside[:5]})")
    last = closed[-1][1] + slack
    check({one[3].split()[0] for one in outcomes if one[0] > last and one[2] == "ok"}.isdisjoint({victim}),
          "the stopped node answers nobody")


# ---- One node, one light module per case

def logged(module, text, count=1, timeout=15):
    lab.wait_for(f"{count} x {text!r}", lambda: module.log().count(text) >= count, timeout)


def app(node, name, proc, hooks=None, count=1, polltimer="10s", attributes=""):
    daemon = DAEMON.replace("${COUNT:-1}", str(count))
    return Module(node, name, {"start_both": daemon, "stop_both": daemon, **(hooks or {})},
                  light_xml(more=f'<errd polltimer="{polltimer}">{proc}</errd>', attributes=attributes))


def up(module, name):
    lab.wait_for(f"proc.{name} up", lambda: module.stead(f"get -r proc.{name}").stdout == "up\n")


def actions(node):
    for action in ("restart", "stopstart", "stop"):
        module = app(node, action, f'<proc name="steadapp" action="{action}"/>')
        module.start()
        up(module, "steadapp")
        node.kill("steadapp")
        logged(module, f"Action {action} called by checkers.process: process steadapp: 0 running, at least 1 wanted")
        if action == "stop":
            module.wait(0)
        else:
            lab.wait_for("Ready again", lambda: node.ready(action) and node.processes("steadapp"))
            check(module.log().count(f"Action {action} called") == 1, f"{action}: once")
        module.stead("stop")
        check(module.log().count(f"Action {action} called by checkers") == 1, "a planned stop is no death")


def handler(node):
    module = app(node, "handled", '<proc name="steadapp" action="cure"/>', {
        "cure": SHELL + 'echo "cure $*" >>/run/cured; /run/steadapp 100000 >/dev/null 2>&1 & exit 0\n'})
    module.start()
    up(module, "steadapp")
    node.kill("steadapp")
    lab.wait_for("the cure", lambda: node.processes("steadapp"))
    check(node.sh("cat /run/cured").stdout == "cure handled proc.steadapp\n", "the handler got module and resource")
    up(module, "steadapp")
    check("Action" not in module.log().split("cure", 1)[1], "a handler that succeeds is all that happens")
    module.stead("stop")
    module = app(node, "failing", '<proc name="steadapp" action="cure"/>', {"cure": SHELL + "exit 3\n"})
    module.start()
    up(module, "steadapp")
    node.kill("steadapp")
    logged(module, "Action stopstart called by checkers.process: cure failed for process steadapp")
    lab.wait_for("Ready again", lambda: node.ready("failing"))
    module.stead("stop")


def bounds(node):
    module = app(node, "bounds", '<proc name="steadapp" atleast="3" atmax="4" action="restart"/>'
                                 '<proc name="intruder" atmax="0" action="noaction"/>', count=3)
    module.start()
    up(module, "steadapp")
    node.sh("/run/steadapp 100001 >/dev/null 2>&1 & /run/steadapp 100001 >/dev/null 2>&1 &")
    logged(module, "process steadapp: 5 running, at most 4 wanted")
    lab.wait_for("Ready again", lambda: node.ready("bounds") and len(node.processes("steadapp")) == 3)
    node.sh("kill -9 $(pgrep -o -x steadapp)")
    logged(module, "Action restart called by checkers.process: process steadapp: 2 running, at least 3 wanted")
    lab.wait_for("Ready again", lambda: node.ready("bounds"))
    node.sh("cp /bin/sleep /run/intruder; /run/intruder 1000 >/dev/null 2>&1 &")
    lab.wait_for("the intruder", lambda: module.stead("get -r proc.intruder").stdout.strip() == "down")
    check(node.ready("bounds"), "noaction tells and does nothing")
    node.kill("intruder")
    module.stead("stop")


def expressions(node):
    module = app(node, "expressions", '<proc name="mine" nameregex="^stead[a]pp$" argregex=" 100000$" action="restart"/>')
    module.start()
    node.sh("/run/steadapp 5000 >/dev/null 2>&1 &")
    up(module, "mine")
    node.sh("pkill -KILL -f 'steada[p]p 100000'")
    logged(module, "Action restart called by checkers.process: process mine: 0 running")
    module.stead("stop")


def slow_start(node):
    module = Module(node, "slow", {"start_both": SHELL + "cp -f /bin/sleep /run/steadapp\n"
                                   "(sleep 3; exec /run/steadapp 1000) >/dev/null 2>&1 &\n",
                                   "stop_both": SHELL + "pkill -x steadapp || true\n"},
                    light_xml(more='<errd polltimer="2s"><proc name="steadapp" start_after="4" action="stop"/></errd>'))
    module.start()
    up(module, "steadapp")
    check("Action stop" not in module.log(), "start_after gives a slow application its time")
    module.stead("stop")


def classes(node):
    """What is said of a class while the module is stopped holds from its next start on, and over later ones."""
    module = app(node, "classes", '<proc name="steadapp" class="both" action="restart"/>'
                                  '<proc name="sleeper" class="night" action="noaction"/>')
    check("from the next start on" in module.stead("errd disable both").stdout, "disable, stopped")
    module.stead("errd enable night")
    for turn in ("first", "second"):
        module.start()
        listed = module.stead("errd list").stdout
        check("class=both(disabled) not armed" in listed and "class=night(enabled) armed" in listed,
              f"{turn} start: as it was said")
        logged(module, "Resource proc.sleeper set to down", 1 if turn == "first" else 2)
        if turn == "first":
            node.kill("steadapp")
        module.stead("stop")
    check("Action restart" not in module.log(), "the death of what is not watched does nothing")
    module.stead("errd enable both")
    told = json.loads(module.stead("errd disable night --json").stdout)
    check(told["resource"] == "usersetting.errd.night" and told["on"] is False, "errd disable --json: fields")
    module.start()
    up(module, "steadapp")
    told = {one["resource"]: one for one in json.loads(module.stead("errd list --json").stdout)["processes"]}
    check(told["proc.steadapp"]["armed"] is True and told["proc.steadapp"]["count"] == len(told["proc.steadapp"]["pids"])
          and told["proc.sleeper"]["enabled"] is False, "errd list --json: fields of each process")
    check("class=night(disabled) not armed" in module.stead("errd list").stdout, "the last word counts")
    node.kill("steadapp")
    logged(module, "Action restart called by checkers.process")
    lab.wait_for("Ready again", lambda: node.ready("classes"))
    module.stead("stop")
    module.stead("errd enable nosuch")
    module.start()
    logged(module, "usersetting.errd.nosuch: no <proc> is of class 'nosuch'")
    module.stead("stop")


SYSTEMCTL = """#!/bin/sh
[ "$1" = show ] || exit 1
pid=$(cat /run/unit.pid)
[ -e /proc/$pid ] && printf 'MainPID=%s\\nControlGroup=\\nActiveState=active\\n' $pid ||
printf 'MainPID=0\\nControlGroup=\\nActiveState=failed\\n'
"""


def services(node):
    """Without systemd by name, with systemd (a stand-in for systemctl) by unit: its command has another name."""
    module = app(node, "byname", '<proc name="steadapp.service" service="yes" action="stop"/>'
                                 '<proc name="other" service="yes" action="stop"/>')
    module.start()
    logged(module, "no systemd here: services are watched as processes of the same name")
    time.sleep(1.5)  # longer than a process has to appear
    check(node.ready("byname"), "a unit whose command is not known is not missed")
    node.kill("steadapp")
    module.wait(0)
    node.sh("mkdir -p /run/systemd/system; mount -t tmpfs tmpfs /usr/local/sbin")
    node.sh(f"cat >/usr/local/sbin/systemctl <<'END'\n{SYSTEMCTL}END\nchmod 755 /usr/local/sbin/systemctl")
    module = Module(node, "byunit", {
        "start_both": SHELL + "echo start $* >>/run/args; sleep 100000 >/dev/null 2>&1 & echo $! >/run/unit.pid\n",
        "stop_both": SHELL + "echo stop $* >>/run/args; kill $(cat /run/unit.pid) || true\n"},
        light_xml(more='<errd><proc name="shop" service="yes" action="restart" restart_services="shop,till"/></errd>'))
    module.start()
    up(module, "shop")
    node.sh("rm /run/args")
    died = time.monotonic()
    node.sh("kill -9 $(cat /run/unit.pid)")
    logged(module, "Action restart called by checkers.process: service shop: 0 running")
    check(time.monotonic() - died < 1.5, "the death of a unit's main process is seen at once")
    lab.wait_for("Ready again", lambda: node.ready("byunit"))
    check(node.sh("cat /run/args").stdout == "stop UP UP restart -Services shop,till\n"
          "stop force UP UP restart -Services shop,till\nstart UP UP restart -Services shop,till\n",
          "restart_services: the scripts of that restart know which services are enough")
    node.sh("rm /run/args")
    up(module, "shop")
    module.stead("restart")
    lab.wait_for("Ready again", lambda: node.ready("byunit") and "start" in node.sh("cat /run/args").stdout)
    check("-Services" not in node.sh("cat /run/args").stdout, "a person's restart is of everything")
    conf = module.edited() / "conf" / "userconfig.xml"
    conf.write_text(conf.read_text().replace('action="restart" ', 'action="stop" '))
    refused = module.stead("update", check=False)
    check("userconfig.xml:1" in refused.stderr and 'only with service="yes" and action="restart"' in refused.stderr,
          f"a bad combination has its line: {refused.stderr.strip()}")
    module.stead("stop")
    node.sh("rmdir /run/systemd/system")


CASES = [actions, handler, bounds, expressions, slow_start, classes, services]
if __name__ == "__main__":
    lab.enter()
    if sys.argv[1:] == ["farm"]:
        farm_of_nginx()
        sys.exit()
    wanted = sys.argv[1:] or [case.__name__ for case in CASES]
    with lab.Lab(nodes=1) as machine:
        machine.form_cluster()
        for case in CASES:
            if case.__name__ in wanted:
                begun = time.monotonic()
                print(f"---- {case.__name__}", flush=True)
                case(machine.nodes[0])
                print(f"     {time.monotonic() - begun:.1f} s", flush=True)
