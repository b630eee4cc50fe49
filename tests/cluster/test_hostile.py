#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Garbage, huge, slow and too many: on steadd's socket, its TCP port and the UDP ports. The farm never notices."""
import json
import subprocess
import sys
import time

import support
from support import check, lab

SOCKET_ATTACK = r"""
import os, socket, struct, time
def send(data):
    s = socket.socket(socket.AF_UNIX); s.connect("/run/stead/steadd.sock")
    try: s.sendall(data)
    except OSError: pass
    return s
kept = [send(os.urandom(4096)) for _ in range(20)]
kept += [send(struct.pack(">I", 0xffffffff) + b"x" * 100), send(struct.pack(">I", 0)), send(b"")]
for body in (b"[]", b"{", b"{}", b'{"verb":7}', b'{"verb":"_key"}', b'{"verb":"state","module":"../../etc"}', b"[" * 5000,
             b'{"verb":"state","options":{"v":[]}}', b'{"verb":"start","module":"' + b"a" * 100000 + b'"}', b'"\xff\xfe"'):
    kept.append(send(struct.pack(">I", len(body)) + body))
slow = [send(b"\0\0") for _ in range(100)]
time.sleep(1.5)
"""
TCP_ATTACK = r"""
import os, socket, time
def to(data):
    s = socket.socket(); s.settimeout(2)
    try:
        s.connect(("10.42.0.11", 4800)); s.sendall(data)
    except OSError: pass
    return s
kept = [to(b"") for _ in range(200)] + [to(os.urandom(2000)) for _ in range(50)]
kept += [to(bytes.fromhex("160301") + os.urandom(3)) for _ in range(20)]
print("connected", flush=True)
time.sleep(4)
"""
UDP_ATTACK = r"""
import os, socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + 4
n = 0
while time.monotonic() < end:
    for port in (4800, 4803):
        for size in (0, 1, 16, 60, 450, 1400):
            s.sendto(os.urandom(size), ("10.42.0.11", port)); n += 1
    if n % 120 == 0: time.sleep(0.005)
"""


def epochs(farm):
    return [json.loads(node.stead("state -v -m echo --json").stdout)["detail"]["view"]["epoch"] for node in farm.nodes]


def programs(farm):
    return [(node.processes("steadd"), node.processes("stead-host")) for node in farm.nodes]


def attack(farm, what, host, program):
    before, pids = epochs(farm), programs(farm)
    load = support.udp(farm, "--flows", 300, "--rate", 500, "--count", 2500)
    running = host.spawn([sys.executable, "-c", program], stdout=subprocess.PIPE)
    slowest = 0.0
    while running.poll() is None:
        began = time.monotonic()
        check(farm.nodes[0].stead("state -m echo", check=False).returncode == 0, f"{what}: steadd answers meanwhile")
        slowest = max(slowest, time.monotonic() - began)
        check(farm.nodes[1].stead("level -H node1", check=False).returncode == 0, f"{what}: -H works meanwhile")
        time.sleep(0.5)
    check(slowest < 3, f"{what}: the slowest answer took {slowest:.1f} s")
    support.exactly_once(lab.result(load))
    check(epochs(farm) == before, f"{what}: no view changed")
    check(programs(farm) == pids and all(one and two for one, two in pids), f"{what}: the same processes run")


def host_killed(farm):
    """steadd closes the lease of a dead host and tells the peers: nobody waits for the takeover time."""
    victim = farm.nodes[1]
    load = support.udp(farm, "--flows", 2000, "--rate", 2000, "--count", 6000, "--deadline-ms", 200)
    time.sleep(1)
    victim.kill("stead-host")
    seen = lab.result(load)
    check(seen["outage_ms"] < 200, f"kill -9 of stead-host: an outage of {seen['outage_ms']} ms, less than a takeover")
    check(seen["answered_more"] == 0, "and nothing was answered twice")
    out = victim.stead("log -m echo -s 100").stdout
    check("its lease is closed, its peers are told" in out, "the log says what steadd did")
    lab.wait_for("the module runs again", lambda: victim.ready("echo"), 20)


def main():
    with support.echo_farm() as farm:
        attack(farm, "socket", farm.nodes[0], SOCKET_ATTACK)
        attack(farm, "TCP 4800", farm.client, TCP_ATTACK)
        attack(farm, "UDP", farm.client, UDP_ATTACK)
        host_killed(farm)
    print("all good")


if __name__ == "__main__":
    main()
