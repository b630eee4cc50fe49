# SPDX-License-Identifier: Apache-2.0
"""Disks that lose power. Each node's ext4 lies on a loop device on a file that logs every write, discard and flush
(tests/support/blocklog), so that the image that a power cut at any moment could have left is made afterwards: all that was
flushed, and of the rest what chance has it, torn sectors included.

    spaces = PoweredNamespaces(program)       # nothing is plugged in yet
    disk = spaces.fresh(0)                    # an Image, with a new file system
    spaces.plug(0, disk, logged=True)
    at = spaces.cut(0)                        # power is off: what is written now is lost
    spaces.unplug(0)
    again = disk.at(at, seed)                 # another Image

One thread owns all of it."""
import json
import mmap
import os
import random
import struct
import subprocess
import time

from lab import sh
from mirror_spaces import MKFS, Namespaces

WRITE, FLUSH = 1, 3
ENTRY = struct.Struct("<IIQQQ")  # magic, kind, time, offset, length (blocklog.hpp)
DISK_MIB = 192


class Image:
    """An image file and, once it was plugged in `logged`, the log of what happened to a copy of it."""

    def __init__(self, folder, path, program):
        self.folder, self.path, self.program = folder, path, program
        self.log = None
        self.began = self.ended = None   # CLOCK_MONOTONIC ns: plugged in, and without power

    def live(self):
        """The copy that is written to: this one stays as it was."""
        path = self.path.with_suffix(".live")
        sh(f"cp --sparse=always {self.path} {path}")
        self.log = self.path.with_suffix(".log")
        return path

    def at(self, at, seed, name=None):
        """What is left when power goes at that time. seed "all": nothing is lost. Returns the image and the counts."""
        left = self.folder / f"{name or self.path.stem + f'-{at}'}.img"
        if self.log is None or at <= self.began:
            sh(f"cp --sparse=always {self.path} {left}")
            return Image(self.folder, left, self.program), {"flushed": 0, "pending": 0, "kept": 0, "torn": 0}
        told = sh(f"{self.program} replay {self.path} {self.log} {left} {at} {seed}")
        return Image(self.folder, left, self.program), json.loads(told.stdout)

    def moments(self, begin, end):
        """When it was asked for something between those times; the more that was not flushed then, the more often."""
        times, pending = [], 0
        if self.log is not None and self.log.stat().st_size:
            with open(self.log, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as log:
                at = 0
                while at + ENTRY.size <= len(log):
                    _, kind, when, _, length = ENTRY.unpack_from(log, at)
                    at += ENTRY.size + (length if kind == WRITE else 0)
                    pending = 0 if kind == FLUSH else pending + 1
                    if begin <= when < end:
                        times += [when] * min(1 + pending, 30)
        return times

    def drop(self):
        for path in (self.path, self.path.with_suffix(".live"), self.log):
            if path is not None and path.exists():
                path.unlink()


class Plugged:
    def __init__(self, image, device, server, control):
        self.image, self.device, self.server, self.control = image, device, server, control


class PoweredNamespaces(Namespaces):
    def __init__(self, program):
        self.program, self.plugged, self.count = program, [None, None], 0
        super().__init__()
        self.images = self.folder / "images"

    def make_disk(self, image, disk, mib):
        """Later, by plug()."""

    def fresh(self, node):
        self.count += 1
        path = self.images / f"{node}-{self.count}.img"
        sh(f"truncate -s {DISK_MIB}M {path} && {MKFS} -b 4096 {path}")
        return Image(self.images, path, self.program)

    def plug(self, node, image, logged=False):
        """Mounted for the node at /srv, and for us at disks[node]."""
        server = control = None
        file = image.path
        if logged:
            server, control, file = self.serve(image)
        device = sh(f"losetup -f --show {file}").stdout.strip()
        self.plugged[node] = Plugged(image, device, server, control)
        sh(f"mount {device} {self.disks[node]} && nsenter -r --wdns=/ -m -t {self.holders[node].pid} mount {device} /srv")
        sh(f"losetup -d {device}")  # when it is not in use any more
        image.began = time.monotonic_ns()

    def serve(self, image):
        self.count += 1
        mountpoint = self.folder / f"power{self.count}"
        mountpoint.mkdir()
        live = image.live()
        server = subprocess.Popen([self.program, "serve", mountpoint, live, image.log], stdin=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not (mountpoint / "control").exists():
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the logging disk did not come up")
            time.sleep(0.002)
        return server, mountpoint / "control", mountpoint / "disk"

    def tell(self, node, line):
        self.plugged[node].control.write_text(line + "\n")

    def cut(self, node):
        """No power any more: returns the moment."""
        plugged = self.plugged[node]
        self.tell(node, "off")
        plugged.image.ended = int(plugged.control.read_text().split()[0])
        return plugged.image.ended

    def unplug(self, node):
        plugged, self.plugged[node] = self.plugged[node], None
        if plugged is None:
            return
        if plugged.image.ended is None:
            plugged.image.ended = time.monotonic_ns()
        sh(f"nsenter -r --wdns=/ -m -t {self.holders[node].pid} umount -l /srv; umount -l {self.disks[node]}", check=False)
        if plugged.server:
            sh(f"umount -l {plugged.control.parent}", check=False)
            try:
                plugged.server.wait(10)
            except subprocess.TimeoutExpired:
                plugged.server.kill()
                plugged.server.wait()

    def recovered(self, image):
        """The journal is replayed by a mount; what is wrong with the file system then, in words."""
        mountpoint = self.folder / "check"
        mountpoint.mkdir(exist_ok=True)
        mounted = sh(f"mount -o loop {image.path} {mountpoint} && umount {mountpoint}", check=False)
        if mounted.returncode != 0:
            return f"cannot be mounted: {mounted.stderr}"
        checked = sh(f"e2fsck -fn {image.path}", check=False)
        return None if checked.returncode == 0 else f"e2fsck: {checked.returncode} {checked.stdout[-500:]}"

    def close(self):
        for node in (0, 1):
            self.unplug(node)
        super().close()


def replay_is_exact(spaces):
    """The log and the image agree: replayed without loss it is what the device held. Returns what is wrong, or None."""
    image = spaces.fresh(0)
    spaces.plug(0, image, logged=True)
    folder = spaces.disks[0] / "files"
    folder.mkdir()
    rng = random.Random(1)
    for i in range(40):
        with open(folder / f"f{i % 13}", "wb") as file:
            file.write(rng.randbytes(rng.randrange(60_000)))
            if i % 3 == 0:
                file.flush()
                os.fsync(file.fileno())
    sh(f"fstrim {spaces.disks[0]}", check=False)
    spaces.unplug(0)
    whole, counts = image.at(time.monotonic_ns(), "all", "whole")
    same = sh(f"cmp {whole.path} {image.path.with_suffix('.live')}", check=False)
    whole.drop()
    image.drop()
    if same.returncode != 0 or counts["flushed"] < 20:
        return f"{same.stdout}, {counts}"
    return None
