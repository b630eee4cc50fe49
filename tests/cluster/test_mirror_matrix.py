#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The crash matrix of a mirror: {fault} x {of the primary, the secondary, both} x {state} x {load}. Each cell is a life of its
own: first copy, the state, the fault while an application writes, and what the plugin does about it, until both nodes are in
sync again. Then everything that was acknowledged must be there, both trees must be equal, and one node only must have served.

Usage: test_mirror_matrix.py [--cells N] [--seed N] [--cell FAULT:WHO:STATE:LOAD:SEED] [--program FILE] [--verbose]"""
import argparse
import os
import pathlib
import random
import sys
import time

from mirror import differences
from mirror_application import Application, tree
from mirror_compare import read_model
from mirror_ledger import LOADS
from support import lab  # also finds tests/support
from mirror_pair import Pair, flip
from mirror_spaces import Namespaces

FAULTS = ["kill", "twice", "power", "hang", "freeze", "cut", "oneway", "reset", "split", "isolate", "full", "leave", "log",
          "record", "flapping"]
WHO = ["prim", "second", "both"]
STATES = ["insync", "resync", "alone", "handshake", "swap", "first", "stopping", "behind"]


class Cell:
    def __init__(self, spaces, program, fault, who, state, load, seed):
        self.name = f"{fault}:{who}:{state}:{load}:{seed}"
        self.fault, self.who, self.state, self.load = fault, who, state, load
        self.random = random.Random(self.name)
        pick = self.random.random()
        self.witness = self.random.random() < 0.6
        settings = {"ack": 2 if pick < 0.7 else 1 if pick < 0.9 else 3, "intent_log": self.random.random() < 0.3}
        if state in ("resync", "first"):
            settings["resync_bytes_per_second"] = self.random.choice([0, 5_000_000, 20_000_000])
        self.pair = Pair(spaces, f"c{seed}-{os.getpid()}", program, witness=self.witness, **settings)
        self.pair.log(f"cell {self.name} witness {self.witness} {settings}")
        self.app = Application(self.pair, load, self.name)
        self.first = self.random.randrange(2)
        self.split = False

    def delay(self, most):
        self.pair.pump(self.random.random() * most)

    # ---- states

    def victims(self):
        prim = self.first
        return {"prim": [prim], "second": [1 - prim], "both": self.random.sample([prim, 1 - prim], 2)}[self.who]

    def prepare_files(self):
        """What was there before there was a mirror."""
        folder = self.pair.disk(self.first) / "data" / "old"
        folder.mkdir()
        for i in range(30):
            (folder / f"f{i}").write_bytes(self.random.randbytes(self.random.choice([0, 10, 5000, 200_000])))
        os.link(folder / "f0", folder / "hard")

    def begin(self):
        self.prepare_files()
        pair = self.pair
        pair.start(0)
        pair.start(1)
        pair.wait("both ready", lambda: all(node.ready for node in pair.nodes))
        pair.command(self.first, "prim")
        pair.wait("the first node serves", lambda: pair.nodes[self.first].serving())
        pair.command(1 - self.first, "second")
        if self.state == "first":
            self.delay(0.4)
            return
        pair.wait("the first copy", pair.in_sync)
        getattr(self, "reach_" + self.state)()

    def reach_insync(self):
        self.delay(0.3)

    def second_away(self):
        self.delay(0.15)
        self.pair.kill(1 - self.first, restart=False)
        self.pair.wait("alone", lambda: self.pair.nodes[self.first].role == "alone")
        self.pair.pump(0.05 + self.random.random() * 0.2)

    def reach_alone(self):
        self.second_away()

    def reach_resync(self):
        self.second_away()
        second = 1 - self.first
        self.pair.start(second)
        self.pair.wait("the second is there", lambda: self.pair.nodes[second].ready)
        self.delay(0.35)

    def reach_handshake(self):
        self.delay(0.1)
        if self.random.random() < 0.5:
            self.pair.kill(1 - self.first, restart=False)
            self.delay(0.1)
            self.pair.start(1 - self.first)
            self.pair.wait("the second is there", lambda: self.pair.nodes[1 - self.first].ready)
        else:
            self.pair.cut_link()
            self.pair.reset_link(0)
            self.delay(0.1)
            self.pair.mend_link()
        self.delay(0.03)

    def reach_swap(self):
        self.delay(0.2)
        self.pair.swap(self.first)
        self.delay(0.03)

    def reach_stopping(self):
        self.delay(0.2)
        self.ask_stop(self.first)
        self.delay(0.03)

    def reach_behind(self):
        """One node was stopped, and its files changed by somebody."""
        self.delay(0.1)
        second = 1 - self.first
        self.pair.nodes[second].stays_away = True
        self.pair.stop(second)
        self.pair.wait("it ends", lambda: self.pair.nodes[second].pid is None)
        self.pair.pump(0.05)
        if self.random.random() < 0.7:
            self.scribble(second)
        self.damage_manifest(second)
        self.pair.start(second)
        self.pair.wait("the second is there", lambda: self.pair.nodes[second].ready)
        self.delay(0.1)

    def scribble(self, node):
        folder = self.pair.disk(node) / "data" / "old"
        (folder / "f1").write_bytes(b"behind the mount")
        (folder / "f2").unlink()
        (folder / "stranger").mkdir()
        (folder / "stranger" / "file").write_bytes(b"new" * 1000)
        os.truncate(folder / "f3", 77)

    def damage_manifest(self, node):
        path = self.pair.disk(node) / "var" / "manifest"
        how = self.random.choice(["", "", "flip", "cut", "gone"])
        self.pair.log(f"{node}: manifest {how or 'as it is'}")
        if how == "flip":
            flip(path, self.random.randrange(path.stat().st_size))
        elif how == "cut":
            os.truncate(path, self.random.randrange(path.stat().st_size))
        elif how == "gone":
            path.unlink()

    def ask_stop(self, node):
        if self.pair.nodes[node].pid:
            self.pair.stop(node)

    # ---- faults

    def strike(self):
        victims = self.victims()
        self.pair.log(f"fault {self.fault} of {victims}")
        getattr(self, "fault_" + self.fault)(victims)

    def each(self, victims, act):
        for i, victim in enumerate(victims):
            if i:
                self.delay(0.02)
            act(victim)

    def fault_kill(self, victims):
        self.pair.restart_after = self.random.choice([0.02, 0.2, 0.8])
        self.each(victims, self.pair.kill)

    def fault_twice(self, victims):
        self.fault_kill(victims)
        for _ in range(2):
            self.pair.pump(self.pair.restart_after + self.random.random() * 0.2)
            self.each(victims, self.pair.kill)

    def fault_flapping(self, victims):
        """The stream breaks again and again."""
        for _ in range(self.random.randrange(3, 7)):
            self.pair.reset_link(victims[0])
            self.delay(0.03)
            self.pair.mend_link()
            self.delay(0.15)

    def fault_power(self, victims):
        self.pair.cut_link()
        self.pair.cut_bus(victims)
        self.each(victims, lambda node: self.pair.kill(node, restart=False))
        self.pair.pump(self.random.choice([0.1, 0.9]))
        self.pair.mend_link()
        self.pair.mend_bus()
        self.each(victims, self.pair.start)

    def fault_hang(self, victims):
        self.each(victims, lambda node: self.pair.pause(node, whole_node=False))
        self.pair.pump(self.random.choice([0.2, 1.2]))
        self.each(victims, self.pair.resume)

    def fault_freeze(self, victims):
        for node in victims:
            self.app.pause(node, True)
            self.pair.pause(node, whole_node=True)
        self.pair.pump(self.random.choice([0.3, 0.55, 1.2]))
        for node in victims:
            self.pair.resume(node)
            self.app.pause(node, False)

    def fault_cut(self, _):
        self.pair.cut_link()
        self.pair.pump(self.random.choice([0.1, 0.9]))
        self.pair.mend_link()

    def fault_oneway(self, victims):
        bus_too = self.random.random() < 0.5
        for node in victims:
            self.pair.cut_one_way(node)
        if bus_too:
            self.pair.vip_seen = self.random.random() < 0.5
            self.split = self.app.split_possible = not self.witness
            self.pair.cut_bus(victims)
        self.pair.pump(self.random.choice([0.2, 1.0]))
        self.pair.mend_link()
        self.pair.mend_bus()

    def fault_reset(self, victims):
        self.pair.reset_link(victims[0])
        self.delay(0.05)
        self.pair.mend_link()

    def fault_split(self, _):
        self.pair.vip_seen = False
        self.pair.cut_bus([0, 1])
        self.pair.cut_link()
        self.split = self.app.split_possible = not self.witness
        self.pair.pump(self.random.choice([0.3, 1.0]))
        self.pair.mend_link()
        self.pair.mend_bus()

    def fault_isolate(self, victims):
        """Nothing reaches this node any more, the witness as little as the peer."""
        self.pair.to_witness = [i not in victims for i in (0, 1)]
        self.fault_split(victims)

    def fill(self, file, spare):
        """All but a few blocks; what is free may change meanwhile."""
        size = 0
        while True:
            left = os.statvfs(file.fileno())
            more = (left.f_bavail - spare) * left.f_frsize
            if more <= 0:
                return
            try:
                os.posix_fallocate(file.fileno(), size, more)
                size += more
            except OSError:
                spare += 8

    def fault_full(self, victims):
        fillers = []
        for node in victims:
            filler = self.pair.disk(node) / "filler"
            with open(filler, "wb") as file:
                self.fill(file, self.random.randrange(40))
            fillers.append(filler)
        self.pair.pump(self.random.choice([0.1, 0.7]))
        for filler in fillers:
            filler.unlink()

    def fault_leave(self, victims):
        for node in victims:
            self.ask_stop(node)
            self.delay(0.1)
        self.pair.pump(0.3)

    def fault_log(self, victims):
        """It dies, and a sector of its change log with it."""
        def act(node):
            self.pair.kill(node, restart=False)
            path = self.pair.disk(node) / "var" / "log"
            if path.exists() and path.stat().st_size:
                used = max(512, path.stat().st_blocks * 512 // 4 if self.random.random() < 0.2 else 2048)
                flip(path, self.random.randrange(min(used, path.stat().st_size)))
            self.pair.pump(0.05)
            self.pair.start(node)
        self.each(victims, act)

    def fault_record(self, victims):
        """It dies, and its record is unreadable: it must not start. Somebody removes the record then: it is a new node. The
        only node with the data is spared: no other has a claim to be the source."""
        victims = [node for node in victims if not self.pair.nodes[node].serving()][:1]
        for node in victims:
            path = self.pair.disk(node) / "var" / "record"
            self.pair.wait("its first record", path.exists)
            self.pair.kill(node, restart=False)
            slot = self.random.choice([0, 4096])
            for copy in (slot, slot + 512):
                flip(path, copy + self.random.randrange(100))
            self.pair.start(node)
            self.pair.wait("it refuses to start", lambda node=node: self.pair.nodes[node].pid is None)
            if self.pair.nodes[node].ended != 2:
                raise AssertionError(f"a damaged record: exit {self.pair.nodes[node].ended}")
            path.unlink()
            self.pair.start(node)
            self.pair.wait("it refuses without one as well", lambda node=node: self.pair.nodes[node].pid is None)
            path.with_name("record.made").unlink()
            self.pair.start(node)
            self.pair.wait("it starts as a new one", lambda node=node: self.pair.nodes[node].ready)

    # ---- recovery

    def recover(self):
        pair = self.pair
        for node in pair.nodes:
            if node.pid is None and node.restart_at is None:
                pair.start(node.number)
        end = time.monotonic() + 25
        ordered, since = 0, None
        while since is None or time.monotonic() < since + 0.3:  # what a node says of itself may be 250 ms old
            if time.monotonic() > end:
                raise TimeoutError("both in sync again: not within 25 s")
            pair.turn(0.01)
            since = (since or time.monotonic()) if pair.in_sync() else None
            if ordered != self.lives() and self.split and self.both_apart():
                ordered = self.lives()
                waiting = [node.number for node in pair.nodes if not node.serving()]
                self.lose(waiting[0] if len(waiting) == 1 else self.random.randrange(2))

    def lives(self):
        return 1 + sum(node.died for node in self.pair.nodes)

    def both_apart(self):
        return all("both were changed" in node.status.get("handshake", "") for node in self.pair.nodes)

    def lose(self, loser):
        """A person decides, after both went on alone."""
        self.pair.log(f"a person says second on {loser}")
        self.app.end(loser)
        self.lost = loser
        for name in list(self.app.folders):  # the winner's writers are those that count
            winners = [writer for writer in self.app.history if writer.name == name and writer.node != loser]
            self.app.folders[name] = winners[-1] if winners else None
        self.pair.command(loser, "second")

    def final(self):
        pair, app = self.pair, self.app
        pair.pump(0.05)
        prim = pair.prim()
        pair.wait("in sync, still", pair.in_sync)
        app.problems += app.unexpected_errors() or ([] if app.history else ["no application could start"])
        app.enabled = False
        for node in (0, 1):
            app.end(node)
        if self.random.random() < 0.4:
            app.enabled = True
            told = []
            pair.swap(pair.prim(), lambda ok, text: told.append((ok, text)))
            pair.wait("swapped", lambda: told)
            if not told[0][0]:
                app.problems.append(f"swap: {told[0][1]}")
            pair.wait("swapped", lambda: pair.prim() not in (None, prim))
            self.delay(0.1)
            prim, app.enabled = pair.prim(), False
            app.end(prim)
        self.settle()
        for name, writer in app.folders.items():
            if writer:
                for node in (0, 1):
                    app.check(writer, read_model(pair.data(node) / name), f"at the end, node {node}")
        if not self.split:
            app.problems += app.two_at_a_time()
        self.same_trees("at the end")
        self.verify()
        if self.random.random() < 0.3:
            self.stop_both()

    def settle(self):
        """The writers are dead, but what they asked may be under way."""
        pair = self.pair
        pair.wait("in sync, at the end", pair.in_sync)
        trees = None
        for _ in range(20):
            try:
                before, trees = trees, [tree(pair.data(i)) for i in (0, 1)]
            except FileNotFoundError:  # removed meanwhile
                trees = None
            if trees and trees[0] == trees[1] and before == trees:
                return
            pair.pump(0.02)

    def same_trees(self, when):
        for one in differences(tree(self.pair.data(0)), tree(self.pair.data(1)))[:10]:
            self.app.problems.append(f"{when}: trees differ: {one}")

    def verify(self):
        pair, told = self.pair, []
        prim = pair.prim()
        pair.command(prim, "verify", lambda ok, text: told.append((ok, text)))
        pair.wait("verify", lambda: told)
        pair.wait("its result", lambda: not pair.nodes[prim].status["verify"]["running"])
        differing = pair.nodes[prim].status["verify"]["differing"]
        if not told[0][0] or differing:
            self.app.problems.append(f"verify: {told[0]}, {differing} differ")

    def stop_both(self):
        """A clean stop of both, and a start: in sync again, with nothing to compare."""
        pair = self.pair
        order = self.random.sample([0, 1], 2)
        for node in order:
            pair.nodes[node].stays_away = True
            if pair.nodes[node].mounted:
                pair.stop(node)
            else:
                pair.command(node, "stop")
            pair.wait(f"node {node} stops", lambda node=node: pair.nodes[node].pid is None)
            if pair.nodes[node].ended != 0:
                self.app.problems.append(f"stop of node {node}: exit {pair.nodes[node].ended}")
        self.same_trees("stopped")
        for node in order:
            pair.start(node)
        pair.wait("in sync after a stop of both", pair.in_sync, 60)  # at the rate that the cell was given
        self.same_trees("after a stop of both")
        for i in (0, 1):
            if any("changed behind" in line for line in pair.trace if f" {i}: note" in line and self.state != "behind"):
                self.app.problems.append(f"node {i} believes that it was changed behind the mount")

    def run(self):
        try:
            self.begin()
            self.strike()
            self.recover()
            self.final()
        except Exception as error:  # noqa: BLE001  (a cell's failure is a result)
            self.app.problems.append(f"{type(error).__name__}: {error}")
        finally:
            self.pair.close()
            self.pair.mend_link()  # for the next one
        return self.app.problems

    def report(self, keep):
        pair = self.pair
        print("\n".join(pair.trace[-120:]))
        for node in pair.nodes:
            print(f"node {node.number}: role {node.role}, status {node.status}")
            err = pair.disk(node.number) / "stderr"
            if err.exists() and err.stat().st_size:
                print(f"stderr: {err.read_text('utf-8', 'replace')[-2000:]}")
        if keep:
            print(f"files are below {pair.disk(0)} and {pair.disk(1)}")


def sensible(fault, who, state):
    """A fault of one that is away is none."""
    away = state == "alone" and who != "prim" and fault not in ("cut", "split", "isolate")
    return not away and not (fault == "record" and who != "second")


def draw(rng):
    while True:
        fault, who, state = rng.choice(FAULTS), rng.choice(WHO), rng.choice(STATES)
        if sensible(fault, who, state):
            return fault, who, state, rng.choice(list(LOADS)), rng.randrange(1_000_000)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=int(os.environ.get("STEAD_MATRIX_CELLS", 0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cell", action="append", default=[])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--program", default="")
    for flag in ("--verbose", "--keep"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    cells = options.cells or (1000 if os.environ.get("STEAD_LONG") else 15)
    os.environ.setdefault("STEAD_LAB_SECONDS", str(120 + 6 * max(cells, options.repeat)))
    lab.enter()
    program = options.program or str(lab.stage() / "libexec" / "stead" / "stead-fs")
    seed = options.seed or lab.seed("STEAD_MATRIX_SEED")
    rng = random.Random(seed)
    chosen = [one.split(":") for one in options.cell for _ in range(options.repeat)] or [draw(rng) for _ in range(cells)]
    print(f"seed {seed}, {len(chosen)} cells", flush=True)
    spaces, failed, began, acknowledged = Namespaces(), [], time.monotonic(), 0
    for number, (fault, who, state, load, cell_seed) in enumerate(chosen):
        cell = Cell(spaces, program, fault, who, state, load, int(cell_seed))
        at = time.monotonic()
        problems = cell.run()
        acknowledged += cell.app.acknowledged()
        if problems:
            failed.append(cell.name)
            print(f"\nFAILED {cell.name}\n  " + "\n  ".join(problems))
            cell.report(options.keep)
            print(f"again: {pathlib.Path(__file__).name} --cell {cell.name}\n", flush=True)
        elif options.verbose:
            print("\n".join(cell.pair.trace))
        if options.verbose or len(chosen) <= 25 or number % 20 == 19:
            print(f"{number + 1}: {cell.name} {'FAILED' if problems else 'ok'} {time.monotonic() - at:.1f} s, {len(failed)} "
                  f"failed so far", flush=True)
        if options.keep and problems:
            break
        cell.pair.drop()
    if not (options.keep and failed):
        spaces.close()
    took = time.monotonic() - began
    print(f"{len(chosen)} cells, {acknowledged} acknowledged operations, {took:.0f} s, {len(failed)} failed: {failed[:50]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
