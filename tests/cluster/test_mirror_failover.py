#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A mirror loses a node in every way that a node can be lost, while an application writes and notes what was acknowledged:
nothing acknowledged is lost, one node serves at a time, and both trees are equal after the return.
Usage: test_mirror_failover.py kill|power|second|freeze|stale|both"""
import re
import subprocess
import sys
import threading
import time

import mirror
from mirror import ALONE, DATA, PRIM, SECOND, WAIT
from support import HERE, check, lab


class Writer:
    """The application on one node; `acked` is all that it was told is safe, with the time."""

    def __init__(self, node, first, mode="sync"):
        self.acked, self.errors = [], []
        self.process = node.spawn([sys.executable, str(HERE / "mirror_writer.py"), DATA, str(first), mode],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("error"):
                self.errors.append(line)
            else:
                self.acked.append((int(line), time.monotonic()))

    def last(self):
        return self.acked[-1][0] if self.acked else 0

    def wait_for_some(self, count=100):
        start = len(self.acked)
        lab.wait_for("acknowledged writes", lambda: len(self.acked) >= start + count, 20)

    def longest_pause_ms(self, since):
        times = [at for _, at in self.acked if at >= since]
        return round(1000 * max((b - a for a, b in zip([since, *times], times)), default=-1))


def written(node):
    """The numbers in the files of the node that serves."""
    # A write that nobody was told of may end at a page's border; what follows is another file.
    text = node.sh(f"for log in {DATA}/log*; do cat $log; echo; done", timeout=60).stdout
    numbers = re.findall(r"^(\d{12}) some payload that makes the line a bit longer than its number$", text, re.M)
    return sorted(int(number) for number in numbers)


def all_there(node, writer, what):
    found = set(written(node))
    lost = [number for number, _ in writer.acked if number not in found]
    check(writer.acked and not lost, f"{what}: all {len(writer.acked)} acknowledged writes are there{lost[:5] or ''}")


def serving(module):
    return [node for node in module.nodes if node.init.poll() is None and node.state("data") in (ALONE, PRIM)]


def take_over(module, first, other, break_it, what, limit, back):
    writer = Writer(first, 1)
    writer.wait_for_some()
    at = time.monotonic()
    break_it(first)
    module.wait_ready(other, ALONE, timeout=20)
    took = time.monotonic() - at
    check(took < limit, f"{what}: the other node is ALONE after {took:.2f} s")
    all_there(other, writer, what)
    more = Writer(other, 1_000_000)
    more.wait_for_some()
    back(first)
    module.wait_ready(first, SECOND, timeout=40)
    module.wait_ready(other, PRIM, timeout=40)
    more.wait_for_some()
    check(not more.errors, f"{what}: the application never got an error from the return of its peer")
    other.kill("python3")
    more.thread.join(10)
    all_there(other, writer, what + ", after the return")
    all_there(other, more, what + ", written meanwhile")
    mirror.same_trees(module, what)


def kill(nodes):
    module = mirror.Mirror(nodes)
    first, other = module.form()
    for victim in ("stead-fs", "stead-host"):
        take_over(module, first, other, lambda node: node.kill(victim), f"kill -9 {victim}", 4,
                  lambda node: None)
        first, other = other, first
        first.sh(f"rm -f {DATA}/log*")


def power(nodes):
    module = mirror.Mirror(nodes)
    first, other = module.form()

    def again(node):
        mirror.power_on_again(node)
        node.stead("start -m data", check=False)
    take_over(module, first, other, lambda node: node.power_off(), "power cut of the primary", 6, again)


def second(nodes):
    """The secondary goes: the primary must go on, fast when it died, within the heartbeat's time when it is silent."""
    module = mirror.Mirror(nodes)
    first, other = module.form()
    writer = Writer(first, 1)
    for what, break_it, limit in (("kill -9 of the secondary's stead-fs", lambda: other.kill("stead-fs"), 1000),
                                  ("kill -9 of the secondary's stead-host", lambda: other.kill("stead-host"), 1000)):
        writer.wait_for_some()
        at = time.monotonic()
        break_it()
        module.wait(first, ALONE)
        writer.wait_for_some(500)
        pause = writer.longest_pause_ms(at)
        check(pause < limit, f"{what}: the longest pause of the writer is {pause} ms")
        module.wait_ready(other, SECOND, timeout=40)
        module.wait_ready(first, PRIM, timeout=40)
    at = time.monotonic()
    other.unplug_silently()
    module.wait(first, ALONE)
    writer.wait_for_some()
    check(writer.longest_pause_ms(at) < 4000, f"silence: the longest pause is {writer.longest_pause_ms(at)} ms")
    lab.wait_for("the log says what may be", lambda: "split" in module.log(first))
    writer.wait_for_some()
    check(not writer.errors, "the application got no error")
    first.kill("python3")


