#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""10,000 idle connections, slow, huge, malformed and pipelining clients on one node of a farm: a well-behaved client gets
its answer every time, the cluster changes no view, stead-web stays small, and is as before when they are gone."""
import json
import re
import subprocess
import sys
import time

import support
from support import check, echo_farm, lab

ASK = """
import http.client, json, sys, time
target, seconds, source = sys.argv[1], float(sys.argv[2]), sys.argv[3]
took, bad, begin = [], [], time.monotonic()
while time.monotonic() - begin < seconds:
    start = time.monotonic()
    try:
        one = http.client.HTTPConnection(target, 9010, timeout=5, source_address=(source, 0))
        one.request("GET", "/var/modules/echo/ready.txt")
        answer = one.getresponse()
        if answer.status != 200 or answer.read() != b"OK":
            bad.append(f"{answer.status}")
        one.close()
    except OSError as error:
        bad.append(repr(error))
    took.append(time.monotonic() - start)
    time.sleep(0.05)
took.sort()
print(json.dumps({"asked": len(took), "bad": bad, "median": took[len(took) // 2], "worst": took[-1]}))
"""


def view(node):
    return re.search(r"view: (.*)", node.stead("state -m echo -v").stdout).group(1)


def memory_kib(node):
    status = node.sh(f"cat /proc/{node.processes('stead-web')[0]}/status").stdout
    return int(re.search(r"VmHWM:\s+(\d+)", status).group(1))


def flood(farm, kind, count, seconds):
    """One kind of attack on node1, with a well-behaved client beside it."""
    node = farm.nodes[0]
    attack = farm.client.spawn([sys.executable, str(support.HERE / "web_flood.py"), node.address(), "9010", kind,
                                str(count), str(seconds)], stdout=subprocess.PIPE)
    time.sleep(min(4, seconds / 2))
    source = "10.42.100.1" if kind == "flood_one" else farm.client.address()
    asked = farm.client.spawn([sys.executable, "-c", ASK, node.address(), str(seconds / 2), source],
                              stdout=subprocess.PIPE)
    good = json.loads(asked.communicate(timeout=60)[0])
    bad = json.loads(attack.communicate(timeout=60)[0])
    check(not good["bad"], f"{kind}: {bad['opened']} connections opened, up to {bad['most']} at once; beside them "
          f"{good['asked']} good requests, all answered; median {good['median'] * 1e3:.1f} ms, "
          f"worst {good['worst'] * 1e3:.0f} ms {good['bad'][:3]}")
    return bad


def main():
    with echo_farm() as farm:
        node = farm.nodes[0]
        before, processes = [view(each) for each in farm.nodes], node.processes("stead-web")
        idle = flood(farm, "idle", 10_000, 10)
        check(idle["opened"] >= 10_000 and idle["most"] >= 5000, "10,000 idle connections were tried")
        for kind, count, seconds in (("flood_one", 3000, 5), ("slow", 2000, 5), ("garbage", 300, 4), ("huge", 300, 4),
                                     ("pipeline", 200, 4)):
            flood(farm, kind, count, seconds)
        check([view(each) for each in farm.nodes] == before, f"no view changed: {before[0]}")
        check(node.processes("stead-web") == processes, "stead-web is the same process")
        check(memory_kib(node) < 150_000, f"and took {memory_kib(node)} KiB at most")
        lab.wait_for("stead-web to close what is left",
                     lambda: len(node.sh(f"ls /proc/{processes[0]}/fd").stdout.split()) < 40, 20)
        check(farm.nodes[1].stead("state -m echo -lq", check=False).returncode == 2, "the farm is up")


if __name__ == "__main__":
    main()
