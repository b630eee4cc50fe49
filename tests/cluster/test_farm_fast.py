#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Profile fast: the outage after a silent death, and no change of view while idle."""
import json
import statistics
import time

from support import check, echo_farm, lab, udp, wait_served


def epoch(node):
    return json.loads(node.stead("state -m echo -v --json").stdout)["detail"]["view"]["epoch"]


with echo_farm(PROFILE="fast") as farm:
    node1, node2, node3 = farm.nodes
    before, changes = epoch(node1), 0
    time.sleep(20)
    changes = epoch(node1) - before
    print(f"profile fast, idle for 20 s: {changes} changes of view", flush=True)
    outages = []
    for victim in (node2, node3, node2):
        probe = udp(farm, "--flows", 200, "--rate", 1000, "--seconds", 30, "--deadline-ms", 300)
        time.sleep(1)
        victim.unplug_silently()
        time.sleep(1.5)
        probe.send_signal(15)
        seen = lab.result(probe)
        outages.append(seen["outage_ms"])
        check(seen["answered_by_two"] == 0, "no datagram was answered by two nodes")
        victim.plug_back()
        wait_served(farm, timeout=40)
    typical = statistics.median(outages)
    print(f"profile fast, silent death: outages {outages} ms, typical {typical} ms (goal 60)", flush=True)
    check(typical <= 200, f"typical outage {typical} ms <= 200 ms")
