#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One-way and partial link failures among three nodes: one view soon, no flapping, and all together after the repair."""
import time

from support import check, echo_farm, wait_served


with echo_farm() as farm:
    node1, node2, node3 = farm.nodes
    for what, cut in (("node2 does not hear node3", [(node2, node3)]),
                      ("node1 and node3 do not hear each other", [(node1, node3), (node3, node1)]),
                      ("node2 hears nobody", [(node2, node1), (node2, node3)])):
        logs = {node.name: len(node.stead("log -m echo -s 10000").stdout.splitlines()) for node in farm.nodes}
        for deaf, other in cut:
            deaf.deafen(other)
        time.sleep(5)  # the length of the experiment
        for node in farm.nodes:
            lines = node.stead("log -m echo -s 10000").stdout.splitlines()[logs[node.name]:]
            changes = [line for line in lines if "farm membership:" in line]
            check(len(changes) <= 3, f"{what}: {node.name} saw {len(changes)} changes in 5 s")
        for node in farm.nodes:
            node.hear_all()
        wait_served(farm, timeout=60)
