#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every core saturated by other processes: no change of view, or each one harmless. STEAD_LONG=1: 5 minutes.
usage: test_farm_busy.py ebpf|nfqueue"""
import json
import os
import subprocess
import sys
import time

from farm_load import load
from support import check, echo_farm, lapses, wait_served

SECONDS = 300 if os.environ.get("STEAD_LONG") == "1" else 30


def epochs(farm):
    return {node.name: json.loads(node.stead("state -m echo -v --json").stdout)["detail"]["view"]["epoch"]
            for node in farm.nodes}


with echo_farm(BACKEND=sys.argv[1]) as farm:
    for node in farm.nodes:
        threads = node.sh("for p in $(pgrep -x stead-host); do for t in /proc/$p/task/*; do "
                          "chrt -p ${t##*/} | head -1; done; done", check=False).stdout
        print(f"{node.name}: FIFO threads {threads.count('SCHED_FIFO')}", flush=True)
    before = epochs(farm)

    def saturate():
        hogs = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2 * (os.cpu_count() or 2))]
        time.sleep(SECONDS)
        for hog in hogs:
            hog.kill()
            hog.wait()
    seen, datagrams = load(farm, saturate, hold=100, rate=20, seconds=SECONDS + 30, deadline=3000)
    changes = {name: value - before[name] for name, value in epochs(farm).items()}
    print(f"saturated for {SECONDS} s: changes of view {changes}, outage {datagrams['outage_ms']} ms; "
          f"{lapses(farm)}", flush=True)
    check(not seen["broken_by"], f"no held connection broken ({seen['broken_by']} {seen['reasons']})")
    check(datagrams["answered_by_two"] == 0, "no datagram was answered by two nodes")
    wait_served(farm)
