#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Planned changes in their harder forms: application restart, stop without drain, weights 3:2:1 under 500 held
connections, IPv6, keys by address. usage: test_farm_planned.py directed|invisible on_port|on_addr"""
import sys
import time

from farm_load import load, nothing_lost
from support import check, check_shares, echo_farm, lab, udp, wait_served

mode, key = sys.argv[1:3]
with echo_farm(TYPE=f"vmac_{mode}", FILTER=key, DRAIN="0s") as farm:
    node1, node2, node3 = farm.nodes

    def weights(one, two):
        node1.stead(f"power -m echo node1 {one}")
        node1.stead(f"power -m echo node2 {two}")
        time.sleep(1)
    nothing_lost("weights 3:2:1", *load(farm, lambda: weights(3, 2), hold=500))
    if key == "on_port":
        seen = lab.result(udp(farm, "--flows", 5000, "--rate", 5000, "--count", 5000))
        check_shares(seen, {"node1": 3, "node2": 2, "node3": 1})
    nothing_lost("weights back, IPv6", *load(farm, lambda: weights("default", "default"), six=True))

    def restart():
        node2.stead("restart -m echo")
        lab.wait_for("node2 ready", lambda: node2.ready("echo"), 20)
        wait_served(farm, None if key == "on_port" else ["node1", "node2", "node3"])
    nothing_lost("restart", *load(farm, restart), but_of=["node2"])
    nothing_lost("stop, drain 0s", *load(farm, lambda: node3.stead("stop -m echo")), but_of=["node3"])
    check(node3.state("echo") == 0, "stop returned when stopped")

    def join():
        node3.stead("start -m echo")
        lab.wait_for("node3 ready", lambda: node3.ready("echo"), 20)
        wait_served(farm)
    nothing_lost("join, IPv6", *load(farm, join, six=True))
