#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Data that a person has copied to the other node need not be sent again (rfssync external); rfssync full compares all; what
was changed alone is all that is sent, also by a node that was restarted since or has crashed; what of the classic <rfs> has no meaning here is said so at config."""
import subprocess

import mirror
from mirror import ALONE, DATA, PRIM, SECOND, WAIT
from support import check, lab

HIDDEN = f"{DATA}_For_SafeKit_Replication/data"


def sent(module, node):
    return module.status(node)["stream"]["bytes_out"]


def seed(nodes):
    module = mirror.Mirror(nodes, rfs='scripts="on" nbremconn="2" roflags="0x10"')
    one, two = module.nodes
    done = one.stead("config -m data")
    for name in ("scripts", "nbremconn", "roflags"):
        check(f"rfs/@{name}" in done.stderr + done.stdout, f"config says that {name} has no effect")
    module.stead(one, "start")  # the other one not before it has its copy: it would follow at once
    module.wait(one, WAIT)
    module.stead(one, "rfssync external prim seed-1")
    module.wait_ready(one, ALONE)
    one.sh(f"cd {DATA}; head -c 60000000 /dev/urandom >big; mkdir -p a/b/c; for i in $(seq 300); do echo $i >a/b/c/$i; done; "
           "ln big hard; ln -s big soft; touch -d '2001-02-03' a")
    # As `rsync -aHAX` would: with the extended attributes that name the inodes.
    subprocess.run(["cp", "-a", "--preserve=all", f"{one.disk}{HIDDEN}/.", f"{two.disk}{DATA}"], check=True)
    one.sh(f"cd {DATA}; printf changed | dd of=big bs=1 seek=1000000 conv=notrunc status=none; echo new >a/new; rm a/b/c/7; "
           "mv a/b/c/8 a/eight")
    two.sh(f"echo of the seed >{DATA}/a/b/c/9; echo stranger >{DATA}/stranger")
    before = sent(module, one)
    module.stead(two, "second fullsync")  # starts it; as rfssync external second UID on one that runs
    module.wait_ready(two, SECOND, timeout=60)
    module.wait_ready(one, PRIM)
    moved = sent(module, one) - before
    check(moved < 6_000_000, f"of 60 MB {moved} bytes were sent")
    mirror.same_trees(module, "seeded")
    before = sent(module, one)
    module.stead(two, "rfssync full")
    lab.wait_for("compared", lambda: module.status(one)["resyncs"] > 1 and module.status(one)["equal"], 60)
    module.wait_ready(two, SECOND, timeout=60)
    moved = sent(module, one) - before
    check(moved < 6_000_000, f"rfssync full compares: {moved} bytes")
    mirror.same_trees(module, "compared in full")
    refused = module.stead(one, "rfssync full", check=False)
    check(refused.returncode != 0 and "primary" in refused.stderr, f"on the primary it is refused: {refused.stderr.strip()}")
    changed_alone(module, one, two)


def changed_alone(module, one, two):
    """The log has whole extents of 4 MiB: what of them is equal is not sent."""
    for how in ("stopped and started", "crashed"):
        module.stead(two, "stop")
        module.wait_ready(one, ALONE)
        one.sh(f"cd {DATA}; for i in $(seq 0 3 57); do printf {how[0]} | dd of=big bs=1 seek=${{i}}000000 conv=notrunc status=none; done")
        before = module.log(one).count("Action alone called by")
        if how == "crashed":
            one.sh("pkill -KILL stead-fs")
        else:
            module.stead(one, "stop")
            module.stead(one, "start")
        lab.wait_for("alone again", lambda: module.log(one).count("Action alone called by") > before, 30)
        module.wait_ready(one, ALONE, timeout=30)
        before = sent(module, one)
        module.stead(two, "start")
        module.wait_ready(two, SECOND, timeout=60)
        module.wait_ready(one, PRIM)
        moved = sent(module, one) - before
        check(moved < 8_000_000, f"20 small changes alone, {how}: {moved} bytes of 60 MB were sent")
        mirror.same_trees(module, how)


if __name__ == "__main__":
    with mirror.cluster() as pair:
        seed(pair)
