# SPDX-License-Identifier: Apache-2.0
"""Writers whose work can be judged after any power cut. Each goes in numbered steps and notes three things, with the time, in
a ledger outside the disks: step n was begun, it was answered, everything up to n was answered by an fsync. For a cut at a
moment there are then three numbers: what was synced must be there, whole; what was answered must be there if only one of two
nodes was lost; what was not begun must not be there; and in between anything goes that a local disk might have left."""
import bisect
import os
import random
import shutil
import sqlite3
import tempfile
import time

from mirror_ledger import fail, libc

SECTOR = 512
BEGUN, ANSWERED, SYNCED = "b", "a", "s"


class Ledger:
    """Lines of "kind step time"; one writer appends, whoever judges reads it later."""

    def __init__(self, path):
        self.path, self.fd, self.read = path, None, None

    def note(self, kind, step):
        if self.fd is None:
            self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(self.fd, f"{kind} {step} {time.monotonic_ns()}\n".encode())

    def last(self, kind, at):
        """The last step of which this had been noted by then; 0 = none."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if self.read is None or self.read[0] != size:
            events = {BEGUN: ([], []), ANSWERED: ([], []), SYNCED: ([], [])}
            text = self.path.read_text() if size else ""
            for line in text.splitlines():
                what, step, when = line.split()
                events[what][0].append(int(when))
                events[what][1].append(int(step))
            self.read = len(text), events
        times, steps = self.read[1][kind]
        found = bisect.bisect_right(times, at)
        return steps[found - 1] if found else 0


class Writer:
    """Below `folder` (a path that is not there yet). run() is called in a process that will be killed."""

    pace = 0.003  # seconds between two steps: the ledger is judged many times

    def __init__(self, seed, ledger):
        self.seed, self.ledger = seed, Ledger(ledger)

    def chance(self, step):
        return random.Random(f"{self.seed} {step}")

    def run(self, folder):
        self.root = folder
        os.mkdir(folder)
        self.begin()
        step = 0
        while True:
            step += 1
            self.ledger.note(BEGUN, step)
            synced = self.step(step)
            self.ledger.note(ANSWERED, step)
            if synced or self.sync(step):
                self.ledger.note(SYNCED, step)
            time.sleep(self.pace)

    def begin(self):
        """What comes before the first step."""

    def sync(self, step):
        """After a step that was answered; true if all up to it is synced now."""
        return False

    def wrong(self, folder, least, most):
        """What is wrong with it, if all steps up to `least` must be there and none after `most` may; a list."""
        if least == 0 and not os.path.isdir(folder):
            return []
        if not os.path.isdir(folder):
            return [f"{folder} is not there, and {least} steps were promised"]
        return self.judge(folder, least, most)


def sync_path(path, flags=os.O_RDONLY, data_only=False):
    fd = os.open(path, flags)
    try:
        os.fdatasync(fd) if data_only else os.fsync(fd)
    finally:
        os.close(fd)


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


class Pages(Writer):
    """A database's file: pages are overwritten in place and flushed now and then."""

    SLOTS, SIZE = 64, 4096

    def page(self, step):
        chance = self.chance(step)
        slot = chance.randrange(self.SLOTS)
        sector = f"step {step:010} slot {slot:04} ".encode() + chance.randbytes(SECTOR - 26)
        return slot, sector * (self.SIZE // SECTOR)

    def begin(self):
        self.fd = os.open(f"{self.root}/pages", os.O_RDWR | os.O_CREAT, 0o640)

    def step(self, step):
        slot, page = self.page(step)
        os.pwrite(self.fd, page, slot * self.SIZE)

    def sync(self, step):
        if step == 1:
            os.fsync(self.fd)
            sync_path(self.root)
            sync_path(os.path.dirname(self.root))
            return True
        if self.chance(step).random() < 0.4:
            (os.fdatasync if step % 2 else os.fsync)(self.fd)
            return True
        return False

    def judge(self, folder, least, most):
        found = read(f"{folder}/pages")
        if found is None:
            return [f"pages is not there; {least} steps were promised"] if least else []
        last = {}
        for step in range(1, least + 1):
            slot, page = self.page(step)
            last[slot] = page
        allowed = {slot: [page] for slot, page in last.items()}
        for step in range(least + 1, most + 1):
            slot, page = self.page(step)
            allowed.setdefault(slot, [b""]).append(page)
        wrong = []
        for slot in range(self.SLOTS):
            piece = found[slot * self.SIZE:(slot + 1) * self.SIZE]
            states = allowed.get(slot, [b""])
            if slot in last and len(piece) < self.SIZE:
                wrong.append(f"pages ends before slot {slot}, which was promised")
            for at in range(0, len(piece), SECTOR):
                here = piece[at:at + SECTOR]
                if not any(state[at:at + SECTOR].ljust(SECTOR, b"\0")[:len(here)] == here for state in states):
                    wrong.append(f"slot {slot} sector {at // SECTOR} is {here[:26]!r}, steps {least} to {most} allowed")
                    break
        return wrong


class Wal(Writer):
    """A log: records are appended, each with fdatasync."""

    def record(self, step):
        chance = self.chance(step)
        return f"<{step}>".encode() + chance.randbytes(chance.choice([30, 200, 1500, 8192]))

    def begin(self):
        self.fd = os.open(f"{self.root}/wal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def step(self, step):
        os.write(self.fd, self.record(step))

    def sync(self, step):
        if step == 1:
            sync_path(self.root)
            sync_path(os.path.dirname(self.root))
        os.fdatasync(self.fd)
        return True

    def judge(self, folder, least, most):
        found = read(f"{folder}/wal")
        if found is None:
            return [f"wal is not there; {least} records were promised"] if least else []
        promised = b"".join(self.record(step) for step in range(1, least + 1))
        whole = promised + b"".join(self.record(step) for step in range(least + 1, most + 1))
        if found[:len(promised)] != promised:
            at = next((i for i, (a, b) in enumerate(zip(found, promised)) if a != b), len(found))
            return [f"wal has {len(found)} bytes; of {len(promised)} promised it differs at {at}"]
        if len(found) > len(whole):
            return [f"wal has {len(found)} bytes, {len(whole)} were ever begun"]
        bad = [i for i in range(len(promised), len(found)) if found[i] not in (whole[i], 0)]
        return [f"wal: at {bad[:5]} there is what nobody wrote"] if bad else []


class Replace(Writer):
    """A configuration file: written aside, synced, renamed over the old one, the folder synced."""

    pace = 0.01

    def content(self, step):
        chance = self.chance(step)
        return f"{step}\n".encode() + chance.randbytes(chance.choice([0, 10, 5000, 70_000]))

    def step(self, step):
        with open(f"{self.root}/conf.tmp", "wb") as file:
            file.write(self.content(step))
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{self.root}/conf.tmp", f"{self.root}/conf")

    def sync(self, step):
        sync_path(self.root)
        if step == 1:
            sync_path(os.path.dirname(self.root))
        return True

    def judge(self, folder, least, most):
        found = read(f"{folder}/conf")
        if found is None:
            return [f"conf is not there; version {least} was promised"] if least else []
        number = found.split(b"\n", 1)[0]
        step = int(number) if number.isdigit() else -1
        if not least <= step <= most:
            return [f"conf is version {number[:20]!r} of {len(found)} bytes, {least} to {most} allowed"]
        return [] if found == self.content(step) else [f"conf of version {step} is torn: {len(found)} bytes"]


class Spool(Writer):
    """A mail spool: files are made in one folder, synced, moved to another, linked, marked, and removed after a while."""

    KEPT = 15
    pace = 0.01

    def begin(self):
        for name in ("new", "cur", "links"):
            os.mkdir(f"{self.root}/{name}")

    def content(self, step):
        chance = self.chance(step)
        return f"mail {step}\n".encode() + chance.randbytes(chance.choice([0, 100, 4096, 20_000]))

    def step(self, step):
        new, cur = f"{self.root}/new/m{step}", f"{self.root}/cur/m{step}"
        with open(new, "wb") as file:
            file.write(self.content(step))
            file.flush()
            os.fchmod(file.fileno(), 0o640)
            os.setxattr(file.fileno(), "user.step", str(step).encode())
            os.fsync(file.fileno())
        os.rename(new, cur)
        os.link(cur, f"{self.root}/links/l{step}")
        os.symlink(f"../cur/m{step}", f"{self.root}/links/s{step}")
        os.mkdir(f"{self.root}/new/d{step}")
        if step > self.KEPT:
            old = step - self.KEPT
            for name in (f"cur/m{old}", f"links/l{old}", f"links/s{old}"):
                os.unlink(f"{self.root}/{name}")
            os.rmdir(f"{self.root}/new/d{old}")

    def sync(self, step):
        if step % 3 and step != 1:
            return False
        for name in ("new", "cur", "links", "."):
            sync_path(f"{self.root}/{name}")
        if step == 1:
            sync_path(os.path.dirname(self.root))
        return True

    def judge(self, folder, least, most):
        wrong = []
        if least and not all(os.path.isdir(f"{folder}/{name}") for name in ("new", "cur", "links")):
            return ["a folder of the spool is missing"]
        for step in range(1, most + 1):
            there = os.path.lexists(f"{folder}/cur/m{step}")
            if step <= least - self.KEPT:
                names = [f"cur/m{step}", f"links/l{step}", f"links/s{step}", f"new/d{step}", f"new/m{step}"]
                wrong += [f"{name} was removed" for name in names if os.path.lexists(f"{folder}/{name}")]
            elif most - self.KEPT < step <= least:
                wrong += self.mail(folder, step)
            elif there:
                wrong += self.mail_itself(f"{folder}/cur/m{step}", step)
        unknown = [name for name in os.listdir(f"{folder}/cur") if int(name[1:]) > most] if os.path.isdir(f"{folder}/cur") else []
        return wrong + [f"cur/{name} was never begun" for name in unknown]

    def mail(self, folder, step):
        cur, link = f"{folder}/cur/m{step}", f"{folder}/links/l{step}"
        wrong = self.mail_itself(cur, step)
        if not os.path.lexists(link):
            wrong.append(f"links/l{step} is not there")
        elif not wrong and os.stat(cur).st_ino != os.stat(link).st_ino:
            wrong.append(f"cur/m{step} and links/l{step} are two files")
        if not os.path.islink(f"{folder}/links/s{step}") or os.readlink(f"{folder}/links/s{step}") != f"../cur/m{step}":
            wrong.append(f"links/s{step} is not what it was")
        if not os.path.isdir(f"{folder}/new/d{step}"):
            wrong.append(f"new/d{step} is not there")
        return wrong

    def mail_itself(self, path, step):
        found = read(path)
        if found is None:
            return [f"cur/m{step} is not there"]
        wrong = [] if found == self.content(step) else [f"cur/m{step} has {len(found)} bytes that it should not have"]
        mode = os.stat(path).st_mode & 0o7777
        marks = {name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.")}
        if mode != 0o640 or marks != {"user.step": str(step).encode()}:
            wrong.append(f"cur/m{step} has mode {mode:o} and attributes {marks}")
        return wrong


class Cutter(Writer):
    """One file that is written anywhere, cut, grown and punched, and synced now and then."""

    MOST = 200_000
    PUNCH, KEEP_SIZE, ZERO = 2, 1, 16

    def operation(self, step):
        chance = self.chance(step)
        kind = chance.choice(["write", "write", "write", "cut", "punch", "zero"])
        at = chance.randrange(self.MOST)
        return kind, at, 1 + chance.randrange(30_000), chance.randbytes(64)

    def begin(self):
        self.fd = os.open(f"{self.root}/file", os.O_RDWR | os.O_CREAT, 0o600)

    def step(self, step):
        kind, at, length, seed = self.operation(step)
        if kind == "write":
            os.pwrite(self.fd, self.bytes(seed, length), at)
        elif kind == "cut":
            os.ftruncate(self.fd, at)
        else:
            mode = self.PUNCH | self.KEEP_SIZE if kind == "punch" else self.ZERO
            fail(libc.fallocate(self.fd, mode, at, length))

    @staticmethod
    def bytes(seed, length):
        return (seed * (length // len(seed) + 1))[:length]

    def sync(self, step):
        if step == 1:
            sync_path(self.root)
            sync_path(os.path.dirname(self.root))
        if step == 1 or self.chance(step).random() < 0.3:
            (os.fdatasync if step % 2 else os.fsync)(self.fd)
            return True
        return False

    def apply(self, state, step):
        kind, at, length, seed = self.operation(step)
        if kind == "cut":
            return state[:at].ljust(at, b"\0")
        size = max(len(state), at + length) if kind != "punch" else len(state)
        state = state.ljust(size, b"\0")
        piece = self.bytes(seed, length) if kind == "write" else bytes(length)
        return (state[:at] + piece + state[at + length:])[:size]

    def judge(self, folder, least, most):
        found = read(f"{folder}/file")
        if found is None:
            return [f"file is not there; {least} steps were promised"] if least else []
        state, states = b"", []
        for step in range(most + 1):
            state = self.apply(state, step) if step else b""
            if step >= least:
                states.append(state)
        sizes = {len(state) for state in states}
        if not min(sizes) <= len(found) <= max(sizes):
            return [f"file has {len(found)} bytes; after steps {least} to {most} it had {sorted(sizes)}"]
        if least == most and found != states[0]:
            return [f"file of {len(found)} bytes is not what it was after step {least}"]
        bad = [at for at in range(0, len(found), SECTOR) if not self.sector_allowed(found, states, at)]
        return [f"file: sectors {[at // SECTOR for at in bad[:8]]} are none of steps {least} to {most}"] if bad else []

    def sector_allowed(self, found, states, at):
        """Bytewise: a cut and a write in one sector may be there or not, each by itself."""
        piece = found[at:at + SECTOR]
        cuts = [state[at:at + len(piece)].ljust(len(piece), b"\0") for state in states]
        if piece in cuts:
            return True
        if len(cuts) == 1:
            return False
        return all(byte in {cut[i] for cut in cuts} | {0} for i, byte in enumerate(piece))


class Sqlite(Writer):
    """Commits, in whichever journal mode chance has."""

    pace = 0.01

    def begin(self):
        self.db = sqlite3.connect(f"{self.root}/ledger", isolation_level=None, timeout=60)
        self.db.execute("PRAGMA journal_mode=" + self.chance(0).choice(["WAL", "DELETE", "TRUNCATE"]))
        self.db.execute("PRAGMA synchronous=EXTRA")  # as FULL, and a removed journal stays removed
        self.db.execute("CREATE TABLE ledger (n INTEGER PRIMARY KEY, bytes BLOB)")
        sync_path(self.root)
        sync_path(os.path.dirname(self.root))

    def step(self, step):
        self.db.execute("INSERT INTO ledger VALUES (?, ?)", (step, self.chance(step).randbytes(300)))
        return True

    def judge(self, folder, least, most):
        with tempfile.TemporaryDirectory(prefix="stead-sqlite-") as aside:  # reading it writes
            copy = f"{aside}/db"
            shutil.copytree(folder, copy)
            if not os.path.exists(f"{copy}/ledger"):
                return [f"the database is not there; {least} commits were promised"] if least else []
            try:
                db = sqlite3.connect(f"{copy}/ledger")
                state = db.execute("PRAGMA integrity_check").fetchone()[0]
                rows = dict(db.execute("SELECT n, bytes FROM ledger").fetchall())
                db.close()
            except sqlite3.Error as error:
                return [f"SQLite: {error}; {least} commits were promised"] if least else []
        wrong = [] if state == "ok" else [f"SQLite: integrity: {state}"]
        lost = [n for n in range(1, least + 1) if rows.get(n) != self.chance(n).randbytes(300)]
        extra = [n for n in rows if n > most]
        return wrong + ([f"SQLite: {least} commits, lost {lost[:5]}"] if lost else []) + (
            [f"SQLite: {extra[:5]} were never asked for"] if extra else [])


KINDS = {"pages": Pages, "wal": Wal, "conf": Replace, "spool": Spool, "cutter": Cutter, "sqlite": Sqlite}
