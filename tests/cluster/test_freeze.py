#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A frozen node fences itself: whatever the length of the pause, nothing is answered twice, and it comes back."""
import sys
import time

from support import check, echo_farm, lab, udp, wait_served

mode, backend = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "auto"
with echo_farm(TYPE=f"vmac_{mode}", BACKEND=backend) as farm:
    victim = farm.nodes[1]
    for pause_s in (0.1, 0.19, 0.25, 0.5, 3):
        probe = udp(farm, "--flows", 300, "--rate", 1000, "--seconds", 60, "--deadline-ms", 300)
        time.sleep(0.5)
        victim.freeze()
        time.sleep(pause_s)
        victim.thaw()
        wait_served(farm, timeout=30)
        probe.send_signal(15)
        seen = lab.result(probe)
        check(seen["answered_more"] == 0, f"pause of {pause_s} s: {seen['answered_more']} answered twice, "
                                          f"outage {seen['outage_ms']} ms")
