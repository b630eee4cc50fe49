#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Planned moves lose nothing: join, clean stop, restart and a change of power under held and new connections."""
import sys
import threading
import time

from support import check, check_shares, echo_farm, exactly_once, lab, tcp, udp, wait_served

mode = sys.argv[1]
with echo_farm(start=False, TYPE=f"vmac_{mode}", DRAIN="30s") as farm:
    node1, node2, node3 = farm.nodes
    farm.start("echo", [node1, node2])
    wait_served(farm, ["node1", "node2"])

    def during(what, action, hold=500):
        held = tcp(farm, "--rate", 500, "--hold", hold, "--seconds", 120, "--deadline-ms", 900)
        probe = udp(farm, "--flows", 300, "--rate", 500, "--seconds", 120, "--deadline-ms", 900)
        time.sleep(2)
        action()
        time.sleep(2)
        held.send_signal(15)
        probe.send_signal(15)
        seen, datagrams = lab.result(held), lab.result(probe)
        check(seen["held_broken"] == 0 and seen["held_failed"] == 0,
              f"{what}: 0 of {hold} held connections broken ({seen['broken_by']} {seen['reasons']})")
        check(seen["failed"] == 0, f"{what}: 0 of {seen['opened']} new connections failed or slow ({seen['reasons']})")
        check(datagrams["unanswered"] == 0, f"{what}: 0 of {datagrams['sent']} datagrams lost ({datagrams})")
        check(datagrams["answered_more"] == 0, f"{what}: no datagram answered twice")

    during("join", lambda: (node3.stead("start -m echo"), lab.wait_for("node3", lambda: node3.ready("echo")),
                            wait_served(farm)))
    def power(value, weights):
        node1.stead(f"power -m echo node3 {value}")
        lab.wait_for("the move", lambda: all("move: settled" in node.stead("state -m echo -v").stdout and
                                             f"node3={value}" in node.stead("state -m echo -v").stdout
                                             for node in farm.nodes))
        seen = lab.result(udp(farm, "--flows", 6000, "--rate", 4000, "--count", 6000))
        exactly_once(seen)
        check_shares(seen, weights)

    during("power", lambda: power(3, {"node1": 1, "node2": 1, "node3": 3}))
    during("power back", lambda: power(1, {"node1": 1, "node2": 1, "node3": 1}))

    # A clean stop with a drain: new connections go elsewhere at once, those that are held go on until they end.
    held = tcp(farm, "--rate", 1, "--hold", 500, "--seconds", 120, "--deadline-ms", 900)
    probe = udp(farm, "--flows", 300, "--rate", 500, "--seconds", 120, "--deadline-ms", 900)
    opening = tcp(farm, "--rate", 500, "--seconds", 120, "--deadline-ms", 900)
    time.sleep(3)
    stop = threading.Thread(target=lambda: node2.stead("stop -m echo"))
    stop.start()
    time.sleep(4)
    check(stop.is_alive(), "stop waits for what is held")
    held.send_signal(15)
    kept = lab.result(held)
    check(kept["held_broken"] == 0 and kept["held_failed"] == 0, f"stop: 0 of 500 held connections broken ({kept['broken_by']})")
    stop.join(timeout=20)
    check(not stop.is_alive(), "stop returns when they have ended, before the drain's 30 s are over")
    opening.send_signal(15)
    probe.send_signal(15)
    seen, datagrams = lab.result(opening), lab.result(probe)
    check(seen["failed"] == 0, f"stop: 0 of {seen['opened']} new connections failed or slow ({seen['reasons']})")
    check(datagrams["unanswered"] == 0 and datagrams["answered_more"] == 0, f"stop: every datagram once ({datagrams})")
    check(node2.state("echo") == 0, "stop returned when stopped")
    wait_served(farm, ["node1", "node3"])
