# SPDX-License-Identifier: Apache-2.0
"""A recorded life of a mirror: two stead-fs on disks that log (power_disk), writers with ledgers, and what happens to mirrors.
Afterwards it can be said of any moment what each disk held, what had been promised by then, and which node had to keep it."""
import bisect
import os
import random
import signal
import time

from support import lab  # noqa: F401  (finds tests/support)
from mirror_pair import Pair
from power_writers import ANSWERED, BEGUN, KINDS, SYNCED

EVENTS = ["lose_second", "lose_second", "lose_prim", "lose_both", "swap", "kill_second", "stop_second", "stop_both", "bad_disk",
          "bad_disk"]


class PowerPair(Pair):
    """Remembers what the witness knew when: a cut of the nodes does not change it."""

    @property
    def holder(self):
        return self.held[-1][1]

    @holder.setter
    def holder(self, value):
        self.__dict__.setdefault("held", []).append((time.monotonic_ns(), value))

    def environment(self):
        """A library that lies about flushes, for a run that must find that out."""
        library = os.environ.get("STEAD_FS_PRELOAD")
        return {**os.environ, **({"LD_PRELOAD": library} if library else {})}

    def holder_at(self, at):
        return self.held[max(0, bisect.bisect_right([when for when, _ in self.held], at) - 1)][1]


class Writers:
    """One of each kind on whichever node serves; at each start in a new folder, so that the old ones stay to be judged."""

    def __init__(self, pair, folder, seed, strict):
        self.pair, self.folder, self.seed, self.strict = pair, folder, seed, strict
        self.all, self.running, self.enabled = [], {}, True  # all: (name, writer); running: pid -> node
        self.dark = 0                                         # of the first so many, both nodes lost power meanwhile
        self.problems = []

    def start(self, node):
        if not self.enabled:
            return
        self.survived(node)
        chance = random.Random(f"{self.seed} {len(self.all)}")
        for kind in ["pages", *chance.sample(sorted(KINDS.keys() - {"pages"}), chance.choice([1, 3, len(KINDS) - 1]))]:
            make = KINDS[kind]
            name = f"{kind}{len(self.all)}"
            writer = make(f"{self.seed}.{name}", self.folder / name)
            self.all.append((name, writer))
            pid = os.fork()
            if pid == 0:
                try:
                    self.pair.spaces.enter(node)
                    writer.run(f"{self.pair.place}/{name}")
                except OSError as error:
                    self.failed(node, name, error)
                except BaseException as error:  # noqa: BLE001  (SQLite has errors of its own)
                    self.failed(node, name, error)
                finally:
                    os._exit(0)
            self.running[pid] = node
        self.pair.log(f"{node}: writers begin")

    def failed(self, node, name, error):
        """In the writer's process. Its node may just have lost its role: the ledger says what it was told."""
        with open(self.folder / "errors", "a", encoding="utf-8") as file:
            file.write(f"{time.monotonic_ns()} node {node} {name}: {error!r}\n")

    def end(self, node):
        for pid in [pid for pid, on in self.running.items() if on == node]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            del self.running[pid]

    def survived(self, node):
        """An answered write survives the loss of either node: who serves now has all of it."""
        if self.strict:
            now = time.monotonic_ns()
            self.problems += [f"node {node} serves: {line}" for line in self.judge(self.pair.data(node), now, ANSWERED)]

    def judge(self, folder, at, promise, limit=None):
        """What is wrong below `folder` after a cut at `at`, given that what was noted as `promise` by `limit` must be there."""
        wrong = []
        for i, (name, writer) in enumerate(self.all):
            kept = promise if i >= self.dark else SYNCED
            least = writer.ledger.last(kept, at if limit is None else min(at, limit))
            most = writer.ledger.last(BEGUN, at)
            wrong += [f"{name}: {line}" for line in writer.wrong(f"{folder}/{name}", least, most)]
        return wrong


class Phase:
    """From `began` until the next one. `server`: who serves, if that is sure. `bound[node]`: what was promised by then must be
    on that node alone; None: whatever was promised."""

    def __init__(self, name, server, bound):
        self.began, self.name, self.server, self.bound = time.monotonic_ns(), name, server, bound
        self.ended = None


