# SPDX-License-Identifier: Apache-2.0
"""The application of a pair of nodes: writers with a ledger on whichever node serves, and what must be true of them."""
import os
import signal
import stat
import sys

from mirror_compare import compare, read_model
from mirror_ledger import BROKEN, DONE, ERRNO, FIRST_DONE, LAST_BEGUN, STATE, Model, Writer


class Application:
    """Its writers, on whichever node serves."""

    def __init__(self, pair, load, seed):
        self.pair, self.load, self.seed = pair, load, seed
        self.folders = {}       # name -> the last writer there
        self.history = []       # all writers, in the order in which they began
        self.enabled = True
        self.problems = []
        self.split_possible = False
        pair.app_start, pair.app_end = self.start, self.end

    def start(self, node):
        """On a node that has just mounted: what was acknowledged must be there; then it goes on."""
        if not self.enabled:
            return
        for name, load in (("one", self.load), ("two", "small")):
            before = self.folders.get(name)
            folder = self.pair.data(node) / name
            if before is None:
                if not self.make(node, name):
                    return  # the role was lost again at once; else nothing runs, and the cell fails
                model = Model()
            else:
                model = read_model(folder)
                if not (self.split_possible and before.pid and before.node != node):  # else both go on, each with its own
                    self.check(before, model, f"at the start on node {node}")
            writer = Writer(len(self.history), f"{self.seed}.{len(self.history)}", load, name, model)
            writer.node = node
            self.folders[name] = writer
            self.history.append(writer)
            self.fork(node, writer)

    def make(self, node, name):
        def work():
            os.umask(0)
            os.mkdir(f"{self.pair.place}/{name}", 0o755)
        code = self.pair.spaces.run(node, work)
        self.pair.log(f"{node}: mkdir {name}: exit {code}")
        return code == 0

    def fork(self, node, writer):
        pid = os.fork()
        if pid == 0:
            try:
                self.pair.spaces.enter(node)
                writer.run(self.pair.place)
            except BaseException as error:  # noqa: BLE001  (told, not lost)
                print(f"writer: {error!r}", file=sys.stderr, flush=True)
            finally:
                os._exit(3)
        writer.pid = pid

    def end(self, node):
        for writer in self.history:
            if writer.node == node and writer.pid:
                os.kill(writer.pid, signal.SIGKILL)
                status = os.waitstatus_to_exitcode(os.waitpid(writer.pid, 0)[1])
                writer.pid = None
                if status not in (0, -signal.SIGKILL) and not (status == -signal.SIGBUS and writer.load == "mmap"):
                    self.problems.append(f"writer {writer.number} ended with {status}")
                self.pair.log(f"writer {writer.number} on node {node}: {writer.shared[DONE]} done"
                              + (f", error {os.strerror(writer.shared[ERRNO])}" if writer.shared[STATE] == BROKEN else ""))

    def pause(self, node, stopped):
        for writer in self.history:
            if writer.node == node and writer.pid:
                os.kill(writer.pid, signal.SIGSTOP if stopped else signal.SIGCONT)

    def check(self, writer, found, when):
        writer.replay()
        for line in compare(found, writer.model, writer.pending):
            self.problems.append(f"{when}: {writer.name} ({writer.load}), writer {writer.number}: {line}")

    def unexpected_errors(self):
        """Of writers that still run: whose node serves, must not see any."""
        return [f"writer {writer.number} on node {writer.node}: {self.error_of(writer)}"
                for writer in self.history if writer.pid and self.error_of(writer) and self.pair.nodes[writer.node].serving()]

    @staticmethod
    def error_of(writer):
        """A page of a mapping that could not be read is told by a signal."""
        if writer.shared[STATE] == BROKEN:
            return os.strerror(writer.shared[ERRNO])
        ended = os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return "bus error" if ended and ended.si_status == signal.SIGBUS else ""

    def two_at_a_time(self):
        found = []
        for i, old in enumerate(self.history):
            for new in self.history[i + 1:]:
                late = old.shared[LAST_BEGUN] - new.shared[FIRST_DONE]
                if old.node != new.node and new.shared[FIRST_DONE] and late > 0:
                    found.append(f"writer {old.number} on node {old.node} was answered {late / 1e6:.1f} ms after writer "
                                 f"{new.number} on node {new.node}")
        return found

    def acknowledged(self):
        return sum(writer.shared[DONE] for writer in self.history)


def tree(folder):
    """Everything that both copies have in common."""
    found, inodes = {}, {}
    for path, folders, files in os.walk(os.fsencode(folder)):
        for entry in [None, *folders, *files]:
            full = path if entry is None else os.path.join(path, entry)
            name = os.path.relpath(full, os.fsencode(folder))
            info = os.lstat(full)
            xattrs = tuple(sorted((key, os.getxattr(full, key, follow_symlinks=False))
                                  for key in os.listxattr(full, follow_symlinks=False) if not key.startswith("trusted.stead")))
            content = ""
            if stat.S_ISREG(info.st_mode):
                with open(full, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(full)
            inodes.setdefault(info.st_ino, []).append(name)
            found[name] = (oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, hash(content), len(content), xattrs)
    return found, sorted(tuple(sorted(names)) for names in inodes.values() if len(names) > 1)
