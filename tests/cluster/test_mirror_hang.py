#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""stead-fs alone stands still, while its host and the network live: the host's watchdog ends it, after 8 looks of a second.
A whole node that stands still is not a stead-fs that hangs. Usage: test_mirror_hang.py primary|secondary|node"""
import sys
import time

import mirror
from mirror import ALONE, PRIM, SECOND
from support import check
from test_mirror_failover import Writer, all_there, take_over

LIMIT = 8 + 3  # seconds: the watchdog's, and what follows


def hang(node):
    node.sh("pkill -STOP -x stead-fs")


def primary(nodes):
    module = mirror.Mirror(nodes)
    first, other = module.form()
    take_over(module, first, other, hang, "the primary's stead-fs stands still", LIMIT, lambda node: None)
    check("said nothing for 8 s" in module.log(first), "its log says why")


def secondary(nodes):
    module = mirror.Mirror(nodes)
    first, other = module.form()
    writer = Writer(first, 1)
    writer.wait_for_some()
    at = time.monotonic()
    hang(other)
    module.wait(first, ALONE, timeout=LIMIT)
    writer.wait_for_some()
    pause = writer.longest_pause_ms(at)
    check(pause < LIMIT * 1000, f"the secondary's stead-fs stands still: the writer's longest pause is {pause} ms")
    module.wait_ready(other, SECOND, timeout=40)
    module.wait_ready(first, PRIM, timeout=40)
    writer.wait_for_some()
    check(not writer.errors, "the application got no error, and the secondary is back")
    first.kill("python3")
    writer.thread.join(10)
    all_there(first, writer, "hanging secondary")
    mirror.same_trees(module, "hanging secondary")
    hang(other)
    module.stead(other, "stop", timeout=40)
    module.wait_ready(first, ALONE)
    check(True, "a module whose stead-fs stands still can be stopped")


def node(nodes):
    """12 s, longer than the watchdog's limit: its looks count, not the time."""
    module = mirror.Mirror(nodes)
    first, other = module.form()
    other.freeze()
    time.sleep(12)
    other.thaw()
    module.wait_ready(other, SECOND, timeout=40)
    module.wait_ready(first, PRIM, timeout=40)
    check("says nothing" not in module.log(other), "a node that stood still as a whole has no hanging stead-fs")


if __name__ == "__main__":
    with mirror.cluster() as pair:
        {"primary": primary, "secondary": secondary, "node": node}[sys.argv[1]](pair)
