#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Replication in batches (syncat): the secondary waits, is let in at the times of its schedule, gets what was changed, and waits
again; and a node that is behind and isolated takes over if it was in sync lately (syncdelta). Usage: test_mirror_batch.py
syncat|order|syncdelta"""
import sys
import time

import mirror
from light import make_safe
from mirror import ALONE, DATA, WAIT
from support import check, lab


def resource(node, name):
    return node.stead(f"get -m data -r {name}", check=False).stdout.strip()


def waits(module, node, timeout=20):
    module.wait(node, WAIT, timeout=timeout)
    lab.wait_for("it says what it waits for", lambda: "rfs_syncat_wait, the next synchronisation is at 2" in node.stead("state -m data", check=False).stdout)


def file_at(node, name):
    """The copy of a node that does not serve."""
    path = node.disk / f"srv/data_For_SafeKit_Replication/data/{name}"
    return path.read_text() if path.exists() else None


def syncat(nodes):
    """Every minute: nothing passes between the times, all of it at the time, and the writer hardly notices."""
    module = mirror.Mirror(nodes, rfs='syncat="* * * * *"')
    one, two = module.nodes
    one.sh(f"echo 0 >{DATA}/value")
    module.stead(one, "prim")
    module.wait_ready(one, ALONE)
    module.stead(two, "start")
    waits(module, two)
    check(resource(two, "rfs.syncat") == "down", "the resource says that it waits")
    for turn in (1, 2):
        before = module.log(two).count("the time of a synchronisation has come")
        one.sh(f"echo {turn} >{DATA}/value; head -c 3000000 /dev/urandom >{DATA}/big{turn}")
        if module.log(two).count("the time of a synchronisation has come") == before:
            check(file_at(two, "value") != f"{turn}\n", f"{turn}: between the times nothing passes")
        lab.wait_for("the time has come", lambda: file_at(two, "value") == f"{turn}\n", 70)
        check(module.log(two).count("the time of a synchronisation has come") > before, f"{turn}: because of the schedule")
        waits(module, two, 10)
        module.wait_ready(one, ALONE, timeout=10)
        one.sh(f"echo after {turn} >{DATA}/after{turn}")
        time.sleep(1)
        check(file_at(two, f"after{turn}") is None or module.log(two).count("synchronisation has come") > before + 1,
              f"{turn}: after it, nothing passes any more")
    check("PRIM" not in module.log(one).split("role alone")[-1], "the node with the role stayed ALONE")
    check(module.stead(one, "swap", check=False).returncode != 0, "a node that waits gets no role by a swap")
    check(module.stead(two, "prim", check=False).returncode != 0, "nor by prim, beside one that serves")
    two.kill("stead-fs")  # while it waits: it comes back, and waits
    lab.wait_for("it was started again", lambda: module.log(two).count("Action stopstart") > 0, 20)
    waits(module, two, 30)
    one.power_off()
    time.sleep(4)
    check(two.state("data") == WAIT, "who waits does not take over")
    module.stead(two, "prim")
    module.wait_ready(two, ALONE)
    check(two.sh(f"cat {DATA}/value").stdout == "2\n", "an administrator makes it serve what the last synchronisation brought")


def order(nodes):
    """What is refused at config; and orders beside the schedule."""
    bad = {"61 * * * *": ("minute", "'61'", "0 to 59"), "* * * *": ("4 fields", "five"), "0 0 30 2 *": ("never",),
           "0 0 * * moon": ("day of week", "'moon'", "sun to sat"), "": ("five",)}
    for number, (schedule, wanted) in enumerate(bad.items()):
        text = (f'<safe><service mode="mirror">\n<rfs syncat="{schedule}"><replicated dir="/srv/d{number}"/></rfs>'
                '<user/></service></safe>\n')
        one = nodes.nodes[0]
        one.stead(f"module install -m m{number} -M {number + 2} {make_safe(f'm{number}', {}, text)}")
        done = one.stead(f"config -m m{number}", check=False)
        missing = [word for word in ("userconfig.xml:2: rfs/@syncat", *wanted) if word not in done.stderr]
        check(done.returncode != 0 and not missing, f"refused: {schedule!r}: {done.stderr.strip()} {missing or ''}")
    never = '59 23 29 2 *'  # in this lab's time it does not come
    module = mirror.Mirror(nodes, rfs=f'syncat="{never}" scripts="on" nbremconn="4"')
    said = module.nodes[0].stead("config -m data").stdout
    check("rfs/@scripts is ignored" in said and "rfs/@nbremconn is ignored" in said, f"what is without effect is said: {said}")
    one, two = module.nodes
    module.stead(one, "prim")
    module.wait_ready(one, ALONE)
    module.stead(two, "start")
    waits(module, two)
    for verb in ("second", "rfssync"):
        one.sh(f"echo {verb} >{DATA}/value")
        module.stead(two, verb)
        lab.wait_for(f"{verb}: it is let in", lambda: file_at(two, "value") == f"{verb}\n", 20)
        waits(module, two)
        module.wait_ready(one, ALONE)
        if verb == "second":
            check(module.stead(two, "mirror lost list").stdout == "nothing was lost in a split\n", "nothing was lost by that")
    one.sh(f"echo last >{DATA}/value")
    module.stop()
    for node in (one, two):
        module.stead(node, "start")
    module.wait_ready(one, ALONE)
    waits(module, two)
    check(one.sh(f"cat {DATA}/value").stdout == "last\n", "both stopped and started: who had the role has it, with its data")


def syncdelta(nodes):
    """The node with the role dies; the other one, which is behind, serves after half a minute; its loss is told as a split."""
    module = mirror.Mirror(nodes, rfs='syncat="59 23 29 2 *" syncdelta="30m"')
    said = module.nodes[0].stead("config -m data").stdout
    check("rfs/@syncdelta" in said and "lost" in said, f"config warns: {said.strip()}")
    one, two = module.nodes
    one.sh(f"echo old >{DATA}/value")
    module.stead(one, "prim")
    module.wait_ready(one, ALONE)
    module.stead(two, "second")
    lab.wait_for("the first copy", lambda: file_at(two, "value") == "old\n", 20)
    waits(module, two)
    lab.wait_for("the time is noted", lambda: two.sh("ls /var/lib/stead/modules/data/mirror/last_sync "
                                                     "/var/lib/stead/modules/data/*/mirror/last_sync 2>/dev/null", check=False).stdout, 5)
    one.sh(f"echo new >{DATA}/value")
    died = time.monotonic()
    one.power_off()
    module.wait_ready(two, ALONE, timeout=60)
    check(time.monotonic() - died > 25, "it waits for the other one first")
    log = module.log(two)
    check("syncdelta: isolated" in log and "not here" in log, "the log says what is lost")
    check(two.sh(f"cat {DATA}/value").stdout == "old\n", "it serves what it had")
    two.sh(f"echo other >{DATA}/value")
    mirror.power_on_again(one)
    module.stead(one, "start", check=False)
    lab.wait_for("the split is told", lambda: any("split" in node.stead("state -m data", check=False).stdout
                                                  for node in (one, two)), 30)
    check(sorted(node.state("data") for node in (one, two)).count(ALONE) == 1, "one serves, and nobody is overwritten")


if __name__ == "__main__":
    with mirror.cluster() as pair:
        {"syncat": syncat, "order": order, "syncdelta": syncdelta}[sys.argv[1]](pair)
