#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""partition="witness": of two halves of a farm that cannot hear each other, but are both heard by the clients, one serves:
the one to which a node outside of the farm gives its word. usage: test_farm_witness.py four|two"""
import contextlib
import re
import sys
import time

from support import check, echo_farm, lab, served_by, tcp, udp, wait_served

MODULES = "etc/modules/echo/conf/userconfig.xml"


@contextlib.contextmanager
def farm_with_witness(nodes):
    """The last node is the witness, and has no module."""
    with echo_farm(nodes=nodes + 1, start=False, TYPE="vmac_invisible") as farm:
        witness = farm.nodes.pop()
        farm.witness = witness
        witness.stead("module uninstall -m echo")
        for node in farm.nodes:
            path = node.disk / MODULES
            text = path.read_text().replace("<farm ", f'<farm partition="witness" witness="{witness.name}" ')
            path.write_text(re.sub(r"<cluster>.*?</cluster>", "", text, flags=re.DOTALL))
            node.stead("config -m echo")
        try:
            farm.start("echo")
            wait_served(farm)
            yield farm
        finally:
            farm.nodes.append(witness)


def held(farm):
    """(counter, indices of the nodes) as they stand on the witness's disk; (0, []) while nobody claimed."""
    file = farm.witness.disk / "var/witness/echo:half"
    if not file.exists():
        return 0, []
    counter, _, nodes = map(int, file.read_text().split())
    return counter, [bit for bit in range(64) if nodes >> bit & 1]


def part(one, other):
    for a in one:
        for b in other:
            a.deafen(b)
            b.deafen(a)


def together(farm):
    for node in farm.nodes:
        node.hear_all()
    wait_served(farm, timeout=90)


def names(nodes):
    return {node.name for node in nodes}


def log(node):
    return node.stead("log -m echo -s 2000").stdout


def four():
    with farm_with_witness(4) as farm:
        halves = [farm.nodes[:2], farm.nodes[2:]]
        for round_number in range(2):
            before, _ = held(farm)
            flow = udp(farm, "--flows", 300, "--rate", 1500, "--count", 15000, "--deadline-ms", 200)
            time.sleep(2)  # of ten
            part(*halves)
            lab.wait_for("the witness's word", lambda: held(farm)[0] > before)
            winners, losers = sorted(halves, key=lambda half: farm.nodes.index(half[0]) not in held(farm)[1])
            seen = lab.result(flow)
            check(seen["answered_more"] == 0, f"cut {round_number}: not one of {seen['sent']} datagrams answered twice")
            lab.wait_for("one half serves everybody", lambda: served_by(farm, names(winners)))
            for node in losers:
                check(not node.ready("echo"), f"{node.name} does not serve")
                lab.wait_for(f"{node.name} says why", lambda: "the witness gave its word to" in node.stead(
                    "state -m echo -v").stdout)
            tcp_seen = lab.result(tcp(farm, "--flows", 200, "--rate", 200, "--count", 200))
            check(set(tcp_seen["served"]) == names(winners), f"new connections are the winners': {tcp_seen['served']}")
            together(farm)
        silent_witness(farm, halves)


def silent_witness(farm, halves):
    farm.witness.kill("steadd")
    lab.wait_for("its silence is told before it is needed", lambda: all(
        node.stead(f"get -m echo -r witness.{farm.witness.name}", check=False).stdout.strip() == "down"
        for node in farm.nodes), 40)
    check("does not answer" in log(farm.nodes[0]), "in the log as well")
    check(all(node.ready("echo") for node in farm.nodes), "more than half need no witness")
    before, _ = held(farm)
    part(*halves)
    lab.wait_for("neither half serves", lambda: not any(node.ready("echo") for node in farm.nodes), 20)
    check(held(farm)[0] == before, "nobody had the word")
    farm.witness.start_steadd()
    lab.wait_for("a half asks again", lambda: held(farm)[0] > before, 30)
    winners = [farm.nodes[bit] for bit in held(farm)[1]]
    wait_served(farm, names(winners), timeout=30)
    together(farm)


def two():
    """The usual case: two servers, and a third machine that only decides."""
    with farm_with_witness(2) as farm:
        first, second = farm.nodes
        flow = udp(farm, "--flows", 300, "--rate", 1000, "--count", 5000, "--deadline-ms", 200)
        time.sleep(1)
        first.power_off()
        seen = lab.result(flow)
        check(seen["answered_more"] == 0, "nothing answered twice")
        print(f"a node lost its power: {seen['unanswered']} of 5000 datagrams (1 ms each) unanswered", flush=True)
        check(seen["unanswered"] < 1500, "the other serves alone after the takeover and the witness's word")
        check(served_by(farm, {"node2"}) and held(farm)[1] == [1], "the witness gave its word to node2")
        second.power_off()
        first.power_on()
        first.start_steadd()
        first.stead("start -m echo", check=False)
        lab.wait_for("node1 waits for the one that served last", lambda: "the witness gave its word to" in first.stead(
            "state -m echo -v", check=False).stdout, 30)
        check(not first.ready("echo"), "it cannot know that node2 is down")
        second.power_on()
        second.start_steadd()
        second.stead("start -m echo", check=False)
        wait_served(farm, timeout=60)
        second.stead("stop -m echo")
        wait_served(farm, {"node1"})
        check(held(farm)[1] == [0], "after a clean stop the other half asks as well")


{"four": four, "two": two}[sys.argv[1]]()
