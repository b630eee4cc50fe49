#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Power cuts of a mirror. Lives are recorded on disks that log every write and flush; then, for many moments of a life, the
images that a cut at that moment could have left are made, of both nodes, and the mirror is started on them: both at once, or
one alone that is told to be primary, and the other later. What an fsync answered must be there on each node that had to have
it, both must find each other in sync, with equal trees, and no file system may need repair.

Usage: test_mirror_power.py [--cuts N] [--seed N] [--cut LIFE:NUMBER] [--seconds S] [--without-sync] [--verbose] [--keep]
--without-sync lies about every flush of stead-fs: the lab must find that out (it succeeds if it does)."""
import argparse
import os
import pathlib
import random
import sys
import time

from mirror import differences
from mirror_application import tree
from power_life import Life, PowerPair
from power_writers import SYNCED
from support import lab  # also finds tests/support
from power_disk import PoweredNamespaces, replay_is_exact

WAYS = ["both", "both", "both", "alone", "alone"]


class Cut:
    """One moment of a life, and one way to go on from it."""

    def __init__(self, life, program, number, at, phase):
        self.life, self.program, self.at, self.phase = life, program, at, phase
        self.random = random.Random(f"cut {life.seed} {number}")
        self.name = f"{life.seed}:{number}"
        self.way, self.first = self.random.choice(WAYS), self.random.randrange(2)
        self.problems, self.images, self.pair = [], [], None
        self.counts = {}    # operations that were flushed, not flushed, kept of those, torn
        self.split = False  # decided by a person, against what the other node had

    def describe(self):
        who = "" if self.way == "both" else f" node {self.first}"
        return f"{self.name} {self.phase.name} +{(self.at - self.phase.began) / 1e6:.1f} ms, {self.way}{who}"

    def plug(self):
        """Both disks as the cut left them; one that had no power then is as its own cut left it."""
        spaces = self.life.spaces
        for node in (0, 1):
            image = self.life.image_at(node, self.at)
            at = min(self.at, image.ended or self.at)
            left, counts = image.at(at, self.random.randrange(1 << 32), f"cut-{node}")
            self.images.append(left)
            self.trace(f"{node}: {counts}")
            for key, value in counts.items():
                self.counts[key] = self.counts.get(key, 0) + value
            wrong = spaces.recovered(left)
            if wrong:
                self.problems.append(f"node {node}: file system: {wrong}")
            spaces.plug(node, left)

    def trace(self, text):
        (self.pair.log if self.pair else self.early.append)(text)

    def run(self):
        self.early = []
        try:
            self.plug()
            settings = {**self.life.settings, "resync_bytes_per_second": 0}
            self.pair = PowerPair(self.life.spaces, "life", self.program, **settings)
            self.pair.trace += self.early
            self.pair.holder = self.life.pair.holder_at(self.at)
            getattr(self, "go_" + self.way)()
            self.final()
        except Exception as error:  # noqa: BLE001  (a failure is a result)
            self.problems.append(f"{type(error).__name__}: {error}")
        finally:
            if self.pair:
                self.pair.close()
                self.pair.mend_link()
            for node in (0, 1):
                self.life.spaces.unplug(node)
        return self.problems

    # ---- ways to go on

    def judge(self, node, limit, when):
        wrong = self.life.writers.judge(self.pair.data(node), self.at, SYNCED, limit)
        self.problems += [f"{when}: node {node}: {line}" for line in wrong[:6]]

    def ready(self, *nodes):
        for node in nodes:
            self.pair.start(node)
        self.pair.wait("ready", lambda: all(self.pair.nodes[node].ready for node in nodes))

    def go_both(self):
        order = self.random.sample([0, 1], 2)
        self.pair.start(order[0])
        self.pair.pump(self.random.choice([0, 0, 0.2]))
        self.pair.start(order[1])

    def go_alone(self):
        """The other one is lost, for the time being: a person says prim."""
        told = []
        self.ready(self.first)
        node = self.pair.nodes[self.first]
        self.pair.tell_peer(self.first, "silent")
        self.pair.pump(0.05)
        if not node.serving():
            self.pair.command(self.first, "prim", lambda ok, text: told.append((ok, text)))
            self.pair.wait("prim is answered", lambda: told)
            if not told[0][0]:
                self.refused(told[0][1])
                return
        self.pair.wait("it serves alone", lambda: node.mounted)
        self.judge(self.first, self.phase.bound[self.first], "alone")
        if self.random.random() < 0.5:
            self.change(self.first)
        self.ready(1 - self.first)

    def refused(self, text):
        """Only where nothing whole was there yet."""
        if self.phase.name != "first":
            self.problems.append(f"prim on node {self.first} is refused: {text}")
        self.ready(1 - self.first)

    def change(self, node):
        def work():
            with open(f"{self.pair.place}/alone", "wb") as file:
                file.write(b"alone" * 1000)
        if self.pair.spaces.run(node, work) != 0:
            self.problems.append(f"node {node} serves, and nothing can be written")

    def apart(self):
        return all("both were changed" in node.status.get("handshake", "") for node in self.pair.nodes)

    # ---- what must be true in the end

    def settle(self):
        """In sync for a while: what a node says of itself may be 250 ms old."""
        pair, since, ordered = self.pair, None, 0
        end = time.monotonic() + 30
        while since is None or time.monotonic() < since + 0.3:
            if time.monotonic() > end:
                raise TimeoutError("both in sync: not within 30 s")
            pair.turn(0.01)
            since = (since or time.monotonic()) if pair.in_sync() else None
            if time.monotonic() < ordered:
                continue
            if self.may_split() and self.apart():
                self.split, ordered = True, time.monotonic() + 1
                pair.command(1 - (self.source() if self.source() is not None else self.first), "second")

    def may_split(self):
        """Told to be primary although it could not know what the other one did."""
        return self.way == "alone" and self.phase.bound[self.first] is not None

    def source(self):
        return next((i for i, node in enumerate(self.pair.nodes) if node.serving()), None)

    def final(self):
        self.settle()
        limit = self.phase.bound[self.first] if self.split else None
        self.judge(0, limit, "in sync")
        if not self.equal_trees("in sync"):
            self.judge(1, limit, "in sync")
        self.verify()
        if self.random.random() < 0.25:
            self.stop_and_start()

    def equal_trees(self, when):
        trees = [tree(self.pair.data(node)) for node in (0, 1)]
        found = differences(*trees)
        self.problems += [f"{when}: trees differ: {one}" for one in found[:8]]
        return not found

    def verify(self):
        pair, told, prim = self.pair, [], self.pair.prim()
        pair.command(prim, "verify", lambda ok, text: told.append((ok, text)))
        pair.wait("verify", lambda: told)
        if not told[0][0] or " 0 differ" not in told[0][1]:
            self.problems.append(f"verify: {told[0]}")

    def stop_and_start(self):
        pair = self.pair
        for node in self.random.sample([0, 1], 2):
            pair.nodes[node].stays_away = True
            pair.stop(node) if pair.nodes[node].mounted else pair.command(node, "stop")
            pair.wait(f"node {node} stops", lambda node=node: pair.nodes[node].pid is None)
        self.equal_trees("stopped")
        self.ready(0, 1)
        pair.wait("in sync after a stop", pair.in_sync, 30)
        self.equal_trees("after a stop")

    def report(self):
        print("\n".join(self.early if self.pair is None else self.pair.trace[-80:]))
        for node in self.pair.nodes if self.pair else []:
            print(f"node {node.number}: role {node.role}, status {node.status}")
        print(f"phase {self.phase.name}, bound {self.phase.bound}, cut at {self.at}", flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cuts", type=int, default=int(os.environ.get("STEAD_POWER_CUTS", 0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cut", default="", help="LIFE:NUMBER, as a failure names it")
    parser.add_argument("--seconds", type=float, default=0, help="of a life")
    parser.add_argument("--per-life", type=int, default=0)
    parser.add_argument("--events", default="", help="only these, by name, with commas between them")
    parser.add_argument("--program", default="")
    for flag in ("--without-sync", "--verbose", "--keep"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    long = bool(os.environ.get("STEAD_LONG"))
    options.cuts = options.cuts or (1000 if long else 20)
    options.seconds = options.seconds or (25 if options.cuts > 50 else 8)
    options.per_life = options.per_life or min(options.cuts, 50)
    options.seed = options.seed or lab.seed("STEAD_POWER_SEED")
    return options


class Run:
    def __init__(self, options, spaces, program):
        self.options, self.spaces, self.program = options, spaces, program
        self.failed, self.done, self.live_cuts, self.began = [], 0, 0, time.monotonic()
        self.counts = {"flushed": 0, "pending": 0, "kept": 0, "torn": 0}

    def life(self, seed, count, only=None):
        """One life and `count` cuts of it."""
        life = Life(self.spaces, self.program, seed, self.options.seconds)
        life.events = self.options.events.split(",") if self.options.events else life.events
        if life.run():
            self.failed.append(f"life {seed}")
            print(f"\nFAILED life {seed}\n  " + "\n  ".join(life.problems[:20]))
            life.report()
        elif self.options.verbose:
            life.report()
        self.live_cuts += life.live_cuts
        if not life.phases:
            return
        for number, (at, phase) in enumerate(life.moments(count)):
            if only is None or number == only:
                self.cut(Cut(life, self.program, number, at, phase))
            if self.failed and (self.options.keep or self.options.without_sync):
                return
        for image in sum(life.images, []):
            image.drop()

    def cut(self, cut):
        at = time.monotonic()
        self.done += 1
        cut.run()
        for key, value in cut.counts.items():
            self.counts[key] += value
        if cut.problems:
            self.failed.append(cut.name)
            print(f"\nFAILED {cut.describe()}\n  " + "\n  ".join(cut.problems[:20]))
            cut.report()
        elif self.options.verbose:
            cut.report()
        print(f"{self.done}: {cut.describe()}: {'FAILED' if cut.problems else 'ok'} {time.monotonic() - at:.1f} s", flush=True)
        if not self.options.keep:
            for image in cut.images:
                image.drop()

    def all(self):
        options = self.options
        if options.cut:
            seed, number = options.cut.split(":")
            self.life(int(seed), int(number) + 1, int(number))
            return
        lives = random.Random(options.seed)
        while self.done < options.cuts and not (self.failed and (options.keep or options.without_sync)):
            self.life(lives.randrange(1, 1_000_000), min(options.per_life, options.cuts - self.done))
            if self.failed and self.done + self.live_cuts == 0:
                return  # the next one would not begin either

    def result(self):
        took = time.monotonic() - self.began
        print(f"{self.done} cuts and {self.live_cuts} in the lives, {took:.0f} s, {len(self.failed)} failed: {self.failed[:30]}; "
              f"operations: {self.counts}")
        if self.options.without_sync:
            found = self.failed and self.done + self.live_cuts > 0  # not by a life that could not begin
            print("ok: without flushes something is lost" if found else "FAILED: nobody missed the flushes")
            return 0 if found else 1
        return 1 if self.failed else 0


def main():
    options = arguments()
    os.environ.setdefault("STEAD_LAB_SECONDS", str(200 + 8 * options.cuts))
    lab.enter()
    blocklog = os.environ.get("STEAD_BLOCKLOG") or str(lab.ROOT / "build/release/tests/support/blocklog/stead-blocklog")
    program = os.path.abspath(options.program or lab.stage() / "libexec" / "stead" / "stead-fs")
    if options.without_sync:
        os.environ["STEAD_FS_PRELOAD"] = str(pathlib.Path(blocklog).parent / "libstead_no_sync.so")
    spaces = PoweredNamespaces(blocklog)
    print(f"seed {options.seed}, {options.cuts} cuts", flush=True)
    wrong = replay_is_exact(spaces)
    if wrong:
        print(f"FAILED: a replay is not what the disk held: {wrong}")
        return 1
    run = Run(options, spaces, program)
    run.all()
    if not (options.keep and run.failed):
        spaces.close()
    return run.result()


if __name__ == "__main__":
    sys.exit(main())
