#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node dies in the middle of another one's join, stop and change of power; a frozen node with TCP traffic; the link of
one of two LANs goes down. usage: test_farm_crash.py directed|invisible"""
import sys
import threading
import time

from farm_load import load
from support import check, echo_farm, lab, wait_served

OUTAGE_MS = 1500  # the protocol's figure is 225 ms and a round trip; the machines are noisy
mode = sys.argv[1]


def crash_during(farm, victim, what, planned, undo, mover):
    def act():
        thread = threading.Thread(target=planned)
        thread.start()
        time.sleep(0.06)  # somewhere in the middle; the exact place differs from run to run, on purpose
        victim.unplug_silently()
        thread.join()
    seen, datagrams = load(farm, act, after=3, hold=150, rate=100)
    survivors = [node for node in farm.nodes if node not in (victim, mover)]
    broken = {name: count for name, count in seen["broken_by"].items()
              if name in [node.name for node in survivors]}
    check(not broken, f"{what}: the survivors kept every connection (broken: {seen['broken_by']})")
    check(datagrams["answered_by_two"] == 0, f"{what}: no datagram was answered by two nodes")
    check(datagrams["outage_ms"] <= OUTAGE_MS, f"{what}: outage {datagrams['outage_ms']} ms <= {OUTAGE_MS} ms")
    victim.plug_back()
    undo()
    lab.wait_for("all ready", lambda: all(node.ready("echo") for node in farm.nodes), 40)
    wait_served(farm, timeout=40)


with echo_farm(TYPE=f"vmac_{mode}", DRAIN="1s") as farm:
    node1, node2, node3 = farm.nodes
    crash_during(farm, node2, "crash in a change of power", lambda: node1.stead("power -m echo node3 5"),
                 lambda: node1.stead("power -m echo node3 default"), node3)
    crash_during(farm, node1, "crash in a stop", lambda: node3.stead("stop -m echo"),
                 lambda: node3.stead("start -m echo"), node3)
    node3.stead("stop -m echo")
    crash_during(farm, node2, "crash in a join", lambda: node3.stead("start -m echo"), lambda: None, node3)
    for pause_s in (0.15, 1, 10):
        def freeze(pause_s=pause_s):
            node2.freeze()
            time.sleep(pause_s)
            node2.thaw()
        seen, datagrams = load(farm, freeze, hold=100, rate=100, after=2, deadline=900)
        check(datagrams["answered_by_two"] == 0, f"frozen for {pause_s} s: no datagram was answered by two nodes")
        broken = {name: n for name, n in seen["broken_by"].items() if name != "node2"}
        check(not broken, f"frozen for {pause_s} s: no connection of the others broken ({seen['broken_by']}), outage "
                          f"{datagrams['outage_ms']} ms")
        wait_served(farm, timeout=40)
