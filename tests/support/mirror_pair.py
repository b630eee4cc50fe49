# SPDX-License-Identifier: Apache-2.0
"""Two stead-fs without stead-host: this program plays the plugin, the bus between the nodes and the witness, so that a
fault can be placed within a millisecond and a whole life of a mirror takes a second. What a node does is what the plugin
does (plugins/mirror): it mounts when it serves, ends the application when it does not, and starts again what died.

    pair = Pair(Namespaces(), "name", program)
    pair.start(0); pair.start(1); pair.command(0, "prim"); pair.command(1, "second")
    pair.wait("in sync", lambda: pair.in_sync())

One thread owns a Pair; it must call wait() or pump() for anything to happen. A second one renews the leases."""
import fcntl
import json
import mmap
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from lab import sh
from mirror_spaces import libc

LEASE, TAKEOVER = 0.40, 0.60   # the bus: who is unheard for TAKEOVER is silent; until LEASE a node may answer
RENEW_EVERY = 0.02
WITNESS_LIMIT = 0.3
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
SO_SNDBUFFORCE = 32
ASIDE = "_For_SafeKit_Replication"


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Node:
    """One side: its stead-fs and what the plugin knows of it."""

    def __init__(self, number):
        self.number = number
        self.pid = self.channel = None
        self.lease = None            # memory map of the page
        self.promised = 0
        self.ready = self.mounted = self.mounting = False
        self.roles = 0               # how often the role changed
        self.peer_present = self.excluded = False
        self.role, self.reason, self.epoch = "none", "", 0
        self.status, self.replies, self.died = {}, {}, 0
        self.restart_at = None       # monotonic; None: not to be started
        self.frozen = self.stopped = self.leaving = self.stays_away = False
        self.ended = None            # exit code of a stead-fs that ended by itself

    def serving(self):
        return self.role in ("prim", "alone")


