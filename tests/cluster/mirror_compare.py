# SPDX-License-Identifier: Apache-2.0
"""A tree read as a model of mirror_ledger, and what is wrong with it."""
import copy
import os
import stat

from mirror_ledger import PAGE, Inode, Model

DATA_OPS = ("write", "append", "bigwrite", "map", "punch", "zero", "copy")


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
        partly(found.names[name].data, model.names[name].data, target.data, pending[0] in ("map", "copy")) for name in touched)


def partly(have, old, new, bytewise):
    """Each block is the old or the new one; each byte, of what was copied into a mapping when its process was killed, and of a
    copy, which the kernel writes in the pieces of its source's pages: they end anywhere in a block of the target."""
    if not min(len(old), len(new)) <= len(have) <= max(len(old), len(new)):
        return False
    size = max(len(old), len(new))
    old, new = bytes(old).ljust(size, b"\0"), bytes(new).ljust(size, b"\0")
    for at in range(0, len(have), PAGE):
        is_now, was, will = (bytes(data[at:min(at + PAGE, len(have))]) for data in (have, old, new))
        if is_now not in (was, will) and not (bytewise and all(i in (a, b) for i, a, b in zip(is_now, was, will))):
            return False
    return True


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
