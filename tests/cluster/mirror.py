# SPDX-License-Identifier: Apache-2.0
"""What the labs of mirror modules share: two nodes with a disk each, a module made on the spot, and its trees compared."""
import contextlib
import hashlib
import json
import os
import stat

from light import make_safe
from support import check, lab  # noqa: F401

STOP, WAIT, ALONE, PRIM, SECOND = 0, 1, 2, 3, 4
DATA = "/srv/data"
MARK = "#!/bin/sh\necho \"$0 $*\" | sed 's,.*/,,' >>/srv/hooks\n"
HOOKS = ["prestart", "start_both", "start_prim", "start_second", "start_sec", "stop_both", "stop_prim", "stop_second",
         "stop_sec", "poststop", "transition"]


def mirror_xml(rfs="", vip=True, service="", checks="", replicated=f'<replicated dir="{DATA}"/>', heart=""):
    address = (f'<vip><interface_list><interface check="off"><real_interface><virtual_addr addr="{lab.VIP}" check="off"/>'
               "</real_interface></interface></interface_list></vip>") if vip else ""
    return (f'<safe><service mode="mirror" {service}><heart {heart}/>{address}<rfs {rfs}>{replicated}</rfs>{checks}'
            '<user nicestoptimeout="10s" forcestoptimeout="10s"/></service></safe>\n')


class Mirror:
    """One module on two nodes, driven by the commands that people type."""

    def __init__(self, cluster, hooks=None, name="data", module_id=1, xml=None, nodes=None, **options):
        self.cluster, self.name = cluster, name
        self.nodes = nodes or cluster.nodes[:2]
        given = {"prestart": "#!/bin/sh\nexit 0\n"} if hooks is None else hooks
        archive = make_safe(name, given, xml or mirror_xml(**options))
        for node in self.nodes:
            node.sh(f"mkdir -p {DATA}")
            node.stead(f"module install -m {name} -M {module_id} {archive}")
            node.stead(f"config -m {name}")

    def stead(self, node, command, check=True, timeout=60):
        verb, _, rest = command.partition(" ")
        return node.stead(f"{verb} -m {self.name} {rest}", check=check, timeout=timeout)

    def wait(self, node, *codes, timeout=20):
        lab.wait_for(f"{self.name} on {node.name}: state -lq in {codes}", lambda: node.state(self.name) in codes, timeout)

    def wait_ready(self, node, *codes, timeout=20):
        lab.wait_for(f"{self.name} on {node.name}: Ready in {codes}",
                     lambda: node.state(self.name) in codes and node.ready(self.name), timeout)

    def status(self, node):
        return json.loads(self.stead(node, "mirror status --json").stdout)

    def form(self, prim=None, timeout=30):
        """The first start of both: one is told to be primary, the other copies everything."""
        first = prim or self.nodes[0]
        other = [node for node in self.nodes if node is not first][0]
        self.stead(first, "prim")
        self.wait_ready(first, ALONE, PRIM, timeout=timeout)  # the other may be in sync at once
        self.stead(other, "second")
        self.wait_ready(first, PRIM, timeout=timeout)
        self.wait_ready(other, SECOND, timeout=timeout)
        return first, other

    def stop(self):
        for node in self.nodes:
            self.stead(node, "stop")

    def log(self, node):
        return self.stead(node, "log -s 2000").stdout


@contextlib.contextmanager
def cluster(nodes=2, lans=("default",), srv_mib=0, **options):
    """`srv_mib`: /srv is an ext4 of its own of that size."""
    lab.enter()
    with lab.Lab(nodes=nodes, lans=lans, **options) as both:
        for node in both.nodes:
            (node.disk / "srv").mkdir()
            if srv_mib:
                lab.sh(f"truncate -s {srv_mib}M {node.disk}/srv.img && mkfs.ext4 -q -m 0 {node.disk}/srv.img")
            mount_srv(node)
        both.form_cluster()
        yield both


def mount_srv(node):
    image = node.disk / "srv.img"
    node.sh(f"mount -o loop {image} /srv" if image.exists() else f"mount --bind {node.disk}/srv /srv")


def power_on_again(node):
    """As after a power cut: the disk is as it was, the module starts as boot would start it."""
    node.power_on()
    mount_srv(node)
    node.start_steadd()


def tree_of(node, folder=DATA):
    """Everything that both copies must have in common, by path: type, mode, owner, size, content, mtime, xattrs, names
    of one inode. Read from outside the node, where its data lie while the module is stopped, or aside."""
    root = node.disk / folder.lstrip("/")
    aside = node.disk / (folder.lstrip("/") + "_For_SafeKit_Replication") / "data"
    root = os.fsencode(aside if aside.is_dir() and not any(root.iterdir()) else root)
    found, inodes = {}, {}

    def add(path, name):
        info = os.lstat(path)
        xattrs = {key: os.getxattr(path, key, follow_symlinks=False)
                  for key in os.listxattr(path, follow_symlinks=False) if not key.startswith("trusted.stead")}
        content = ""
        if stat.S_ISREG(info.st_mode):
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest() + f" {info.st_size}"
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        elif stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode):
            content = str(info.st_rdev)
        inodes.setdefault(info.st_ino, []).append(name)
        found[name] = (oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, content, tuple(sorted(xattrs.items())),
                       info.st_nlink if not stat.S_ISDIR(info.st_mode) else 0)

    add(root, b".")
    for folder_path, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder_path, name)
            add(path, os.path.relpath(path, root))
    links = sorted(tuple(sorted(names)) for names in inodes.values() if len(names) > 1)
    return found, links


def differences(a, b):
    """Paths in which two trees of tree_of() differ, with what each has."""
    (one, one_links), (other, other_links) = a, b
    found = [(path, one.get(path), other.get(path)) for path in sorted(one.keys() | other.keys())
             if one.get(path) != other.get(path)]
    return found + ([("hard links", one_links, other_links)] if one_links != other_links else [])


def same_trees(mirror, what, folder=DATA):
    """Both copies, with both modules stopped or in sync and idle."""
    found = differences(*(tree_of(node, folder) for node in mirror.nodes))
    check(not found, f"{what}: both trees are equal" + "".join(f"\n  {one}" for one in found[:10]))
