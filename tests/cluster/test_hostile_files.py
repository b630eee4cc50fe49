#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Damaged files of every kind, one at a time: steadd and stead-host say what is wrong, never crash, and run again when
the file is whole. Fixed damage: empty, huge, binary, cut in half, one bit, a folder, a loop of links."""
import os
import random
import shutil

import support
from support import check, lab

CRASHES = (132, 134, 135, 136, 139)  # signals that a fault of ours ends with, as a shell tells them
rng = random.Random(20)


def damages(path):
    good = path.read_bytes()
    flipped = bytearray(good)
    for _ in range(8):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    yield "empty", lambda: path.write_bytes(b"")
    yield "binary", lambda: path.write_bytes(bytes(rng.randrange(256) for _ in range(4096)))
    yield "cut in half", lambda: path.write_bytes(good[:len(good) // 2])
    yield "with flipped bits", lambda: path.write_bytes(bytes(flipped))
    yield "of 64 MiB", lambda: path.write_bytes(b"<" * (64 << 20))
    yield "a folder", lambda: (path.unlink(), path.mkdir())
    yield "a loop of links", lambda: (path.unlink(), os.symlink(path.name, path))


def mend(path, good):
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_bytes(good)
    path.chmod(0o600)


def restart(node):
    """Starts steadd anew. What it ends with when it does not stay: None while it runs."""
    if node.steadd.poll() is None:
        node.kill("steadd", "TERM")
        node.steadd.wait()
    log = open(node.disk / "steadd.log", "a")
    node.steadd = node.spawn([f"{node.lab.stage}/sbin/steadd", "--foreground"], stdout=log, stderr=log)
    lab.wait_for("an answer or an end", lambda: node.steadd.poll() is not None
                 or node.stead("module list", check=False).returncode == 0, 20)
    return node.steadd.poll()


def of_the_node(node, name):
    path = node.disk / name
    good = path.read_bytes()
    for what, damage in damages(path):
        damage()
        ended = restart(node)
        check(ended is None or ended not in CRASHES and ended > 0, f"{name} {what}: steadd runs or says why not ({ended})")
        for command in ("cluster state", "cluster confcheck", "cluster config", "state", "config -m echo"):
            if ended is None:
                done = node.stead(command, check=False, timeout=30)
                check(done.returncode not in CRASHES and node.steadd.poll() is None,
                      f"{name} {what}: 'stead {command}' ends with {done.returncode}, steadd runs")
        mend(path, good)
    check(restart(node) is None, f"{name} is whole again")


def of_the_module(node, name):
    """The host is started with the damaged file in force; it ends with a reason, or runs."""
    path = node.disk / name
    good = path.read_bytes()
    for what, damage in damages(path):
        damage()
        done = node.stead("start -m echo", check=False, timeout=30)
        check(done.returncode not in CRASHES, f"{name} {what}: 'stead start' ends with {done.returncode}")
        lab.wait_for("an end of the start", lambda: node.state("echo") in (0, 1, 2), 20)
        node.stead("forcestop -m echo", check=False, timeout=30)
        mend(path, good)
        check(node.steadd.poll() is None, f"{name} {what}: steadd runs")
    crashed = [line for line in (node.disk / "steadd.log").read_text("utf-8", "replace").splitlines()
               if "SIGSEGV" in line or "signal 11" in line or "signal 6" in line or "AddressSanitizer" in line]
    check(not crashed, f"{name}: nothing crashed {crashed}")


lab.enter()
with lab.Lab(nodes=3) as farm:
    farm.form_cluster()
    only = farm.nodes[0]
    farm.install("echo", support.archive_of(support.HERE / "echo_farm"), macros={"TRAFFIC": lab.traffic_program()})
    for file in ("etc/cluster.xml", "etc/cluster.key", "var/cluster/cluster.xml", "var/cluster/resolved.json",
                 "var/cluster/seed", "var/modules/echo/id", "etc/modules/echo/conf/userconfig.xml"):
        of_the_node(only, file)
    generation = os.path.realpath(only.disk / "var/modules/echo/active")
    for file in sorted(os.listdir(generation)):
        if os.path.isfile(os.path.join(generation, file)):
            of_the_module(only, f"var/modules/echo/active/{file}")
    shutil.rmtree(only.disk / "var/modules/echo/active/conf", ignore_errors=True)
    check(only.stead("start -m echo", check=False).returncode not in CRASHES and only.steadd.poll() is None,
          "a configuration that lost its folder")