class Pair:
    def __init__(self, spaces, name, program, witness=True, **settings):
        self.spaces, self.name, self.program, self.witness = spaces, name, program, witness
        self.place = f"/srv/{name}/data"
        self.nodes = [Node(0), Node(1)]
        self.settings = settings
        self.restart_after = 0.03
        self.hears = [True, True]          # does node i hear the other on the bus?
        self.to_witness = [True, True]
        self.vip_seen = True               # would a probe for the virtual address reach the other node?
        self.holder = (0, -1)              # of the witness: counter, node
        self.asked = []                    # (due, node, ticket, answer)
        self.trace = []
        self.app_start = self.app_end = lambda node: None
        self.next_id = 0
        self.last_renewed = 0.0
        self.joined = False
        self.page_lock = threading.Lock()
        self.began = time.monotonic()
        for node in (0, 1):
            (self.disk(node) / "data").mkdir(parents=True, exist_ok=True)
        self.over = threading.Event()
        self.renewer = threading.Thread(target=self.renew, daemon=True)
        self.renewer.start()

    def environment(self):
        """Of each stead-fs."""
        return dict(os.environ)

    def disk(self, node):
        return self.spaces.disks[node] / self.name

    def data(self, node):
        """Where the replicated files are, seen from outside."""
        aside = self.disk(node) / ("data" + ASIDE) / "data"
        place = self.disk(node) / "data"
        return aside if aside.is_dir() and not any(place.iterdir()) else place

    def log(self, text):
        self.trace.append(f"{time.monotonic() - self.began:7.3f} {text}")

    # ---- processes

    def start(self, number):
        node = self.nodes[number]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20)
        page = os.memfd_create("lease")
        os.ftruncate(page, 4096)
        lease = memoryview(mmap.mmap(page, 4096)).cast("Q")
        pid = os.fork()
        if pid == 0:
            try:
                self.spaces.enter(number)
                high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 1000) for fd in (theirs.fileno(), page)]  # above all of ours
                for want, fd in zip((3, 4), high):
                    os.dup2(fd, want)
                err = os.open(f"/srv/{self.name}/stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(err, 2)
                os.closerange(5, 1100)
                os.execve(self.program, [self.program, "test"], self.environment())
            finally:
                os._exit(126)
        theirs.close()
        os.close(page)
        ours.setblocking(False)
        with self.page_lock:
            node.lease, node.promised = lease, 0
        node.pid, node.channel, node.ended, node.restart_at = pid, ours, None, None
        node.ready = node.mounted = node.mounting = node.peer_present = node.excluded = False
        node.role, node.reason, node.status, node.replies = "none", "", {}, {}
        node.frozen = node.stopped = node.leaving = node.stays_away = False
        self.log(f"{number}: started, pid {pid}")
        self.send(number, {"do": "start", "module": "test", "node": number, "state_folder": f"/srv/{self.name}/var",
                           "directories": [{"path": self.place, "hidden_suffix": ASIDE}], "ack": 2,
                           "witness": self.witness, "probe_vip": not self.witness, "failover": True, "acl": True,
                           "local_address": self.spaces.address(number), "port": 5600, "keys": ["5a" * 32],
                           "slow_peer_ns": 600_000_000, "checkpoint_every_ns": 400_000_000, "readers": 6,
                           **self.settings})
        self.join()

    def kill(self, number, restart=True):
        """kill -9; the death is noticed, and told, as the pidfd would."""
        node = self.nodes[number]
        if node.pid:
            self.log(f"{number}: killed")
            os.kill(node.pid, signal.SIGKILL)
            self.reap(number, os.waitpid(node.pid, 0)[1], restart)

    def reap(self, number, status, restart=True):
        node = self.nodes[number]
        code = os.waitstatus_to_exitcode(status)
        self.read(number)
        self.log(f"{number}: ended, {code}")
        node.pid, node.died = None, node.died + 1
        node.channel.close()
        node.role, node.ended = "none", code
        node.ready = node.mounted = node.mounting = False
        node.replies = {}
        self.app_end(number)
        self.unmount_place(number)
        node.restart_at = time.monotonic() + self.restart_after if restart and not node.stays_away else None
        self.part(number)

    def unmount_place(self, number):
        def work():
            place = self.place.encode()
            while libc.umount2(place, MNT_DETACH | UMOUNT_NOFOLLOW) == 0:
                pass
        self.spaces.run(number, work)

    def pause(self, number, whole_node):
        node = self.nodes[number]
        if node.pid:
            os.kill(node.pid, signal.SIGSTOP)
            node.stopped, node.frozen = True, whole_node
            self.join()

    def resume(self, number):
        node = self.nodes[number]
        if not node.stopped:
            return
        was_frozen, node.frozen, node.stopped = node.frozen, False, False
        os.kill(node.pid, signal.SIGCONT)
        other = self.nodes[1 - number]
        if was_frozen and node.peer_present and not other.peer_present:
            node.peer_present, node.excluded = False, True
            self.send(number, {"do": "peer", "how": "excluded", "node": 1 - number, "address": ""})
        self.join()

    # ---- the bus: heartbeats as a rule, and not as packets

    def alive(self, number):
        """Does this node's host beat?"""
        node = self.nodes[number]
        return node.pid is not None and not node.frozen

    def renew(self):
        while not self.over.wait(RENEW_EVERY):
            with self.page_lock:
                if self.joined:
                    self.last_renewed = time.monotonic()
                    for node in self.nodes:
                        self.write_lease(node)

    def write_lease(self, node):
        if node.lease is not None:
            now = now_ns()
            if node.promised < now:
                node.lease[1] += 1
            node.promised = now + int(LEASE * 1e9)
            node.lease[0] = node.promised

    def join(self):
        """After anything that changes who hears whom."""
        together = all(self.hears) and all(self.alive(i) for i in (0, 1))
        with self.page_lock:
            if together and not self.joined:
                self.last_renewed = time.monotonic()
                for node in self.nodes:
                    self.write_lease(node)
            self.joined = together
        if together:
            for number, node in enumerate(self.nodes):
                if node.ready and not node.peer_present:
                    node.peer_present = True
                    self.tell_peer(number, "back")

    def part(self, number):
        """The end of a process is told by its node's steadd."""
        other = self.nodes[1 - number]
        with self.page_lock:
            self.joined = False
        if self.hears[1 - number] and other.pid and other.peer_present and not other.frozen:
            other.peer_present = False
            self.tell_peer(1 - number, "died")

    def fall_silent(self):
        if self.joined or time.monotonic() < self.last_renewed + TAKEOVER:
            return
        for number, node in enumerate(self.nodes):
            if node.peer_present and node.pid and not node.frozen:
                node.peer_present = False
                self.tell_peer(number, "silent")

    def tell_peer(self, number, how):
        if self.nodes[number].ready:
            self.log(f"{number}: peer {how}")
            self.send(number, {"do": "peer", "how": how, "node": 1 - number, "address": self.spaces.address(1 - number)})

    def cut_bus(self, deaf):
        self.hears = [self.hears[i] and i not in deaf for i in (0, 1)]
        self.join()

    def mend_bus(self):
        self.hears = [True, True]
        self.to_witness = [True, True]
        self.vip_seen = True
        self.join()

    # ---- the stream's network

    def shell(self, command):
        """Time goes on meanwhile."""
        running = subprocess.Popen(["sh", "-c", command])
        while running.poll() is None:
            self.turn(0.002)
        if running.returncode != 0:
            raise RuntimeError(f"{command}: exit {running.returncode}")

    def cut_link(self):
        self.shell("ip link set p1 nomaster")

    def cut_one_way(self, deaf):
        self.shell(self.spaces.filter(deaf, "drop"))

    def reset_link(self, at):
        """Whatever comes here is answered by a reset, for a moment."""
        self.shell(self.spaces.filter(at, "meta l4proto tcp reject with tcp reset"))

    def mend_link(self):
        self.shell(self.spaces.mend())

    # ---- the channel

    def send(self, number, message):
        node = self.nodes[number]
        if node.pid:
            try:
                node.channel.send(json.dumps(message).encode())
            except (BrokenPipeError, ConnectionResetError, BlockingIOError) as error:
                self.log(f"{number}: channel: {error}")

    def ask(self, number, message, reply=lambda ok, text: None):
        self.next_id += 1
        self.nodes[number].replies[self.next_id] = reply
        self.send(number, {**message, "id": self.next_id})

    def command(self, number, name, reply=lambda ok, text: None):
        self.log(f"{number}: command {name}")

        def told(ok, text):
            self.log(f"{number}: {name}: {'done' if ok else 'refused'}: {text}")
            reply(ok, text)
        self.ask(number, {"do": "command", "name": name}, told)

    def read(self, number):
        node = self.nodes[number]
        while True:
            try:
                datagram = node.channel.recv(256 * 1024)
            except (BlockingIOError, ConnectionResetError, OSError):
                return
            if not datagram:
                return
            self.said(number, json.loads(datagram))

    def said(self, number, message):
        node, what = self.nodes[number], message["say"]
        if what == "ready":
            node.ready = True
            self.join()
        elif what == "status":
            node.status = message
        elif what == "role":
            self.log(f"{number}: role {message['role']}: {message['reason']} (epoch {message['epoch'] >> 8})")
            node.role, node.reason, node.epoch = message["role"], message["reason"], message["epoch"]
            node.roles += 1
            self.lead(number)
        elif what == "bus":
            other = self.nodes[1 - number]
            if self.hears[1 - number] and other.ready and not other.frozen and other.peer_present:
                self.send(1 - number, {"do": "bus", "bytes": message["bytes"]})
        elif what == "done":
            node.replies.pop(message["id"], lambda ok, text: None)(message["ok"], message["text"])
        elif what in ("ask_witness", "probe_vip"):
            self.answer_later(number, message)
        elif what in ("note", "failed", "ended", "stopped"):
            self.log(f"{number}: {what} {message.get('text', '')}")

    def lead(self, number):
        """PREPARE and RELEASE."""
        node = self.nodes[number]
        if node.serving() and not node.mounted and not node.mounting and not node.leaving:
            node.mounting, asked = True, node.roles

            def mounted(ok, text):
                node.mounting = False
                if node.roles != asked and not ok:  # it served, did not, and serves again
                    return self.lead(number)
                if ok and node.serving() and not node.leaving:
                    node.mounted = True
                    self.app_start(number)
                elif node.serving() and not node.leaving:
                    raise AssertionError(f"node {number} serves and cannot mount: {text}")
            self.ask(number, {"do": "mount"}, mounted)
        elif node.role == "waiting":
            self.app_end(number)
            node.mounted = False
            self.ask(number, {"do": "unmount", "force": True})

    def swap(self, number, reply=lambda ok, text: None):
        """The application ends, the file system goes, then the role."""
        node = self.nodes[number]
        self.app_end(number)

        def unmounted(ok, text):
            if not ok:
                raise AssertionError(f"unmount before the swap: {text}")
            node.mounted = False
            self.command(number, "swap", swapped)

        def swapped(ok, text):
            if not ok:
                self.lead(number)  # it goes on serving
            reply(ok, text)
        self.ask(number, {"do": "unmount", "force": False}, unmounted)

    def stop(self, number, reply=lambda ok, text: None):
        """As the plugin stops a node: application, file system, then stead-fs, which ends by itself."""
        self.nodes[number].leaving = True
        self.app_end(number)

        def unmounted(ok, text):
            self.nodes[number].mounted = False
            self.command(number, "stop", reply)
        self.ask(number, {"do": "unmount", "force": False}, unmounted)

    # ---- the witness

    def answer_later(self, number, message):
        node, other = self.nodes[number], self.nodes[1 - number]
        answer = {"do": "answer", "ticket": message["ticket"], "yes": False, "unanswered": False}
        due = time.monotonic() + 0.005
        if message["say"] == "probe_vip":
            answer["yes"] = self.vip_seen and other.mounted and other.pid is not None
        elif not self.to_witness[number]:
            answer["unanswered"], due = True, time.monotonic() + WITNESS_LIMIT
        else:
            asked = (message["counter"], message["holder"])
            if asked[0] > self.holder[0] or asked == self.holder:
                self.holder, answer["yes"] = asked, True
        self.log(f"{number}: {message['say']} -> {'unanswered' if answer['unanswered'] else answer['yes']}")
        self.asked.append((due, node.pid, number, answer))

    # ---- time

    def turn(self, wait):
        fds = {node.channel.fileno(): i for i, node in enumerate(self.nodes) if node.pid}
        for fd in select.select(list(fds), [], [], wait)[0]:
            self.read(fds[fd])
        for i, node in enumerate(self.nodes):
            if node.pid:
                pid, status = os.waitpid(node.pid, os.WNOHANG)
                if pid:
                    self.reap(i, status)
        at = time.monotonic()
        for due in [one for one in self.asked if one[0] <= at]:
            self.asked.remove(due)
            if self.nodes[due[2]].pid == due[1] and not self.nodes[due[2]].frozen:
                self.send(due[2], due[3])
        self.fall_silent()
        for i, node in enumerate(self.nodes):
            if node.pid is None and node.restart_at is not None and at >= node.restart_at:
                self.start(i)

    def pump(self, seconds):
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if left <= 0:
                return
            self.turn(min(left, 0.01))

    def wait(self, what, condition, timeout=15.0):
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {timeout} s")
            self.turn(0.005)

    def prim(self):
        """The number of the one node that serves in sync with the other; None: there is none."""
        for i, node in enumerate(self.nodes):
            other = self.nodes[1 - i]
            if (node.role == "prim" and node.mounted and node.status.get("equal") and node.status.get("phase") == "equal"
                    and other.role == "second" and other.status.get("eligible") and not node.status.get("deciding")):
                return i
        return None

    def in_sync(self):
        return self.prim() is not None

    def close(self):
        """Whatever state it is in. The files stay for who wants to look; drop() removes them."""
        self.over.set()
        self.renewer.join()
        for i, node in enumerate(self.nodes):
            self.app_end(i)
            if node.pid:
                os.kill(node.pid, signal.SIGKILL)
                os.waitpid(node.pid, 0)
                node.pid = None
                node.channel.close()
            self.unmount_place(i)

    def drop(self):
        for i in (0, 1):
            for path in [self.disk(i) / "data", self.disk(i) / ("data" + ASIDE)]:
                sh(f"chattr -i {path}", check=False)
            shutil.rmtree(self.disk(i))


def flip(path, offset):
    """One bit of a file, as a bad disk does."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(struct.pack("B", (byte[0] if byte else 0) ^ 0x10))
