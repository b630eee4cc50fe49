# SPDX-License-Identifier: Apache-2.0
"""An application of a mirror that knows what it was told. Each operation is a function of (seed, number, what is there); the
writer counts operations begun and done in shared memory, so that after its death, or its node's, the model of all that was
acknowledged can be computed and compared with a tree. The one operation that was begun and not done may be there, in part
where it is data, or not."""
import copy
import ctypes
import errno
import hashlib
import mmap
import os
import random
import stat
import time

PAGE = 4096
FILE_MAX = 3 << 20
UNHURRIED_AFTER = 600  # operations: the ledger is computed again later, and that takes time as well
NAMES_MAX = 40
KEEP_SIZE, PUNCH, ZERO = 1, 2, 16
EXCHANGE = 2
DATA_OPS = ("write", "append", "bigwrite", "map", "punch", "zero", "copy")
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]

LOADS = {
    "small": {"write": 40, "append": 40, "fsync": 12, "make": 4, "unlink": 2, "rename": 2, "truncate": 3, "punch": 2},
    "meta": {"make": 10, "mkdir": 6, "symlink": 4, "fifo": 2, "link": 5, "unlink": 7, "rmdir": 4, "rename": 10, "exchange": 3,
             "chmod": 5, "chown": 4, "setx": 5, "removex": 3, "utime": 4, "fsync": 3, "append": 5, "fsyncdir": 2},
    "big": {"bigwrite": 20, "write": 4, "truncate": 5, "punch": 6, "zero": 4, "copy": 6, "fsync": 4, "make": 2, "unlink": 1,
            "rename": 2},
    "mmap": {"map": 30, "write": 6, "grow": 6, "truncate": 3, "punch": 3, "make": 2, "fsync": 2, "rename": 1},
}


class Inode:
    def __init__(self, kind, mode, data=None):
        self.kind, self.mode, self.uid, self.gid, self.xattrs = kind, mode, 0, 0, {}
        self.data = data  # bytearray of a file, target of a link

    def facts(self, nlink):
        data = hashlib.sha1(self.data).hexdigest() + f" {len(self.data)}" if self.kind == "f" else self.data
        return self.kind, self.mode, self.uid, self.gid, tuple(sorted(self.xattrs.items())), nlink, data


class Model:
    """Names, relative to the writer's folder, to inodes."""

    def __init__(self):
        self.names = {"": Inode("d", 0o755)}

    def of(self, kind):
        return sorted(name for name, inode in self.names.items() if inode.kind == kind)

    def below(self, folder):
        return [name for name in self.names if name.startswith(folder + "/")]

    def apply(self, op):
        getattr(self, "do_" + op[0])(*op[1:])

    def do_make(self, name, mode): self.names[name] = Inode("f", mode, bytearray())
    def do_mkdir(self, name, mode): self.names[name] = Inode("d", mode)
    def do_symlink(self, name, target): self.names[name] = Inode("l", 0o777, target)
    def do_fifo(self, name, mode): self.names[name] = Inode("p", mode)
    def do_link(self, old, new): self.names[new] = self.names[old]
    def do_unlink(self, name): del self.names[name]
    def do_rmdir(self, name): del self.names[name]
    def do_chmod(self, name, mode): self.names[name].mode = mode
    def do_chown(self, name, uid, gid): self.names[name].uid, self.names[name].gid = uid, gid
    def do_setx(self, name, key, value): self.names[name].xattrs[key] = value
    def do_removex(self, name, key): del self.names[name].xattrs[key]
    def do_utime(self, name, ns): pass
    def do_fsync(self, name): pass
    def do_fsyncdir(self, name): pass

    def move(self, old, new):
        return {new + name[len(old):]: self.names.pop(name) for name in [old, *self.below(old)]}

    def do_rename(self, old, new):
        moved = self.move(old, new)
        for name in [new, *self.below(new)]:
            self.names.pop(name, None)
        self.names.update(moved)

    def do_exchange(self, a, b):
        moved = self.move(a, b) | self.move(b, a)
        self.names.update(moved)

    def do_write(self, name, offset, seed, size, *_):
        data = self.names[name].data
        if len(data) < offset:
            data.extend(bytes(offset - len(data)))
        data[offset:offset + size] = payload(seed, size)
    do_append = do_bigwrite = do_map = do_write

    def do_truncate(self, name, size):
        data = self.names[name].data
        if size < len(data):
            del data[size:]
        else:
            data.extend(bytes(size - len(data)))
    do_grow = do_truncate

    def do_punch(self, name, offset, size):
        data = self.names[name].data
        end = min(len(data), offset + size)
        if offset < end:
            data[offset:end] = bytes(end - offset)

    def do_zero(self, name, offset, size):
        data = self.names[name].data
        if len(data) < offset + size:
            data.extend(bytes(offset + size - len(data)))
        data[offset:offset + size] = bytes(size)

    def do_copy(self, source, at, target, offset, size):
        piece = self.names[source].data[at:at + size]
        if not piece:
            return
        data = self.names[target].data
        if len(data) < offset:
            data.extend(bytes(offset - len(data)))
        data[offset:offset + len(piece)] = piece

    def facts(self):
        count = {}
        for inode in self.names.values():
            count[id(inode)] = count.get(id(inode), 0) + 1
        return {name: inode.facts(count[id(inode)] if inode.kind != "d" else 0) for name, inode in self.names.items()}


