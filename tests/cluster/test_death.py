#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node dies, in each of the ways nodes die: the others take its part, and nobody else's connection breaks.
usage: test_death.py directed|invisible"""
import sys
import time

from support import check, check_shares, echo_farm, exactly_once, lab, tcp, udp, wait_served

OUTAGE_MS = 1000  # generous: the protocol's own figure is 225 ms and a round trip, the machines are noisy

mode = sys.argv[1]


def die(farm, victim, how, undo):
    held = tcp(farm, "--rate", 100, "--hold", 90, "--seconds", 60, "--deadline-ms", 900)
    probe = udp(farm, "--flows", 200, "--rate", 500, "--seconds", 60, "--deadline-ms", 300)
    time.sleep(2)  # traffic flows before the fault: this is the experiment's length, not a wait for something
    how()
    time.sleep(3)
    probe.send_signal(15)
    held.send_signal(15)
    seen, kept = lab.result(probe), lab.result(held)
    survivors = [node.name for node in farm.nodes if node is not victim]
    check(seen["outage_ms"] <= OUTAGE_MS, f"outage {seen['outage_ms']} ms <= {OUTAGE_MS} ms")
    check(seen["answered_by_two"] == 0, "no datagram was answered by two nodes")
    broken = {name: count for name, count in kept["broken_by"].items() if name in survivors}
    check(not broken, f"the survivors kept every connection (broken: {broken})")
    wait_served(farm, survivors)
    even = lab.result(udp(farm, "--flows", 5000, "--rate", 5000, "--count", 5000))
    exactly_once(even)
    check_shares(even, {name: 1 for name in survivors}, tolerance=4)
    probe = udp(farm, "--flows", 200, "--rate", 500, "--seconds", 60, "--deadline-ms", 300)
    undo()
    wait_served(farm, timeout=30)
    probe.send_signal(15)
    seen = lab.result(probe)
    check(seen["outage_ms"] <= OUTAGE_MS, f"outage {seen['outage_ms']} ms when it comes back")


with echo_farm(TYPE=f"vmac_{mode}") as farm:
    node1, node2, node3 = farm.nodes
    print("-- the switch port is pulled", flush=True)
    die(farm, node2, node2.unplug_silently, node2.plug_back)
    print("-- the link goes down", flush=True)
    die(farm, node1, node1.link_down, node1.link_up)

    print("-- power off", flush=True)

    def boot():
        node3.power_on()
        node3.start_steadd()
        node3.stead("start -m echo")
    die(farm, node3, node3.power_off, boot)

    print("-- stead-host is killed", flush=True)
    probe = udp(farm, "--flows", 200, "--rate", 500, "--seconds", 60, "--deadline-ms", 300)
    time.sleep(1)
    node2.kill("stead-host")
    wait_served(farm, timeout=30)  # restarted by steadd, within the loop guard
    probe.send_signal(15)
    seen = lab.result(probe)
    check(seen["outage_ms"] <= OUTAGE_MS, f"outage {seen['outage_ms']} ms after kill -9 of stead-host")
    check(seen["answered_by_two"] == 0, "no datagram was answered by two nodes")

    print("-- steadd is killed", flush=True)
    probe = udp(farm, "--flows", 200, "--rate", 500, "--seconds", 60, "--deadline-ms", 300)
    time.sleep(1)
    node1.kill("steadd")
    time.sleep(1)
    node1.start_steadd()
    lab.wait_for("node1 adopted", lambda: node1.ready("echo"))
    probe.send_signal(15)
    exactly_once(lab.result(probe))
