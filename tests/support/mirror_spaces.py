# SPDX-License-Identifier: Apache-2.0
"""Two nodes as namespaces only: networks that can be cut, mounts, and a disk each. No process of ours runs in them."""
import ctypes
import os
import subprocess
import time

from lab import remove, sh, temporary

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MKFS = "mkfs.ext4 -q -m 0 -E lazy_itable_init=0,lazy_journal_init=0"
libc = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """Network and mounts of two nodes, each with a small ext4 of its own below /srv, reused by one pair after the other."""

    def __init__(self, disk_mib=1024):
        self.folder = temporary("pair")
        self.holders, self.fds, self.disks = [], [], []
        images = self.folder / "images"
        images.mkdir()
        sh(f"mount -t tmpfs -o size=4g tmpfs {images}")
        sh("ip link add brp type bridge mcast_snooping 0 && ip link set brp up")
        for node in (0, 1):
            disk = self.folder / f"n{node}"
            disk.mkdir()
            self.make_disk(images / f"{node}.img", disk, disk_mib)
            self.disks.append(disk)
            script = (f"mount --make-rprivate / && mount --bind {disk} /srv && mkdir -p /sys/fs/fuse/connections && "
                      f"ip link set lo up && touch {self.folder}/up{node} && exec sleep 86400")
            holder = subprocess.Popen(["unshare", "--mount", "--net", "sh", "-c", script], stdin=subprocess.DEVNULL)
            self.holders.append(holder)
            end = time.monotonic() + 10
            while not (self.folder / f"up{node}").exists():
                if holder.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("a node's namespaces could not be made")
                time.sleep(0.002)
            self.fds.append([os.open(f"/proc/{holder.pid}/{what}", os.O_RDONLY) for what in ("ns/net", "ns/mnt", "root")])
            sh(f"ip link add p{node} type veth peer name eth0 netns {holder.pid} && ip link set p{node} master brp up && "
               f"nsenter -n -t {holder.pid} sh -c 'ip addr add {self.address(node)}/24 dev eth0 && ip link set eth0 up'")

    def make_disk(self, image, disk, mib):
        sh(f"truncate -s {mib}M {image} && {MKFS} {image} && mount -o loop {image} {disk}")

    def address(self, node):
        return f"10.77.9.{node + 1}"

    def enter(self, node):
        """In a forked child only: a mount namespace is left for good."""
        for fd, kind in zip(self.fds[node], (CLONE_NEWNET, CLONE_NEWNS)):
            if libc.setns(fd, kind) != 0:
                os._exit(125)
        os.fchdir(self.fds[node][2])  # its root, which need not be the mount namespace's
        os.chroot(".")

    def run(self, node, work):
        """work() in a forked child inside; its return value as exit code."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                self.enter(node)
                code = work() or 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def filter(self, node, verdict):
        """The command that decides what happens to all that arrives there."""
        rules = (f"add table inet cut\nadd chain inet cut c {{ type filter hook input priority 0; }}\n"
                 f"add rule inet cut c iifname eth0 {verdict}\n")
        return f"nsenter --net=/proc/{self.holders[node].pid}/ns/net nft -f - <<'END'\n{rules}END"

    def mend(self):
        """Every link as it was at first."""
        return "; ".join(["ip link set p1 master brp"] + [
            f"nsenter --net=/proc/{holder.pid}/ns/net nft flush ruleset" for holder in self.holders])

    def close(self):
        for holder in self.holders:
            holder.kill()
            holder.wait()
        for fd in sum(self.fds, []):
            os.close(fd)
        for disk in self.disks:
            sh(f"umount -l {disk}", check=False)
        sh(f"umount -l {self.folder}/images; ip link del brp", check=False)
        remove(self.folder)
