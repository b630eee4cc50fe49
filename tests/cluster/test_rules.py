#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Failover rules through the real commands: every action, wait and wake up, the loop guard, the switches on all nodes,
rules in Lua, and bad rules refused with their line and column. A person plays the checker: stead set -r custom.x."""
import sys
import time

from support import check, lab
from light import Module, light_xml, make_safe

STOP, WAIT, UP = 0, 1, 2
SHELL = "#!/bin/sh\n"
TELL = SHELL + 'echo "$(basename "$0") $*" >>"$SAFEUSERVAR/trace"\n'
HOOKS = {"prestart": SHELL + "exit 0\n", "start_both": TELL, "stop_both": TELL}
RULES = """<failover handle_time="0s"><![CDATA[
restarts: if (custom.restart == down) then restart();
again:    if (custom.stopstart == down) then stopstart();
ends:     if (custom.stop == down) then stop();
waits:    if (custom.wait == down) then wait();
]]></failover>"""


def trace(module):
    """What the scripts told since the last forget()."""
    path = module.folder() / "var" / "trace"
    lines = path.read_text().splitlines() if path.exists() else []
    return lines[getattr(module, "seen", 0):]


def forget(module):
    module.seen = 0
    module.seen = len(trace(module))


def put(module, resource, value):
    module.stead(f"set -r custom.{resource} -v {value}")


def logged(module, text, count=1):
    lab.wait_for(f"{count} x {text!r} in the log", lambda: module.log().count(text) >= count)


def settled(module):
    lab.wait_for(f"{module.name} Ready", lambda: module.node.ready(module.name))


def actions(node):
    module = Module(node, "ruled", HOOKS, xml=light_xml(more=RULES))
    module.start()
    host = node.processes("stead-host")
    forget(module)
    put(module, "restart", "down")
    logged(module, "Action restart called by restarts: custom.restart=down")
    lab.wait_for("the restart", lambda: "start_both UP UP restart" in trace(module))
    settled(module)
    forget(module)
    time.sleep(0.5)
    check(trace(module) == [] and node.processes("stead-host") == host, "restart: once, by the same host")
    put(module, "wait", "down")
    module.wait(WAIT)
    lab.wait_for("NotReady with the rule's name", lambda: "waits" in module.stead("state").stdout)
    check("stop_both UP WAIT stopwait" in trace(module), "wait: the application is stopped")
    check("Action wait called by waits: custom.wait=down" in module.log(), "and the log says why")
    put(module, "wait", "up")
    settled(module)
    check("Action wakeup called by Implicit_wakeup" in module.log() and node.processes("stead-host") == host,
          "no wait rule holds any more: it goes on by itself")
    put(module, "stopstart", "down")
    logged(module, "Action stopstart called by again: custom.stopstart=down")
    lab.wait_for("a new host", lambda: node.processes("stead-host") not in (host, []))
    settled(module)
    check(module.stead("checkloop", check=False).returncode == 1, "three automatic actions: the limit is reached")
    put(module, "restart", "down")
    module.wait(STOP)
    check("Action stop called by maxloop" in module.log(), "the fourth one stops the module")
    module.start()
    check(module.stead("checkloop", check=False).returncode == 0, "a person's start forgets them")
    put(module, "stop", "down")
    module.wait(STOP)
    check("Action stop called by ends: custom.stop=down" in module.log(), "stop stops, uncounted")
    check(module.stead("checkloop", check=False).returncode == 0, "and counts nothing")


def waiting(node):
    gated = Module(node, "gated", {**HOOKS, "prestart": SHELL + '"$SAFE/safekit" set -r custom.gate -v init\n'},
                   xml=light_xml(more="<failover><![CDATA[gate: if (custom.gate == down) then wait();]]></failover>"))
    gated.stead("start")
    lab.wait_for("WAIT for a verdict", lambda: "no verdict yet: custom.gate=init" in gated.stead("state").stdout)
    check(gated.code() == WAIT and trace(gated) == [], "a resource in init of a wait rule: WAIT, nothing starts")
    put(gated, "gate", "down")
    lab.wait_for("the rule's name", lambda: "NotReady  gate" in gated.stead("state").stdout)
    check(gated.code() == WAIT and trace(gated) == [], "down: the rule holds it, 15 s of hold time or not")
    put(gated, "gate", "up")
    settled(gated)
    put(gated, "gate", "down")
    time.sleep(2)
    check(gated.code() == UP, "once UP, the rule waits for its hold time of 15 s")
    put(gated, "gate", "up")
    gated.stead("stop")


def switches(node, other):
    module = Module(node, "turned", HOOKS, xml=light_xml(more=RULES))
    archive = make_safe("turned", HOOKS, light_xml(more=RULES))
    other.stead(f"module install -m turned -M {Module.last_id} {archive}")
    other.stead("config -m turned")
    module.start()
    module.stead("failover off")
    check(module.stead("get -r usersetting.failover").stdout.strip() == "off", "failover off is a resource")
    setting = other.disk / "var" / "modules" / "turned" / "var" / "usersetting.failover"
    check(setting.read_text().strip() == "off", "and reaches the other node, where the module is stopped")
    forget(module)
    put(module, "restart", "down")
    put(module, "wait", "down")
    logged(module, "Rule restarts: custom.restart=down; no restart, failover is off")
    logged(module, "Rule waits: custom.wait=down; no wait, failover is off")
    check(module.code() == UP and trace(module) == [], "rules are told and do not act")
    module.stead("stop")
    module.start()
    check(module.stead("get -r usersetting.failover").stdout.strip() == "off", "over stop and start")
    put(module, "restart", "down")
    logged(module, "no restart, failover is off", 2)
    forget(module)
    module.stead("failover on")
    lab.wait_for("the restart", lambda: "start_both UP UP restart" in trace(module))
    check(setting.read_text().strip() == "on", "failover on: what holds by now acts; on the other node too")
    settled(module)
    module.stead("checker off")
    check(module.stead("get -r usersetting.checker").stdout.strip() == "off", "checker off is a resource")
    module.stead("checker on")
    refused = module.stead("errd list", check=False)
    check(refused.returncode != 0 and "<errd>" in refused.stderr, "errd without <errd>: " + refused.stderr.strip())
    module.stead("stop")


BAD = """<safe><service mode="light"><failover><![CDATA[
  one: if (custom.x == dwon) then restart();
  two: if (remote.custom.x == down) then stop();
  three: if (custom.x == down) then swap();
]]></failover>
<failover/></service></safe>
"""


def bad_rules(node):
    module = Module(node, "bad", HOOKS, xml=light_xml(more=RULES))
    module.start()
    path = module.edited() / "conf" / "userconfig.xml"
    good = path.read_text()
    path.write_text(BAD.replace("<failover/>", ""))
    for verb in ("confcheck", "config"):
        refused = module.stead(verb, check=False)
        said = refused.stdout + refused.stderr
        for place in ("userconfig.xml:2:24: ", "userconfig.xml:3:12: ", "userconfig.xml:4:37: "):
            check(refused.returncode != 0 and place in said, f"{verb} refuses with {place}")
    path.write_text(good.replace("ends:     if", "ends:     fi"))
    check("userconfig.xml:4:11: " in module.stead("config", check=False).stderr, "fi instead of if has its place")
    path.write_text(good.replace("then stop()", "then wait()"))
    refused = module.stead("update", check=False)
    check(refused.returncode != 0 and "failover" in refused.stderr, "rules may not change while the module runs")
    put(module, "restart", "down")
    logged(module, "Action restart called by restarts")
    settled(module)
    check(True, "and those in force go on")
    path.write_text(good)
    lua = module.edited() / "conf" / "rules.lua"
    lua.write_text('Rules = Rules + {\n  x = if_then("custom.x", "dwon", Action.stop),\n}\n')
    check("rules.lua:2:28: " in module.stead("confcheck", check=False).stderr, "a bad rule in conf/rules.lua too")
    module.stead("stop")


def in_lua(node):
    rules = ('--Lua Rules\nRules = Rules + { halt = if_then("custom.? == down && !(custom.* == up)", Action.stop, '
             '{ handle_time = "0s" }) }\nRules.disable("ip_failure")\n')
    xml = light_xml(more=f"<failover extends=\"no\"><![CDATA[{rules}]]></failover>")
    module = Module(node, "lua", HOOKS, xml=xml)
    module.start()
    put(module, "a", "up")
    put(module, "b", "down")
    module.wait(STOP)
    check("Action stop called by halt: custom.b=down" in module.log(), "rules in Lua act")


if __name__ == "__main__":
    lab.enter()
    with lab.Lab(nodes=2) as machine:
        machine.form_cluster()
        node1, node2 = machine.nodes
        for case in (actions, waiting, bad_rules, in_lua):
            begun = time.monotonic()
            print(f"---- {case.__name__}", flush=True)
            case(node1)
            print(f"     {time.monotonic() - begun:.1f} s", flush=True)
        switches(node1, node2)
    sys.exit(0)
