# SPDX-License-Identifier: Apache-2.0
"""A zoo of files, and every system call on every animal: what the calls say and what they leave behind. The same calls are made
on two folders; nobody says what is right but the file system that is compared with."""
import ctypes
import errno
import os
import pickle
import shutil
import socket
import stat
import struct

A, B = 65534, 4001
GROUPS = list(range(3000, 3064)) + [500]  # of user A: more than fit into a small list
libc = ctypes.CDLL(None, use_errno=True)
libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
libc.truncate.argtypes = [ctypes.c_char_p, ctypes.c_int64]
LONG, TOO_LONG = "l" * 255, "m" * 256
DEEP = "d/" + "./" * 2046 + "f"            # 4095 bytes: the longest path
TOO_DEEP = "d/" + "./" * 2046 + "ff"


def build(root):
    """As root, in an empty folder."""
    os.umask(0)
    os.chdir(root)

    def file(name, owner=A, group=A, mode=0o644, data=b"0123456789" * 10):
        fd = os.open(name, os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(fd, data)
        os.close(fd)
        os.chown(name, owner, group)
        os.chmod(name, mode)

    def folder(name, owner=A, group=A, mode=0o755):
        os.mkdir(name)
        os.chown(name, owner, group)
        os.chmod(name, mode)

    for name in ("d", "d/sub", "n", "n/full", "e", "closed", "ro", "in500"):
        folder(name)
    folder("t", 0, 0, 0o1777)
    folder("t/dir", B, B, 0o777)
    folder("sg", A, 500, 0o2775)
    folder("sgb", A, B, 0o2777)
    for name, owner in (("f", A), ("g", B), ("r", 0), ("d/f", A), ("d/g", B), ("n/full/x", A), ("closed/f", A), ("ro/f", A),
                        ("t/a", A), ("t/b", B), ("sg/f", A), (LONG, A)):
        file(name, owner, owner)
    file("suid", A, A, 0o6777)
    file("suidb", B, 500, 0o6777)
    file("sgid", A, B, 0o2766)
    file("group", B, 500, 0o670)
    file("none0", A, A, 0)
    os.link("f", "hard")
    for name, target in (("s_f", "f"), ("s_d", "d"), ("dang", "missing"), ("loop", "loop"), ("s_g", "d/g"), ("s_ro", "ro/new")):
        os.symlink(target, name)
        os.lchown(name, A, A)
    os.mkfifo("p", 0o666)
    os.mknod("dev", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    one = socket.socket(socket.AF_UNIX)
    one.bind("sock")
    one.close()
    os.setxattr("f", "user.one", b"1")
    os.chmod("closed", 0o600)
    os.chmod("ro", 0o555)
    os.chmod("in500", 0o070)
    os.chown("in500", B, 500)


PATHS = ["f", "g", "r", "hard", "d", "d/sub", "d/f", "d/g", "n", "n/full", "e", "new", "none/x", "f/x", "s_f", "s_d", "s_d/f",
         "s_d/new", "s_g", "s_ro", "dang", "loop", "loop/x", "p", "sock", "dev", "closed/f", "closed/new", "ro/f", "ro/new",
         "in500/new", "t/a", "t/b", "t/dir", "t/new", "sg/f", "sg/new", "sgb/new", "suid", "suidb", "sgid", "group", "none0",
         LONG, TOO_LONG, "d/" + TOO_LONG, DEEP, TOO_DEEP, "", ".", "..", "d/.", "d/..", "d/", "f/", "s_d/", "new/", "dang/",
         "e/", "s_f/"]
PAIRS = ["f", "g", "hard", "d", "d/sub", "d/f", "n", "n/full", "e", "new", "none/x", "f/x", "s_f", "s_d", "dang", "loop/x", "p",
         "closed/f", "ro/f", "ro/new", "t/a", "t/b", "t/dir", "t/new", "sg/new", "suid", TOO_LONG, "", "d/", "new/", "s_d/", "."]
FLAGS = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rwt": os.O_RDWR | os.O_TRUNC, "rt": os.O_RDONLY | os.O_TRUNC,
         "c": os.O_CREAT | os.O_WRONLY, "cx": os.O_CREAT | os.O_EXCL | os.O_WRONLY, "dir": os.O_DIRECTORY,
         "nf": os.O_NOFOLLOW, "cdir": os.O_CREAT | os.O_DIRECTORY, "cnf": os.O_CREAT | os.O_NOFOLLOW | os.O_WRONLY,
         "wdir": os.O_WRONLY | os.O_DIRECTORY, "wa": os.O_WRONLY | os.O_APPEND, "path": os.O_PATH | os.O_NOFOLLOW}
TIMES = {"now": None, "both": (10**18 + 5, 10**18 + 7), "past": (-5 * 10**9, -10**9 + 1)}


def cases():
    """(user, call, arguments)."""
    for user in ("root", "a", "b"):
        for path in PATHS:
            yield from ((user, name, (path, *arguments)) for name, arguments in on_one())
        for old in PAIRS:
            for new in PAIRS:
                yield user, "rename", (old, new)
            for new in ("new", "f", "d", "e", "t/b", "ro/new", "none/x", "f/x", "t/new", "closed/f", TOO_LONG, "", "s_f", "new/"):
                yield user, "link", (old, new, False)
                yield user, "renameat2", (old, new, 1)
                yield user, "renameat2", (old, new, 2)
            yield user, "link", (old, "new", True)
        for name, size in (("user." + "x" * 250, 1), ("user." + "x" * 251, 1), ("user.", 1), ("nonsense", 1), ("user.big", 3000),
                           ("user.huge", 70000), ("security.x", 1), ("user.one", 5)):
            yield user, "setxattr", ("f", name, size, 0)


def on_one():
    for flags in FLAGS:
        yield "open", (flags, 0o640)
    for mode in (0o755, 0o1777, 0, 0o6755):
        yield "mkdir", (mode,)
    for mode in (0o644, 0o4755):
        yield "mkfifo", (mode,)
    for kind in (stat.S_IFCHR, stat.S_IFREG, stat.S_IFSOCK, 0, stat.S_IFDIR):
        yield "mknod", (kind,)
    for target in ("x", "", "y" * 4095, "y" * 4096):
        yield "symlink", (target,)
    for mode in (0, 0o644, 0o4755, 0o2755, 0o6777, 0o1644):
        yield "chmod", (mode,)
    for owner, group in ((-1, -1), (A, -1), (B, -1), (-1, A), (-1, 500), (-1, B), (0, 0), (B, B)):
        yield "chown", (owner, group, True)
        yield "chown", (owner, group, False)
    for size in (0, 5, 100, 123456, -1, 1 << 62):
        yield "truncate", (size,)
    for when in TIMES:
        yield "utime", (when, True)
        yield "utime", (when, False)
    for omit in ("first", "second", "all", "bad"):
        yield "omit", (omit,)
    for mode in (os.R_OK, os.W_OK, os.X_OK):
        yield "access", (mode,)
    for how in (b"x", b""):
        yield "write", (how,)
    for offset, size, keep in ((0, 10, 0), (50, 200, 0), (0, 0, 0), (-1, 10, 0), (0, -1, 0), (200, 50, 1), (0, 50, 3), (0, 50, 16),
                               (1 << 61, 1 << 61, 0)):
        yield "fallocate", (offset, size, keep)
    for flag in (0, 1, 2):
        yield "setxattr", ("user.one", 3, flag)
    yield "setxattr", ("trusted.x", 3, 0)
    yield "removexattr", ("user.one",)
    yield "removexattr", ("user.none",)
    for name in ("rmdir", "unlink", "lstat", "stat", "readlink", "list", "listxattr", "fsync", "chdir", "read_only_truncate",
                 "map", "copy"):
        yield name, ()


def wrong(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


class Opened:
    def __init__(self, path, flags):
        self.fd = os.open(path, flags | os.O_NONBLOCK)

    def __enter__(self):
        return self.fd

    def __exit__(self, *_):
        os.close(self.fd)


def look(info):
    return info.st_mode, info.st_uid, info.st_gid, info.st_nlink if not stat.S_ISDIR(info.st_mode) else 0, \
        info.st_size if stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode) else 0


def call_open(path, flags, mode):
    fd = os.open(path, FLAGS[flags] | os.O_NONBLOCK, mode)
    try:
        return look(os.fstat(fd))
    finally:
        os.close(fd)


def call_mknod(path, kind): os.mknod(path, kind | 0o640, os.makedev(1, 3))
def call_mkdir(path, mode): os.mkdir(path, mode)
def call_mkfifo(path, mode): os.mkfifo(path, mode)
def call_symlink(path, target): os.symlink(target, path)
def call_chmod(path, mode): os.chmod(path, mode)
def call_chown(path, owner, group, follow): os.chown(path, owner, group, follow_symlinks=follow)
def call_truncate(path, size): wrong(libc.truncate(os.fsencode(path), size))
def call_rename(old, new): os.rename(old, new)
def call_renameat2(old, new, flags): wrong(libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags))
def call_link(old, new, follow): os.link(old, new, follow_symlinks=follow)
def call_rmdir(path): os.rmdir(path)
def call_unlink(path): os.unlink(path)
def call_lstat(path): return look(os.lstat(path))
def call_stat(path): return look(os.stat(path))
def call_readlink(path): return os.readlink(path)
def call_list(path): return sorted(os.listdir(path)) if path not in ("..", "d/..") else len(path)
def call_listxattr(path): return sorted(os.listxattr(path))
def call_setxattr(path, name, size, flag): os.setxattr(path, name, b"v" * size, flag)
def call_removexattr(path, name): os.removexattr(path, name)