class Life:
    def __init__(self, spaces, program, seed, seconds):
        self.spaces, self.seed, self.seconds = spaces, seed, seconds
        self.random = random.Random(f"life {seed}")
        self.ack = self.random.choice([2, 2, 2, 1, 3])
        self.settings = {"ack": self.ack, "intent_log": self.random.random() < 0.4,
                         "resync_bytes_per_second": self.random.choice([0, 3_000_000, 8_000_000])}
        self.images = [[], []]
        for node in (0, 1):
            self.plug(node, spaces.fresh(node))
        self.pair = PowerPair(spaces, "life", program, **self.settings)
        self.pair.log(f"life {seed} {self.settings}")
        self.ledgers = spaces.folder / f"ledgers{seed}"
        self.ledgers.mkdir()
        self.writers = Writers(self.pair, self.ledgers, f"{seed}", self.ack != 0)
        self.pair.app_start, self.pair.app_end = self.writers.start, self.writers.end
        self.phases, self.problems = [], self.writers.problems
        self.events, self.live_cuts = EVENTS, 0

    # ---- what is known of a moment

    def phase(self, name, server=None, bound=(None, None)):
        if self.phases:
            self.phases[-1].ended = time.monotonic_ns()
        self.phases.append(Phase(name, server, list(bound)))
        self.pair.log(f"phase {name}")

    def image_at(self, node, at):
        """The image whose log covers that moment, or the last one before it."""
        found = [image for image in self.images[node] if image.began is None or image.began <= at]
        return (found or self.images[node][:1])[-1]

    # ---- power

    def plug(self, node, image):
        self.images[node].append(image)
        self.spaces.plug(node, image, logged=True)

    def freeze(self, node):
        """Not a step more: what it says after its disk went dark would be a lie."""
        one = self.pair.nodes[node]
        one.restart_at = None
        try:
            if one.pid:
                os.kill(one.pid, signal.SIGSTOP)
            while one.pid and self.state_of(one.pid) not in "TZ":
                time.sleep(0.0005)
        except OSError:  # it ended, and was reaped
            one.pid = None

    @staticmethod
    def state_of(pid):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    def power_off(self, nodes, silent):
        """Returns when; the disks have then what a cut at that moment leaves, by chance."""
        for node in nodes:
            self.freeze(node)
        cuts = [self.spaces.cut(node) for node in nodes]
        if silent:
            self.pair.cut_bus(nodes)
            self.pair.cut_link()
        for node in nodes:
            self.pair.kill(node, restart=False)
        if silent:
            self.pair.mend_link()
        for node in nodes:
            self.spaces.unplug(node)
        self.live_cuts += 1
        return cuts

    def power_on(self, nodes, cuts):
        self.pair.mend_bus()
        for node, cut in zip(nodes, cuts):
            left, counts = self.images[node][-1].at(cut, self.random.randrange(1 << 32))
            self.pair.log(f"{node}: power again, {counts}")
            wrong = self.spaces.recovered(left)
            if wrong:
                self.problems.append(f"node {node}: file system: {wrong}")
            self.plug(node, left)
        for node in nodes:
            self.pair.start(node)

    def meanwhile(self, most):
        self.pair.pump(self.random.uniform(0.2, 1) * most)

    def equal(self, timeout=40):
        self.pair.wait("in sync", self.pair.in_sync, timeout)
        self.phase("equal", self.pair.prim())

    # ---- events

    def begin(self):
        first = self.random.randrange(2)
        folder = self.pair.disk(first) / "data" / "old"
        folder.mkdir()
        for i in range(30):
            (folder / f"f{i}").write_bytes(self.random.randbytes(self.random.choice([0, 10, 5000, 200_000])))
        os.link(folder / "f0", folder / "hard")
        pair = self.pair
        for node in (0, 1):
            pair.start(node)
        pair.wait("both ready", lambda: all(node.ready for node in pair.nodes))
        pair.command(first, "prim")
        pair.wait("the first serves", lambda: pair.nodes[first].mounted)
        bound = [0, 0]
        bound[first] = None
        self.phase("first", first, bound)
        self.meanwhile(0.3)
        pair.command(1 - first, "second")
        self.equal()
        self.meanwhile(1.2)

    def only(self, node, since):
        """Bounds while that node alone goes on."""
        bound = [since, since]
        bound[node] = None
        return bound

    def away(self, name, survivor):
        """The other one is gone: `survivor` goes on alone, and then it comes back."""
        self.pair.wait("alone", lambda: self.pair.nodes[survivor].mounted)
        self.meanwhile(0.7)

    def lose_second(self):
        prim = self.pair.prim()
        now = time.monotonic_ns()
        self.phase("alone", prim, self.only(prim, now))
        cuts = self.power_off([1 - prim], self.random.random() < 0.5)
        self.away("alone", prim)
        self.return_of([1 - prim], cuts, prim, cuts[0])

    def lose_prim(self):
        prim = self.pair.prim()
        now = time.monotonic_ns()
        self.phase("takeover", 1 - prim, self.only(1 - prim, now))
        cuts = self.power_off([prim], self.random.random() < 0.5)
        self.away("takeover", 1 - prim)
        self.return_of([prim], cuts, 1 - prim, cuts[0])

    def return_of(self, nodes, cuts, server, since):
        self.phase("resync", server, self.only(server, since))
        self.power_on(nodes, cuts)
        self.equal()
        self.meanwhile(1)

    def lose_both(self):
        at = time.monotonic_ns()
        self.phase("dark", None, [at, at])
        cuts = self.power_off([0, 1], True)
        self.writers.dark = len(self.writers.all)
        self.phase("return", None, [at, at])
        self.power_on([0, 1], cuts)
        self.equal()
        self.meanwhile(1)

    def swap(self):
        old = self.pair.prim()
        self.phase("swap", None)
        told = []
        self.pair.swap(old, lambda ok, text: told.append((ok, text)))
        self.pair.wait("swapped", lambda: told and self.pair.prim() not in (None, old))
        if not told[0][0]:
            self.problems.append(f"swap: {told[0][1]}")
        self.phase("equal", 1 - old)
        self.meanwhile(0.8)

    def kill_second(self):
        prim = self.pair.prim()
        self.pair.restart_after = self.random.choice([0.02, 0.3])
        now = time.monotonic_ns()
        self.phase("killed", prim, self.only(prim, now))
        self.pair.kill(1 - prim)
        self.pair.wait("alone", lambda: self.pair.nodes[prim].role == "alone")
        self.phase("resync", prim, self.only(prim, now))
        self.equal()
        self.meanwhile(0.5)

    def stop(self, node):
        self.pair.nodes[node].stays_away = True
        if self.pair.nodes[node].mounted:
            self.pair.stop(node)
        else:
            self.pair.command(node, "stop")
        self.pair.wait(f"node {node} stops", lambda: self.pair.nodes[node].pid is None)

    def stop_second(self):
        prim = self.pair.prim()
        now = time.monotonic_ns()
        self.phase("stopping", prim, self.only(prim, now))
        self.stop(1 - prim)
        self.phase("alone", prim, self.only(prim, now))
        self.away("alone", prim)
        self.phase("resync", prim, self.only(prim, now))
        self.pair.start(1 - prim)
        self.equal()
        self.meanwhile(0.5)

    def stop_both(self):
        """The second one to stop goes on for a moment, and is the last holder."""
        first, last = self.random.sample([0, 1], 2)
        bound = self.only(last, time.monotonic_ns())
        self.phase("stopping both", None, bound)
        self.stop(first)
        self.pair.pump(0.1)
        self.stop(last)
        self.phase("stopped", None, bound)
        self.pair.pump(0.2)
        self.phase("started", None, bound)
        for node in self.random.sample([0, 1], 2):
            self.pair.start(node)
        self.equal()
        self.meanwhile(0.5)

    def bad_disk(self):
        """A disk answers EIO for a while. Whether its node gets over that is its own affair: it may be out of sync, and its
        file system read-only until it is mounted again; nobody may lose anything."""
        prim = self.pair.prim()
        victim = self.random.randrange(2)
        kind, count = self.random.choice(["data", "data", "data", "flush"]), self.random.choice([1, 1, 4, 1000])
        self.phase("bad disk", None if victim == prim else prim, self.only(1 - victim, time.monotonic_ns()))
        self.pair.log(f"{victim}: EIO for {count} operations: {kind}")
        self.spaces.tell(victim, f"fail {kind} {count}")
        self.pair.pump(self.random.choice([0.5, 1.5]))
        self.spaces.tell(victim, f"fail {kind} 0")
        if self.writable(victim):
            self.equal()
        else:
            cuts = self.power_off([victim], True)
            self.away("bad disk", 1 - victim)
            self.return_of([victim], cuts, 1 - victim, self.phases[-1].bound[victim])
        if not self.writers.running:
            self.writers.start(self.pair.prim())
        self.meanwhile(0.5)

    def writable(self, node):
        """Is its file system still one to write to? The kernel makes it read-only when its journal cannot be written."""
        try:
            with open(self.pair.disk(node) / "probe", "wb") as file:
                file.write(b"probe")
                file.flush()
                os.fsync(file.fileno())
            return self.pair.nodes[node].pid is not None
        except OSError as error:
            self.pair.log(f"{node}: {error}")
            return False

    # ---- all of it

    def run(self):
        begun = time.monotonic()
        try:
            self.begin()
            while time.monotonic() < begun + self.seconds:
                self.pair.log("event")
                getattr(self, self.random.choice(self.events))()
            self.phase("end", None)
        except Exception as error:  # noqa: BLE001  (a life's failure is a result)
            self.problems.append(f"{type(error).__name__}: {error}")
        finally:
            for node in (0, 1):
                if self.pair.nodes[node].pid is not None:
                    self.freeze(node)
            for node in (0, 1):
                if self.spaces.plugged[node] is not None and self.images[node][-1].ended is None:
                    self.spaces.cut(node)
                self.pair.kill(node, restart=False)  # else nobody who waits for it can be ended
            self.pair.close()
            self.pair.mend_link()
            for node in (0, 1):
                self.spaces.unplug(node)
        errors = self.ledgers / "errors"
        for line in errors.read_text().splitlines() if errors.exists() else []:
            self.pair.log(f"writer: {line}")
        return self.problems

    def moments(self, count):
        """Cut points: of each phase as many, and half of them at something that a disk was asked for."""
        phases = [phase for phase in self.phases if phase.ended and phase.ended > phase.began]
        names = sorted({phase.name for phase in phases})
        chosen = []
        for i in range(count):
            phase = self.random.choice([one for one in phases if one.name == names[i % len(names)]])
            times = []
            if self.random.random() < 0.8:
                node = self.random.randrange(2)
                times = self.image_at(node, phase.ended).moments(phase.began, phase.ended)
            at = self.random.choice(times) if times else self.random.randrange(phase.began, phase.ended)
            chosen.append((at, phase))
        return chosen

    def report(self):
        print("\n".join(self.pair.trace[-200:]))