def payload(seed, size):
    block = random.Random(seed).randbytes(min(size, PAGE))
    return (block * (size // PAGE + 1))[:size]


class Chooser:
    """The next operation for what is there. Equal seeds and models give equal operations."""

    def __init__(self, seed, load):
        self.random = random.Random(f"{seed} {load}")
        weights = LOADS[load]
        self.kinds, self.weights = list(weights), list(weights.values())
        self.count = 0

    def next(self, model):
        while True:
            self.count += 1
            kind = self.random.choices(self.kinds, self.weights)[0]
            op = getattr(self, "pick_" + kind)(model)
            if op:
                return (kind, *op)

    def fresh(self, model):
        if len(model.names) >= NAMES_MAX:
            return None
        folder = self.random.choice(model.of("d"))
        name = f"n{self.count}" + self.random.choice(["", " b", "\n", "ü"])
        path = f"{folder}/{name}" if folder else name
        return None if path in model.names else path

    def one(self, model, kind):
        names = [name for name in model.of(kind) if name]
        return self.random.choice(names) if names else None

    def any(self, model):
        names = sorted(name for name in model.names if name)
        return self.random.choice(names) if names else None

    def file(self, model):
        return self.one(model, "f")

    def mode(self):
        return self.random.choice([0o644, 0o600, 0o755, 0o444, 0o000])

    def pick_make(self, model):
        name = self.fresh(model)
        return name and (name, self.mode())

    pick_mkdir = pick_fifo = pick_make

    def pick_symlink(self, model):
        name = self.fresh(model)
        return name and (name, "to/" + "x" * self.random.randrange(200))

    def pick_link(self, model):
        old, new = self.file(model), self.fresh(model)
        return old and new and (old, new)

    def pick_unlink(self, model):
        name = self.one(model, self.random.choice("fflp"))
        return name and (name,)

    def pick_rmdir(self, model):
        empty = [name for name in model.of("d") if name and not model.below(name)]
        return (self.random.choice(empty),) if empty else None

    def pick_rename(self, model):
        old = self.any(model)
        new = self.any(model) if self.random.random() < 0.4 else self.fresh(model)
        if not old or not new or old == new or new.startswith(old + "/") or old.startswith(new + "/"):
            return None
        a, b = model.names[old], model.names.get(new)
        if b is not None and (a is b or (a.kind == "d") != (b.kind == "d") or (b.kind == "d" and model.below(new))):
            return None
        return old, new

    def pick_exchange(self, model):
        a, b = self.any(model), self.any(model)
        if not a or not b or model.names[a] is model.names[b] or (a + "/").startswith(b + "/") or (b + "/").startswith(a + "/"):
            return None
        return a, b

    def pick_chmod(self, model):
        name = self.one(model, self.random.choice("ffd"))
        return name and (name, self.mode())

    def pick_chown(self, model):
        name = self.any(model)
        return name and (name, self.random.randrange(3), self.random.randrange(3))

    def pick_setx(self, model):
        name = self.one(model, self.random.choice("fd"))
        return name and (name, f"user.x{self.random.randrange(3)}", self.random.randbytes(self.random.choice([1, 30, 1000])))

    def pick_removex(self, model):
        name = self.one(model, self.random.choice("fd"))
        return name and model.names[name].xattrs and (name, sorted(model.names[name].xattrs)[0])

    def pick_utime(self, model):
        name = self.any(model)
        return name and (name, self.random.randrange(1 << 60))

    def pick_fsync(self, model):
        name = self.file(model)
        return name and (name,)

    def pick_fsyncdir(self, model):
        return (self.random.choice(model.of("d")),)

    def range(self, model, size_max):
        name = self.file(model)
        if not name:
            return None
        have = len(model.names[name].data)
        offset = self.random.randrange(min(have + 1, FILE_MAX - size_max))
        return name, offset, self.random.randrange(1, size_max)

    def pick_write(self, model):
        found = self.range(model, 5000)
        return found and (found[0], found[1], self.random.getrandbits(40), found[2])

    def pick_append(self, model):
        name = self.file(model)
        if not name or len(model.names[name].data) > 400_000:
            return None
        return name, len(model.names[name].data), self.random.getrandbits(40), self.random.randrange(1, 300)

    def pick_bigwrite(self, model):
        found = self.range(model, 1 << 20)
        return found and (found[0], found[1] & ~0xfff, self.random.getrandbits(40), found[2])

    def pick_map(self, model):
        name = self.file(model)
        have = len(model.names[name].data) if name else 0
        if have < 2:
            return None
        offset = self.random.randrange(have - 1)
        return name, offset, self.random.getrandbits(40), self.random.randrange(1, min(200_000, have - offset) + 1)

    def pick_truncate(self, model):
        name = self.file(model)
        return name and (name, self.random.randrange(len(model.names[name].data) + 20_000) if self.random.random() < 0.8 else 0)

    def pick_grow(self, model):
        name = self.file(model)
        return name and (name, min(FILE_MAX, len(model.names[name].data) + self.random.randrange(300_000)))

    def pick_punch(self, model):
        found = self.range(model, 300_000)
        return found and (found[0], found[1], found[2])

    pick_zero = pick_punch

    def pick_copy(self, model):
        found, target = self.range(model, 500_000), self.file(model)
        if not found or model.names[target] is model.names[found[0]]:
            return None
        return found[0], found[1], target, self.random.randrange(FILE_MAX - 500_000), found[2]


# ---- The same, on a real folder

class Performer:
    def __init__(self, folder):
        self.folder = folder

    def path(self, name):
        return os.fsencode(f"{self.folder}/{name}" if name else self.folder)

    def apply(self, op):
        getattr(self, "do_" + op[0])(*op[1:])

    def open(self, name, flags=os.O_RDWR):
        return os.open(self.path(name), flags)

    def do_make(self, name, mode): os.close(os.open(self.path(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    def do_mkdir(self, name, mode): os.mkdir(self.path(name), mode)
    def do_symlink(self, name, target): os.symlink(target, self.path(name))
    def do_fifo(self, name, mode): os.mkfifo(self.path(name), mode)
    def do_link(self, old, new): os.link(self.path(old), self.path(new))
    def do_unlink(self, name): os.unlink(self.path(name))
    def do_rmdir(self, name): os.rmdir(self.path(name))
    def do_rename(self, old, new): os.rename(self.path(old), self.path(new))
    def do_exchange(self, a, b): fail(libc.renameat2(-100, self.path(a), -100, self.path(b), EXCHANGE))
    def do_chmod(self, name, mode): os.chmod(self.path(name), mode)
    def do_chown(self, name, uid, gid): os.chown(self.path(name), uid, gid, follow_symlinks=False)
    def do_setx(self, name, key, value): os.setxattr(self.path(name), key, value)
    def do_removex(self, name, key): os.removexattr(self.path(name), key)
    def do_utime(self, name, ns): os.utime(self.path(name), ns=(ns, ns), follow_symlinks=False)
    def do_truncate(self, name, size): os.truncate(self.path(name), size)
    do_grow = do_truncate

    def do_fsync(self, name):
        with Opened(self, name) as fd:
            os.fsync(fd)

    def do_fsyncdir(self, name):
        with Opened(self, name, os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.fsync(fd)

    def do_write(self, name, offset, seed, size):
        with Opened(self, name) as fd:
            data = memoryview(payload(seed, size))
            while data:
                written = os.pwrite(fd, data, offset)
                data, offset = data[written:], offset + written
    do_append = do_bigwrite = do_write

    def do_map(self, name, offset, seed, size):
        with Opened(self, name) as fd:
            with mmap.mmap(fd, 0) as memory:
                memory[offset:offset + size] = payload(seed, size)
                memory.flush()

    def do_punch(self, name, offset, size):
        with Opened(self, name) as fd:
            fail(libc.fallocate(fd, PUNCH | KEEP_SIZE, offset, size))

    def do_zero(self, name, offset, size):
        with Opened(self, name) as fd:
            fail(libc.fallocate(fd, ZERO, offset, size))

    def do_copy(self, source, at, target, offset, size):
        with Opened(self, source, os.O_RDONLY) as one, Opened(self, target) as other:
            while size > 0:
                done = os.copy_file_range(one, other, size, at, offset)
                if done == 0:
                    return
                size, at, offset = size - done, at + done, offset + done


class Opened:
    def __init__(self, performer, name, flags=os.O_RDWR):
        self.fd = performer.open(name, flags)

    def __enter__(self):
        return self.fd

    def __exit__(self, *_):
        os.close(self.fd)


def fail(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# ---- Writers

BEGUN, DONE, FIRST_DONE, LAST_BEGUN, STATE, ERRNO, FAILED_AT, RETRIES = range(8)
RUNNING, ENDED, BROKEN = 0, 1, 2
RETRY = {errno.ENOSPC}


class Writer:
    """One process below one folder. `model` is what is there when it starts."""

    def __init__(self, number, seed, load, name, model):
        self.number, self.seed, self.load, self.name, self.model = number, seed, load, name, model
        self.shared = memoryview(mmap.mmap(-1, 4096)).cast("Q")
        self.pid, self.node, self.replayed, self.chooser = None, None, 0, Chooser(seed, load)
        self.pending = None

    def run(self, root):
        """In the forked child. Ends with the first error other than a full disk, or when it is killed."""
        shared, performer, model = self.shared, Performer(f"{root}/{self.name}"), self.model
        chooser = Chooser(self.seed, self.load)
        os.umask(0)
        while True:
            op = chooser.next(model)
            shared[BEGUN] += 1
            at = time.monotonic_ns()
            while True:
                try:
                    performer.apply(op)
                    break
                except OSError as error:
                    if error.errno not in RETRY:
                        shared[ERRNO], shared[FAILED_AT], shared[STATE] = error.errno, time.monotonic_ns(), BROKEN
                        os._exit(0)
                    shared[RETRIES] += 1
                    time.sleep(0.003)
                    at = time.monotonic_ns()
            shared[FIRST_DONE] = shared[FIRST_DONE] or time.monotonic_ns()
            shared[LAST_BEGUN] = at
            shared[DONE] += 1
            model.apply(op)
            if shared[DONE] > UNHURRIED_AFTER:
                time.sleep(0.002)

    def replay(self):
        """Brings the model to what was acknowledged; `pending` is what was begun and not."""
        while self.replayed < self.shared[DONE]:
            self.model.apply(self.chooser.next(self.model))
            self.replayed += 1
        self.pending = None
        if self.shared[BEGUN] > self.shared[DONE]:
            state = self.chooser.random.getstate(), self.chooser.count
            self.pending = self.chooser.next(self.model)
            self.chooser.random.setstate(state[0])
            self.chooser.count = state[1]


# ---- What is there

def read_model(folder):
    """The tree below `folder` as a model."""
    model, seen = Model(), {}
    for path, folders, files in os.walk(os.fsencode(folder)):
        for entry in [None, *folders, *files]:
            full = path if entry is None else os.path.join(path, entry)
            name = os.fsdecode(os.path.relpath(full, os.fsencode(folder)))
            info = os.lstat(full)
            key = info.st_ino
            if key not in seen:
                seen[key] = read_inode(full, info)
            model.names["" if name == "." else name] = seen[key]
    return model


def read_inode(path, info):
    kind = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p"}.get(stat.S_IFMT(info.st_mode), "?")
    inode = Inode(kind, stat.S_IMODE(info.st_mode))
    inode.uid, inode.gid = info.st_uid, info.st_gid
    if kind in "fd":
        inode.xattrs = {key: os.getxattr(path, key) for key in os.listxattr(path) if key.startswith("user.")}
    if kind == "f":
        with open(path, "rb") as file:
            inode.data = bytearray(file.read())
    elif kind == "l":
        inode.data = os.fsdecode(os.readlink(path))
    return inode


def compare(found, model, pending):
    """What is wrong with a tree, in words; empty when it is the model's, or that with (part of) the pending operation."""
    have, want = found.facts(), model.facts()
    if have == want:
        return []
    if pending is None:
        return words(found, model, have, want)
    done = copy.deepcopy(model)
    done.apply(pending)
    after = done.facts()
    if have == after or (pending[0] in DATA_OPS and partly_done(found, have, model, want, done, pending)):
        return []
    return [f"(pending: {pending[:3]})", *words(found, done, have, after)]


def partly_done(found, have, model, want, done, pending):
    target = done.names[pending[3] if pending[0] == "copy" else pending[1]]
    touched = {name for name, inode in done.names.items() if inode is target}
    others = [{name: fact for name, fact in facts.items() if name not in touched} for facts in (have, want)]
    return others[0] == others[1] and all(
        name in found.names and have[name][:6] == want[name][:6] and
        partly(found.names[name].data, model.names[name].data, target.data) for name in touched)


def partly(have, old, new):
    """Each block is the old or the new one."""
    if not min(len(old), len(new)) <= len(have) <= max(len(old), len(new)):
        return False
    size = max(len(old), len(new))
    old, new = bytes(old).ljust(size, b"\0"), bytes(new).ljust(size, b"\0")
    return all(bytes(have[at:at + PAGE]) in (old[at:at + PAGE][:len(have) - at], new[at:at + PAGE][:len(have) - at])
               for at in range(0, len(have), PAGE))


def words(found, model, have, want):
    lines = []
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            lines.append(f"{name!r}: is {have.get(name)}, should be {want.get(name)}")
            if name in have and name in want and have[name][0] == want[name][0] == "f":
                a, b = found.names[name].data, model.names[name].data
                at = [i for i in range(0, max(len(a), len(b)), PAGE) if a[i:i + PAGE] != b[i:i + PAGE]]
                lines.append(f"    sizes {len(a)} and {len(b)}, blocks of 4 KiB that differ: {at[:8]}{'...' if at[8:] else ''}")
    return lines[:12]