def freeze(nodes):
    """Every stead process of the primary stands still for 5 s. Its kernel answers for the virtual address, so the other node
    does not take over, but nothing is acknowledged while the lease is over, and afterwards one node serves everything."""
    module = mirror.Mirror(nodes)
    first, other = module.form()
    writer = Writer(first, 1)
    writer.wait_for_some()
    first.freeze()
    frozen = time.monotonic()
    lab.wait_for("the other node to notice", lambda: other.state("data") != SECOND, 10)
    while time.monotonic() < frozen + 5:
        time.sleep(0.2)
        if other.state("data") in (ALONE, PRIM):
            raise AssertionError("the other node took over while the virtual address answered")
    late = [number for number, at in writer.acked if at > frozen + 2]
    check(not late, f"nothing is acknowledged by the frozen node {late[:3]}")
    first.thaw()
    lab.wait_for("one serves, one follows", lambda: sorted(node.state("data") for node in module.nodes) == [PRIM, SECOND], 60)
    server = serving(module)[0]
    if server is first:
        writer.wait_for_some()
        check(not writer.errors, "the application only waited")
    server.kill("python3")
    writer.thread.join(10)
    all_there(server, writer, "freeze")
    for node in module.nodes:
        module.wait_ready(node, PRIM, SECOND, timeout=40)
    mirror.same_trees(module, "freeze")


def stale(nodes):
    """The secondary stands still until the primary goes on alone, and is back when the primary dies: what was acknowledged
    meanwhile is not in its copy, so it does not serve that."""
    module = mirror.Mirror(nodes)
    first, other = module.form()
    first.sh(f"echo before >{DATA}/file; sync")
    other.freeze()
    module.wait_ready(first, ALONE)
    first.sh(f"echo acknowledged >{DATA}/file; sync")
    time.sleep(1)
    other.thaw()
    lab.wait_for("it knows that it stood still", lambda: "in no view" in module.log(other))
    lab.wait_for("its state says so at once", lambda: other.state("data") == WAIT, 2)
    first.power_off()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if other.state("data") in (ALONE, PRIM):
            raise AssertionError("it serves what is not the newest copy: " + other.sh(f"cat {DATA}/file").stdout)
        time.sleep(0.2)
    shown = module.stead(other, "state").stdout
    check("the primary went on without this node" in shown, f"it waits, and says why: {shown}")
    mirror.power_on_again(first)
    first.stead("start -m data", check=False)
    module.wait_ready(first, PRIM, timeout=40)
    module.wait_ready(other, SECOND, timeout=40)
    check(first.sh(f"cat {DATA}/file").stdout == "acknowledged\n", "nothing acknowledged is lost")
    mirror.same_trees(module, "stale")


def both(nodes):
    """Power off on both sides at once: what was synced is there, and they find together again by themselves."""
    module = mirror.Mirror(nodes)
    first, other = module.form()
    writer = Writer(first, 1)
    writer.wait_for_some(300)
    for node in module.nodes:
        node.power_off()
    for node in module.nodes:
        mirror.power_on_again(node)
    for node in module.nodes:
        node.stead("start -m data", check=False)
    lab.wait_for("one serves", lambda: sorted(node.state("data") for node in module.nodes) == [PRIM, SECOND], 60)
    all_there(serving(module)[0], writer, "power cut of both")
    for node in module.nodes:
        module.wait_ready(node, PRIM, SECOND, timeout=40)
    mirror.same_trees(module, "power cut of both")


if __name__ == "__main__":
    with mirror.cluster() as pair:
        {"kill": kill, "power": power, "second": second, "freeze": freeze, "stale": stale, "both": both}[sys.argv[1]](pair)
