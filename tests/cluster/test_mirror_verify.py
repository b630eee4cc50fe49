#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""rfsverify finds one byte that differs, whatever the application does meanwhile, and nothing else; repair mends it.
Usage: test_mirror_verify.py [--long | swap_back]   (--long: 1 GiB instead of 64 MiB)"""
import re
import sys

import mirror
from mirror import DATA
from support import check, lab
from test_mirror_failover import Writer

HIDDEN = f"{DATA}_For_SafeKit_Replication/data"


def counts(module, node, command="rfsverify", exit_code=0):
    answer = module.stead(node, command, timeout=300, check=False)
    check(answer.returncode == exit_code, f"{command} ends with exit code {exit_code}: {answer.returncode}")
    said = answer.stdout + answer.stderr
    found = re.search(r"(\d+) of (\d+) targets compared, (\d+) differ, (\d+) repaired", said)
    check(found, f"{command} tells what it did: {said.strip()}")
    checked, total, differing, repaired = map(int, found.groups())
    check(checked == total, "everything was compared")
    return total, differing, repaired


def flip(node, file, place):
    """One bit, behind everybody's back, on the node's disk."""
    node.sh(f"python3 -c \"import os; f = os.open('{HIDDEN}/{file}', os.O_RDWR); s = os.fstat(f); b = os.pread(f, 1, {place}); "
            f"os.pwrite(f, bytes([b[0] ^ 1]), {place}); os.utime(f, ns=(s.st_atime_ns, s.st_mtime_ns)); os.fsync(f)\"")


def verify(nodes, mebibytes):
    busy = 64  # MiB that the load writes into
    module = mirror.Mirror(nodes)
    one, two = module.form(timeout=60)
    one.sh(f"head -c {busy << 20} /dev/urandom >{DATA}/busy; head -c {mebibytes << 20} /dev/urandom >{DATA}/big; "
           f"sync {DATA}/big", timeout=300)
    for folder in range(20):
        one.sh(f"mkdir {DATA}/{folder}; for i in $(seq 50); do echo $i >{DATA}/{folder}/$i; done")
    writers = [Writer(one, 1, "write"), Writer(one, 1_000_000, "sync")]
    load = one.spawn(["sh", "-c", f"while [ ! -e /run/enough ]; do dd if=/dev/urandom of={DATA}/busy bs=4096 count=8 seek=$(shuf -i 0-{busy * 256 - 9} -n 1) "
                      f"conv=notrunc status=none; mkdir {DATA}/m; echo $$ >{DATA}/m/f; mv {DATA}/m {DATA}/n; rm -r {DATA}/n; "
                      f"truncate -s $(shuf -i 0-300000 -n 1) {DATA}/cut; done"])
    for turn in range(5):
        total, differing, _ = counts(module, one)
        check(differing == 0, f"run {turn} under load: {total} targets, no false alarm")
    flip(two, "big", (mebibytes << 20) // 3)
    _, differing, _ = counts(module, one, exit_code=1)
    check(differing == 1, f"one flipped bit is found, under load, and nothing else: {differing}")
    one.sh("touch /run/enough")
    load.wait()
    told = module.stead(one, "rfsdiff", check=False)
    check("big" in told.stdout and told.returncode == 1, f"rfsdiff names the file, with exit code 1: {told}")
    _, differing, repaired = counts(module, one, "rfsverify repair")
    check((differing, repaired) == (1, 1), "and repaired")
    check(module.stead(one, "rfsdiff", check=False).returncode == 0, "rfsdiff: nothing is left to mend")
    _, differing, _ = counts(module, one)
    check(differing == 0, "for good")
    stranger(module, one, two)
    errors = writers[0].errors + writers[1].errors
    check(not errors, f"the application noticed nothing {errors[:3]}")
    one.kill("python3")
    for writer in writers:
        writer.thread.join(10)
    mirror.same_trees(module, "after it all")


def stranger(module, one, two):
    """Somebody makes files in the running secondary's hidden folder."""
    aside = f"{DATA}_For_SafeKit_Replication"
    two.sh(f"echo precious >{HIDDEN}/stranger")
    _, differing, _ = counts(module, one, exit_code=1)
    check(differing in (1, 2), f"a file that was made past the mirror is found (and its directory's time): {differing}")
    _, differing, repaired = counts(module, one, "rfsverify repair")
    check(differing == repaired, "and put out")
    check(two.sh(f"cat {aside}/strangers/1/stranger").stdout == "precious\n", "but kept")
    check("was made in the mirror's folder past the mirror" in module.log(two), "and the log says so")
    two.sh(f"echo other >{HIDDEN}/collides")
    one.sh(f"echo mine >{DATA}/collides", timeout=30)
    lab.wait_for("the secondary has left its stranger behind", lambda: two.sh(
        f"cat {HIDDEN}/collides", check=False).stdout == "mine\n", 60)
    module.wait_ready(one, mirror.PRIM, timeout=60)
    module.wait_ready(two, mirror.SECOND, timeout=60)
    _, differing, _ = counts(module, one)
    check(differing == 0, "an application that makes the same name is not in its way")


def swap_back(nodes):
    """The role goes back to the node that wants it, but not over a copy that is not what was sent."""
    module = mirror.Mirror(nodes, service='defaultprim="node1"')
    one, two = module.form(timeout=60)
    one.sh(f"head -c 4194304 /dev/urandom >{DATA}/old; sync {DATA}/old")
    for flipped in (False, True):
        module.stead(one, "stop")
        module.wait_ready(two, mirror.ALONE, timeout=30)
        two.sh(f"head -c 4194304 /dev/urandom >{DATA}/new; sync {DATA}/new")
        module.stead(one, "start")
        module.wait_ready(one, mirror.SECOND, timeout=60)
        if flipped:
            flip(one, "new", 1 << 20)
            lab.wait_for("the difference is told", lambda: "the role stays here: what the resync sent to node1 was "
                         "compared: the copies differ" in module.log(two), 60)
            check(two.state("data") == mirror.PRIM, "over a copy that differs the role does not go back")
            check("new" in module.stead(two, "rfsdiff", check=False).stdout, "rfsdiff names the file")
            _, differing, repaired = counts(module, two, "rfsverify repair")
            check((differing, repaired) == (1, 1), "it is mended")
        module.wait_ready(one, mirror.PRIM, timeout=60)
        module.wait_ready(two, mirror.SECOND, timeout=60)
        check(True, "and then the role goes back" if flipped else "a copy that is equal: the role goes back")
    mirror.same_trees(module, "after it all")


if __name__ == "__main__":
    with mirror.cluster() as pair:
        if "swap_back" in sys.argv:
            swap_back(pair)
        else:
            verify(pair, 1024 if "--long" in sys.argv else 64)
