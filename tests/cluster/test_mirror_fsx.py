#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What applications do to files, on a mirror whose secondary is compared: random operations of every kind; fio's verification
on the node that took over; a tree of sources unpacked, built and removed during a resync.
Usage: test_mirror_fsx.py fsx|fio|tree"""
import mmap
import os
import subprocess
import sys
import threading
import time

from mirror import differences
from mirror_application import tree
from mirror_fsx import SIZE_MAX, Fsx
from support import check, lab
from mirror_pair import Pair
from mirror_spaces import Namespaces

LONG = bool(os.environ.get("STEAD_LONG"))


class Life:
    """A pair in sync; node 0 serves."""

    def __init__(self, **settings):
        self.spaces = Namespaces(disk_mib=1500)
        program = os.environ.get("STEAD_FS") or str(lab.stage() / "libexec" / "stead" / "stead-fs")
        self.pair = Pair(self.spaces, "life", program, **settings)

    def __enter__(self):
        pair = self.pair
        pair.start(0)
        pair.start(1)
        pair.wait("both ready", lambda: all(node.ready for node in pair.nodes))
        pair.command(0, "prim")
        pair.wait("node 0 serves", lambda: pair.nodes[0].mounted)
        pair.command(1, "second")
        pair.wait("in sync", pair.in_sync, 30)
        return self

    def __exit__(self, kind, *_):
        if kind:
            print("\n".join(self.pair.trace[-60:]))
        self.pair.close()
        self.spaces.close()

    def spawn(self, node, argv, **options):
        return subprocess.Popen(argv, preexec_fn=lambda: self.spaces.enter(node), text=True, **options)

    def shell(self, node, command, what, timeout=300):
        process = self.spawn(node, ["sh", "-ec", f"cd {self.pair.place}; {command}"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
        said = []
        reader = threading.Thread(target=lambda: said.append(process.stdout.read()))
        reader.start()
        self.pair.wait(what, lambda: process.poll() is not None, timeout)
        reader.join()
        check(process.returncode == 0, what + ("" if process.returncode == 0 else f": {said[0][-2000:]}"))
        return said[0]

    def equal(self, what):
        self.pair.wait("in sync", self.pair.in_sync, 60)
        found = differences(*(tree(self.pair.data(i)) for i in (0, 1)))
        check(not found, f"{what}: both trees are equal" + "".join(f"\n  {one}" for one in found[:10]))


def fsx(life):
    """The model lies in memory that both processes see: this one compares the secondary's file with it."""
    operations = 100_000 if LONG else 5_000
    every = 2_000 if LONG else 500
    seed = lab.seed("STEAD_FSX_SEED")
    print(f"STEAD_FSX_SEED={seed}", flush=True)
    model, words = mmap.mmap(-1, SIZE_MAX), memoryview(mmap.mmap(-1, 4096)).cast("Q")
    asks, answers = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            life.spaces.enter(0)
            one = Fsx(f"{life.pair.place}/file", seed, model, words)
            for number in range(1, operations + 1):
                one.step()
                if number % every == 0:
                    one.whole()
                    os.write(asks[1], b"c")
                    os.read(answers[0], 1)
            code = 0
        except BaseException as error:  # noqa: BLE001
            print(f"after {len(one.history)} operations: {error!r}", flush=True)
        finally:
            os._exit(code)
    os.set_blocking(asks[0], False)
    compared, ended = 0, None
    while ended is None:
        life.pair.pump(0.002)
        try:
            os.read(asks[0], 1)
        except BlockingIOError:
            done, status = os.waitpid(pid, os.WNOHANG)
            ended = os.waitstatus_to_exitcode(status) if done else None
            continue
        # A loaded machine may stand still for longer than the primary waits: then this one is behind, and says so.
        life.pair.wait("in sync", life.pair.in_sync, 60)
        for node in (1, 0):
            found = (life.pair.data(node) / "file").read_bytes()
            if found != model[:words[0]]:
                os.kill(pid, 9)
                at = [i for i in range(0, max(len(found), words[0]), 4096) if found[i:i + 4096] != model[i:min(i + 4096, words[0])]]
                raise AssertionError(f"node {node}: {len(found)} bytes, should be {words[0]}; blocks {at[:10]} differ, seed {seed}")
        compared += 1
        os.write(answers[1], b"g")
    check(ended == 0, f"{operations} operations as the model says (seed {seed})")
    check(compared == operations // every, f"the secondary's file was equal each of {compared} times")
    life.equal("after fsx")


def fio(life):
    size = "512M" if LONG else "48M"
    line = (f"fio --name=v --directory=. --rw=randwrite --bsrange=512-128k --size={size} --verify=crc32c --verify_fatal=1 "
            "--ioengine=psync --fallocate=none --end_fsync=1 --randseed=7 --output=/dev/null ")
    life.shell(0, line + "--do_verify=1 --numjobs=2", "fio writes and verifies on the primary")
    life.shell(0, "fio --name=m --directory=. --rw=randwrite --bs=4k --ioengine=mmap --size=16M --verify=crc32c "
               "--do_verify=1 --verify_fatal=1 --fallocate=none --output=/dev/null", "fio through mappings")
    life.equal("after fio")
    told = []
    life.pair.swap(0, lambda ok, text: told.append(ok))
    life.pair.wait("the roles are exchanged", lambda: told and life.pair.nodes[1].mounted)
    life.shell(1, line + "--verify_only=1 --numjobs=2", "fio verifies all of it on the node that took over")
    life.pair.kill(1)
    life.pair.wait("node 0 serves after the end of node 1", lambda: life.pair.nodes[0].mounted)
    life.shell(0, line + "--verify_only=1 --numjobs=2", "and on the other one, after a crash")
    life.equal("after the return")


SOURCES = r"""
import os, random, tarfile, io
rng, out = random.Random(1), tarfile.open("/srv/sources.tar", "w")
def add(name, text, mode=0o644):
    info = tarfile.TarInfo(name); info.size, info.mode, info.mtime = len(text), mode, 1_600_000_000 + rng.randrange(10**8)
    out.addfile(info, io.BytesIO(text))
for d in range(COUNT):
    for f in range(12):
        add(f"tree/part{d % 7}/dir{d}/unit{f}.c", f"int value_{d}_{f}(int x) {{ return x * {f} + {d}; }}\n".encode() * 1
            + b"/* " + b"filler " * rng.randrange(900) + b"*/\n")
    add(f"tree/part{d % 7}/dir{d}/notes", rng.randbytes(rng.choice([0, 100, 70000])), 0o600)
    link = tarfile.TarInfo(f"tree/part{d % 7}/dir{d}/link"); link.type, link.linkname = tarfile.SYMTYPE, "notes"; out.addfile(link)
    hard = tarfile.TarInfo(f"tree/part{d % 7}/dir{d}/hard"); hard.type = tarfile.LNKTYPE
    hard.linkname = f"tree/part{d % 7}/dir{d}/unit0.c"; out.addfile(hard)
add("tree/Makefile", b"OBJ := $(patsubst %.c,%.o,$(wildcard part*/*/unit0.c part*/*/unit1.c))\nlib.a: $(OBJ)\n\tar rcs $@ $^\n"
    b"%.o: %.c\n\t$(CC) -c -o $@ $<\n")
out.close()
"""


def tree_of_sources(life):
    """The secondary comes back, slowly, while the application unpacks, builds, moves and removes."""
    count = 400 if LONG else 40
    pair = life.pair
    subprocess.run([sys.executable, "-c", SOURCES.replace("COUNT", str(count)).replace("/srv", str(pair.spaces.disks[0]))],
                   check=True)
    life.shell(0, "tar xf /srv/sources.tar && cp -a tree older", "a tree is unpacked")
    pair.kill(1, restart=False)
    pair.wait("node 0 is alone", lambda: pair.nodes[0].role == "alone")
    life.shell(0, "rm -r older/part1 older/part2; mv older/part3 moved; tar xf /srv/sources.tar; find tree -name notes -delete; "
               "cp -a tree again", "it changes while the secondary is away")
    pair.start(1)
    pair.wait("a resync", lambda: pair.nodes[0].status.get("resyncing"))
    began = time.monotonic()
    life.shell(0, "tar xf /srv/sources.tar -C again --strip-components=1; make -s -C tree -j2 lib.a; rm -rf older; "
               "mv moved tree/inner; rm -rf again/part4; make -s -C again -j2 lib.a; rm -rf tree/part5; cmp tree/lib.a tree/lib.a",
               "unpacked, built, moved and removed")
    print(f"resync under load: {time.monotonic() - began:.1f} s, "
          f"{'still going on' if not pair.in_sync() else 'over'}", flush=True)
    life.equal("after the build")
    life.shell(0, "rm -rf tree again", "all of it is removed")
    life.equal("after rm -rf")


if __name__ == "__main__":
    case = sys.argv[1]
    if LONG:
        os.environ.setdefault("STEAD_LAB_SECONDS", "3000")
    lab.enter()
    options = {"resync_bytes_per_second": 4_000_000} if case == "tree" else {}
    with Life(**options) as one:
        {"fsx": fsx, "fio": fio, "tree": tree_of_sources}[case](one)
