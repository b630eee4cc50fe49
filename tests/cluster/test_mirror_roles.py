#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A mirror without replicated directories: one node has the virtual address and runs the application, the other one takes
over. There is no copy that could be behind, so nobody waits for an administrator.
Usage: test_mirror_roles.py life|witness|stranger|heartbeats"""
import sys
import time

import mirror
from mirror import ALONE, HOOKS, MARK, PRIM, SECOND, STOP, WAIT
from support import check, lab


def roles_xml(checks="", heart=""):
    return (f'<safe><service mode="mirror" maxloop="20">{heart}<vip><interface_list><interface check="off"><real_interface>'
            f'<virtual_addr addr="{lab.VIP}" check="off"/></real_interface></interface></interface_list></vip>'
            f'{checks}<user nicestoptimeout="10s" forcestoptimeout="10s"/></service></safe>\n')


def has_address(node):
    return f"{lab.VIP}/32" in node.sh("ip addr").stdout


def roles(module):
    return sorted(node.state("data") for node in module.nodes)


def settled(module, timeout=20):
    """One is PRIM with the address, the other one SECOND without; returns them in this order."""
    lab.wait_for("PRIM and SECOND", lambda: roles(module) == [PRIM, SECOND], timeout)
    first, other = sorted(module.nodes, key=lambda node: node.state("data"))
    module.wait_ready(first, PRIM)
    module.wait_ready(other, SECOND)
    check(has_address(first) and not has_address(other), f"{first.name} alone has the virtual address")
    return first, other


def life(nodes):
    module = mirror.Mirror(nodes, hooks={name: MARK for name in HOOKS}, xml=roles_xml())
    one, two = module.nodes
    module.stead(one, "start")
    module.wait_ready(one, ALONE)
    check(has_address(one), "the first one that starts is ALONE, with nobody's order")
    hooks = [line.split()[0] for line in one.sh("cat /srv/hooks").stdout.splitlines()]
    check(hooks == ["transition", "prestart", "transition", "start_both", "start_prim", "start_sec"], f"its scripts: {hooks}")
    module.stead(two, "start")
    first, other = settled(module)
    check(first is one, "who comes later is SECOND")
    module.stead(one, "swap")
    lab.wait_for("the swap", lambda: one.state("data") == SECOND)
    first, other = settled(module)
    check(first is two, "swap exchanges the roles")
    for what, harm, limit in (("stead-fs", lambda node: node.kill("stead-fs"), 3),
                              ("stead-host", lambda node: node.kill("stead-host"), 3),
                              ("the power", lambda node: node.power_off(), 6)):
        at = time.monotonic()
        harm(first)
        lab.wait_for("takeover", lambda: other.state("data") in (ALONE, PRIM) and has_address(other))
        took = time.monotonic() - at
        check(took < limit, f"{first.name} loses {what}: {other.name} has address and application after {took:.2f} s")
        if first.init.poll() is not None:
            mirror.power_on_again(first)
            first.stead("start -m data", check=False)
        first, other = settled(module, 30)
    module.stead(first, "stop")
    module.wait_ready(other, ALONE)
    check(has_address(other), "a planned stop hands over")
    module.stop()
    check(roles(module) == [STOP, STOP], "both stop")
    module.stead(first, "start")
    module.wait_ready(first, ALONE)
    check(True, "the one that stopped first serves when it starts first: nobody is ever behind")
    module.stead(other, "start")
    settled(module)


def witness(nodes):
    """Three nodes, the third one decides: cut from each other, two never serve at once."""
    module = mirror.Mirror(nodes, xml=roles_xml('<check><splitbrain ident="w" exec="cas" arg="node3"/></check>'))
    for node in module.nodes:
        module.stead(node, "start")
    first, other = settled(module, 30)
    for turn in range(2):
        first.deafen(other)
        other.deafen(first)
        both = 0
        end = time.monotonic() + 6
        while time.monotonic() < end:
            both += all(node.state("data") in (ALONE, PRIM) and has_address(node) for node in module.nodes)
        check(roles(module) == [WAIT, ALONE], f"cut {turn}: one is ALONE, the other one waits")
        check(both == 0, "and never do both serve")
        first.hear_all()
        other.hear_all()
        first, other = settled(module, 30)
    first.unplug_silently()
    lab.wait_for("takeover", lambda: other.state("data") == ALONE)
    lab.wait_for("the one without network to stop", lambda: first.state("data") == WAIT)
    check(not has_address(first), "a node that reaches nobody does not serve")
    first.plug_back()
    settled(module, 30)
    for node in module.nodes:
        node.power_off()
    mirror.power_on_again(first)
    first.stead("start -m data", check=False)
    lab.wait_for("it serves again or says why not", lambda: first.state("data") in (WAIT, ALONE), 20)
    mirror.power_on_again(other)
    other.stead("start -m data", check=False)
    settled(module, 30)


def stranger(nodes):
    """Another machine has the address of the primary too, when that one dies: its kernel still answers, and so does the other."""
    one_address = f'<virtual_addr addr="{lab.VIP}" check="off"/>'
    module = mirror.Mirror(nodes, xml=roles_xml().replace(
        one_address, one_address + f'<virtual_addr addr="{lab.VIP6}" check="off"/>'))
    other_machine = nodes.nodes[2]
    for node in module.nodes:  # a bridge asks its newest port first: the answer of the dead peer shall come before the stranger's
        node.power_off()
        mirror.power_on_again(node)
    for address in (f"{lab.VIP6}/128", f"{lab.VIP}/32"):
        for node in module.nodes:
            node.stead("start -m data")
        first, other = settled(module, 30)
        other_machine.sh(f"ip addr add {address} dev eth0" + (" nodad" if ":" in address else ""))
        first.kill("stead-host")
        lab.wait_for("the secondary to refuse", lambda: other.state("data") == STOP)
        said = other.stead("state -m data", check=False).stdout
        check(f"{address.split('/')[0]} is in use" in said, f"{other.name} says why it does not serve: {said}")
        check(not has_address(other), "and has no address")
        module.stop()
        other_machine.sh(f"ip addr del {address} dev eth0")


HEART = """<heart><heartbeat name="default"/><heartbeat name="repli" ident="flow"/></heart>"""
RULES = """<failover period="1s" handle_time="1s"><![CDATA[
one: if (heartbeat.flow == down && heartbeat.default == up) then restart();
]]></failover>"""


def heartbeats(nodes):
    """Two LANs: each has a resource on both nodes, which says whether the peer is heard there, and which rules may use."""
    module = mirror.Mirror(nodes, hooks={name: MARK for name in HOOKS}, xml=roles_xml(RULES, HEART))
    one, two = module.nodes

    def see(default, flow, seen_by=(one, two)):
        for node in seen_by:
            for ident, value in (("default", default), ("flow", flow)):
                lab.wait_for(f"{node.name}: heartbeat.{ident} {value}", lambda: node.stead(
                    f"get -m data -r heartbeat.{ident}", check=False).stdout.strip() == value)
        check(True, f"heartbeat.default is {default}, heartbeat.flow {flow} ({', '.join(node.name for node in seen_by)})")

    module.stead(one, "start")
    module.wait_ready(one, ALONE)
    see("down", "down", [one])
    module.stead(two, "start")
    settled(module)
    see("up", "up")
    one.link_down("repli")
    see("up", "down")
    for node in (one, two):
        lab.wait_for("the rule", lambda: "Action restart called by one: heartbeat." in module.log(node))
    check(roles(module) == [PRIM, SECOND], "the other LAN carries the module: the roles stay")
    one.link_up("repli")
    see("up", "up")
    first, other = settled(module)
    module.stead(other, "stop")
    module.wait_ready(first, ALONE)
    check("Action alone called by heart: remote stop" in module.log(first), "the log says that the peer stopped")
    see("down", "down", [first])
    module.stead(other, "start")
    first, other = settled(module)
    first.power_off()
    module.wait_ready(other, ALONE)
    check("Action alone called by heart: no heartbeat" in module.log(other), "the log says that the peer fell silent")


if __name__ == "__main__":
    case = sys.argv[1]
    lans = ("default", "repli") if case == "heartbeats" else ("default",)
    with mirror.cluster(nodes=2 if case in ("life", "heartbeats") else 3, lans=lans) as group:
        {"life": life, "witness": witness, "stranger": stranger, "heartbeats": heartbeats}[case](group)