def call_utime(path, when, follow):
    os.utime(path, ns=TIMES[when], follow_symlinks=follow) if TIMES[when] else os.utime(path, follow_symlinks=follow)


def call_omit(path, which):
    now, omit = (1 << 30) - 1, (1 << 30) - 2
    first = {"first": omit, "second": 5, "all": omit, "bad": 1_000_000_000}[which]
    second = {"first": now, "second": omit, "all": omit, "bad": 0}[which]
    wrong(libc.utimensat(-100, os.fsencode(path), struct.pack("qqqq", 77, first, 78, second), 0))


def call_access(path, mode):
    """With the effective user's rights."""
    if not os.access(path, mode, effective_ids=True):
        os.stat(path)
        return "denied"
    return "granted"


def call_chdir(path):
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path)
    finally:
        os.fchdir(here)
        os.close(here)


def call_write(path, data):
    with Opened(path, os.O_WRONLY) as fd:
        return os.write(fd, data)


def call_fallocate(path, offset, size, mode):
    with Opened(path, os.O_RDWR) as fd:
        wrong(libc.fallocate(fd, mode, offset, size))


def call_fsync(path):
    with Opened(path, os.O_RDONLY) as fd:
        os.fsync(fd)


def call_read_only_truncate(path):
    with Opened(path, os.O_RDONLY) as fd:
        os.ftruncate(fd, 3)


