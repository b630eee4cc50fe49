#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Links and addresses of a real farm: a carrier that goes, a virtual address that somebody removes, an address that a
stranger takes; and members, who share the address by design and are no strangers.

    test_intf_ip.py faults | test_intf_ip.py members vmac_directed|vmac_invisible
"""
import datetime
import json
import sys
import time

from support import HERE, check, echo_farm, lab

SEEN_WITHIN = 0.2
INTF, IP, CONFLICT = "intf.10.42.0.0", f"ip.{lab.VIP}", f"ip_conflict.{lab.VIP}"


def resource(node, name):
    return node.stead(f"get -m echo -r {name}", check=False).stdout.strip()


def module_log(node):
    return node.stead("log -m echo -s 2000").stdout


def seconds_until(node, text, begun, count):
    """From `begun` (wall clock) to the log line with this text, the `count`th since the module was installed."""
    def lines():
        return [line for line in module_log(node).splitlines() if text in line]
    lab.wait_for(f"{text!r} in the log of {node.name}", lambda: len(lines()) >= count)
    stamp = lines()[count - 1].split("|")[0].strip()
    return datetime.datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f").timestamp() - begun


def repeat(node, text, cause, cure, what):
    """Three times: the fastest counts, for the machine may be busy, and a poll would be slow each time."""
    times = []
    for turn in range(1, 4):
        begun = time.time()
        cause()
        times.append(seconds_until(node, text, begun, turn))
        cure()
    check(min(times) < SEEN_WITHIN, f"{what}: seen after {', '.join(f'{1000 * t:.0f} ms' for t in times)}")


def up(node, *names):
    for name in names:
        lab.wait_for(f"{name} up on {node.name}", lambda: resource(node, name) == "up", 20)


def removed(farm):
    node = farm.nodes[0]
    repeat(node, f"Resource {IP} set to down: {lab.VIP} was removed",
           lambda: node.sh(f"ip addr del {lab.VIP}/32 dev eth0"), lambda: up(node, IP), "address removed")
    check(lab.VIP in node.sh("ip -4 -o addr show dev eth0").stdout, "and put back by the host")


def carrier(farm):
    node = farm.nodes[1]

    def cure():
        node.link_up()
        up(node, INTF)
    repeat(node, f"Resource {INTF} set to down: no carrier on eth0", node.link_down, cure, "carrier lost")


def duplicate(farm):
    """Without a word, found by asking; then with an announcement, heard."""
    node, stranger = farm.nodes[2], farm.client
    mac = json.loads(stranger.sh("ip -j link show eth0").stdout)[0]["address"]
    conflict = f"Resource {CONFLICT} set to down: conflict: {mac} claims {lab.VIP} on eth0"
    for turn, announced in ((1, False), (2, True)):
        stranger.sh(f"ip addr add {lab.VIP}/16 dev eth0")
        begun = time.monotonic()
        if announced:
            stranger.sh(f"{sys.executable} {HERE / 'announce.py'} eth0 {mac} {lab.VIP}")
        lab.wait_for("the conflict", lambda: module_log(node).count(conflict) >= turn, 25)
        print(f"{'announced' if announced else 'silent'}: told after {time.monotonic() - begun:.1f} s", flush=True)
        stranger.sh(f"ip addr del {lab.VIP}/16 dev eth0")
        up(node, CONFLICT)
    for node in farm.nodes:
        check("Action" not in module_log(node).split(conflict)[-1], f"{node.name} goes on serving")
    stranger.sh(f"ip addr add {lab.VIP}/16 dev eth0")
    node.stead("stop -m echo")
    farm.start("echo", [node])
    stranger.sh(f"ip addr del {lab.VIP}/16 dev eth0")
    up(node, CONFLICT)
    check(True, "a stranger's address is a conflict, until it has gone; who starts meanwhile serves with the others")


def members(farm):
    """The receiver dies, another announces: no member takes another for a stranger."""
    for node in farm.nodes:
        check("conflict" not in module_log(node) and "claims" not in module_log(node), f"{node.name}: no conflict so far")
    victim = farm.nodes[0]
    victim.power_off()
    time.sleep(1)  # announcements of the new receiver
    victim.power_on()
    victim.start_steadd()
    victim.stead("start -m echo")
    lab.wait_for("Ready", lambda: victim.ready("echo"), 20)
    up(victim, IP, INTF)
    time.sleep(4)  # longer than an unknown MAC is trusted
    for node in farm.nodes:
        check("conflict" not in module_log(node), f"{node.name}: members are no strangers")


def without_default_rules(farm):
    """What is seen is tested here, so nobody may stop the module for it."""
    for node in farm.nodes:
        path = node.disk / "etc" / "modules" / "echo" / "conf" / "userconfig.xml"
        path.write_text(path.read_text().replace("<user>", '<failover extends="no"/><user>'))
        node.stead("config -m echo")
    farm.start("echo")
    for node in farm.nodes:
        up(node, INTF, IP)


if __name__ == "__main__":
    with echo_farm(start=False, TYPE=(sys.argv[2:] or ["vmac_directed"])[0], CHECK="on") as running:
        without_default_rules(running)
        for case in [members] if sys.argv[1] == "members" else [removed, carrier, duplicate]:
            case(running)
