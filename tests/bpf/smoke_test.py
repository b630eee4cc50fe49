#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two nodes and a client on a bridge, real packets: smoke_test.py SMOKE_NODE BACKEND DELIVERY.

Every datagram is answered exactly once, and both nodes have a fair share. Runs in namespaces of its own (root_or_skip).
"""
import collections
import os
import socket
import subprocess
import sys
import time

program, backend, delivery = sys.argv[1:4]
NODES, DATAGRAMS = 2, 400
nodes = []


def sh(command):
    subprocess.run(command, shell=True, check=True)


def inside(name, command):
    sh(f"nsenter --net=/run/netns/{name} {command}")


sh("ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up")
for i, name in enumerate(["n0", "n1", "client"]):
    sh(f"ip netns add {name} && ip link add p{i} type veth peer name eth0 address 02:00:00:00:01:0{i} netns {name}")
    sh(f"ip link set p{i} master br0 up")
    inside(name, "ip link set lo up")
    inside(name, "ip link set eth0 up")
    inside(name, f"ip addr add 10.0.0.{10 + i if i < NODES else 200}/24 dev eth0")
for i in range(NODES):
    inside(f"n{i}", "ip addr add 10.0.0.100/32 dev eth0 noprefixroute")
    inside(f"n{i}", "sysctl -qw net.ipv4.conf.all.arp_announce=2")
    if delivery == "invisible":
        inside(f"n{i}", "bridge fdb add 5a:fe:0a:00:00:64 dev eth0 self permanent")
    macs = [f"02:00:00:00:01:0{k}" for k in range(NODES)]
    nodes.append(subprocess.Popen(["nsenter", f"--net=/run/netns/n{i}", program, backend, delivery, str(i), str(NODES)] + macs,
                                  stdout=subprocess.PIPE, text=True))
for node in nodes:
    if node.stdout.readline() != "ready\n":
        sys.exit("a node did not start")
os.setns(os.open("/run/netns/client", os.O_RDONLY), 0) if hasattr(os, "setns") else __import__("ctypes").CDLL(None).setns(
    os.open("/run/netns/client", os.O_RDONLY), 0)


def warm_up():
    """The address is resolved and every node's gate is open once each has answered something."""
    seen, port, end = set(), 30000, time.monotonic() + 10
    while len(seen) < NODES:
        if time.monotonic() > end:
            sys.exit(f"after 10 s only these nodes answered: {seen}")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(("10.0.0.200", port))
            port += 1
            s.settimeout(0.2)
            s.sendto(b"0", ("10.0.0.100", 53))
            try:
                seen.add(s.recv(2048).decode().split()[1])
            except TimeoutError:
                pass


warm_up()
answers = collections.defaultdict(list)
sockets = []
for k in range(DATAGRAMS):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("10.0.0.200", 20000 + k))
    s.sendto(str(k).encode(), ("10.0.0.100", 53))
    sockets.append(s)
    time.sleep(0.002)
deadline = time.monotonic() + 2
while time.monotonic() < deadline:
    for s in sockets:
        s.setblocking(False)
        try:
            number, node = s.recv(2048).decode().split()
            answers[int(number)].append(node)
        except BlockingIOError:
            pass
    time.sleep(0.05)
for node in nodes:
    node.kill()
share = collections.Counter(node for who in answers.values() for node in who)
lost = [k for k in range(DATAGRAMS) if k not in answers]
twice = [k for k, who in answers.items() if len(who) > 1]
print(f"{backend} {delivery}: shares {dict(share)}, unanswered {len(lost)}, answered twice {len(twice)}")
sys.exit(bool(lost or twice or len(share) != NODES or min(share.values()) < DATAGRAMS * 0.35))
