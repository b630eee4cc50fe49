#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules that a checker plugin brings: armed by the scripts, waited for while in init, made again by an update, switched
off; and a checker whose library crashes takes down its module's host and nothing else. The plugin is probe/."""
import os
import shutil
import sys

from support import check, lab
from light import Module, light_xml

STOP, WAIT, UP = 0, 1, 2
SHELL = "#!/bin/sh\n"
HEALS = SHELL + 'rm -f "$SAFEUSERVAR/probe.app"\n'
HOOKS = {"prestart": SHELL + "exit 0\n", "start_both": SHELL + "exit 0\n", "stop_both": SHELL + "exit 0\n"}
PRE, BOTH, PRIM, SEC = 1, 2, 4, 16


def private_stage():
    """A copy of the stage with one plugin more: what others test must not see it."""
    copy = lab.temporary("stage") / "stage"
    shutil.copytree(lab.stage(), copy, symlinks=True)
    shutil.copy(os.environ["STEAD_PROBE"], copy / "lib" / "stead" / "plugins" / "probe.so")
    os.environ["STEAD_STAGE"] = str(copy)


def find(module, ident, verdict):
    path = module.folder() / "var" / f"probe.{ident}"
    path.with_suffix(".new").write_text(verdict)
    path.with_suffix(".new").rename(path)


def value(module, resource):
    return module.stead(f"get -r {resource}", check=False).stdout.strip()


def settled(module):
    lab.wait_for(f"{module.name} Ready", lambda: module.node.ready(module.name))


def rules_of_checkers(node):
    module = Module(node, "probed", {**HOOKS, "start_both": HEALS}, xml=light_xml(
        more='<check><probe ident="app"/><probe ident="net" when="pre" action="wait"/></check>'))
    find(module, "net", "init")
    module.stead("start")
    lab.wait_for("WAIT for the verdict", lambda: "no verdict yet: probe.net=init" in module.stead("state").stdout)
    check(value(module, "armed.probe") == str(PRE) and value(module, "probe.app") == "init",
          "before the start only class pre is armed, and a wait rule's resource in init is waited for")
    find(module, "net", "down")
    lab.wait_for("the rule's name", lambda: "b_net" in module.stead("state").stdout)
    find(module, "net", "up")
    settled(module)
    check(value(module, "armed.probe") == str(PRE | BOTH | PRIM | SEC), "UP: both, prim and sec are armed too")
    find(module, "app", "down")
    lab.wait_for("the restart", lambda: "Action restart called by b_app: probe.app=down" in module.log())
    settled(module)
    path = module.edited() / "conf" / "userconfig.xml"
    path.write_text(path.read_text().replace('<probe ident="app"/>', '<probe ident="other" action="stop"/>'))
    hosts = node.processes("stead-host")
    module.stead("update")
    lab.wait_for("the new probe", lambda: value(module, "probe.other") == "up")
    check(node.processes("stead-host") == hosts and value(module, "probe.app") == "", "update: checks changed in place")
    module.stead("checker off")
    lab.wait_for("nothing armed", lambda: value(module, "armed.probe") == "0")
    find(module, "other", "down")
    module.stead("checker on")
    module.wait(STOP)
    check("Action stop called by b_other: probe.other=down" in module.log(), "the new rule acts once checkers are on")


def newcomer(node):
    """A library that is put into the folder while a module runs is for the module's next start."""
    library = lab.stage() / "lib/stead/plugins/probe.so"
    library.rename(library.with_suffix(".away"))
    module = Module(node, "early", HOOKS, xml=light_xml())
    module.start()
    library.with_suffix(".away").rename(library)
    path = module.edited() / "conf" / "userconfig.xml"
    path.write_text(path.read_text().replace("<user", '<check><probe ident="app"/></check><user', 1))
    refused = module.stead("update", check=False)
    check(refused.returncode == 65 and "no plugin in" in refused.stderr and
          "plugins, as it was when the module started, owns it" in refused.stderr and
          f"'stead stop -m {module.name}', then 'stead config -m {module.name}'" in refused.stderr,
          "update: the element of a library that came later is refused, and what to do is said")
    for verb in ("stop", "config", "start"):
        module.stead(verb)
    settled(module)
    check(value(module, "probe.app") == "up", "the next start takes it in")


def twice(node):
    """Two that see one death (a supervised program that <errd> watches too): what is ignored is not counted."""
    module = Module(node, "twice", HOOKS, xml=light_xml(more='<check><probe ident="app"/></check>'))
    module.start()
    for turn in range(1, 4):
        find(module, "app", "twice")
        lab.wait_for(f"restart {turn}", lambda: module.log().count("Action restart called by checkers.probe: the first") == turn)
        settled(module)
    check(module.log().count("restart for checkers.probe: the second ignored") == 3, "the second of two is ignored")
    check(module.code() == UP, "three restarts are allowed, whoever else asks for them")
    find(module, "app", "twice")
    module.wait(STOP)
    check("Action stop called by maxloop" in module.log(), "the fourth one stops the module")


def crash(node):
    victim = Module(node, "victim", HOOKS, xml=light_xml(more='<check><probe ident="bad"/></check>'))
    bystander = Module(node, "bystander", HOOKS, xml=light_xml())
    bystander.start()
    kept = set(node.processes("stead-host"))
    victim.start()
    for turn in range(1, 5):
        old = set(node.processes("stead-host"))
        find(victim, "bad", "crash")
        lab.wait_for(f"death {turn}", lambda: set(node.processes("stead-host")) != old)
        if turn <= 3:
            settled(victim)
    lab.wait_for("the guard", lambda: "Action stop called by maxloop" in victim.log())
    victim.wait(STOP)
    check("last words of stead-host: Segmentation fault in the plugin probe.so" in victim.log(), "the log names the library")
    check(set(node.processes("stead-host")) == kept and bystander.code() == UP,
          "a library that crashes: its host is started again three times, the fourth stops its module; others serve")
    victim.start()
    check(victim.code() == UP, "a person starts it again")


if __name__ == "__main__":
    lab.enter()
    private_stage()
    with lab.Lab(nodes=1) as machine:
        machine.form_cluster()
        for case in (newcomer, rules_of_checkers, twice, crash):
            print(f"---- {case.__name__}", flush=True)
            case(machine.nodes[0])
    sys.exit(0)