def call_map(path):
    import mmap
    with Opened(path, os.O_RDWR) as fd:
        with mmap.mmap(fd, 10) as memory:
            memory[0:3] = b"map"
            memory.flush()


def call_copy(path):
    with Opened("r", os.O_RDONLY) as source, Opened(path, os.O_WRONLY) as target:
        return os.copy_file_range(source, target, 50, 0, 20)


def perform(name, arguments):
    try:
        return globals()["call_" + name](*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, error.errno)
    except ValueError as error:
        return str(error)


def snapshot(root):
    """All there is, and the times, by path."""
    found, unread = {}, [b""]
    while unread:
        name = unread.pop()
        path = os.path.join(os.fsencode(root), name) if name else os.fsencode(root)
        info = os.lstat(path)
        data = None
        if stat.S_ISREG(info.st_mode):
            with open(path, "rb") as file:
                data = file.read(300_000)
        elif stat.S_ISLNK(info.st_mode):
            data = os.readlink(path)
        elif stat.S_ISDIR(info.st_mode):
            unread += [os.path.join(name, one) for one in os.listdir(path)]
        xattrs = tuple((key, os.getxattr(path, key, follow_symlinks=False))
                       for key in sorted(os.listxattr(path, follow_symlinks=False)) if not key.startswith("trusted.stead"))
        found[name] = ((*look(info), data, xattrs, info.st_rdev, info.st_nlink), (info.st_mtime_ns, info.st_ctime_ns), info.st_ino)
    return found


def changes(before, after):
    """What a call did: what is new, gone or different, and which times of what moved. The times themselves are the clock's."""
    done = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            done[name] = (None if old is None else "gone", new and new[0])
        elif old != new:
            times = "of another inode" if old[2] != new[2] else tuple("later" if b > a else "earlier" if b < a else "" for a, b in zip(old[1], new[1]))
            done[name] = (new[0] if new[0] != old[0] else "same", times)
    return done


class Worker:
    """A process of one user that makes calls in one folder."""

    def __init__(self, enter, root, user):
        self.ask, self.answer = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                enter()
                self.serve(root, user)
            finally:
                os._exit(1)

    def serve(self, root, user):
        os.umask(0o022)
        os.chdir(root)
        if user != "root":
            os.setgroups(GROUPS if user == "a" else [])
            os.setresgid(*[A if user == "a" else B] * 3)
            os.setresuid(*[A if user == "a" else B] * 3)
        while True:
            name, arguments = pickle.loads(receive(self.ask[0]))
            if name == "end":
                os._exit(0)
            transmit(self.answer[1], pickle.dumps(perform(name, arguments)))

    def call(self, name, *arguments):
        transmit(self.ask[1], pickle.dumps((name, arguments)))
        return pickle.loads(receive(self.answer[0])) if name != "end" else None

    def end(self):
        self.call("end")
        os.waitpid(self.pid, 0)


def transmit(fd, data):
    os.write(fd, struct.pack("I", len(data)) + data)


def receive(fd):
    size = struct.unpack("I", os.read(fd, 4))[0]
    data = b""
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return data


def empty(root):
    for name in os.listdir(root):
        path = os.path.join(root, name)
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


class Keeper:
    """Of one zoo: builds it again whenever a call has changed something."""

    def __init__(self, enter, root):
        self.root = root
        empty(root)
        build(root)
        os.chmod(root, 0o777)
        self.workers = {user: Worker(enter, root, user) for user in ("root", "a", "b")}
        self.state = snapshot(root)

    def act(self, user, name, arguments):
        result = self.workers[user].call(name, *arguments)
        after = snapshot(self.root)
        done = changes(self.state, after)
        self.state = after
        return result, done

    def again(self):
        empty(self.root)
        build(self.root)
        os.chmod(self.root, 0o777)
        self.state = snapshot(self.root)

    def end(self):
        for worker in self.workers.values():
            worker.end()
