#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every datagram and connection is answered by exactly one node, the one that the owner table names (computed here anew
from seed, names and powers), in shares as configured. usage: test_share.py directed|invisible ebpf|nfqueue"""
import json
import os
import subprocess
import sys

from support import check, check_shares, echo_farm, exactly_once, lab, lapses, tcp, udp

mode, backend = sys.argv[1:3]
macros = {"TYPE": f"vmac_{mode}", "BACKEND": backend, "POWER1": 3, "POWER2": 2, "POWER3": 1}
with echo_farm(**macros) as farm:
    flows = farm.folder / "flows"
    # 15,000 keys: two points are five standard deviations of what chance gives.
    seen = lab.result(udp(farm, "--flows", 15000, "--rate", 6000, "--count", 30000, "--seconds", 60, "--dump", flows))
    exactly_once(seen, farm)
    check_shares(seen, {"node1": 3, "node2": 2, "node3": 1})
    with open(flows) as lines:
        found = subprocess.run([os.environ["STEAD_OWNERS"], farm.nodes[0].disk / "var/cluster/seed", "on_port",
                                "node1=3", "node2=2", "node3=1"], stdin=lines, stdout=subprocess.PIPE, check=False)
    table = json.loads(found.stdout)
    check(table["flows"] == 15000 and table["elsewhere"] == 0,
          f"every flow was answered by the owner of its bucket ({table['elsewhere']} were not)")
    seen = lab.result(tcp(farm, "--rate", 1000, "--count", 10000, "--seconds", 60))
    check(seen["failed"] == 0, f"no connection failed ({seen['failed']}: {seen['reasons']}; served {seen['served']}); "
                               f"{lapses(farm)}")
    check(sum(seen["served"].values()) == 10000, "all 10000 connections were served")
    check_shares({"names": seen["served"]}, {"node1": 3, "node2": 2, "node3": 1})
    six = lab.result(farm.traffic("udp", "--target", lab.VIP6, "--port", 7000, "--sources", "fd42::c:1+50",
                                  "--flows", 2000, "--rate", 4000, "--count", 4000))
    exactly_once(six, farm)
    pings = farm.client.sh(f"ping -c 20 -i 0.05 -W 1 -I 10.42.100.7 {lab.VIP}", check=False).stdout
    check(" 0% packet loss" in pings and "DUP" not in pings, "ICMP echo is answered once")
